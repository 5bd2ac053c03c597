//! The packet: many frames in the text of one NOTIFY (rule U6).
//!
//! | part | form |
//! |---|---|
//! | start | `p`, the version `1`, a number that makes it unique, `;` |
//! | `@` | a stream: instance (22 letters of base64url), stream, next sequence, age in microseconds, origin, topic |
//! | `^` | the same stream, elsewhere: next sequence, age |
//! | `=` | its next message: a blob |
//! | `!` | a beacon at that sequence: a blob |
//! | `#` | fragment i of n of its next message: i, n, a blob |
//! | `&` | its next message, by reference: the row that holds it, its bytes |
//!
//! Numbers are decimal, with `,` between them and `;` behind the last. A blob, and a name, is its
//! length in bytes, then `:` and the text itself, or `~` and base64: text that holds no NUL, and
//! that the server's encoding can hold, travels as it is. Postgres drops a payload that equals an
//! earlier one of the same transaction: hence the number.

mod reader;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use coordinator_core::{Frame, FrameKind};

pub(super) use reader::{Item, PacketError, Reader, StreamHead};

/// What a packet begins with. No bell's letter.
pub(super) const MARK: char = 'p';
/// The version that this build writes, and the only one that it reads.
pub(super) const VERSION: char = '1';
/// The longest text that the server takes in one NOTIFY.
pub(super) const MAX_BYTES: usize = 7_999;
/// The longest start of a packet, and the longest item but for its blob.
const LONGEST_START: usize = 23;
const LONGEST_ITEM: usize = 16;
/// Payload and names of so many bytes fit a packet of their own, also in base64.
const SURELY_FITS: usize = 5_500;

/// What the server can hold as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// Any text without NUL.
    Utf8,
    /// Letters of ASCII: other encodings convert, or refuse, the rest.
    Ascii,
}

impl Charset {
    /// The charset of a server with this `server_encoding`.
    pub(super) fn of(encoding: &str) -> Self {
        if encoding == "UTF8" {
            Self::Utf8
        } else {
            Self::Ascii
        }
    }

    /// The bytes as text that the server can hold.
    fn text(self, bytes: &[u8]) -> Option<&str> {
        if bytes.contains(&0) {
            return None;
        }
        match self {
            Self::Ascii if !bytes.is_ascii() => None,
            Self::Ascii | Self::Utf8 => std::str::from_utf8(bytes).ok(),
        }
    }

    /// How long a blob becomes, without its length.
    fn length(self, bytes: &[u8]) -> usize {
        match self.text(bytes) {
            Some(text) => text.len(),
            None => base64::encoded_len(bytes.len(), false).unwrap_or(usize::MAX),
        }
    }
}

/// Whether a message fits a packet of its own, whole.
pub(super) fn fits(charset: Charset, frame: &Frame) -> Result<(), TooLarge> {
    // Small ones fit however they are written: nothing need be measured.
    let letters = frame.payload.len() + frame.topic.name().len() + frame.origin.as_str().len();
    if letters <= SURELY_FITS {
        return Ok(());
    }
    let length = charset.length(&frame.payload);
    let room = room(charset, frame);
    if length <= room {
        return Ok(());
    }
    let allowed = match charset.text(&frame.payload) {
        Some(_) => room,
        None => room / 4 * 3,
    };
    Err(TooLarge {
        given: frame.payload.len(),
        allowed,
    })
}

/// The room for a blob of this frame in a packet of its own.
fn room(charset: Charset, frame: &Frame) -> usize {
    let mut head = String::new();
    put_stream(&mut head, charset, frame);
    MAX_BYTES.saturating_sub(LONGEST_START + LONGEST_ITEM + head.len())
}

/// A payload that does not fit one NOTIFY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the payload has {given} bytes, and one NOTIFY holds {allowed} of such a message: choose \
     `Spill::Overflow` or `Spill::Always`, or send less"
)]
pub(super) struct TooLarge {
    given: usize,
    allowed: usize,
}

/// Where a message is that does not travel itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) row: i64,
    pub(super) bytes: u64,
}

/// Fills packets with frames.
#[derive(Debug)]
pub(super) struct Packer {
    charset: Charset,
    packets: u64,
    open: String,
    /// The stream that the open packet is at.
    at: Option<Frame>,
    full: Vec<String>,
}

impl Packer {
    pub(super) fn new(charset: Charset) -> Self {
        Self {
            charset,
            packets: 0,
            open: String::new(),
            at: None,
            full: Vec::new(),
        }
    }

    pub(super) fn set_charset(&mut self, charset: Charset) {
        self.charset = charset;
    }

    /// Takes all packets.
    pub(super) fn take(&mut self) -> Vec<String> {
        self.seal();
        std::mem::take(&mut self.full)
    }

    /// Adds a frame as a whole: one that [`fits`].
    pub(super) fn whole(&mut self, frame: &Frame) {
        let mark = match frame.kind {
            FrameKind::Message => '=',
            FrameKind::Beacon => '!',
        };
        let charset = self.charset;
        self.put(frame, |out| {
            out.push(mark);
            put_blob(out, charset, &frame.payload);
        });
        self.behind(frame, frame.kind);
    }

    /// Adds a reference to a message.
    pub(super) fn reference(&mut self, frame: &Frame, to: Reference) {
        self.put(frame, |out| {
            out.push('&');
            put_numbers(out, &[to.row.unsigned_abs(), to.bytes]);
        });
        self.behind(frame, FrameKind::Message);
    }

    /// Adds a message in pieces, each in a packet of its own.
    pub(super) fn fragments(&mut self, frame: &Frame) {
        let charset = self.charset;
        let pieces = pieces(charset, frame);
        let count = pieces.len() as u64;
        for (index, piece) in (1..).zip(pieces) {
            self.seal();
            self.put(frame, |out| {
                out.push('#');
                put_numbers(out, &[index, count]);
                put_blob(out, charset, piece);
            });
        }
        self.behind(frame, FrameKind::Message);
    }

    /// Writes into the open packet, or into the next if that is full.
    fn put(&mut self, frame: &Frame, item: impl Fn(&mut String)) {
        let before = self.open.len();
        if before > 0 {
            self.put_place(frame);
            item(&mut self.open);
            if self.open.len() <= MAX_BYTES {
                return;
            }
            self.open.truncate(before);
            self.seal();
        }
        self.packets += 1;
        self.open.reserve(MAX_BYTES);
        self.open.extend([MARK, VERSION]);
        put_numbers(&mut self.open, &[self.packets]);
        put_stream(&mut self.open, self.charset, frame);
        item(&mut self.open);
        debug_assert!(self.open.len() <= MAX_BYTES, "too large for any packet");
    }

    /// Which stream comes next, as briefly as possible.
    fn put_place(&mut self, frame: &Frame) {
        match &self.at {
            Some(at) if same_stream(at, frame) => {
                if at.sequence != frame.sequence || at.age != frame.age {
                    self.open.push('^');
                    put_numbers(&mut self.open, &[frame.sequence, age_of(frame)]);
                }
            }
            Some(_) | None => put_stream(&mut self.open, self.charset, frame),
        }
    }

    /// Where a reader is after this frame.
    fn behind(&mut self, frame: &Frame, kind: FrameKind) {
        let next = match kind {
            FrameKind::Message => frame.sequence.saturating_add(1),
            FrameKind::Beacon => frame.sequence,
        };
        match &mut self.at {
            Some(at) if same_stream(at, frame) => {
                at.sequence = next;
                at.age = frame.age;
            }
            at => {
                let mut behind = frame.clone().sequence(next);
                behind.payload.clear();
                *at = Some(behind);
            }
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
        self.at = None;
    }
}

fn same_stream(one: &Frame, other: &Frame) -> bool {
    one.instance == other.instance
        && one.stream == other.stream
        && one.topic == other.topic
        && one.origin == other.origin
}

fn age_of(frame: &Frame) -> u64 {
    // Rounded down a stream looks younger, and then more is demanded of it, never less (U4).
    u64::try_from(frame.age.as_micros()).unwrap_or(u64::MAX)
}

fn put_stream(out: &mut String, charset: Charset, frame: &Frame) {
    out.push('@');
    URL_SAFE_NO_PAD.encode_string(frame.instance.to_bytes(), out);
    put_numbers(out, &[frame.stream, frame.sequence, age_of(frame)]);
    put_blob(out, charset, frame.origin.as_str().as_bytes());
    put_blob(out, charset, frame.topic.name().as_bytes());
}

fn put_numbers(out: &mut String, numbers: &[u64]) {
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        put_number(out, *number);
    }
    out.push(';');
}

fn put_number(out: &mut String, mut number: u64) {
    let mut digits = ['0'; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = DIGITS[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(&digits[from..]);
}

const DIGITS: [char; 10] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

fn put_blob(out: &mut String, charset: Charset, bytes: &[u8]) {
    if let Some(text) = charset.text(bytes) {
        put_number(out, text.len() as u64);
        out.push(':');
        out.push_str(text);
    } else {
        put_number(out, charset.length(bytes) as u64);
        out.push('~');
        STANDARD_NO_PAD.encode_string(bytes, out);
    }
}

/// Cuts a payload so that each piece fits a packet; text is cut between letters.
fn pieces(charset: Charset, frame: &Frame) -> Vec<&[u8]> {
    let room = room(charset, frame);
    let text = charset.text(&frame.payload);
    let mut rest: &[u8] = &frame.payload;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let at = match text {
            Some(_) => between_letters(rest, room),
            None => rest.len().min(room / 4 * 3),
        };
        let (piece, others) = rest.split_at(at);
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// The last place not behind `at` that is inside no letter of UTF-8.
fn between_letters(text: &[u8], at: usize) -> usize {
    if text.len() <= at {
        return text.len();
    }
    let inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|at| !inside(*at))
        .unwrap_or(at)
}
