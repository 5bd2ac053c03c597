//! What is refused of a claim before the store is asked (clause 11 of `LockBackend`).

use std::time::Duration;

use coordinator_core::{Claim, Key};

use crate::trouble::Trouble;

pub(super) fn check_claim(claim: &Claim, max_ttl: Duration) -> Result<(), Trouble> {
    check_key(&claim.key)?;
    claim.check(max_ttl).map_err(Trouble::rejected)
}

/// A key may stand behind its group, and no name holds the byte that the server's texts cannot.
pub(super) fn check_key(key: &Key) -> Result<(), Trouble> {
    if key.as_str().contains('\0') {
        return Err(Trouble::rejected("the key holds a zero byte"));
    }
    coordinator_core::check_key(key).map_err(Trouble::rejected)
}
