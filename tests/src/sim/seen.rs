//! What happens in a world, one thing at a time, and how a trace writes it.

use std::fmt;

use coordinator_memory::Event;
use coordinator_node::core::{
    Document, Group, Keyspace, Life, LostCause, Member, MemberId, Snapshot,
};

use super::faults::Class;
use super::scene::{HoldId, Process, Scene};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A process was started.
    Started(Process),
    /// It has become a member.
    Named(Process, Group, MemberId),
    /// It is asked to shut down.
    Asked(Process),
    /// Its shutdown has returned, and says whether all work has ended.
    ShutDown(Process, bool),
    /// Nothing of it runs any more.
    Ended(Process),
    /// It was killed.
    Crashed(Process),
    /// A member is frozen.
    Frozen(usize),
    /// A member runs again.
    Thawed(usize),
    /// Work begins under a guard.
    Begins(HoldId),
    /// The work is asked to finish.
    Drains(HoldId),
    /// Trust has ended.
    Lost(HoldId, LostCause),
    /// Trust has ended, and then not; or it ended twice, for two causes.
    Relapses(HoldId, Option<LostCause>),
    /// The work does nothing from now on, and says nothing; or goes on.
    Stuck(HoldId, bool),
    /// The work has really ended.
    Stops(HoldId),
    /// An effect of the work reaches a resource, which has seen this token at most before.
    Acts {
        /// Under which hold.
        hold: HoldId,
        /// What the guard says of its trust at that moment.
        trusted: bool,
        /// The highest token that the resource has seen.
        highest: u64,
    },
    /// The work has read a position.
    Loads(HoldId, u64),
    /// The work was told that a position is stored.
    Saves(HoldId, u64),
    /// An event of a shard was handled, into a resource that has this many already, and has seen
    /// no higher token.
    Handles(HoldId, u64, u64),
    /// A message is about to be published: the number of its origin, which counts up.
    Publishes(Process, u64),
    /// How that went: it is out, may be, or is not.
    Published(Process, u64, Outcome),
    /// A subscription is live.
    Subscribes(Process),
    /// A subscriber was given a message of an origin.
    Receives(Process, Process, u64),
    /// A subscriber was told that messages are missing: of whom, if that is known.
    Misses(Process, Option<MemberId>),
    /// The store did something.
    Store(Event),
    /// The store replaced an assignment.
    Swapped(Box<Swap>),
    /// The store's wall clock was set, by so many milliseconds.
    WallSet(i64),
    /// A fault begins.
    Fault(Class, Option<usize>),
    /// A fault is taken back.
    Mended(Class, Option<usize>),
    /// Something ended with an error that it should not have.
    Errs(Process, String),
    /// Something panicked that should not have.
    Panics(String),
    /// How many tasks there are.
    Tasks(usize),
    /// No more faults from now on.
    Heals,
    /// Everything serves.
    Settles,
    /// Everything was asked to end.
    Closes,
    /// Everything has ended.
    Over,
    /// A member is asked to leave a fleet that serves, or to come back to it.
    Leaves(usize),
    /// The same.
    Returns(usize),
    /// A member of a fleet that serves is about to be restarted within the grace period.
    Rolls(usize),
    /// The fleet does not serve as it should, and why.
    Waits(String),
    /// Time has passed.
    Look,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The bus has taken it.
    Out,
    /// Nobody knows.
    Unknown,
    /// Nobody was told, for the call was dropped.
    Untold,
    /// It was not sent.
    NotSent,
}

/// A swap, and what it rests on.
#[derive(Debug, Clone)]
pub struct Swap {
    /// The group.
    pub group: Group,
    /// The keyspace.
    pub keyspace: Keyspace,
    /// What was stored before.
    pub previous: Option<Document>,
    /// What is stored now.
    pub next: Document,
    /// The lives that the swap counted as ended.
    pub ended: Vec<Life>,
    /// The members at that moment.
    pub members: Snapshot,
    /// Lives whose record was deleted, as they were last known: a planner may have looked before.
    pub erased: Vec<Member>,
}

impl Seen {
    /// Whether it is in the trace. What comes all the time and says little is not.
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::Look | Self::Tasks(_) | Self::Waits(_))
    }

    /// As a line of a trace, without its time.
    pub fn line<'a>(&'a self, scene: &'a Scene) -> Line<'a> {
        Line(self, scene)
    }
}

/// One line of a trace.
#[derive(Debug)]
pub struct Line<'a>(&'a Seen, &'a Scene);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(seen, scene) = self;
        let hold = |id: &HoldId| {
            let hold = &scene.holds[*id];
            format!("{} {} #{}", hold.process, hold.what, hold.token)
        };
        match seen {
            Seen::Started(process) => write!(f, "{process} is started"),
            Seen::Named(process, group, id) => write!(f, "{process} is {id} of {group}"),
            Seen::Asked(process) => write!(f, "{process} is asked to shut down"),
            Seen::ShutDown(process, true) => write!(f, "{process} has shut down"),
            Seen::ShutDown(process, false) => {
                write!(f, "{process} has shut down, and left work behind")
            }
            Seen::Ended(process) => write!(f, "{process} has ended"),
            Seen::Crashed(process) => write!(f, "{process} is killed"),
            Seen::Frozen(seat) => write!(f, "m{seat} is frozen"),
            Seen::Thawed(seat) => write!(f, "m{seat} is thawed"),
            Seen::Begins(id) => write!(f, "{} begins", hold(id)),
            Seen::Drains(id) => write!(f, "{} is asked to finish", hold(id)),
            Seen::Lost(id, cause) => write!(f, "{} is lost: {cause}", hold(id)),
            Seen::Relapses(id, Some(cause)) => write!(f, "{} is lost again: {cause}", hold(id)),
            Seen::Relapses(id, None) => write!(f, "{} is held again", hold(id)),
            Seen::Stuck(id, true) => write!(f, "{} is stuck", hold(id)),
            Seen::Stuck(id, false) => write!(f, "{} goes on", hold(id)),
            Seen::Stops(id) => write!(f, "{} stops", hold(id)),
            Seen::Acts {
                hold: id,
                trusted,
                highest,
            } => write!(f, "{} acts, trusted {trusted}, after #{highest}", hold(id)),
            Seen::Loads(id, position) => write!(f, "{} loads {position}", hold(id)),
            Seen::Saves(id, position) => write!(f, "{} saved {position}", hold(id)),
            Seen::Handles(id, event, known) => {
                write!(f, "{} handles {event} after {known}", hold(id))
            }
            Seen::Publishes(process, number) => write!(f, "{process} publishes {number}"),
            Seen::Published(process, number, outcome) => {
                write!(f, "{process} published {number}: {outcome:?}")
            }
            Seen::Subscribes(process) => write!(f, "{process} subscribes"),
            Seen::Receives(process, origin, number) => {
                write!(f, "{process} receives {number} of {origin}")
            }
            Seen::Misses(process, Some(origin)) => {
                write!(f, "{process} misses something of {origin}")
            }
            Seen::Misses(process, None) => write!(f, "{process} misses something"),
            Seen::Store(event) => write_event(f, event),
            Seen::Swapped(swap) => write_swap(f, swap),
            Seen::WallSet(millis) => write!(f, "store: wall clock set by {millis} ms"),
            Seen::Fault(class, Some(seat)) => write!(f, "fault: {class} of m{seat}"),
            Seen::Fault(class, None) => write!(f, "fault: {class}"),
            Seen::Mended(class, Some(seat)) => write!(f, "mended: {class} of m{seat}"),
            Seen::Mended(class, None) => write!(f, "mended: {class}"),
            Seen::Errs(process, error) => write!(f, "{process} fails: {error}"),
            Seen::Panics(message) => write!(f, "panic: {message}"),
            Seen::Tasks(alive) => write!(f, "{alive} tasks"),
            Seen::Heals => f.write_str("all faults are taken back"),
            Seen::Settles => f.write_str("everything serves"),
            Seen::Closes => f.write_str("all are asked to shut down"),
            Seen::Over => f.write_str("everything has ended"),
            Seen::Leaves(seat) => write!(f, "m{seat} is asked to leave"),
            Seen::Returns(seat) => write!(f, "m{seat} comes back"),
            Seen::Rolls(seat) => write!(f, "m{seat} is restarted"),
            Seen::Waits(why) => write!(f, "waiting: {why}"),
            Seen::Look => f.write_str("time passes"),
        }
    }
}

fn write_event(f: &mut fmt::Formatter<'_>, event: &Event) -> fmt::Result {
    match event {
        Event::Granted {
            key, owner, token, ..
        } => write!(f, "store: {key} granted to {owner} #{token}"),
        Event::Renewed { key, token, .. } => write!(f, "store: {key} #{token} renewed"),
        Event::Released { key, token, .. } => write!(f, "store: {key} #{token} released"),
        Event::Joined {
            id, incarnation, ..
        } => write!(f, "store: {id} {incarnation} joined"),
        Event::Ended {
            id,
            incarnation,
            reason,
            ..
        } => write!(f, "store: {id} {incarnation} ended: {reason:?}"),
        Event::Evicted {
            id, incarnation, ..
        } => write!(f, "store: {id} {incarnation} evicted"),
        Event::Beat {
            id, incarnation, ..
        } => write!(f, "store: {id} {incarnation} beats"),
        Event::Loaded {
            keyspace,
            shard,
            token,
            ..
        } => write!(f, "store: {keyspace}/{shard} claimed #{token}"),
        Event::Saved {
            keyspace,
            shard,
            token,
            position,
            ..
        } => write!(f, "store: {keyspace}/{shard} #{token} at {position}"),
        Event::MemoryLost { memory } => write!(f, "store: memory lost, now {memory}"),
        other => write!(f, "store: {other:?}"),
    }
}

fn write_swap(f: &mut fmt::Formatter<'_>, swap: &Swap) -> fmt::Result {
    let Swap {
        group,
        keyspace,
        next,
        ..
    } = swap;
    write!(f, "store: {group} {keyspace} epoch {}:", next.epoch)?;
    for (shard, slot) in next.numbered() {
        match slot.owner().and_then(|owner| next.member(owner)) {
            Some((owner, _)) if slot.token().is_some() && is_revoked(slot) => {
                write!(f, " {shard}={owner}!")?;
            }
            Some((owner, _)) => write!(f, " {shard}={owner}")?,
            None => write!(f, " {shard}=-")?,
        }
    }
    if !swap.ended.is_empty() {
        f.write_str("; ended")?;
        for (id, incarnation) in &swap.ended {
            write!(f, " {id} {incarnation}")?;
        }
    }
    Ok(())
}

fn is_revoked(slot: &coordinator_node::core::Slot) -> bool {
    matches!(slot, coordinator_node::core::Slot::Revoking { .. })
}
