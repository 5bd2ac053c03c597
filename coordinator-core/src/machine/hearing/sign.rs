//! What a member tells the others of itself, and how it is written.
//!
//! Form 1, behind the header of version and oldest reader, in the order of the fields:
//!
//! ```text
//! kind (1 byte: 0 a beat, 1 a goodbye) · group · id · instance (16 bytes) · beat · age in µs
//! a beat goes on: ttl in µs · asks · fixed · weight · format · whether there is a zone, and it
//!                 how many pairs of metadata, and they · how many keyspaces, and they
//! ```
//!
//! Pairs and keyspaces are written in rising order, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::member::{MAX_METADATA_BYTES, Profile};
use crate::names::{Group, Keyspace, MAX_NAME_BYTES, MemberId};
use crate::numbers::Instance;
use crate::trust::{MAX_TTL, MIN_TTL};
use crate::wire::{Reader, WireError, Writer};

/// The version of [`Sign`]s that this build writes, and the newest that it fully reads.
const FORM: u8 = 1;
/// The oldest version whose readers understand what this build writes.
const OLDEST_READER: u8 = 1;

const BEAT: u8 = 0;
const GOODBYE: u8 = 1;

/// The most keyspaces that a sign can name.
const MAX_KEYSPACES: usize = 4_096;

/// One sign of life, or the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sign {
    /// The fleet.
    pub group: Group,
    /// Who speaks.
    pub id: MemberId,
    /// Which start of that process.
    pub instance: Instance,
    /// The number of the sign, from 1. An older one that comes late says nothing new.
    pub beat: u64,
    /// For how long the instance has run, by its own clock: so that of two starts of one name the
    /// newer is known, and no clock is compared with another.
    pub age: Duration,
    /// What is said.
    pub word: Word,
}

/// What a sign says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// "I live."
    Beat(Beat),
    /// "I leave, and shall not be missed."
    Goodbye,
}

/// What a member tells of itself with every beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// How long it may be silent before it counts as gone.
    pub ttl: Duration,
    /// It is new here: whoever hears it should beat soon.
    pub asks: bool,
    /// Whether the name is static.
    pub fixed: bool,
    /// What it tells about itself.
    pub profile: Profile,
}

impl Sign {
    /// The form that travels.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Writer::new(FORM, OLDEST_READER);
        out.byte(match self.word {
            Word::Beat(_) => BEAT,
            Word::Goodbye => GOODBYE,
        });
        out.text(self.group.as_str());
        out.text(self.id.as_str());
        out.instance(self.instance);
        out.number(self.beat);
        out.span(self.age);
        if let Word::Beat(beat) = &self.word {
            beat.write(&mut out);
        }
        out.finish()
    }

    /// Reads what came by the topic of this group.
    ///
    /// # Errors
    /// On any bytes that no version writes which this build understands, and on a sign of another
    /// group. Never panics, and allocates in proportion to the input.
    pub fn from_bytes(bytes: &[u8], group: &Group) -> Result<Self, WireError> {
        let mut input = Reader::open(bytes, FORM)?;
        let kind = input.byte("kind")?;
        if input.text("group", 1..=MAX_NAME_BYTES)? != group.as_str() {
            return Err(WireError::Foreign { field: "group" });
        }
        let id = MemberId::from(input.text("id", 1..=MAX_NAME_BYTES)?);
        let instance = input.instance("instance")?;
        let beat = input.number("beat", u64::MAX)?;
        let age = input.span("age")?;
        let word = match kind {
            BEAT => Word::Beat(Beat::read(&mut input)?),
            GOODBYE => Word::Goodbye,
            _ => return Err(WireError::Malformed { field: "kind" }),
        };
        input.close()?;
        Ok(Self {
            group: group.clone(),
            id,
            instance,
            beat,
            age,
            word,
        })
    }
}

impl Beat {
    fn write(&self, out: &mut Writer) {
        out.span(self.ttl);
        out.flag(self.asks);
        out.flag(self.fixed);
        out.number(self.profile.weight.into());
        out.number(self.profile.format.into());
        out.flag(self.profile.zone.is_some());
        if let Some(zone) = &self.profile.zone {
            out.text(zone);
        }
        out.count(self.profile.metadata.len());
        for (key, value) in &self.profile.metadata {
            out.text(key);
            out.text(value);
        }
        out.count(self.profile.keyspaces.len());
        for keyspace in &self.profile.keyspaces {
            out.text(keyspace.as_str());
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let ttl = input.span("ttl")?;
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(WireError::Malformed { field: "ttl" });
        }
        let (asks, fixed) = (input.flag("asks")?, input.flag("fixed")?);
        let weight = narrow(input.number("weight", u32::MAX.into())?, "weight")?;
        let format = narrow(input.number("format", u16::MAX.into())?, "format")?;
        let zone = if input.flag("zone")? {
            Some(input.text("zone", 0..=MAX_METADATA_BYTES)?.to_owned())
        } else {
            None
        };
        Ok(Self {
            ttl,
            asks,
            fixed,
            profile: Profile {
                metadata: metadata(input)?,
                zone,
                weight,
                keyspaces: keyspaces(input)?,
                format,
            },
        })
    }
}

fn narrow<T: TryFrom<u64>>(number: u64, field: &'static str) -> Result<T, WireError> {
    T::try_from(number).map_err(|_| WireError::Malformed { field })
}

fn metadata(input: &mut Reader<'_>) -> Result<BTreeMap<String, String>, WireError> {
    const FIELD: &str = "metadata";
    let mut left = MAX_METADATA_BYTES;
    let mut metadata: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..input.count(FIELD, MAX_METADATA_BYTES)? {
        let key = input.text(FIELD, 0..=left)?;
        left -= key.len();
        let value = input.text(FIELD, 0..=left)?;
        left -= value.len();
        let rising = metadata
            .last_key_value()
            .is_none_or(|(last, _)| last.as_str() < key);
        if !rising {
            return Err(WireError::Malformed { field: FIELD });
        }
        metadata.insert(key.to_owned(), value.to_owned());
    }
    Ok(metadata)
}

fn keyspaces(input: &mut Reader<'_>) -> Result<BTreeSet<Keyspace>, WireError> {
    const FIELD: &str = "keyspaces";
    let mut keyspaces: BTreeSet<Keyspace> = BTreeSet::new();
    for _ in 0..input.count(FIELD, MAX_KEYSPACES)? {
        let name = input.text(FIELD, 1..=MAX_NAME_BYTES)?;
        if keyspaces.last().is_some_and(|last| last.as_str() >= name) {
            return Err(WireError::Malformed { field: FIELD });
        }
        keyspaces.insert(name.into());
    }
    Ok(keyspaces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group() -> Group {
        Group::from("g")
    }

    fn golden() -> Sign {
        let mut profile = Profile::new();
        profile.metadata.insert("http".into(), ":80".into());
        profile.zone = Some("eu".into());
        Sign {
            group: group(),
            id: "a".into(),
            instance: Instance::from_bytes([7; 16]),
            beat: 2,
            age: Duration::from_micros(3),
            word: Word::Beat(Beat {
                ttl: Duration::from_secs(10),
                asks: true,
                fixed: false,
                profile,
            }),
        }
    }

    /// Other builds read and write the same bytes.
    #[test]
    fn the_form_is_what_the_documentation_says() {
        let mut bytes = vec![1, 1, 0];
        bytes.extend(b"\x01g\x01a");
        bytes.extend([7; 16]);
        bytes.extend([2, 3, 0x80, 0xad, 0xe2, 0x04, 1, 0, 1, 1, 1]);
        bytes.extend(b"\x02eu\x01\x04http\x03:80\x00");
        assert_eq!(golden().to_bytes(), bytes);
        assert_eq!(Sign::from_bytes(&bytes, &group()), Ok(golden()));
    }

    /// Two builds in one fleet: the later one appends a field.
    #[test]
    fn what_a_later_version_appends_is_skipped() {
        let mut bytes = golden().to_bytes().to_vec();
        bytes.extend(b"news");
        let trailing = Err(WireError::Trailing { count: 4 });
        assert_eq!(Sign::from_bytes(&bytes, &group()), trailing);
        bytes[0] = 2;
        assert_eq!(Sign::from_bytes(&bytes, &group()), Ok(golden()));
        bytes[1] = 2;
        let unknown = WireError::UnknownVersion {
            oldest: 2,
            known: 1,
        };
        assert_eq!(Sign::from_bytes(&bytes, &group()), Err(unknown));
    }

    /// M6.
    #[test]
    fn a_sign_of_another_group_is_foreign() {
        let foreign = Err(WireError::Foreign { field: "group" });
        let bytes = golden().to_bytes();
        assert_eq!(Sign::from_bytes(&bytes, &Group::from("h")), foreign);
    }

    #[test]
    fn what_breaks_a_bound_is_malformed() {
        let refused = |change: fn(&mut Beat)| {
            let mut sign = golden();
            if let Word::Beat(beat) = &mut sign.word {
                change(beat);
            }
            Sign::from_bytes(&sign.to_bytes(), &group())
        };
        let malformed = |field| Err(WireError::Malformed { field });
        assert_eq!(refused(|beat| beat.ttl = Duration::ZERO), malformed("ttl"));
        assert_eq!(
            refused(|beat| beat.ttl = Duration::from_hours(1)),
            malformed("ttl")
        );
        let much = |beat: &mut Beat| {
            let value = "x".repeat(MAX_METADATA_BYTES);
            beat.profile.metadata.insert("k".into(), value);
        };
        assert_eq!(refused(much), malformed("metadata"));
        let many = |beat: &mut Beat| {
            let names = (0..=MAX_KEYSPACES).map(|at| Keyspace::from(at.to_string()));
            beat.profile.keyspaces = names.collect();
        };
        assert_eq!(refused(many), malformed("keyspaces"));
    }

    prop_compose! {
        fn beats()(
            millis in 200_u64..=30_000,
            (asks, fixed) in any::<(bool, bool)>(),
            (weight, format) in any::<(u32, u16)>(),
            zone in proptest::option::of("\\PC{0,12}"),
            metadata in prop::collection::btree_map("\\PC{0,12}", "\\PC{0,40}", 0..6),
            keyspaces in prop::collection::btree_set("\\PC{1,12}", 0..4),
        ) -> Word {
            let keyspaces = keyspaces.into_iter().map(Keyspace::from).collect();
            let profile = Profile { metadata, zone, weight, keyspaces, format };
            Word::Beat(Beat { ttl: Duration::from_millis(millis), asks, fixed, profile })
        }
    }

    prop_compose! {
        fn signs()(
            id in "\\PC{1,40}",
            instance in any::<[u8; 16]>(),
            (beat, age) in any::<(u64, u64)>(),
            word in prop_oneof![beats(), Just(Word::Goodbye)],
        ) -> Sign {
            Sign {
                group: group(),
                id: id.into(),
                instance: Instance::from_bytes(instance),
                beat,
                age: Duration::from_micros(age),
                word,
            }
        }
    }

    proptest! {
        #[test]
        fn every_sign_comes_back_as_it_was(sign in signs()) {
            prop_assert_eq!(Sign::from_bytes(&sign.to_bytes(), &group()), Ok(sign));
        }

        #[test]
        fn every_prefix_is_refused(sign in signs(), at in any::<prop::sample::Index>()) {
            let bytes = sign.to_bytes();
            let short = &bytes[..at.index(bytes.len())];
            prop_assert!(Sign::from_bytes(short, &group()).is_err());
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(sign) = Sign::from_bytes(&bytes, &group()) {
                prop_assert_eq!(Sign::from_bytes(&sign.to_bytes(), &group()), Ok(sign));
            }
        }

        #[test]
        fn a_sign_with_one_byte_changed_never_panics(
            sign in signs(), at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let mut bytes = sign.to_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(sign) = Sign::from_bytes(&bytes, &group()) {
                prop_assert_eq!(Sign::from_bytes(&sign.to_bytes(), &group()), Ok(sign));
            }
        }
    }
}
