//! Sabotaged lock backends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_conformance::Fixture;
use coordinator_conformance::lock::CHECKS;
use coordinator_core::trust::{MAX_TTL, MIN_TTL};
use coordinator_core::{
    Acquisition, Claim, ClaimId, FencingToken, Holder, Key, LockBackend, LockCapabilities,
    LockError, MemberId, Release, Renewal, StoreId, async_trait,
};
use tokio::time::{Instant, sleep};

use crate::harness::Overlap;
use crate::support::{Harm, Stores};

crate::saboteurs! {
    "lock":
    /// Breaks nothing: what rejects the others is their flaw, not the go-between.
    an_honest_go_between_is_not_rejected = Nothing => [];
    /// Looks whether the key is free first, and takes it later.
    two_claims_at_once_both_win = GrantsInARace => [of_many_claims_at_once_one_is_granted];
    /// Takes a second claim of the holder for the first one.
    a_holder_gets_a_second_grant = OwnClaimsAreOne => [
        a_rival_is_refused_and_told_who_holds,
        random_calls_match_the_model,
        tokens_rise_over_expiry,
    ];
    /// Grants a held key to whoever asks for it.
    a_held_key_is_granted_again = TwoHolders => [
        a_grant_lasts_its_whole_ttl,
        a_holder_registers_again_after_a_loss_of_memory,
        a_lease_is_said_to_last_no_longer_than_its_ttl,
        a_renewal_lasts_a_whole_ttl,
        a_new_process_under_an_old_name_claims_anew,
        a_rival_is_refused_and_told_who_holds,
        a_stale_token_releases_nothing,
        a_superseded_grant_is_not_renewed,
        acquire_waits_for_no_holder,
        keys_do_not_touch_each_other,
        of_many_claims_at_once_one_is_granted,
        random_calls_match_the_model,
        tokens_rise_over_a_restart,
        tokens_rise_over_expiry,
    ];
    /// Lets a grant end before its TTL.
    grants_end_early = EndsEarly => [
        a_grant_lasts_its_whole_ttl,
        a_ttl_out_of_bounds_is_rejected,
        asking_again_prolongs_nothing,
        random_calls_match_the_model,
    ];
    /// Prolongs by less than a TTL.
    renewals_end_early = RenewsForLess => [
        a_renewal_lasts_a_whole_ttl,
        random_calls_match_the_model,
    ];
    /// Lets every lease last as long as any may.
    the_ttl_is_ignored = TtlIgnored => [
        a_lease_is_said_to_last_no_longer_than_its_ttl,
        a_release_after_a_loss_is_answered,
        a_silent_holder_loses_its_lease,
        a_stale_token_releases_nothing,
        a_superseded_grant_is_not_renewed,
        an_expired_grant_is_not_renewed,
        asking_again_prolongs_nothing,
        random_calls_match_the_model,
        the_holder_is_told_truly,
        tokens_rise_over_expiry,
    ];
    /// Gives the token of a released grant again.
    tokens_repeat_after_a_release = RepeatsAfterRelease => [
        a_floor_from_far_ahead_is_ignored,
        a_holder_registers_again_after_a_loss_of_memory,
        a_lease_is_not_kept_for_long,
        a_lease_kept_for_a_successor_is_its,
        a_released_claim_is_never_granted_again,
        a_new_process_under_an_old_name_claims_anew,
        random_calls_match_the_model,
        tokens_exceed_the_floor,
        tokens_rise_over_a_loss_of_memory,
        tokens_rise_over_a_restart,
        tokens_rise_over_releases,
    ];
    /// Gives the token of an expired grant again.
    tokens_repeat_after_an_expiry = RepeatsAfterExpiry => [
        a_stale_token_releases_nothing,
        an_expired_grant_is_not_renewed,
        random_calls_match_the_model,
        tokens_rise_over_expiry,
    ];
    /// Gives the token of a forgotten grant again.
    tokens_repeat_after_a_loss = RepeatsAfterLoss => [
        a_holder_registers_again_after_a_loss_of_memory,
        tokens_rise_over_a_loss_of_memory,
        tokens_rise_over_lost_writes,
    ];
    /// Does not look at the floor.
    the_floor_is_ignored = FloorIgnored => [tokens_exceed_the_floor];
    /// Believes any floor.
    any_floor_is_believed = FloorBelieved => [a_floor_from_far_ahead_is_ignored];
    /// Loses its leases when it restarts.
    a_restart_forgets = RestartForgets => [tokens_rise_over_a_restart];
    /// Grants anew when it is asked again.
    a_retry_is_a_second_grant = RetryIsNew => [
        asking_again_is_the_same_grant,
        asking_again_prolongs_nothing,
        random_calls_match_the_model,
    ];
    /// Prolongs the grant when it is asked again.
    a_retry_prolongs = RetryProlongs => [asking_again_prolongs_nothing];
    /// Grants a claim again that was released.
    a_released_claim_comes_back = ReleasedComesBack => [
        a_released_claim_is_never_granted_again,
        random_calls_match_the_model,
    ];
    /// Knows a claim by owner and number, not by instance.
    a_restart_is_taken_for_a_retry = ForgetsInstance => [
        a_new_process_under_an_old_name_claims_anew,
        random_calls_match_the_model,
    ];
    /// Leaves a key behind, locked, when a call is dropped.
    a_dropped_call_strands_the_key = StrandsDropped => [a_dropped_acquire_can_be_withdrawn];
    /// Renews whatever token it is given.
    any_token_renews = RenewsAnyToken => [
        only_the_grant_itself_is_renewed,
        random_calls_match_the_model,
    ];
    /// Revives an expired grant, if nobody has the key.
    a_late_renewal_revives = RenewRevives => [an_expired_grant_is_not_renewed];
    /// Says `Renewed` to who was superseded.
    a_superseded_holder_renews = RenewsSuperseded => [
        a_new_process_under_an_old_name_claims_anew,
        a_superseded_grant_is_not_renewed,
        an_older_holder_does_not_register_over_a_newer,
        only_the_grant_itself_is_renewed,
        random_calls_match_the_model,
    ];
    /// Frees the key, whatever token is given.
    a_stale_release_frees = AnyReleaseFrees => [
        a_stale_token_releases_nothing,
        random_calls_match_the_model,
    ];
    /// Answers only when the holder is done, or nearly.
    a_claim_waits = AcquireWaits => [
        a_grant_lasts_its_whole_ttl,
        a_holder_registers_again_after_a_loss_of_memory,
        a_lease_is_said_to_last_no_longer_than_its_ttl,
        a_renewal_lasts_a_whole_ttl,
        a_new_process_under_an_old_name_claims_anew,
        a_rival_is_refused_and_told_who_holds,
        acquire_waits_for_no_holder,
        keys_do_not_touch_each_other,
        of_many_claims_at_once_one_is_granted,
        tokens_rise_over_a_restart,
    ];
    /// Says `Released`, and keeps the lease.
    a_release_is_lost = LostRelease => [
        a_dropped_acquire_can_be_withdrawn,
        a_floor_from_far_ahead_is_ignored,
        a_holder_registers_again_after_a_loss_of_memory,
        a_lease_is_not_kept_for_long,
        a_lease_kept_for_a_successor_is_its,
        a_release_after_a_loss_is_answered,
        a_release_frees_at_once,
        a_released_claim_is_never_granted_again,
        a_new_process_under_an_old_name_claims_anew,
        a_stale_token_releases_nothing,
        a_waiter_is_woken_by_a_release,
        an_older_holder_does_not_register_over_a_newer,
        hints_grant_nothing,
        keys_do_not_touch_each_other,
        namespaces_do_not_touch_each_other,
        random_calls_match_the_model,
        the_holder_is_told_truly,
        tokens_exceed_the_floor,
        tokens_rise_over_a_restart,
        tokens_rise_over_lost_writes,
        tokens_rise_over_releases,
        waiters_are_served_in_order,
    ];
    /// Refuses a release that comes after a loss.
    a_late_release_is_an_error = LateReleaseFails => [
        a_release_after_a_loss_is_answered,
        a_stale_token_releases_nothing,
        random_calls_match_the_model,
    ];
    /// Keeps a lease from the very member that it is kept for.
    a_successor_is_refused = SuccessorRefused => [a_lease_kept_for_a_successor_is_its];
    /// Keeps a lease for a member that never comes.
    a_lease_is_kept_for_ever = KeptForEver => [a_lease_is_not_kept_for_long];
    /// Tells of holders that there never were.
    a_holder_is_guessed = GuessesHolder => [
        a_cut_client_is_not_answered,
        a_ttl_out_of_bounds_is_rejected,
        namespaces_do_not_touch_each_other,
        only_the_grant_itself_is_renewed,
        random_calls_match_the_model,
        the_holder_is_told_truly,
    ];
    /// Says that leases last longer than they do.
    free_in_is_too_long = FreeInTooLong => [a_lease_is_said_to_last_no_longer_than_its_ttl];
    /// Says that it wakes, and does not.
    nobody_is_woken = NeverWakes => [
        a_waiter_is_woken_by_a_release,
        waiters_are_served_in_order,
    ];
    /// Wakes the latest waiter first.
    the_latest_waiter_is_served_first = LatestFirst => [waiters_are_served_in_order];
    /// Takes the lease for who only waits.
    a_wait_takes_the_lease = WaitTakes => [
        a_waiter_is_woken_by_a_release,
        hints_grant_nothing,
        waiters_are_served_in_order,
    ];
    /// Trusts its memory though it lost it.
    a_store_that_forgot_grants = NoQuarantine => [
        a_holder_registers_again_after_a_loss_of_memory,
        a_store_that_forgot_grants_nothing_at_first,
        an_older_holder_does_not_register_over_a_newer,
        tokens_rise_over_lost_writes,
    ];
    /// Lets nobody register again.
    a_holder_cannot_register_again = NoRegistration => [
        a_holder_registers_again_after_a_loss_of_memory,
        an_older_holder_does_not_register_over_a_newer,
    ];
    /// Registers any old holder again.
    any_old_holder_registers = RegistersAnyone => [an_older_holder_does_not_register_over_a_newer];
    /// Says `Unavailable`, and does it nevertheless.
    what_was_unavailable_happened = DoesTheUnavailable => [a_cut_client_is_not_answered];
    /// Takes upper case for lower case.
    keys_fold_case = KeysFold => [keys_do_not_touch_each_other];
    /// Keeps no namespaces apart.
    namespaces_are_one = OneNamespace => [
        connections_name_their_store,
        namespaces_do_not_touch_each_other,
    ];
    /// Names each connection a store.
    each_connection_is_a_store = StoresAreConnections => [connections_name_their_store];
    /// Mends malformed keys.
    any_key_is_taken = TakesAnyKey => [
        a_malformed_key_is_rejected,
        keys_do_not_touch_each_other,
    ];
    /// Mends TTLs.
    any_ttl_is_taken = TakesAnyTtl => [a_ttl_out_of_bounds_is_rejected];
}

fn sabotaged(flaw: Flaw) -> Fixture<dyn LockBackend> {
    let stores = Stores::harmed(Harm {
        trusts_empty: flaw == Flaw::NoQuarantine,
        forgets_in_restarts: flaw == Flaw::RestartForgets,
        one_namespace: flaw == Flaw::OneNamespace,
    });
    let (connections, notes) = (stores.clone(), Mutex::new(BTreeMap::new()));
    let fixture: Fixture<dyn LockBackend> = Fixture::shared(async move |namespace: &str| {
        let mut notes = notes.lock().unwrap();
        let notes: &Arc<Notes> = notes.entry(namespace.to_owned()).or_default();
        let locks: Arc<dyn LockBackend> = Arc::new(Saboteur {
            flaw,
            inner: connections.connect(namespace).locks?,
            aside: connections.connect_aside(namespace).locks?,
            stores: connections.clone(),
            namespace: namespace.to_owned(),
            number: notes.connections.fetch_add(1, Ordering::SeqCst),
            notes: Arc::clone(notes),
        });
        Some(locks)
    });
    fixture.faults(stores).virtual_time()
}

/// What the saboteurs of one namespace know together.
#[derive(Debug, Default)]
struct Notes {
    connections: AtomicU64,
    overlap: Overlap,
    keys: Mutex<BTreeMap<Key, Note>>,
    stuck: Mutex<BTreeSet<Key>>,
}

/// What they know of one key.
#[derive(Debug, Default, Clone)]
struct Note {
    /// The last grant: its claim, and its true token.
    grant: Option<(Claim, FencingToken)>,
    /// The token that was told for it.
    told: Option<FencingToken>,
    released: bool,
    losses: usize,
    kept: Option<(MemberId, Instant)>,
    waiting: Option<Claim>,
}

struct Saboteur {
    flaw: Flaw,
    inner: Arc<dyn LockBackend>,
    aside: Arc<dyn LockBackend>,
    stores: Stores,
    namespace: String,
    number: u64,
    notes: Arc<Notes>,
}

/// Strands the key of a call that is dropped.
struct Strand<'a>(&'a Saboteur, Option<Key>);

impl Drop for Strand<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.1.take() {
            self.0.notes.stuck.lock().unwrap().insert(key);
        }
    }
}

impl Saboteur {
    fn keys(&self) -> MutexGuard<'_, BTreeMap<Key, Note>> {
        self.notes
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: &Key) -> Note {
        self.keys().get(key).cloned().unwrap_or_default()
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Note)) {
        change(self.keys().entry(key.clone()).or_default());
    }

    /// The request as the saboteur passes it on.
    fn bend(&self, claim: &Claim) -> Claim {
        let mut claim = claim.clone();
        let allowed = (MIN_TTL..=MAX_TTL).contains(&claim.ttl);
        match self.flaw {
            Flaw::EndsEarly => claim.ttl = claim.ttl * 7 / 10,
            Flaw::TtlIgnored if allowed => claim.ttl = MAX_TTL,
            Flaw::TakesAnyTtl => claim.ttl = claim.ttl.clamp(MIN_TTL, MAX_TTL),
            Flaw::FloorIgnored => claim.floor = None,
            _ => {}
        }
        claim.key = self.bend_key(&claim.key);
        claim
    }

    fn bend_key(&self, key: &Key) -> Key {
        match self.flaw {
            Flaw::KeysFold => Key::new(key.as_str().to_lowercase()),
            Flaw::TakesAnyKey => {
                let start: String = key.as_str().chars().take(3_000).collect();
                Key::new(if start.is_empty() {
                    "none".into()
                } else {
                    start
                })
            }
            _ => key.clone(),
        }
    }

    /// The token as it is told.
    fn tell(&self, claim: &Claim, token: FencingToken) -> FencingToken {
        let losses = self.stores.losses(&self.namespace);
        let before = self.note(&claim.key);
        let same = before
            .grant
            .as_ref()
            .is_some_and(|(_, known)| *known == token);
        let repeats = match self.flaw {
            Flaw::RepeatsAfterRelease => before.released,
            Flaw::RepeatsAfterExpiry => !before.released && losses == before.losses,
            Flaw::RepeatsAfterLoss => losses > before.losses,
            _ => false,
        };
        let floor = claim.floor.filter(|_| self.flaw == Flaw::FloorBelieved);
        let told = match before.told {
            Some(told) if same || repeats => told,
            _ => floor.map_or(token, |floor| token.max(FencingToken::new(floor.get() | 1))),
        };
        self.change(&claim.key, |note| {
            note.grant = Some((claim.clone(), token));
            note.told = Some(told);
            note.released = false;
            note.losses = losses;
        });
        told
    }

    /// The true token behind a told one.
    fn truth(&self, key: &Key, told: FencingToken) -> FencingToken {
        let note = self.note(key);
        match note.grant {
            Some((_, token)) if note.told == Some(told) => token,
            _ => told,
        }
    }

    fn tell_holder(&self, key: &Key, mut holder: Holder) -> Holder {
        let note = self.note(key);
        if let (Some((_, token)), Some(told)) = (note.grant, note.told)
            && token == holder.token
        {
            holder.token = told;
        }
        if self.flaw == Flaw::FreeInTooLong {
            holder.free_in = holder.free_in.map(|span| span * 2);
        }
        holder
    }

    /// The same claim, as another one of its instance.
    fn anew(claim: &Claim) -> Claim {
        let mut claim = claim.clone();
        claim.id = ClaimId::new(claim.id.get() + 1_000_000 + u64::from(claim.ttl.subsec_nanos()));
        claim
    }

    /// What the saboteur makes of a refusal.
    async fn bend_refusal(&self, claim: &Claim, holder: Holder, raced: bool) -> Acquisition {
        let own = holder.instance == claim.instance;
        let note = self.note(&claim.key);
        let first = note.grant.map(|(first, _)| (first.owner, first.id));
        let next = FencingToken::new(holder.token.get() + 1);
        match self.flaw {
            Flaw::GrantsInARace if raced => Acquisition::Granted(next),
            Flaw::OwnClaimsAreOne if own => Acquisition::Granted(holder.token),
            Flaw::TwoHolders if !own => Acquisition::Granted(next),
            Flaw::ForgetsInstance if first == Some((claim.owner.clone(), claim.id)) => {
                Acquisition::Granted(holder.token)
            }
            Flaw::AcquireWaits => {
                sleep(holder.free_in.unwrap_or_default() * 9 / 10).await;
                Acquisition::HeldBy(holder)
            }
            _ => Acquisition::HeldBy(self.tell_holder(&claim.key, holder)),
        }
    }

    async fn bend_grant(&self, claim: &Claim, token: FencingToken) -> FencingToken {
        let known = self
            .note(&claim.key)
            .grant
            .is_some_and(|(_, known)| known == token);
        match self.flaw {
            Flaw::RetryProlongs if known => {
                let _renewed = self.inner.renew(claim, token).await;
            }
            Flaw::RetryIsNew if known => {
                let _released = self.inner.release(claim, token, None).await;
                let again = self.inner.acquire(&Self::anew(claim)).await;
                if let Ok(Acquisition::Granted(token)) = again {
                    return self.tell(claim, token);
                }
            }
            _ => {}
        }
        self.tell(claim, token)
    }

    async fn bend_loss(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        let holder = self.inner.holder(&claim.key).await?;
        let note = self.note(&claim.key);
        let forgot = self.stores.losses(&self.namespace) > 0;
        let yes = match (self.flaw, &holder) {
            (Flaw::RenewsAnyToken, Some(holder)) => holder.instance == claim.instance,
            (Flaw::RenewRevives, None) => {
                !note.released && note.grant.is_some_and(|(_, last)| last == token)
            }
            (Flaw::RenewsSuperseded, Some(holder)) => holder.instance != claim.instance,
            (Flaw::RegistersAnyone, _) => forgot,
            _ => false,
        };
        Ok(if yes { Renewal::Renewed } else { Renewal::Lost })
    }
}

#[async_trait]
impl LockBackend for Saboteur {
    async fn acquire(&self, claim: &Claim) -> Result<Acquisition, LockError> {
        let claim = &self.bend(claim);
        let note = self.note(&claim.key);
        if let Some((next, since)) = note.kept {
            let refuses = match self.flaw {
                Flaw::KeptForEver => claim.owner != next,
                Flaw::SuccessorRefused => since.elapsed() < Duration::from_secs(1),
                _ => false,
            };
            if refuses {
                let holder = Holder::new(next, claim.instance, FencingToken::new(1));
                return Ok(Acquisition::HeldBy(holder));
            }
        }
        if self.notes.stuck.lock().unwrap().contains(&claim.key) {
            let holder = Holder::new("nobody".into(), claim.instance, FencingToken::new(1));
            return Ok(Acquisition::HeldBy(holder));
        }
        let mut strand = Strand(self, None);
        if self.flaw == Flaw::StrandsDropped {
            strand.1 = Some(claim.key.clone());
        }
        let (answer, raced) = self.notes.overlap.race(self.inner.acquire(claim)).await;
        strand.1 = None;
        match answer {
            Ok(Acquisition::Granted(token)) => {
                Ok(Acquisition::Granted(self.bend_grant(claim, token).await))
            }
            Ok(Acquisition::HeldBy(holder)) => Ok(self.bend_refusal(claim, holder, raced).await),
            Err(LockError::Rejected { .. }) if self.flaw == Flaw::ReleasedComesBack => {
                self.inner.acquire(&Self::anew(claim)).await
            }
            Err(LockError::Unavailable {
                operation,
                key,
                source,
            }) if self.flaw == Flaw::DoesTheUnavailable => {
                let _done = self.aside.acquire(claim).await;
                Err(LockError::Unavailable {
                    operation,
                    key,
                    source,
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn renew(&self, claim: &Claim, token: FencingToken) -> Result<Renewal, LockError> {
        let mut claim = self.bend(claim);
        let token = self.truth(&claim.key, token);
        match self.flaw {
            Flaw::RenewsForLess => claim.ttl = claim.ttl * 7 / 10,
            Flaw::EndsEarly => claim.ttl = claim.ttl * 10 / 7,
            Flaw::NoRegistration if self.stores.losses(&self.namespace) > 0 => {
                return Ok(Renewal::Lost);
            }
            _ => {}
        }
        match self.inner.renew(&claim, token).await? {
            Renewal::Renewed => Ok(Renewal::Renewed),
            Renewal::Lost => self.bend_loss(&claim, token).await,
        }
    }

    async fn release(
        &self,
        claim: &Claim,
        token: FencingToken,
        next: Option<&MemberId>,
    ) -> Result<Release, LockError> {
        let claim = self.bend(claim);
        let token = self.truth(&claim.key, token);
        if self.flaw == Flaw::LostRelease {
            let held = self.inner.holder(&claim.key).await?;
            let holds = held.is_some_and(|holder| holder.token == token);
            return Ok(if holds {
                Release::Released
            } else {
                Release::NotHeld
            });
        }
        let released = self.inner.release(&claim, token, next).await?;
        match released {
            Release::Released => {
                self.change(&claim.key, |note| {
                    note.released = true;
                    note.kept = next.map(|next| (next.clone(), Instant::now()));
                });
                let waiting = self.note(&claim.key).waiting;
                if let Some(waiting) = waiting.filter(|_| self.flaw == Flaw::WaitTakes) {
                    let _taken = self.inner.acquire(&Self::anew(&waiting)).await;
                }
                Ok(Release::Released)
            }
            Release::NotHeld if self.flaw == Flaw::LateReleaseFails => Err(LockError::rejected(
                "release",
                claim.key,
                "the lease is gone",
            )),
            Release::NotHeld if self.flaw == Flaw::AnyReleaseFrees => {
                if let Some(holder) = self.inner.holder(&claim.key).await? {
                    let mut forged = claim.clone();
                    forged.instance = holder.instance;
                    self.inner.release(&forged, holder.token, None).await?;
                }
                Ok(Release::NotHeld)
            }
            Release::NotHeld => Ok(Release::NotHeld),
        }
    }

    async fn holder(&self, key: &Key) -> Result<Option<Holder>, LockError> {
        let key = &self.bend_key(key);
        let holder = self.inner.holder(key).await?;
        if self.flaw == Flaw::GuessesHolder && self.note(key).grant.is_none() {
            let instance = coordinator_core::Instance::from_random(7);
            return Ok(Some(Holder::new(
                "nobody".into(),
                instance,
                FencingToken::new(1),
            )));
        }
        Ok(holder.map(|holder| self.tell_holder(key, holder)))
    }

    async fn wait_turn(&self, claim: &Claim) -> Result<(), LockError> {
        let claim = self.bend(claim);
        match self.flaw {
            Flaw::NeverWakes => std::future::pending().await,
            Flaw::LatestFirst => {
                // The later the connection, the sooner it looks again.
                let late = u32::try_from(self.number).unwrap_or(u32::MAX).min(20);
                sleep(Duration::from_millis(100) / (1 + late * late)).await;
                Ok(())
            }
            Flaw::WaitTakes => {
                self.change(&claim.key, |note| note.waiting = Some(claim.clone()));
                self.inner.wait_turn(&claim).await
            }
            _ => self.inner.wait_turn(&claim).await,
        }
    }

    async fn changed(&self, key: &Key) -> Result<(), LockError> {
        self.inner.changed(&self.bend_key(key)).await
    }

    fn capabilities(&self) -> LockCapabilities {
        self.inner.capabilities()
    }

    fn store(&self) -> StoreId {
        match self.flaw {
            Flaw::StoresAreConnections => StoreId::new(format!("connection-{}", self.number)),
            _ => self.inner.store(),
        }
    }
}
