use super::{Invariant, Verdict, that};
use crate::sim::scene::{Scene, Sort};
use crate::sim::seen::Seen;

/// A leader whose work is stuck does not lead for ever.
///
/// W3; E21. At every look, where the election has a stall limit: no term whose work has shown no
/// progress is trusted for longer than
/// [`Terms::stuck_ends_within`](crate::sim::bounds::Terms::stuck_ends_within); while it drains, the
/// drain timeout comes on top.
#[derive(Debug, Default)]
pub struct StuckTermEnds;

impl Invariant for StuckTermEnds {
    fn name(&self) -> &'static str {
        "STUCK-TERM-ENDS"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let (Seen::Look, Some(bound)) = (seen, scene.terms.stuck_ends_within()) else {
            return Ok(());
        };
        let leads = |sort: &Sort| matches!(sort, Sort::Lease(_) | Sort::Vote);
        for (_, hold) in scene.open_holds() {
            let Some(stuck) = hold.stuck.filter(|_| hold.is_trusted() && leads(&hold.sort)) else {
                continue;
            };
            let bound = match hold.draining {
                Some(_) => bound.clone().and("drain", scene.terms.drain),
                None => bound.clone(),
            };
            let waited = scene.since(stuck);
            that(waited <= bound.total(), || {
                let (process, what) = (hold.process, &hold.what);
                format!("{process} is stuck for {waited:.1?}, and holds {what}; allowed are {bound}")
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::kit::Stage;
    use super::*;

    #[test]
    fn a_stuck_leader_that_leads_on_is_a_violation() {
        let mut stage = Stage::new(StuckTermEnds);
        stage.scene.terms.stall = Some(Duration::from_secs(3));
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.at(100).ok(Seen::Stuck(hold, true));
        stage.at(113).ok(Seen::Look);
        stage.at(114).bad(Seen::Look);
        stage.ok(Seen::Stuck(hold, false));
        stage.ok(Seen::Look);
    }
}
