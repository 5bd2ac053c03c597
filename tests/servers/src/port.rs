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
    let listener = listen_on_free_port()?;
    let address = listener.local_addr().map_err(Error::io("ask for a port"))?;
    Ok(address.port())
}

/// Listens on such a port itself.
///
/// This is more than [`free_port`] and then to listen there: what was closed a moment ago may listen
/// on, in a process that is just being started and has a copy of each socket until then.
pub fn listen_on_free_port() -> Result<TcpListener, Error> {
    let drawn = std::iter::repeat_with(draw).take(TRIES);
    let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    let found = drawn.into_iter().find_map(listen);
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
        let listener = listen_on_free_port().unwrap();
        assert!((15_000..32_000).contains(&listener.local_addr().unwrap().port()));
    }
}
