//! The link between one member and the store: where a test puts its faults.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coordinator_core::{MemberId, Moment};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::faults::{Delay, Failure, Faults, Plan, chance};
use crate::gate::Process;
use crate::store::Hub;
use crate::sync::Shared;
use crate::time::MemberClock;

/// One member's way to the store, and its machine. Cheap to clone.
///
/// All settings hold for the name, for every process that ever connects under it, from the moment
/// they are made; [`Link::clear`] takes all of them back.
#[derive(Debug, Clone)]
pub struct Link {
    pub(crate) inner: Arc<LinkState>,
    pub(crate) hub: Arc<Hub>,
}

/// What the store keeps of one link.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) name: MemberId,
    pub(crate) clock: Arc<MemberClock>,
    faults: Shared<Faults>,
    random: Shared<StdRng>,
    processes: Shared<Processes>,
    /// Told of each break of the connection: what waits for a hint listens to it.
    breaks: Notify,
}

/// All starts of one member.
#[derive(Debug)]
struct Processes {
    /// The newest one, and the one that the next `connect` is, if none has been yet.
    current: Arc<Process>,
    connected: bool,
    former: Vec<Weak<Process>>,
    count: u64,
    paused: bool,
}

impl LinkState {
    pub(crate) fn new(name: MemberId, seed: u64, epoch: Instant) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        // Each machine has been up for another time.
        let up = Duration::from_micros(random.random_range(0..1_000_000_000_000));
        Self {
            name,
            clock: Arc::new(MemberClock::new(Moment::since_origin(up), epoch)),
            faults: Shared::new(Faults::none()),
            random: Shared::new(random),
            processes: Shared::new(Processes {
                current: Arc::new(Process::new(false)),
                connected: false,
                former: Vec::new(),
                count: 0,
                paused: false,
            }),
            breaks: Notify::new(),
        }
    }

    /// Another start of this member: its process, and how many there have been.
    pub(crate) fn start(&self) -> (Arc<Process>, u64) {
        let mut processes = self.processes.lock();
        if processes.connected {
            processes.replace();
        }
        processes.connected = true;
        processes.count += 1;
        (processes.current.clone(), processes.count)
    }

    fn current(&self) -> Arc<Process> {
        self.processes.lock().current.clone()
    }

    /// Whether a request can leave, and what becomes of it.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        let faults = self.faults.lock();
        if faults.cut_requests {
            return Err(Failure::Cut);
        }
        Ok(faults.plan(&mut self.random.lock()))
    }

    pub(crate) fn faults(&self) -> Faults {
        self.faults.lock().clone()
    }

    /// The same, for what goes out by the bus.
    pub(crate) fn plan_publish(&self) -> Result<Plan, Failure> {
        let faults = self.faults.lock();
        if faults.cut_bus {
            return Err(Failure::Cut);
        }
        Ok(faults.plan_publish(&mut self.random.lock()))
    }

    /// Whether requests arrive at this moment.
    pub(crate) fn passes_requests(&self) -> bool {
        !self.faults.lock().cut_requests
    }

    /// Whether replies and hints arrive at this moment.
    pub(crate) fn passes_replies(&self) -> bool {
        !self.faults.lock().deaf()
    }

    /// Whether the bus is connected.
    pub(crate) fn passes_bus(&self) -> bool {
        !self.faults.lock().cut_bus
    }

    pub(crate) fn delay(&self) -> Duration {
        self.faults.lock().delay.draw(&mut self.random.lock())
    }

    /// Draws whether something of this probability happens on this link.
    pub(crate) fn chance(&self, probability: f64) -> bool {
        chance(&mut self.random.lock(), probability)
    }

    /// Ends at the next break of the connection, from this call on.
    pub(crate) fn broken(&self) -> Notified<'_> {
        self.breaks.notified()
    }

    /// Ends all waits for hints: their connection is gone.
    pub(crate) fn break_waits(&self) {
        self.breaks.notify_waiters();
    }

    fn each_process(&self, act: impl Fn(&Process)) {
        let processes = {
            let processes = self.processes.lock();
            let former = processes.former.iter().filter_map(Weak::upgrade);
            former
                .chain([processes.current.clone()])
                .collect::<Vec<_>>()
        };
        for process in processes {
            act(&process);
        }
    }
}

impl Processes {
    fn replace(&mut self) {
        let next = Arc::new(Process::new(self.paused));
        let former = std::mem::replace(&mut self.current, next);
        self.former.retain(|process| process.strong_count() > 0);
        self.former.push(Arc::downgrade(&former));
        self.connected = false;
    }
}

impl Link {
    /// Cuts everything: requests, replies and bus.
    ///
    /// Requests that have not left are [`Unavailable`]; those under way end [`Indeterminate`] at
    /// their deadline; feeds yield [`Disconnected`], and miss what is published meanwhile.
    ///
    /// [`Unavailable`]: coordinator_core::ErrorKind::Unavailable
    /// [`Indeterminate`]: coordinator_core::ErrorKind::Indeterminate
    /// [`Disconnected`]: coordinator_core::FeedEvent::Disconnected
    pub fn cut(&self) {
        self.change(|faults| {
            faults.cut_requests = true;
            faults.cut_replies = true;
            faults.cut_bus = true;
        });
        self.inner.break_waits();
    }

    /// Mends every cut. Other settings stay: see [`Link::clear`].
    pub fn heal(&self) {
        self.change(|faults| {
            faults.cut_requests = false;
            faults.cut_replies = false;
            faults.cut_bus = false;
        });
        self.inner.break_waits();
    }

    /// Takes all faults of this link back. A pause and the clock are no faults of the link.
    pub fn clear(&self) {
        self.change(|faults| *faults = Faults::none());
        self.inner.break_waits();
    }

    /// Cuts the way to the store alone: requests are `Unavailable`, while hints still arrive from
    /// requests made earlier, and the bus works.
    pub fn cut_requests(&self) {
        self.change(|faults| faults.cut_requests = true);
    }

    /// Cuts the way back alone: requests take effect, and end `Indeterminate`.
    pub fn cut_replies(&self) {
        self.change(|faults| faults.cut_replies = true);
    }

    /// Cuts the bus alone.
    pub fn cut_bus(&self) {
        self.change(|faults| faults.cut_bus = true);
    }

    /// How long every message takes from now on, each way: requests, replies, and what the bus
    /// brings to and from this member. [`Delay::NONE`] ends it.
    ///
    /// Requests of one member may overtake each other, as on several connections; messages of the
    /// bus do not, unless [`Link::reorder`] says so.
    pub fn delay(&self, delay: impl Into<Delay>) {
        let delay = delay.into();
        self.change(|faults| faults.delay = delay);
    }

    /// Loses every request on its way, while it is set: no effect, and `Indeterminate`.
    pub fn lose_requests(&self, lose: bool) {
        self.change(|faults| faults.lose_requests = lose);
    }

    /// Loses every reply on its way, while it is set: the effect is there, and `Indeterminate`.
    pub fn lose_replies(&self, lose: bool) {
        self.change(|faults| faults.lose_replies = lose);
    }

    /// Loses each request, and each reply, with this probability.
    pub fn request_loss(&self, probability: f64) {
        self.change(|faults| faults.request_loss = probability);
    }

    /// Loses each message that the bus brings to this member with this probability.
    pub fn bus_loss(&self, probability: f64) {
        self.change(|faults| faults.bus_loss = probability);
    }

    /// Delivers each message of the bus twice with this probability. A real bus must not
    /// (contract of `ClusterBus`, clause 3): this tries how its users take it.
    pub fn duplicate(&self, probability: f64) {
        self.change(|faults| faults.duplicate = probability);
    }

    /// Lets messages of the bus overtake each other while a [`Link::delay`] is set. A real bus
    /// must not (clause 2).
    pub fn reorder(&self, reorder: bool) {
        self.change(|faults| faults.reorder = reorder);
    }

    /// Freezes the member, as `SIGSTOP` does: none of its tasks runs, while time goes on and
    /// requests that have left take effect. Processes that connect under this name start frozen.
    pub fn pause(&self) {
        self.inner.processes.lock().paused = true;
        self.inner.each_process(|process| process.gate.pause());
    }

    /// Lets the member run again. Its tasks go on where they were, with all that has arrived.
    pub fn resume(&self) {
        self.inner.processes.lock().paused = false;
        self.inner.each_process(|process| process.gate.resume());
    }

    /// Kills all processes of this member, as `kill -9` does: their tasks are dropped, nothing is
    /// released, nobody is told. What connects under this name afterwards is a new process.
    pub fn crash(&self) {
        self.inner.each_process(Process::crash);
        {
            let mut processes = self.inner.processes.lock();
            processes.paused = false;
            processes.replace();
        }
        self.hub.bus.refresh();
        self.inner.break_waits();
    }

    /// Runs a future as a part of the member's newest process, so that a pause freezes it, too.
    /// `None`: the process crashed, and the future was dropped.
    ///
    /// Tasks that a node spawns for work are frozen anyway; this is for what a test itself awaits.
    pub async fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        let process = self.inner.current();
        process.gate.run(future).await
    }

    /// Lets the member's clock run at this rate from now on: 1 is true. By rule A-RATE the guarantees
    /// need 0.999 to 1.001.
    pub fn clock_rate(&self, rate: f64) {
        self.inner.clock.set_rate(rate);
    }

    /// Lets the member's clock jump ahead, as after a suspension.
    pub fn clock_jump(&self, span: Duration) {
        self.inner.clock.jump(span);
    }

    /// Sets the member's wall clock so many milliseconds ahead, or back if negative. Its own clock,
    /// by which it trusts leases, does not move: see [`Link::clock_jump`] for that.
    pub fn wall_step(&self, millis: i64) {
        self.inner.clock.step_wall(millis);
    }

    /// The name of the member.
    pub fn name(&self) -> &MemberId {
        &self.inner.name
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.inner.faults.lock());
        self.hub.bus.faults_may_exist();
        self.hub.bus.refresh();
    }
}
