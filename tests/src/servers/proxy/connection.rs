//! One connection through the proxy, with its two ways.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Network;
use super::pump::{Broken, pump};

/// How long a connection to the server that is being made may take when it is to be cut.
const JUST_BEING_MADE: Duration = Duration::from_millis(100);

/// How connections are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Close,
    Reset,
    ServerSide,
    ClientSide,
}

/// What a connection is told. It is carried out when this is dropped.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) cut: Cut,
    pub(super) _done: oneshot::Sender<()>,
}

/// One connection of a client.
pub(super) struct Connection {
    id: u64,
    network: Arc<Network>,
    orders: mpsc::UnboundedReceiver<Order>,
}

/// What is left of it: a side that is closed is none.
struct Sides {
    client: Option<TcpStream>,
    server: Option<TcpStream>,
}

impl Connection {
    pub(super) fn new(
        id: u64,
        network: Arc<Network>,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> Self {
        Self {
            id,
            network,
            orders,
        }
    }

    /// Carries bytes until both ways have ended, or an order ends them.
    pub(super) async fn serve(mut self, client: TcpStream) {
        let mut sides = Sides {
            client: Some(client),
            server: None,
        };
        let reached = self.network.reach_server();
        tokio::pin!(reached);
        let order = tokio::select! {
            biased;
            server = &mut reached => {
                sides.server = server.ok();
                None
            }
            order = self.orders.recv() => {
                // The server may know of it already: then it is cut on both sides.
                let server = timeout(JUST_BEING_MADE, reached).await;
                sides.server = server.ok().and_then(Result::ok);
                Some(order)
            }
        };
        match order {
            Some(order) => sides.obey(order).await,
            None if sides.server.is_none() => sides.reset(),
            None => {}
        }
        while sides.client.is_some() || sides.server.is_some() {
            let order = tokio::select! {
                biased;
                order = self.orders.recv() => order,
                ended = sides.carry(&self.network) => {
                    if ended.is_err() {
                        sides.reset();
                    }
                    break;
                }
            };
            sides.obey(order).await;
        }
        drop(sides);
        self.network.connections().remove(&self.id);
    }
}

impl Network {
    /// Connects to the server, as soon as what clients send can reach it.
    async fn reach_server(&self) -> io::Result<TcpStream> {
        let mut mode = self.to_server.mode.subscribe();
        let open = mode.wait_for(|mode| mode.is_open()).await;
        // The sender is ours.
        drop(open.map_err(io::Error::other)?);
        let server = *self.server();
        TcpStream::connect(server).await
    }
}

impl Sides {
    /// Carries bytes both ways until both have ended. With one side left there is nothing to carry,
    /// nobody to tell, and no end.
    async fn carry(&mut self, network: &Network) -> Result<(), Broken> {
        let (Some(client), Some(server)) = (&mut self.client, &mut self.server) else {
            return pending().await;
        };
        let without_delay = client.set_nodelay(true).and(server.set_nodelay(true));
        without_delay.map_err(|_| Broken)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let ((), ()) = tokio::try_join!(
            pump(from_client, to_server, &network.to_server),
            pump(from_server, to_client, &network.to_client),
        )?;
        Ok(())
    }

    async fn obey(&mut self, order: Option<Order>) {
        // Without one the proxy is gone.
        match order.as_ref().map_or(Cut::Close, |order| order.cut) {
            Cut::Close => {
                close(self.client.take()).await;
                close(self.server.take()).await;
            }
            Cut::Reset => self.reset(),
            Cut::ServerSide => close(self.server.take()).await,
            Cut::ClientSide => close(self.client.take()).await,
        }
    }

    fn reset(&mut self) {
        for side in [self.client.take(), self.server.take()]
            .into_iter()
            .flatten()
        {
            // A side that is closed already cannot be reset, and need not be.
            drop(side.set_zero_linger());
        }
    }
}

/// Ends a side in an orderly way: unread bytes would make it a reset.
async fn close(side: Option<TcpStream>) {
    let Some(mut side) = side else { return };
    let mut unread = [0; 4096];
    while matches!(side.try_read(&mut unread), Ok(read) if read > 0) {}
    let ended: io::Result<()> = side.shutdown().await;
    // The other side may have been faster.
    drop(ended);
}
