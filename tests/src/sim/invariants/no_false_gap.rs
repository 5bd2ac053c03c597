use std::collections::BTreeMap;

use coordinator_node::core::MemberId;

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Process, Scene};
use crate::sim::seen::Seen;

/// Nobody is told that a message is missing which is not.
///
/// U1, U2; B8. Of origins whose name one process has borne: between two messages that follow each
/// other a subscriber is told of no gap of that origin.
#[derive(Debug, Default)]
pub struct NoFalseGap {
    subscribers: BTreeMap<Process, Subscriber>,
}

#[derive(Debug, Default)]
struct Subscriber {
    told_of: BTreeMap<MemberId, u64>,
    /// The last message of each origin, and how often a gap of it had been told until then.
    heard: BTreeMap<Process, (u64, u64)>,
}

/// The name of an origin, if no other process had it.
fn name(scene: &Scene, origin: Process) -> Option<&MemberId> {
    let names = &scene.seats[origin.seat].names;
    let name = names.get(&origin.life)?;
    let bearers = names.values().filter(|other| *other == name).count();
    (bearers == 1).then_some(name)
}

impl Invariant for NoFalseGap {
    fn name(&self) -> &'static str {
        "NO-FALSE-GAP"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Subscribes(at) | Seen::Ended(at) | Seen::Crashed(at) => {
                self.subscribers.remove(at);
                Ok(())
            }
            Seen::Misses(at, Some(origin)) => {
                let subscriber = self.subscribers.entry(*at).or_default();
                *subscriber.told_of.entry(origin.clone()).or_default() += 1;
                Ok(())
            }
            Seen::Receives(at, origin, number) => {
                let subscriber = self.subscribers.entry(*at).or_default();
                let Some(name) = name(scene, *origin) else {
                    return Ok(());
                };
                let told = subscriber.told_of.get(name).copied().unwrap_or(0);
                let last = subscriber.heard.insert(*origin, (*number, told));
                let false_gap =
                    last.is_some_and(|(last, before)| *number == last + 1 && told > before);
                that(!false_gap, || {
                    format!("{at} is told of a gap before {number} of {origin}, where nothing is")
                })
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
    fn a_gap_where_nothing_is_missing_is_a_violation() {
        let mut stage = Stage::new(NoFalseGap::default());
        stage.ok(Seen::Subscribes(m(1)));
        stage.ok(Seen::Receives(m(1), m(0), 1));
        stage.ok(Seen::Misses(m(1), Some("m0".into())));
        stage.ok(Seen::Receives(m(1), m(0), 3));
        stage.ok(Seen::Misses(m(1), Some("m0".into())));
        stage.bad(Seen::Receives(m(1), m(0), 4));
    }
}
