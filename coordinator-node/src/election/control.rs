//! What members tell each other about elections: "hand over to", and "I would lead, and rank so".
//!
//! Nothing here grants anything: a message only makes a leader drain, and a lost or repeated one
//! does no harm. The lease decides (W7).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_core::{Bytes, Key, MemberId, Moment, Topic, scoped};
use tracing::{debug, info};

use crate::bus::{Bus, Incoming};
use crate::context::Context;
use crate::lease::TermControl;

/// How often a candidate of some priority says that it lives.
pub(super) const CANDIDATE_BEAT: Duration = Duration::from_secs(5);
/// A candidate that was not heard of for so long no longer counts.
const CANDIDATE_SILENCE: Duration = Duration::from_secs(15);
/// So long a leader must have seen a candidate of higher priority before it hands over (W7).
const DAMPING: Duration = Duration::from_secs(30);
/// The most candidates that one leader remembers.
const MOST_CANDIDATES: usize = 1_024;

/// One message between members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Control {
    /// To the leader: finish, and let `to` lead.
    HandOver { key: Key, to: MemberId },
    /// To the leader: `who` would lead, and ranks so.
    Candidate {
        key: Key,
        who: MemberId,
        priority: u32,
    },
}

impl Control {
    const VERSION: u8 = 1;

    fn encode(&self) -> Bytes {
        let (kind, key, member, priority) = match self {
            Self::HandOver { key, to } => (1, key, to, 0),
            Self::Candidate { key, who, priority } => (2, key, who, *priority),
        };
        let mut bytes = vec![Self::VERSION, kind];
        bytes.extend(priority.to_be_bytes());
        // The key's length, so that the member's name is the rest.
        let length = u32::try_from(key.as_str().len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(key.as_str().as_bytes());
        bytes.extend(member.as_str().as_bytes());
        bytes.into()
    }

    /// `None`: from another version, or rubbish. It is ignored.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, kind], rest) = bytes.split_first_chunk()?;
        let (priority, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (key, member) = rest.split_at_checked(length)?;
        let key = Key::from(str::from_utf8(key).ok()?);
        let member = MemberId::from(str::from_utf8(member).ok()?);
        match (version, kind) {
            (Self::VERSION, 1) => Some(Self::HandOver { key, to: member }),
            (Self::VERSION, 2) => {
                let priority = u32::from_be_bytes(*priority);
                Some(Self::Candidate {
                    key,
                    who: member,
                    priority,
                })
            }
            _ => None,
        }
    }
}

/// The elections that this node leads, and its ear for what others want of them.
pub(crate) struct Elections {
    context: Arc<Context>,
    bus: Option<Bus>,
    topic: Topic,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listening: bool,
    terms: BTreeMap<Key, LedTerm>,
}

struct LedTerm {
    control: TermControl,
    priority: u32,
    candidates: BTreeMap<MemberId, Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    first_heard: Moment,
    last_heard: Moment,
}

impl Elections {
    pub(crate) fn new(context: &Arc<Context>, bus: Option<Bus>) -> Arc<Self> {
        let topic = Topic::named(scoped(&context.group, "control", "elections"));
        Arc::new(Self {
            context: context.clone(),
            bus,
            topic,
            state: Mutex::default(),
        })
    }

    pub(super) fn has_bus(&self) -> bool {
        self.bus.is_some()
    }

    /// This node leads: it can be asked to hand over.
    pub(super) fn enter(self: &Arc<Self>, key: &Key, control: TermControl, priority: u32) {
        let mut state = self.state();
        state.terms.retain(|_, term| !term.control.is_finished());
        state.terms.insert(
            key.clone(),
            LedTerm {
                control,
                priority,
                candidates: BTreeMap::new(),
            },
        );
        if self.bus.is_some() && !std::mem::replace(&mut state.listening, true) {
            let elections = self.clone();
            // It ends with `stopping`.
            drop(
                self.context
                    .tasks
                    .spawn(async move { elections.listen().await }),
            );
        }
    }

    /// Asks whoever leads to hand over. Heard by this node too, if it is the one.
    pub(super) async fn ask(&self, message: Control) -> Result<(), coordinator_core::BusError> {
        match &self.bus {
            Some(bus) => bus.publish_raw(&self.topic, message.encode()).await,
            None => Ok(()),
        }
    }

    /// Does what a message asks for, if this node leads that election.
    pub(super) fn obey(&self, message: Control) {
        let now = self.context.now();
        let mut state = self.state();
        match message {
            Control::HandOver { key, to } => {
                if let Some(term) = state.terms.get(&key) {
                    info!(%key, member = %to, "asked to hand over");
                    term.control.drain(Some(to));
                }
            }
            Control::Candidate { key, who, priority } => {
                if let Some(term) = state.terms.get_mut(&key)
                    && term.hears(now, &who, priority)
                {
                    info!(%key, member = %who, priority, "handing over to a higher priority");
                    term.control.drain(Some(who));
                }
            }
        }
    }

    async fn listen(&self) {
        let stopping = self.context.stopping.clone();
        stopping.run_until_cancelled(self.hear()).await;
    }

    async fn hear(&self) {
        let Some(bus) = &self.bus else { return };
        let mut pause = Duration::from_millis(100);
        loop {
            if let Ok(mut messages) = bus.subscribe_raw(&self.topic).await {
                while let Some(incoming) = messages.next().await {
                    match incoming {
                        Incoming::Message(message) => match Control::decode(&message.payload) {
                            Some(message) => self.obey(message),
                            None => {
                                debug!(origin = %message.origin, "an election message was ignored");
                            }
                        },
                        // Whoever asked repeats it until it is done, or gives up.
                        Incoming::Gap(_) | Incoming::Malformed(_) => {}
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CANDIDATE_BEAT);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedTerm {
    /// A candidate says that it lives; whether it is time to hand over to it.
    fn hears(&mut self, now: Moment, who: &MemberId, priority: u32) -> bool {
        self.candidates
            .retain(|_, it| now.since(it.last_heard) < CANDIDATE_SILENCE);
        if priority <= self.priority || self.candidates.len() >= MOST_CANDIDATES {
            self.candidates.remove(who);
            return false;
        }
        let candidate = self.candidates.entry(who.clone()).or_insert(Candidate {
            first_heard: now,
            last_heard: now,
        });
        candidate.last_heard = now;
        now.since(candidate.first_heard) >= DAMPING
    }
}

impl std::fmt::Debug for Elections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elections")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_their_wire_form() {
        let key = Key::from("g/election/é");
        let messages = [
            Control::HandOver {
                key: key.clone(),
                to: "b".into(),
            },
            Control::Candidate {
                key,
                who: "ü".into(),
                priority: u32::MAX,
            },
        ];
        for message in messages {
            assert_eq!(Control::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn rubbish_and_other_versions_are_no_messages() {
        let good = Control::HandOver {
            key: "k".into(),
            to: "b".into(),
        }
        .encode();
        for length in 0..10 {
            assert_eq!(Control::decode(&good[..length]), None);
        }
        let newer = [&[2], &good[1..]].concat();
        assert_eq!(Control::decode(&newer), None);
        assert_eq!(
            Control::decode(&[1, 1, 0, 0, 0, 0, 255, 255, 255, 255, b'x']),
            None
        );
    }
}
