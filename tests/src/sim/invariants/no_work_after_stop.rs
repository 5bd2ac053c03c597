use std::collections::BTreeMap;

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Process, Scene};
use crate::sim::seen::Seen;

/// Nothing is worked on, and nothing delivered, after a shutdown has returned.
///
/// W1; H17, B3, E13. When a shutdown returns and says that all work has ended, none of that
/// process's is open; and from then on none begins, acts, or receives a message, whatever it said.
#[derive(Debug, Default)]
pub struct NoWorkAfterStop {
    down: BTreeMap<Process, bool>,
}

impl NoWorkAfterStop {
    fn works(&self, process: Process, what: &str) -> Verdict {
        that(!self.down.contains_key(&process), || {
            format!("{process} {what} after its shutdown has returned")
        })
    }
}

impl Invariant for NoWorkAfterStop {
    fn name(&self) -> &'static str {
        "NO-WORK-AFTER-STOP"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::ShutDown(process, clean) => {
                self.down.insert(*process, *clean);
                let mut open = scene.open_holds().map(|(_, hold)| hold);
                let left = open.find(|hold| hold.process == *process);
                that(!clean || left.is_none(), || {
                    let what = left.map_or("", |hold| &hold.what);
                    format!("{process} has shut down, and works on {what}")
                })
            }
            Seen::Begins(id) => self.works(scene.holds[*id].process, "begins work"),
            Seen::Handles(id, ..) => self.works(scene.holds[*id].process, "handles an event"),
            Seen::Receives(process, ..) => self.works(*process, "receives a message"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, m};
    use super::*;

    #[test]
    fn work_that_is_left_over_is_a_violation() {
        let mut stage = Stage::new(NoWorkAfterStop::default());
        let hold = stage.owner(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.ok(Seen::ShutDown(m(0), false));
        stage.bad(Seen::ShutDown(m(0), true));
    }

    #[test]
    fn work_or_a_message_afterwards_is_a_violation() {
        let mut stage = Stage::new(NoWorkAfterStop::default());
        stage.ok(Seen::ShutDown(m(0), true));
        let hold = stage.owner(0, 1);
        stage.bad(Seen::Begins(hold));
        stage.bad(Seen::Receives(m(0), m(1), 1));
        stage.ok(Seen::Receives(m(1), m(0), 1));
    }
}
