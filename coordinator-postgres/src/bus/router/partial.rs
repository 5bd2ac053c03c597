//! Messages that have arrived in part.

use std::collections::BTreeMap;

use coordinator_core::Bytes;

use super::StreamId;

/// The longest message that travels in pieces (U6).
pub(in crate::bus) const MAX_FRAGMENTED: usize = 64 * 1024;
/// So many streams may be in the middle of a message. The pieces of one leave in one statement, so
/// that more than a few are rubbish.
const MAX_PARTIALS: usize = 64;

/// A fragment.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) sequence: u64,
    /// From 1.
    pub(super) index: u64,
    pub(super) count: u64,
    pub(super) bytes: Bytes,
}

/// One message at most for each stream.
#[derive(Debug, Default)]
pub(super) struct Partials {
    streams: BTreeMap<StreamId, Partial>,
}

#[derive(Debug)]
struct Partial {
    sequence: u64,
    next: u64,
    count: u64,
    bytes: Vec<u8>,
}

impl Partials {
    /// Adds a piece. The whole message, if it was the last one. A piece that does not follow drops
    /// its message: the sequences show that it is missing.
    pub(super) fn add(&mut self, stream: &StreamId, piece: Piece) -> Option<Bytes> {
        if piece.index == 1 {
            if piece.count == 1 {
                self.streams.remove(stream);
                return Some(piece.bytes);
            }
            if self.streams.len() >= MAX_PARTIALS {
                self.streams.pop_first();
            }
            let partial = Partial {
                sequence: piece.sequence,
                next: 1,
                count: piece.count,
                bytes: Vec::new(),
            };
            self.streams.insert(stream.clone(), partial);
        }
        let partial = self.streams.get_mut(stream)?;
        let follows = partial.sequence == piece.sequence
            && partial.count == piece.count
            && partial.next == piece.index
            && partial.bytes.len() + piece.bytes.len() <= MAX_FRAGMENTED;
        if !follows {
            self.streams.remove(stream);
            return None;
        }
        partial.bytes.extend_from_slice(&piece.bytes);
        partial.next += 1;
        if piece.index < piece.count {
            return None;
        }
        self.streams.remove(stream).map(|whole| whole.bytes.into())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.streams.clear();
    }
}

#[cfg(test)]
mod tests {
    use coordinator_core::{Instance, Topic};

    use super::*;

    fn stream(number: u64) -> StreamId {
        (Instance::from_bytes([1; 16]), Topic::new("t"), number)
    }

    fn piece(sequence: u64, index: u64, count: u64, size: usize) -> Piece {
        Piece {
            sequence,
            index,
            count,
            bytes: vec![b'x'; size].into(),
        }
    }

    fn add(partials: &mut Partials, pieces: &[Piece]) -> Vec<usize> {
        let whole = |piece: &Piece| partials.add(&stream(1), piece.clone());
        pieces
            .iter()
            .filter_map(whole)
            .map(|whole| whole.len())
            .collect()
    }

    #[test]
    fn only_pieces_that_follow_each_other_make_a_message() {
        let mut partials = Partials::default();
        let whole = add(&mut partials, &[piece(1, 1, 2, 5), piece(1, 2, 2, 3)]);
        assert_eq!(whole, [8]);
        let (first, last) = (piece(2, 1, 3, 1), piece(2, 3, 3, 1));
        assert!(add(&mut partials, &[first, last]).is_empty());
        let (one, another) = (piece(3, 1, 2, 1), piece(4, 2, 2, 1));
        assert!(add(&mut partials, &[one, another]).is_empty());
        assert!(add(&mut partials, &[piece(5, 2, 2, 1)]).is_empty());
        assert!(partials.streams.is_empty());
    }

    /// U6: rubbish takes up no more than the limits say.
    #[test]
    fn both_the_size_and_the_number_of_partial_messages_are_bounded() {
        let mut partials = Partials::default();
        let half = MAX_FRAGMENTED / 2;
        let pieces = [
            piece(1, 1, 9, half),
            piece(1, 2, 9, half),
            piece(1, 3, 9, 1),
        ];
        assert!(add(&mut partials, &pieces).is_empty());
        assert!(partials.streams.is_empty());
        for number in 1..1_000 {
            assert_eq!(partials.add(&stream(number), piece(1, 1, 2, 1)), None);
        }
        assert_eq!(partials.streams.len(), MAX_PARTIALS);
    }
}
