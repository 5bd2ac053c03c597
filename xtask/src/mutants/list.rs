//! The mutants: for each rule that forbids a definite bad outcome, the code without it.
//!
//! A mutant is a set of edits, each of which names the fragment that it replaces. The fragment must
//! be found exactly once, so that a mutant cannot rot unnoticed when the code changes.

mod bus;
mod leases;
mod members;
mod shards;
mod store;
mod vote;
mod work;

/// The code without one of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mutant {
    /// What it is called: words with hyphens.
    pub(crate) name: &'static str,
    /// The kind of world in which it is sought.
    pub(crate) world: &'static str,
    /// The rules that it breaks.
    pub(crate) rules: &'static [&'static str],
    /// What it does, as a sentence.
    pub(crate) does: &'static str,
    /// The invariants of which one must catch it.
    pub(crate) caught_by: &'static [&'static str],
    /// What is changed.
    pub(crate) edits: &'static [Edit],
}

/// One fragment, and what stands there while the mutant lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The file, from the top of the project.
    pub(crate) file: &'static str,
    /// A part of the file that occurs once, and contains the fragment once.
    pub(crate) within: &'static str,
    /// The fragment.
    pub(crate) find: &'static str,
    /// What stands there instead.
    pub(crate) replace: &'static str,
    /// How the switch is put around both.
    pub(crate) kind: Kind,
}

/// What a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An expression: the switch chooses between two values.
    Expression,
    /// A statement: the switch chooses between two blocks.
    Statement,
    /// Neither, such as a comment: the replacement always stands there, and asks for the switch
    /// itself, by the word [`SWITCH`].
    Text,
}

/// What stands for "this mutant lives" in an edit of kind [`Kind::Text`].
pub(crate) const SWITCH: &str = "MUTANT";

/// A fragment that is unique in its file, or has its surroundings given by [`Edit::within`].
const fn expression(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit {
        file,
        within: "",
        find,
        replace,
        kind: Kind::Expression,
    }
}

const fn statement(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit {
        kind: Kind::Statement,
        ..expression(file, find, replace)
    }
}

const fn text(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit {
        kind: Kind::Text,
        ..expression(file, find, replace)
    }
}

impl Edit {
    /// The fragment is the one in these surroundings.
    const fn within(self, within: &'static str) -> Self {
        Self { within, ..self }
    }
}

/// Rules that forbid something, and yet have no mutant, each with the reason.
pub(crate) const EXCEPTIONS: &[(&str, &str)] = &[
    (
        "K2",
        "the bound is for readers that keep numbers in doubles, and none is simulated",
    ),
    (
        "G3",
        "versions that grow too often cost traffic, and break no promise: the tests of idle fleets count it",
    ),
    (
        "R1",
        "a grant that nobody awaits runs out after a ttl, within the bound on any leader's absence; a conformance check shows the rule",
    ),
    (
        "G6",
        "it decides who is shown, and never who leads or owns: no promise of the simulation rests on it",
    ),
    (
        "S9",
        "the parts of the memory store fail together, so no planner keeps its lease while it cannot plan; the planner's own tests show the rule",
    ),
    (
        "V3",
        "the lease on top of the votes ends at the end of its trust (T2), and resigns: a reign that lingers below it has no leader",
    ),
    (
        "V6",
        "promises alone keep a leader (V1): without pre-votes a member that comes back costs messages, not a term",
    ),
    (
        "W4",
        "a grant that nobody awaits runs out after a ttl, within the bound on any leader's absence; tests of every poll of a dropped campaign show the rule",
    ),
    (
        "W6",
        "a lease that is brought back runs out after a ttl, within the same bound; a test of renewals under way shows the rule",
    ),
    (
        "W7",
        "leaders that push each other out break no promise; tests of priorities show the rule",
    ),
    ("U10", "the memory backend keeps no log of messages"),
    ("U11", "the memory backend keeps no log of messages"),
    ("U12", "the memory backend keeps no log of messages"),
    ("U15", "the memory backend keeps no log of messages"),
    ("U17", "the memory backend adds a subscription at once"),
    (
        "U18",
        "the memory backend is one server, with one kind of channels",
    ),
    (
        "I5",
        "the memory backend knows whether it is new; tests drop the schema, and empty the server, of those who trust",
    ),
    (
        "I7",
        "the memory backend is the server itself; tests promote a replica, and restart a server, below the client",
    ),
    ("I8", "the memory backend has no standbys"),
    ("G5", SESSIONS),
    (
        "D2",
        "the memory backend loses no wake-up; tests on a real server lose them, and find the waiter served",
    ),
    (
        "D3",
        "the memory backend evicts nothing; a test on a real server whose policy evicts shows the refusal",
    ),
    ("P1", SESSIONS),
    ("P3", SESSIONS),
    ("P4", SESSIONS),
    ("P5", SESSIONS),
    ("P6", SESSIONS),
    ("F2", SESSIONS),
    (
        "F3",
        "the memory backend has no transactions; a test of what a fenced transaction holds up shows it",
    ),
];

const SESSIONS: &str = "the memory backend has no sessions: the model of take-overs, which has its \
    own planted defects, and tests on a real server show the rule";

/// All mutants, by subject.
pub(crate) fn all() -> Vec<Mutant> {
    [
        leases::MUTANTS,
        store::MUTANTS,
        members::MUTANTS,
        shards::MUTANTS,
        bus::MUTANTS,
        work::MUTANTS,
        vote::MUTANTS,
    ]
    .concat()
}
