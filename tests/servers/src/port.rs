//! Ports for servers.

use std::net::{Ipv4Addr, TcpListener};

use crate::error::Error;
use crate::random;

/// Below what systems give to outgoing connections (from 32,768 on Linux, from 49,152 elsewhere): a
/// server that is stopped for a while finds its port free again.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;
/// So many are tried.
const TRIES: usize = 200;

/// A port of 127.0.0.1 on which nothing listens.
///
/// Nothing reserves it: whoever starts a server there must be ready to be told that another was
/// faster.
pub fn free_port() -> Result<u16, Error> {
    let drawn = std::iter::repeat_with(draw).take(TRIES);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let found = drawn.into_iter().find(free);
    found.ok_or_else(|| Error::Missing(format!("of {TRIES} ports not one is free")))
}

fn draw() -> u16 {
    let drawn = random::number() % u64::from(COUNT);
    u16::try_from(drawn).map_or(FIRST, |drawn| FIRST + drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_that_outgoing_connections_never_get() {
        for _ in 0..1_000 {
            assert!((15_000..32_000).contains(&draw()));
        }
        let port = free_port().unwrap();
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
