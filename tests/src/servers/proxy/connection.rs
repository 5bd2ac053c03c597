//! One connection through the proxy, with its two ways.

use std::future::pending;
use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::Network;
use super::pump::{Broken, pump};

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
        let server = TcpStream::connect(self.network.server).await;
        let mut sides = Sides {
            client: Some(client),
            server: server.ok(),
        };
        if sides.server.is_none() {
            sides.reset();
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
            // Without one the proxy is gone.
            let cut = order.as_ref().map_or(Cut::Close, |order| order.cut);
            sides.cut(cut).await;
            drop(order);
        }
        drop(sides);
        self.network.connections().remove(&self.id);
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

    async fn cut(&mut self, cut: Cut) {
        match cut {
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
