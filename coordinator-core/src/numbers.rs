//! The numbers of the vocabulary: newtypes, so that a token is never taken for an epoch.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// Tokens, epochs and incarnations stay below this (2^53), so that they are exact in JSON and Lua.
pub const NUMBER_LIMIT: u64 = 1 << 53;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// The number as a typed value.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The bare number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }
    )*};
}

numbers! {
    /// Numbers the grants of one key, strictly increasing. It goes along with every write, so that
    /// whatever is written to can refuse a lower one. Compare only within one store and key.
    FencingToken(u64);
    /// Numbers the versions of one keyspace's assignment. The epoch of a shard's grant is also the
    /// shard's fencing token.
    Epoch(u64);
    /// Grows each time a member's id joins. An expired incarnation never comes back to life.
    Incarnation(u64);
    /// Grows whenever the members of a group change.
    Version(u64);
    /// Numbers the attempts of one instance at leases. Asked twice with one id, it is one grant.
    ClaimId(u64);
    /// A part of a keyspace, from 0.
    ShardId(u16);
}

macro_rules! signed {
    ($($name:ident)*) => {$(
        impl From<$name> for i64 {
            /// For SQL parameters. Exact, because the number is below [`NUMBER_LIMIT`]; a larger
            /// one, which no store grants, becomes `i64::MAX`.
            fn from(number: $name) -> i64 {
                i64::try_from(number.0).unwrap_or(i64::MAX)
            }
        }

        impl From<$name> for u64 {
            fn from(number: $name) -> u64 {
                number.0
            }
        }
    )*};
}

signed! { FencingToken Epoch Incarnation Version ClaimId }

impl From<Epoch> for FencingToken {
    /// A shard's fencing token is the epoch of its grant.
    fn from(epoch: Epoch) -> Self {
        Self(epoch.0)
    }
}

/// The next number of a sequence that must rise through crash, restart and fail-over of its store
/// (rule K1): one above the last, at least the store's clock, above what the asker has seen.
///
/// `floor` is ignored when it is more than a day ahead of `wall_ms`, so that one client with a
/// broken record cannot use the numbers up. `None`: the next number would reach [`NUMBER_LIMIT`].
pub fn next_number(last: Option<u64>, wall_ms: u64, floor: Option<u64>) -> Option<u64> {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let floor = floor.filter(|floor| *floor <= wall_ms.saturating_add(DAY_MS));
    let above = |number: Option<u64>| number.map_or(0, |number| number.saturating_add(1));
    Some(above(last).max(above(floor)).max(wall_ms).max(1)).filter(|next| *next < NUMBER_LIMIT)
}

/// One start of a process, random. A restart under a static name is another instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(uuid::Uuid);

impl Instance {
    /// The instance with these random bits, marked as a version 4 UUID.
    pub fn from_random(bits: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }

    /// The instance that was written as these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// The 16 bytes to store or send.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.0)
    }
}

impl FromStr for Instance {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_with_the_last_the_clock_and_the_floor() {
        assert_eq!(next_number(None, 0, None), Some(1));
        assert_eq!(next_number(Some(7), 5, None), Some(8));
        assert_eq!(next_number(Some(7), 900, None), Some(900));
        assert_eq!(next_number(Some(7), 900, Some(900)), Some(901));
    }

    #[test]
    fn a_floor_more_than_a_day_ahead_is_ignored() {
        assert_eq!(next_number(Some(7), 1, Some(86_400_001)), Some(86_400_002));
        assert_eq!(next_number(Some(7), 1, Some(86_400_002)), Some(8));
    }

    #[test]
    fn numbers_end_before_json_and_lua_lose_them() {
        assert_eq!(
            next_number(Some(NUMBER_LIMIT - 2), 1, None),
            Some(NUMBER_LIMIT - 1)
        );
        assert_eq!(next_number(Some(NUMBER_LIMIT - 1), 1, None), None);
    }
}
