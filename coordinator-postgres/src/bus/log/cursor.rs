//! Cursors as text: `w1.LOG.AT.XID.ID`, or `n1.LOG.AT.TOPICS.NUMBER,NUMBER,…` where a counter
//! numbers the rows.
//!
//! `LOG` tells one log from another (U15), `AT` is when the row was stored, in milliseconds.

use coordinator_core::Cursor;

use super::place::{Place, Wanted};
use crate::config::Cursors;

/// Which log: a digest of the store's memory and the schema's birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity(pub(super) u64);

impl Identity {
    pub(super) fn of(text: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}

/// What a cursor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) identity: Identity,
    pub(super) at: i64,
    pub(super) place: Place,
}

/// Why a cursor is of no use here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CursorError {
    #[error("`{text}` is no cursor of this bus")]
    NoCursor { text: String },
    #[error(
        "the cursor counts by {given:?}, and this process by {ours:?}: all must choose the same `cursors`"
    )]
    OtherKind { given: Cursors, ours: Cursors },
    #[error("the cursor is of other topics: its numbers are counted for each topic")]
    OtherTopics,
}

pub(super) fn write(identity: Identity, at: i64, place: &Place, wanted: &Wanted) -> Cursor {
    let Identity(log) = identity;
    Cursor::new(match place {
        Place::Watermark { xid, id } => format!("w1.{log:016x}.{at}.{xid}.{id}"),
        Place::Numbers(numbers) => {
            let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            let (topics, numbers) = (wanted.digest(), numbers.join(","));
            format!("n1.{log:016x}.{at}.{topics:016x}.{numbers}")
        }
    })
}

pub(super) fn read(cursor: &Cursor, ours: Cursors, wanted: &Wanted) -> Result<Known, CursorError> {
    let text = cursor.as_str();
    let none = || CursorError::NoCursor {
        text: text.chars().take(80).collect(),
    };
    let parts: Vec<&str> = text.split('.').collect();
    let &[kind, log, at, third, fourth] = parts.as_slice() else {
        return Err(none());
    };
    let given = match kind {
        "w1" => Cursors::Watermark,
        "n1" => Cursors::Counter,
        _ => return Err(none()),
    };
    if given != ours {
        return Err(CursorError::OtherKind { given, ours });
    }
    let place = match given {
        Cursors::Watermark => Place::Watermark {
            xid: third.parse().map_err(|_| none())?,
            id: fourth.parse().map_err(|_| none())?,
        },
        Cursors::Counter => {
            let topics = u64::from_str_radix(third, 16).map_err(|_| none())?;
            let numbers: Result<Vec<i64>, _> = fourth.split(',').map(str::parse).collect();
            let numbers = numbers.map_err(|_| none())?;
            if topics != wanted.digest() || numbers.len() != wanted.topics.len() {
                return Err(CursorError::OtherTopics);
            }
            Place::Numbers(numbers)
        }
    };
    Ok(Known {
        identity: Identity(u64::from_str_radix(log, 16).map_err(|_| none())?),
        at: at.parse().map_err(|_| none())?,
        place,
    })
}

#[cfg(test)]
mod tests {
    use coordinator_core::Topic;
    use proptest::prelude::*;

    use super::*;

    fn wanted() -> std::sync::Arc<Wanted> {
        Wanted::new(&[Topic::new("a"), Topic::new("b")])
    }

    proptest! {
        #[test]
        fn cursors_are_read_as_they_were_written(
            log in any::<u64>(), at in any::<i64>(), xid in any::<u64>(), id in any::<i64>(),
        ) {
            let (identity, wanted) = (Identity(log), wanted());
            for (cursors, place) in [
                (Cursors::Watermark, Place::Watermark { xid, id }),
                (Cursors::Counter, Place::Numbers(vec![id, at])),
            ] {
                let cursor = write(identity, at, &place, &wanted);
                let known = Known { identity, at, place };
                prop_assert_eq!(read(&cursor, cursors, &wanted), Ok(known));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in "([wn]1)?[.,0-9a-f]{0,80}|\\PC{0,80}") {
            drop(read(&Cursor::new(text), Cursors::Counter, &wanted()));
        }
    }

    #[test]
    fn a_cursor_of_another_kind_or_of_other_topics_says_so() {
        let place = Place::Watermark { xid: 1, id: 2 };
        let cursor = write(Identity(1), 0, &place, &wanted());
        let error = read(&cursor, Cursors::Counter, &wanted()).unwrap_err();
        assert!(matches!(error, CursorError::OtherKind { .. }));
        let cursor = write(Identity(1), 0, &Place::Numbers(vec![1, 2]), &wanted());
        let others = Wanted::new(&[Topic::new("a"), Topic::new("c")]);
        let error = read(&cursor, Cursors::Counter, &others).unwrap_err();
        assert_eq!(error, CursorError::OtherTopics);
    }
}
