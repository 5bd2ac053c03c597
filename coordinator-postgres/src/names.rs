//! Names as the server takes them: the schema, its channel, ids of 128 bits, advisory keys of 64.

use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::error::ConnectError;

/// The longest schema name: its objects' names are to fit the server's 63 bytes.
const MAX_SCHEMA_BYTES: usize = 48;

/// A schema whose name needs no quotes, so that it can stand in any statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema(String);

impl Schema {
    pub(crate) fn new(name: &str) -> Result<Self, ConnectError> {
        let letters = name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let starts_well = name
            .bytes()
            .next()
            .is_some_and(|byte| !byte.is_ascii_digit());
        let fits = (1..=MAX_SCHEMA_BYTES).contains(&name.len());
        if letters && starts_well && fits && !name.starts_with("pg_") {
            Ok(Self(name.to_owned()))
        } else {
            Err(ConnectError::BadSchema {
                schema: name.to_owned(),
            })
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// A statement with `{schema}` replaced. The name is quoted: it may be a word of SQL.
    pub(crate) fn sql(&self, statement: &str) -> String {
        statement.replace("{schema}", &format!("\"{}\"", self.0))
    }

    /// The one channel on which everything of this schema is announced.
    pub(crate) fn channel(&self) -> String {
        format!("{}_bus", self.0)
    }

    /// The session lock that stands for a thing of this schema: the server's locks are per
    /// database, and have 64 bits.
    pub(crate) fn advisory(&self, kind: &str, name: &str) -> i64 {
        i64::from_ne_bytes(xxh3_64(&self.tagged(kind, name)).to_ne_bytes())
    }

    /// The session lock that every witness of this schema shares: it tells whether anybody uses the schema,
    /// also when it was dropped under them (I5).
    pub(crate) fn fleet(&self) -> i64 {
        self.advisory("fleet", "")
    }

    fn tagged(&self, kind: &str, name: &str) -> Vec<u8> {
        [self.as_str(), kind, name].join("\0").into_bytes()
    }
}

/// What a row is found by: 128 bits of a name. The name stands beside it, and is compared (L1).
pub(crate) fn id_of(kind: &str, name: &str) -> Uuid {
    Uuid::from_u128(xxh3_128([kind, name].join("\0").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_needs_no_quotes() {
        for good in ["coordinator", "a", "_x9", "select"] {
            assert!(Schema::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(49);
        for bad in ["", "9a", "Upper", "a-b", "a\"b", "pg_x", "é", long.as_str()] {
            assert!(Schema::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_and_keys_differ_by_schema_kind_and_name() -> Result<(), ConnectError> {
        let (a, b) = (Schema::new("a")?, Schema::new("b")?);
        let keys = [
            a.advisory("lock", "x"),
            a.advisory("term", "x"),
            a.advisory("lock", "y"),
            b.advisory("lock", "x"),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_ne!(id_of("lock", "x"), id_of("member", "x"));
        Ok(())
    }

    /// Other versions of this program must find the same rows and locks.
    #[test]
    fn ids_and_keys_are_pinned() -> Result<(), ConnectError> {
        let schema = Schema::new("coordinator")?;
        assert_eq!(schema.advisory("lock", "g/election/scheduler"), PINNED_KEY);
        assert_eq!(id_of("lock", "g/election/scheduler").as_u128(), PINNED_ID);
        assert_eq!(schema.fleet(), PINNED_FLEET);
        Ok(())
    }

    const PINNED_FLEET: i64 = -6_544_611_830_821_281_904;
    const PINNED_KEY: i64 = -4_934_204_354_834_626_694;
    const PINNED_ID: u128 = 305_906_430_190_916_557_195_012_779_496_690_151_510;
}
