//! Plans in the dense layout: one part a member, cut anew as a whole (rule S11).

use super::reign::{Draft, Planned, Wake};
use super::scene::{Entry, Presence, Scene, Standing};
use super::{Handoff, Summary};
use crate::document::{Document, Layout, Life, MemberIndex, Slot};
use crate::numbers::{Epoch, FencingToken};

/// The next document, if the cut in force is not the wanted one.
pub(super) fn draft(scene: &Scene<'_>, planned: &mut Planned, wake: &mut Wake) -> Option<Draft> {
    let (now, config) = (scene.look.now, scene.look.config);
    let present = takers(scene, &scene.entries);
    let Some(current) = scene.look.document else {
        planned.accept(now, scene.entries.clone());
        let first = Document::new(FencingToken::default(), Layout::Dense, config.routing);
        return (!present.is_empty()).then(|| cut(&first, &present, Vec::new()));
    };
    if current.is_stable() {
        let wanted = takers(scene, &planned.settle(scene, wake));
        if is_cut_for(current, &wanted) {
            return None;
        }
        if config.handoff == Handoff::Immediate {
            return Some(cut(current, &wanted, gone(scene, current)));
        }
    }
    if held(scene, current) {
        return Some(barrier(scene, current));
    }
    // Who joined during the barrier counts, too.
    planned.accept(now, scene.entries.clone());
    Some(cut(current, &present, gone(scene, current)))
}

/// Who gets a part, in order: who lives and takes any. A flapping member gets no new one (S7).
fn takers(scene: &Scene<'_>, entries: &[Entry]) -> Vec<Entry> {
    let current = scene.look.document;
    let has = |entry: &Entry| {
        let index = current.and_then(|document| document.index_of(&entry.life));
        index.is_some_and(|index| {
            let slots = current.into_iter().flat_map(|document| &document.slots);
            slots.into_iter().any(|slot| slot.owner() == Some(index))
        })
    };
    let takes = |entry: &&Entry| {
        let part = match entry.presence {
            Presence::Live => entry.receives || has(entry),
            Presence::Spared => has(entry),
            // Parts are not kept for anyone: a cut without its member is no cut.
            Presence::Away => false,
        };
        part && entry.weight > 0
    };
    entries.iter().filter(takes).cloned().collect()
}

fn is_cut_for(document: &Document, wanted: &[Entry]) -> bool {
    let owner = |slot: &Slot| slot.owner().and_then(|index| document.member(index));
    let owners = document.slots.iter().map(owner);
    owners.eq(wanted.iter().map(|entry| Some(&entry.life)))
}

/// Whether anyone may still work on its part of the old cut.
fn held(scene: &Scene<'_>, document: &Document) -> bool {
    document.numbered().any(|(shard, slot)| match slot {
        Slot::Free { .. } => false,
        Slot::Owned { member, .. } => scene.standing(*member) != Standing::Gone,
        Slot::Revoking { member, since, .. } => {
            scene.standing(*member) != Standing::Gone && !scene.acked(shard, *member, *since)
        }
    })
}

/// The owners that a swap may count as ended.
fn gone(scene: &Scene<'_>, document: &Document) -> Vec<Life> {
    let owners = document.slots.iter().filter_map(Slot::owner);
    let gone = owners.filter(|member| scene.standing(*member) == Standing::Gone);
    gone.filter_map(|member| document.member(member).cloned())
        .collect()
}

/// The whole new cut.
fn cut(current: &Document, members: &[Entry], ended: Vec<Life>) -> Draft {
    let slot = |member| Slot::Owned {
        member,
        token: Epoch::default(),
    };
    let slots: Vec<_> = (0..=MemberIndex::MAX)
        .map(slot)
        .take(members.len())
        .collect();
    Draft {
        summary: Summary {
            granted: slots.len(),
            revoked: 0,
            freed: current.slots.len().saturating_sub(slots.len()),
        },
        document: Document {
            members: members.iter().map(|entry| entry.life.clone()).collect(),
            slots,
            ..current.clone()
        },
        ended,
        gathering: false,
    }
}

/// The old cut, being given back: everyone who still works on a part is told to drain it.
fn barrier(scene: &Scene<'_>, current: &Document) -> Draft {
    let mut document = current.clone();
    let mut summary = Summary::default();
    let mut ended = Vec::new();
    for slot in &mut document.slots {
        let Some(member) = slot.owner() else { continue };
        match (&slot, scene.standing(member)) {
            (Slot::Owned { token, .. }, Standing::Live) => {
                summary.revoked += 1;
                *slot = Slot::Revoking {
                    member,
                    token: *token,
                    since: Epoch::default(),
                    next: None,
                };
            }
            (Slot::Owned { .. }, Standing::Gone) => {
                summary.freed += 1;
                ended.extend(current.member(member).cloned());
                *slot = Slot::Free { reserved: None };
            }
            // Acked, gone or not: passed on with the others, when all have come so far. One that
            // was put out or is missing will be gone before it could ack.
            (Slot::Free { .. } | Slot::Revoking { .. }, _)
            | (
                Slot::Owned { .. },
                Standing::Evicted | Standing::Spared | Standing::Missing | Standing::Unknown,
            ) => {}
        }
    }
    Draft {
        document,
        ended,
        summary,
        gathering: false,
    }
}
