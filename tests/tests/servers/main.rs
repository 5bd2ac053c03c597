//! The servers and faults that tests are made of, tested themselves.
#![cfg(unix)]

mod poolers;
mod private;
mod programs;
mod proxies;
mod redis;
mod schemas;
mod support;
