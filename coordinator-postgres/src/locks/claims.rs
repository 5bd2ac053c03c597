//! What is refused of a claim before the store is asked (clause 11 of `LockBackend`).

use std::time::Duration;

use coordinator_core::{Claim, Key, MAX_SCOPED_BYTES};

use crate::trouble::{Trouble, check_ttl};

pub(super) fn check_claim(claim: &Claim, max_ttl: Duration) -> Result<(), Trouble> {
    check_key(&claim.key)?;
    claim.owner.check().map_err(Trouble::rejected)?;
    check_ttl(claim.ttl, max_ttl)
}

/// A key may stand behind its group, and no name holds the byte that the server's texts cannot.
pub(super) fn check_key(key: &Key) -> Result<(), Trouble> {
    match key.as_str().len() {
        _ if key.as_str().contains('\0') => Err(Trouble::rejected("the key holds a zero byte")),
        1..=MAX_SCOPED_BYTES => Ok(()),
        given => Err(Trouble::rejected(format!(
            "the key has {given} bytes, allowed are 1 to {MAX_SCOPED_BYTES}"
        ))),
    }
}
