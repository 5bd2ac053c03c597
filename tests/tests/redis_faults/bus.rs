//! B: the bus.

mod cuts;
mod publishers;
mod rights;
mod streams;
