//! A small cluster: primaries that share the slots between them.

use std::ops::RangeInclusive;

use super::{Kind, Redis, RedisProgram, Talk, is_free};
use crate::error::Error;
use crate::port::free_port;
use crate::random;

/// So many slots a cluster has.
const SLOTS: usize = 16_384;

/// Nodes speak to each other at a port so much higher.
const APART: u16 = 10_000;

/// Both ports are to be below what systems give to outgoing connections.
const HIGHEST: u16 = 22_000;

/// So many ports are tried.
const TRIES: usize = 200;

/// What makes a server a node.
const OF_NODES: &[(&str, &str)] = &[
    ("cluster-enabled", "yes"),
    ("cluster-config-file", "nodes.conf"),
    ("cluster-node-timeout", "2000"),
    // On a busy machine an election may fail a few times: then a replica is not too old for the next one.
    ("cluster-replica-validity-factor", "0"),
];

/// Starts a cluster of `count` primaries, with settings as in `redis.conf`, and waits until each of
/// them says that all is well.
pub fn in_a_cluster(
    program: &RedisProgram,
    count: usize,
    settings: &[(&str, &str)],
) -> Result<Vec<Redis>, Error> {
    let password = random::password();
    let settings = [OF_NODES, settings].concat();
    let mut nodes = Vec::new();
    for at in 0..count {
        let mut node = Redis::prepare(program, Kind::Node, password.clone())?;
        node.first_start(&settings)?;
        let numbers: Vec<String> = slots(at, count).map(|slot| slot.to_string()).collect();
        let mut command = vec!["CLUSTER", "ADDSLOTS"];
        command.extend(numbers.iter().map(String::as_str));
        node.ask(&command)?;
        // Else two nodes could think that they have the same place in the order of events.
        node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()])?;
        nodes.push(node);
    }
    meet(&nodes)?;
    Ok(nodes)
}

/// Starts one more node of a cluster, which follows one of its primaries and takes its place when that is gone; and waits
/// until it has all, and each primary knows of it.
pub fn replica_in_a_cluster(primary: &Redis, settings: &[(&str, &str)]) -> Result<Redis, Error> {
    let mut node = Redis::prepare(&primary.program, Kind::Node, primary.password.clone())?;
    node.first_start(&[OF_NODES, settings].concat())?;
    node.ask(&["CLUSTER", "MEET", "127.0.0.1", &primary.port.to_string()])?;
    let of = primary.ask(&["CLUSTER", "MYID"])?.text();
    let me = node.ask(&["CLUSTER", "MYID"])?.text();
    node.until("know its primary", |talk| {
        Ok(talk.ask(&["CLUSTER", "NODES"])?.text().contains(&of))
    })?;
    node.ask(&["CLUSTER", "REPLICATE", &of])?;
    node.until("follow its primary", |talk| {
        Ok(talk.info("replication", "master_link_status")?.as_deref() == Some("up"))
    })?;
    node.until("see the whole cluster", |talk| {
        let said = talk.ask(&["CLUSTER", "INFO"])?.text();
        Ok(said.lines().any(|line| line == "cluster_state:ok"))
    })?;
    // All of them vote for who follows a lost primary. It alone would tell the others of this one: those that it has not told by
    // then answer no request for a vote, ever.
    for port in ports_of_primaries(&node.ask(&["CLUSTER", "NODES"])?.text()) {
        let mut primary = Talk::to(&node.url_at(port))?;
        node.until("be known to all primaries", |_| {
            let said = primary.ask(&["CLUSTER", "NODES"])?.text();
            Ok(said.lines().any(|line| follows(line, &me, &of)))
        })?;
    }
    Ok(node)
}

/// Of what `CLUSTER NODES` says: lines of id, `host:port@port`, flags, and the id of the node that it follows.
fn ports_of_primaries(nodes: &str) -> Vec<u16> {
    let lines = nodes
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let primaries = lines.filter(|line| has_flag(line, "master"));
    let ports = primaries.filter_map(|line| {
        let (place, _) = line.get(1)?.split_once('@')?;
        place.rsplit_once(':')?.1.parse().ok()
    });
    ports.collect()
}

fn follows(line: &str, me: &str, of: &str) -> bool {
    let line: Vec<_> = line.split(' ').collect();
    line.first() == Some(&me) && has_flag(&line, "slave") && line.get(3) == Some(&of)
}

fn has_flag(line: &[&str], flag: &str) -> bool {
    let flags = line.get(2).copied().unwrap_or_default();
    flags.split(',').any(|one| one == flag)
}

/// The slots of the node at a place, of so many.
pub fn slots(at: usize, count: usize) -> RangeInclusive<usize> {
    SLOTS * at / count..=SLOTS * (at + 1) / count - 1
}

/// Makes them know each other.
fn meet(nodes: &[Redis]) -> Result<(), Error> {
    let Some((first, others)) = nodes.split_first() else {
        return Ok(());
    };
    for other in others {
        let port = other.port.to_string();
        first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port])?;
    }
    let all = nodes.len().to_string();
    for node in nodes {
        node.until("see the whole cluster", |talk| {
            let said = talk.ask(&["CLUSTER", "INFO"])?.text();
            let says = |line: &str| said.lines().any(|said| said == line);
            Ok(says("cluster_state:ok") && says(&format!("cluster_size:{all}")))
        })?;
    }
    Ok(())
}

/// A port of 127.0.0.1 on which nothing listens, nor on the one where the node speaks to others.
pub(super) fn free_ports() -> Result<u16, Error> {
    for _ in 0..TRIES {
        let port = free_port()?;
        if port < HIGHEST && is_free(port + APART) {
            return Ok(port);
        }
    }
    let text = format!("no two ports {APART} apart are free, of {TRIES}");
    Err(Error::failed("find ports", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_whom_is_read_from_what_a_node_says() {
        let nodes = "a1 127.0.0.1:30004@31004 slave b2 0 1426238317239 4 connected\n\
                     b2 127.0.0.1:30001@31001,host myself,master - 0 0 1 connected 0-5460\n\
                     c3 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922\n";
        assert_eq!(ports_of_primaries(nodes), [30001, 30002]);
        let said = |me, of| nodes.lines().any(|line| follows(line, me, of));
        assert!(said("a1", "b2") && !said("a1", "c3") && !said("c3", "-"));
    }

    #[test]
    fn every_slot_has_one_node() {
        for count in 1..7 {
            let all: Vec<usize> = (0..count).flat_map(|at| slots(at, count)).collect();
            assert_eq!(all, (0..SLOTS).collect::<Vec<_>>(), "{count} nodes");
        }
    }
}
