//! What a listening connection has heard and nobody has taken yet, for all clients: bounded by count and by bytes.
//!
//! What finds no room is lost. That is told where it is missing, as if the connection had been cut there, and as soon as what
//! came before it has been taken: the next message need not come first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::ListenEvent;

/// So many messages wait at most.
const MOST: usize = 8_192;
/// What a message counts for besides its bytes.
const OVERHEAD: usize = 128;

/// A queue for messages of so many bytes together: the end that hears, and the end that takes.
pub(crate) fn queue(bytes: usize) -> (Teller, Heard) {
    let shared = Arc::new(Shared {
        bounds: Bounds { bytes, count: MOST },
        waiting: Mutex::default(),
        news: Notify::new(),
    });
    (Teller(shared.clone()), Heard(shared))
}

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    bytes: usize,
    count: usize,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that hears.
#[derive(Debug)]
pub(crate) struct Teller(Arc<Shared>);

impl Teller {
    /// Passes an event on, as far as there is room. Never waits.
    pub(crate) fn tell(&self, event: ListenEvent) {
        let mut waiting = self.0.waiting();
        match event {
            ListenEvent::Message { channel, payload } => {
                waiting.message(self.0.bounds, channel, payload);
            }
            other => waiting.event(other),
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Messages were lost on the way here.
    #[cfg(feature = "client-fred")]
    pub(crate) fn missed(&self) {
        let mut waiting = self.0.waiting();
        if !waiting.overflows {
            waiting.overflow();
        }
        drop(waiting);
        self.0.news.notify_one();
    }

    /// Whether nobody will take anything any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.waiting().is_deaf
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.0.waiting().has_ended = true;
        self.0.news.notify_one();
    }
}

/// The end that takes.
#[derive(Debug)]
pub(crate) struct Heard(Arc<Shared>);

impl Heard {
    /// What was heard next. `None`: nothing will be heard any more. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<ListenEvent> {
        loop {
            {
                let mut waiting = self.0.waiting();
                if let Some(event) = waiting.pop() {
                    return Some(event);
                }
                if waiting.has_ended {
                    return None;
                }
            }
            self.0.news.notified().await;
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        *waiting = Waiting {
            is_deaf: true,
            ..Waiting::default()
        };
    }
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<ListenEvent>,
    /// How many of them are messages, and what they weigh.
    messages: usize,
    bytes: usize,
    /// Messages were lost since the last one that was taken down, and the loss is told behind it.
    overflows: bool,
    has_ended: bool,
    is_deaf: bool,
}

fn weight(channel: &Bytes, payload: &Bytes) -> usize {
    channel.len() + payload.len() + OVERHEAD
}

impl Waiting {
    fn message(&mut self, bounds: Bounds, channel: Bytes, payload: Bytes) {
        if self.is_deaf {
            return;
        }
        let weight = weight(&channel, &payload);
        // A single one passes, however large.
        let fits = self.messages < bounds.count && self.bytes + weight <= bounds.bytes;
        if fits || self.messages == 0 {
            self.overflows = false;
            self.messages += 1;
            self.bytes += weight;
            let message = ListenEvent::Message { channel, payload };
            self.events.push_back(message);
        } else if !self.overflows {
            self.overflow();
        }
    }

    fn overflow(&mut self) {
        self.overflows = true;
        tracing::warn!(
            messages = self.messages,
            bytes = self.bytes,
            "messages arrive faster than this process takes them: what has no room is dropped, and told as lost"
        );
        let why = Arc::from("more messages came than this process could take");
        self.event(ListenEvent::Lost(why));
        self.event(ListenEvent::Live);
    }

    fn event(&mut self, event: ListenEvent) {
        if self.is_deaf {
            return;
        }
        let was_cut = self.is_cut_before_last();
        match (self.events.back_mut(), event) {
            // The newest reason is enough.
            (Some(ListenEvent::Lost(why)), ListenEvent::Lost(newer)) => *why = newer,
            // Who has not heard of the last return need not hear of it.
            (Some(ListenEvent::Live), ListenEvent::Lost(newer)) if was_cut => {
                self.events.pop_back();
                if let Some(ListenEvent::Lost(why)) = self.events.back_mut() {
                    *why = newer;
                }
            }
            (Some(ListenEvent::Live), ListenEvent::Live) => {}
            (_, event) => self.events.push_back(event),
        }
    }

    /// Whether the last event but one says that nothing was heard.
    fn is_cut_before_last(&self) -> bool {
        let before = self.events.len().checked_sub(2);
        before.is_some_and(|at| matches!(self.events.get(at), Some(ListenEvent::Lost(_))))
    }

    fn pop(&mut self) -> Option<ListenEvent> {
        let event = self.events.pop_front()?;
        if let ListenEvent::Message { channel, payload } = &event {
            self.messages -= 1;
            self.bytes -= weight(channel, payload);
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn message(bytes: usize) -> ListenEvent {
        ListenEvent::Message {
            channel: Bytes::from_static(b"c"),
            payload: vec![b'x'; bytes].into(),
        }
    }

    fn lost(why: &str) -> ListenEvent {
        ListenEvent::Lost(why.into())
    }

    /// What waits, without waiting for more: the size of messages, `-` for a loss, `+` for the return, `!` for others.
    async fn taken(heard: &mut Heard) -> String {
        let mut text = String::new();
        while let Ok(Some(event)) = timeout(Duration::from_millis(10), heard.next()).await {
            match event {
                ListenEvent::Message { payload, .. } => {
                    text.push_str(&payload.len().to_string());
                    text.push(' ');
                }
                ListenEvent::Lost(_) => text.push('-'),
                ListenEvent::Live => text.push('+'),
                ListenEvent::Refused { .. } | ListenEvent::Admitted(_) | ListenEvent::Gone(_) => {
                    text.push('!');
                }
            }
        }
        text
    }

    /// U8: told without another message, behind what was before and before what comes after.
    #[tokio::test]
    async fn what_has_no_room_is_told_where_it_is_missing_and_at_once() {
        let (teller, mut heard) = queue(1_000);
        for bytes in [1, 2, 900, 900] {
            teller.tell(message(bytes));
        }
        assert_eq!(taken(&mut heard).await, "1 2 -+");
        for bytes in [3, 900, 5] {
            teller.tell(message(bytes));
        }
        assert_eq!(taken(&mut heard).await, "3 -+5 ");
    }

    #[tokio::test]
    async fn messages_are_bounded_in_number_too_and_a_large_one_passes_alone() {
        let (teller, mut heard) = queue(usize::MAX);
        for _ in 0..MOST + 10 {
            teller.tell(message(0));
        }
        let told = taken(&mut heard).await;
        assert_eq!(
            (told.matches("0 ").count(), &told[told.len() - 2..]),
            (MOST, "-+")
        );
        let (teller, mut heard) = queue(10);
        teller.tell(message(5_000));
        teller.tell(message(1));
        assert_eq!(taken(&mut heard).await, "5000 -+");
        assert_eq!(heard.0.waiting().bytes, 0);
    }

    #[tokio::test]
    async fn one_who_sleeps_through_many_cuts_hears_of_one_and_of_its_newest_reason() {
        let (teller, mut heard) = queue(1_000);
        for number in 0..100 {
            teller.tell(lost("first"));
            teller.tell(lost(&number.to_string()));
            teller.tell(ListenEvent::Live);
        }
        teller.tell(lost("last"));
        assert_eq!(heard.next().await, Some(lost("last")));
        teller.tell(ListenEvent::Live);
        assert_eq!(taken(&mut heard).await, "+");
        drop(teller);
        assert_eq!(heard.next().await, None);
    }

    #[tokio::test]
    async fn nothing_is_kept_for_one_who_has_gone() {
        let (teller, heard) = queue(1_000);
        drop(heard);
        teller.tell(message(1));
        assert!(teller.is_closed() && teller.0.waiting().events.is_empty());
    }
}
