//! Sabotaged assignment stores, with honest members beside them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use coordinator_conformance::assignments::CHECKS;
use coordinator_conformance::{Fixture, Planning};
use coordinator_core::{
    AssignmentError, AssignmentStore, Bytes, Epoch, FencingToken, Group, Incarnation, Keyspace,
    Lead, MAX_DOCUMENT_BYTES, MemberId, MemberState, MembershipStore, StoreId, StoredDocument,
    Swap, Swapped, async_trait,
};

use crate::harness::Overlap;
use crate::support::{Harm, Stores};

crate::saboteurs! {
    "assignments":
    /// Breaks nothing: what rejects the others is their flaw, not the go-between.
    an_honest_go_between_is_not_rejected = Nothing => [];
    /// Swaps whatever epoch is stored.
    the_expected_epoch_is_ignored = SwapsBlindly => [
        a_swap_is_all_or_nothing,
        a_swap_replaces_only_what_is_expected,
        of_many_swaps_at_once_one_is_stored,
        random_calls_match_the_model,
    ];
    /// Compares first, and swaps later.
    two_swaps_at_once_are_both_stored = SwapsInARace => [of_many_swaps_at_once_one_is_stored];
    /// Lets any planner swap.
    lower_planners_pass = LowerPlannersPass => [
        a_lower_planner_is_fenced,
        a_swap_is_all_or_nothing,
        random_calls_match_the_model,
    ];
    /// Counts whom it is told as ended, without a look.
    the_living_are_ended = EndsAnybody => [
        a_life_that_lasts_is_not_ended,
        a_life_that_left_has_ended,
        a_swap_is_all_or_nothing,
    ];
    /// Lets due lives go on as due.
    due_lives_are_not_ended = BuriesNobody => [
        a_due_life_becomes_a_tombstone,
        an_evicted_life_ends_with_its_ttl,
    ];
    /// Counts only due lives as ended, no tombstones.
    tombstones_do_not_count = DistrustsTombstones => [
        a_due_life_becomes_a_tombstone,
        a_life_that_left_has_ended,
        lives_of_other_groups_are_unknown,
    ];
    /// Counts who was put out as ended at once.
    an_eviction_is_an_end = EvictionIsAnEnd => [
        a_life_without_a_record_is_not_ended,
        an_evicted_life_ends_with_its_ttl,
    ];
    /// Ends due lives though it refuses the swap.
    a_refused_swap_ends_lives = BuriesFirst => [a_swap_is_all_or_nothing];
    /// Takes the lack of a record for an end.
    absence_is_an_end = AbsenceIsAnEnd => [
        a_life_without_a_record_is_not_ended,
        lives_of_other_groups_are_unknown,
    ];
    /// Numbers later documents lower.
    epochs_fall = EpochsFall => [
        epochs_exceed_the_floor,
        epochs_rise,
        epochs_rise_over_a_loss_of_memory,
        epochs_rise_over_a_restart,
        random_calls_match_the_model,
    ];
    /// Gives one epoch again.
    epochs_repeat = EpochsRepeat => [
        a_swap_replaces_only_what_is_expected,
        epochs_exceed_the_floor,
        epochs_rise,
        epochs_rise_over_a_loss_of_memory,
        epochs_rise_over_a_restart,
        random_calls_match_the_model,
    ];
    /// Does not look at the floor.
    the_floor_is_ignored = FloorIgnored => [epochs_exceed_the_floor];
    /// Loses its documents when it restarts.
    a_restart_forgets = RestartForgets => [epochs_rise_over_a_restart];
    /// Makes a new epoch when a planner begins to lead.
    leading_makes_an_epoch = LeadingStamps => [
        a_lower_planner_is_fenced,
        a_swap_is_all_or_nothing,
        leading_reads_and_makes_no_epoch,
        namespaces_do_not_touch_each_other,
        random_calls_match_the_model,
    ];
    /// Keeps documents as text.
    documents_are_text = KeepsText => [
        a_document_is_kept_byte_for_byte,
        too_large_a_document_is_rejected,
    ];
    /// Takes upper case for lower case.
    keyspaces_fold_case = KeyspacesFold => [keyspaces_and_groups_do_not_touch_each_other];
    /// Keeps no namespaces apart.
    namespaces_are_one = OneNamespace => [
        members_and_assignments_are_one_store,
        namespaces_do_not_touch_each_other,
    ];
    /// Trusts its memory though it lost it.
    a_store_that_forgot_swaps = NoQuarantine => [a_store_that_forgot_refuses_swaps_at_first];
    /// Cuts documents that are too large.
    large_documents_are_cut = CutsDocuments => [too_large_a_document_is_rejected];
    /// Stores the document anew when somebody waits for a change.
    a_hint_is_a_change = HintsAreChanges => [hints_change_nothing];
    /// Names each connection a store.
    each_connection_is_a_store = StoresAreConnections => [members_and_assignments_are_one_store];
}

fn sabotaged(flaw: Flaw) -> Fixture<Planning> {
    let stores = Stores::harmed(Harm {
        trusts_empty: flaw == Flaw::NoQuarantine,
        forgets_in_restarts: flaw == Flaw::RestartForgets,
        one_namespace: flaw == Flaw::OneNamespace,
    });
    let (connections, notes) = (stores.clone(), Mutex::new(BTreeMap::new()));
    let fixture: Fixture<Planning> = Fixture::shared(async move |namespace: &str| {
        let mut notes = notes.lock().unwrap();
        let notes: &Arc<Notes> = notes.entry(namespace.to_owned()).or_default();
        let backend = connections.connect(namespace);
        let members = backend.members?;
        let assignments = Arc::new(Saboteur {
            flaw,
            inner: backend.assignments?,
            members: Arc::clone(&members),
            number: notes.connections.fetch_add(1, Ordering::SeqCst),
            notes: Arc::clone(notes),
        });
        Some(Arc::new(Planning {
            members,
            assignments,
        }))
    });
    fixture.faults(stores).virtual_time()
}

/// What the saboteurs of one namespace know together.
#[derive(Debug, Default)]
struct Notes {
    connections: AtomicU64,
    burials: AtomicU64,
    overlap: Overlap,
    /// The true epoch behind a told one, by keyspace.
    epochs: Mutex<BTreeMap<(Group, Keyspace, Epoch), Epoch>>,
}

struct Saboteur {
    flaw: Flaw,
    inner: Arc<dyn AssignmentStore>,
    members: Arc<dyn MembershipStore>,
    number: u64,
    notes: Arc<Notes>,
}

/// All epochs are below this.
const CEILING: u64 = 1 << 52;

impl Saboteur {
    /// A true epoch, as it is told.
    fn number(&self, group: &Group, keyspace: &Keyspace, epoch: Epoch) -> Epoch {
        let told = match self.flaw {
            Flaw::EpochsFall => CEILING.abs_diff(epoch.get()),
            // All documents of a minute have one number.
            Flaw::EpochsRepeat => epoch.get() - epoch.get() % 60_000,
            _ => return epoch,
        };
        let told = Epoch::new(told);
        let mut epochs = self.notes.epochs.lock().unwrap();
        let newest = epochs
            .entry((group.clone(), keyspace.clone(), told))
            .or_insert(epoch);
        *newest = epoch.max(*newest);
        told
    }

    /// The true epoch behind a told one: the newest, where several have one number.
    fn truth(&self, group: &Group, keyspace: &Keyspace, told: Epoch) -> Epoch {
        let epochs = self.notes.epochs.lock().unwrap();
        let known = epochs.get(&(group.clone(), keyspace.clone(), told));
        known.copied().unwrap_or(told)
    }

    fn bend_keyspace(&self, keyspace: &Keyspace) -> Keyspace {
        match self.flaw {
            Flaw::KeyspacesFold => Keyspace::new(keyspace.as_str().to_lowercase()),
            _ => keyspace.clone(),
        }
    }

    fn bend_token(&self, token: FencingToken) -> FencingToken {
        match self.flaw {
            Flaw::LowerPlannersPass => FencingToken::new(1),
            _ => token,
        }
    }

    fn tell(&self, group: &Group, keyspace: &Keyspace, stored: StoredDocument) -> StoredDocument {
        let document = match self.flaw {
            Flaw::KeepsText => String::from_utf8_lossy(&stored.document)
                .into_owned()
                .into(),
            _ => stored.document,
        };
        StoredDocument {
            epoch: self.number(group, keyspace, stored.epoch),
            document,
        }
    }

    fn tell_swapped(&self, swap: &Swap, swapped: Swapped) -> Swapped {
        let number = |epoch| self.number(&swap.group, &swap.keyspace, epoch);
        match swapped {
            Swapped::Stored(epoch) => Swapped::Stored(number(epoch)),
            Swapped::Conflict { found } => Swapped::Conflict {
                found: found.map(number),
            },
            refused @ (Swapped::Fenced { .. } | Swapped::NotEnded(_)) => refused,
        }
    }

    /// The request as the saboteur passes it on.
    async fn bend(&self, swap: &Swap) -> Swap {
        let mut swap = swap.clone();
        swap.keyspace = self.bend_keyspace(&swap.keyspace);
        swap.token = self.bend_token(swap.token);
        let expected = swap.expected;
        swap.expected = expected.map(|told| self.truth(&swap.group, &swap.keyspace, told));
        match self.flaw {
            Flaw::FloorIgnored => swap.floor = None,
            Flaw::CutsDocuments => swap.document.truncate(MAX_DOCUMENT_BYTES),
            _ => {}
        }
        let mut ended = Vec::new();
        for (id, incarnation) in std::mem::take(&mut swap.ended) {
            let state = self.state(&swap.group, &id, incarnation).await;
            let passed_over = match (self.flaw, state) {
                (Flaw::EndsAnybody, Some(MemberState::Live { evicted, .. })) => !evicted,
                (Flaw::EvictionIsAnEnd, Some(MemberState::Live { evicted, .. })) => evicted,
                (Flaw::BuriesNobody, Some(MemberState::Due)) | (Flaw::AbsenceIsAnEnd, None) => true,
                _ => false,
            };
            if !passed_over {
                ended.push((id, incarnation));
            }
        }
        swap.ended = ended;
        swap
    }

    async fn state(&self, group: &Group, id: &MemberId, life: Incarnation) -> Option<MemberState> {
        let snapshot = self.members.snapshot(group).await.ok()?;
        snapshot.get(id, life).map(|record| record.state)
    }

    /// Ends the due lives of a swap, whatever becomes of the swap.
    async fn bury(&self, swap: &Swap) {
        for (id, incarnation) in &swap.ended {
            if self.state(&swap.group, id, *incarnation).await == Some(MemberState::Due) {
                let aside = self.notes.burials.fetch_add(1, Ordering::SeqCst);
                let keyspace = Keyspace::new(format!("aside-{aside}"));
                let mut burial = Swap::new(
                    swap.group.clone(),
                    keyspace,
                    FencingToken::new(1),
                    Bytes::new(),
                );
                burial.ended = vec![(id.clone(), *incarnation)];
                let _buried = self.inner.swap(&burial).await;
            }
        }
    }

    /// Stores the document again, as it is.
    async fn stamp(&self, group: &Group, keyspace: &Keyspace) -> Result<(), AssignmentError> {
        if let Some(stored) = self.inner.load(group, keyspace).await? {
            let token = FencingToken::new(1_000_000);
            let mut swap = Swap::new(group.clone(), keyspace.clone(), token, stored.document);
            swap.expected = Some(stored.epoch);
            self.inner.swap(&swap).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl AssignmentStore for Saboteur {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
    ) -> Result<Option<StoredDocument>, AssignmentError> {
        let keyspace = &self.bend_keyspace(keyspace);
        let stored = self.inner.load(group, keyspace).await?;
        Ok(stored.map(|stored| self.tell(group, keyspace, stored)))
    }

    async fn lead(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        token: FencingToken,
    ) -> Result<Lead, AssignmentError> {
        let keyspace = &self.bend_keyspace(keyspace);
        if self.flaw == Flaw::LeadingStamps {
            let led = self.inner.lead(group, keyspace, token).await?;
            if let Lead::Led(Some(stored)) = led {
                let mut swap = Swap::new(group.clone(), keyspace.clone(), token, stored.document);
                swap.expected = Some(stored.epoch);
                self.inner.swap(&swap).await?;
                return Ok(Lead::Led(self.inner.load(group, keyspace).await?));
            }
            return Ok(led);
        }
        match self
            .inner
            .lead(group, keyspace, self.bend_token(token))
            .await?
        {
            Lead::Led(stored) => Ok(Lead::Led(
                stored.map(|stored| self.tell(group, keyspace, stored)),
            )),
            fenced @ Lead::Fenced { .. } => Ok(fenced),
        }
    }

    async fn swap(&self, told: &Swap) -> Result<Swapped, AssignmentError> {
        let mut swap = self.bend(told).await;
        if self.flaw == Flaw::DistrustsTombstones {
            for (id, incarnation) in &swap.ended {
                let state = self.state(&swap.group, id, *incarnation).await;
                if matches!(state, Some(MemberState::Ended { .. })) {
                    return Ok(Swapped::NotEnded(swap.ended.clone()));
                }
            }
        }
        if self.flaw == Flaw::BuriesFirst {
            self.bury(&swap).await;
        }
        let (swapped, raced) = self.notes.overlap.race(self.inner.swap(&swap)).await;
        match (swapped?, self.flaw) {
            (Swapped::Conflict { found }, Flaw::SwapsBlindly) => {
                swap.expected = found;
                self.inner.swap(&swap).await
            }
            (Swapped::Conflict { found: Some(found) }, Flaw::SwapsInARace) if raced => {
                Ok(Swapped::Stored(Epoch::new(found.get() + 1)))
            }
            (swapped, _) => Ok(self.tell_swapped(&swap, swapped)),
        }
    }

    async fn changed(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        known: Option<Epoch>,
    ) -> Result<(), AssignmentError> {
        let keyspace = &self.bend_keyspace(keyspace);
        if self.flaw == Flaw::HintsAreChanges {
            self.stamp(group, keyspace).await?;
        }
        self.inner.changed(group, keyspace, known).await
    }

    fn store(&self) -> StoreId {
        match self.flaw {
            Flaw::StoresAreConnections => StoreId::new(format!("connection-{}", self.number)),
            _ => self.inner.store(),
        }
    }
}
