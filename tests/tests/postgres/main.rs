//! The Postgres backend, against real servers.

mod fixture;
mod members;
