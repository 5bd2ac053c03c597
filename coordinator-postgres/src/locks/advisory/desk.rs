//! What this process knows of its own campaigns and terms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use coordinator_core::trust::Trust;
use coordinator_core::{Claim, ClaimId, FencingToken, Holder, Instance};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use uuid::Uuid;

use super::super::name::Name;
use super::super::refusal::Refusal;
use super::line::Line;
use super::seen::Seen;
use super::term::Term;
use crate::hub::Hub;
use crate::session::{Session, lock};
use crate::takeover::Asker;

/// P11: how many campaigns of a process wait in sessions of their own.
const SEATS: usize = 8;

/// One attempt at a key.
pub(super) type Attempt = (Uuid, Instance, ClaimId);

/// A turn that has come: the key's lock is held, and the term may start.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) line: Line,
    pub(super) seen: Seen,
}

/// A campaign in `wait_turn`.
#[derive(Debug)]
pub(super) enum Place {
    /// In the server's queue, or waiting for its start. Whom it waits for, as it was last read.
    Queued(Option<(Holder, Instant)>),
    Ready(Box<Turn>),
}

/// What a start came to, for all who ask.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Granted(FencingToken),
    HeldBy(Holder),
    Refused(Refusal),
}

/// A start under way; `None`: not decided yet.
pub(super) type Start = watch::Receiver<Option<Outcome>>;

/// A term of this process.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) name: Name,
    pub(super) claim: Claim,
    pub(super) token: FencingToken,
    pub(super) line: Line,
    pub(super) term: Arc<Term>,
    /// W, at the last ping: another one has to be told of.
    pub(super) told: Mutex<Weak<Session>>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) hub: Arc<Hub>,
    places: Mutex<BTreeMap<Attempt, Place>>,
    starts: Mutex<BTreeMap<Attempt, Start>>,
    grants: Mutex<BTreeMap<(Uuid, FencingToken), Arc<Grant>>>,
    /// Terms that have ended here, where the store could not be told (P5.2).
    ended: Mutex<BTreeMap<(Uuid, Instance), FencingToken>>,
    pub(super) seats: Arc<Semaphore>,
}

pub(super) fn attempt(name: &Name, claim: &Claim) -> Attempt {
    (name.id, claim.instance, claim.id)
}

impl Desk {
    pub(super) fn new(hub: Arc<Hub>) -> Arc<Self> {
        Arc::new(Self {
            hub,
            places: Mutex::default(),
            starts: Mutex::default(),
            grants: Mutex::default(),
            ended: Mutex::default(),
            seats: Arc::new(Semaphore::new(SEATS)),
        })
    }

    pub(super) fn asker(&self, name: &Name, claim: &Claim) -> Asker {
        let ended = lock(&self.ended).get(&(name.id, claim.instance)).copied();
        Asker {
            instance: claim.instance,
            policy: self.hub.config.takeover,
            ended,
        }
    }

    /// Whom a claim waits for that has a place in the queue: no server need be asked.
    pub(super) fn waits_for(&self, attempt: &Attempt) -> Option<Holder> {
        match lock(&self.places).get(attempt) {
            Some(Place::Queued(Some((holder, at)))) => {
                let left = holder.free_in.unwrap_or_default();
                Some(holder.clone().free_in(left.saturating_sub(at.elapsed())))
            }
            Some(Place::Queued(None) | Place::Ready(_)) | None => None,
        }
    }

    pub(super) fn is_ready(&self, attempt: &Attempt) -> bool {
        matches!(
            lock(&self.places).get(attempt),
            Some(Place::Ready(turn)) if !turn.line.is_ended()
        )
    }

    /// Notes whom a claim in the queue waits for.
    pub(super) fn note(&self, attempt: &Attempt, told: &Holder) {
        if let Some(Place::Queued(holder)) = lock(&self.places).get_mut(attempt) {
            *holder = Some((told.clone(), Instant::now()));
        }
    }

    pub(super) fn set_place(&self, attempt: Attempt, place: Place) {
        lock(&self.places).insert(attempt, place);
    }

    /// Takes a turn, if it has come and lasts.
    pub(super) fn take_turn(&self, attempt: &Attempt) -> Option<Turn> {
        let mut places = lock(&self.places);
        let Some(Place::Ready(_)) = places.get(attempt) else {
            return None;
        };
        match places.remove(attempt) {
            Some(Place::Ready(turn)) => Some(*turn).filter(|turn| !turn.line.is_ended()),
            _ => None,
        }
    }

    /// Gives a place in the queue up.
    pub(super) fn leave(&self, attempt: &Attempt) {
        let mut places = lock(&self.places);
        if let Some(Place::Queued(_)) = places.get(attempt) {
            places.remove(attempt);
        }
    }

    /// Forgets turns that nobody took: their sessions have been ended by the server.
    pub(super) fn sweep(&self) {
        lock(&self.places)
            .retain(|_, place| !matches!(place, Place::Ready(turn) if turn.line.is_ended()));
    }

    /// The start of this attempt that is under way.
    pub(super) fn start_under_way(&self, attempt: &Attempt) -> Option<Start> {
        lock(&self.starts).get(attempt).cloned()
    }

    /// Notes a start, unless there is one.
    pub(super) fn enter_start(
        &self,
        attempt: Attempt,
    ) -> Result<watch::Sender<Option<Outcome>>, Start> {
        let mut starts = lock(&self.starts);
        if let Some(start) = starts.get(&attempt) {
            return Err(start.clone());
        }
        let (tell, start) = watch::channel(None);
        starts.insert(attempt, start);
        Ok(tell)
    }

    pub(super) fn end_start(&self, attempt: &Attempt) {
        lock(&self.starts).remove(attempt);
    }

    /// A term has begun.
    pub(super) fn enter(self: &Arc<Self>, grant: Grant) {
        let grant = Arc::new(grant);
        let place = (grant.name.id, grant.token);
        lock(&self.ended).remove(&(grant.name.id, grant.claim.instance));
        lock(&self.grants).insert(place, grant.clone());
        let desk = Arc::downgrade(self);
        let (grant, ttl) = (Arc::downgrade(&grant), grant.claim.ttl);
        tokio::spawn(async move { bury(desk, grant, place, ttl).await });
    }

    pub(super) fn grant(
        &self,
        name: &Name,
        claim: &Claim,
        token: FencingToken,
    ) -> Option<Arc<Grant>> {
        let grants = lock(&self.grants);
        let grant = grants.get(&(name.id, token));
        grant
            .filter(|grant| grant.claim.instance == claim.instance)
            .cloned()
    }

    /// The grant of this attempt, if this process had it.
    pub(super) fn grant_of(&self, attempt: &Attempt) -> Option<Arc<Grant>> {
        let grants = lock(&self.grants);
        let own = grants.range((attempt.0, FencingToken::new(0))..);
        own.take_while(|(place, _)| place.0 == attempt.0)
            .map(|(_, grant)| grant)
            .find(|grant| (grant.claim.instance, grant.claim.id) == (attempt.1, attempt.2))
            .cloned()
    }

    pub(super) fn remove(&self, grant: &Grant) {
        lock(&self.grants).remove(&(grant.name.id, grant.token));
    }

    /// P5.2: trust in this term has ended, and its work.
    pub(super) fn note_end(&self, name: &Name, instance: Instance, token: FencingToken) {
        let mut ended = lock(&self.ended);
        let last = ended.entry((name.id, instance)).or_insert(token);
        *last = token.max(*last);
    }
}

/// A term whose session has ended is remembered until its holder says that its work has stopped, or
/// a TTL has passed: by then its term lock says nothing to anyone.
async fn bury(desk: Weak<Desk>, grant: Weak<Grant>, place: (Uuid, FencingToken), ttl: Duration) {
    let Some(session) = grant.upgrade().map(|grant| grant.line.ending()) else {
        return;
    };
    session.await;
    sleep(Trust::surely(ttl)).await;
    let Some(desk) = desk.upgrade() else {
        return;
    };
    let buried = lock(&desk.grants).remove(&place);
    if let Some(grant) = buried {
        grant.term.free().await;
    }
}
