//! Which shard a key belongs to: the same in every program and every language.
//!
//! `shard_of(key) = hash(key) mod N`, on the bytes of the key, with the hash as an *unsigned*
//! number. [`TEST_VECTORS`] lets a program in another language check that it computes the same.

use std::fmt;
use std::num::NonZeroU16;

use xxhash_rust::xxh3::xxh3_64;

use crate::numbers::ShardId;

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

impl Routing {
    /// The hash of a key. One of 32 bits fills the lower half.
    pub fn hash(self, key: &[u8]) -> u64 {
        match self {
            Self::Fnv1a64 => fnv1a_64(key),
            Self::Fnv1a32 => u64::from(fnv1a_32(key)),
            Self::Xxh3 => xxh3_64(key),
        }
    }

    /// The shard of a key, among so many.
    pub fn shard_of(self, key: impl AsRef<[u8]>, shards: NonZeroU16) -> ShardId {
        let rest = self.hash(key.as_ref()) % u64::from(shards.get());
        #[expect(clippy::cast_possible_truncation, reason = "less than a u16")]
        ShardId::new(rest as u16)
    }
}

fn fnv1a_64(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn fnv1a_32(key: &[u8]) -> u32 {
    key.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
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

/// What the hashes of one key must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestVector {
    /// The bytes of the key.
    pub key: &'static [u8],
    /// Its hash by [`Routing::Fnv1a64`].
    pub fnv1a_64: u64,
    /// Its hash by [`Routing::Fnv1a32`].
    pub fnv1a_32: u32,
    /// Its hash by [`Routing::Xxh3`].
    pub xxh3_64: u64,
}

const fn vector(key: &'static [u8], fnv1a_64: u64, fnv1a_32: u32, xxh3_64: u64) -> TestVector {
    TestVector {
        key,
        fnv1a_64,
        fnv1a_32,
        xxh3_64,
    }
}

/// For programs in other languages: each key and its hashes.
///
/// Several hashes have their top bit set: a program that takes the remainder of a *signed* number
/// finds another shard for these.
pub const TEST_VECTORS: &[TestVector] = &[
    vector(
        b"",
        0xcbf2_9ce4_8422_2325,
        0x811c_9dc5,
        0x2d06_8005_38d3_94c2,
    ),
    vector(
        b"a",
        0xaf63_dc4c_8601_ec8c,
        0xe40c_292c,
        0xe6c6_32b6_1e96_4e1f,
    ),
    vector(
        b"coordinator",
        0x20cd_038d_9741_13f1,
        0x13be_ad31,
        0x31a1_2878_cca6_d443,
    ),
    vector(
        b"user-1",
        0xf84b_a2aa_754a_4bd4,
        0xf553_7974,
        0x7c76_15c1_1438_e5c9,
    ),
    vector(
        b"user-2",
        0xf84b_a5aa_754a_50ed,
        0xf853_7e2d,
        0x2033_3bb6_4816_64d4,
    ),
    vector(
        b"orders/42",
        0xa623_99f6_4f69_61df,
        0xd7e5_2b5f,
        0xcba1_78f5_c9c4_f955,
    ),
    vector(
        b"\0",
        0xaf63_bd4c_8601_b7df,
        0x050c_5d1f,
        0xc44b_dff4_074e_ecdb,
    ),
    vector(
        &[0xff; 8],
        0x8cf5_1a8b_fca3_883d,
        0x6cae_0a5d,
        0x5111_c7e4_7d78_4413,
    ),
    vector(
        "Grüße".as_bytes(),
        0x20e7_2e11_e324_b0b8,
        0xb822_6e38,
        0xb40c_17e2_196d_97d8,
    ),
    vector(
        &7u64.to_be_bytes(),
        0xa8c7_f132_281a_2de0,
        0x94e1_6660,
        0xf8c0_126b_89b4_fafc,
    ),
    vector(
        &[b'x'; 64],
        0xb96a_5acb_b56d_b825,
        0xd19b_1ac5,
        0x269c_b9f6_acf8_1244,
    ),
    vector(
        &[b'x'; 300],
        0xe78d_df9f_1ba8_5555,
        0x9701_38f5,
        0xa5d1_b460_7dc8_3554,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// H13.
    #[test]
    fn every_hash_is_the_published_one() {
        for vector in TEST_VECTORS {
            assert_eq!(
                Routing::Fnv1a64.hash(vector.key),
                vector.fnv1a_64,
                "{vector:x?}"
            );
            assert_eq!(
                Routing::Fnv1a32.hash(vector.key),
                u64::from(vector.fnv1a_32),
                "{vector:x?}"
            );
            assert_eq!(
                Routing::Xxh3.hash(vector.key),
                vector.xxh3_64,
                "{vector:x?}"
            );
        }
    }

    /// H13: the remainder is taken of an unsigned number.
    #[test]
    fn a_hash_with_the_top_bit_set_goes_to_the_shard_of_its_unsigned_remainder() {
        let thousand = NonZeroU16::new(1_000).unwrap();
        let user = &TEST_VECTORS[3];
        assert!(user.fnv1a_64 > u64::MAX / 2 && user.fnv1a_32 > u32::MAX / 2);
        // 0xf84b_a2aa_754a_4bd4 = 17891572797655370708, 0xf553_7974 = 4115888500.
        assert_eq!(
            Routing::Fnv1a64.shard_of(user.key, thousand),
            ShardId::new(708)
        );
        assert_eq!(
            Routing::Fnv1a32.shard_of(user.key, thousand),
            ShardId::new(500)
        );
        for routing in [Routing::Fnv1a64, Routing::Fnv1a32, Routing::Xxh3] {
            let hashes = TEST_VECTORS.iter().map(|vector| routing.hash(vector.key));
            let top = if routing == Routing::Fnv1a32 { 31 } else { 63 };
            assert!(hashes.into_iter().any(|hash| hash >> top == 1), "{routing}");
        }
    }

    #[test]
    fn every_shard_is_within_range_up_to_the_largest_count() {
        for vector in TEST_VECTORS {
            for shards in [1, 2, 255, 65_535] {
                let shards = NonZeroU16::new(shards).unwrap();
                for routing in [Routing::Fnv1a64, Routing::Fnv1a32, Routing::Xxh3] {
                    assert!(routing.shard_of(vector.key, shards).get() < shards.get());
                }
            }
        }
    }
}
