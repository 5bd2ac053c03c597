//! The Postgres backend, against real servers.

mod fixture;
mod locks;
mod members;
