//! Whole electorates under random faults, in true time: ONE-LEADER and TOKENS-RISE at every step,
//! and a leader within a bound when the faults have stopped. A failure prints its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::{Action, Body, Config, Electorate, Event, Message, Reading, Vote};
use crate::names::MemberId;
use crate::numbers::Instance;
use crate::time::Moment;
use crate::trust::Trust;

const WINDOW: Duration = Duration::from_millis(500);
/// The round trips of [`World::healthy`] are at most this.
const ROUND_TRIP: Duration = Duration::from_millis(10);

struct Machine {
    vote: Vote,
    instance: Instance,
    /// The rate of its clocks, in millionths.
    rate: u64,
    origin: u64,
    jumped: u64,
    wall_off: u64,
    up: bool,
    /// Frozen until then: events wait.
    frozen_until: u64,
    renew_at: u64,
    requests: u64,
    /// In which term it leads, by its own account.
    term: Option<u64>,
    cut: bool,
    /// It is heard, and hears nobody.
    deaf: bool,
}

struct Arrival {
    to: usize,
    instance: Option<Instance>,
    message: Message,
}

struct World {
    random: StdRng,
    /// True time, in microseconds.
    now: u64,
    machines: Vec<Machine>,
    arrivals: BTreeMap<(u64, u64), Arrival>,
    sent: u64,
    faults: bool,
    highest_term: u64,
    elections: u64,
    starts: u128,
}

impl World {
    fn new(seed: u64, voters: usize) -> Self {
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            now: 1_000_000,
            machines: Vec::new(),
            arrivals: BTreeMap::new(),
            sent: 0,
            faults: true,
            highest_term: 0,
            elections: 0,
            starts: 0,
        };
        for at in 0..voters {
            let machine = world.machine(at, voters);
            world.machines.push(machine);
        }
        world
    }

    fn machine(&mut self, at: usize, voters: usize) -> Machine {
        self.starts += 1;
        let instance = Instance::from_random(self.starts);
        let name = |at: usize| MemberId::from(format!("m{at}"));
        let config = Config {
            me: name(at),
            instance,
            electorate: Electorate::Fixed((0..voters).map(name).collect::<BTreeSet<_>>()),
            trust: Trust::new(WINDOW).unwrap(),
            round_trip: ROUND_TRIP / 2,
        };
        let rate = self.random.random_range(999_000..=1_001_000);
        let origin = self.random.random_range(0..1_000_000_000);
        // A-SKEW of the voters: within E of each other.
        let wall_off = self.random.random_range(0..400);
        let random = StdRng::seed_from_u64(self.random.random());
        let mut machine = Machine {
            vote: Vote::new(
                config.clone(),
                Reading {
                    now: Moment::ZERO,
                    steady: Moment::ZERO,
                    wall_millis: 0,
                },
                StdRng::seed_from_u64(0),
            ),
            instance,
            rate,
            origin,
            jumped: 0,
            wall_off,
            up: true,
            frozen_until: 0,
            renew_at: 0,
            requests: 0,
            term: None,
            cut: false,
            deaf: false,
        };
        machine.vote = Vote::new(config, machine.reading(self.now), random);
        machine
    }

    fn names(&self) -> usize {
        self.machines.len()
    }

    /// One step of true time: a millisecond or less.
    fn step(&mut self) {
        self.now += 500;
        if self.faults {
            self.fault();
        }
        while let Some(entry) = self.arrivals.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let Arrival {
                to,
                instance,
                message,
            } = entry.remove();
            self.deliver(to, instance, message);
        }
        for at in 0..self.names() {
            self.tick(at);
        }
        self.one_leader();
    }

    fn deliver(&mut self, to: usize, instance: Option<Instance>, message: Message) {
        let machine = &self.machines[to];
        if !machine.up
            || machine.cut
            || machine.deaf
            || instance.is_some_and(|one| one != machine.instance)
        {
            return;
        }
        if machine.frozen_until > self.now {
            let key = (machine.frozen_until, self.sent);
            self.sent += 1;
            self.arrivals.insert(
                key,
                Arrival {
                    to,
                    instance,
                    message,
                },
            );
            return;
        }
        self.event(to, Event::Received(message));
    }

    fn tick(&mut self, at: usize) {
        let machine = &self.machines[at];
        if !machine.up || machine.frozen_until > self.now {
            return;
        }
        let reading = machine.reading(self.now);
        if machine.term.is_some() && self.now >= machine.renew_at {
            self.confirm(at);
        }
        if self.machines[at]
            .vote
            .deadline()
            .is_some_and(|due| due <= reading.now)
        {
            self.event(at, Event::Tick);
        }
    }

    fn confirm(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        machine.requests += 1;
        machine.renew_at = self.now + 160_000;
        let request = machine.requests;
        self.event(at, Event::Confirm { request });
    }

    fn event(&mut self, at: usize, event: Event) {
        let reading = self.machines[at].reading(self.now);
        let actions = self.machines[at].vote.step(reading, event);
        self.machines[at].vote.check().unwrap();
        for action in actions {
            self.perform(at, action);
        }
    }

    fn perform(&mut self, at: usize, action: Action) {
        let machine = &mut self.machines[at];
        match action {
            Action::Broadcast(body) => {
                for to in (0..self.names()).filter(|to| *to != at) {
                    self.send(at, to, None, body.clone());
                }
            }
            Action::Send { to, instance, body } => {
                let to = to.as_str()[1..].parse().unwrap();
                self.send(at, to, Some(instance), body);
            }
            Action::Won { .. } => self.confirm(at),
            Action::Confirmed { term, .. } => {
                if machine.term != Some(term) {
                    machine.term = Some(term);
                    self.elections += 1;
                    assert!(
                        term > self.highest_term,
                        "TOKENS-RISE: {term} after {}",
                        self.highest_term
                    );
                    self.highest_term = term;
                }
            }
            Action::Deposed { term } => {
                machine.term.take_if(|led| *led == term);
            }
            Action::Refused { .. } | Action::Changed => {}
        }
    }

    fn send(&mut self, from: usize, to: usize, instance: Option<Instance>, body: Body) {
        let sender = &self.machines[from];
        let message = Message {
            from: MemberId::from(format!("m{from}")),
            instance: sender.instance,
            body,
        };
        let copies = if !self.faults {
            1
        } else if sender.cut || self.random.random_bool(0.08) {
            0
        } else {
            1 + usize::from(self.random.random_bool(0.05))
        };
        for _ in 0..copies {
            let late = self.faults && self.random.random_bool(0.03);
            let delay = if late {
                self.random.random_range(0..3_000_000)
            } else {
                self.random.random_range(100..5_000)
            };
            self.sent += 1;
            let key = (self.now + delay, self.sent);
            let message = message.clone();
            self.arrivals.insert(
                key,
                Arrival {
                    to,
                    instance,
                    message,
                },
            );
        }
    }

    fn fault(&mut self) {
        if !self.random.random_bool(0.003) {
            return;
        }
        let at = self.random.random_range(0..self.names());
        let span = self.random.random_range(1_000..2_000_000);
        match self.random.random_range(0..8) {
            0 => self.machines[at].up = false,
            1..=2 => self.restart(at),
            3 => self.machines[at].frozen_until = self.now + span,
            4 => self.machines[at].cut = !self.machines[at].cut,
            5 => self.machines[at].jumped += span,
            6 => {
                if let Some(term) = self.machines[at].term {
                    // Its work has stopped, and so its trust ends before it says so.
                    let next = self.random.random_range(0..self.names());
                    let next = Some(MemberId::from(format!("m{next}")));
                    self.machines[at].term = None;
                    self.event(at, Event::Resign { term, next });
                }
            }
            _ => self.stand(at),
        }
    }

    fn restart(&mut self, at: usize) {
        let voters = self.names();
        self.machines[at] = self.machine(at, voters);
        self.stand(at);
    }

    fn stand(&mut self, at: usize) {
        if self.machines[at].up {
            self.event(at, Event::Stand { floor: None });
        }
    }

    /// In true time, at most one member trusts itself to lead.
    fn one_leader(&self) {
        let leaders: Vec<_> = (self.machines.iter().enumerate())
            .filter(|(_, machine)| machine.up && machine.leads(self.now))
            .map(|(at, _)| at)
            .collect();
        assert!(
            leaders.len() < 2,
            "ONE-LEADER: {leaders:?} at {} µs",
            self.now
        );
    }

    fn heal(&mut self) {
        self.faults = false;
        for at in 0..self.names() {
            self.machines[at].cut = false;
            self.machines[at].frozen_until = 0;
            if !self.machines[at].up {
                self.restart(at);
            }
            self.stand(at);
        }
    }
}

impl Machine {
    fn reading(&self, now: u64) -> Reading {
        let shown = now * self.rate / 1_000_000 + self.origin;
        Reading {
            now: Moment::since_origin(Duration::from_micros(shown + self.jumped)),
            steady: Moment::since_origin(Duration::from_micros(shown)),
            wall_millis: 1_700_000_000_000 + now / 1_000 + self.wall_off,
        }
    }

    fn leads(&self, now: u64) -> bool {
        let trusted = self.vote.trusted_until();
        self.term.is_some() && trusted.is_some_and(|until| self.reading(now).now < until)
    }
}

/// V1 to V8, E4, E5, E8, E11, E12, E15: random loss, delay, duplication, reordering, cuts, freezes, restarts, clocks
/// that differ in rate and jump. ONE-LEADER in true time at every step; afterwards a leader within
/// the bound: promises, one time-out, and two split votes.
#[test]
fn an_electorate_under_random_faults_has_never_two_leaders_and_in_the_end_one() {
    for seed in 0..24 {
        let voters = [3, 5, 4, 1, 7, 2][usize::try_from(seed % 6).unwrap()];
        let mut world = World::new(seed, voters);
        (0..voters).for_each(|at| world.stand(at));

        for _ in 0..40_000 {
            world.step();
        }
        world.heal();
        let healed = world.now;
        // One window of abstention and promises, then up to three time-outs.
        let bound = 7 * u64::try_from(WINDOW.as_micros()).unwrap();
        while !world
            .machines
            .iter()
            .any(|machine| machine.leads(world.now))
        {
            world.step();
            assert!(world.now < healed + bound, "seed {seed}: no leader");
        }
        // Late messages of the bad times have arrived, or expire: it stays.
        for _ in 0..12_000 {
            world.step();
        }
        let elections = world.elections;
        for _ in 0..10_000 {
            world.step();
        }
        assert_eq!(
            world.elections, elections,
            "seed {seed}: E11, a healthy leader stays"
        );
        assert!(elections > 0);
    }
}

/// V6: many that ask again and again, and are deaf to the answers, keep nobody else from asking. If a
/// quorum can talk, it has a leader within the bound.
#[test]
fn voters_that_are_deaf_and_ask_again_and_again_hold_up_nobody() {
    for (seed, voters) in (0..12).flat_map(|seed| [5, 15, 25].map(|voters| (seed, voters))) {
        let mut world = World::new(seed, voters);
        world.faults = false;
        for at in 0..voters {
            world.machines[at].deaf = at < (voters - 1) / 2;
            world.stand(at);
        }
        let bound = world.now + 6 * u64::try_from(WINDOW.as_micros()).unwrap();
        while !world
            .machines
            .iter()
            .any(|machine| machine.leads(world.now))
        {
            world.step();
            assert!(world.now < bound, "seed {seed}: none of {voters} leads");
        }
    }
}
