//! Puts what all nodes say into one order, that of the time at which it happened, and tells the
//! witness.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_node::FencingToken;

use super::said::{Said, What, machine_time};
use crate::state::{NodeState, Phase, Tone};
use crate::witness::{TenureId, Trust};
use crate::world::World;

/// How long a frozen process is waited for: what it has said before may still be on its way.
const GRACE: Duration = Duration::from_millis(500);

/// Listens to the nodes.
///
/// A line is taken in when every process has said something later, so that all that came before it
/// is known. Only what a process has begun to say when it froze comes out of order, when it wakes.
pub(super) struct Recorder {
    world: World,
    /// When the world began, by the machine's clock.
    began: Duration,
    heard: Mutex<Heard>,
}

/// Names one process: a node that is started again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SourceId(usize);

#[derive(Default)]
struct Heard {
    sources: Vec<Source>,
    /// What is not yet taken in, by its time, and else by its arrival.
    waiting: BTreeMap<(Duration, u64), (SourceId, Event)>,
    arrived: u64,
}

/// One process.
struct Source {
    name: String,
    state: State,
    /// When it last said something. `None`: nothing yet.
    seen: Option<Duration>,
    /// Whether its end needs no explanation.
    may_end: bool,
    tenures: BTreeMap<u64, TenureId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Frozen { at: Duration },
    Ended,
}

enum Event {
    Said(What),
    Frozen,
    Killed,
    Ended,
}

impl Source {
    /// Whether it may still say something of a time after `seen`. One that has said nothing yet has
    /// nothing to say of others.
    fn holds_up(&self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Running => self.seen,
            State::Frozen { at } if now < at + GRACE => self.seen,
            State::Frozen { .. } | State::Ended => None,
        }
    }
}

impl Recorder {
    /// Nothing heard yet, of a world that began then by the machine's clock.
    pub(super) fn new(world: World, began: Duration) -> Self {
        Self {
            world,
            began,
            heard: Mutex::default(),
        }
    }

    /// A process is started.
    pub(super) fn started(&self, name: &str) -> SourceId {
        let mut heard = self.heard();
        heard.sources.push(Source {
            name: name.to_owned(),
            state: State::Running,
            seen: None,
            may_end: false,
            tenures: BTreeMap::new(),
        });
        SourceId(heard.sources.len() - 1)
    }

    /// A process has said this.
    pub(super) fn hears(&self, id: SourceId, line: &str) {
        let Said { at, what } = match line.parse() {
            Ok(said) => said,
            Err(error) => return self.world.violated(format!("{error}")),
        };
        let mut heard = self.heard();
        heard.sources[id.0].seen = Some(at);
        if what != What::Tick {
            heard.arrives(at, id, Event::Said(what));
        }
        self.take_in(&mut heard);
    }

    /// A process is being frozen, from now on.
    pub(super) fn frozen(&self, id: SourceId) {
        let (mut heard, at) = (self.heard(), machine_time());
        heard.sources[id.0].state = State::Frozen { at };
        heard.arrives(at, id, Event::Frozen);
    }

    /// A process is about to go on.
    pub(super) fn thawed(&self, id: SourceId) {
        let (mut heard, at) = (self.heard(), machine_time());
        let source = &mut heard.sources[id.0];
        source.state = State::Running;
        source.seen = Some(at);
    }

    /// A process is dead.
    pub(super) fn killed(&self, id: SourceId) {
        let (mut heard, at) = (self.heard(), machine_time());
        heard.sources[id.0].may_end = true;
        heard.arrives(at, id, Event::Killed);
    }

    /// A process can say nothing any more, and all it has said has been heard.
    pub(super) fn ended(&self, id: SourceId) {
        let (mut heard, at) = (self.heard(), machine_time());
        heard.sources[id.0].state = State::Ended;
        heard.arrives(at, id, Event::Ended);
        self.take_in(&mut heard);
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, heard: &mut Heard) {
        let now = machine_time();
        let seen = heard.sources.iter();
        let horizon = seen.filter_map(|source| source.holds_up(now)).min();
        while let Some(next) = heard.waiting.first_entry()
            && horizon.is_none_or(|horizon| next.key().0 <= horizon)
        {
            let ((at, _), (id, event)) = next.remove_entry();
            let at = at.saturating_sub(self.began);
            self.record(at, &mut heard.sources[id.0], event);
        }
    }

    fn record(&self, at: Duration, source: &mut Source, event: Event) {
        match event {
            Event::Said(what) => self.record_said(at, source, what),
            Event::Frozen | Event::Killed => {
                let mut record = self.world.record();
                record.witness.may_write_late(&source.name);
                record.witness.stopped(at, &source.name);
                drop(record);
                if matches!(event, Event::Killed) {
                    self.end_tenures(at, source);
                }
            }
            Event::Ended => {
                self.end_tenures(at, source);
                if !source.may_end {
                    let what = format!("the process of {} ended unasked", source.name);
                    self.world.violated(what);
                }
            }
        }
    }

    fn end_tenures(&self, at: Duration, source: &mut Source) {
        let mut record = self.world.record();
        for (_, id) in std::mem::take(&mut source.tenures) {
            record.witness.ended(at, id, false);
        }
    }

    fn record_said(&self, at: Duration, source: &mut Source, what: What) {
        let name = source.name.as_str();
        match what {
            What::Tick => {}
            What::Live => {
                let mut record = self.world.record();
                // It may have been stopped meanwhile.
                let joining =
                    |node: &&mut NodeState| node.name == name && node.phase == Phase::Joining;
                if let Some(node) = record.nodes.iter_mut().find(joining) {
                    node.phase = Phase::Live;
                }
                drop(record);
                self.world.tell_of(at, Tone::Good, format!("{name} joins"));
            }
            What::Left => {
                source.may_end = true;
                self.world.enters(name, Phase::Left);
                let text = format!("{name} has left");
                self.world.tell_of(at, Tone::Plain, text);
            }
            What::Stumbled { shard, why } => {
                let text = format!("{name} begins shard {shard} again: {why}");
                self.world.tell_of(at, Tone::Bad, text);
            }
            What::Failed(why) => {
                source.may_end = true;
                self.world.enters(name, Phase::Crashed);
                self.world.violated(format!("{name} ended: {why}"));
            }
            What::Begins {
                tenure,
                shard,
                token,
                trusted_until,
            } => {
                let trust = Trust::Told(trusted_until.saturating_sub(self.began));
                let token = FencingToken::new(token);
                let mut record = self.world.record();
                let id = record.witness.begins(at, shard, name, token, trust);
                source.tenures.insert(tenure, id);
            }
            What::Trusts { tenure, .. }
            | What::Claimed { tenure, .. }
            | What::Folded { tenure }
            | What::Saved { tenure, .. }
            | What::Ended { tenure, .. } => {
                if let Some(id) = source.tenures.get(&tenure) {
                    self.record_tenure(at, name, *id, &what);
                } else {
                    let text = format!("{name} told of tenure {tenure}, which has not begun");
                    self.world.violated(text);
                }
            }
        }
    }

    fn record_tenure(&self, at: Duration, name: &str, id: TenureId, what: &What) {
        let mut record = self.world.record();
        match *what {
            What::Trusts { until, .. } => {
                let until = until.saturating_sub(self.began);
                record.witness.told(id, until);
            }
            What::Claimed { place, .. } => record.witness.claimed(id, place),
            What::Folded { .. } => record.witness.folded(id),
            What::Saved { place, .. } => record.saved(id, name, place),
            What::Ended { drained, .. } => record.witness.ended(at, id, drained),
            What::Tick
            | What::Live
            | What::Begins { .. }
            | What::Left
            | What::Stumbled { .. }
            | What::Failed(_) => {}
        }
    }
}

impl Heard {
    fn arrives(&mut self, at: Duration, id: SourceId, event: Event) {
        self.arrived += 1;
        self.waiting.insert((at, self.arrived), (id, event));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use tokio::time::Instant;

    use super::*;
    use crate::ledger;
    use crate::source::Source as Log;

    /// A recorder of a world without events, and two processes.
    fn two() -> (World, Recorder, SourceId, SourceId) {
        let events = ledger::cut(Vec::new(), NonZeroU16::MIN);
        let began = Instant::now();
        let world = World::new(began, Log::new(began, Duration::ZERO, events), 1);
        let recorder = Recorder::new(world.clone(), Duration::ZERO);
        let (a, b) = (recorder.started("a"), recorder.started("b"));
        (world, recorder, a, b)
    }

    /// What `id` says, each line at its millisecond. Times in the words are of the same kind.
    fn say(recorder: &Recorder, id: SourceId, lines: &[(u64, What)]) {
        for (at, what) in lines {
            let (at, what) = (Duration::from_millis(*at), what.clone());
            recorder.hears(id, &Said { at, what }.to_string());
        }
    }

    fn begins(token: u64, until: u64) -> What {
        What::Begins {
            tenure: 1,
            shard: 0,
            token,
            trusted_until: Duration::from_millis(until),
        }
    }

    const ENDED: What = What::Ended {
        tenure: 1,
        drained: true,
    };

    #[test]
    fn what_happened_first_is_taken_in_first_whoever_is_heard_first() {
        let (world, recorder, a, b) = two();
        say(&recorder, a, &[(1, begins(1, 100))]);
        say(
            &recorder,
            b,
            &[(2, What::Tick), (30, begins(2, 200)), (31, What::Tick)],
        );
        // `a` may have said something before 30 that is not here yet.
        assert_eq!(world.record().witness.owner(0), Some("a"));
        say(&recorder, a, &[(20, ENDED), (40, What::Tick)]);
        let record = world.record();
        assert_eq!(record.witness.owner(0), Some("b"));
        assert_eq!(record.witness.violations(), [""; 0]);
        assert_eq!(record.witness.figures().drained, 1);
    }

    #[test]
    fn who_begins_while_another_trusts_overlaps() {
        let (world, recorder, a, b) = two();
        say(&recorder, a, &[(1, begins(1, 100)), (50, What::Tick)]);
        say(&recorder, b, &[(30, begins(2, 200)), (50, What::Tick)]);
        assert_eq!(world.record().witness.figures().overlaps, 1);
    }

    #[test]
    fn the_dead_trust_nothing_and_their_late_writes_are_tried() {
        let (world, recorder, a, b) = two();
        let begun = [(1, begins(1, u64::MAX / 2_000_000)), (2, claimed(0))];
        say(&recorder, a, &begun);
        recorder.killed(a);
        recorder.ended(a);
        let later = u64::try_from(machine_time().as_millis()).unwrap() + 10;
        let mut news = vec![(later, begins(2, later + 100)), (later + 1, claimed(0))];
        news.push((later + 2, What::Tick));
        say(&recorder, b, &news);
        let mut record = world.record();
        assert_eq!(record.witness.violations(), [""; 0]);
        assert_eq!(record.witness.letters().len(), 1);
    }

    fn claimed(place: usize) -> What {
        What::Claimed { tenure: 1, place }
    }

    #[test]
    fn an_end_that_nobody_has_asked_for_is_a_violation() {
        let (world, recorder, a, b) = two();
        say(&recorder, a, &[(1, What::Left)]);
        recorder.ended(a);
        recorder.ended(b);
        let record = world.record();
        let violations = record.witness.violations();
        assert_eq!(violations, ["the process of b ended unasked"]);
    }

    #[test]
    fn nonsense_is_a_violation() {
        let (world, recorder, a, _) = two();
        recorder.hears(a, "hello");
        say(&recorder, a, &[(1, ENDED)]);
        let record = world.record();
        assert_eq!(record.witness.violations().len(), 2);
    }
}
