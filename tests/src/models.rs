//! Models of the protocols, small enough that every state they can reach is visited.
//!
//! They drive the machines of `coordinator-core` themselves, and the decisions of the Postgres
//! backend; what is modelled is what lies between
//! them: the store, the network, the passing of time, and faults. Time passes in units, and not
//! before all that is due has happened; within a unit, everything that can happen happens in every
//! order. Faults come out of a budget: so each model is finite, and after the last fault it shows
//! whether all is well again.

mod clock;
mod explore;
pub mod handoff;
pub mod lease;
mod outline;
pub mod scopes;
pub mod takeover;
pub mod vote;

pub use explore::{Counterexample, Explored, Model, explore};
