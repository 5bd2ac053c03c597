//! Places in logs, and cursors: `r1.PLACE,PLACE,…`, a place of each topic of the subscription in the order of their
//! names, each `IDENTITY:ID:NUMBER`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use coordinator_core::Cursor;

const VERSION: &str = "r1.";

/// The id of an entry: the server's clock in milliseconds, and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::bus) struct Id {
    millis: u64,
    count: u64,
}

impl Id {
    /// The first that could be given so long before.
    pub(super) fn before(self, millis: u64) -> Self {
        Self {
            millis: self.millis.saturating_sub(millis),
            count: 0,
        }
    }

    /// The one behind it.
    pub(super) fn next(self) -> Self {
        Self {
            count: self.count.saturating_add(1),
            ..self
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.count)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, count) = text.split_once('-').ok_or(())?;
        Ok(Self {
            millis: millis.parse().map_err(drop)?,
            count: count.parse().map_err(drop)?,
        })
    }
}

/// Behind a message of one topic's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::bus) struct Place {
    /// Which log; `None`: whichever is there.
    pub(in crate::bus) identity: Option<Arc<str>>,
    /// The entry with the message: later ones of it may follow.
    pub(in crate::bus) id: Id,
    /// The message's number; `None`: whatever comes next is right.
    pub(in crate::bus) number: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity.as_deref().unwrap_or_default();
        write!(f, "{identity}:{}:", self.id)?;
        match self.number {
            Some(number) => write!(f, "{number}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or(());
        let (identity, id, number) = (part()?, part()?, part()?);
        Ok(Self {
            identity: (!identity.is_empty()).then(|| identity.into()),
            id: id.parse()?,
            number: match number {
                "" => None,
                number => Some(number.parse().map_err(drop)?),
            },
        })
    }
}

/// Why a cursor is of no use here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CursorError {
    #[error("`{text}` is no cursor of this bus")]
    NoCursor { text: String },
    #[error("the cursor is of a subscription to {given} topics, and this one has {ours}")]
    OtherTopics { given: usize, ours: usize },
}

/// The text of these places, of a subscription's topics in order.
pub(super) fn write(places: &[&Place]) -> Cursor {
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    Cursor::new(format!("{VERSION}{}", places.join(",")))
}

/// What a cursor says.
pub(super) fn read(cursor: &Cursor, topics: usize) -> Result<Vec<Place>, CursorError> {
    let text = cursor.as_str();
    let no_cursor = || CursorError::NoCursor {
        text: text.to_owned(),
    };
    let places = text.strip_prefix(VERSION).ok_or_else(no_cursor)?;
    let places = places
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<Place>, ()>>();
    let places = places.map_err(|()| no_cursor())?;
    if places.len() != topics {
        return Err(CursorError::OtherTopics {
            given: places.len(),
            ours: topics,
        });
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_says_what_was_written() {
        let known = Place {
            identity: Some("0123456789abcdef/1700000000000000".into()),
            id: "1700000000001-3".parse().unwrap(),
            number: Some(7),
        };
        let places = [known, Place::default()];
        let cursor = write(&[&places[0], &places[1]]);
        let text = "r1.0123456789abcdef/1700000000000000:1700000000001-3:7,:0-0:";
        assert_eq!(cursor.as_str(), text);
        assert_eq!(read(&cursor, 2), Ok(places.to_vec()));
        assert_eq!(
            read(&cursor, 1),
            Err(CursorError::OtherTopics { given: 2, ours: 1 })
        );
    }

    #[test]
    fn a_text_that_is_no_cursor_is_refused() {
        for text in [
            "",
            "1",
            "w1.a:1-1:1",
            "r1.",
            "r1.a:1:1",
            "r1.a:1-1:x",
            "r1.a:1-1",
        ] {
            assert!(read(&Cursor::new(text), 1).is_err(), "{text}");
        }
    }
}
