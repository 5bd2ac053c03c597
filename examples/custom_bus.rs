//! A bus for a broker that Coordinator does not know: two traits, three methods. Order, gaps, types,
//! members and elections by vote come with it.
//!
//! `cargo run --example custom_bus`
#![allow(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use coordinator_core::{
    Backend, BusError, ClusterBus, Feed, FeedEvent, Frame, Start, Topic, async_trait,
};
use coordinator_node::{Election, ElectionConfig, Incoming, Node, Quorum};
use tokio::sync::broadcast::{self, error::RecvError};

/// The broker's client. This toy hands every message to every listener, and keeps 100 of them.
#[derive(Clone)]
struct Acme(broadcast::Sender<(String, Vec<u8>)>);

/// The bus, for `Backend::from_bus`.
struct AcmeBus(Acme);

struct AcmeFeed {
    topics: BTreeSet<String>,
    inbox: broadcast::Receiver<(String, Vec<u8>)>,
}

#[async_trait]
impl ClusterBus for AcmeBus {
    async fn publish(&self, batch: &[Frame]) -> Result<(), BusError> {
        for frame in batch {
            let message = (frame.topic.name().to_owned(), frame.to_bytes().to_vec());
            // No listener: then nobody wants to hear it. A real client would fail here with
            // `BusError::indeterminate`.
            self.0.0.send(message).ok();
        }
        Ok(())
    }

    async fn subscribe(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Feed>, BusError> {
        start.must_be_now()?; // this broker keeps nothing
        let topics = topics.iter().map(|topic| topic.name().to_owned()).collect();
        let inbox = self.0.0.subscribe();
        Ok(Box::new(AcmeFeed { topics, inbox }))
    }
}

#[async_trait]
impl Feed for AcmeFeed {
    async fn next(&mut self) -> Option<FeedEvent> {
        loop {
            match self.inbox.recv().await {
                Ok((topic, body)) if self.topics.contains(&topic) => {
                    return Some(FeedEvent::from_bytes(body.into()));
                }
                // Nothing for us. And where messages were dropped, the runtime will find the gap.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Waits until a node sees so many members. It goes by what it hears, so others may see others.
async fn sees(node: &Node, wanted: usize) {
    let mut members = node.members();
    while members.current().len() != wanted {
        members.changed().await;
    }
    println!("members that {} sees: {wanted}", node.id());
}

/// One of three leads, and two of them must agree: a fourth process makes no second majority.
fn router(node: &Node) -> Election {
    let config = ElectionConfig::new("router").ttl(Duration::from_millis(500));
    node.election(config.by_vote(Quorum::fixed(["a", "b", "c"])))
}

const NEWS: Topic<String> = Topic::new("news");

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let acme = Acme(broadcast::channel(100).0);
    let start = async |name: &str| {
        let backend = Backend::from_bus(AcmeBus(acme.clone()));
        Node::builder("edge")
            .member(name)
            .backend(backend)
            .start()
            .await
    };
    let (a, b, c) = (start("a").await?, start("b").await?, start("c").await?);
    let mut news = b.bus().subscribe(&NEWS).others_only().await?;
    for number in 1..=3 {
        a.bus().publish(&NEWS, &format!("message {number}")).await?;
    }
    for number in 1..=3 {
        match news.next().await {
            Some(Incoming::Message(message)) => {
                println!("{}: {}", message.origin, message.payload);
                ensure!(message.payload == format!("message {number}"), "in order");
            }
            other => bail!("nothing was lost, and all can be read: {other:?}"),
        }
    }
    // Whoever watches an election votes in it, too.
    let (mut seen, _votes) = (router(&b).observe(), router(&c).observe());
    let term = router(&a).campaign().await?;
    let leader = seen.leader().await.context("the node is there")?;
    println!("leader that b sees: {}", leader.leader);
    ensure!(leader == term.term(), "one leader, with one token");
    term.resign().await?;
    sees(&a, 3).await;
    b.shutdown().await?; // says goodbye
    sees(&a, 2).await;
    c.shutdown().await?;
    Ok(a.shutdown().await?)
}
