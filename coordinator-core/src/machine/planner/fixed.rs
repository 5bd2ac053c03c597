//! Plans in the fixed layout: every shard on its own.

use super::Summary;
use super::reign::Draft;
use super::scene::{Entry, Presence, Scene, Standing};
use crate::document::{Document, Layout, Life, MemberIndex, Slot};
use crate::numbers::{Epoch, FencingToken, ShardId};
use crate::strategy::{Candidate, Question, Strategy};

/// What the store puts its epoch for.
const THIS_SWAP: Epoch = Epoch::new(0);

/// The next document, if anyone is there to be reckoned with.
///
/// `remembered` is the sticky start where the store has no document: after it lost its memory (G4).
pub(super) fn draft(
    scene: &Scene<'_>,
    entries: &[Entry],
    strategy: &dyn Strategy,
    shards: u16,
    remembered: Option<&Document>,
) -> Option<Draft> {
    let fresh;
    let current = match scene.look.document {
        Some(document) => document,
        None if entries.is_empty() => return None,
        None => {
            let (layout, routing) = (Layout::Fixed { shards }, scene.look.config.routing);
            fresh = Document::new(FencingToken::default(), layout, routing);
            &fresh
        }
    };
    let start = match scene.look.document {
        Some(document) => document,
        None => remembered.unwrap_or(current),
    };
    let target = target(&Places::new(start, entries), start, entries, strategy);
    let mut pen = Pen::new(scene, current, entries);
    for ((shard, slot), target) in current.numbered().zip(target) {
        pen.write(shard, slot, target);
    }
    Some(pen.finish(current))
}

/// Where the lives of a document's table stand among the entries.
struct Places {
    /// The entry of the same *name*: whoever comes back gets its own again (S8).
    by_name: Vec<Option<MemberIndex>>,
}

impl Places {
    fn new(document: &Document, entries: &[Entry]) -> Self {
        let find = |life: &Life| {
            let at = entries
                .binary_search_by(|entry| entry.life.0.cmp(&life.0))
                .ok()?;
            MemberIndex::try_from(at).ok()
        };
        Self {
            by_name: document.members.iter().map(find).collect(),
        }
    }

    fn of(&self, member: Option<MemberIndex>) -> Option<MemberIndex> {
        self.by_name.get(usize::from(member?)).copied().flatten()
    }
}

/// Which entry should own each shard.
fn target(
    places: &Places,
    document: &Document,
    entries: &[Entry],
    strategy: &dyn Strategy,
) -> Vec<Option<MemberIndex>> {
    let held: Vec<_> = document
        .slots
        .iter()
        .map(|slot| match slot {
            Slot::Free { reserved } => places.of(*reserved),
            Slot::Owned { member, .. } => places.of(Some(*member)),
            // Its owner loses it, whatever happens: it is as good as the next one's.
            Slot::Revoking { next, .. } => places.of(*next),
        })
        .collect();
    let candidates: Vec<_> = entries.iter().map(Entry::candidate).collect();
    let mut target = strategy.target(&Question::new(&candidates, &held));
    // Strategies are user code: the answer is taken only as far as it makes sense.
    target.resize(held.len(), None);
    for (target, held) in target.iter_mut().zip(held) {
        let entry = target.and_then(|at| entries.get(usize::from(at)));
        if !entry.is_some_and(|entry| entry.receives || *target == held) {
            *target = None;
        }
    }
    target
}

impl Entry {
    fn candidate(&self) -> Candidate<'_> {
        let mut candidate = Candidate::new(self.life.0.as_str()).weight(self.weight);
        candidate.zone = self.zone.as_deref();
        candidate.receives = self.receives;
        candidate
    }
}

/// Who is written into the new table.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// A life of the old table.
    Old(MemberIndex),
    /// An entry that is not in it.
    New(MemberIndex),
}

/// Writes the new document, slot by slot.
struct Pen<'a> {
    scene: &'a Scene<'a>,
    entries: &'a [Entry],
    old_members: &'a [Life],
    /// The place of each entry's own life in the old table.
    old_places: Vec<Option<MemberIndex>>,
    /// Where the lives of the old table, and the entries, are in the new one.
    old_written: Vec<Option<MemberIndex>>,
    new_written: Vec<Option<MemberIndex>>,
    members: Vec<Life>,
    slots: Vec<Slot>,
    ended: Vec<bool>,
    summary: Summary,
    /// Whether a change is due to something else than an ack.
    urgent: bool,
    /// Whether an ack is still awaited.
    awaiting: bool,
}

impl<'a> Pen<'a> {
    fn new(scene: &'a Scene<'a>, document: &'a Document, entries: &'a [Entry]) -> Self {
        let mut old_places = vec![None; entries.len()];
        let places = Places::new(document, entries);
        for (old, life) in (0..=MemberIndex::MAX).zip(&document.members) {
            if let Some(entry) = places.of(Some(old))
                && entries[usize::from(entry)].life == *life
            {
                old_places[usize::from(entry)] = Some(old);
            }
        }
        Self {
            scene,
            entries,
            old_members: &document.members,
            old_places,
            old_written: vec![None; document.members.len()],
            new_written: vec![None; entries.len()],
            members: Vec::new(),
            slots: Vec::with_capacity(document.slots.len()),
            ended: vec![false; document.members.len()],
            summary: Summary::default(),
            urgent: false,
            awaiting: false,
        }
    }

    /// The table of legal transitions, as far as this planner uses it.
    fn write(&mut self, shard: ShardId, slot: &Slot, target: Option<MemberIndex>) {
        let next = match *slot {
            Slot::Free { .. } => self.hand_over(slot, target),
            Slot::Owned { member, token } => match self.scene.standing(member) {
                Standing::Live if self.is(target, member) => self.keep(member, token),
                Standing::Live => {
                    self.summary.revoked += 1;
                    self.urgent = true;
                    self.revoke(member, token, THIS_SWAP, target)
                }
                Standing::Gone => self.bury(member, slot, target),
                // It hears no more: it will be gone before it could ack.
                Standing::Evicted | Standing::Spared | Standing::Missing | Standing::Unknown => {
                    self.keep(member, token)
                }
            },
            Slot::Revoking {
                member,
                token,
                since,
                next: _,
            } => match self.scene.standing(member) {
                Standing::Live if self.scene.acked(shard, member, since) => {
                    self.hand_over(slot, target)
                }
                Standing::Gone => self.bury(member, slot, target),
                Standing::Live
                | Standing::Evicted
                | Standing::Spared
                | Standing::Missing
                | Standing::Unknown => {
                    self.awaiting = true;
                    self.revoke(member, token, since, target)
                }
            },
        };
        self.slots.push(next);
    }

    fn keep(&mut self, member: MemberIndex, token: Epoch) -> Slot {
        Slot::Owned {
            member: self.index(Who::Old(member)),
            token,
        }
    }

    fn revoke(
        &mut self,
        member: MemberIndex,
        token: Epoch,
        since: Epoch,
        target: Option<MemberIndex>,
    ) -> Slot {
        Slot::Revoking {
            member: self.index(Who::Old(member)),
            token,
            since,
            next: target.map(|entry| self.entry_index(entry)),
        }
    }

    /// The owner has ended: the swap says so, and the store makes sure of it.
    fn bury(&mut self, member: MemberIndex, slot: &Slot, target: Option<MemberIndex>) -> Slot {
        if let Some(ended) = self.ended.get_mut(usize::from(member)) {
            *ended = true;
        }
        self.urgent = true;
        self.hand_over(slot, target)
    }

    /// Nobody works on the shard any more, or not yet.
    fn hand_over(&mut self, from: &Slot, target: Option<MemberIndex>) -> Slot {
        let presence = target.map(|entry| self.entries[usize::from(entry)].presence);
        let to = match (target, presence) {
            (Some(entry), Some(Presence::Live)) => Slot::Owned {
                member: self.entry_index(entry),
                token: THIS_SWAP,
            },
            (Some(entry), Some(Presence::Away)) => Slot::Free {
                reserved: Some(self.entry_index(entry)),
            },
            (Some(_), Some(Presence::Spared) | None) | (None, _) => Slot::Free { reserved: None },
        };
        match (from, &to) {
            (_, Slot::Owned { .. }) => {
                self.summary.granted += 1;
                self.urgent |= matches!(from, Slot::Free { .. });
            }
            (Slot::Free { .. }, Slot::Free { .. } | Slot::Revoking { .. }) => {}
            (Slot::Owned { .. } | Slot::Revoking { .. }, _) => self.summary.freed += 1,
        }
        to
    }

    /// Whether a target is that very life.
    fn is(&self, target: Option<MemberIndex>, member: MemberIndex) -> bool {
        target.is_some_and(|entry| self.old_places[usize::from(entry)] == Some(member))
    }

    fn entry_index(&mut self, entry: MemberIndex) -> MemberIndex {
        let old = self.old_places[usize::from(entry)];
        self.index(old.map_or(Who::New(entry), Who::Old))
    }

    /// The place of a life in the new table. Only who is named gets one.
    fn index(&mut self, who: Who) -> MemberIndex {
        let (written, life) = match who {
            Who::Old(at) => {
                let at = usize::from(at);
                (&mut self.old_written[at], &self.old_members[at])
            }
            Who::New(at) => {
                let at = usize::from(at);
                (&mut self.new_written[at], &self.entries[at].life)
            }
        };
        *written.get_or_insert_with(|| {
            self.members.push(life.clone());
            // Longer tables do not fit a document, which the encoder refuses to write.
            MemberIndex::try_from(self.members.len() - 1).unwrap_or(MemberIndex::MAX)
        })
    }

    fn finish(self, current: &Document) -> Draft {
        let lives = self.old_members.iter().zip(self.ended);
        Draft {
            document: Document {
                members: self.members,
                slots: self.slots,
                ..current.clone()
            },
            ended: lives
                .filter(|(_, ended)| *ended)
                .map(|(life, _)| life.clone())
                .collect(),
            gathering: self.awaiting && !self.urgent,
            summary: self.summary,
        }
    }
}
