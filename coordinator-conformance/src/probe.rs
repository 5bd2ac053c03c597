//! What several parts probe a store with.

use std::future::{Future, poll_fn};
use std::task::Poll;

use coordinator_core::Bytes;

/// Names that a careless store takes for each other, or for its own syntax.
pub(crate) fn odd_names(longest: usize) -> Vec<String> {
    let mut names: Vec<String> = [
        "a",
        "A",
        "a ",
        " a",
        "a\t",
        "a\n",
        "a/b",
        "a//b",
        "a%2Fb",
        "a:b",
        "a*",
        "a?",
        "a_",
        "a%",
        "'",
        "\"",
        "\\",
        "a'; --",
        "{a}",
        "$1",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "\u{1F980}",
        "\u{FEFF}a",
        "0",
        "00",
        "null",
        "*",
        ".",
        "..",
        "a.b",
        "a>b",
    ]
    .map(str::to_owned)
    .into();
    let long = "x".repeat(longest - 1);
    names.push(format!("{long}1"));
    names.push(format!("{long}2"));
    names.push("é".repeat(longest / 2));
    names
}

/// Polls a future so often at most, letting others run in between, and drops it.
pub(crate) async fn poll_times(future: impl Future, polls: usize) {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let done = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
        if done {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Bytes that a careless store changes: none, NUL, what is no UTF-8, what looks like syntax.
pub(crate) fn bytes_of_all_kinds() -> Vec<Bytes> {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    vec![
        Bytes::new(),
        Bytes::from_static(b"\0"),
        Bytes::from_static(b"plain"),
        Bytes::from_static(b"a\0b\0\0"),
        Bytes::from_static(b"\xff\xfe\xc3\x28\xf0\x9f"),
        Bytes::from_static("é \u{1F980} \u{FEFF}".as_bytes()),
        Bytes::from_static(b"'; -- \\x00 \" {} $1\r\n"),
        Bytes::from(all.clone()),
        Bytes::from(all.repeat(300)),
    ]
}
