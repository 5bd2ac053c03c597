use super::{Invariant, Verdict};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// A guard that was lost once never gives a token again.
///
/// T2, T3, T4, R2; E18. At every look at every guard, until a while after its work has ended.
#[derive(Debug, Default)]
pub struct NoRevival;

impl Invariant for NoRevival {
    fn name(&self) -> &'static str {
        "NO-REVIVAL"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Relapses(id, None) => {
                let hold = &scene.holds[*id];
                let (process, what, token) = (hold.process, &hold.what, hold.token);
                Err(format!("{process} had lost {what} #{token}, and holds it again"))
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
    fn a_guard_that_comes_back_is_a_violation() {
        let mut stage = Stage::new(NoRevival);
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(lost(hold));
        stage.ok(Seen::Relapses(hold, Some(LostCause::Released)));
        stage.bad(Seen::Relapses(hold, None));
    }
}
