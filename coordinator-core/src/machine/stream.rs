//! Streams of numbered messages: loss is found by counting, once for all buses (rules U1 to U4).
//!
//! A stream is (instance, topic, stream number); its sequence counts from 1. The [`Publisher`]
//! stamps, the [`Receiver`] counts, and [`Retry`] says how long a batch whose outcome is unknown is
//! sent again under the same numbers. Frames with a cursor pass uncounted: a durable bus checks
//! itself (U11).

#[cfg(test)]
mod proof;
mod publisher;
mod receiver;
mod retry;

pub use publisher::{MAX_PUBLISHED_STREAMS, Publisher};
pub use receiver::{MAX_RECEIVED_STREAMS, Receipt, Receiver};
pub use retry::{After, RETRY_FOR, Retry};
