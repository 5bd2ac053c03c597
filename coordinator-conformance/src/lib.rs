//! Every clause of every backend trait of Coordinator, as a runnable check.

// Macros are found by order of text: these come first.
mod macros;

pub mod assignments;
pub mod backend;
pub mod bus;
mod check;
pub mod checkpoints;
mod fixture;
mod join;
mod lab;
pub mod lock;
pub mod members;
mod probe;
mod random;
mod report;

pub use check::Check;
#[doc(hidden)]
pub use coordinator_core as core;
pub use fixture::{Fault, Faults, Fixture, Planning};
pub use report::{Failure, Outcome, Report};
