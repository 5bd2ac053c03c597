//! What a store was found to guarantee, and how to get what is missing.

use std::collections::BTreeMap;
use std::fmt;

/// A property of a store that a deployment may demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Guarantee {
    /// What was granted is still known after a crash of the store's server.
    SurvivesCrash,
    /// What was granted is still known after a fail-over to a replica.
    SurvivesFailover,
    /// The store never evicts a lease to make room.
    NeverEvicts,
    /// The store can tell a dead holder from a silent one, and frees its leases in milliseconds.
    SeesDeadHolders,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SurvivesCrash => "survives-crash",
            Self::SurvivesFailover => "survives-failover",
            Self::NeverEvicts => "never-evicts",
            Self::SeesDeadHolders => "sees-dead-holders",
        })
    }
}

/// What a probe found out about one guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Whether the store gives it.
    pub given: bool,
    /// What was read: a setting and its value.
    pub found: String,
    /// How to get it where it is missing.
    pub remedy: String,
}

/// What a store was found to guarantee. What could not be read counts as not given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guarantees(BTreeMap<Guarantee, Finding>);

impl Guarantees {
    /// Nothing could be read.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The same, and this one is given, as `found` shows.
    pub fn given(mut self, guarantee: Guarantee, found: impl Into<String>) -> Self {
        let finding = Finding {
            given: true,
            found: found.into(),
            remedy: String::new(),
        };
        self.0.insert(guarantee, finding);
        self
    }

    /// The same, and this one is not given, as `found` shows; `remedy` says how to get it.
    pub fn missing(
        mut self,
        guarantee: Guarantee,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let finding = Finding {
            given: false,
            found: found.into(),
            remedy: remedy.into(),
        };
        self.0.insert(guarantee, finding);
        self
    }

    /// Whether the store gives this.
    pub fn has(&self, guarantee: Guarantee) -> bool {
        self.0.get(&guarantee).is_some_and(|finding| finding.given)
    }

    /// What was found out about this one.
    pub fn finding(&self, guarantee: Guarantee) -> Option<&Finding> {
        self.0.get(&guarantee)
    }

    /// Everything that was found out.
    pub fn iter(&self) -> impl Iterator<Item = (Guarantee, &Finding)> {
        self.0
            .iter()
            .map(|(guarantee, finding)| (*guarantee, finding))
    }
}
