//! The nodes, each a process, and what they are there for.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::future::select_all;

use super::messages::LIFE;
use super::server::{Messages, Server};
use crate::servers::process::Event;
use crate::servers::{Program, Proxy};

/// The topic whose messages are kept.
pub(super) const DURABLE: &str = "durable";
/// The topic of which nothing is kept.
pub(super) const NEWS: &str = "news";
/// Into how many shards the keyspace is cut.
pub(super) const SHARDS: usize = 24;
pub(super) const ELECTIONS: [&str; 2] = ["a", "b"];
/// Shorter than by default, so that leases run out often.
const TTL_MS: u64 = 1_000;

/// One kind of node.
struct Role {
    member: Option<&'static str>,
    /// Through a network that fails.
    proxied: bool,
    messages: Messages,
    orders: &'static [&'static str],
    /// To publish: the topic, and its settings.
    publishes: Option<(&'static str, &'static str)>,
}

const WORK: &[&str] = &[
    "lead a every=20",
    "lead b every=20",
    "hold l every=10 for=30",
    "shards k 24 every=100",
];

/// The last two listen, and are never killed.
const ROLES: &[Role] = &[
    Role {
        member: Some("n0"),
        proxied: false,
        messages: Messages::Durable,
        orders: WORK,
        publishes: Some((DURABLE, "every=20 size=100 each=1")),
    },
    Role {
        member: Some("n1"),
        proxied: true,
        messages: Messages::Durable,
        orders: WORK,
        publishes: Some((DURABLE, "every=50 size=9000 each=1")),
    },
    Role {
        member: Some("n2"),
        proxied: false,
        messages: Messages::Live,
        orders: WORK,
        publishes: Some((NEWS, "every=10 size=100 each=1")),
    },
    Role {
        member: None,
        proxied: true,
        messages: Messages::Live,
        orders: WORK,
        publishes: Some((NEWS, "every=200 size=20000 each=1")),
    },
    Role {
        member: None,
        proxied: false,
        messages: Messages::Live,
        orders: WORK,
        publishes: Some((NEWS, "every=1000 size=100000 each=1")),
    },
    Role {
        member: Some("log"),
        proxied: true,
        messages: Messages::Durable,
        orders: &["subscribe durable start=oldest"],
        publishes: None,
    },
    Role {
        member: Some("ear"),
        proxied: false,
        messages: Messages::Live,
        orders: &["subscribe news capacity=8192"],
        publishes: None,
    },
];

/// So many of the nodes may be killed.
pub(super) const MORTALS: usize = 5;

/// One node.
pub(super) struct Node {
    role: &'static Role,
    index: usize,
    lives: u64,
    pub(super) proxy: Option<Proxy>,
    /// None between two lives.
    pub(super) program: Option<Program>,
    pub(super) suspended: bool,
    /// It was killed, or told to leave: its end is no surprise.
    pub(super) is_ending: bool,
}

impl Node {
    /// What this life is called in the books.
    pub(super) fn life(&self) -> String {
        format!("{}/{}", self.index, self.lives)
    }

    /// Whether it only listens.
    pub(super) fn listens(&self) -> bool {
        self.role.publishes.is_none()
    }

    /// How many megabytes it has in memory, where that can be known.
    pub(super) fn megabytes(&self) -> Option<f64> {
        let id = self.program.as_ref()?.id();
        let text = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes / 1024.0)
    }
}

/// All nodes.
pub(super) struct Fleet {
    pub(super) nodes: Vec<Node>,
    server: Server,
    program: PathBuf,
}

impl Fleet {
    /// Starts them all.
    pub(super) fn start(server: &Server, program: &Path) -> io::Result<Self> {
        let mut fleet = Self {
            nodes: Vec::new(),
            server: server.clone(),
            program: program.to_path_buf(),
        };
        for (index, role) in ROLES.iter().enumerate() {
            let proxy = if role.proxied {
                Some(Proxy::to(server.address())?)
            } else {
                None
            };
            fleet.nodes.push(Node {
                role,
                index,
                lives: 0,
                proxy,
                program: None,
                suspended: false,
                is_ending: false,
            });
            fleet.start_node(index)?;
        }
        Ok(fleet)
    }

    /// Begins a new life of a node.
    pub(super) fn start_node(&mut self, index: usize) -> io::Result<()> {
        let node = &self.nodes[index];
        let (role, lives) = (node.role, node.lives + 1);
        let port = node.proxy.as_ref().map(Proxy::port);
        let url = self.server.url_of_node(port, role.messages);
        let mut orders: Vec<String> = role.orders.iter().map(|&order| order.to_owned()).collect();
        if let Some((topic, settings)) = role.publishes {
            let from = (index as u64 * 10_000 + lives) * LIFE + 1;
            orders.push(format!(
                "publish {topic} {} from={from} {settings}",
                LIFE - 1
            ));
        }
        let program = self.node_program(&url, role.member, &orders)?;
        let node = &mut self.nodes[index];
        node.lives = lives;
        node.suspended = false;
        node.is_ending = false;
        node.program = Some(program);
        Ok(())
    }

    /// One more that reads the whole log.
    pub(super) fn start_reader(&self) -> io::Result<Program> {
        let orders = ["subscribe durable start=oldest".to_owned()];
        let url = self.server.url_of_node(None, Messages::Durable);
        self.node_program(&url, None, &orders)
    }

    fn node_program(
        &self,
        url: &str,
        member: Option<&str>,
        orders: &[String],
    ) -> io::Result<Program> {
        let mut command = Command::new(&self.program);
        command.args(["--url", url, "--ttl", &TTL_MS.to_string()]);
        if let Some(member) = member {
            command.args(["--member", member]);
        }
        Program::start(command.args(orders))
    }

    /// The next thing that one of them says; `None`: its output has ended, and so has it. Cancel safe.
    pub(super) async fn next(&mut self) -> (usize, Option<Event>) {
        let speaking = self
            .nodes
            .iter_mut()
            .enumerate()
            .filter_map(|(index, node)| {
                let program = node.program.as_mut()?;
                Some(Box::pin(async move { (index, program.next().await) }))
            });
        let speaking: Vec<_> = speaking.collect();
        if speaking.is_empty() {
            return std::future::pending().await;
        }
        select_all(speaking).await.0
    }
}
