//! Keyspaces: of a fixed number of shards or of as many parts as members, in one group or in two,
//! with positions, and with events that are handled exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_node::core::Group;
use coordinator_node::{
    AcquireError, DenseShard, ElectionConfig, OwnedShard, RunError, ShardConfig, WorkResult,
};
use rand::RngExt;
use tokio::time::timeout;

use super::super::bounds::Terms;
use super::super::faults::Class;
use super::super::resource::{Actor, Resources};
use super::super::scene::{Scene, Sort, What};
use super::super::seen::Seen;
use super::draw::{ANY, BUS, Draw, RECORDS, WORK};
use super::leases::{Leads, lead, leads};
use super::weights::{self, ZONES};
use super::{Encore, Life, Living, ON_PURPOSE, SeatPlan, World};

/// How often an owner works.
const PERIOD: Duration = Duration::from_secs(3);
/// The pause before work that failed begins again, at first.
const RESTART: Duration = Duration::from_millis(200);

/// One keyspace, or one in each of two groups.
#[derive(Debug, Clone)]
pub(super) struct Shards {
    terms: Terms,
    latency: Duration,
    groups: Vec<Group>,
    members: usize,
    reserves: usize,
    fixed_names: bool,
    dense: bool,
    leads: bool,
    /// By seat; none: all are alike.
    weights: Vec<u32>,
    resources: Resources,
}

impl Shards {
    /// A fixed number of shards.
    pub(super) fn fixed(draw: &mut Draw) -> Self {
        let fixed_names = draw.chance(0.5);
        let grace = draw.chance(0.3);
        let mut world = Self::draw(draw, 1);
        world.fixed_names = fixed_names;
        if grace {
            world.terms.grace = world.terms.ttl;
        }
        world
    }

    /// As many parts as members.
    pub(super) fn dense(draw: &mut Draw) -> Self {
        let fixed_names = draw.chance(0.5);
        let mut world = Self::draw(draw, 1);
        world.fixed_names = fixed_names;
        world.dense = true;
        world
    }

    /// Static names, and a grace period in which each can be restarted.
    pub(super) fn with_names(draw: &mut Draw) -> Self {
        let mut world = Self::draw(draw, 1);
        world.fixed_names = true;
        world.terms.grace = world.terms.drain + world.terms.ttl + Duration::from_secs(20);
        world
    }

    /// Two groups that know nothing of each other.
    pub(super) fn two_groups(draw: &mut Draw) -> Self {
        let mut world = Self::draw(draw, 2);
        world.leads = true;
        world.fixed_names = true;
        world
    }

    /// Members of different weights, in zones; sometimes fewer shards than members.
    pub(super) fn weighted(draw: &mut Draw) -> Self {
        let mut world = Self::draw(draw, 1);
        world.fixed_names = true;
        world.terms.shards = [2, 5, 11, 16][draw.number(0..4)];
        let seats = world.members + world.reserves;
        world.weights = (0..seats)
            .map(|_| [1, 1, 2, 3][draw.number(0..4)])
            .collect();
        if world.members > 3 {
            // It shall have none.
            world.weights[1] = 0;
        }
        world
    }

    fn draw(draw: &mut Draw, groups: usize) -> Self {
        let members = match groups {
            1 => draw.members(),
            _ => (draw.members() / groups).max(3),
        };
        let reserves = draw.reserves(members);
        let mut terms = draw.terms();
        terms.members = (members + reserves) * groups;
        terms.shards = [4, 5, 7, 11][draw.number(0..4)];
        if groups > 1 {
            terms.shards = 3;
        }
        terms.keyspaces = groups;
        Self {
            latency: draw.latency(),
            groups: ["g", "h"]
                .into_iter()
                .take(groups)
                .map(Group::from)
                .collect(),
            terms,
            members,
            reserves,
            fixed_names: false,
            dense: false,
            leads: false,
            weights: Vec::new(),
            resources: Resources::default(),
        }
    }

    fn config(&self) -> ShardConfig {
        ShardConfig::new(self.keyspace(), self.terms.shards)
            .drain_timeout(self.terms.drain)
            .grace_period(self.terms.grace)
            .reshard_interval(self.terms.reshard)
            .restart_after(RESTART)
            .restart_at_most(self.terms.work_restart)
    }

    fn keyspace(&self) -> &'static str {
        if self.dense { "mails" } else { "orders" }
    }
}

impl Leads for Shards {
    fn drain(&self) -> Duration {
        self.terms.drain
    }

    fn resources(&self) -> &Resources {
        &self.resources
    }
}

impl World for Shards {
    fn terms(&self) -> Terms {
        self.terms.clone()
    }

    fn seats(&self) -> Vec<SeatPlan> {
        let each = self.members + self.reserves;
        let seat = |at: usize| SeatPlan {
            group: self.groups[at / each].clone(),
            fixed: self.fixed_names,
            reserve: at % each >= self.members,
            weight: self.weights.get(at).copied().unwrap_or(1),
            zone: (!self.weights.is_empty()).then(|| ZONES[at % ZONES.len()]),
        };
        (0..each * self.groups.len()).map(seat).collect()
    }

    fn wanted(&self) -> BTreeSet<What> {
        let mut wanted = BTreeSet::new();
        for group in &self.groups {
            let keyspace = format!("{group}/{}", self.keyspace());
            if self.dense {
                wanted.insert(keyspace.into());
            } else {
                let shards = 0..self.terms.shards;
                wanted.extend(shards.map(|shard| What::from(format!("{keyspace}/{shard}"))));
            }
            if self.leads {
                wanted.insert(format!("{group}/leader").into());
            }
        }
        wanted
    }

    fn faults(&self) -> Vec<(Class, u32)> {
        let mut faults = [&ANY[..], &WORK].concat();
        if !self.dense {
            faults.extend(RECORDS);
        }
        if self.leads {
            faults.extend(BUS);
        }
        if self.terms.grace > Duration::ZERO {
            faults.push((Class::RollingRestart, 6));
            // Shards are kept for a name.
            faults.retain(|(class, _)| *class != Class::RestartNewId);
        }
        faults
    }

    fn latency(&self) -> Duration {
        self.latency
    }

    fn live(&self, mut life: Life) -> Living {
        let world = self.clone();
        Box::pin(async move {
            let (owner, leader) = (life.fork(), life.fork());
            let lead = async {
                if world.leads {
                    lead(leader, ElectionConfig::new("leader"), world.clone()).await;
                }
            };
            tokio::join!(serve(owner, world.clone()), lead);
        })
    }

    fn settled(&self, scene: &Scene) -> Result<(), String> {
        for what in &scene.wanted {
            leads(scene, what)?;
        }
        let each = self.members + self.reserves;
        for (at, group) in self.groups.iter().enumerate() {
            let seats = at * each..(at + 1) * each;
            let held = held(scene, seats);
            let even = if self.dense {
                held.values().all(|held| *held == 1)
            } else if self.weights.is_empty() {
                is_even(&held)
            } else {
                weights::is_by_weight(&held, &self.weights)
                    && weights::is_at_rest(scene, &self.seats(), self.terms.shards)
            };
            if !even {
                return Err(format!("{group} is lopsided: {held:?}"));
            }
        }
        Ok(())
    }

    fn encore(&self) -> Encore {
        if !self.weights.is_empty() {
            // LEAST-MOVED reckons with equal shares.
            Encore::None
        } else if self.terms.grace > Duration::ZERO && self.fixed_names {
            Encore::Rolling
        } else {
            Encore::LeaveAndReturn
        }
    }
}

/// How many shards each member of a group has.
fn held(scene: &Scene, seats: std::ops::Range<usize>) -> BTreeMap<usize, u32> {
    let present = scene.present().filter(|seat| seats.contains(seat));
    let mut held: BTreeMap<usize, u32> = present.map(|seat| (seat, 0)).collect();
    for (_, hold) in scene.open_holds().filter(|(_, hold)| hold.is_trusted()) {
        if matches!(hold.sort, Sort::Shard { .. } | Sort::Part { .. })
            && let Some(held) = held.get_mut(&hold.process.seat)
        {
            *held += 1;
        }
    }
    held
}

/// Whether nobody has two more than another.
fn is_even(held: &BTreeMap<usize, u32>) -> bool {
    let ends = held.values().min().zip(held.values().max());
    ends.is_some_and(|(least, most)| most - least <= 1)
}

/// Serves the keyspace, again and again, until the node shuts down.
async fn serve(mut life: Life, world: Shards) {
    loop {
        let (part, its) = (std::sync::Mutex::new(life.fork()), world.clone());
        let fork = move || {
            part.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .fork()
        };
        let (config, node) = (world.config(), life.node.clone());
        let served = async move {
            if its.dense {
                let work = move |shard| cutting(fork(), shard, its.clone());
                node.run_dense(config, work).await
            } else {
                let work = move |shard| owning(fork(), shard, its.clone());
                node.run_shards(config, work).await
            }
        };
        tokio::select! {
            biased;
            ended = served => match ended {
                Ok(()) | Err(RunError::Acquire(AcquireError::ShuttingDown { .. })) => return,
                Err(error) => return life.complain(format!("{error}: {error:?}")),
            },
            () = life.cancelled() => {}
        }
        if life.node.health().draining {
            return;
        }
    }
}

async fn owning(mut life: Life, shard: OwnedShard, world: Shards) -> WorkResult {
    let number = shard.id().get();
    let what = life.what(format_args!("{}/{number}", world.keyspace()));
    let view = shard.view();
    let Ok(token) = shard.token() else {
        return Ok(());
    };
    let sort = Sort::Shard { number };
    let begun = life.witness.begins(life.process, &what, sort, view.clone());
    let Some(tenure) = begun else {
        return Ok(());
    };
    let witness = life.witness.clone();
    let actor = || Actor {
        witness: &witness,
        tenure: &tenure,
        what: &what,
        token: token.get(),
        trusted: view.token().is_ok(),
    };
    if life.mood.is(&life.mood.cancels) {
        // Dropped midway: the claim goes on in the background, and is made again.
        let patience = life.span(Duration::from_millis(20));
        drop(timeout(patience, shard.load::<u64>()).await);
    }
    let position = shard.load::<u64>().await?.unwrap_or(0);
    witness.see(Seen::Loads(tenure.hold(), position));
    let mut next = world.resources.write(actor())?;
    loop {
        life.while_wedged(&tenure).await;
        if !shard.tick(PERIOD).await {
            break;
        }
        for _ in 0..life.random.random_range(1..3) {
            world.resources.handle(actor(), next)?;
            next += 1;
        }
        let save = shard.save(next);
        if life.mood.is(&life.mood.cancels) {
            // Dropped midway: it goes on in the background.
            drop(timeout(life.span(Duration::from_millis(20)), save).await);
        } else {
            save.await?;
            witness.see(Seen::Saves(tenure.hold(), next));
        }
        if life.fails() {
            assert!(life.random.random_bool(0.5), "{ON_PURPOSE}");
            return Err("the work fails on purpose".into());
        }
    }
    life.drain_slowly(world.terms.drain).await;
    Ok(())
}

async fn cutting(mut life: Life, part: DenseShard, world: Shards) -> WorkResult {
    let what = life.what(world.keyspace());
    let sort = Sort::Part {
        index: part.index(),
        count: part.count().get(),
    };
    let begun = life.witness.begins(life.process, &what, sort, part.view());
    let Some(tenure) = begun else {
        return Ok(());
    };
    loop {
        life.while_wedged(&tenure).await;
        if !part.tick(PERIOD).await {
            break;
        }
        if life.fails() {
            return Err("the work fails on purpose".into());
        }
    }
    life.drain_slowly(world.terms.drain).await;
    Ok(())
}
