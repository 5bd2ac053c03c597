//! Random calls against a plain model of fences.

use std::collections::BTreeMap;
use std::fmt::Debug;

use coordinator_core::{Load, Position, Save, ShardId};

use super::client::{Checkpoints, Worker, load_fenced, save_fenced};
use crate::random::Random;
use crate::report::{Verdict, broken};

const STEPS: usize = 300;

/// What a store knows of one shard.
#[derive(Debug, Default)]
struct Shard {
    /// The highest token that claimed, and its last save.
    claim: Option<(u64, Option<u64>)>,
    position: Option<String>,
}

struct Run<'a> {
    worker: Worker<'a>,
    shards: BTreeMap<ShardId, Shard>,
    random: Random,
    log: Vec<String>,
}

pub(super) async fn random_calls_match_the_model(lab: &Checkpoints) -> Verdict {
    let mut run = Run {
        worker: lab.worker().await?,
        shards: BTreeMap::new(),
        random: lab.random(),
        log: Vec::new(),
    };
    for _ in 0..STEPS {
        run.worker.shard = ShardId::new(if run.random.below(2) == 0 { 1 } else { 2 });
        if run.random.below(4) == 0 {
            run.load().await?;
        } else {
            run.save().await?;
        }
    }
    Ok(())
}

impl Run<'_> {
    fn differs(&self, wanted: impl Debug, seen: impl Debug) -> Verdict {
        let from = self.log.len().saturating_sub(12);
        let story = self.log[from..].join("; ");
        Err(broken(format!("{wanted:?}, after: {story}"), seen))
    }

    /// A token near the highest one.
    fn token(&mut self) -> u64 {
        let shard = self.shards.entry(self.worker.shard).or_default();
        let highest = shard.claim.map_or(1, |(token, _)| token);
        let jump = [0, 0, 0, 0, 1, 2][self.random.below(6)];
        (highest + jump)
            .saturating_sub(self.random.next() % 2)
            .max(1)
    }

    async fn load(&mut self) -> Verdict {
        let token = self.token();
        let answer = self.worker.load(token).await?;
        self.log
            .push(format!("load of {} with {token}", self.worker.shard));
        let shard = self.shards.entry(self.worker.shard).or_default();
        let wanted = match shard.claim {
            Some((fence, _)) if token < fence => load_fenced(fence),
            claim => {
                shard.claim = claim
                    .filter(|(fence, _)| *fence == token)
                    .or(Some((token, None)));
                Load::Loaded(shard.position.as_deref().map(Position::new))
            }
        };
        if answer == wanted {
            return Ok(());
        }
        self.differs(wanted, answer)
    }

    async fn save(&mut self) -> Verdict {
        let (token, number) = (self.token(), 1 + self.random.next() % 6);
        // Few positions, so that a number comes again with the same one and with another.
        let position = format!("page {}", self.random.below(2));
        let answer = self.worker.save(token, number, &position).await?;
        self.log.push(format!(
            "save {number} of {} with {token}: {position}",
            self.worker.shard
        ));
        let shard = self.shards.entry(self.worker.shard).or_default();
        let wanted = shard.save(token, number, &position);
        if answer == wanted {
            return Ok(());
        }
        self.differs(wanted, answer)
    }
}

impl Shard {
    fn save(&mut self, token: u64, number: u64, position: &str) -> Save {
        let Some((fence, last)) = self.claim else {
            return save_fenced(None);
        };
        if token < fence {
            return save_fenced(Some(fence));
        }
        let last = last.filter(|_| token == fence);
        let same = last == Some(number) && self.position.as_deref() == Some(position);
        if last.is_some_and(|last| number <= last) && !same {
            return Save::Superseded;
        }
        self.claim = Some((token, Some(number)));
        self.position = Some(position.to_owned());
        Save::Saved
    }
}
