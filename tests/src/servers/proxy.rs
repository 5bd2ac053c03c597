//! A TCP proxy that is the network between a client and a server, and breaks on demand.
//!
//! It cannot imitate lost packets: the systems on both sides go on acknowledging, so that keepalives
//! never fail through it. It needs tokio's real clock.

mod connection;
mod pump;
mod route;

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_servers::listen_on_free_port;
use socket2::SockRef;
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use connection::{Connection, Cut, Order};

/// How one direction of all connections behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// At once.
    #[default]
    Pass,
    /// Nothing passes, not even the end of a connection: silence. What was sent meanwhile passes
    /// afterwards.
    Hold,
    /// What is sent is lost, and so is the end of a connection.
    Lose,
    /// Everything passes so much later, in order.
    Delay(Duration),
    /// So many bytes pass in a second, of each connection.
    Throttle(u64),
    /// So many more bytes pass of each connection, counted from now. Then it is reset.
    CutAfter(u64),
}

impl Mode {
    /// Whether anything comes out at the other end.
    fn is_open(self) -> bool {
        !matches!(self, Self::Hold | Self::Lose)
    }
}

/// A direction, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From clients to the server.
    ToServer,
    /// From the server to clients.
    ToClient,
    /// Both.
    Both,
}

/// A proxy in front of one server. Dropping it closes all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    door: mpsc::UnboundedSender<Door>,
    task: JoinHandle<()>,
}

/// What its connections share.
#[derive(Debug)]
struct Network {
    server: Mutex<SocketAddr>,
    to_server: Way,
    to_client: Way,
    connections: Mutex<BTreeMap<u64, mpsc::UnboundedSender<Order>>>,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    mode: watch::Sender<Mode>,
    /// Bytes that have passed.
    passed: AtomicU64,
}

/// So many connections wait to be taken.
const WAITING: i32 = 1024;

/// A word to whoever opens the door.
#[derive(Debug)]
enum Door {
    Close(oneshot::Sender<io::Result<()>>),
    Open(oneshot::Sender<io::Result<()>>),
}

impl Proxy {
    /// A proxy in front of the server at that address, on a port of 127.0.0.1.
    pub fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = listen_on_free_port().map_err(io::Error::other)?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let network = Arc::new(Network {
            server: Mutex::new(server),
            to_server: Way::default(),
            to_client: Way::default(),
            connections: Mutex::default(),
        });
        let (door, words) = mpsc::unbounded_channel();
        let task = tokio::spawn(attend(listener, words, Arc::clone(&network)));
        Ok(Self {
            address,
            network,
            door,
            task,
        })
    }

    /// A proxy in front of the server that a URL names by its host and port.
    pub async fn before(url: &str) -> io::Result<Self> {
        let (host, port) = route::host_and_port(url)?;
        let found = lookup_host((host, port)).await?.next();
        Self::to(found.ok_or(io::ErrorKind::NotFound)?)
    }

    /// The URL that leads through this proxy instead.
    pub fn url(&self, url: &str) -> String {
        route::through(url, self.address)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port on 127.0.0.1, the same for as long as it lives.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes how a direction behaves, of connections that are there and of those to come. What is
    /// being written at this moment still passes.
    pub fn set(&self, direction: Direction, mode: Mode) {
        for way in self.network.ways(direction) {
            way.mode.send_replace(mode);
        }
    }

    /// How many connections there are, to or from anybody.
    pub fn connections(&self) -> usize {
        self.network.connections().len()
    }

    /// How many bytes have passed so far.
    pub fn passed(&self, direction: Direction) -> u64 {
        let ways = self.network.ways(direction).into_iter();
        ways.map(|way| way.passed.load(Ordering::Relaxed)).sum()
    }

    /// Refuses new connections, as a host does on which nothing listens. Those that are there stay.
    pub async fn refuse(&self) -> io::Result<()> {
        self.tell(Door::Close).await
    }

    /// Takes new connections again.
    pub async fn accept(&self) -> io::Result<()> {
        self.tell(Door::Open).await
    }

    /// Leads new connections to another server, as when its address is given to that one. Those that
    /// are there stay.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.network.server() = server;
    }

    /// Ends all connections in an orderly way, on both sides.
    pub async fn close_all(&self) {
        self.cut(Cut::Close).await;
    }

    /// Resets all connections, on both sides.
    pub async fn reset_all(&self) {
        self.cut(Cut::Reset).await;
    }

    /// Ends all connections towards the server alone: it knows that its clients are gone, and they
    /// hear nothing, until they are cut off too.
    pub async fn close_server_side(&self) {
        self.cut(Cut::ServerSide).await;
    }

    /// Ends all connections towards clients alone: the server goes on serving nobody.
    pub async fn close_client_side(&self) {
        self.cut(Cut::ClientSide).await;
    }

    async fn tell(
        &self,
        word: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Door,
    ) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        let gone = || io::Error::other("the proxy has ended");
        self.door.send(word(done)).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Gives an order to all that are there, and waits until it is carried out.
    async fn cut(&self, cut: Cut) {
        let told: Vec<_> = {
            let connections = self.network.connections();
            let tell = |connection: &mpsc::UnboundedSender<Order>| {
                let (done, result) = oneshot::channel();
                let order = Order { cut, _done: done };
                connection.send(order).ok().map(|()| result)
            };
            connections.values().filter_map(tell).collect()
        };
        for result in told {
            // Nothing is ever sent: the order is dropped when it is done, or its connection has ended.
            drop(result.await);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.network.connections().clear();
    }
}

impl Network {
    fn ways(&self, direction: Direction) -> Vec<&Way> {
        match direction {
            Direction::ToServer => vec![&self.to_server],
            Direction::ToClient => vec![&self.to_client],
            Direction::Both => vec![&self.to_server, &self.to_client],
        }
    }

    fn server(&self) -> MutexGuard<'_, SocketAddr> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, mpsc::UnboundedSender<Order>>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes connections while the door is open.
async fn attend(
    listener: TcpListener,
    mut words: mpsc::UnboundedReceiver<Door>,
    network: Arc<Network>,
) {
    let mut opening = Opening::Listens(listener);
    for id in 0.. {
        let client = loop {
            let accepted = async {
                match &opening {
                    Opening::Listens(listener) => listener.accept().await,
                    Opening::Keeps(_) | Opening::Broken => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                word = words.recv() => match word {
                    Some(word) => turn(&mut opening, word),
                    None => return,
                },
                // A client that is gone before it was taken.
                accepted = accepted => if let Ok((client, _)) = accepted { break client },
            }
        };
        let (orders, given) = mpsc::unbounded_channel();
        network.connections().insert(id, orders);
        tokio::spawn(Connection::new(id, Arc::clone(&network), given).serve(client));
    }
}

/// What listens, or keeps the port meanwhile: else another test's server may be given it, and answer
/// there. It is one socket all the time. A process that is just being started has a copy of each for a
/// moment: a listener that was closed may listen on there, and is in the way of a new one.
enum Opening {
    Listens(TcpListener),
    Keeps(std::net::TcpListener),
    Broken,
}

impl Opening {
    /// On Linux this ends the listening of the socket, and of all copies, and leaves it its port.
    fn close(self) -> io::Result<Self> {
        let Self::Listens(listener) = self else {
            return Ok(self);
        };
        let kept = listener.into_std()?;
        SockRef::from(&kept).shutdown(Shutdown::Read)?;
        Ok(Self::Keeps(kept))
    }

    fn open(self) -> io::Result<Self> {
        let Self::Keeps(kept) = self else {
            return Ok(self);
        };
        SockRef::from(&kept).listen(WAITING)?;
        Ok(Self::Listens(TcpListener::from_std(kept)?))
    }
}

fn turn(opening: &mut Opening, word: Door) {
    let before = std::mem::replace(opening, Opening::Broken);
    let (after, done) = match word {
        Door::Close(done) => (before.close(), done),
        Door::Open(done) => (before.open(), done),
    };
    // Whoever asked may have gone.
    drop(done.send(after.map(|after| *opening = after)));
}
