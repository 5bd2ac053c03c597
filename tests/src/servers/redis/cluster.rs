//! A small cluster.

use coordinator_servers::{self as local, Error};

use super::{Redis, programs};
use crate::servers::blocking::blocking;
use crate::servers::settings::Settings;

/// Primaries that share the slots between them, in order. The last clone that is dropped ends them.
#[derive(Debug, Clone)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts one of so many primaries, with settings as in `redis.conf`, and waits until each says
    /// that all is well. `None` where the machine has no program for it.
    ///
    /// # Errors
    /// When there is a program and the cluster does not start.
    ///
    /// # Panics
    /// Where the program is required and there is none.
    pub async fn start(count: usize, settings: &[(&str, &str)]) -> Result<Option<Self>, Error> {
        let Some(program) = programs().await else {
            return Ok(None);
        };
        let settings = Settings::from(settings);
        let start = move || local::in_a_cluster(program, count, &settings.borrowed());
        let nodes = blocking(start).await?;
        let nodes = nodes.into_iter().map(Redis::from).collect();
        Ok(Some(Self { nodes }))
    }

    /// Its nodes, by the slots that they have.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The node that has the slot of a key.
    pub async fn node_of(&self, key: &str) -> Result<&Redis, Error> {
        let nowhere = || Error::Missing(format!("no node has the slot of {key}"));
        let first = self.nodes.first().ok_or_else(nowhere)?;
        let slot = first.ask(&["CLUSTER", "KEYSLOT", key]).await?.text();
        let slot: usize = slot.parse().map_err(|_| nowhere())?;
        let count = self.nodes.len();
        let mut nodes = self.nodes.iter().enumerate();
        let found = nodes.find(|(at, _)| local::slots(*at, count).contains(&slot));
        found.map(|(_, node)| node).ok_or_else(nowhere)
    }
}
