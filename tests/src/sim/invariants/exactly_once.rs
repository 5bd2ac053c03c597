use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// Each event of each shard is handled in order and exactly once, into a resource that refuses
/// older tokens: as one process would have done it.
///
/// C1, C2, S2; H15. At every event that the resource has taken: its number is how many the
/// resource had taken before.
#[derive(Debug, Default)]
pub struct ExactlyOnce;

impl Invariant for ExactlyOnce {
    fn name(&self) -> &'static str {
        "EXACTLY-ONCE"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let Seen::Handles(id, event, known) = seen else {
            return Ok(());
        };
        that(event == known, || {
            let hold = &scene.holds[*id];
            let (process, what) = (hold.process, &hold.what);
            format!("{process} handles event {event} of {what}, and {known} were handled")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Stage;
    use super::*;

    #[test]
    fn an_event_that_is_handled_twice_or_left_out_is_a_violation() {
        let mut stage = Stage::new(ExactlyOnce);
        let hold = stage.owner(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(Seen::Handles(hold, 0, 0));
        stage.bad(Seen::Handles(hold, 0, 1));
        stage.bad(Seen::Handles(hold, 2, 1));
    }
}
