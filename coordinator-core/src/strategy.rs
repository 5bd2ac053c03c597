//! Which member should own which shard: the target that the planner moves towards.

mod rendezvous;
mod sticky;

use std::fmt;

pub use rendezvous::Rendezvous;
pub use sticky::Sticky;

use crate::document::MemberIndex;

/// A member that a [`Strategy`] may reckon with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its share, relative to the others'. Zero: it should own nothing.
    pub weight: u32,
    /// Where it runs.
    pub zone: Option<&'a str>,
    /// Whether it may get shards that it does not hold. One that flaps may not (S7), nor one
    /// that is away and for whose return shards are kept (S5).
    pub receives: bool,
}

impl<'a> Candidate<'a> {
    /// A member of weight 1, in no zone, that may get shards.
    pub const fn new(id: &'a str) -> Self {
        Self {
            id,
            weight: 1,
            zone: None,
            receives: true,
        }
    }

    /// The same with another weight.
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same in a zone.
    pub const fn zone(mut self, zone: &'a str) -> Self {
        self.zone = Some(zone);
        self
    }

    /// The same, but it gets no shards that it does not hold.
    pub const fn keeps_only(mut self) -> Self {
        self.receives = false;
        self
    }
}

/// What a [`Strategy`] is asked: who should own what, given who holds what.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Question<'a> {
    /// The candidates, by id.
    pub candidates: &'a [Candidate<'a>],
    /// Of each shard, the place among the candidates of the one that holds it, or is about to.
    pub held: &'a [Option<MemberIndex>],
}

impl<'a> Question<'a> {
    /// The question about `held.len()` shards. The candidates must be in the order of their ids.
    pub const fn new(candidates: &'a [Candidate<'a>], held: &'a [Option<MemberIndex>]) -> Self {
        Self { candidates, held }
    }

    /// Who holds a shard, if that is a candidate.
    fn holder(&self, held: Option<MemberIndex>) -> Option<usize> {
        held.map(usize::from)
            .filter(|at| *at < self.candidates.len())
    }
}

/// Decides who should own which shard.
///
/// # Contract
/// 1. The same question has the same answer, in every process: no clock, no chance, no order of a
///    hash map.
/// 2. The answer has as many elements as `held`: a place among the candidates each, or `None` for
///    a shard that nobody should own.
/// 3. A candidate that does not receive is given only shards that it holds.
/// 4. Asked again with its own answer as `held`, it gives the same answer. Otherwise shards wander
///    for ever.
///
/// The planner checks what safety needs by itself: a wrong answer moves shards needlessly, or
/// leaves them unowned, and never gives one to two members.
pub trait Strategy: Send + Sync + fmt::Debug + 'static {
    /// Who should own each shard.
    fn target(&self, question: &Question<'_>) -> Vec<Option<MemberIndex>>;
}

fn index(at: usize) -> Option<MemberIndex> {
    MemberIndex::try_from(at).ok()
}
