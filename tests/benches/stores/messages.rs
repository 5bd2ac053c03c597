//! Messages that are sent to be counted.

use std::time::Duration;

/// A message of so many bytes that begins with its number.
pub(crate) fn message(number: u64, bytes: usize) -> String {
    format!(
        "{number:016}{:.<width$}",
        "",
        width = bytes.saturating_sub(16)
    )
}

/// The number of a message.
pub(crate) fn number(message: &str) -> Option<u64> {
    message.get(..16)?.parse().ok()
}

/// Events in a second.
pub(crate) fn rate(count: u64, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}
