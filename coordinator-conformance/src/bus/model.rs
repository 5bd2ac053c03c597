//! Random calls against a plain model of a bus.

use coordinator_core::Frame;

use super::client::{Bus, Listener, Peer};
use crate::random::Random;
use crate::report::Verdict;

const STEPS: usize = 150;
const TOPICS: [&str; 4] = ["a", "b", "ab", "a/b"];
/// So many frames at most wait in a feed: fewer than any queue holds.
const UNREAD: usize = 40;

/// A subscription, and what it still has to get.
struct Ear<'a> {
    listener: Listener<'a>,
    topics: Vec<&'static str>,
    due: Vec<Frame>,
}

struct Run<'a> {
    peers: Vec<Peer<'a>>,
    ears: Vec<Ear<'a>>,
    random: Random,
}

pub(super) async fn random_calls_match_the_model(lab: &Bus) -> Verdict {
    let mut run = Run {
        peers: vec![
            lab.peer("ann").await?,
            lab.peer("bob").await?,
            lab.peer("cid").await?,
        ],
        ears: Vec::new(),
        random: lab.random(),
    };
    for _ in 0..STEPS {
        run.step().await?;
    }
    while !run.ears.is_empty() {
        run.catch_up(0).await?;
        run.ears.pop();
    }
    Ok(())
}

impl Run<'_> {
    async fn step(&mut self) -> Verdict {
        match self.random.below(10) {
            0 | 1 => self.subscribe().await,
            2 if !self.ears.is_empty() => {
                let dropped = self.random.below(self.ears.len());
                self.ears.swap_remove(dropped);
                Ok(())
            }
            3 | 4 if !self.ears.is_empty() => {
                let reads = self.random.below(self.ears.len());
                self.catch_up(reads).await
            }
            _ => self.publish().await,
        }
    }

    async fn subscribe(&mut self) -> Verdict {
        let peer = self.random.below(self.peers.len());
        let wanted = self.random.next();
        let chosen = TOPICS
            .iter()
            .enumerate()
            .filter(|(bit, _)| wanted >> bit & 1 == 1);
        let mut topics: Vec<_> = chosen.map(|(_, topic)| *topic).collect();
        if topics.is_empty() {
            topics.push(TOPICS[0]);
        }
        let listener = self.peers[peer].listen(&topics).await?;
        self.ears.push(Ear {
            listener,
            topics,
            due: Vec::new(),
        });
        Ok(())
    }

    async fn publish(&mut self) -> Verdict {
        let peer = self.random.below(self.peers.len());
        let count = 1 + self.random.below(4);
        let mut batch = Vec::new();
        for _ in 0..count {
            let topic = TOPICS[self.random.below(TOPICS.len())];
            let limit = self.peers[peer].bus.capabilities().payload_limit;
            let size = [0, 1, 30, 9_000][self.random.below(4)].min(limit.unwrap_or(usize::MAX));
            batch.push(self.peers[peer].frame(topic, vec![b'x'; size]));
        }
        self.peers[peer].publish(&batch).await?;
        for ear in &mut self.ears {
            let heard = batch
                .iter()
                .filter(|frame| ear.topics.contains(&frame.topic.name()));
            ear.due.extend(heard.cloned());
        }
        for ear in 0..self.ears.len() {
            if self.ears[ear].due.len() > UNREAD {
                self.catch_up(ear).await?;
            }
        }
        Ok(())
    }

    async fn catch_up(&mut self, ear: usize) -> Verdict {
        let ear = &mut self.ears[ear];
        let due = std::mem::take(&mut ear.due);
        ear.listener.gets_in_some_order(&due).await
    }
}
