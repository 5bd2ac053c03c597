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

    /// The URL by which clients find all nodes from one of them, with the password of the servers.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        let password = self.nodes.first().map(Redis::password).unwrap_or_default();
        format!("redis-cluster://:{password}@{}", hosts.join(","))
    }

    /// Starts one more node, which takes the place of this primary when that is gone.
    pub async fn replica_of(primary: &Redis, settings: &[(&str, &str)]) -> Result<Redis, Error> {
        let settings = Settings::from(settings);
        let start = move |primary: &mut local::Redis| {
            local::replica_in_a_cluster(primary, &settings.borrowed())
        };
        primary.with(start).await.map(Redis::from)
    }

    /// Waits until all nodes that run say that all is well.
    pub async fn until_well(&self) -> Result<(), Error> {
        for node in &self.nodes {
            node.until_cluster("cluster_state:ok").await?;
        }
        Ok(())
    }

    /// Moves the slot of a key, with all that is in it, from the node that had it first to another.
    pub async fn move_slot_of(&self, key: &str) -> Result<(), Error> {
        let from = self.node_of(key).await?;
        self.move_slot(key, from, self.other_than(from)?).await
    }

    /// A node that is not this one, always the same.
    pub fn other_than(&self, node: &Redis) -> Result<&Redis, Error> {
        let mut others = self.nodes.iter();
        let other = others.find(|other| other.port() != node.port());
        other.ok_or_else(|| Error::Missing("there is no other node".to_owned()))
    }

    /// Moves the slot of a key, with all that is in it, from one node to another, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, key: &str, from: &Redis, to: &Redis) -> Result<(), Error> {
        let slot = from.ask(&["CLUSTER", "KEYSLOT", key]).await?.text();
        let (here, there) = (id(from).await?, id(to).await?);
        let set = async |node: &Redis, how: &str, id: &str| {
            node.ask(&["CLUSTER", "SETSLOT", &slot, how, id])
                .await
                .map(drop)
        };
        set(to, "IMPORTING", &here).await?;
        set(from, "MIGRATING", &there).await?;
        let (port, password) = (to.port().to_string(), to.password());
        loop {
            let keys = from
                .ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])
                .await?;
            let keys: Vec<String> = keys.list().iter().map(local::Reply::text).collect();
            if keys.is_empty() {
                break;
            }
            let mut command = vec![
                "MIGRATE",
                "127.0.0.1",
                &port,
                "",
                "0",
                "5000",
                "AUTH",
                &password,
                "KEYS",
            ];
            command.extend(keys.iter().map(String::as_str));
            from.ask(&command).await?;
        }
        set(to, "NODE", &there).await?;
        set(from, "NODE", &there).await
    }

    /// The node that had the slot of a key when the cluster began.
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

async fn id(node: &Redis) -> Result<String, Error> {
    node.ask(&["CLUSTER", "MYID"]).await.map(|id| id.text())
}
