//! Who has which slots, as a node tells it, and as far as is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::slots::SLOTS;
use crate::client::{Client, Dial, Value, What};
use crate::endpoint::Host;
use crate::error::ConnectError;
use crate::reply::{Read as _, part};
use crate::trouble::Trouble;

/// What one node says of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Grows with each change of who has what.
    pub(super) epoch: u64,
    /// For people.
    pub(super) said: String,
    is_well: bool,
    /// First and last slots, and who has them.
    ranges: Vec<(u16, u16, Host)>,
}

impl View {
    /// Whether the node is in touch with most others, and the slots have nodes.
    pub(super) fn is_well(&self) -> bool {
        self.is_well
    }

    pub(super) async fn of(host: &Host, node: &dyn Client) -> Result<Self, ConnectError> {
        node.reach().await?;
        let words = [["CLUSTER", "INFO"], ["CLUSTER", "SLOTS"]];
        let commands = words.map(|words| words.into_iter().map(Bytes::from).collect());
        let answers = node.pipeline(commands.into()).await;
        let view = answers.and_then(|answers| {
            let answers: Result<Vec<Value>, _> = answers.into_iter().collect();
            Self::read(host, &answers?)
        });
        view.map_err(|trouble| failed(node, trouble))
    }

    fn read(asked: &Host, answers: &[Value]) -> Result<Self, Trouble> {
        let info = part(answers, 0)?.text()?;
        let line = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(known, _)| *known == name);
            found.map(|(_, value)| value).unwrap_or_default()
        };
        let ranges = part(answers, 1)?.list()?.iter();
        let ranges = ranges.map(|range| Self::range(asked, range.list()?));
        Ok(Self {
            epoch: line("cluster_current_epoch").parse().unwrap_or_default(),
            said: format!(
                "{asked} says cluster_state:{}, cluster_slots_assigned:{}, cluster_slots_ok:{}",
                line("cluster_state"),
                line("cluster_slots_assigned"),
                line("cluster_slots_ok"),
            ),
            is_well: line("cluster_state") == "ok",
            ranges: ranges.collect::<Result<_, _>>()?,
        })
    }

    /// First slot, last slot, the primary, its replicas. A node does not always know its own name.
    fn range(asked: &Host, range: &[Value]) -> Result<(u16, u16, Host), Trouble> {
        let slot = |place| {
            let slot = part(range, place)?.number()?;
            let slot = u16::try_from(slot).ok().filter(|slot| *slot < SLOTS);
            slot.ok_or_else(|| Trouble::unreadable("a slot"))
        };
        let primary = part(range, 2)?.list()?;
        let port = part(primary, 1)?.number()?;
        let port = u16::try_from(port).map_err(|_| Trouble::unreadable("a port"))?;
        let name = match (part(primary, 0)?.text(), asked) {
            (Ok(name), _) if !name.is_empty() && name != "?" => name.to_owned(),
            (_, Host::Tcp(name, _)) => name.clone(),
            (_, Host::Unix(_)) => return Err(Trouble::unreadable("no name")),
        };
        Ok((slot(0)?, slot(1)?, Host::Tcp(name, port)))
    }
}

fn failed(node: &dyn Client, trouble: Trouble) -> ConnectError {
    let host = node.shown();
    match trouble {
        Trouble::Rejected(error) if error.to_string().contains("cluster support disabled") => {
            ConnectError::OtherKind {
                host,
                found: "no node of a cluster",
                wanted: "redis://",
            }
        }
        other => crate::hub::unusable(&host, other),
    }
}

/// What is known.
pub(super) struct Map {
    dial: Arc<dyn Dial>,
    /// By slot.
    owners: Vec<Option<Host>>,
    /// Those who have slots, and those who were asked; numbered, no number twice.
    nodes: BTreeMap<Host, (u64, Arc<dyn Client>)>,
    numbers: u64,
    is_well: bool,
    /// Where to begin asking.
    turn: usize,
}

impl Map {
    pub(super) fn new(dial: Arc<dyn Dial>) -> Self {
        Self {
            dial,
            owners: vec![None; usize::from(SLOTS)],
            nodes: BTreeMap::new(),
            numbers: 0,
            is_well: false,
            turn: 0,
        }
    }

    /// Whether somebody who is in touch with the cluster was heard of late.
    pub(super) fn is_well(&self) -> bool {
        self.is_well
    }

    fn numbered(&mut self, host: &Host) -> Result<(u64, Arc<dyn Client>), ConnectError> {
        if let Some(node) = self.nodes.get(host) {
            return Ok(node.clone());
        }
        self.numbers += 1;
        let node = (self.numbers, self.dial.client(host, What::Node)?);
        self.nodes.insert(host.clone(), node.clone());
        Ok(node)
    }

    /// A node at that place.
    pub(super) fn client(&mut self, host: &Host) -> Result<Arc<dyn Client>, ConnectError> {
        self.numbered(host).map(|(_, client)| client)
    }

    /// The node that has a slot.
    pub(super) fn node(&mut self, slot: u16) -> Option<(u64, Arc<dyn Client>)> {
        let host = self.owners.get(usize::from(slot))?.clone()?;
        self.numbered(&host).ok()
    }

    /// One slot has another node now.
    pub(super) fn moved(&mut self, slot: u16, to: &Host) {
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = Some(to.clone());
        }
    }

    /// All who have slots.
    pub(super) fn primaries(&mut self) -> Vec<Arc<dyn Client>> {
        let mut hosts: Vec<Host> = self.owners.iter().flatten().cloned().collect();
        hosts.sort();
        hosts.dedup();
        let clients = hosts.iter().filter_map(|host| self.client(host).ok());
        clients.collect()
    }

    /// Some of those who have slots, and some that were named first.
    #[allow(clippy::type_complexity, reason = "it is said once")]
    pub(super) fn some_nodes(
        &mut self,
        seeds: &[Host],
        most: usize,
    ) -> Vec<(Host, Result<Arc<dyn Client>, ConnectError>)> {
        let mut hosts: Vec<Host> = self.nodes.keys().chain(seeds).cloned().collect();
        hosts.sort();
        hosts.dedup();
        self.turn += most;
        let turn = self.turn % hosts.len().max(1);
        hosts.rotate_left(turn);
        hosts.truncate(most);
        let nodes = hosts.into_iter().map(|host| {
            let client = self.client(&host);
            (host, client)
        });
        nodes.collect()
    }

    /// Takes a view for true. `None`: nobody has one that counts, and what is known is kept. Says whether it is another now.
    pub(super) fn set(&mut self, view: Option<&View>) -> bool {
        let was_well = std::mem::replace(&mut self.is_well, view.is_some());
        let Some(view) = view else {
            return was_well;
        };
        let mut owners = vec![None; usize::from(SLOTS)];
        for (first, last, host) in &view.ranges {
            for slot in *first..=*last {
                if let Some(owner) = owners.get_mut(usize::from(slot)) {
                    *owner = Some(host.clone());
                }
            }
        }
        let has_changed = owners != self.owners || !was_well;
        self.owners = owners;
        let used = &view.ranges;
        self.nodes
            .retain(|host, _| used.iter().any(|(_, _, known)| known == host));
        has_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Bytes(text.into())
    }

    fn range(first: i64, last: i64, name: Value, port: i64) -> Value {
        let primary = Value::Array(vec![name, Value::Int(port), text("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), primary])
    }

    fn asked() -> Host {
        Host::Tcp("asked".to_owned(), 1)
    }

    fn view(state: &'static str, ranges: Vec<Value>) -> Result<View, Trouble> {
        View::read(&asked(), &[text(state), Value::Array(ranges)])
    }

    #[test]
    fn a_view_says_who_has_what_and_whether_it_counts() {
        let info =
            "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:7\r\n";
        let ranges = vec![
            range(0, 100, text("10.0.0.1"), 7),
            range(101, 16_383, Value::Nil, 8),
        ];
        let view = view(info, ranges).unwrap();
        assert!(view.is_well() && view.epoch == 7);
        let hosts = [
            Host::Tcp("10.0.0.1".to_owned(), 7),
            Host::Tcp("asked".to_owned(), 8),
        ];
        let [one, other] = hosts;
        assert_eq!(view.ranges, [(0, 100, one), (101, 16_383, other)]);
    }

    #[test]
    fn a_view_of_less_than_most_does_not_count() {
        let ill = view("cluster_state:fail\ncluster_slots_ok:5", Vec::new()).unwrap();
        assert!(!ill.is_well() && ill.said.contains("cluster_state:fail"));
        assert!(view("", vec![range(0, 16_384, text("h"), 7)]).is_err());
    }
}
