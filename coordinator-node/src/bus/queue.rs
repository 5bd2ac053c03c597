//! What waits for one subscriber: bounded, and honest about what did not fit (rule U8).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use coordinator_core::{BadFrame, Bytes, Cursor, Gap, MemberId};
use tokio::sync::Notify;

use super::lock;

/// A subscriber's queue holds so many messages, unless the subscriber says otherwise …
pub(super) const QUEUE_MESSAGES: usize = 1_024;

/// … and payloads of so many bytes. One message always fits.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// What happened on a feed, sorted: shared by all its subscribers.
#[derive(Debug)]
pub(super) struct Chunk {
    events: Vec<Event>,
    bytes: usize,
    has_own: bool,
}

/// One thing that a subscriber is told.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Message {
        origin: MemberId,
        /// Published by this very node.
        own: bool,
        cursor: Option<Cursor>,
        payload: Bytes,
    },
    // Rare, and large: boxed, so that messages stay small.
    Gap(Box<Gap>),
    Malformed(Box<BadFrame>),
}

impl Event {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Message { payload, .. } => payload.len(),
            Self::Gap(_) | Self::Malformed(_) => 0,
        }
    }

    fn is_own(&self) -> bool {
        match self {
            Self::Message { own, .. } => *own,
            Self::Gap(_) | Self::Malformed(_) => false,
        }
    }

    /// How many messages are missing when this is dropped.
    fn stands_for(&self) -> Option<u64> {
        match self {
            Self::Message { .. } | Self::Malformed(_) => Some(1),
            Self::Gap(gap) => gap.missing,
        }
    }
}

impl Chunk {
    pub(super) fn new(events: Vec<Event>) -> Arc<Self> {
        Arc::new(Self {
            bytes: events.iter().map(Event::bytes).sum(),
            has_own: events.iter().any(Event::is_own),
            events,
        })
    }

    /// The same without what this node published itself.
    pub(super) fn of_others(self: &Arc<Self>) -> Arc<Self> {
        if !self.has_own {
            return self.clone();
        }
        let events = self.events.iter().filter(|event| !event.is_own());
        Self::new(events.cloned().collect())
    }

    pub(super) fn event(&self, index: usize) -> Option<&Event> {
        self.events.get(index)
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

/// What a subscriber takes out of its queue.
#[derive(Debug)]
pub(super) enum Item {
    /// These events of a chunk.
    Events(Arc<Chunk>, Range<usize>),
    /// So many messages did not fit. `None`: and some more of which the number is unknown.
    Slow(Option<u64>),
}

/// One subscriber's queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    closed: AtomicBool,
    drained: Notify,
    max_messages: usize,
    pub(super) others_only: bool,
    /// Drops nothing: who fills it asks for room first.
    paced: bool,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    messages: usize,
    bytes: usize,
    waker: Option<Waker>,
}

/// What became of the events that were pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pushed {
    pub(super) queued: usize,
    pub(super) dropped: usize,
}

impl Queue {
    pub(super) fn new(max_messages: usize, others_only: bool, paced: bool) -> Self {
        Self {
            state: Mutex::default(),
            closed: AtomicBool::new(false),
            drained: Notify::new(),
            max_messages: max_messages.max(1),
            others_only,
            paced,
        }
    }

    /// Queues what fits. The newest is dropped, and counted.
    pub(super) fn push(&self, chunk: &Arc<Chunk>) -> Pushed {
        let mut state = lock(&self.state);
        if self.is_closed() || chunk.len() == 0 {
            return Pushed {
                queued: 0,
                dropped: 0,
            };
        }
        let queued = if self.paced {
            state.take_all(chunk)
        } else {
            state.take_in(chunk, self.max_messages)
        };
        let dropped = chunk.events.get(queued..).unwrap_or_default();
        if !dropped.is_empty() {
            state.drop_newest(dropped);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Pushed {
            queued,
            dropped: dropped.len(),
        }
    }

    /// Takes the oldest item. `None`: the queue is closed.
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let mut state = lock(&self.state);
        if self.is_closed() {
            return Poll::Ready(None);
        }
        let Some(item) = state.items.pop_front() else {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if let Item::Events(chunk, range) = &item {
            state.messages -= range.len();
            state.bytes -= bytes(chunk, range);
        }
        drop(state);
        self.drained.notify_one();
        Poll::Ready(Some(item))
    }

    /// Waits until there is room, and says for how many messages: for feeds that stop reading
    /// instead of dropping.
    pub(super) async fn room(&self) -> usize {
        loop {
            let drained = self.drained.notified();
            let (messages, bytes) = {
                let state = lock(&self.state);
                (state.messages, state.bytes)
            };
            if messages < self.max_messages && (bytes < QUEUE_BYTES || messages == 0) {
                return self.max_messages - messages;
            }
            drained.await;
        }
    }

    /// Forgets what waits.
    pub(super) fn clear(&self) {
        let mut state = lock(&self.state);
        state.items.clear();
        (state.messages, state.bytes) = (0, 0);
    }

    /// Yields nothing any more, not even what waits.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.clear();
        let waker = lock(&self.state).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl State {
    fn take_all(&mut self, chunk: &Arc<Chunk>) -> usize {
        self.take_prefix(chunk, chunk.len());
        chunk.len()
    }

    /// Queues as much of the chunk as fits. Says how many events that is.
    fn take_in(&mut self, chunk: &Arc<Chunk>, max_messages: usize) -> usize {
        let room = max_messages.saturating_sub(self.messages);
        let fits = if chunk.len() <= room && self.bytes + chunk.bytes <= QUEUE_BYTES {
            chunk.len()
        } else {
            self.prefix_that_fits(chunk, room)
        };
        self.take_prefix(chunk, fits);
        fits
    }

    fn take_prefix(&mut self, chunk: &Arc<Chunk>, count: usize) {
        if count > 0 {
            self.messages += count;
            self.bytes += bytes(chunk, &(0..count));
            self.items.push_back(Item::Events(chunk.clone(), 0..count));
        }
    }

    fn prefix_that_fits(&self, chunk: &Chunk, room: usize) -> usize {
        let (mut count, mut total) = (0, self.bytes);
        for event in chunk.events.iter().take(room) {
            total += event.bytes();
            let alone = self.messages + count == 0;
            if total > QUEUE_BYTES && !alone {
                break;
            }
            count += 1;
        }
        count
    }

    fn drop_newest(&mut self, dropped: &[Event]) {
        let missing = dropped.iter().map(Event::stands_for);
        let missing = missing.fold(Some(0_u64), add);
        match self.items.back_mut() {
            Some(Item::Slow(before)) => *before = add(*before, missing),
            Some(Item::Events(..)) | None => self.items.push_back(Item::Slow(missing)),
        }
    }
}

fn add(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    Some(a?.saturating_add(b?))
}

fn bytes(chunk: &Chunk, range: &Range<usize>) -> usize {
    if *range == (0..chunk.len()) {
        return chunk.bytes;
    }
    let events = chunk.events.get(range.clone()).unwrap_or_default();
    events.iter().map(Event::bytes).sum()
}

#[cfg(test)]
mod tests {
    use coordinator_core::GapCause;

    use super::*;

    fn messages(count: usize, size: usize) -> Arc<Chunk> {
        let message = Event::Message {
            origin: MemberId::from("a"),
            own: false,
            cursor: None,
            payload: vec![0; size].into(),
        };
        Chunk::new(vec![message; count])
    }

    /// Takes everything out: how many messages came, and how many were said to be missing.
    fn drain(queue: &Queue) -> (usize, Vec<Option<u64>>) {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut came, mut missing) = (0, Vec::new());
        while let Poll::Ready(Some(item)) = queue.poll_pop(&mut cx) {
            match item {
                Item::Events(_, range) => came += range.len(),
                Item::Slow(count) => missing.push(count),
            }
        }
        (came, missing)
    }

    /// U8, B11.
    #[test]
    fn what_does_not_fit_is_dropped_newest_first_and_counted_exactly() {
        let queue = Queue::new(5, false, false);
        let (queued, dropped) = (3, 0);
        assert_eq!(queue.push(&messages(3, 1)), Pushed { queued, dropped });
        let (queued, dropped) = (2, 1);
        assert_eq!(queue.push(&messages(3, 1)), Pushed { queued, dropped });
        queue.push(&messages(4, 1));
        assert_eq!(drain(&queue), (5, vec![Some(5)]));
        queue.push(&messages(2, 1));
        assert_eq!(drain(&queue), (2, vec![]));
    }

    /// U8.
    #[test]
    fn a_queue_is_bounded_in_bytes_too_but_one_message_always_fits() {
        let queue = Queue::new(1_000, false, false);
        queue.push(&messages(1, QUEUE_BYTES + 1));
        queue.push(&messages(1, 1));
        assert_eq!(drain(&queue), (1, vec![Some(1)]));
        queue.push(&messages(9, QUEUE_BYTES / 8));
        assert_eq!(drain(&queue), (8, vec![Some(1)]));
    }

    #[test]
    fn a_dropped_gap_adds_what_it_stood_for() {
        let queue = Queue::new(1, false, false);
        queue.push(&messages(1, 1));
        let mut gap = Gap::new(GapCause::Lost);
        gap.missing = Some(7);
        queue.push(&Chunk::new(vec![Event::Gap(Box::new(gap))]));
        queue.push(&messages(1, 1));
        assert_eq!(drain(&queue), (1, vec![Some(8)]));
        queue.push(&messages(1, 1));
        queue.push(&Chunk::new(vec![Event::Gap(Box::new(Gap::new(
            GapCause::Disconnected,
        )))]));
        assert_eq!(drain(&queue), (1, vec![None]));
    }

    /// B2.
    #[test]
    fn ones_own_messages_are_left_out_where_only_others_are_wanted() {
        let own = Event::Message {
            origin: MemberId::from("me"),
            own: true,
            cursor: None,
            payload: Bytes::new(),
        };
        let mut events = messages(2, 1).events.clone();
        events.insert(1, own);
        let chunk = Chunk::new(events);
        assert_eq!(chunk.len(), 3);
        assert_eq!(chunk.of_others().len(), 2);
    }

    /// H17.
    #[test]
    fn a_closed_queue_yields_nothing_not_even_what_waited() {
        let queue = Queue::new(5, false, false);
        queue.push(&messages(3, 1));
        queue.close();
        queue.push(&messages(1, 1));
        assert_eq!(drain(&queue), (0, vec![]));
    }
}
