//! B: the bus.

mod commits;
mod cuts;
mod schemas;
