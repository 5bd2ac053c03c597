//! Membership: joins, shows that it lives, and tells how long that may be trusted.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::errors::ErrorKind;
use crate::held::LostCause;
use crate::names::MemoryId;
use crate::numbers::Incarnation;
use crate::time::Moment;
use crate::trust::Trust;

/// News that are told within this become one heartbeat.
const COALESCE: Duration = Duration::from_millis(2);
/// The first wait after an error; it doubles up to the pace of heartbeats.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// What the membership hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipEvent {
    /// The answer to [`MembershipAction::Join`].
    JoinAnswered {
        /// Which request.
        request: u64,
        /// What came back.
        answer: JoinAnswer,
    },
    /// The answer to [`MembershipAction::Beat`].
    BeatAnswered {
        /// Which request.
        request: u64,
        /// What came back.
        answer: BeatAnswer,
    },
    /// The answer to [`MembershipAction::Leave`].
    LeaveAnswered {
        /// Which request.
        request: u64,
        /// Whether the store confirmed it.
        confirmed: bool,
    },
    /// There is something to tell or to ask: send a heartbeat soon.
    Urge,
    /// Every keeper has read its document under this memory, and misses nothing (S12).
    DocumentsRead(MemoryId),
    /// A keeper found that the store forgot what it acted upon (S12).
    Rejoin,
    /// No shard's work is left.
    WorkGone,
    /// All work has stopped: leave for good.
    Leave,
    /// A deadline has come.
    Tick,
}

/// What came back from a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinAnswer {
    /// A life.
    Member {
        /// Which.
        incarnation: Incarnation,
        /// What the store remembers.
        memory: MemoryId,
        /// How long it lasts, by the store's clock at the answer.
        expires_in: Duration,
    },
    /// Another instance is live under the name.
    Taken {
        /// Its life.
        incarnation: Incarnation,
        /// The number of its last heartbeat.
        beat: u64,
        /// How long it lasts.
        expires_in: Duration,
    },
    /// There was no answer.
    Failed(ErrorKind),
}

/// What came back from a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatAnswer {
    /// The member lives on.
    Alive {
        /// What the store remembers.
        memory: MemoryId,
    },
    /// This life is over.
    Expired,
    /// The planner has put this life out.
    Evicted,
    /// There was no answer.
    Failed(ErrorKind),
}

/// What the driver must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipAction {
    /// Ask the store for a life.
    Join {
        /// To be repeated in the answer.
        request: u64,
        /// The highest incarnation that we know of (K1).
        floor: Option<Incarnation>,
    },
    /// Show that we live.
    Beat {
        /// To be repeated in the answer.
        request: u64,
        /// Which life.
        incarnation: Incarnation,
        /// The number of the heartbeat.
        beat: u64,
    },
    /// End this life in the store.
    Leave {
        /// To be repeated in the answer.
        request: u64,
        /// Which life.
        incarnation: Incarnation,
    },
    /// We are a member, trusted until then.
    Entered {
        /// Which life.
        incarnation: Incarnation,
        /// The end of trust.
        until: Moment,
        /// What the store remembers.
        memory: MemoryId,
    },
    /// Trust lasts until then.
    Trusted {
        /// The end of trust.
        until: Moment,
    },
    /// The life is over: everything that rests on it stops at once.
    Ended {
        /// Why.
        cause: LostCause,
    },
    /// Have every keeper read its document under this memory, then answer
    /// [`MembershipEvent::DocumentsRead`]. Until then trust is not renewed.
    ReadDocuments(MemoryId),
    /// Another process lives under our static name (G2). We go on asking.
    Duplicate,
    /// We have left for good.
    Left,
}

#[derive(Debug, Clone)]
enum Phase {
    Out(Outside),
    In(Inside),
    Leaving(Leaving),
    Left,
}

/// No member: about to ask, or asking.
#[derive(Debug, Clone)]
struct Outside {
    ask_at: Moment,
    asking: Option<(u64, Moment)>,
    failures: u32,
    /// The incumbent of our name, as it was when we began to wait for its end.
    incumbent: Option<(Incarnation, u64)>,
    /// An ended life that the store still counts as live: it must be left first (S12).
    resign: Option<Incarnation>,
    resigning: Option<u64>,
}

#[derive(Debug, Clone)]
struct Inside {
    incarnation: Incarnation,
    until: Moment,
    memory: MemoryId,
    beat_at: Moment,
    sent_at: Moment,
    urged: Option<Moment>,
    failures: u32,
    /// The requests under way, and when each was asked.
    asked: BTreeMap<u64, Moment>,
    /// A new memory of the store, and the trust that waits for the documents to be read under it.
    unverified: Option<(MemoryId, Moment)>,
}

#[derive(Debug, Clone)]
struct Leaving {
    incarnation: Incarnation,
    request: Option<u64>,
    ask_at: Moment,
    failures: u32,
}

/// Decides when to join, to beat, and how long to trust (T1 to T6, G1, G2, S12). Performs nothing.
#[derive(Debug)]
pub struct Membership {
    trust: Trust,
    random: StdRng,
    phase: Phase,
    requests: u64,
    beats: u64,
    /// The newest life of ours: it never comes back (G1), and the next one is higher (K1).
    last: Option<Incarnation>,
}

impl Membership {
    /// One that asks to join at the first tick.
    pub fn new(trust: Trust, random: StdRng, now: Moment) -> Self {
        Self {
            trust,
            random,
            phase: Phase::Out(Outside::asking_at(now)),
            requests: 0,
            beats: 0,
            last: None,
        }
    }

    /// Takes in one event, and says what is to be done about it, in order.
    #[must_use]
    pub fn step(&mut self, now: Moment, event: MembershipEvent) -> Vec<MembershipAction> {
        let mut out = Vec::new();
        // Before anything else: trust that has ended is over, whatever arrives (T2).
        if matches!(&self.phase, Phase::In(inside) if now >= inside.until) {
            // The store may still count us as live for the margin. We do not come back to a life
            // that we gave up: wait until it has surely ended.
            let rest = self.trust.margin() + self.trust.ttl() / 500;
            self.end(now, LostCause::Expired, rest, &mut out);
        }
        match event {
            MembershipEvent::JoinAnswered { request, answer } => {
                self.join_answered(now, request, answer, &mut out);
            }
            MembershipEvent::BeatAnswered { request, answer } => {
                self.beat_answered(now, request, answer, &mut out);
            }
            MembershipEvent::LeaveAnswered { request, confirmed } => {
                self.leave_answered(now, request, confirmed, &mut out);
            }
            MembershipEvent::Urge => {
                if let Phase::In(inside) = &mut self.phase {
                    inside.urged.get_or_insert(now);
                }
            }
            MembershipEvent::DocumentsRead(memory) => self.verified(&memory, &mut out),
            MembershipEvent::Rejoin => self.rejoin(now, &mut out),
            MembershipEvent::WorkGone => self.resign(&mut out),
            MembershipEvent::Leave => self.leave(now, &mut out),
            MembershipEvent::Tick => {}
        }
        self.ask_if_due(now, &mut out);
        out
    }

    /// When the driver must next deliver [`MembershipEvent::Tick`].
    pub fn deadline(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Out(outside) => Some(match outside.asking {
                // T6: a request has a deadline on our side, too.
                Some((_, asked)) => self.trust.until(asked),
                None => outside.ask_at,
            }),
            Phase::In(inside) => Some(self.next_beat(inside).min(inside.until)),
            Phase::Leaving(leaving) => leaving.request.is_none().then_some(leaving.ask_at),
            Phase::Left => None,
        }
    }

    /// The present life, and how long it is trusted.
    pub fn life(&self) -> Option<(Incarnation, Moment)> {
        match &self.phase {
            Phase::In(inside) => Some((inside.incarnation, inside.until)),
            Phase::Out(_) | Phase::Leaving(_) | Phase::Left => None,
        }
    }

    /// The invariants, as sentences that are violated; for tests, after each step.
    pub fn check(&self, now: Moment) -> Result<(), &'static str> {
        match &self.phase {
            Phase::In(inside) if now >= inside.until => Err("a life outlives its trust"),
            Phase::In(inside) if inside.until.since(now) > self.trust.window() => {
                Err("trust is longer than its window")
            }
            Phase::In(inside) if inside.asked.len() > 64 => Err("requests pile up"),
            Phase::In(_) | Phase::Out(_) | Phase::Leaving(_) | Phase::Left => Ok(()),
        }
    }

    fn ask_if_due(&mut self, now: Moment, out: &mut Vec<MembershipAction>) {
        match &self.phase {
            Phase::Out(outside) => {
                let lapsed = |(_, asked)| now >= self.trust.until(asked);
                if outside.asking.map_or(now >= outside.ask_at, lapsed) {
                    self.join(now, out);
                }
            }
            Phase::In(inside) => {
                if now >= self.next_beat(inside) {
                    self.beat(now, out);
                }
            }
            Phase::Leaving(leaving) => {
                if leaving.request.is_none() && now >= leaving.ask_at {
                    self.send_leave(out);
                }
            }
            Phase::Left => {}
        }
    }

    fn join(&mut self, now: Moment, out: &mut Vec<MembershipAction>) {
        let request = self.next_request();
        let floor = self.last;
        if let Phase::Out(outside) = &mut self.phase {
            outside.asking = Some((request, now));
            out.push(MembershipAction::Join { request, floor });
        }
    }

    fn join_answered(
        &mut self,
        now: Moment,
        request: u64,
        answer: JoinAnswer,
        out: &mut Vec<MembershipAction>,
    ) {
        let Phase::Out(outside) = &mut self.phase else {
            return; // Asked twice, it is one life: this one is answered already.
        };
        let Some((_, asked)) = outside.asking.take_if(|(asking, _)| *asking == request) else {
            return; // A request that was given up, for a newer one that is under way.
        };
        match answer {
            JoinAnswer::Member {
                incarnation,
                memory,
                expires_in,
            } => {
                // The store may have begun this life at an earlier, unanswered request.
                let until = asked
                    + expires_in
                        .min(self.trust.ttl())
                        .saturating_sub(self.trust.margin());
                if self.last.is_some_and(|last| incarnation <= last) || now >= until {
                    // A life of ours that is over already, or was answered too late to be trusted.
                    outside.ask_at = now + Trust::surely(expires_in);
                } else {
                    self.enter(now, incarnation, memory, until, out);
                }
            }
            JoinAnswer::Taken {
                incarnation,
                beat,
                expires_in,
            } => {
                let waited = outside.incumbent.take_if(|(life, _)| *life == incarnation);
                // Our own evicted life stands in the way, too, but it is no duplicate.
                if self.last != Some(incarnation) && waited.is_some_and(|(_, seen)| beat > seen) {
                    out.push(MembershipAction::Duplicate);
                }
                outside.incumbent = Some((incarnation, beat));
                outside.failures = 0;
                outside.ask_at = now + Trust::surely(expires_in) + COALESCE;
            }
            JoinAnswer::Failed(kind) => {
                let wait = self.backoff(kind);
                if let Phase::Out(outside) = &mut self.phase {
                    outside.failures += 1;
                    outside.ask_at = now + wait;
                }
            }
        }
    }

    fn enter(
        &mut self,
        now: Moment,
        incarnation: Incarnation,
        memory: MemoryId,
        until: Moment,
        out: &mut Vec<MembershipAction>,
    ) {
        self.last = Some(incarnation);
        self.phase = Phase::In(Inside {
            incarnation,
            until,
            memory: memory.clone(),
            // Half the way to a late end of trust, if that comes before the usual pace.
            beat_at: now + self.trust.renew_every().min(until.since(now) / 2),
            sent_at: now,
            urged: None,
            failures: 0,
            asked: BTreeMap::new(),
            unverified: None,
        });
        out.push(MembershipAction::Entered {
            incarnation,
            until,
            memory,
        });
    }

    /// News go out at once, but one request at a time; a silent one is not waited for long.
    fn next_beat(&self, inside: &Inside) -> Moment {
        let Some(urged) = inside.urged else {
            return inside.beat_at;
        };
        let soon = if inside.asked.is_empty() && inside.failures == 0 {
            urged + COALESCE
        } else {
            inside.sent_at + self.trust.look_every()
        };
        inside.beat_at.min(soon)
    }

    fn beat(&mut self, now: Moment, out: &mut Vec<MembershipAction>) {
        let request = self.next_request();
        self.beats += 1;
        let trust = self.trust;
        let Phase::In(inside) = &mut self.phase else {
            return;
        };
        // An answer to these could extend nothing any more.
        inside.asked.retain(|_, asked| now < trust.until(*asked));
        inside.asked.insert(request, now);
        inside.urged = None;
        inside.sent_at = now;
        inside.beat_at = now + trust.renew_every();
        out.push(MembershipAction::Beat {
            request,
            incarnation: inside.incarnation,
            beat: self.beats,
        });
    }

    fn beat_answered(
        &mut self,
        now: Moment,
        request: u64,
        answer: BeatAnswer,
        out: &mut Vec<MembershipAction>,
    ) {
        let Phase::In(inside) = &mut self.phase else {
            return; // The life that asked is over (T2).
        };
        let Some(asked) = inside.asked.remove(&request) else {
            return;
        };
        match answer {
            BeatAnswer::Alive { memory } => {
                let until = self.trust.until(asked);
                inside.failures = 0;
                renew(inside, memory, until, out);
            }
            BeatAnswer::Expired => {
                let wait = self.jitter();
                self.end(now, LostCause::Expired, wait, out);
            }
            BeatAnswer::Evicted => {
                let wait = self.jitter();
                self.end(now, LostCause::Superseded, wait, out);
            }
            BeatAnswer::Failed(kind) => {
                let wait = self.backoff(kind);
                if let Phase::In(inside) = &mut self.phase {
                    inside.failures += 1;
                    inside.beat_at = inside.beat_at.min(now + wait);
                }
            }
        }
    }

    fn verified(&mut self, memory: &MemoryId, out: &mut Vec<MembershipAction>) {
        let Phase::In(inside) = &mut self.phase else {
            return;
        };
        if let Some((memory, until)) = inside.unverified.take_if(|(it, _)| it == memory) {
            inside.memory = memory;
            extend(inside, until, out);
        }
    }

    fn rejoin(&mut self, now: Moment, out: &mut Vec<MembershipAction>) {
        let Phase::In(inside) = &self.phase else {
            return;
        };
        let incarnation = inside.incarnation;
        // If its work does not stop, the old life runs out by itself.
        self.end(
            now,
            LostCause::StoreReset,
            Trust::surely(self.trust.ttl()),
            out,
        );
        if let Phase::Out(outside) = &mut self.phase {
            outside.resign = Some(incarnation);
        }
    }

    /// Leaves a life that is over for us but not for the store, now that its work has stopped.
    fn resign(&mut self, out: &mut Vec<MembershipAction>) {
        let Phase::Out(outside) = &mut self.phase else {
            return;
        };
        let Some(incarnation) = outside.resign.take() else {
            return;
        };
        self.requests += 1;
        let request = self.requests;
        outside.resigning = Some(request);
        out.push(MembershipAction::Leave {
            request,
            incarnation,
        });
    }

    fn leave(&mut self, now: Moment, out: &mut Vec<MembershipAction>) {
        match &self.phase {
            Phase::In(inside) => {
                let incarnation = inside.incarnation;
                out.push(MembershipAction::Ended {
                    cause: LostCause::Released,
                });
                self.phase = Phase::Leaving(Leaving {
                    incarnation,
                    request: None,
                    ask_at: now,
                    failures: 0,
                });
            }
            Phase::Out(_) => {
                self.phase = Phase::Left;
                out.push(MembershipAction::Left);
            }
            Phase::Leaving(_) | Phase::Left => {}
        }
    }

    fn send_leave(&mut self, out: &mut Vec<MembershipAction>) {
        let request = self.next_request();
        if let Phase::Leaving(leaving) = &mut self.phase {
            leaving.request = Some(request);
            out.push(MembershipAction::Leave {
                request,
                incarnation: leaving.incarnation,
            });
        }
    }

    fn leave_answered(
        &mut self,
        now: Moment,
        request: u64,
        confirmed: bool,
        out: &mut Vec<MembershipAction>,
    ) {
        let wait = self.backoff(ErrorKind::Unavailable);
        match &mut self.phase {
            Phase::Leaving(leaving) if leaving.request == Some(request) => {
                leaving.request = None;
                leaving.failures += 1;
                leaving.ask_at = now + wait;
                if confirmed {
                    self.phase = Phase::Left;
                    out.push(MembershipAction::Left);
                }
            }
            Phase::Out(outside) if outside.resigning == Some(request) => {
                outside.resigning = None;
                if confirmed {
                    outside.ask_at = now;
                }
            }
            Phase::Out(_) | Phase::In(_) | Phase::Leaving(_) | Phase::Left => {}
        }
    }

    /// The life is over. A new one is asked for after `wait`.
    fn end(
        &mut self,
        now: Moment,
        cause: LostCause,
        wait: Duration,
        out: &mut Vec<MembershipAction>,
    ) {
        let ask_at = now + wait + self.jitter();
        self.phase = Phase::Out(Outside::asking_at(ask_at));
        out.push(MembershipAction::Ended { cause });
    }

    fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Spreads members that all lost the same store (M7).
    fn jitter(&mut self) -> Duration {
        let most = self.trust.look_every() / 2;
        self.random.random_range(Duration::ZERO..=most)
    }

    fn backoff(&mut self, kind: ErrorKind) -> Duration {
        let failures = match &self.phase {
            Phase::Out(outside) => outside.failures,
            Phase::In(inside) => inside.failures,
            Phase::Leaving(leaving) => leaving.failures,
            Phase::Left => 0,
        };
        let most = self.trust.renew_every();
        let wait = match kind {
            ErrorKind::Unavailable | ErrorKind::Indeterminate | ErrorKind::Rejected => {
                FIRST_BACKOFF * 2_u32.pow(failures.min(8))
            }
            ErrorKind::Quarantined { ends_within } => ends_within,
        };
        let wait = wait.clamp(COALESCE, most);
        self.random.random_range(wait / 2..=wait)
    }
}

impl Outside {
    fn asking_at(ask_at: Moment) -> Self {
        Self {
            ask_at,
            asking: None,
            failures: 0,
            incumbent: None,
            resign: None,
            resigning: None,
        }
    }
}

/// S12: an answer under another memory renews nothing until the documents were read under it.
fn renew(inside: &mut Inside, memory: MemoryId, until: Moment, out: &mut Vec<MembershipAction>) {
    match &mut inside.unverified {
        Some((unverified, waiting)) if *unverified == memory => *waiting = (*waiting).max(until),
        Some(_) | None if inside.memory != memory => {
            out.push(MembershipAction::ReadDocuments(memory.clone()));
            inside.unverified = Some((memory, until));
        }
        // A late answer from before the change: what it says is true no longer.
        Some(_) => {}
        None => extend(inside, until, out),
    }
}

fn extend(inside: &mut Inside, until: Moment, out: &mut Vec<MembershipAction>) {
    inside.until = inside.until.max(until);
    out.push(MembershipAction::Trusted {
        until: inside.until,
    });
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
