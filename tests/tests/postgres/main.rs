//! The Postgres backend, against real servers.

mod bus;
mod fixture;
mod locks;
mod members;
