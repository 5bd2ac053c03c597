//! Nodes as processes, on a real server, under random faults, for as long as one likes.
//!
//! Some nodes campaign, take turns with a lock, own shards, and publish; two more only listen. Faults
//! come from one seed: processes are killed and suspended, connections are ended, the network
//! fails, the server restarts. At the end everything is looked at:
//!
//! - no lease had two holders at one moment, by the one clock of the machine, and tokens rose;
//! - no message that was accepted is missing from the durable log, and none came twice or early;
//! - whoever listens without a log was told of everything that is missing;
//! - connections, memory and rows or keys are no more than at the beginning.

mod books;
mod faults;
mod fleet;
mod messages;
mod run;
mod server;

pub use run::{Plan, Verdict, run};
pub use server::Store;
