//! The Postgres backend, against real servers.

mod bus;
mod fences;
mod fixture;
mod locks;
mod members;
mod row_leases;
