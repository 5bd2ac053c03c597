//! Leases on named keys.

mod advisory;
mod claims;
mod name;
mod refusal;
mod row;
mod writers;

pub(crate) use advisory::AdvisoryLocks;
pub(crate) use row::RowLeases;
