//! The keeper: runs the shards that the document gives to this member, and acks what it gave back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::document::{Document, Layout, MemberIndex, Slot};
use crate::held::LostCause;
use crate::member::KeyspaceReport;
use crate::names::{MemberId, MemoryId};
use crate::numbers::{Epoch, Incarnation, ShardId};
use crate::time::Moment;

/// How a node serves the keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// How long a revoked shard may go on before it is cancelled.
    pub drain_timeout: Duration,
    /// Dense layout with handoff at once: a new cut starts while the old one still drains.
    pub overlap: bool,
}

impl Terms {
    /// New work waits for the end of the old.
    pub const fn new(drain_timeout: Duration) -> Self {
        Self {
            drain_timeout,
            overlap: false,
        }
    }
}

/// What a keeper hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeeperEvent {
    /// The member has joined; it is trusted until then.
    Joined {
        /// Which life this is.
        incarnation: Incarnation,
        /// The end of trust.
        until: Moment,
    },
    /// A heartbeat was answered: the membership is trusted until then.
    Trusted(Moment),
    /// The membership is over.
    MembershipLost(LostCause),
    /// The store's memory is another one. Until the document was read under it, the driver must
    /// not let the heartbeats that said so renew trust (S12).
    MemoryChanged(MemoryId),
    /// The document was read, under a memory that was known before the read began.
    Read {
        /// What was read, stamped with its epoch; `None`: there is none.
        document: Option<Box<Document>>,
        /// The memory of the store.
        under: MemoryId,
    },
    /// A shard's work is really gone, and its guard dropped.
    Ended {
        /// The shard.
        shard: ShardId,
        /// The token under which it ran.
        token: Epoch,
    },
    /// This node serves the keyspace (again).
    Serve(Terms),
    /// It does so no longer: drain everything. The keeper goes on acking.
    Drain {
        /// What still runs then is cancelled.
        within: Duration,
    },
    /// A deadline has come.
    Tick,
}

/// What the driver must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeeperAction {
    /// Read the document, and answer with [`KeeperEvent::Read`].
    Read,
    /// Run this shard; answer with [`KeeperEvent::Ended`] when it is gone.
    Start {
        /// The shard.
        shard: ShardId,
        /// The grant.
        token: Epoch,
        /// Of how many shards.
        count: u16,
    },
    /// Ask this shard's work to finish.
    Drain {
        /// The shard.
        shard: ShardId,
        /// The grant.
        token: Epoch,
        /// When it is cancelled.
        deadline: Moment,
    },
    /// Drop this shard's work now.
    Cancel {
        /// The shard.
        shard: ShardId,
        /// The grant.
        token: Epoch,
        /// Why.
        cause: LostCause,
    },
    /// What the next heartbeat must say.
    Report(KeyspaceReport),
    /// The document was read under this memory, and nothing we rely on was lost.
    Verified(MemoryId),
    /// The store has forgotten swaps that we acted upon: leave, and join anew (S12).
    LeaveAndRejoin,
}

/// The membership, as the keeper sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Membership {
    incarnation: Incarnation,
    until: Moment,
}

/// What a document says of one life.
#[derive(Debug, Clone, Default)]
struct Mine {
    granted: BTreeMap<ShardId, Epoch>,
    revoked: BTreeMap<ShardId, Epoch>,
    /// How many shards there are.
    count: u16,
    /// Cuts of a dense keyspace overlap each other, whatever their index.
    dense: bool,
}

impl Mine {
    fn grants(&self, shard: ShardId, token: Epoch) -> bool {
        self.granted.get(&shard) == Some(&token)
    }

    fn revokes(&self, shard: ShardId, token: Epoch) -> bool {
        self.revoked.get(&shard) == Some(&token)
    }
}

/// One shard's work, from its start until it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Running,
    Draining { deadline: Moment },
    Cancelled,
}

/// Decides which shards run here, and what is acked. Performs none of it.
///
/// It keeps ONE-OWNER on this member's side: work starts only under a grant to this very life,
/// while the membership is trusted (S1, S3); a revoked shard is acked only when its work is gone
/// (S4); nothing outlives trust (T1, S3).
#[derive(Debug, Clone)]
pub struct Keeper {
    me: MemberId,
    terms: Terms,
    serving: bool,
    life: Option<Membership>,
    /// The newest life of ours, whether it lasts or not.
    last: Option<Incarnation>,
    seen: Epoch,
    /// Whether `mine` is what the document of `seen` says.
    acted: bool,
    /// What the newest document says of this life.
    mine: Mine,
    /// The memory under which the document is still to be read.
    unread: Option<MemoryId>,
    runs: BTreeMap<(ShardId, Epoch), Run>,
    reported: KeyspaceReport,
}

impl Keeper {
    /// The keeper of this member, which is none yet and serves nothing yet.
    pub fn new(me: MemberId) -> Self {
        Self {
            me,
            terms: Terms::new(Duration::ZERO),
            serving: false,
            life: None,
            last: None,
            seen: Epoch::default(),
            acted: false,
            mine: Mine::default(),
            unread: None,
            runs: BTreeMap::new(),
            reported: KeyspaceReport::default(),
        }
    }

    /// Takes in one event, and says what is to be done about it, in order.
    #[must_use]
    pub fn step(&mut self, now: Moment, event: KeeperEvent) -> Vec<KeeperAction> {
        let mut out = Vec::new();
        // Before anything else: trust that has ended is over, whatever arrives (T2).
        if self.life.is_some_and(|life| now >= life.until) {
            self.lose(LostCause::Expired, &mut out);
        }
        match event {
            KeeperEvent::Joined { incarnation, until } => {
                self.join(now, incarnation, until, &mut out);
            }
            KeeperEvent::Trusted(until) => {
                if let Some(life) = &mut self.life {
                    life.until = life.until.max(until);
                }
            }
            KeeperEvent::MembershipLost(cause) => self.lose(cause, &mut out),
            KeeperEvent::MemoryChanged(memory) => {
                if self.life.is_some() {
                    self.unread = Some(memory);
                    out.push(KeeperAction::Read);
                }
            }
            KeeperEvent::Read { document, under } => self.read(now, document, under, &mut out),
            KeeperEvent::Ended { shard, token } => {
                self.ended(now, shard, token, &mut out);
            }
            KeeperEvent::Serve(terms) => {
                self.terms = terms;
                self.serving = true;
                self.start_granted(now, &mut out);
            }
            KeeperEvent::Drain { within } => {
                self.serving = false;
                self.drain_where(now + within, |_, _| true, &mut out);
            }
            KeeperEvent::Tick => self.cancel_overrun(now, &mut out),
        }
        out
    }

    /// When the driver must next deliver [`KeeperEvent::Tick`].
    pub fn deadline(&self) -> Option<Moment> {
        let drains = self.runs.values().filter_map(|run| match run {
            Run::Draining { deadline } => Some(*deadline),
            Run::Running | Run::Cancelled => None,
        });
        drains.chain(self.life.map(|life| life.until)).min()
    }

    /// What every heartbeat says of this keyspace.
    pub fn current_report(&self) -> &KeyspaceReport {
        &self.reported
    }

    /// Whether the membership is trusted, as far as this keeper was told.
    pub fn is_member(&self) -> bool {
        self.life.is_some()
    }

    /// Whether no shard's work is left, not even cancelled.
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// The invariants, as sentences that are violated; for tests, after each step.
    pub fn check(&self, now: Moment) -> Result<(), &'static str> {
        let active = || self.runs.iter().filter(|(_, run)| **run != Run::Cancelled);
        if active().next().is_some() && self.life.is_none_or(|life| now >= life.until) {
            return Err("a shard runs without trust");
        }
        if self.runs.values().any(|run| *run == Run::Running) && !self.serving {
            return Err("a shard runs undrained in a keyspace that is no longer served");
        }
        let shards: BTreeSet<ShardId> = active().map(|((shard, _), _)| *shard).collect();
        if !self.terms.overlap && shards.len() < active().count() {
            return Err("a shard runs under two tokens");
        }
        for (&(shard, token), run) in &self.runs {
            if *run == Run::Running && !self.mine.grants(shard, token) {
                return Err("a shard runs that is not this life's");
            }
            let acked = self.reported.seen == self.seen && !self.reported.draining.contains(&shard);
            if self.life.is_some() && self.mine.revokes(shard, token) && acked {
                return Err("a shard is acked that still runs");
            }
        }
        Ok(())
    }

    fn join(
        &mut self,
        now: Moment,
        incarnation: Incarnation,
        until: Moment,
        out: &mut Vec<KeeperAction>,
    ) {
        if let Some(life) = &mut self.life
            && life.incarnation == incarnation
        {
            life.until = life.until.max(until);
            return;
        }
        self.lose(LostCause::Expired, out);
        // A life that lasts, though we took it for over: the membership knows better, for it was
        // renewed in time. What was stopped starts again. Any other life has seen nothing: the
        // store's record of it is new.
        if self.last != Some(incarnation) {
            self.seen = Epoch::default();
            self.reported = KeyspaceReport::default();
        }
        self.last = Some(incarnation);
        if now < until {
            self.life = Some(Membership { incarnation, until });
            out.push(KeeperAction::Read);
        }
    }

    /// Everything stops at once. What still runs is cancelled, and gone when the driver says so.
    fn lose(&mut self, cause: LostCause, out: &mut Vec<KeeperAction>) {
        self.life = None;
        self.unread = None;
        self.mine = Mine::default();
        self.acted = false;
        for (&(shard, token), run) in &mut self.runs {
            cancel((shard, token), run, cause, out);
        }
    }

    fn read(
        &mut self,
        now: Moment,
        document: Option<Box<Document>>,
        under: MemoryId,
        out: &mut Vec<KeeperAction>,
    ) {
        if self.life.is_none() {
            return; // The next life reads for itself.
        }
        let epoch = document.as_ref().map_or(Epoch::default(), |it| it.epoch);
        if self.unread.as_ref() == Some(&under) {
            if epoch < self.seen {
                // Swaps were lost that gave us shards, or took them. Whatever we hold may be given
                // to others once the store grants again (S12).
                self.lose(LostCause::StoreReset, out);
                out.push(KeeperAction::LeaveAndRejoin);
                return;
            }
            self.unread = None;
            out.push(KeeperAction::Verified(under));
        }
        let is_news = |it: Epoch| it > self.seen || (it == self.seen && !self.acted);
        if let Some(document) = document.filter(|document| is_news(document.epoch)) {
            self.act_on(now, &document, out);
        }
    }

    /// S3: stop what is no longer ours, drain what is revoked, start what is granted; then `seen`.
    fn act_on(&mut self, now: Moment, document: &Document, out: &mut Vec<KeeperAction>) {
        self.mine = self.said_of_me(document);
        let mine = &self.mine;
        let overlap = self.terms.overlap && !mine.granted.is_empty();
        for (&(shard, token), run) in &mut self.runs {
            if !mine.grants(shard, token) && !mine.revokes(shard, token) && !overlap {
                cancel((shard, token), run, LostCause::Superseded, out);
            }
        }
        let mine = self.mine.clone();
        let deadline = now + self.terms.drain_timeout;
        self.drain_where(deadline, |shard, token| !mine.grants(shard, token), out);
        self.start_granted(now, out);
        self.seen = document.epoch;
        self.acted = true;
        self.report(out);
    }

    /// The grants and revocations of this very life (S1).
    ///
    /// A dense cut is granted only as a whole: at its barrier it grants nothing new (S11).
    fn said_of_me(&self, document: &Document) -> Mine {
        let mut mine = Mine {
            count: u16::try_from(document.slots.len()).unwrap_or(u16::MAX),
            dense: document.layout == Layout::Dense,
            ..Mine::default()
        };
        let Some(me) = self.place_in(document) else {
            return mine;
        };
        let at_barrier = !document.is_stable();
        for (shard, slot) in document.numbered() {
            match *slot {
                Slot::Owned { member, token } if member == me => {
                    if !at_barrier || self.runs.contains_key(&(shard, token)) {
                        mine.granted.insert(shard, token);
                    }
                }
                Slot::Revoking { member, token, .. } if member == me => {
                    mine.revoked.insert(shard, token);
                }
                Slot::Free { .. } | Slot::Owned { .. } | Slot::Revoking { .. } => {}
            }
        }
        mine
    }

    fn place_in(&self, document: &Document) -> Option<MemberIndex> {
        let life = (self.me.clone(), self.life?.incarnation);
        document.index_of(&life)
    }

    fn ended(&mut self, now: Moment, shard: ShardId, token: Epoch, out: &mut Vec<KeeperAction>) {
        if self.runs.remove(&(shard, token)).is_none() {
            return;
        }
        if self.mine.dense {
            self.start_granted(now, out);
        } else {
            self.start(now, shard, out);
        }
        self.report(out);
    }

    fn start_granted(&mut self, now: Moment, out: &mut Vec<KeeperAction>) {
        let shards: Vec<ShardId> = self.mine.granted.keys().copied().collect();
        for shard in shards {
            self.start(now, shard, out);
        }
    }

    /// Starts a shard if it is granted, served, trusted, and nothing stands in the way.
    fn start(&mut self, now: Moment, shard: ShardId, out: &mut Vec<KeeperAction>) {
        let trusted = self.life.is_some_and(|life| now < life.until);
        let Some(&token) = self.mine.granted.get(&shard) else {
            return;
        };
        if trusted && self.serving && !self.is_blocked(shard, token) {
            self.runs.insert((shard, token), Run::Running);
            let count = self.mine.count;
            out.push(KeeperAction::Start {
                shard,
                token,
                count,
            });
        }
    }

    /// Whether older work must end first: of the same shard, or of any cut where cuts overlap.
    fn is_blocked(&self, shard: ShardId, token: Epoch) -> bool {
        if self.terms.overlap {
            self.runs.contains_key(&(shard, token))
        } else if self.mine.dense {
            !self.runs.is_empty()
        } else {
            self.is_busy(shard)
        }
    }

    fn is_busy(&self, shard: ShardId) -> bool {
        let any_token = (shard, Epoch::new(0))..=(shard, Epoch::new(u64::MAX));
        self.runs.range(any_token).next().is_some()
    }

    fn drain_where(
        &mut self,
        deadline: Moment,
        which: impl Fn(ShardId, Epoch) -> bool,
        out: &mut Vec<KeeperAction>,
    ) {
        for (&(shard, token), run) in &mut self.runs {
            if *run == Run::Running && which(shard, token) {
                *run = Run::Draining { deadline };
                out.push(KeeperAction::Drain {
                    shard,
                    token,
                    deadline,
                });
            }
        }
    }

    fn cancel_overrun(&mut self, now: Moment, out: &mut Vec<KeeperAction>) {
        for (&key, run) in &mut self.runs {
            if let Run::Draining { deadline } = *run
                && now >= deadline
            {
                cancel(key, run, LostCause::Overran, out);
            }
        }
    }

    /// `draining` names every revoked shard of which any work is left, be it of an earlier life.
    fn report(&mut self, out: &mut Vec<KeeperAction>) {
        if self.life.is_none() {
            return; // Nobody asks a member that is none. The next life reports anew.
        }
        let old_cut = self.mine.dense && !self.runs.is_empty();
        let revoked = self.mine.revoked.keys().copied();
        let report = KeyspaceReport {
            seen: self.seen,
            draining: revoked
                .filter(|shard| old_cut || self.is_busy(*shard))
                .collect(),
        };
        if report != self.reported {
            self.reported = report.clone();
            out.push(KeeperAction::Report(report));
        }
    }
}

fn cancel(key: (ShardId, Epoch), run: &mut Run, cause: LostCause, out: &mut Vec<KeeperAction>) {
    if *run != Run::Cancelled {
        *run = Run::Cancelled;
        let (shard, token) = key;
        out.push(KeeperAction::Cancel {
            shard,
            token,
            cause,
        });
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
