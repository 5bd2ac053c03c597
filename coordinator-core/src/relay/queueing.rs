//! A stream that waits for a message which travels by reference (rule U7).

use std::collections::VecDeque;

use bytes::Bytes;

use super::backlog::weight;
use crate::bus::Frame;

/// Names a message that travels by reference, while it is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What comes behind a reference may wait up to here; the rest is dropped, and missed by sequence.
const MAX_FRAMES: usize = 1_024;
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Frames of one stream, in order.
#[derive(Debug, Default)]
pub struct Waiting {
    waiting: VecDeque<Waits>,
    bytes: usize,
}

#[derive(Debug)]
struct Waits {
    frame: Frame,
    /// Not here yet.
    ticket: Option<Ticket>,
}

impl Waiting {
    /// Adds a message that is to be fetched. Says whether there was room.
    pub fn wait(&mut self, ticket: Ticket, frame: Frame) -> bool {
        self.add(frame, Some(ticket))
    }

    /// Adds what comes behind it.
    pub fn push(&mut self, frame: Frame) {
        self.add(frame, None);
    }

    fn add(&mut self, frame: Frame, ticket: Option<Ticket>) -> bool {
        let room = self.waiting.len() < MAX_FRAMES && self.bytes < MAX_BYTES;
        if room {
            self.bytes += weight(&frame);
            self.waiting.push_back(Waits { frame, ticket });
        }
        room
    }

    /// A message was fetched, or is given up. Returns what may pass now.
    pub fn settle(&mut self, ticket: Ticket, payload: Option<Bytes>) -> Vec<Frame> {
        let place = |waiting: &Waits| waiting.ticket == Some(ticket);
        if let Some(place) = self.waiting.iter().position(place) {
            match (payload, self.waiting.get_mut(place)) {
                (Some(payload), Some(waiting)) => {
                    self.bytes += payload.len();
                    waiting.frame.payload = payload;
                    waiting.ticket = None;
                }
                (_, _) => drop(self.waiting.remove(place)),
            }
        }
        let mut free = Vec::new();
        while let Some(first) = self.waiting.pop_front_if(|first| first.ticket.is_none()) {
            self.bytes -= weight(&first.frame);
            free.push(first.frame);
        }
        free
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
