//! What every store refuses before it looks at anything: names, TTLs and sizes out of bounds. For authors of backends.

use std::time::Duration;

use crate::assignment::{MAX_DOCUMENT_BYTES, Swap};
use crate::lock::Claim;
use crate::member::{Heartbeat, Join, MAX_METADATA_BYTES, Profile};
use crate::names::{BadName, Group, Key, Keyspace, MAX_SCOPED_BYTES, MemberId};
use crate::trust::{BadTtl, MIN_TTL};

/// Why a request will never be accepted as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRequest {
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A TTL that the namespace does not take.
    #[error(transparent)]
    Ttl(#[from] BadTtl),
    /// A key that is empty, or too long.
    #[error("the key has {given} bytes, allowed are 1 to {MAX_SCOPED_BYTES}")]
    Key {
        /// Its bytes.
        given: usize,
    },
    /// More metadata than a member may have.
    #[error("the metadata has {given} bytes, allowed are {MAX_METADATA_BYTES}")]
    Metadata {
        /// The bytes of all keys and values together.
        given: usize,
    },
    /// A document that is too large.
    #[error("the document has {given} bytes, allowed are {MAX_DOCUMENT_BYTES}")]
    Document {
        /// Its bytes.
        given: usize,
    },
}

/// Checks a TTL against the bounds of the namespace, whose longest is `most` (I4).
///
/// # Errors
/// The TTL is out of bounds.
pub fn check_ttl(given: Duration, most: Duration) -> Result<(), BadTtl> {
    if (MIN_TTL..=most).contains(&given) {
        return Ok(());
    }
    Err(BadTtl::Ttl {
        given,
        least: MIN_TTL,
        most,
    })
}

/// Checks the names of a member and its group.
///
/// # Errors
/// One of them is no name.
pub fn check_member(group: &Group, id: &MemberId) -> Result<(), BadName> {
    group.check()?;
    id.check()
}

/// Checks the names of a keyspace and its group.
///
/// # Errors
/// One of them is no name.
pub fn check_keyspace(group: &Group, keyspace: &Keyspace) -> Result<(), BadName> {
    group.check()?;
    keyspace.check()
}

/// Checks a key, which may stand behind its group: it has 1 to [`MAX_SCOPED_BYTES`] bytes.
///
/// # Errors
/// It has others.
pub fn check_key(key: &Key) -> Result<(), BadRequest> {
    match key.as_str().len() {
        1..=MAX_SCOPED_BYTES => Ok(()),
        given => Err(BadRequest::Key { given }),
    }
}

impl Claim {
    /// Whether a store takes it whose longest TTL is `max_ttl`.
    ///
    /// # Errors
    /// A name or the TTL is out of bounds.
    pub fn check(&self, max_ttl: Duration) -> Result<(), BadRequest> {
        check_key(&self.key)?;
        self.owner.check()?;
        Ok(check_ttl(self.ttl, max_ttl)?)
    }
}

impl Profile {
    /// Whether a store takes it.
    ///
    /// # Errors
    /// A keyspace has no name, or there is too much metadata.
    pub fn check(&self) -> Result<(), BadRequest> {
        for keyspace in &self.keyspaces {
            keyspace.check()?;
        }
        let entries = self.metadata.iter();
        let given = entries.map(|(key, value)| key.len() + value.len()).sum();
        if given > MAX_METADATA_BYTES {
            return Err(BadRequest::Metadata { given });
        }
        Ok(())
    }
}

impl Join {
    /// Whether a store takes it whose longest TTL is `max_ttl`.
    ///
    /// # Errors
    /// A name, the TTL or the profile is out of bounds.
    pub fn check(&self, max_ttl: Duration) -> Result<(), BadRequest> {
        check_member(&self.group, &self.id)?;
        self.profile.check()?;
        Ok(check_ttl(self.ttl, max_ttl)?)
    }
}

impl Heartbeat {
    /// Whether a store takes it whose longest TTL is `max_ttl`.
    ///
    /// # Errors
    /// A name, the TTL or the profile is out of bounds.
    pub fn check(&self, max_ttl: Duration) -> Result<(), BadRequest> {
        check_member(&self.group, &self.id)?;
        check_ttl(self.ttl, max_ttl)?;
        self.profile.as_ref().map_or(Ok(()), Profile::check)
    }
}

impl Swap {
    /// Whether a store takes it.
    ///
    /// # Errors
    /// A name is none, or the document is too large.
    pub fn check(&self) -> Result<(), BadRequest> {
        check_keyspace(&self.group, &self.keyspace)?;
        let given = self.document.len();
        if given > MAX_DOCUMENT_BYTES {
            return Err(BadRequest::Document { given });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::numbers::{ClaimId, FencingToken, Instance};

    const MOST: Duration = Duration::from_secs(30);

    fn claim(key: &str, ttl: Duration) -> Claim {
        let instance = Instance::from_bytes([1; 16]);
        Claim::new(key.into(), "m".into(), instance, ClaimId::new(1), ttl)
    }

    /// I4.
    #[test]
    fn a_claim_has_a_key_an_owner_and_a_ttl_within_bounds() {
        assert_eq!(claim("k", MOST).check(MOST), Ok(()));
        assert_eq!(claim("k", MIN_TTL).check(MOST), Ok(()));
        let longest = "k".repeat(MAX_SCOPED_BYTES);
        assert_eq!(claim(&longest, MOST).check(MOST), Ok(()));
        let empty = claim("", MOST).check(MOST);
        assert_eq!(empty, Err(BadRequest::Key { given: 0 }));
        let given = MAX_SCOPED_BYTES + 1;
        let long = claim(&(longest + "k"), MOST).check(MOST);
        assert_eq!(long, Err(BadRequest::Key { given }));
        for ttl in [MIN_TTL / 2, MOST * 2] {
            let refused = claim("k", ttl).check(MOST);
            assert!(matches!(refused, Err(BadRequest::Ttl(_))), "{ttl:?}");
        }
    }

    #[test]
    fn what_is_exactly_as_large_as_allowed_is_taken() {
        let swap = |bytes| {
            let (token, document) = (FencingToken::new(1), Bytes::from(vec![0; bytes]));
            Swap::new("g".into(), "k".into(), token, document).check()
        };
        let given = MAX_DOCUMENT_BYTES + 1;
        assert_eq!(swap(MAX_DOCUMENT_BYTES), Ok(()));
        assert_eq!(swap(given), Err(BadRequest::Document { given }));
        let profile = |bytes| {
            let mut profile = Profile::new();
            profile
                .metadata
                .insert("a".to_owned(), "x".repeat(bytes - 1));
            profile.check()
        };
        let given = MAX_METADATA_BYTES + 1;
        assert_eq!(profile(MAX_METADATA_BYTES), Ok(()));
        assert_eq!(profile(given), Err(BadRequest::Metadata { given }));
    }
}
