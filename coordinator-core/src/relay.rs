//! What buses over different brokers share: packets, bounded queues, streams that wait for a part of
//! theirs, and messages that come twice. For authors of backends.

mod backlog;
mod packet;
mod queueing;
mod repeats;

pub use backlog::{Backlog, Run};
pub use packet::{Packed, Packer, Reference, Unpacker};
pub use queueing::{Ticket, Waiting};
pub use repeats::Repeats;
