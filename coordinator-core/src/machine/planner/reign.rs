//! One reign of a planner: its requests under way, what it knows, and its timers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::scene::{Entry, Look, Scene, Standing, View};
use super::{
    EvictCause, LEAST_REFRESH, PlannedSwap, Planner, PlannerAction, Summary, dense, fixed,
};
use crate::document::{BadDocument, Document, Layout, Life};
use crate::errors::ErrorKind;
use crate::member::{Eviction, Snapshot};
use crate::numbers::{Epoch, FencingToken};
use crate::time::Moment;
use crate::trust::Trust;

/// Acks are gathered for so long before they become a swap (S6).
const GATHER: Duration = Duration::from_millis(10);
/// The first wait after a failure; it doubles up to a third of the TTL.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);

/// A request for the document that is under way.
#[derive(Debug, Clone)]
enum Asked {
    Lead,
    Load,
    Swap(Box<Document>),
}

/// What the store is known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// To be read.
    Nothing,
    /// Nothing, or the remembered document of this epoch; known since then.
    Stored { epoch: Option<Epoch>, at: Moment },
}

/// A plan for the document, not encoded yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) document: Document,
    pub(super) ended: Vec<Life>,
    pub(super) summary: Summary,
    /// Whether all it does is pass on what was acked, with more acks to come: worth a short wait.
    pub(super) gathering: bool,
}

/// Who is reckoned with, and since when (S6).
#[derive(Debug, Clone, Default)]
pub(super) struct Planned {
    entries: Option<Vec<Entry>>,
    changed_at: Option<Moment>,
}

impl Planned {
    /// Who to reckon with now. Joins soon after a change wait: then the answer is who it was, and
    /// `wake` is told when to ask again.
    pub(super) fn settle(&mut self, scene: &Scene<'_>, wake: &mut Wake) -> Vec<Entry> {
        let (now, wanted) = (scene.look.now, &scene.entries);
        let interval = scene.look.config.reshard_interval;
        let ripe = self.changed_at.map(|changed_at| changed_at + interval);
        match (&self.entries, ripe) {
            (Some(entries), _) if entries == wanted => {}
            (Some(entries), Some(ripe)) if now < ripe && only_joins(scene, entries) => {
                wake.at(ripe);
                return entries.clone();
            }
            (Some(_) | None, _) => self.accept(now, wanted.clone()),
        }
        wanted.clone()
    }

    /// Reckons with these from now on. The first ones are no change.
    pub(super) fn accept(&mut self, now: Moment, entries: Vec<Entry>) {
        if self.entries.replace(entries).is_some() {
            self.changed_at = Some(now);
        }
    }
}

/// Whether nothing has happened since `before` that must not wait: nobody left, died or stopped
/// serving, and nobody is back who still owns something.
fn only_joins(scene: &Scene<'_>, before: &[Entry]) -> bool {
    let find = |entries: &[Entry], life: &Life| {
        let at = entries.binary_search_by(|entry| entry.life.cmp(life)).ok();
        at.map(|at| entries[at].presence)
    };
    let stays = |entry: &Entry| find(&scene.entries, &entry.life) == Some(entry.presence);
    let owners = scene.owners(Standing::Live);
    let known = |life: &&Life| find(&scene.entries, life).is_none() || find(before, life).is_some();
    before.iter().all(stays) && owners.iter().all(known)
}

/// The earliest of several moments.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wake(pub(super) Option<Moment>);

impl Wake {
    pub(super) fn at(&mut self, moment: Moment) {
        self.0 = Some(self.0.map_or(moment, |earlier| earlier.min(moment)));
    }

    pub(super) fn at_any(&mut self, moment: Option<Moment>) {
        self.0 = self.0.into_iter().chain(moment).min();
    }
}

/// One reign.
#[derive(Debug, Clone)]
pub(super) struct Reign {
    token: FencingToken,
    since: Moment,
    pub(super) led: bool,
    asked: Option<(u64, Asked)>,
    known: Known,
    /// Not before then is the document asked for again, or swapped.
    retry_at: Option<Moment>,
    failures: u32,
    /// The read of the members that is under way, and when it was asked for.
    viewing: Option<(u64, Moment)>,
    view: Option<View>,
    refresh_at: Option<Moment>,
    view_failures: u32,
    viewed_at: Moment,
    round_at: Moment,
    /// Whether something was learned since the last look.
    dirty: bool,
    wake: Option<Moment>,
    planned: Planned,
    gather_until: Option<Moment>,
    /// Since when this planner has waited for the acks of a revoke.
    revoked: BTreeMap<(Life, Epoch), Moment>,
    /// Who was put out, and when that may be tried again.
    evicting: BTreeMap<Life, Moment>,
}

impl Reign {
    pub(super) fn new(token: FencingToken, now: Moment) -> Self {
        Self {
            token,
            since: now,
            led: false,
            asked: None,
            known: Known::Nothing,
            retry_at: None,
            failures: 0,
            viewing: None,
            view: None,
            refresh_at: Some(now),
            view_failures: 0,
            viewed_at: now,
            round_at: now,
            dirty: false,
            wake: None,
            planned: Planned::default(),
            gather_until: None,
            revoked: BTreeMap::new(),
            evicting: BTreeMap::new(),
        }
    }

    pub(super) fn awaits_lead(&self, request: u64) -> bool {
        matches!(&self.asked, Some((awaited, Asked::Lead)) if *awaited == request)
    }

    pub(super) fn awaits_load(&self, request: u64) -> bool {
        matches!(&self.asked, Some((awaited, Asked::Load)) if *awaited == request)
    }

    /// The document of the swap that is answered, if that is the one under way.
    pub(super) fn take_swap(&mut self, request: u64) -> Option<Document> {
        match self.asked.take() {
            Some((awaited, Asked::Swap(document))) if awaited == request => Some(*document),
            other => {
                self.asked = other;
                None
            }
        }
    }

    /// The document was read.
    pub(super) fn know(&mut self, now: Moment, epoch: Option<Epoch>) {
        self.asked = None;
        self.known = Known::Stored { epoch, at: now };
        self.retry_at = None;
        self.dirty = true;
    }

    /// Our swap is stored.
    pub(super) fn stored(&mut self, now: Moment, epoch: Epoch) {
        self.know(now, Some(epoch));
        self.failures = 0;
        self.round_at = now;
        self.gather_until = None;
    }

    /// What the store holds is not what we thought: read it.
    pub(super) fn forget(&mut self, now: Moment, ttl: Duration) {
        self.known = Known::Nothing;
        self.back_off(now, ttl);
    }

    /// The members are not what we thought: read them before the next swap.
    pub(super) fn look_again(&mut self, now: Moment, ttl: Duration) {
        self.back_off(now, ttl);
        self.refresh_at = Some(now);
        self.view = None;
    }

    /// The first time at once, then more and more slowly.
    pub(super) fn back_off(&mut self, now: Moment, ttl: Duration) {
        self.asked = None;
        self.retry_at = Some(now + backoff(self.failures, ttl));
        self.failures = self.failures.saturating_add(1);
        self.dirty = true;
    }

    /// The store told when to come again.
    pub(super) fn wait_out(&mut self, now: Moment, wait: Duration) {
        self.asked = None;
        self.retry_at = Some(now + wait.max(FIRST_BACKOFF));
        self.round_at = now;
        self.dirty = true;
    }

    /// The members may have changed.
    pub(super) fn hint(&mut self) {
        let soon = self.viewed_at + LEAST_REFRESH;
        self.refresh_at = Some(self.refresh_at.map_or(soon, |at| at.min(soon)));
    }

    /// Something but the members and the document has changed.
    pub(super) fn reconsider(&mut self) {
        self.hint();
        self.dirty = true;
    }

    pub(super) fn viewed(
        &mut self,
        now: Moment,
        request: u64,
        answer: Result<Arc<Snapshot>, ErrorKind>,
    ) {
        let Some((_, asked)) = self.viewing.filter(|(awaited, _)| *awaited == request) else {
            return;
        };
        self.viewing = None;
        match answer {
            Ok(snapshot) => {
                self.view_failures = 0;
                self.viewed_at = now;
                // A hint came meanwhile: the answer may be older than what it hinted at.
                self.refresh_at = self.refresh_at.map(|_| now + LEAST_REFRESH);
                self.view = Some(View {
                    snapshot,
                    asked,
                    arrived: now,
                });
                self.dirty = true;
            }
            // The cap is a constant: at the shortest TTL it is still well below the limit of S9.
            Err(
                ErrorKind::Unavailable
                | ErrorKind::Indeterminate
                | ErrorKind::Quarantined { .. }
                | ErrorKind::Rejected,
            ) => {
                let wait = backoff(self.view_failures + 1, Duration::from_millis(600));
                self.refresh_at = Some(now + wait);
                self.view_failures = self.view_failures.saturating_add(1);
            }
        }
    }

    pub(super) fn evict_answered(&mut self, life: &Life, answer: &Result<Eviction, ErrorKind>) {
        match answer {
            // Its record has changed.
            Ok(Eviction::Marked | Eviction::Entered | Eviction::Ended) => self.hint(),
            Err(_) => {
                // At the next look.
                self.evicting.remove(life);
                self.hint();
            }
        }
    }

    pub(super) fn deadline(&self) -> Moment {
        let mut wake = Wake(None);
        if self.asked.is_none() {
            let ready = self.retry_at.unwrap_or(self.since);
            match self.known {
                Known::Nothing => wake.at(ready),
                Known::Stored { .. } if self.view.is_some() => {
                    let due = if self.dirty { Some(ready) } else { self.wake };
                    wake.at_any(due.map(|at| at.max(ready)));
                }
                Known::Stored { .. } => {}
            }
        }
        if self.viewing.is_none() {
            wake.at_any(self.refresh_at);
        }
        // With everything under way only the limit of S9 is left, which the caller adds.
        wake.0.unwrap_or(self.since + Duration::MAX)
    }

    /// S9: the end of the last round, which takes a heartbeat, a snapshot and, if anything is to
    /// be changed, a swap.
    pub(super) fn last_round(&self, beat: Moment) -> Moment {
        beat.max(self.since).min(self.viewed_at).min(self.round_at)
    }

    /// Asks for what is not known.
    pub(super) fn ask(&mut self, now: Moment, requests: &mut u64, out: &mut Vec<PlannerAction>) {
        let mut next = || {
            *requests += 1;
            *requests
        };
        let ready = self.retry_at.is_none_or(|at| now >= at);
        if self.asked.is_none() && self.known == Known::Nothing && ready {
            let request = next();
            self.asked = Some(if self.led {
                out.push(PlannerAction::Load { request });
                (request, Asked::Load)
            } else {
                let token = self.token;
                out.push(PlannerAction::Lead { request, token });
                (request, Asked::Lead)
            });
        }
        if self.viewing.is_none() && self.refresh_at.is_some_and(|at| now >= at) {
            let request = next();
            self.refresh_at = None;
            self.viewing = Some((request, now));
            out.push(PlannerAction::ReadSnapshot { request });
        }
    }

    pub(super) fn may_plan(&self, now: Moment) -> bool {
        let due = self.dirty || self.wake.is_some_and(|at| now >= at);
        due && self.asked.is_none()
            && self.retry_at.is_none_or(|at| now >= at)
            && self.view.is_some()
            && self.known != Known::Nothing
    }

    /// Puts out who holds shards and will not give them back by itself.
    fn evict(
        &mut self,
        now: Moment,
        scene: &Scene<'_>,
        patience: Duration,
        ttl: Duration,
        wake: &mut Wake,
    ) -> Vec<(Life, EvictCause)> {
        let waiting = scene.waiting();
        self.revoked.retain(|key, _| waiting.contains(key));
        let mut causes: BTreeMap<Life, EvictCause> = BTreeMap::new();
        for key in waiting {
            let since = *self.revoked.entry(key.clone()).or_insert(now);
            let limit = since + Trust::surely(patience);
            match scene.look.mercy {
                _ if now < limit => wake.at(limit),
                Some(until) => wake.at(until),
                None => {
                    causes.insert(key.0, EvictCause::Overran);
                }
            }
        }
        for life in scene.owners(Standing::Missing) {
            causes.insert(life.clone(), EvictCause::Missing);
        }
        self.evicting.retain(|life, _| causes.contains_key(life));
        causes.retain(|life, _| {
            let again = self.evicting.get(life).copied();
            let due = again.is_none_or(|at| now >= at);
            let again = if due { now + ttl } else { again.unwrap_or(now) };
            self.evicting.insert(life.clone(), again);
            wake.at(again);
            due
        });
        causes.into_iter().collect()
    }
}

impl Planner {
    /// Looks at what is known, and acts on it.
    pub(super) fn plan(
        &mut self,
        now: Moment,
        reign: &mut Reign,
        out: &mut Vec<PlannerAction>,
    ) -> Result<(), BadDocument> {
        let (Known::Stored { epoch, at }, Some(view)) = (reign.known, reign.view.clone()) else {
            return Ok(());
        };
        let stored = self.remembered.as_ref().filter(|_| epoch.is_some());
        let mut wake = Wake(None);
        let mercy = self.mercy(now);
        let look = Look {
            now,
            config: &self.config,
            document: stored,
            known_at: at,
            view: &view,
            mercy,
        };
        let scene = Scene::new(look, &mut wake);
        wake.at_any(mercy);
        let patience = self.config.drain_timeout + self.config.ttl;
        for (life, cause) in reign.evict(now, &scene, patience, self.config.ttl, &mut wake) {
            out.push(PlannerAction::Evict { life, cause });
        }
        let draft = match self.config.layout {
            Layout::Fixed { shards } => fixed::draft(
                &scene,
                &reign.planned.settle(&scene, &mut wake),
                &*self.strategy,
                shards,
                self.remembered.as_ref(),
            ),
            Layout::Dense => dense::draft(&scene, &mut reign.planned, &mut wake),
        };
        reign.refresh_at = Some(
            reign
                .refresh_at
                .map_or(scene.look_at, |at| at.min(scene.look_at)),
        );
        reign.dirty = false;
        let Some(draft) = draft.filter(|draft| !draft.summary.is_empty()) else {
            reign.gather_until = None;
            reign.round_at = now;
            reign.wake = wake.0;
            return Ok(());
        };
        if draft.gathering {
            let until = *reign.gather_until.get_or_insert(now + GATHER);
            if now < until {
                wake.at(until);
                reign.round_at = now;
                reign.wake = wake.0;
                return Ok(());
            }
        }
        reign.wake = None;
        let format = scene.format;
        let swap = self.swap(reign, draft, epoch, format)?;
        out.push(PlannerAction::Swap(swap));
        Ok(())
    }

    fn swap(
        &mut self,
        reign: &mut Reign,
        mut draft: Draft,
        expected: Option<Epoch>,
        format: u16,
    ) -> Result<PlannedSwap, BadDocument> {
        draft.document.epoch = Epoch::default();
        draft.document.planner = reign.token;
        let document = draft.document.encode_in(format)?;
        self.requests += 1;
        let request = self.requests;
        reign.asked = Some((request, Asked::Swap(Box::new(draft.document))));
        Ok(PlannedSwap {
            request,
            token: reign.token,
            expected,
            floor: self.floor,
            ended: draft.ended,
            document,
            summary: draft.summary,
        })
    }
}

/// Nothing the first time, then doubling up to a third of the TTL.
fn backoff(failures: u32, ttl: Duration) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST_BACKOFF * (1 << doublings.min(10))).min(ttl / 3),
    }
}
