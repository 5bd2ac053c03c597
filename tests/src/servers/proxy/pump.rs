//! Carries the bytes of one connection one way, as its mode says.

use std::cmp;
use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Mode, Way};

/// The most that is read at once.
const CHUNK: usize = 16 * 1024;
/// The most that is under way: a network has room for so much, and then the sender waits.
const ROOM: usize = 4 * 1024 * 1024;
/// So many pieces a second a throttled way is cut into.
const PIECES: u64 = 50;

/// The connection was reset, and the other side must be too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// How the sender has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// What is under way.
struct Line {
    mode: Mode,
    pieces: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    end: Option<End>,
    /// Bytes taken in since the mode was set.
    taken: u64,
    /// When the last piece is due.
    last: Instant,
}

/// What happens next.
enum Next {
    Changed,
    Due,
    Read(usize),
    Ended(End),
}

/// Carries bytes until the sender has ended and its end was passed on.
pub(super) async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: &Way,
) -> Result<(), Broken> {
    let mut mode = way.mode.subscribe();
    let mut line = Line::new(*mode.borrow_and_update());
    let mut buffer = vec![0; CHUNK];
    let mut receiver_gone = false;
    loop {
        if let Some(end) = line.end_is_due() {
            if end == End::Reset {
                return Err(Broken);
            }
            // A receiver that is gone needs no word.
            drop(to.shutdown().await);
            return Ok(());
        }
        match next(&line, &mut mode, &mut from, &mut buffer).await {
            Next::Changed => line.set(*mode.borrow_and_update()),
            Next::Read(count) => line.take(&buffer[..count]),
            Next::Ended(end) => line.finish(end),
            Next::Due => {
                let Some(piece) = line.deliver() else {
                    continue;
                };
                // What is sent to a receiver that is gone is lost. That it is gone is told on the
                // other way, which may be held.
                receiver_gone = receiver_gone || to.write_all(&piece).await.is_err();
                if !receiver_gone {
                    way.passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
            }
        }
    }
}

async fn next(
    line: &Line,
    mode: &mut watch::Receiver<Mode>,
    from: &mut ReadHalf<'_>,
    buffer: &mut [u8],
) -> Next {
    let due = async {
        match line.due() {
            Some(due) => sleep_until(due).await,
            None => pending().await,
        }
    };
    let read = async {
        match line.room() {
            0 => pending().await,
            room => from.read(&mut buffer[..room]).await,
        }
    };
    tokio::select! {
        biased;
        changed = mode.changed() => match changed {
            Ok(()) => Next::Changed,
            // The proxy is gone.
            Err(_) => Next::Ended(End::Reset),
        },
        () = due => Next::Due,
        read = read => match read {
            Ok(0) => Next::Ended(End::Closed),
            Ok(count) => Next::Read(count),
            Err(_) => Next::Ended(End::Reset),
        },
    }
}

impl Line {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            pieces: VecDeque::new(),
            bytes: 0,
            end: None,
            taken: 0,
            last: Instant::now(),
        }
    }

    fn set(&mut self, mode: Mode) {
        self.mode = mode;
        self.taken = 0;
    }

    /// How much may be read now.
    fn room(&self) -> usize {
        if self.end.is_some() || self.mode == Mode::Hold {
            return 0;
        }
        let most = match self.mode {
            Mode::Throttle(rate) => usize::try_from(rate / PIECES).unwrap_or(CHUNK).max(1),
            _ => CHUNK,
        };
        most.min(CHUNK).min(ROOM.saturating_sub(self.bytes))
    }

    /// Takes in what was sent.
    fn take(&mut self, sent: &[u8]) {
        let now = Instant::now();
        let before = self.taken;
        self.taken += sent.len() as u64;
        let (sent, wait) = match self.mode {
            Mode::Lose => return,
            Mode::Pass | Mode::Hold => (sent, Duration::ZERO),
            Mode::Delay(delay) => (sent, delay),
            Mode::Throttle(rate) => (sent, self.behind(now) + span(sent.len(), rate)),
            Mode::CutAfter(limit) => (
                self.until(sent, limit - cmp::min(before, limit)),
                Duration::ZERO,
            ),
        };
        self.last = cmp::max(self.last, now + wait);
        self.bytes += sent.len();
        self.pieces.push_back((self.last, sent.to_vec()));
    }

    /// Takes in the sender's end, which is as late as bytes would be.
    fn finish(&mut self, end: End) {
        self.end = Some(end);
        if let Mode::Delay(delay) = self.mode {
            self.last = cmp::max(self.last, Instant::now() + delay);
            self.pieces.push_back((self.last, Vec::new()));
        }
    }

    /// The beginning that still passes; with what follows the connection ends.
    fn until<'a>(&mut self, sent: &'a [u8], left: u64) -> &'a [u8] {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if sent.len() < left {
            return sent;
        }
        self.end = Some(End::Reset);
        &sent[..left]
    }

    /// How long until what is under way has come out.
    fn behind(&self, now: Instant) -> Duration {
        self.last.saturating_duration_since(now)
    }

    /// When the next piece comes out.
    fn due(&self) -> Option<Instant> {
        let (due, _) = self.pieces.front()?;
        self.mode.is_open().then_some(*due)
    }

    fn deliver(&mut self) -> Option<Vec<u8>> {
        let (_, piece) = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    /// The sender's end, when all before it has come out.
    fn end_is_due(&self) -> Option<End> {
        self.end
            .filter(|_| self.pieces.is_empty() && self.mode.is_open())
    }
}

/// How long so many bytes take.
fn span(bytes: usize, rate: u64) -> Duration {
    let nanos = bytes as u128 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_throttled_way_takes_as_long_as_its_rate_says() {
        let mut line = Line::new(Mode::Throttle(1_000));
        let began = Instant::now();
        assert_eq!(line.room(), 20);
        for _ in 0..50 {
            line.take(&[0; 20]);
        }
        assert_eq!(line.last - began, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_delayed_stays_in_order_when_the_delay_ends() {
        let mut line = Line::new(Mode::Delay(Duration::from_secs(3)));
        let began = Instant::now();
        line.take(b"first");
        line.set(Mode::Pass);
        line.take(b"second");
        assert_eq!(line.due(), Some(began + Duration::from_secs(3)));
        line.deliver();
        assert_eq!(line.due(), Some(began + Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_delayed_as_bytes_are() {
        let mut line = Line::new(Mode::Delay(Duration::from_secs(3)));
        let began = Instant::now();
        line.finish(End::Closed);
        assert_eq!(line.end_is_due(), None);
        assert_eq!(line.due(), Some(began + Duration::from_secs(3)));
        assert!(line.deliver().unwrap().is_empty());
        assert_eq!(line.end_is_due(), Some(End::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_comes_after_exactly_so_many_bytes() {
        let mut line = Line::new(Mode::CutAfter(7));
        line.take(b"12345");
        assert_eq!(line.end, None);
        line.take(b"67890");
        assert_eq!(line.end, Some(End::Reset));
        assert_eq!(line.deliver().unwrap(), b"12345");
        assert_eq!(line.end_is_due(), None);
        assert_eq!(line.deliver().unwrap(), b"67");
        assert_eq!(line.end_is_due(), Some(End::Reset));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_comes_out_of_a_way_that_is_held_not_even_the_end() {
        let mut line = Line::new(Mode::Pass);
        line.take(b"under way");
        line.end = Some(End::Closed);
        line.set(Mode::Hold);
        assert_eq!((line.due(), line.room()), (None, 0));
        line.set(Mode::Pass);
        assert!(line.due().is_some());
    }
}
