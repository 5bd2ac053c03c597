use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_node::core::MemberId;

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Process, Scene};
use crate::sim::seen::{Outcome, Seen};

/// A subscriber gets each message of an origin in order and once, or is told of the gap.
///
/// U1 to U4, U8; B7, B8, B11. Every origin numbers its messages. At every message that a subscriber
/// is given: the number is higher than the last one; and between the two the subscriber was told
/// that messages are missing, or the origin was told that none of those was sent. The first one
/// that is heard of an origin which spoke before the subscription may be any (U4); of others it is
/// the first. In the end the tails, too: of each origin that still lives, and has spoken since the
/// last fault. A bus that loses a last message and every beacon after it, and does not say that it
/// was cut, loses them for good.
#[derive(Debug, Default)]
pub struct NoSilentLoss {
    /// The last number that each origin has published, and when.
    published: BTreeMap<Process, (u64, Duration)>,
    /// What never left, or of what the origin was told nothing.
    excused: BTreeSet<(Process, u64)>,
    subscribers: BTreeMap<Process, Subscriber>,
}

#[derive(Debug, Default)]
struct Subscriber {
    /// How often it was told that anybody's messages are missing.
    told: u64,
    told_of: BTreeMap<MemberId, u64>,
    heard: BTreeMap<Process, Heard>,
    /// What each origin had published when the subscription went live.
    live_from: BTreeMap<Process, u64>,
}

/// The last message of an origin, and what the subscriber had been told until then.
#[derive(Debug, Default, Clone, Copy)]
struct Heard {
    last: u64,
    told: u64,
    told_of: u64,
}

impl Subscriber {
    fn heard(&self, origin: Process) -> Heard {
        let heard = self.heard.get(&origin).copied();
        heard.unwrap_or(Heard {
            last: self.live_from.get(&origin).copied().unwrap_or(0),
            told: 0,
            told_of: 0,
        })
    }

    /// Whether nothing is known of what came before the next message: the origin spoke before the
    /// subscription, and was not heard since.
    fn is_baseline(&self, origin: Process) -> bool {
        !self.heard.contains_key(&origin) && self.live_from.contains_key(&origin)
    }

    fn told_of(&self, origin: Process, scene: &Scene) -> u64 {
        let name = scene.seats[origin.seat].names.get(&origin.life);
        name.and_then(|name| self.told_of.get(name)).copied().unwrap_or(0)
    }

    /// Whether it was told of missing messages since the last one of this origin.
    fn knows(&self, origin: Process, scene: &Scene) -> bool {
        let heard = self.heard(origin);
        self.told > heard.told || self.told_of(origin, scene) > heard.told_of
    }
}

impl NoSilentLoss {
    fn silently_lost(&self, origin: Process, from: u64, to: u64) -> Option<u64> {
        (from..to).find(|number| !self.excused.contains(&(origin, *number)))
    }

    fn receives(&mut self, scene: &Scene, at: Process, origin: Process, number: u64) -> Verdict {
        let Some(subscriber) = self.subscribers.get(&at) else {
            return Err(format!("{at} receives {number} of {origin} without a subscription"));
        };
        let heard = subscriber.heard(origin);
        let known = subscriber.heard.contains_key(&origin);
        // What was under way when the subscription went live may still arrive.
        that(number > heard.last || !known, || {
            format!("{at} receives {number} of {origin} after {}", heard.last)
        })?;
        let lost = if subscriber.is_baseline(origin) {
            None
        } else {
            self.silently_lost(origin, heard.last + 1, number)
        };
        that(lost.is_none() || subscriber.knows(origin, scene), || {
            let lost = lost.unwrap_or(0);
            format!("{at} receives {number} of {origin}, lacks {lost}, and was told of no gap")
        })?;
        let now = Heard {
            last: number,
            told: subscriber.told,
            told_of: subscriber.told_of(origin, scene),
        };
        if let Some(subscriber) = self.subscribers.get_mut(&at) {
            subscriber.heard.insert(origin, now);
        }
        Ok(())
    }

    /// The tails: all is published, and has had its time.
    fn closes(&self, scene: &Scene) -> Verdict {
        let healed = scene.healed.unwrap_or_default();
        let spoke = |origin: &Process, at: &Duration| scene.is_alive(*origin) && *at >= healed;
        for (at, subscriber) in self.subscribers.iter().filter(|(at, _)| scene.is_alive(**at)) {
            for (origin, (last, said)) in &self.published {
                if !spoke(origin, said) {
                    continue;
                }
                let heard = subscriber.heard(*origin).last;
                if subscriber.is_baseline(*origin) {
                    continue;
                }
                let lost = self.silently_lost(*origin, heard + 1, *last + 1);
                that(lost.is_none() || subscriber.knows(*origin, scene), || {
                    format!("{at} has {heard} of {origin}, who published {last}, and was told of no gap")
                })?;
            }
        }
        Ok(())
    }
}

impl Invariant for NoSilentLoss {
    fn name(&self) -> &'static str {
        "NO-SILENT-LOSS"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Publishes(origin, number) => {
                self.published.insert(*origin, (*number, scene.now));
                Ok(())
            }
            Seen::Published(origin, number, Outcome::NotSent | Outcome::Untold) => {
                self.excused.insert((*origin, *number));
                Ok(())
            }
            Seen::Subscribes(at) => {
                let subscriber = Subscriber {
                    live_from: self.published.iter().map(|(it, (last, _))| (*it, *last)).collect(),
                    ..Subscriber::default()
                };
                self.subscribers.insert(*at, subscriber);
                Ok(())
            }
            Seen::Misses(at, origin) => {
                if let Some(subscriber) = self.subscribers.get_mut(at) {
                    match origin {
                        Some(origin) => *subscriber.told_of.entry(origin.clone()).or_default() += 1,
                        None => subscriber.told += 1,
                    }
                }
                Ok(())
            }
            Seen::Receives(at, origin, number) => self.receives(scene, *at, *origin, *number),
            Seen::Ended(at) | Seen::Crashed(at) => {
                self.subscribers.remove(at);
                Ok(())
            }
            Seen::Closes => self.closes(scene),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, m};
    use super::*;

    /// `m1` has subscribed, and received the first of three messages of `m0`.
    fn stage() -> Stage {
        let mut stage = Stage::new(NoSilentLoss::default());
        stage.ok(Seen::Subscribes(m(1)));
        for number in 1..4 {
            stage.ok(Seen::Publishes(m(0), number));
        }
        stage.ok(Seen::Receives(m(1), m(0), 1));
        stage
    }

    #[test]
    fn a_message_that_is_left_out_without_a_word_is_a_violation() {
        stage().bad(Seen::Receives(m(1), m(0), 3));
        let mut told = stage();
        told.ok(Seen::Misses(m(1), Some("m0".into())));
        told.ok(Seen::Receives(m(1), m(0), 3));
        let mut unsent = stage();
        unsent.ok(Seen::Published(m(0), 2, Outcome::NotSent));
        unsent.ok(Seen::Receives(m(1), m(0), 3));
    }

    #[test]
    fn a_message_that_comes_twice_or_late_is_a_violation() {
        let mut stage = stage();
        stage.ok(Seen::Receives(m(1), m(0), 2));
        stage.bad(Seen::Receives(m(1), m(0), 2));
        stage.bad(Seen::Receives(m(1), m(0), 1));
    }

    #[test]
    fn a_tail_that_is_lost_without_a_word_is_a_violation() {
        let mut lost = stage();
        lost.ok(Seen::Receives(m(1), m(0), 2));
        lost.bad(Seen::Closes);
        let mut told = stage();
        told.ok(Seen::Misses(m(1), None));
        told.ok(Seen::Closes);
    }
}
