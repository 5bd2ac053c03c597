//! Sabotaged checkpoint stores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coordinator_conformance::Fixture;
use coordinator_conformance::checkpoints::CHECKS;
use coordinator_core::{
    Checkpoint, CheckpointError, CheckpointStore, FencingToken, Group, Keyspace, Load,
    MAX_POSITION_BYTES, Position, Save, ShardId, StoreId, async_trait,
};
use tokio::time::Instant;

use crate::harness::Overlap;
use crate::support::{Harm, Stores};

crate::saboteurs! {
    "checkpoints":
    /// Breaks nothing: what rejects the others is their flaw, not the go-between.
    an_honest_go_between_is_not_rejected = Nothing => [];
    /// Gives the first position that was ever saved.
    the_first_position_is_loaded = LoadsTheFirst => [
        a_late_duplicate_moves_nothing_back,
        a_position_is_kept_as_it_is,
        a_save_above_the_fence_claims,
        a_saved_position_is_loaded,
        a_store_that_forgot_refuses_its_old_owners,
        each_token_counts_anew,
        loading_shuts_out_older_owners,
        random_calls_match_the_model,
        too_long_a_position_is_rejected,
    ];
    /// Reads without a claim: only a save shuts older owners out.
    loading_claims_nothing = LoadClaimsNothing => [
        loading_shuts_out_older_owners,
        of_many_claims_the_highest_stays,
        random_calls_match_the_model,
    ];
    /// Looks at the fence first, and raises it later.
    claims_at_once_overwrite_each_other = ClaimsInARace => [of_many_claims_the_highest_stays];
    /// Refuses a save, and keeps its position.
    refused_saves_are_kept = KeepsRefused => [
        a_refused_save_changes_nothing,
        a_save_above_the_fence_claims,
        loading_shuts_out_older_owners,
        positions_survive_a_restart,
        random_calls_match_the_model,
    ];
    /// Stores whatever save comes last, whatever its number.
    late_duplicates_move_back = DuplicatesCount => [
        a_late_duplicate_moves_nothing_back,
        each_token_counts_anew,
        loading_again_does_not_count_anew,
        random_calls_match_the_model,
    ];
    /// Numbers saves of all owners together.
    numbers_outlive_their_token = NumbersOutlive => [
        a_save_above_the_fence_claims,
        a_saved_position_is_loaded,
        each_token_counts_anew,
        loading_shuts_out_older_owners,
        of_many_claims_the_highest_stays,
        random_calls_match_the_model,
    ];
    /// Forgets the number of the last save when its owner loads again.
    loading_forgets_the_number = LoadForgetsNumber => [
        loading_again_does_not_count_anew,
        random_calls_match_the_model,
    ];
    /// Lets a save with a higher token shut nobody out.
    saving_claims_nothing = SaveClaimsNothing => [
        a_save_above_the_fence_claims,
        random_calls_match_the_model,
    ];
    /// Takes a save where nobody has claimed.
    a_blind_save_is_taken = TakesBlindSaves => [
        a_save_without_any_claim_is_refused,
        a_store_that_forgot_refuses_its_old_owners,
        namespaces_do_not_touch_each_other,
        random_calls_match_the_model,
        shards_do_not_touch_each_other,
    ];
    /// Knows shards by their low byte.
    shards_wrap_around = ShardsWrap => [shards_do_not_touch_each_other];
    /// Keeps no namespaces apart.
    namespaces_are_one = OneNamespace => [
        connections_name_their_store,
        namespaces_do_not_touch_each_other,
    ];
    /// Sweeps positions away after a day.
    positions_expire = Expires => [positions_outlast_leases];
    /// Loses its positions when it restarts.
    a_restart_forgets = RestartForgets => [positions_survive_a_restart];
    /// Cuts positions that are too long.
    long_positions_are_cut = CutsPositions => [too_long_a_position_is_rejected];
    /// Trims positions.
    positions_are_trimmed = Trims => [a_position_is_kept_as_it_is];
    /// Names each connection a store.
    each_connection_is_a_store = StoresAreConnections => [connections_name_their_store];
}

fn sabotaged(flaw: Flaw) -> Fixture<dyn CheckpointStore> {
    let stores = Stores::harmed(Harm {
        forgets_in_restarts: flaw == Flaw::RestartForgets,
        one_namespace: flaw == Flaw::OneNamespace,
        ..Harm::default()
    });
    let (connections, notes) = (stores.clone(), Mutex::new(BTreeMap::new()));
    let fixture: Fixture<dyn CheckpointStore> = Fixture::shared(async move |namespace: &str| {
        let mut notes = notes.lock().unwrap();
        let notes: &Arc<Notes> = notes.entry(namespace.to_owned()).or_default();
        let checkpoints: Arc<dyn CheckpointStore> = Arc::new(Saboteur {
            flaw,
            inner: connections.connect(namespace).checkpoints?,
            number: notes.connections.fetch_add(1, Ordering::SeqCst),
            notes: Arc::clone(notes),
        });
        Some(checkpoints)
    });
    fixture.faults(stores).virtual_time()
}

type Place = (Group, Keyspace, ShardId);

/// What the saboteurs of one namespace know together.
#[derive(Debug, Default)]
struct Notes {
    connections: AtomicU64,
    overlap: Overlap,
    places: Mutex<BTreeMap<Place, Note>>,
}

/// What they know of one shard.
#[derive(Debug, Default, Clone)]
struct Note {
    first: Option<Position>,
    /// What is loaded in place of the truth.
    instead: Option<Position>,
    /// The highest token that saved, and the highest number of any.
    saved: Option<FencingToken>,
    number: u64,
    loaded: Option<FencingToken>,
    raced: bool,
    at: Option<Instant>,
}

struct Saboteur {
    flaw: Flaw,
    inner: Arc<dyn CheckpointStore>,
    number: u64,
    notes: Arc<Notes>,
}

impl Saboteur {
    fn note(&self, place: &Place) -> Note {
        let places = self.notes.places.lock().unwrap();
        places.get(place).cloned().unwrap_or_default()
    }

    fn change(&self, place: &Place, change: impl FnOnce(&mut Note)) {
        let mut places = self.notes.places.lock().unwrap();
        change(places.entry(place.clone()).or_default());
    }

    fn bend_shard(&self, shard: ShardId) -> ShardId {
        match self.flaw {
            Flaw::ShardsWrap => ShardId::new(shard.get() % 256),
            _ => shard,
        }
    }

    fn bend(&self, checkpoint: &Checkpoint) -> Checkpoint {
        let mut checkpoint = checkpoint.clone();
        checkpoint.shard = self.bend_shard(checkpoint.shard);
        let text = checkpoint.position.as_str();
        checkpoint.position = match self.flaw {
            Flaw::Trims => Position::new(text.trim()),
            Flaw::CutsPositions => {
                let mut end = text.len().min(MAX_POSITION_BYTES);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                Position::new(&text[..end])
            }
            _ => return checkpoint,
        };
        checkpoint
    }

    /// What the saboteur says of a save that the store refused.
    fn bend_refusal(&self, place: &Place, checkpoint: &Checkpoint, refusal: Save) -> Save {
        let (note, token) = (self.note(place), checkpoint.token);
        let fenced_by = match refusal {
            Save::Fenced { by } => by,
            Save::Saved | Save::Superseded => None,
        };
        let unsaved = note.saved.is_none_or(|saved| saved <= token);
        let unloaded = note.loaded.is_none_or(|loaded| loaded <= token);
        let taken = match self.flaw {
            Flaw::LoadClaimsNothing => fenced_by.is_some() && unsaved,
            Flaw::SaveClaimsNothing => fenced_by.is_some() && unloaded,
            Flaw::ClaimsInARace => fenced_by.is_some() && note.raced,
            Flaw::DuplicatesCount => refusal == Save::Superseded,
            // Since the last save its own owner has loaded, which has cleared the number.
            Flaw::LoadForgetsNumber => {
                refusal == Save::Superseded && note.number == 0 && note.loaded == Some(token)
            }
            _ => false,
        };
        let keeps = taken || self.flaw == Flaw::KeepsRefused && fenced_by.is_some();
        if keeps {
            let position = checkpoint.position.clone();
            self.change(place, |note| note.instead = Some(position));
        }
        if taken { Save::Saved } else { refusal }
    }
}

#[async_trait]
impl CheckpointStore for Saboteur {
    async fn load(
        &self,
        group: &Group,
        keyspace: &Keyspace,
        shard: ShardId,
        token: FencingToken,
    ) -> Result<Load, CheckpointError> {
        let place = (group.clone(), keyspace.clone(), self.bend_shard(shard));
        let asked = self.inner.load(group, keyspace, place.2, token);
        let (loaded, raced) = self.notes.overlap.race(asked).await;
        let note = self.note(&place);
        self.change(&place, |note| {
            note.loaded = note.loaded.max(Some(token));
            note.raced |= raced;
            if self.flaw == Flaw::LoadForgetsNumber {
                note.number = 0;
            }
        });
        let position = match loaded? {
            Load::Loaded(position) => position,
            fenced @ Load::Fenced { .. } => return Ok(fenced),
        };
        let old = note
            .at
            .is_some_and(|at| at.elapsed() > Duration::from_hours(24));
        Ok(Load::Loaded(match self.flaw {
            Flaw::LoadsTheFirst => note.first.or(position),
            Flaw::Expires if old => None,
            _ => note.instead.or(position),
        }))
    }

    async fn save(&self, checkpoint: &Checkpoint) -> Result<Save, CheckpointError> {
        let checkpoint = &self.bend(checkpoint);
        let (group, keyspace) = (checkpoint.group.clone(), checkpoint.keyspace.clone());
        let place = (group, keyspace, checkpoint.shard);
        let note = self.note(&place);
        if self.flaw == Flaw::NumbersOutlive
            && note.saved.is_some_and(|saved| saved < checkpoint.token)
            && checkpoint.number <= note.number
        {
            return Ok(Save::Superseded);
        }
        let mut saved = self.inner.save(checkpoint).await?;
        if self.flaw == Flaw::TakesBlindSaves && saved == (Save::Fenced { by: None }) {
            let (group, keyspace) = (&checkpoint.group, &checkpoint.keyspace);
            self.inner
                .load(group, keyspace, checkpoint.shard, checkpoint.token)
                .await?;
            saved = self.inner.save(checkpoint).await?;
        }
        if saved != Save::Saved {
            return Ok(self.bend_refusal(&place, checkpoint, saved));
        }
        self.change(&place, |note| {
            note.first
                .get_or_insert_with(|| checkpoint.position.clone());
            note.instead = None;
            note.saved = note.saved.max(Some(checkpoint.token));
            note.number = note.number.max(checkpoint.number);
            note.at = Some(Instant::now());
        });
        Ok(Save::Saved)
    }

    fn store(&self) -> StoreId {
        match self.flaw {
            Flaw::StoresAreConnections => StoreId::new(format!("connection-{}", self.number)),
            _ => self.inner.store(),
        }
    }
}
