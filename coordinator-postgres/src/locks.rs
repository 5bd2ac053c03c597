//! Leases on named keys.

mod advisory;
mod name;
mod refusal;
mod row;

pub(crate) use advisory::AdvisoryLocks;
pub(crate) use row::RowLeases;
