use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// A term is lost once, and the first cause stays.
///
/// W6, W2; E18. At every look at every guard: whoever asks later is told the same cause.
#[derive(Debug, Default)]
pub struct OneLostPerTerm;

impl Invariant for OneLostPerTerm {
    fn name(&self) -> &'static str {
        "ONE-LOST-PER-TERM"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Relapses(id, Some(cause)) => {
                let hold = &scene.holds[*id];
                let first = hold.lost;
                that(first == Some(*cause), || {
                    let first = first.map_or_else(String::new, |first| first.to_string());
                    let (process, what) = (hold.process, &hold.what);
                    format!("{process} had lost {what} ({first}), and loses it again: {cause}")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use coordinator_node::core::LostCause;

    use super::super::kit::{Stage, lost};
    use super::*;

    #[test]
    fn another_cause_later_is_a_violation() {
        let mut stage = Stage::new(OneLostPerTerm);
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(lost(hold));
        stage.ok(Seen::Relapses(hold, Some(LostCause::Expired)));
        stage.bad(Seen::Relapses(hold, Some(LostCause::Released)));
    }
}
