//! Where the nodes of a test meet: a namespace, and how it is used.

use std::time::Duration;

use coordinator_servers::Talk;
use coordinator_tests::servers::Proxy;
use coordinator_tests::servers::Redis;
use coordinator_tests::servers::redis::{Space, fresh_space, wanted_clients};
use tokio::time::{sleep, timeout};

use super::{LONG, Tested};

/// The clients that nodes use: both, or those that a variable names.
pub(crate) struct Clients;

pub(crate) const CLIENTS: Clients = Clients;

impl IntoIterator for Clients {
    type Item = &'static str;
    type IntoIter = std::vec::IntoIter<&'static str>;

    fn into_iter(self) -> Self::IntoIter {
        wanted_clients().into_iter()
    }
}

/// A namespace of a server.
pub(crate) struct Place {
    server: String,
    namespace: String,
    /// Ours, for each node.
    parameters: Vec<(String, String)>,
    /// Its keys go in the end; a server of the test's own takes them with it.
    _space: Option<Space>,
}

impl Place {
    /// In the server that all tests share, which is trusted to be new where it is empty; none without
    /// one.
    pub(crate) fn shared(client: &str) -> Option<Self> {
        let space = fresh_space()?;
        let (server, name) = (space.url().to_owned(), space.name().to_owned());
        let place = Self::new(client, server, name, Some(space));
        Some(place.with("trust_empty_store", "true"))
    }

    /// In a server of the test's own, which is not trusted where it is empty.
    pub(crate) fn on(client: &str, server: &Redis) -> Self {
        Self::new(client, server.url(), "ours".to_owned(), None)
    }

    fn new(client: &str, server: String, name: String, space: Option<Space>) -> Self {
        let mut parameters = vec![("namespace".to_owned(), name.clone())];
        if client != "redis" {
            parameters.push(("client".to_owned(), client.to_owned()));
        }
        Self {
            server,
            parameters,
            namespace: name,
            _space: space,
        }
    }

    /// The same, with one more parameter for each node.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For connections of the test.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// For a node.
    pub(crate) fn url(&self) -> String {
        self.at(self.server())
    }

    /// For a node behind a proxy.
    pub(crate) fn through(&self, proxy: &Proxy) -> String {
        self.at(&proxy.url(self.server()))
    }

    /// For a node that reaches the server by another URL.
    pub(crate) fn at(&self, server: &str) -> String {
        let parameters = self.parameters.iter();
        let pairs: Vec<_> = parameters
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let begin = if server.contains('?') { '&' } else { '?' };
        format!("{server}{begin}{}", pairs.join("&"))
    }

    /// The keys of one kind, by what they are called.
    pub(crate) fn keys(&self, kind: &str) -> Tested<Vec<String>> {
        let mut talk = Talk::to(&self.server)?;
        let found = talk.ask(&["KEYS", &format!("*{}*:{kind}:*", self.namespace)])?;
        Ok(found
            .list()
            .iter()
            .map(coordinator_servers::Reply::text)
            .collect())
    }

    /// Waits until so many stand in line for leases, no more and no fewer.
    pub(crate) async fn until_waiting(&self, wanted: usize) -> Tested {
        let search = async {
            loop {
                let mut waiting = 0;
                for key in self.keys("line")? {
                    let mut talk = Talk::to(&self.server)?;
                    waiting += talk.ask(&["ZCARD", &key])?.text().parse::<usize>()?;
                }
                if waiting == wanted {
                    return anyhow::Ok(());
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let found = timeout(LONG, search).await;
        found.map_err(|_| anyhow::anyhow!("not {wanted} wait"))?
    }
}
