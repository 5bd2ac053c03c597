//! Leases on named keys.

mod advisory;
mod name;
mod refusal;

pub(crate) use advisory::AdvisoryLocks;
