//! One document a keyspace, replaced by compare-and-swap.

use std::collections::BTreeMap;

use coordinator_core::{
    Epoch, FencingToken, Group, Keyspace, Lead, StoredDocument, Swap, Swapped, next_number,
};

use crate::locks::Terms;
use crate::members::Members;
use crate::refusal::{Refusal, numbers_ended};
use crate::time::millis;

/// All documents. One a keyspace, for ever: users name few keyspaces.
#[derive(Debug, Clone, Default)]
pub(crate) struct Assignments {
    rows: BTreeMap<(Group, Keyspace), Row>,
}

#[derive(Debug, Clone, Default)]
struct Row {
    stored: Option<StoredDocument>,
    /// The highest token of a planner that has led or swapped.
    planner: FencingToken,
}

impl Assignments {
    /// Reads the document.
    pub(crate) fn load(&self, group: &Group, keyspace: &Keyspace) -> Option<StoredDocument> {
        let row = self.rows.get(&(group.clone(), keyspace.clone()))?;
        row.stored.clone()
    }

    /// The epoch of the document.
    pub(crate) fn epoch(&self, group: &Group, keyspace: &Keyspace) -> Option<Epoch> {
        let row = self.rows.get(&(group.clone(), keyspace.clone()))?;
        row.stored.as_ref().map(|stored| stored.epoch)
    }

    /// Shuts out planners with a lower token, and reads.
    pub(crate) fn lead(&mut self, group: &Group, keyspace: &Keyspace, token: FencingToken) -> Lead {
        let row = self
            .rows
            .entry((group.clone(), keyspace.clone()))
            .or_default();
        if token < row.planner {
            return Lead::Fenced { by: row.planner };
        }
        row.planner = token;
        Lead::Led(row.stored.clone())
    }

    /// Replaces the document, if all that it rests on still holds; together with the tombstones
    /// of those it counts as ended.
    pub(crate) fn swap(
        &mut self,
        swap: &Swap,
        members: &mut Members,
        terms: Terms,
    ) -> Result<Swapped, Refusal> {
        swap.check().map_err(Refusal::rejected)?;
        if let Some(left) = terms.quarantine {
            return Err(Refusal::Quarantined(left));
        }
        let place = (swap.group.clone(), swap.keyspace.clone());
        let row = self.rows.get(&place).cloned().unwrap_or_default();
        if swap.token < row.planner {
            return Ok(Swapped::Fenced { by: row.planner });
        }
        let found = row.stored.map(|stored| stored.epoch);
        if found != swap.expected {
            return Ok(Swapped::Conflict { found });
        }
        let living = members.not_ended(&swap.group, &swap.ended, terms.now);
        if !living.is_empty() {
            return Ok(Swapped::NotEnded(living));
        }
        let floor = swap.floor.map(Epoch::get);
        let epoch = next_number(found.map(Epoch::get), millis(terms.now), floor);
        let epoch = Epoch::new(epoch.ok_or_else(numbers_ended)?);
        members.bury_due(&swap.group, &swap.ended, terms.now);
        let stored = StoredDocument {
            epoch,
            document: swap.document.clone(),
        };
        self.rows.insert(
            place,
            Row {
                stored: Some(stored),
                planner: swap.token,
            },
        );
        Ok(Swapped::Stored(epoch))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coordinator_core::{
        Bytes, Eviction, Incarnation, Instance, Join, Joined, MAX_DOCUMENT_BYTES, MemberId,
        MemberState, MemoryId,
    };

    use super::*;
    use crate::time::EPOCH;

    fn terms(seconds: u64) -> Terms {
        Terms {
            now: EPOCH + Duration::from_secs(seconds),
            max_ttl: Duration::from_secs(30),
            quarantine: None,
        }
    }

    fn swap(expected: Option<Epoch>, token: u64, text: &'static str) -> Swap {
        let token = FencingToken::new(token);
        let document = Bytes::from_static(text.as_bytes());
        let mut swap = Swap::new("g".into(), "orders".into(), token, document);
        swap.expected = expected;
        swap
    }

    fn store(rows: &mut Assignments, swap: &Swap, seconds: u64) -> Epoch {
        match rows.swap(swap, &mut Members::default(), terms(seconds)) {
            Ok(Swapped::Stored(epoch)) => epoch,
            other => panic!("not stored: {other:?}"),
        }
    }

    fn join(members: &mut Members, name: &str) -> (MemberId, Incarnation) {
        let instance = Instance::from_bytes([1; 16]);
        let ttl = Duration::from_secs(10);
        let join = Join::new("g".into(), name.into(), instance, ttl);
        match members.join(&join, &MemoryId::from("m"), terms(0)).unwrap() {
            Joined::Member { incarnation, .. } => (name.into(), incarnation),
            Joined::Taken(by) => panic!("taken by {by:?}"),
        }
    }

    /// Clauses 1, 3 and 5.
    #[test]
    fn a_swap_replaces_the_document_it_expects_and_no_other() {
        let mut rows = Assignments::default();
        let first = store(&mut rows, &swap(None, 1, "a"), 0);
        let again = rows.swap(&swap(None, 1, "b"), &mut Members::default(), terms(0));
        let conflict = Swapped::Conflict { found: Some(first) };
        assert_eq!(again.unwrap(), conflict);
        let second = store(&mut rows, &swap(Some(first), 1, "b"), 0);
        assert!(second > first);
        let loaded = rows.load(&"g".into(), &"orders".into()).unwrap();
        assert_eq!(
            (loaded.epoch, loaded.document.as_ref()),
            (second, b"b".as_ref())
        );
    }

    /// Clause 4, and 1: an older planner is shut out, whatever it expects.
    #[test]
    fn an_older_planner_neither_leads_nor_swaps() {
        let mut rows = Assignments::default();
        let epoch = store(&mut rows, &swap(None, 1, "a"), 0);
        let (group, keyspace) = ("g".into(), "orders".into());
        let led = rows.lead(&group, &keyspace, FencingToken::new(5));
        assert!(matches!(led, Lead::Led(Some(stored)) if stored.epoch == epoch));
        let by = FencingToken::new(5);
        let late = rows.swap(
            &swap(Some(epoch), 4, "b"),
            &mut Members::default(),
            terms(0),
        );
        assert_eq!(late.unwrap(), Swapped::Fenced { by });
        let late = rows.lead(&group, &keyspace, FencingToken::new(4));
        assert_eq!(late, Lead::Fenced { by });
        store(&mut rows, &swap(Some(epoch), 5, "b"), 0);
    }

    /// Clause 1, S2: `ended` is judged at the moment of the swap, and made to last.
    #[test]
    fn a_swap_counts_only_those_as_ended_who_are_and_makes_tombstones_of_them() {
        let (mut rows, mut members) = (Assignments::default(), Members::default());
        let life = join(&mut members, "a");
        let mut swap = swap(None, 1, "x");
        swap.ended = vec![life.clone()];
        let living = rows.swap(&swap, &mut members, terms(9)).unwrap();
        assert_eq!(living, Swapped::NotEnded(vec![life.clone()]));
        assert_eq!(rows.load(&swap.group, &swap.keyspace), None);
        let stored = rows.swap(&swap, &mut members, terms(10)).unwrap();
        assert!(matches!(stored, Swapped::Stored(_)));
        let snapshot = members.snapshot(&swap.group, terms(10).now);
        let state = snapshot.get(&life.0, life.1).unwrap().state;
        assert!(matches!(state, MemberState::Ended { flaps: 1, .. }));
    }

    /// Clause 2, G7: absence is no end; eviction makes a record that becomes one.
    #[test]
    fn a_life_without_a_record_is_not_ended_until_it_was_evicted_and_max_ttl_has_passed() {
        let (mut rows, mut members) = (Assignments::default(), Members::default());
        let life = join(&mut members, "a");
        let mut swap = swap(None, 1, "x");
        swap.ended = vec![life.clone()];
        assert_eq!(members.erase(&swap.group, &life.0), 1);
        let absent = rows.swap(&swap, &mut members, terms(100)).unwrap();
        assert_eq!(absent, Swapped::NotEnded(vec![life.clone()]));
        let eviction = members.evict(&swap.group, &life.0, life.1, terms(100));
        assert_eq!(eviction, Eviction::Entered);
        let early = rows.swap(&swap, &mut members, terms(129)).unwrap();
        assert_eq!(early, Swapped::NotEnded(vec![life]));
        let stored = rows.swap(&swap, &mut members, terms(130)).unwrap();
        assert!(matches!(stored, Swapped::Stored(_)));
    }

    /// Clause 3, K1: a store that came back empty goes on above the epochs that were seen.
    #[test]
    fn epochs_rise_above_the_floor() {
        let mut rows = Assignments::default();
        let mut first = swap(None, 1, "a");
        first.floor = Some(Epoch::new(millis(EPOCH) + 5000));
        assert_eq!(store(&mut rows, &first, 0).get(), millis(EPOCH) + 5001);
    }

    /// Clauses 7 and 8.
    #[test]
    fn a_swap_is_refused_in_quarantine_and_beyond_the_size_limit() {
        let mut rows = Assignments::default();
        let quarantined = Terms {
            quarantine: Some(Duration::from_secs(3)),
            ..terms(0)
        };
        let answer = rows.swap(&swap(None, 1, "a"), &mut Members::default(), quarantined);
        assert!(matches!(answer, Err(Refusal::Quarantined(_))), "{answer:?}");
        let mut large = swap(None, 1, "a");
        large.document = vec![0; MAX_DOCUMENT_BYTES].into();
        store(&mut rows, &large, 0);
        large.document = vec![0; MAX_DOCUMENT_BYTES + 1].into();
        let answer = rows.swap(&large, &mut Members::default(), terms(0));
        assert!(matches!(answer, Err(Refusal::Rejected(_))), "{answer:?}");
    }

    /// Clause 6.
    #[test]
    fn groups_and_keyspaces_have_documents_of_their_own() {
        let mut rows = Assignments::default();
        store(&mut rows, &swap(None, 1, "a"), 0);
        assert_eq!(rows.load(&"h".into(), &"orders".into()), None);
        assert_eq!(rows.load(&"g".into(), &"mail".into()), None);
    }
}
