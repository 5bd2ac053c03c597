//! URLs of servers: where they lead, and how they lead elsewhere.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

/// Where servers of Postgres and of Redis listen if nothing else is said.
const OF_POSTGRES: u16 = 5432;
const OF_REDIS: u16 = 6379;

/// The host and the port of a URL.
pub(super) fn host_and_port(url: &str) -> io::Result<(String, u16)> {
    let unusable = || io::Error::other("the URL names no host and port to go to");
    let authority = url.get(place(url)).unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ if url.starts_with("redis") => (authority, Some(OF_REDIS)),
        _ => (authority, Some(OF_POSTGRES)),
    };
    let host = host.trim_matches(['[', ']']);
    // Neither a folder of sockets nor a list of hosts can be led through one proxy.
    let port = port.filter(|_| !host.is_empty() && !host.contains(['%', '/', ',']));
    Ok((host.to_owned(), port.ok_or_else(unusable)?))
}

/// The same URL, to another address.
pub(super) fn through(url: &str, address: SocketAddr) -> String {
    let mut url = url.to_owned();
    url.replace_range(place(&url), &address.to_string());
    url
}

/// Where host and port stand.
fn place(url: &str) -> Range<usize> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..]
        .find(['/', '?'])
        .map_or(url.len(), |at| start + at);
    let start = url[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Option<(String, u16)> {
        host_and_port(url).ok()
    }

    #[test]
    fn host_and_port_are_read_and_replaced_and_nothing_else() {
        let url = "postgres://me:p%40ss@db.example:6000/d?sslmode=disable";
        assert_eq!(read(url), Some(("db.example".to_owned(), 6000)));
        let led = through(url, ([127, 0, 0, 1], 7).into());
        assert_eq!(led, "postgres://me:p%40ss@127.0.0.1:7/d?sslmode=disable");
        assert_eq!(read("postgres://h"), Some(("h".to_owned(), 5432)));
        assert_eq!(read("redis://:p@h/0"), Some(("h".to_owned(), 6379)));
        assert_eq!(read("postgres://[::1]:6/d"), Some(("::1".to_owned(), 6)));
        assert_eq!(read("postgres://[::1]/d"), Some(("::1".to_owned(), 5432)));
    }

    #[test]
    fn what_no_proxy_can_stand_before_is_refused() {
        assert_eq!(read("postgres://me@%2Ftmp:5/d"), None);
        assert_eq!(read("postgres://a:1,b:2/d"), None);
        assert_eq!(read("postgres:///d"), None);
    }
}
