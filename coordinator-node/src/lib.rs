//! The runtime of Coordinator.

mod clock;
mod context;
mod errors;
mod members;
mod tasks;
pub mod telemetry;

pub use coordinator_core as core;
pub use errors::{
    AcquireError, ConnectError, ReleaseError, RunError, SaveError, ShutdownError, StartError,
    TransferError,
};
pub use members::{BadMetadata, Members};
