//! The reference backend of Coordinator, in memory.

mod assignments;
mod bells;
mod bus;
mod checkpoints;
mod connection;
mod faults;
mod feed;
mod gate;
mod history;
mod link;
mod locks;
mod members;
mod ports;
mod refusal;
mod state;
mod store;
mod sync;
mod time;
mod turns;

pub use faults::Delay;
pub use history::{Entry, Event};
pub use link::Link;
pub use state::Replica;
pub use store::{MemoryStore, MemoryStoreBuilder};
