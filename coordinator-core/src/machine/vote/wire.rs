//! How the messages of an election by vote are written.
//!
//! Behind the header of [`crate::wire`]: the digest of the election (8 bytes), the sender's
//! instance and name, the addressee's instance (or 16 zeros: all), the kind of message, the term,
//! and what the kind needs.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::{Body, Electorate, Message, Reign};
use crate::names::{Key, MAX_NAME_BYTES, MemberId};
use crate::numbers::{Instance, NUMBER_LIMIT};
use crate::trust::Trust;
use crate::wire::{Reader, WireError, Writer};

/// The version in which this build writes the messages of elections by vote.
pub const MESSAGE_VERSION: u8 = 1;
/// The oldest version whose readers understand them.
const OLDEST_READER: u8 = 1;

/// Why some bytes are no message of this election (V9).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadMessage {
    /// Not a message, or one of a version that this build does not read.
    #[error("unreadable: {0}")]
    Unreadable(#[from] WireError),
    /// The sender has another list of voters, another window, or means another election. Its votes
    /// and ours must not be counted together.
    #[error("`{from}` has another list of voters or another ttl for this election")]
    OtherElection {
        /// Who sent it.
        from: MemberId,
    },
}

/// What makes messages of one election count for each other: its key, its voters, and its window.
///
/// A leader that thinks in windows of 10 s outlives promises of 2 s, and two lists of voters have
/// majorities that share nobody. So messages of members that differ in either are not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    digest: u64,
}

impl Envelope {
    /// The envelope of the election of this key.
    pub fn new(key: &Key, electorate: &Electorate, trust: &Trust) -> Self {
        let mut hash = Xxh3::new();
        let mut text = |text: &str| {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        text(key.as_str());
        match electorate {
            Electorate::Seen(_) => text("seen"),
            Electorate::Fixed(names) => {
                text("fixed");
                for name in names {
                    text(name.as_str());
                }
            }
        }
        hash.update(&trust.ttl().as_micros().to_be_bytes());
        Self {
            digest: hash.digest(),
        }
    }

    /// Writes a message, to one instance or to all.
    pub fn seal(&self, message: &Message, to: Option<Instance>) -> Bytes {
        let mut out = Writer::new(MESSAGE_VERSION, OLDEST_READER);
        for byte in self.digest.to_be_bytes() {
            out.byte(byte);
        }
        out.instance(message.instance);
        out.text(message.from.as_str());
        out.instance(to.unwrap_or(Instance::from_bytes([0; 16])));
        out.byte(kind(&message.body));
        out.number(message.body.term());
        match &message.body {
            Body::PreVote { .. } => {}
            Body::PreVoteReply {
                granted, highest, ..
            }
            | Body::VoteReply {
                granted, highest, ..
            } => {
                out.flag(*granted);
                out.number(*highest);
            }
            Body::VoteRequest { release, .. } => {
                out.flag(release.is_some());
                if let Some(release) = release {
                    out.instance(release.instance);
                    out.number(release.term);
                }
            }
            Body::Heartbeat { seq, leads, .. } => {
                out.number(*seq);
                out.flag(*leads);
            }
            Body::HeartbeatReply {
                seq,
                acked,
                highest,
                ..
            } => {
                out.number(*seq);
                out.flag(*acked);
                out.number(*highest);
            }
            Body::Resigned { next, .. } => {
                out.flag(next.is_some());
                if let Some(next) = next {
                    out.text(next.as_str());
                }
            }
        }
        out.finish()
    }

    /// Reads a message; `None` as the addressee: it is for all.
    ///
    /// # Errors
    /// It is no message of this election, as this member knows it. Count it, and go on.
    pub fn open(&self, bytes: &[u8]) -> Result<(Message, Option<Instance>), BadMessage> {
        let mut reader = Reader::open(bytes, MESSAGE_VERSION)?;
        let mut digest = [0; 8];
        for byte in &mut digest {
            *byte = reader.byte("digest")?;
        }
        let instance = reader.instance("sender")?;
        let from = MemberId::new(reader.text("sender", 1..=MAX_NAME_BYTES)?);
        if digest != self.digest.to_be_bytes() {
            return Err(BadMessage::OtherElection { from });
        }
        let to = reader.instance("addressee")?;
        let to = Some(to).filter(|to| to.to_bytes() != [0; 16]);
        let body = body(&mut reader)?;
        reader.close()?;
        let message = Message {
            from,
            instance,
            body,
        };
        Ok((message, to))
    }
}

const fn kind(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => 1,
        Body::PreVoteReply { .. } => 2,
        Body::VoteRequest { .. } => 3,
        Body::VoteReply { .. } => 4,
        Body::Heartbeat { .. } => 5,
        Body::HeartbeatReply { .. } => 6,
        Body::Resigned { .. } => 7,
    }
}

fn body(reader: &mut Reader<'_>) -> Result<Body, WireError> {
    let kind = reader.byte("kind")?;
    let term = number(reader, "term")?;
    Ok(match kind {
        1 => Body::PreVote { term },
        2 => Body::PreVoteReply {
            term,
            granted: reader.flag("grant")?,
            highest: number(reader, "highest term")?,
        },
        3 => Body::VoteRequest {
            term,
            release: reader.flag("release")?.then(|| reign(reader)).transpose()?,
        },
        4 => Body::VoteReply {
            term,
            granted: reader.flag("grant")?,
            highest: number(reader, "highest term")?,
        },
        5 => Body::Heartbeat {
            term,
            seq: number(reader, "number")?,
            leads: reader.flag("lead")?,
        },
        6 => Body::HeartbeatReply {
            term,
            seq: number(reader, "number")?,
            acked: reader.flag("ack")?,
            highest: number(reader, "highest term")?,
        },
        7 => Body::Resigned {
            term,
            next: reader
                .flag("successor")?
                .then(|| reader.text("successor", 1..=MAX_NAME_BYTES))
                .transpose()?
                .map(MemberId::new),
        },
        _ => return Err(WireError::Malformed { field: "kind" }),
    })
}

/// Terms are tokens, and stay below [`NUMBER_LIMIT`] (K2).
fn number(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, WireError> {
    reader.number(field, NUMBER_LIMIT - 1)
}

fn reign(reader: &mut Reader<'_>) -> Result<Reign, WireError> {
    Ok(Reign {
        instance: reader.instance("released reign")?,
        term: number(reader, "released term")?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn fixed(names: &[&str]) -> Electorate {
        Electorate::Fixed(names.iter().map(|name| MemberId::from(*name)).collect())
    }

    fn envelope() -> Envelope {
        Envelope::new(
            &"g/election/e".into(),
            &fixed(&["a", "b"]),
            &Trust::default(),
        )
    }

    fn bodies() -> impl Strategy<Value = Body> {
        let number = 0..NUMBER_LIMIT;
        let reign = (any::<[u8; 16]>(), number.clone()).prop_map(|(bytes, term)| Reign {
            instance: Instance::from_bytes(bytes),
            term,
        });
        let answer = (number.clone(), any::<bool>(), number.clone());
        prop_oneof![
            number.clone().prop_map(|term| Body::PreVote { term }),
            answer
                .clone()
                .prop_map(|(term, granted, highest)| Body::PreVoteReply {
                    term,
                    granted,
                    highest
                }),
            (number.clone(), proptest::option::of(reign))
                .prop_map(|(term, release)| Body::VoteRequest { term, release }),
            answer.prop_map(|(term, granted, highest)| Body::VoteReply {
                term,
                granted,
                highest
            }),
            (number.clone(), number.clone(), any::<bool>())
                .prop_map(|(term, seq, leads)| { Body::Heartbeat { term, seq, leads } }),
            (
                number.clone(),
                number.clone(),
                any::<bool>(),
                number.clone()
            )
                .prop_map(|(term, seq, acked, highest)| Body::HeartbeatReply {
                    term,
                    seq,
                    acked,
                    highest
                }),
            (number, proptest::option::of("[a-zä]{1,9}")).prop_map(|(term, next)| {
                Body::Resigned {
                    term,
                    next: next.map(MemberId::from),
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_their_wire_form(body in bodies(), to in any::<Option<[u8; 16]>>()) {
            let message = Message {
                from: "ü".into(),
                instance: Instance::from_random(7),
                body,
            };
            let to = to.map(Instance::from_bytes).filter(|to| to.to_bytes() != [0; 16]);
            let sealed = envelope().seal(&message, to);
            prop_assert_eq!(envelope().open(&sealed), Ok((message.clone(), to)));
            // What is cut short is no message.
            for length in 0..sealed.len() {
                prop_assert!(envelope().open(&sealed[..length]).is_err());
            }
        }

        #[test]
        fn rubbish_is_an_error_and_nothing_worse(bytes in any::<Vec<u8>>()) {
            drop(envelope().open(&bytes));
        }
    }

    fn heartbeat() -> Message {
        Message {
            from: "a".into(),
            instance: Instance::from_random(1),
            body: Body::Heartbeat {
                term: 5,
                seq: 1,
                leads: true,
            },
        }
    }

    /// V9: a later version appends fields, and older readers go on.
    #[test]
    fn fields_of_a_later_version_are_skipped_and_what_must_not_be_misread_is_refused() {
        let sealed = envelope().seal(&heartbeat(), None);
        let later = [&[MESSAGE_VERSION + 1], &sealed[1..], b"more"].concat();
        assert_eq!(envelope().open(&later), Ok((heartbeat(), None)));
        let foreign = [&[9, 9], &sealed[2..]].concat();
        assert!(matches!(
            envelope().open(&foreign),
            Err(BadMessage::Unreadable(WireError::UnknownVersion { .. }))
        ));
    }

    /// V9: mixed lists of voters, and mixed windows.
    #[test]
    fn messages_of_another_list_another_window_or_another_election_do_not_count() {
        let (key, trust) = (Key::from("g/election/e"), Trust::default());
        let shorter = Trust::new(Duration::from_secs(2)).unwrap();
        let seen = Electorate::Seen(BTreeSet::new());
        for other in [
            Envelope::new(&key, &fixed(&["a", "b", "c"]), &trust),
            Envelope::new(&key, &fixed(&["ab"]), &trust),
            Envelope::new(&key, &fixed(&["a", "b"]), &shorter),
            Envelope::new(&"g/election/f".into(), &fixed(&["a", "b"]), &trust),
            Envelope::new(&key, &seen, &trust),
        ] {
            let error = envelope().open(&other.seal(&heartbeat(), None));
            assert!(matches!(error, Err(BadMessage::OtherElection { .. })));
        }
    }
}
