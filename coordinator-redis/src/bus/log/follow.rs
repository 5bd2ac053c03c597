//! How a reader goes through the log of one topic: what it delivers, and what it finds missing.

use coordinator_core::relay::{Packed, Repeats, Unpacker};
use coordinator_core::{BadFrame, Cursor, Frame, FrameError, Gap, GapCause, Topic};

use super::inbox::News;
use super::place::Place;
use super::{Entry, Page};

/// U15: so much is read again of a log that took another's place.
const REWIND_MS: u64 = 60_000;

/// What is found in a log.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Frame(Frame),
    Gap(Gap),
    /// Messages were deleted: behind the present place, up to this one.
    Missing {
        count: u64,
        up_to: Place,
    },
    Malformed(BadFrame),
}

/// A topic, and how far its log was read.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) topic: Topic,
    pub(super) place: Place,
    repeats: Repeats,
    /// Whether the log may have more than was told.
    behind: bool,
}

impl Follow {
    pub(super) fn new(topic: Topic, place: Place) -> Self {
        Self {
            topic,
            place,
            repeats: Repeats::default(),
            behind: true,
        }
    }

    /// The log must be read.
    pub(super) fn set_behind(&mut self) {
        self.behind = true;
    }

    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// A read begins.
    pub(super) fn begin_read(&mut self) {
        self.behind = false;
    }

    /// Takes news if they follow what is known; else the log is to be read.
    pub(super) fn told(&mut self, news: &News, found: &mut dyn FnMut(&Place, Found)) {
        let follows = self.place.identity.as_ref() == Some(&news.identity)
            && self
                .place
                .number
                .is_some_and(|last| news.entry.first <= last.saturating_add(1));
        if !follows || self.behind || news.entry.packet.is_empty() {
            self.behind = true;
            return;
        }
        self.entry(&news.entry, found);
    }

    /// Takes what a read brought.
    pub(super) fn read(&mut self, page: &Page, found: &mut dyn FnMut(&Place, Found)) {
        let known = self.place.identity.replace(page.identity.clone());
        if let Some(known) = known.filter(|known| *known != page.identity) {
            if !self.lies_in(page, &known) {
                return self.rewind(found);
            }
            found(&self.place, Found::Gap(self.reset()));
        }
        for entry in &page.entries {
            self.missing(entry.first.saturating_sub(1), found);
            self.entry(entry, found);
        }
        if page.more {
            self.behind = true;
        } else {
            self.missing(page.last, found);
        }
    }

    /// Tells of messages between the present place and this number: they are not there.
    fn missing(&mut self, up_to: u64, found: &mut dyn FnMut(&Place, Found)) {
        let before = self.place.clone();
        let last = *self.place.number.get_or_insert(up_to);
        if last >= up_to {
            return;
        }
        self.place.number = Some(up_to);
        let missing = Found::Missing {
            count: up_to - last,
            up_to: self.place.clone(),
        };
        found(&before, missing);
    }

    /// Delivers those messages of an entry that are new.
    fn entry(&mut self, entry: &Entry, found: &mut dyn FnMut(&Place, Found)) {
        let mut number = entry.first;
        let mut read = || -> Result<(), FrameError> {
            let mut unpacker = Unpacker::new(entry.packet.clone())?;
            while let Some(packed) = unpacker.next_frame()? {
                let (Packed::Whole(frame) | Packed::Away(frame, _)) = packed;
                if self.place.number.is_none_or(|last| number > last) {
                    (self.place.id, self.place.number) = (entry.id, Some(number));
                    if self.repeats.is_new(&frame) {
                        found(&self.place, Found::Frame(frame));
                    }
                }
                number += 1;
            }
            Ok(())
        };
        if let Err(error) = read() {
            tracing::warn!(id = %entry.id, %error, "an entry of a log cannot be read");
            // How many messages it has is unknown: what comes next is right.
            (self.place.id, self.place.number) = (entry.id.next(), None);
            let mut bad = BadFrame::new(error.to_string());
            bad.topic = Some(self.topic.clone());
            found(&self.place, Found::Malformed(bad));
        }
    }

    /// Whether a page that was read from the present place still holds the last message there, of a log that was begun with the one
    /// that was known: the server has restarted, or a replica was promoted, and this much was kept. Then nothing is to be read
    /// again.
    fn lies_in(&self, page: &Page, known: &str) -> bool {
        let birth = |identity: &str| identity.rsplit_once('/').map(|(_, birth)| birth.to_owned());
        let mut entries = page.entries.iter();
        let (Some(entry), Some(number)) = (entries.next(), self.place.number) else {
            return false;
        };
        let end = entries
            .next()
            .map_or(page.last, |next| next.first.saturating_sub(1));
        birth(known) == birth(&page.identity)
            && entry.id == self.place.id
            && (entry.first..=end).contains(&number)
    }

    /// U15: the log is another one. What was read of the old one may not be in it, and what is in it
    /// may have been read: the last minute comes again, but for what is remembered.
    fn rewind(&mut self, found: &mut dyn FnMut(&Place, Found)) {
        self.place.id = self.place.id.before(REWIND_MS);
        self.place.number = None;
        self.behind = true;
        found(&self.place, Found::Gap(self.reset()));
    }

    /// A server that has another memory may have lost messages that it had accepted and nobody has read: that is told, even
    /// where all that was read is still there.
    fn reset(&self) -> Gap {
        let mut gap = Gap::new(GapCause::LogReset);
        gap.topic = Some(self.topic.clone());
        gap
    }
}

/// A gap between two cursors.
pub(super) fn gap(topic: &Topic, count: u64, from: Cursor, to: Cursor) -> Gap {
    let mut gap = Gap::new(GapCause::Retention);
    gap.topic = Some(topic.clone());
    gap.missing = Some(count);
    gap.range = Some((from, to));
    gap
}

#[cfg(test)]
mod tests {
    use coordinator_core::relay::Packer;
    use coordinator_core::{Bytes, Instance, MemberId};

    use super::super::place::Id;
    use super::*;

    fn entry(first: u64, count: u64) -> Entry {
        let mut packer = Packer::default();
        for sequence in first..first + count {
            let instance = Instance::from_bytes([1; 16]);
            let frame = Frame::new(Topic::new("t"), MemberId::from("a"), instance, Bytes::new());
            packer.whole(&frame.sequence(sequence));
        }
        Entry {
            id: id(first),
            first,
            packet: packer.finish(),
        }
    }

    fn id(number: u64) -> Id {
        format!("{}-0", 1_000_000 + number).parse().unwrap()
    }

    fn news(identity: &str, entry: Entry) -> News {
        News {
            identity: identity.into(),
            entry,
        }
    }

    fn page(identity: &str, last: u64, entries: Vec<Entry>) -> Page {
        Page {
            identity: identity.into(),
            last,
            more: false,
            entries,
        }
    }

    /// Behind the message of that number, with nothing to read.
    fn at(number: u64) -> Follow {
        let place = Place {
            identity: Some("a".into()),
            id: id(number),
            number: Some(number),
        };
        let mut follow = Follow::new(Topic::new("t"), place);
        follow.begin_read();
        follow
    }

    /// Sequences, and counts of missing messages as negative numbers.
    fn found(work: impl FnOnce(&mut dyn FnMut(&Place, Found))) -> Vec<i64> {
        let mut all = Vec::new();
        work(&mut |_, found| {
            all.push(match found {
                Found::Frame(frame) => i64::try_from(frame.sequence).unwrap(),
                Found::Missing { count, .. } => -i64::try_from(count).unwrap(),
                Found::Gap(gap) => {
                    assert_eq!(gap.cause, GapCause::LogReset);
                    0
                }
                Found::Malformed(_) => 1_000,
            });
        });
        all
    }

    /// U10: news are delivered only where nothing can come before them.
    #[test]
    fn news_that_follow_are_taken_and_others_make_it_read() {
        let mut follow = at(3);
        assert_eq!(found(|to| follow.told(&news("a", entry(4, 2)), to)), [4, 5]);
        assert_eq!(found(|to| follow.told(&news("a", entry(4, 3)), to)), [6]);
        assert!(!follow.is_behind());
        assert_eq!(found(|to| follow.told(&news("a", entry(8, 1)), to)), [0; 0]);
        assert!(follow.is_behind());
        let read = page("a", 8, vec![entry(7, 1), entry(8, 1)]);
        follow.begin_read();
        assert_eq!(found(|to| follow.read(&read, to)), [7, 8]);
    }

    /// U14: what was deleted is a gap of the exact count, in the middle as at the end.
    #[test]
    fn what_is_missing_is_counted() {
        let mut follow = at(3);
        let read = page("a", 9, vec![entry(6, 2)]);
        assert_eq!(found(|to| follow.read(&read, to)), [-2, 6, 7, -2]);
        assert_eq!(found(|to| follow.told(&news("a", entry(10, 1)), to)), [10]);
        let mut oldest = Follow::new(Topic::new("t"), Place::default());
        assert_eq!(found(|to| oldest.read(&read, to)), [6, 7, -2]);
    }

    /// U2: a publisher's second attempt is stored twice, and delivered once.
    #[test]
    fn what_was_stored_twice_is_delivered_once() {
        let mut follow = at(0);
        let again = Entry {
            id: id(3),
            first: 3,
            packet: entry(1, 2).packet,
        };
        let read = page("a", 4, vec![entry(1, 2), again]);
        assert_eq!(found(|to| follow.read(&read, to)), [1, 2]);
        assert_eq!(follow.place.number, Some(4));
    }

    /// U15: another log is told, and its last minute read, without what was delivered.
    #[test]
    fn another_log_is_a_gap_and_is_read_from_before() {
        let mut follow = at(3);
        assert_eq!(found(|to| follow.told(&news("a", entry(4, 1)), to)), [4]);
        assert_eq!(found(|to| follow.told(&news("b", entry(1, 1)), to)), [0; 0]);
        follow.begin_read();
        let read = page("b", 5, vec![entry(3, 3)]);
        assert_eq!(found(|to| follow.read(&read, to)), [0]);
        assert!(follow.is_behind() && follow.place.number.is_none());
        assert_eq!(follow.place.id, id(4).before(60_000));
        follow.begin_read();
        assert_eq!(found(|to| follow.read(&read, to)), [5]);
    }

    /// U15: where the server's memory is another and the log is the old one, with what was read, it is read on from there.
    #[test]
    fn a_log_that_was_kept_is_told_and_not_read_again() {
        let kept = |last, entries| page("new/1", last, entries);
        let place = |number, id: Id| Place {
            identity: Some("old/1".into()),
            id,
            number: Some(number),
        };
        let follow = |place| Follow::new(Topic::new("t"), place);
        let whole = kept(5, vec![entry(2, 2), entry(4, 2)]);
        let mut reader = follow(place(3, id(2)));
        assert_eq!(found(|to| reader.read(&whole, to)), [0, 4, 5]);
        assert_eq!(reader.place.identity.as_deref(), Some("new/1"));
        // In the middle of an entry.
        let mut reader = follow(place(4, id(4)));
        let tail = kept(5, vec![entry(4, 2)]);
        assert_eq!(found(|to| reader.read(&tail, to)), [0, 5]);
        // The last ones are lost, and others have their numbers; or the place itself is.
        for page in [
            kept(5, vec![entry(2, 1), entry(3, 3)]),
            kept(2, vec![entry(2, 1)]),
            kept(9, vec![entry(6, 4)]),
            kept(3, vec![]),
            Page {
                identity: "new/2".into(),
                ..whole
            },
        ] {
            let mut reader = follow(place(3, id(2)));
            assert_eq!(found(|to| reader.read(&page, to)), [0]);
            assert_eq!(reader.place.number, None, "{page:?}");
        }
    }

    #[test]
    fn an_entry_that_is_none_is_told_and_passed() {
        let mut follow = at(0);
        let mut bad = entry(1, 1);
        bad.packet = Bytes::from_static(b"\xff");
        let read = page("a", 2, vec![bad, entry(2, 1)]);
        assert_eq!(found(|to| follow.read(&read, to)), [1_000, 2]);
    }
}
