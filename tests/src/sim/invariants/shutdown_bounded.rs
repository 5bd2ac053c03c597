use std::collections::BTreeMap;
use std::time::Duration;

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Process, Scene};
use crate::sim::seen::Seen;

/// A shutdown returns within a bounded time, whatever the store and the network do.
///
/// W1; E13. At every look: no process that runs has been shutting down for longer than
/// [`Terms::shut_down_within`](crate::sim::bounds::Terms::shut_down_within).
#[derive(Debug, Default)]
pub struct ShutdownBounded {
    asked: BTreeMap<Process, Duration>,
}

impl Invariant for ShutdownBounded {
    fn name(&self) -> &'static str {
        "SHUTDOWN-BOUNDED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Asked(process) => {
                self.asked.insert(*process, scene.now);
                Ok(())
            }
            Seen::ShutDown(process, _) | Seen::Ended(process) | Seen::Crashed(process) => {
                self.asked.remove(process);
                Ok(())
            }
            Seen::Look => {
                let bound = scene.terms.shut_down_within();
                for (process, asked) in &self.asked {
                    let waited = scene.awake_since(*process, *asked);
                    that(waited <= bound.total(), || {
                        format!("{process} shuts down for {waited:.1?}; allowed are {bound}")
                    })?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, m};
    use super::*;

    #[test]
    fn a_shutdown_that_does_not_end_is_a_violation() {
        let mut stage = Stage::new(ShutdownBounded::default());
        stage.ok(Seen::Asked(m(0)));
        stage.ok(Seen::Asked(m(1)));
        stage.ok(Seen::ShutDown(m(1), true));
        let limit = stage.scene.terms.shut_down_within().total().as_secs();
        stage.at(limit).ok(Seen::Look);
        stage.at(limit + 1).bad(Seen::Look);
        stage.ok(Seen::Crashed(m(0)));
        stage.ok(Seen::Look);
    }
}
