//! Names and passwords that nobody guesses.

use std::hash::{BuildHasher, RandomState};

/// A number that differs at each call, in each process.
pub(crate) fn number() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A password of 32 letters that need no quoting anywhere.
pub(crate) fn password() -> String {
    format!("{:016x}{:016x}", number(), number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_need_no_quotes() {
        let (one, other) = (password(), password());
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
        assert!(one.chars().all(|letter| letter.is_ascii_alphanumeric()));
    }
}
