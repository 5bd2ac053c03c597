//! B: the bus.

mod cuts;
mod publishers;
mod streams;
