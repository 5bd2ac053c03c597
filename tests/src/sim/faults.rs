//! What goes wrong, and when: drawn from the seed alone, before anything runs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bounds::Terms;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A process is killed, and is away for a while.
    Crash,
    /// It is killed, and at once started anew under its name.
    RestartSameId,
    /// It is killed, and at once started anew under a name of its own.
    RestartNewId,
    /// It is asked to leave, and comes back later.
    Leave,
    /// It is frozen, as by `SIGSTOP`.
    Pause,
    /// Everything it says and hears takes long.
    SlowMember,
    /// Everything it says and hears takes a moment.
    Delay,
    /// What it says and hears is lost now and then.
    Loss,
    /// Messages of the bus come twice.
    Duplication,
    /// Messages of the bus overtake each other.
    Reordering,
    /// It is heard by nobody.
    OneWayOut,
    /// It hears nobody.
    OneWayIn,
    /// It is cut off.
    Partition,
    /// It believes that it is connected, and nothing that it sends arrives.
    HalfOpen,
    /// The bus alone is cut.
    BusCut,
    /// The bus is parted between two halves.
    BusSplit,
    /// What it asks for is done, and it is not told.
    ReplyLost,
    /// The store is down for a while.
    StoreOutage,
    /// The store restarts, and remembers.
    StoreRestart,
    /// The store restarts, and has forgotten everything.
    StoreAmnesia,
    /// A replica takes over, and lacks what was written last.
    FailOver,
    /// Somebody deletes the record of a member.
    RecordDeleted,
    /// Calls are dropped before they return.
    CancelledCall,
    /// A clock runs fast or slow, by what is allowed.
    ClockRate,
    /// A member's clock jumps ahead.
    ClockJump,
    /// The store's wall clock jumps ahead, by what is allowed.
    WallForward,
    /// A member's wall clock is off for a while, by what voters may differ.
    MemberWall,
    /// The store's wall clock is set back.
    WallBack,
    /// Many join at once, and leave at once later.
    MassJoin,
    /// Many leave at once, and come back.
    MassLeave,
    /// One after the other is restarted.
    RollingRestart,
    /// Work is stuck: it does nothing, and hears nothing.
    WedgedWork,
    /// Work takes long to finish, sometimes longer than allowed.
    SlowDrain,
    /// Work fails, or panics.
    FailingWork,
    /// A leader is asked to hand over.
    Transfer,
    /// A write of a former owner arrives late.
    LateWrite,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::Crash,
        Self::RestartSameId,
        Self::RestartNewId,
        Self::Leave,
        Self::Pause,
        Self::SlowMember,
        Self::Delay,
        Self::Loss,
        Self::Duplication,
        Self::Reordering,
        Self::OneWayOut,
        Self::OneWayIn,
        Self::Partition,
        Self::HalfOpen,
        Self::BusCut,
        Self::BusSplit,
        Self::ReplyLost,
        Self::StoreOutage,
        Self::StoreRestart,
        Self::StoreAmnesia,
        Self::FailOver,
        Self::RecordDeleted,
        Self::CancelledCall,
        Self::ClockRate,
        Self::ClockJump,
        Self::WallForward,
        Self::MemberWall,
        Self::WallBack,
        Self::MassJoin,
        Self::MassLeave,
        Self::RollingRestart,
        Self::WedgedWork,
        Self::SlowDrain,
        Self::FailingWork,
        Self::Transfer,
        Self::LateWrite,
    ];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::RestartSameId => "restart, same id",
            Self::RestartNewId => "restart, new id",
            Self::Leave => "leave",
            Self::Pause => "pause",
            Self::SlowMember => "slow member",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Duplication => "duplication",
            Self::Reordering => "reordering",
            Self::OneWayOut => "one-way partition, out",
            Self::OneWayIn => "one-way partition, in",
            Self::Partition => "full partition",
            Self::HalfOpen => "half-open link",
            Self::BusCut => "bus cut",
            Self::BusSplit => "bus split",
            Self::ReplyLost => "effect applied, reply lost",
            Self::StoreOutage => "store outage",
            Self::StoreRestart => "store restart with memory",
            Self::StoreAmnesia => "store restart without memory",
            Self::FailOver => "store fail-over, last writes lost",
            Self::RecordDeleted => "record deleted",
            Self::CancelledCall => "cancelled call",
            Self::ClockRate => "clock rate",
            Self::ClockJump => "clock jump",
            Self::WallForward => "store's clock forward",
            Self::MemberWall => "member's wall clock off",
            Self::WallBack => "store's clock back",
            Self::MassJoin => "mass join",
            Self::MassLeave => "mass leave",
            Self::RollingRestart => "rolling restart",
            Self::WedgedWork => "wedged work",
            Self::SlowDrain => "slow drain",
            Self::FailingWork => "failing work",
            Self::Transfer => "transfer",
            Self::LateWrite => "late write",
        }
    }

    /// Whether it befalls one member.
    pub fn has_seat(self) -> bool {
        !matches!(
            self,
            Self::BusSplit
                | Self::StoreOutage
                | Self::StoreRestart
                | Self::StoreAmnesia
                | Self::FailOver
                | Self::WallForward
                | Self::WallBack
                | Self::MassJoin
                | Self::MassLeave
                | Self::RollingRestart
                | Self::LateWrite
        )
    }

    /// Whether it ends a connection that works.
    fn breaks(self) -> bool {
        let broken = [
            Self::Partition,
            Self::OneWayOut,
            Self::HalfOpen,
            Self::BusCut,
        ];
        broken.contains(&self)
    }

    /// For how long it lasts, in ttls.
    fn lasting(self) -> std::ops::Range<f64> {
        match self {
            Self::Crash | Self::Leave | Self::Pause | Self::Partition | Self::HalfOpen => 0.05..3.0,
            Self::StoreOutage => 0.05..1.5,
            Self::FailOver => 0.02..0.6,
            Self::MassJoin | Self::MassLeave => 1.0..4.0,
            Self::ClockRate => 2.0..10.0,
            Self::WedgedWork | Self::CancelledCall => 0.5..4.0,
            _ => 0.1..2.5,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = String;

    /// Reads one as code writes it: `Crash`, `HalfOpen`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL
            .into_iter()
            .find(|class| format!("{class:?}") == text);
        found.ok_or_else(|| format!("there is no class of faults `{text}`"))
    }
}

/// One fault to come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// Its place in the whole schedule: a shrunk one keeps it.
    pub number: usize,
    /// When it begins.
    pub at: Duration,
    /// For how long it lasts.
    pub lasting: Duration,
    /// What it is.
    pub class: Class,
    /// Whom it befalls, if it befalls one.
    pub seat: usize,
    /// How bad it is, from 0 to 1: what that means depends on the class.
    pub degree: f64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            at,
            lasting,
            class,
            seat,
            degree,
        } = self;
        write!(f, "{number:>3}  {:>8.3}  {class}", at.as_secs_f64())?;
        if class.has_seat() {
            write!(f, " of m{seat}")?;
        }
        write!(
            f,
            ", for {:.3} s, degree {degree:.2}",
            lasting.as_secs_f64()
        )
    }
}

/// Faults follow each other by so long, or a ttl if that is less, give or take.
const PACE: Duration = Duration::from_secs(7);

/// Draws the schedule of one seed: `classes` with their weights, from a moment after the beginning
/// until `span` is over.
pub fn schedule(
    seed: u64,
    terms: &Terms,
    seats: usize,
    span: Duration,
    classes: &[(Class, u32)],
) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed ^ 0x5eed_fa17);
    let mut faults = Vec::new();
    // What is short for a lease of the store is long for an election by vote.
    let scale = terms
        .window
        .map_or(terms.ttl, |window| window.min(terms.ttl));
    // Some runs are calm and some are wild.
    let pace = scale.min(PACE);
    let mean = pace.mul_f64(random.random_range(0.3..2.5));
    let mut at = scale.mul_f64(random.random_range(0.05..1.0));
    let mut calm = Calm::default();
    while at < span {
        let class = pick(&mut random, classes);
        let lasting = scale.mul_f64(random.random_range(class.lasting()));
        let mut fault = Fault {
            number: 0,
            at,
            lasting,
            class,
            seat: random.random_range(0..seats),
            degree: random.random_range(0.0..1.0),
        };
        if calm.allows(&fault, terms) {
            // A link that dies is slow before it breaks.
            if class.breaks() && random.random_bool(0.4) {
                faults.push(Fault {
                    lasting: scale.mul_f64(0.6),
                    class: Class::SlowMember,
                    degree: 1.0,
                    ..fault
                });
                fault.at += scale.mul_f64(0.5);
            }
            faults.push(fault);
        }
        // Now and then two come at the same instant.
        if random.random_bool(0.9) {
            at += mean.mul_f64(random.random_range(0.0..2.0));
        }
    }
    faults.sort_by_key(|fault| fault.at);
    for (number, fault) in faults.iter_mut().enumerate() {
        fault.number = number;
    }
    faults
}

/// When what must not come too often came last.
#[derive(Default)]
struct Calm {
    stepped: Option<Duration>,
    set_back: Duration,
    rolling_until: Duration,
    failing_over_until: Duration,
}

impl Calm {
    /// Whether the assumptions of the protocols allow this one now.
    fn allows(&mut self, fault: &Fault, terms: &Terms) -> bool {
        match fault.class {
            // A-STEP speaks of all steps within one ttl.
            Class::WallForward => {
                let allowed = self
                    .stepped
                    .is_none_or(|last| fault.at > last + terms.max_ttl * 2);
                if allowed {
                    self.stepped = Some(fault.at);
                }
                allowed
            }
            // A-SKEW speaks of all of them together.
            Class::WallBack => {
                let back = set_back(fault, terms);
                let allowed = self.set_back + back <= terms.set_back;
                if allowed {
                    self.set_back += back;
                }
                allowed
            }
            Class::RollingRestart | Class::MassLeave | Class::MassJoin => {
                let allowed = fault.at > self.rolling_until;
                if allowed {
                    self.rolling_until = fault.at + terms.ttl * 3;
                }
                allowed
            }
            Class::FailOver => {
                let allowed = fault.at > self.failing_over_until;
                if allowed {
                    self.failing_over_until = fault.at + fault.lasting;
                }
                allowed
            }
            _ => true,
        }
    }
}

/// By how much a fault of this class sets the store's clock back.
pub fn set_back(fault: &Fault, terms: &Terms) -> Duration {
    terms.set_back.mul_f64(0.2 + fault.degree * 0.5)
}

fn pick(random: &mut StdRng, classes: &[(Class, u32)]) -> Class {
    let all: u32 = classes.iter().map(|(_, weight)| *weight).sum();
    let mut at = random.random_range(0..all.max(1));
    for (class, weight) in classes {
        if at < *weight {
            return *class;
        }
        at -= weight;
    }
    Class::Pause
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(Class, u32)> {
        Class::ALL.map(|class| (class, 1)).into()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
        let terms = Terms::default();
        let draw = |seed| schedule(seed, &terms, 3, Duration::from_mins(4), &all());
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    /// A-STEP, A-SKEW.
    #[test]
    fn the_stores_clock_is_set_no_more_than_is_assumed() {
        let terms = Terms::default();
        for seed in 0..200 {
            let faults = schedule(seed, &terms, 3, Duration::from_mins(4), &all());
            let steps: Vec<Duration> = faults
                .iter()
                .filter(|fault| fault.class == Class::WallForward)
                .map(|fault| fault.at)
                .collect();
            assert!(steps.windows(2).all(|two| two[1] > two[0] + terms.max_ttl));
            let back: Duration = faults
                .iter()
                .filter(|fault| fault.class == Class::WallBack)
                .map(|fault| set_back(fault, &terms))
                .sum();
            assert!(back <= terms.set_back);
        }
    }

    #[test]
    fn every_class_comes_up_and_has_a_name_of_its_own() {
        let terms = Terms::default();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let faults = schedule(seed, &terms, 3, Duration::from_mins(4), &all());
            seen.extend(faults.iter().map(|fault| fault.class));
        }
        assert_eq!(seen.len(), Class::ALL.len());
        let names: std::collections::BTreeSet<_> = Class::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), Class::ALL.len());
        for class in Class::ALL {
            assert_eq!(format!("{class:?}").parse(), Ok(class));
        }
        assert!("crash".parse::<Class>().is_err());
    }
}
