//! Nodes with a keeper and a planner each, a network that delays and loses, and all the checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::machine::keeper::{Keeper, KeeperAction, KeeperEvent, Terms};
use coordinator_core::machine::planner::{Planner, PlannerAction, PlannerConfig, PlannerEvent};
use coordinator_core::{
    Document, Epoch, ErrorKind, Evidence, FencingToken, Incarnation, Keyspace, Layout, Life,
    LostCause, MemberId, MemoryId, Moment, ShardId, Slot, Snapshot, Sticky,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::store::Store;

pub(crate) const TTL: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_millis(900);
const BEAT: Duration = Duration::from_millis(300);
const NODES: usize = 4;

pub(crate) fn keyspace() -> Keyspace {
    Keyspace::from("orders")
}

/// A run of one shard's work.
struct Run {
    /// When the work is gone; `None`: it goes on.
    gone_at: Option<Moment>,
    cancelled: bool,
}

struct Node {
    id: MemberId,
    fixed: bool,
    keeper: Keeper,
    planner: Planner,
    life: Option<Incarnation>,
    trusted_until: Moment,
    runs: BTreeMap<(ShardId, Epoch), Run>,
    serving: bool,
    beat_at: Moment,
    /// What the planner was last told of the members.
    snapshot: Arc<Snapshot>,
    /// Which of its reads of the members is under way.
    reading: u64,
    /// Not before then is the network back, does the process wake, or is it started again.
    cut_until: Moment,
    asleep_until: Moment,
    crashed_until: Moment,
    /// Its work ignores the wish to drain.
    stubborn: bool,
}

/// An answer on its way to a planner.
struct Letter {
    at: Moment,
    to: usize,
    /// Crashes count: an answer to an earlier process is lost.
    generation: u64,
    event: PlannerEvent,
}

pub(crate) struct World {
    seed: u64,
    random: StdRng,
    millis: u64,
    config: PlannerConfig,
    store: Store,
    nodes: Vec<Node>,
    generations: Vec<u64>,
    letters: Vec<Letter>,
    leader: Option<usize>,
    tokens: u64,
    faults: bool,
}

impl World {
    pub(crate) fn new(seed: u64, config: PlannerConfig, fixed: bool) -> Self {
        let nodes = (0..NODES).map(|at| Node::new(at, &config, fixed)).collect();
        Self {
            seed,
            random: StdRng::seed_from_u64(seed),
            millis: 10_000,
            config,
            store: Store::default(),
            nodes,
            generations: vec![0; NODES],
            letters: Vec::new(),
            leader: None,
            tokens: 0,
            faults: true,
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::since_origin(Duration::from_millis(self.millis))
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.store.document.as_ref().map(|(epoch, _)| *epoch)
    }

    /// All faults end.
    pub(crate) fn heal(&mut self) {
        let now = self.now();
        for node in &mut self.nodes {
            (node.cut_until, node.asleep_until) = (now, now);
            node.crashed_until = node.crashed_until.min(now);
            node.stubborn = false;
        }
        for at in 0..NODES {
            self.set_serving(at, true);
        }
    }

    pub(crate) fn step(&mut self, faults: bool) {
        self.faults = faults;
        self.millis += self.random.random_range(1..40);
        if faults {
            self.misfortune();
        }
        self.elect();
        for at in 0..NODES {
            self.live(at);
        }
        self.deliver();
        for at in 0..NODES {
            if self.is_awake(at)
                && self.nodes[at]
                    .planner
                    .deadline()
                    .is_some_and(|due| self.now() >= due)
            {
                self.plan(at, PlannerEvent::Tick);
            }
        }
        self.check();
    }

    /// Something goes wrong, now and then.
    fn misfortune(&mut self) {
        let now = self.now();
        let at = self.random.random_range(0..NODES);
        let long = Duration::from_millis(self.random.random_range(100..4_000));
        match self.random.random_range(0..240) {
            0 => self.nodes[at].cut_until = now + long,
            1 => self.nodes[at].asleep_until = now + long,
            2 => {
                self.generations[at] += 1;
                let fixed = self.nodes[at].fixed;
                self.nodes[at] = Node::new(at, &self.config, fixed);
                self.nodes[at].crashed_until = now + long;
            }
            3 => self.nodes[at].stubborn ^= true,
            4 => {
                let serving = self.random.random();
                self.set_serving(at, serving);
            }
            5 => {
                if let Some(life) = self.nodes[at].present() {
                    self.store.erase(&life);
                }
            }
            6 => self.restart_cleanly(at),
            // Another planner, while the old one may not know yet.
            7 | 8 => self.leader = None,
            _ => {}
        }
    }

    /// Work stops, then the member leaves; a new process follows soon.
    fn restart_cleanly(&mut self, at: usize) {
        let now = self.now();
        if let Some(life) = self.nodes[at].present().filter(|_| self.is_connected(at)) {
            self.store.leave(now, &life);
            self.generations[at] += 1;
            self.nodes[at] = Node::new(at, &self.config, self.nodes[at].fixed);
            self.nodes[at].crashed_until = now + Duration::from_millis(500);
        }
    }

    fn set_serving(&mut self, at: usize, serving: bool) {
        if self.nodes[at].serving != serving && self.is_awake(at) {
            let within = self.config.drain_timeout;
            self.nodes[at].serving = serving;
            self.keep(
                at,
                if serving {
                    KeeperEvent::Serve(Terms::new(within))
                } else {
                    KeeperEvent::Drain { within }
                },
            );
        }
    }

    fn is_awake(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        self.now() >= node.asleep_until && self.now() >= node.crashed_until
    }

    fn is_connected(&self, at: usize) -> bool {
        self.is_awake(at) && self.now() >= self.nodes[at].cut_until
    }

    /// The planner's lease goes to somebody who serves. The one before may hear of it, or not.
    fn elect(&mut self) {
        let fit = |world: &Self, at: usize| {
            world.is_connected(at) && world.nodes[at].serving && world.nodes[at].life.is_some()
        };
        if self
            .leader
            .is_some_and(|at| fit(self, at) && self.nodes[at].planner.is_leading())
        {
            return;
        }
        let candidates: Vec<usize> = (0..NODES).filter(|at| fit(self, *at)).collect();
        if candidates.is_empty() {
            return;
        }
        let at = candidates[self.random.random_range(0..candidates.len())];
        for other in 0..NODES {
            let told = !self.faults || self.random.random_bool(0.5);
            if other != at && self.is_awake(other) && told {
                self.plan(other, PlannerEvent::Lost);
            }
        }
        self.tokens += 1;
        self.leader = Some(at);
        let token = FencingToken::new(self.tokens);
        self.plan(at, PlannerEvent::Leading { token });
    }

    /// One node's own life: heartbeats, documents, work.
    fn live(&mut self, at: usize) {
        if !self.is_awake(at) {
            return;
        }
        let now = self.now();
        self.keep(at, KeeperEvent::Tick);
        let gone: Vec<_> = self.nodes[at].gone(now);
        for (shard, token) in gone {
            self.nodes[at].runs.remove(&(shard, token));
            self.keep(at, KeeperEvent::Ended { shard, token });
        }
        if self.nodes[at].life.is_some() && now >= self.nodes[at].trusted_until {
            self.nodes[at].life = None;
            self.keep(at, KeeperEvent::MembershipLost(LostCause::Expired));
        }
        if self.is_connected(at) && now >= self.nodes[at].beat_at {
            self.beat(at);
        }
        if self.is_connected(at) && self.random.random_bool(0.3) {
            self.read(at);
        }
    }

    fn beat(&mut self, at: usize) {
        let now = self.now();
        let lost = self.faults && self.random.random_bool(0.1);
        let node = &mut self.nodes[at];
        node.beat_at = now + BEAT;
        let Some(life) = node.present() else {
            let joined = self.store.join(now, &node.id, node.fixed, node.serving);
            if let Some(incarnation) = joined.filter(|_| !lost) {
                node.life = Some(incarnation);
                node.trusted_until = now + WINDOW;
                let until = node.trusted_until;
                self.keep(at, KeeperEvent::Joined { incarnation, until });
                self.plan(
                    at,
                    PlannerEvent::Beat {
                        memory: MemoryId::from("memory"),
                    },
                );
            }
            return;
        };
        let report = node.keeper.current_report().clone();
        let alive = self.store.heartbeat(now, &life, node.serving, &report);
        if lost {
            return;
        }
        if alive {
            node.trusted_until = now + WINDOW;
            let until = node.trusted_until;
            self.keep(at, KeeperEvent::Trusted(until));
            self.plan(
                at,
                PlannerEvent::Beat {
                    memory: MemoryId::from("memory"),
                },
            );
        } else {
            node.life = None;
            self.keep(at, KeeperEvent::MembershipLost(LostCause::Expired));
        }
    }

    fn read(&mut self, at: usize) {
        let document = self.stored().map(Box::new);
        let under = MemoryId::from("memory");
        self.keep(at, KeeperEvent::Read { document, under });
    }

    fn stored(&self) -> Option<Document> {
        let (epoch, bytes) = self.store.document.as_ref()?;
        Some(Document::decode(*epoch, bytes).expect("only legal documents are stored"))
    }

    fn keep(&mut self, at: usize, event: KeeperEvent) {
        let now = self.now();
        for action in self.nodes[at].keeper.step(now, event) {
            match action {
                KeeperAction::Start { shard, token, .. } => {
                    let run = Run {
                        gone_at: None,
                        cancelled: false,
                    };
                    self.nodes[at].runs.insert((shard, token), run);
                }
                KeeperAction::Drain { shard, token, .. } => {
                    let takes = Duration::from_millis(self.random.random_range(0..600));
                    self.nodes[at].stop(shard, token, now + takes, false);
                }
                KeeperAction::Cancel { shard, token, .. } => {
                    // Blocking code is deaf to that, too, for a while.
                    let deaf = if self.nodes[at].stubborn { 3_000 } else { 50 };
                    let takes = Duration::from_millis(self.random.random_range(0..deaf));
                    self.nodes[at].stop(shard, token, now + takes, true);
                }
                KeeperAction::Report(_) => self.nodes[at].beat_at = now,
                KeeperAction::Read | KeeperAction::Verified(_) | KeeperAction::LeaveAndRejoin => {}
            }
        }
        self.nodes[at]
            .keeper
            .check(now)
            .expect("the keeper is sound");
    }

    fn plan(&mut self, at: usize, event: PlannerEvent) {
        // An answer that nobody awaits any more tells the planner nothing.
        if let PlannerEvent::SnapshotAnswered {
            request,
            answer: Ok(snapshot),
        } = &event
            && *request == self.nodes[at].reading
        {
            self.nodes[at].snapshot = snapshot.clone();
        }
        let now = self.now();
        let actions = self.nodes[at].planner.step(now, event);
        for action in actions {
            self.perform(at, action);
        }
    }

    /// The network may lose the request, or the answer; either way the outcome is unknown.
    fn perform(&mut self, at: usize, action: PlannerAction) {
        let now = self.now();
        let lossy = self.faults || !self.is_connected(at);
        let request_lost = !self.is_connected(at) || (lossy && self.random.random_bool(0.05));
        let answer_lost = request_lost || (lossy && self.random.random_bool(0.05));
        let event = match action {
            PlannerAction::Lead { request, token } => {
                let answer = if request_lost {
                    Err(ErrorKind::Unavailable)
                } else {
                    Ok(self.store.lead(token))
                };
                let answer = or_unknown(answer, answer_lost);
                PlannerEvent::LeadAnswered { request, answer }
            }
            PlannerAction::Load { request } => {
                let answer = or_unknown(Ok(self.store.load()), answer_lost);
                PlannerEvent::LoadAnswered { request, answer }
            }
            PlannerAction::ReadSnapshot { request } => {
                self.nodes[at].reading = request;
                let answer = or_unknown(Ok(Arc::new(self.store.snapshot(now))), answer_lost);
                PlannerEvent::SnapshotAnswered { request, answer }
            }
            PlannerAction::Swap(swap) => {
                let request = swap.request;
                let answer = if request_lost {
                    Err(ErrorKind::Unavailable)
                } else {
                    let before = self.stored();
                    let answer = self.store.swap(now, &swap);
                    if let Some(before) = before.filter(|before| self.epoch() != Some(before.epoch))
                    {
                        self.check_step(at, &before, &swap.ended);
                    }
                    Ok(answer)
                };
                let answer = or_unknown(answer, answer_lost);
                PlannerEvent::SwapAnswered { request, answer }
            }
            PlannerAction::Evict { life, .. } => {
                let answer = or_unknown(Ok(self.store.evict(now, &life)), answer_lost);
                PlannerEvent::EvictAnswered { life, answer }
            }
            PlannerAction::Resign { .. } => {
                self.leader = self.leader.filter(|leader| *leader != at);
                return;
            }
        };
        let takes = Duration::from_millis(self.random.random_range(0..60));
        self.letters.push(Letter {
            at: now + takes,
            to: at,
            generation: self.generations[at],
            event,
        });
    }

    fn deliver(&mut self) {
        let now = self.now();
        let due = self.letters.extract_if(.., |letter| letter.at <= now);
        let due: Vec<Letter> = due.collect();
        for letter in due {
            if letter.generation != self.generations[letter.to] {
                continue;
            }
            if self.is_awake(letter.to) {
                self.plan(letter.to, letter.event);
            } else {
                self.letters.push(letter);
            }
        }
    }

    /// S2: what was stored may follow what was there, on what the planner knew.
    fn check_step(&self, at: usize, before: &Document, ended: &[Life]) {
        let after = self.stored().expect("it was just stored");
        let keyspace = keyspace();
        let evidence = Evidence {
            keyspace: &keyspace,
            snapshot: &self.nodes[at].snapshot,
            ended,
        };
        if let Err(illegal) = after.follows(before, &evidence) {
            panic!("seed {}: {illegal}", self.seed);
        }
    }

    /// ONE-OWNER: among all that run and are trusted. In the dense layout, parts of two cuts.
    fn check(&self) {
        let now = self.now();
        let dense = self.config.layout == Layout::Dense;
        let mut owners: BTreeMap<ShardId, usize> = BTreeMap::new();
        let mut cut = None;
        for (at, node) in self.nodes.iter().enumerate() {
            // A process that sleeps does nothing; when it wakes, it looks at its clock first.
            if !self.is_awake(at) || node.life.is_none() || now >= node.trusted_until {
                continue;
            }
            for (&(shard, token), run) in &node.runs {
                if run.cancelled {
                    continue;
                }
                let other = owners.insert(shard, at);
                assert_eq!(
                    other, None,
                    "seed {}: shard {shard} twice at {now:?}",
                    self.seed
                );
                if dense {
                    let other = *cut.get_or_insert(token);
                    assert_eq!(other, token, "seed {}: two cuts at {now:?}", self.seed);
                }
            }
        }
    }

    /// Whether every shard runs at its owner, evenly.
    pub(crate) fn has_converged(&self) -> bool {
        let Some(document) = self.stored() else {
            return false;
        };
        let mut counts = [0; NODES];
        for (shard, slot) in document.numbered() {
            let Slot::Owned { token, .. } = slot else {
                return false;
            };
            let runs = |node: &Node| {
                let run = node
                    .runs
                    .get(&(shard, *token))
                    .is_some_and(|run| run.gone_at.is_none());
                run && document.owner(shard) == node.present().as_ref()
            };
            let Some(at) = self.nodes.iter().position(runs) else {
                return false;
            };
            counts[at] += 1;
        }
        let (most, least) = (counts.iter().max(), counts.iter().min());
        let even = most
            .zip(least)
            .is_some_and(|(most, least)| most - least <= 1);
        even && (self.config.layout != Layout::Dense || document.slots.len() == NODES)
    }

    pub(crate) fn picture(&self) -> String {
        format!(
            "{:?}\n{:#?}",
            self.stored(),
            self.store.snapshot(self.now()).members
        )
    }
}

impl Node {
    fn new(at: usize, config: &PlannerConfig, fixed: bool) -> Self {
        let id = MemberId::new(format!("m{at}"));
        let mut keeper = Keeper::new(id.clone());
        let serve = KeeperEvent::Serve(Terms::new(config.drain_timeout));
        assert_eq!(keeper.step(Moment::ZERO, serve), []);
        Self {
            id,
            fixed,
            keeper,
            planner: Planner::new(config.clone(), Arc::new(Sticky::new())),
            life: None,
            trusted_until: Moment::ZERO,
            runs: BTreeMap::new(),
            serving: true,
            beat_at: Moment::ZERO,
            snapshot: Arc::default(),
            reading: 0,
            cut_until: Moment::ZERO,
            asleep_until: Moment::ZERO,
            crashed_until: Moment::ZERO,
            stubborn: false,
        }
    }

    fn present(&self) -> Option<Life> {
        Some((self.id.clone(), self.life?))
    }

    fn stop(&mut self, shard: ShardId, token: Epoch, at: Moment, cancelled: bool) {
        let stubborn = self.stubborn && !cancelled;
        if let Some(run) = self.runs.get_mut(&(shard, token)) {
            run.cancelled |= cancelled;
            if !stubborn {
                run.gone_at = Some(run.gone_at.map_or(at, |earlier| earlier.min(at)));
            }
        }
    }

    fn gone(&self, now: Moment) -> Vec<(ShardId, Epoch)> {
        let gone = |run: &Run| run.gone_at.is_some_and(|at| now >= at);
        let gone = self.runs.iter().filter(|(_, run)| gone(run));
        gone.map(|(key, _)| *key).collect()
    }
}

fn or_unknown<T>(answer: Result<T, ErrorKind>, lost: bool) -> Result<T, ErrorKind> {
    match answer {
        Ok(_) if lost => Err(ErrorKind::Indeterminate),
        answer => answer,
    }
}
