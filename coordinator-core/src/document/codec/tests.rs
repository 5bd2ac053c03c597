use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn life(number: u16) -> Life {
    let id = MemberId::new(format!("member-{number}"));
    (id, Incarnation::new(u64::from(number) + 1))
}

const EPOCH: Epoch = Epoch::new(1_000);

/// Any legal slot of a document stored at [`EPOCH`], naming one of `members`.
fn slot(members: u16) -> impl Strategy<Value = Slot> {
    let member = || 0..members;
    prop_oneof![
        option::of(member()).prop_map(|reserved| Slot::Free { reserved }),
        (member(), 1..=1_000_u64).prop_map(|(member, token)| Slot::Owned {
            member,
            token: Epoch::new(token),
        }),
        (member(), 1..500_u64, 500..=1_000_u64, option::of(member())).prop_map(
            |(member, token, since, next)| Slot::Revoking {
                member,
                token: Epoch::new(token),
                since: Epoch::new(since),
                next,
            }
        ),
    ]
}

fn routing() -> impl Strategy<Value = Routing> {
    prop_oneof![
        Just(Routing::Fnv1a64),
        Just(Routing::Fnv1a32),
        Just(Routing::Xxh3)
    ]
}

fn fixed() -> impl Strategy<Value = Document> {
    let parts = (1..20_u16, routing(), 0..NUMBER_LIMIT);
    parts.prop_flat_map(|(members, routing, planner)| {
        vec(slot(members), 1..200).prop_map(move |slots| Document {
            epoch: EPOCH,
            planner: FencingToken::new(planner),
            layout: Layout::Fixed {
                shards: u16::try_from(slots.len()).unwrap(),
            },
            routing,
            members: (0..members).map(life).collect(),
            slots,
        })
    })
}

fn dense() -> impl Strategy<Value = Document> {
    (0..20_u16, routing(), vec(any::<bool>(), 20), 1..500_u64).prop_map(
        |(members, routing, revoked, token)| Document {
            epoch: EPOCH,
            planner: FencingToken::new(7),
            layout: Layout::Dense,
            routing,
            members: (0..members).map(life).collect(),
            slots: (0..members)
                .zip(revoked)
                .map(|(member, revoked)| {
                    let token = Epoch::new(token);
                    if revoked {
                        let (since, next) = (Epoch::new(600), None);
                        Slot::Revoking {
                            member,
                            token,
                            since,
                            next,
                        }
                    } else {
                        Slot::Owned { member, token }
                    }
                })
                .collect(),
        },
    )
}

/// Whatever the bytes, there is an answer; and what is read can be written and read again.
fn survives(bytes: &[u8]) {
    if let Ok(document) = Document::decode(EPOCH, bytes) {
        document.check().unwrap();
        let again = Document::decode(EPOCH, &document.encode().unwrap());
        assert_eq!(again, Ok(document));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(document in prop_oneof![fixed(), dense()]) {
        document.check().unwrap();
        prop_assert_eq!(Document::decode(EPOCH, &document.encode().unwrap()), Ok(document));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        survives(&bytes);
    }

    #[test]
    fn a_damaged_document_is_read_or_refused(
        document in fixed(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = document.encode().unwrap().to_vec();
        *at.get_mut(&mut bytes) = byte;
        survives(&bytes);
    }

    #[test]
    fn a_document_cut_short_is_refused(document in fixed(), at in any::<prop::sample::Index>()) {
        let bytes = document.encode().unwrap();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Document::decode(EPOCH, cut).is_err());
    }

    #[test]
    fn bytes_after_the_end_are_refused(document in fixed(), byte in any::<u8>()) {
        let mut bytes = document.encode().unwrap().to_vec();
        bytes.push(byte);
        prop_assert_eq!(
            Document::decode(EPOCH, &bytes),
            Err(BadDocument::Trailing { bytes: 1 })
        );
    }
}

/// S10: what this swap writes as zero is read as its epoch.
#[test]
fn zero_is_read_as_the_epoch_of_the_swap() {
    let mut document = Document::new(
        FencingToken::new(7),
        Layout::Fixed { shards: 2 },
        Routing::Fnv1a64,
    );
    document.members = vec![life(0)];
    let token = Epoch::new(0);
    document.slots[0] = Slot::Owned { member: 0, token };
    document.slots[1] = Slot::Revoking {
        member: 0,
        token: Epoch::new(9),
        since: token,
        next: None,
    };
    let read = Document::decode(EPOCH, &document.encode().unwrap()).unwrap();
    assert_eq!(read, document.stamped(EPOCH));
    assert_eq!(read.slots[0].token(), Some(EPOCH));
}

/// S10.
#[test]
fn an_unknown_format_is_refused_by_its_number() {
    let document = Document::new(FencingToken::new(7), Layout::Dense, Routing::Xxh3);
    let mut bytes = document.encode().unwrap().to_vec();
    bytes[0] = 2;
    let error = Document::decode(EPOCH, &bytes).unwrap_err();
    assert_eq!(error, BadDocument::Format { found: 2 });
    assert_eq!(
        error.to_string(),
        "the document is in format 2, this program knows 1 to 1"
    );
    assert_eq!(document.encode_in(0), Err(BadDocument::Format { found: 0 }));
}

fn largest(name: impl Fn(u16) -> String) -> Document {
    let mut document = Document::new(
        FencingToken::new(NUMBER_LIMIT - 1),
        Layout::Fixed { shards: u16::MAX },
        Routing::Fnv1a64,
    );
    let incarnation = Incarnation::new(NUMBER_LIMIT - 1);
    document.epoch = Epoch::new(NUMBER_LIMIT - 1);
    document.members = (0..4_096)
        .map(|number| (name(number).into(), incarnation))
        .collect();
    document.slots = (0..u16::MAX)
        .map(|shard| Slot::Revoking {
            member: shard % 4_096,
            token: Epoch::new(1_700_000_000_000 + u64::from(shard % 1_000) * 60_000),
            since: Epoch::new(1_800_000_000_000),
            next: Some((shard + 1) % 4_096),
        })
        .collect();
    document
}

/// S10: the most shards and members, all of them in handoff, granted over a thousand epochs.
#[test]
fn the_largest_keyspace_fits_the_store() {
    let document = largest(|number| format!("member-c56a4180-65aa-42ec-a945-5fd21dec{number:04x}"));
    let bytes = document.encode().unwrap();
    assert!(bytes.len() <= MAX_DOCUMENT_BYTES, "{}", bytes.len());
    assert_eq!(Document::decode(document.epoch, &bytes), Ok(document));
}

/// S10.
#[test]
fn a_document_that_does_not_fit_the_store_is_refused_with_both_sizes() {
    let document = largest(|number| format!("{number:0>512}"));
    let Err(BadDocument::TooLarge { bytes }) = document.encode() else {
        panic!("it was written");
    };
    assert!(bytes > MAX_DOCUMENT_BYTES);
    let long = vec![1; MAX_DOCUMENT_BYTES + 1];
    assert_eq!(
        Document::decode(EPOCH, &long),
        Err(BadDocument::TooLarge { bytes: long.len() })
    );
}

#[test]
fn a_steady_keyspace_costs_little_more_than_two_bytes_a_shard() {
    let mut document = largest(|number| number.to_string());
    for (at, slot) in (0..u16::MAX).zip(&mut document.slots) {
        let token = Epoch::new(1_700_000_000_000);
        *slot = Slot::Owned {
            member: at % 8,
            token,
        };
    }
    document.members.truncate(8);
    assert!(document.encode().unwrap().len() < 2 * 65_535 + 200);
}
