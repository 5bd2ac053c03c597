use std::collections::BTreeMap;

use coordinator_memory::Event;
use coordinator_node::core::Key;

use super::{Invariant, Verdict, that};
use crate::sim::scene::{HoldId, Scene, Sort};
use crate::sim::seen::Seen;

/// A lease is given back only when the work under it has really stopped; otherwise it runs out.
///
/// W1, W5, P10; E13. At every release of an election or lock that the store accepts: no
/// work goes on under that token.
#[derive(Debug, Default)]
pub struct ReleasedAfterStop {
    begun: BTreeMap<(Key, u64), HoldId>,
}

impl Invariant for ReleasedAfterStop {
    fn name(&self) -> &'static str {
        "RELEASED-AFTER-STOP"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Begins(id) => {
                let hold = &scene.holds[*id];
                if let Sort::Lease(key) = &hold.sort {
                    self.begun.insert((key.clone(), hold.token), *id);
                }
                Ok(())
            }
            Seen::Store(Event::Released { key, token, .. }) => {
                let hold = self.begun.get(&(key.clone(), token.get()));
                let working = hold.map(|id| &scene.holds[*id]);
                let working = working.filter(|hold| hold.stopped.is_none());
                that(working.is_none(), || {
                    format!("{key} #{token} is given back while its work goes on")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use coordinator_node::core::{FencingToken, MemberId};

    use super::super::kit::{Stage, granted};
    use super::*;

    fn released(token: u64) -> Seen {
        Seen::Store(Event::Released {
            key: "g/leader".into(),
            owner: MemberId::from("m0"),
            token: FencingToken::new(token),
        })
    }

    #[test]
    fn a_release_while_the_work_goes_on_is_a_violation() {
        let mut stage = Stage::new(ReleasedAfterStop::default());
        stage.ok(granted(0, 1));
        let hold = stage.leader(0, 1);
        stage.ok(Seen::Begins(hold));
        stage.bad(released(1));
        stage.ok(Seen::Stops(hold));
        stage.ok(released(1));
    }
}
