//! What a subscriber receives.

use std::fmt;

use coordinator_core::{BoxError, Bytes, Cursor, Gap, MemberId, Topic};

/// What a subscription yields. Exhaustive on purpose: decide on each case.
#[derive(Debug)]
pub enum Incoming<T> {
    /// The next message of its origin.
    Message(Message<T>),
    /// Messages are missing: what was built on them may be stale.
    Gap(Gap),
    /// Something arrived that is not what the topic's type says.
    Malformed(Malformed),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message<T> {
    /// The topic it was published on.
    pub topic: Topic<T>,
    /// Who published it.
    pub origin: MemberId,
    /// Its place in the log, if the bus is durable: keep it with what the message changed, and a
    /// later subscription starts [`After`](coordinator_core::Start::After) it.
    pub cursor: Option<Cursor>,
    /// What was published.
    pub payload: T,
}

/// A message that could not be decoded. It takes the place of the message: the stream goes on
/// behind it, and nobody else is hurt.
#[non_exhaustive]
pub struct Malformed {
    /// The topic it arrived on.
    pub topic: Topic,
    /// Who published it, if that could be told.
    pub origin: Option<MemberId>,
    /// Its place in the log, if the bus is durable: a subscriber can go on behind it.
    pub cursor: Option<Cursor>,
    /// What is wrong with it.
    pub error: BoxError,
    /// The payload as it arrived; empty where not even that could be told.
    pub bytes: Bytes,
}

/// Leaves the payload out: logs are no place for it.
impl fmt::Debug for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Malformed")
            .field("topic", &self.topic)
            .field("origin", &self.origin)
            .field("cursor", &self.cursor)
            .field("error", &self.error)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// A payload by serde: `Topic<Json<PriceChanged>>`.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T> coordinator_core::Payload for Json<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    fn encode(&self) -> Result<Bytes, BoxError> {
        Ok(serde_json::to_vec(&self.0)?.into())
    }

    fn decode(bytes: Bytes) -> Result<Self, BoxError> {
        Ok(Self(serde_json::from_slice(&bytes)?))
    }
}
