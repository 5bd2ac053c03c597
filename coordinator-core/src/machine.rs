//! The state machines: events in, actions out. They perform nothing themselves.

pub mod hearing;
pub mod keeper;
pub mod lease;
pub mod membership;
pub mod planner;
pub mod stream;
pub mod vote;
