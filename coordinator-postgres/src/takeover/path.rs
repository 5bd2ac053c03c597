//! Whether anything lies between a client and its server (P7).

use std::net::{IpAddr, SocketAddr};

/// Both ends of a connection as the client's operating system sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEnds {
    /// A Unix socket.
    Unix,
    /// TCP.
    Tcp {
        /// The client's own address.
        local: SocketAddr,
        /// Where it connected to.
        peer: SocketAddr,
    },
}

/// Both ends of the same connection as the server sees them, by `inet_client_addr()`,
/// `inet_client_port()`, `inet_server_addr()` and `inet_server_port()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEnds {
    /// A Unix socket: the functions say `NULL`.
    Unix,
    /// TCP.
    Tcp {
        /// The client's address.
        client: SocketAddr,
        /// The server's own.
        server: SocketAddr,
    },
}

impl ServerEnds {
    /// The ends as the functions say them. One address without the other is no socket of ours.
    pub const fn new(client: Option<SocketAddr>, server: Option<SocketAddr>) -> Option<Self> {
        match (client, server) {
            (None, None) => Some(Self::Unix),
            (Some(client), Some(server)) => Some(Self::Tcp { client, server }),
            (Some(_), None) | (None, Some(_)) => None,
        }
    }
}

/// P7: whether the connection is direct, so that its end on the server's side is an end on the
/// client's side. `declared` is the user's word, and overrules what is seen.
///
/// A proxy, address translation or a service address shows as a difference between the two sights.
/// A Unix socket counts only if the server sees one too: proxies offer Unix sockets as well.
pub fn is_direct(client: ClientEnds, server: ServerEnds, declared: Option<bool>) -> bool {
    declared.unwrap_or_else(|| match (client, server) {
        (ClientEnds::Unix, ServerEnds::Unix) => true,
        (
            ClientEnds::Tcp { local, peer },
            ServerEnds::Tcp {
                client: client_seen,
                server: server_seen,
            },
        ) => is_same(local, client_seen) && is_same(peer, server_seen),
        (ClientEnds::Unix, ServerEnds::Tcp { .. }) | (ClientEnds::Tcp { .. }, ServerEnds::Unix) => {
            false
        }
    })
}

/// One side may write an IPv4 address as an IPv6 one, and only one side knows of interfaces.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    plain(one.ip()) == plain(other.ip()) && one.port() == other.port()
}

fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
