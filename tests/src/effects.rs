//! Events of keys, and effects of which each shows what was made of the events of one key: which of
//! them, how often, and in which order.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Each shard has so many keys.
const KEYS: u64 = 5;

/// The key of a shard's event with this number, counted from 1.
pub fn key(shard: u16, number: u64) -> String {
    format!("{shard}.{}", number * 7_919 % KEYS)
}

/// What has been made of the events of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effect {
    digest: u64,
    /// How many of them.
    pub count: u64,
}

impl Effect {
    /// The same, and one more event.
    pub fn and(self, number: u64) -> Self {
        Self {
            digest: xxh3_64_with_seed(&number.to_be_bytes(), self.digest),
            count: self.count + 1,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} {}", self.digest, self.count)
    }
}

impl FromStr for Effect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.split_once(' ').and_then(|(digest, count)| {
            let digest = u64::from_str_radix(digest, 16).ok()?;
            let count = count.parse().ok()?;
            Some(Self { digest, count })
        });
        read.ok_or_else(|| format!("`{text}` is no effect"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_shows_order_and_number_and_is_read_as_it_is_written() {
        let effect = Effect::default().and(1).and(2);
        assert_ne!(effect, Effect::default().and(2).and(1));
        assert_ne!(effect, effect.and(2));
        assert_eq!(effect.to_string().parse(), Ok(effect));
        assert!("x".parse::<Effect>().is_err());
        assert_eq!(key(3, 1), "3.4");
    }
}
