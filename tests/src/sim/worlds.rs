//! The kinds of worlds: what the members of a fleet do, what must be served, and which faults fit.
//!
//! A new kind is a type that implements [`World`], and a line in [`Kind`].

mod bus;
mod draw;
mod leases;
mod shards;
mod votes;
mod weights;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_node::Node;
use coordinator_node::core::{Backend, Group};
use rand::RngExt;
use rand::rngs::StdRng;

use super::bounds::Terms;
use super::faults::Class;
use super::fleet::Mood;
use super::scene::{Process, Scene, What};
use super::seen::Seen;
use super::witness::{Tenure, Witness};
use draw::Draw;

/// A task that ends when its node has shut down.
pub type Living = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One kind of world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An election, and a lock that all want.
    Leases,
    /// A keyspace of a fixed number of shards.
    Shards,
    /// A keyspace of as many parts as members.
    Dense,
    /// A keyspace whose members have static names, and a grace period.
    Static,
    /// Two fleets in one store, each with an election and a keyspace.
    TwoGroups,
    /// Messages to everyone.
    Bus,
    /// An election by vote, over nothing but a bus.
    Votes,
    /// An election by vote in which a store decides.
    Live,
    /// A keyspace whose members differ in weight, and run in zones. No seed is of this kind unless
    /// it is asked for.
    Weighted,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Leases,
        Self::Shards,
        Self::Dense,
        Self::Static,
        Self::TwoGroups,
        Self::Bus,
        Self::Votes,
        Self::Live,
        Self::Weighted,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leases => "leases",
            Self::Shards => "shards",
            Self::Dense => "dense",
            Self::Static => "static",
            Self::TwoGroups => "two-groups",
            Self::Bus => "bus",
            Self::Votes => "votes",
            Self::Live => "live",
            Self::Weighted => "weighted",
        }
    }

    /// The kind of one seed.
    pub fn of(seed: u64) -> Self {
        // Seeds that follow each other are of different kinds. Those that cost most come least.
        const ORDER: [Kind; 16] = [
            Kind::Leases,
            Kind::Shards,
            Kind::Dense,
            Kind::Static,
            Kind::TwoGroups,
            Kind::Bus,
            Kind::Votes,
            Kind::Live,
            Kind::Leases,
            Kind::Shards,
            Kind::Dense,
            Kind::Static,
            Kind::Leases,
            Kind::Shards,
            Kind::Bus,
            Kind::Votes,
        ];
        let place = seed % (ORDER.len() as u64);
        ORDER[usize::try_from(place).unwrap_or(0)]
    }

    /// The world of one seed.
    pub fn world(self, seed: u64) -> Arc<dyn World> {
        let mut draw = Draw::new(seed);
        match self {
            Self::Leases => Arc::new(leases::Leases::draw(&mut draw)),
            Self::Shards => Arc::new(shards::Shards::fixed(&mut draw)),
            Self::Dense => Arc::new(shards::Shards::dense(&mut draw)),
            Self::Static => Arc::new(shards::Shards::with_names(&mut draw)),
            Self::TwoGroups => Arc::new(shards::Shards::two_groups(&mut draw)),
            Self::Bus => Arc::new(bus::Talk::draw(&mut draw)),
            Self::Votes => Arc::new(votes::Votes::fixed(&mut draw)),
            Self::Live => Arc::new(votes::Votes::live(&mut draw)),
            Self::Weighted => Arc::new(shards::Shards::weighted(&mut draw)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no world `{text}`: there are {names}")
        })
    }
}

/// What one member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatPlan {
    /// Which fleet it belongs to.
    pub group: Group,
    /// Whether it has a static name.
    pub fixed: bool,
    /// Whether it joins only for a while.
    pub reserve: bool,
    /// Its share of shards, relative to the others'.
    pub weight: u32,
    /// Where it runs.
    pub zone: Option<&'static str>,
}

impl SeatPlan {
    /// With a static name, and like all others.
    fn named(group: impl Into<Group>, reserve: bool) -> Self {
        Self {
            group: group.into(),
            fixed: true,
            reserve,
            weight: 1,
            zone: None,
        }
    }
}

/// What is tried on a fleet that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encore {
    /// Nothing.
    None,
    /// One leaves, and comes back.
    LeaveAndReturn,
    /// All are restarted, one after the other, within the grace period.
    Rolling,
}

/// A kind of fleet, with all that its seed decides.
pub trait World: Send + Sync + 'static {
    /// Its spans.
    fn terms(&self) -> Terms;

    /// Its members, by number.
    fn seats(&self) -> Vec<SeatPlan>;

    /// What must be served when all is well.
    fn wanted(&self) -> BTreeSet<What>;

    /// Which faults fit, and how often each comes.
    fn faults(&self) -> Vec<(Class, u32)>;

    /// How long every message takes, at most, without any fault.
    fn latency(&self) -> Duration;

    /// The parts of the store that its members use.
    fn backend(&self, all: Backend) -> Backend {
        all
    }

    /// What one process does until its node shuts down.
    fn live(&self, life: Life) -> Living;

    /// Whether the fleet is as it should be; if not, why.
    ///
    /// # Errors
    /// What is missing.
    fn settled(&self, scene: &Scene) -> Result<(), String>;

    /// How long a fleet that serves is left alone, and must not change.
    fn calm(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// What is then tried on it.
    fn encore(&self) -> Encore {
        Encore::None
    }
}

/// One process of a world.
#[derive(Debug)]
pub struct Life {
    /// Its node.
    pub node: Node,
    /// Which it is.
    pub process: Process,
    /// Its group.
    pub group: Group,
    /// Who sees it.
    pub witness: Witness,
    /// How its work behaves.
    pub mood: Arc<Mood>,
    /// Its own choices.
    pub random: StdRng,
}

impl Life {
    /// Another part of the same process, with choices of its own.
    fn fork(&mut self) -> Self {
        use rand::SeedableRng;
        Self {
            node: self.node.clone(),
            process: self.process,
            group: self.group.clone(),
            witness: self.witness.clone(),
            mood: self.mood.clone(),
            random: StdRng::seed_from_u64(self.random.random()),
        }
    }

    fn what(&self, name: impl fmt::Display) -> What {
        format!("{}/{name}", self.group).into()
    }

    fn span(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.random.random_range(0.0..1.0))
    }

    /// Ends when a call is to be dropped: at a random moment while such a fault is on.
    async fn cancelled(&mut self) {
        loop {
            let changed = self.mood.changed.notified();
            if !self.mood.is(&self.mood.cancels) {
                changed.await;
                continue;
            }
            drop(changed);
            let span = self.span(Duration::from_secs(3));
            tokio::time::sleep(span).await;
            if self.mood.is(&self.mood.cancels) {
                return;
            }
        }
    }

    /// Does nothing while the work is to be stuck.
    async fn while_wedged(&self, tenure: &Tenure) {
        if !self.mood.is(&self.mood.wedged) {
            return;
        }
        self.witness.see(Seen::Stuck(tenure.hold(), true));
        loop {
            let changed = self.mood.changed.notified();
            if !self.mood.is(&self.mood.wedged) {
                break;
            }
            changed.await;
        }
        self.witness.see(Seen::Stuck(tenure.hold(), false));
    }

    /// Takes long to finish, if it is to.
    async fn drain_slowly(&mut self, drain: Duration) {
        if self.mood.is(&self.mood.slow) {
            let span = self.span(drain * 2);
            tokio::time::sleep(span).await;
        }
    }

    /// Whether the work is to fail now.
    fn fails(&mut self) -> bool {
        self.mood.is(&self.mood.fails) && self.random.random_bool(0.3)
    }

    /// Something ended as it should not have.
    fn complain(&self, error: impl fmt::Display) {
        let error = error.to_string();
        self.witness.see(Seen::Errs(self.process, error));
    }
}

/// A panic that a world has asked for begins with this.
pub const ON_PURPOSE: &str = "the work panics on purpose";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name_and_comes_up() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>(), Ok(kind));
            let comes_up = (0..60).any(|seed| Kind::of(seed) == kind);
            assert_eq!(comes_up, kind != Kind::Weighted);
        }
        assert!("no such".parse::<Kind>().is_err());
    }

    /// 3 to 25 members, most often few.
    #[test]
    fn worlds_have_3_to_25_members_and_mostly_few() {
        let mut sizes = Vec::new();
        for seed in 0..600 {
            let world = Kind::of(seed).world(seed);
            let regular = world.seats().iter().filter(|seat| !seat.reserve).count();
            sizes.push(regular);
        }
        assert!(sizes.iter().all(|size| (3..=25).contains(size)));
        assert!(sizes.iter().any(|size| *size > 15));
        assert!(sizes.iter().sum::<usize>() < sizes.len() * 6);
    }
}
