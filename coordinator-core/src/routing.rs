//! Which shard a key belongs to: the same in every program and every language.

use std::fmt;

/// The hash by which a keyspace is cut. Part of the keyspace: all its members must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Routing {
    /// FNV-1a with 64 bits: four lines in any language. The default.
    #[default]
    Fnv1a64,
    /// FNV-1a with 32 bits, for programs that have it already.
    Fnv1a32,
    /// XXH3 with 64 bits and seed 0: the fastest for long keys.
    Xxh3,
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fnv1a64 => "fnv1a-64",
            Self::Fnv1a32 => "fnv1a-32",
            Self::Xxh3 => "xxh3-64",
        })
    }
}
