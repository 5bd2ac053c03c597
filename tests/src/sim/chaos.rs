//! Brings faults about, and takes them back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use coordinator_memory::{Delay, Replica};
use coordinator_node::core::{Checkpoint, CheckpointStore, FencingToken, Position, ShardId};

use super::bounds::Terms;
use super::faults::{Class, Fault, set_back};
use super::fleet::{Fleet, Mood};
use super::scene::Sort;
use super::seen::Seen;

/// A rolling restart waits so long for the next one.
const ROLLING: Duration = Duration::from_secs(2);

const HOUR: Duration = Duration::from_hours(1);

/// The faults of one run.
pub struct Chaos {
    terms: Terms,
    /// How long every message takes without any fault.
    latency: Duration,
    active: Vec<Fault>,
    replicas: BTreeMap<usize, Replica>,
    cut: Vec<Cut>,
    rolling: VecDeque<usize>,
    next_roll: Duration,
    /// Sends the late writes of the dead.
    ghost: Option<Arc<dyn CheckpointStore>>,
}

impl std::fmt::Debug for Chaos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chaos")
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

/// Which ways of a link are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cut {
    requests: bool,
    replies: bool,
    bus: bool,
}

const BUS: Cut = Cut {
    requests: false,
    replies: false,
    bus: true,
};

impl Cut {
    const ALL: Self = Self {
        requests: true,
        replies: true,
        bus: true,
    };

    fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests || other.requests,
            replies: self.replies || other.replies,
            bus: self.bus || other.bus,
        }
    }
}

impl Chaos {
    /// No fault yet.
    pub fn new(terms: Terms, latency: Duration, fleet: &Fleet) -> Self {
        let mut chaos = Self {
            terms,
            latency,
            active: Vec::new(),
            replicas: BTreeMap::new(),
            cut: vec![Cut::default(); fleet.len()],
            rolling: VecDeque::new(),
            next_roll: Duration::ZERO,
            ghost: fleet.store.connect("ghost").checkpoints,
        };
        if !latency.is_zero() {
            (0..fleet.len()).for_each(|seat| chaos.set_link(fleet, seat));
        }
        chaos
    }

    /// When the next fault is to be taken back.
    pub fn next_end(&self) -> Option<Duration> {
        self.active
            .iter()
            .map(|fault| fault.at + fault.lasting)
            .min()
    }

    /// A fault begins.
    pub fn begin(&mut self, fleet: &mut Fleet, fault: Fault) {
        self.active.push(fault);
        if self.act(fleet, fault) {
            let seat = fault.class.has_seat().then_some(fault.seat);
            fleet.witness.see(Seen::Fault(fault.class, seat));
        } else {
            self.active.retain(|active| active.number != fault.number);
        }
    }

    /// Takes back what is due, and goes on with what takes several steps.
    pub fn go_on(&mut self, fleet: &mut Fleet, now: Duration) {
        let due = |fault: &Fault| fault.at + fault.lasting <= now;
        let ended: Vec<Fault> = self.active.iter().copied().filter(due).collect();
        for fault in ended {
            self.end(fleet, fault);
        }
        if now >= self.next_roll
            && let Some(seat) = self.rolling.pop_front()
        {
            fleet.ask(seat);
            self.next_roll = now + ROLLING;
        }
    }

    /// Takes everything back.
    pub fn heal(&mut self, fleet: &mut Fleet) {
        self.rolling.clear();
        while let Some(fault) = self.active.first().copied() {
            self.end(fleet, fault);
        }
        self.latency = Duration::ZERO;
        for seat in 0..fleet.len() {
            fleet.thaw(seat);
            fleet.link(seat).clear();
            fleet.link(seat).clock_rate(1.0);
            let regular = fleet.regulars().contains(&seat);
            fleet.want(seat, regular);
        }
    }

    /// Whether another fault of this class is on this seat.
    fn is_on(&self, class: Class, seat: usize) -> bool {
        let mut active = self.active.iter();
        active.any(|fault| fault.class == class && (!class.has_seat() || fault.seat == seat))
    }

    /// Whether it had any effect.
    fn act(&mut self, fleet: &mut Fleet, fault: Fault) -> bool {
        let Fault {
            at,
            lasting,
            class,
            seat,
            degree,
            ..
        } = fault;
        match class {
            Class::Crash => fleet.crash(seat, at + lasting),
            Class::RestartSameId | Class::RestartNewId => {
                fleet.rename(seat, class == Class::RestartSameId);
                fleet.crash(seat, Duration::ZERO)
            }
            Class::Leave => {
                let running = fleet.is_running(seat);
                fleet.want(seat, false);
                running
            }
            Class::Pause => fleet.freeze(seat),
            Class::SlowMember
            | Class::Delay
            | Class::Loss
            | Class::Duplication
            | Class::Reordering
            | Class::OneWayOut
            | Class::OneWayIn
            | Class::Partition
            | Class::HalfOpen
            | Class::BusCut
            | Class::ReplyLost => {
                self.set_link(fleet, seat);
                true
            }
            Class::ClockRate => {
                fleet.link(seat).clock_rate(0.999 + degree * 0.002);
                true
            }
            Class::ClockJump => {
                let ahead = self.terms.ttl.mul_f64(degree * degree * 3.0);
                fleet.link(seat).clock_jump(ahead);
                true
            }
            Class::MemberWall => {
                fleet.link(seat).wall_step(self.wall_off(degree));
                true
            }
            Class::MassJoin => all(fleet, &fleet.reserves(), true),
            Class::MassLeave => {
                let some = half(&fleet.regulars(), degree);
                all(fleet, &some, false)
            }
            Class::RollingRestart => {
                self.rolling = fleet.regulars().into();
                true
            }
            Class::WedgedWork | Class::SlowDrain | Class::FailingWork | Class::CancelledCall => {
                let mood = fleet.mood(seat);
                mood.want(feeling(mood, class), true);
                true
            }
            Class::Transfer => {
                fleet.mood(seat).transfer.notify_one();
                true
            }
            Class::LateWrite => self.write_late(fleet, degree),
            Class::BusSplit
            | Class::StoreOutage
            | Class::StoreRestart
            | Class::StoreAmnesia
            | Class::FailOver
            | Class::RecordDeleted
            | Class::WallForward
            | Class::WallBack => self.act_on_store(fleet, fault),
        }
    }

    fn act_on_store(&mut self, fleet: &Fleet, fault: Fault) -> bool {
        let store = &fleet.store;
        let down = self
            .active
            .iter()
            .any(|it| it.class == Class::StoreOutage && it.number != fault.number);
        match fault.class {
            Class::BusSplit => {
                let all: Vec<usize> = (0..fleet.len()).collect();
                let some = half(&all, fault.degree);
                let (one, other): (Vec<usize>, Vec<usize>) =
                    all.into_iter().partition(|seat| some.contains(seat));
                let names = |seats: &[usize]| -> Vec<String> {
                    seats
                        .iter()
                        .map(|seat| fleet.name(*seat).to_owned())
                        .collect()
                };
                store.partition(&names(&one), &names(&other));
            }
            Class::StoreOutage => store.stop(),
            // What is down cannot restart.
            Class::StoreRestart | Class::StoreAmnesia if down => return false,
            Class::StoreRestart => store.restart(),
            Class::StoreAmnesia => store.forget_everything(),
            Class::FailOver => {
                self.replicas.insert(fault.number, store.replica());
            }
            Class::RecordDeleted => {
                let Some(id) = fleet.id(fault.seat) else {
                    return false;
                };
                return store.erase_member(fleet.group(fault.seat).clone(), id) > 0;
            }
            Class::WallForward => {
                let span = self.terms.slack().mul_f64(0.5 * fault.degree);
                let millis = i64::try_from(span.as_millis()).unwrap_or(0);
                store.step_forward(Duration::from_millis(millis.unsigned_abs()));
                fleet.witness.see(Seen::WallSet(millis));
            }
            Class::WallBack => {
                let span = set_back(&fault, &self.terms);
                let millis = i64::try_from(span.as_millis()).unwrap_or(0);
                store.step_back(Duration::from_millis(millis.unsigned_abs()));
                fleet.witness.see(Seen::WallSet(-millis));
            }
            _ => return false,
        }
        true
    }

    fn end(&mut self, fleet: &mut Fleet, fault: Fault) {
        self.active.retain(|active| active.number != fault.number);
        let Fault { class, seat, .. } = fault;
        match class {
            Class::Leave if !self.is_on(class, seat) => fleet.want(seat, true),
            Class::Pause if !self.is_on(class, seat) => fleet.thaw(seat),
            Class::ClockRate if !self.is_on(class, seat) => fleet.link(seat).clock_rate(1.0),
            Class::MemberWall => fleet.link(seat).wall_step(-self.wall_off(fault.degree)),
            Class::BusSplit if !self.is_on(class, seat) => fleet.store.heal_partitions(),
            Class::StoreOutage if !self.is_on(class, seat) => fleet.store.start(),
            Class::FailOver => {
                let replica = self.replicas.remove(&fault.number);
                if let Some(replica) = replica.filter(|_| !self.is_on(Class::StoreOutage, 0)) {
                    fleet.store.fail_over(replica);
                }
            }
            Class::MassJoin => {
                let all_of = fleet.reserves();
                all(fleet, &all_of, false);
            }
            Class::MassLeave => {
                let all_of = fleet.regulars();
                all(fleet, &all_of, true);
            }
            Class::WedgedWork | Class::SlowDrain | Class::FailingWork | Class::CancelledCall => {
                let mood = fleet.mood(seat);
                mood.want(feeling(mood, class), false);
            }
            Class::SlowMember
            | Class::Delay
            | Class::Loss
            | Class::Duplication
            | Class::Reordering
            | Class::OneWayOut
            | Class::OneWayIn
            | Class::Partition
            | Class::HalfOpen
            | Class::BusCut
            | Class::ReplyLost => self.set_link(fleet, seat),
            _ => {}
        }
        let seat = class.has_seat().then_some(seat);
        fleet.witness.see(Seen::Mended(class, seat));
    }

    /// Sets a link as all faults together want it.
    fn set_link(&mut self, fleet: &Fleet, seat: usize) {
        let link = fleet.link(seat);
        let on = |class| self.is_on(class, seat);
        let worst = |class| {
            let faults = self.active.iter();
            let degrees = faults
                .filter(|fault| fault.class == class && fault.seat == seat)
                .map(|fault| fault.degree);
            degrees.fold(0.0, f64::max)
        };
        let cut = cut(on);
        let most = self.delay(worst(Class::SlowMember), worst(Class::Delay));
        link.delay(Delay::from(Duration::ZERO..most));
        link.lose_requests(on(Class::HalfOpen));
        link.lose_replies(on(Class::ReplyLost));
        link.request_loss(worst(Class::Loss) * 0.5);
        link.bus_loss(worst(Class::Loss) * 0.5);
        link.duplicate(worst(Class::Duplication));
        link.reorder(on(Class::Reordering));
        let now = std::mem::replace(&mut self.cut[seat], cut);
        if now == cut {
            return;
        }
        if cut == Cut::ALL {
            return link.cut();
        }
        if now.and(cut) != cut {
            link.heal();
        }
        if cut.requests {
            link.cut_requests();
        }
        if cut.replies {
            link.cut_replies();
        }
        if cut.bus {
            link.cut_bus();
        }
    }

    /// By how many milliseconds a wall clock is off. Where there are votes, several such faults
    /// together still leave all voters' clocks within a window of each other (V5). Elsewhere no
    /// member's wall clock counts: it is off by an hour.
    fn wall_off(&self, degree: f64) -> i64 {
        let off = self.terms.window.map_or(HOUR, |window| window / 8);
        let most = i64::try_from(off.as_millis()).unwrap_or(0);
        if degree < 0.5 { -most } else { most }
    }

    fn delay(&self, slow: f64, jitter: f64) -> Duration {
        let slow = self.terms.delay.mul_f64(slow);
        let jitter = self.terms.delay.mul_f64(jitter * 0.15);
        slow.max(jitter).max(self.latency)
    }

    /// A former owner of a shard writes, as if it had been asleep.
    fn write_late(&self, fleet: &Fleet, degree: f64) -> bool {
        let letter = fleet.witness.ask(|scene| {
            let former = |id: &usize| {
                let hold = &scene.holds[*id];
                let later = &scene.holds[id + 1..];
                matches!(hold.sort, Sort::Shard { .. })
                    && hold.lost.is_some()
                    && later
                        .iter()
                        .any(|it| it.what == hold.what && it.token > hold.token && it.claimed)
            };
            let former: Vec<usize> = (0..scene.holds.len())
                .rev()
                .take(40)
                .filter(former)
                .collect();
            let id = former.get(place(former.len(), degree))?;
            let hold = &scene.holds[*id];
            Some((hold.what.clone(), hold.token))
        });
        let (Some((what, token)), Some(ghost)) = (letter, self.ghost.clone()) else {
            return false;
        };
        let mut parts = what.split('/');
        let (Some(group), Some(keyspace), Some(Ok(shard))) =
            (parts.next(), parts.next(), parts.next().map(str::parse))
        else {
            return false;
        };
        let checkpoint = Checkpoint::new(
            group.into(),
            keyspace.into(),
            ShardId::new(shard),
            FencingToken::new(token),
            Position::new("0"),
        );
        // Its answer is nobody's any more; the store's account says whether it was taken.
        drop(tokio::spawn(async move {
            drop(ghost.save(&checkpoint.number(u64::from(u16::MAX))).await);
        }));
        true
    }
}

/// Which ways are cut.
fn cut(on: impl Fn(Class) -> bool) -> Cut {
    let mut cut = Cut::default();
    for (class, ways) in [
        (Class::Partition, Cut::ALL),
        (
            Class::OneWayOut,
            Cut {
                requests: true,
                ..Cut::default()
            },
        ),
        (
            Class::OneWayIn,
            Cut {
                replies: true,
                ..Cut::default()
            },
        ),
        (Class::BusCut, BUS),
        // Whoever listens is probed, and so a listener that hears nothing is known (U5).
        (Class::HalfOpen, BUS),
    ] {
        if on(class) {
            cut = cut.and(ways);
        }
    }
    cut
}

fn feeling(mood: &Mood, class: Class) -> &AtomicU32 {
    match class {
        Class::WedgedWork => &mood.wedged,
        Class::SlowDrain => &mood.slow,
        Class::FailingWork => &mood.fails,
        _ => &mood.cancels,
    }
}

fn all(fleet: &mut Fleet, seats: &[usize], wanted: bool) -> bool {
    for seat in seats {
        fleet.want(*seat, wanted);
    }
    !seats.is_empty()
}

/// About half of them, never all: which ones, the degree says.
fn half(seats: &[usize], degree: f64) -> Vec<usize> {
    let many = (seats.len() / 2).max(1).min(seats.len().saturating_sub(1));
    let from = place(seats.len(), degree);
    (0..many)
        .map(|at| seats[(from + at) % seats.len()])
        .collect()
}

/// A place among so many.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a degree is at least 0 and below 1, and there are few places"
)]
fn place(places: usize, degree: f64) -> usize {
    (places as f64 * degree) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_them_are_never_all() {
        assert_eq!(half(&[0, 1, 2], 0.0), [0]);
        assert_eq!(half(&[0, 1, 2, 3], 0.9), [3, 0]);
        assert_eq!(half(&[0], 0.5), [0; 0]);
        for places in 1..30 {
            assert!(place(places, 0.999_999) < places);
        }
    }
}
