//! Reads the server process's id as it passes: the driver keeps it to itself, and a pooler shows
//! itself by another one (rule P7).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

/// Where the id is put. 0: not seen yet.
pub(crate) type Pid = Arc<AtomicI32>;

/// A stream whose server messages are looked at until the server is ready.
#[derive(Debug)]
pub(crate) struct Peek<S> {
    stream: S,
    reader: Option<Reader>,
}

impl<S> Peek<S> {
    /// `asks_for_tls`: the first byte answers that request, and is no message.
    pub(crate) fn new(stream: S, pid: Pid, asks_for_tls: bool) -> Self {
        let reader = Reader {
            pid,
            skip: usize::from(asks_for_tls),
            head: Vec::with_capacity(9),
        };
        Self {
            stream,
            reader: Some(reader),
        }
    }

    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "for TLS"))]
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

/// Follows messages: a tag, a length that counts itself, a body.
#[derive(Debug)]
struct Reader {
    pid: Pid,
    skip: usize,
    /// The tag, the length, and the first four bytes of the body of a `K`.
    head: Vec<u8>,
}

const TAG_AND_LENGTH: usize = 5;

impl Reader {
    /// Whether there is more to look for.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            bytes = rest;
            self.head.push(byte);
            if let &[tag, a, b, c, d, ref body @ ..] = self.head.as_slice() {
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                let wanted = if tag == b'K' { 4 } else { 0 };
                if body.len() < wanted.min(length.saturating_sub(4)) {
                    continue;
                }
                match (tag, body) {
                    (b'Z', _) => return false,
                    (b'K', &[a, b, c, d]) => {
                        self.pid
                            .store(i32::from_be_bytes([a, b, c, d]), Ordering::Relaxed);
                    }
                    _ => {}
                }
                self.skip = (length + 1).saturating_sub(TAG_AND_LENGTH + body.len());
                self.head.clear();
            }
        }
        true
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Peek<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if polled.is_ready()
            && let Some(reader) = &mut this.reader
            && !reader.read(&buffer.filled()[before..])
        {
            this.reader = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Peek<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Peek<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], length.to_be_bytes().as_slice(), body].concat()
    }

    fn greeting() -> Vec<u8> {
        let key = [77_i32.to_be_bytes(), 5_i32.to_be_bytes()].concat();
        [
            message(b'R', &0_u32.to_be_bytes()),
            message(b'S', b"K\0ZZZZ\0"),
            message(b'K', &key),
            message(b'Z', b"I"),
        ]
        .concat()
    }

    #[test]
    fn the_id_is_found_however_the_bytes_are_cut() {
        let bytes = greeting();
        for size in 1..bytes.len() {
            let pid = Pid::default();
            let mut peek = Peek::new((), pid.clone(), false);
            let reader = peek.reader.as_mut().unwrap();
            let more: Vec<_> = bytes.chunks(size).map(|chunk| reader.read(chunk)).collect();
            assert_eq!(pid.load(Ordering::Relaxed), 77, "in pieces of {size}");
            assert_eq!(more.last(), Some(&false));
        }
    }

    #[test]
    fn the_answer_to_the_request_for_tls_is_no_message() {
        let pid = Pid::default();
        let mut peek = Peek::new((), pid.clone(), true);
        let bytes = [b"N".to_vec(), greeting()].concat();
        assert!(!peek.reader.as_mut().unwrap().read(&bytes));
        assert_eq!(pid.load(Ordering::Relaxed), 77);
    }
}
