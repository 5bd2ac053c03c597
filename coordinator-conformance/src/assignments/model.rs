//! Random calls against a plain model of documents.

use std::collections::BTreeMap;
use std::fmt::Debug;

use coordinator_core::{Epoch, FencingToken, Lead, StoredDocument, Swapped};

use super::client::{Planner, Plans};
use crate::random::Random;
use crate::report::{Verdict, broken};

const STEPS: usize = 200;
const KEYSPACES: [&str; 2] = ["orders", "users"];

/// What a store knows of one keyspace.
#[derive(Debug, Default)]
struct Known {
    stored: Option<StoredDocument>,
    /// Every epoch there ever was: stale ones to try.
    epochs: Vec<Epoch>,
    token: FencingToken,
}

struct Run<'a> {
    planners: [Planner<'a>; 2],
    known: BTreeMap<&'static str, Known>,
    random: Random,
    log: Vec<String>,
}

pub(super) async fn random_calls_match_the_model(lab: &Plans) -> Verdict {
    let mut run = Run {
        planners: [lab.planner().await?, lab.planner().await?],
        known: KEYSPACES.map(|name| (name, Known::default())).into(),
        random: lab.random(),
        log: Vec::new(),
    };
    for _ in 0..STEPS {
        run.step().await?;
    }
    Ok(())
}

impl Run<'_> {
    async fn step(&mut self) -> Verdict {
        let keyspace = KEYSPACES[self.random.below(KEYSPACES.len())];
        let planner = self.random.below(self.planners.len());
        self.planners[planner].keyspace = keyspace.into();
        match self.random.below(8) {
            0..5 => self.swap(planner, keyspace).await,
            5 => self.lead(planner, keyspace).await,
            _ => self.load(planner, keyspace).await,
        }
    }

    fn differs(&self, wanted: &str, seen: impl Debug) -> Verdict {
        let from = self.log.len().saturating_sub(12);
        let story = self.log[from..].join("; ");
        Err(broken(format!("{wanted}, after: {story}"), seen))
    }

    /// A token near the highest one.
    fn token(&mut self, keyspace: &str) -> FencingToken {
        let highest = self
            .known
            .get(keyspace)
            .map_or(0, |known| known.token.get());
        FencingToken::new((highest + self.random.next() % 3).saturating_sub(1).max(1))
    }

    async fn swap(&mut self, planner: usize, keyspace: &'static str) -> Verdict {
        let token = self.token(keyspace);
        let Some(known) = self.known.get_mut(keyspace) else {
            return Ok(());
        };
        let stored = known.stored.as_ref().map(|stored| stored.epoch);
        let expected = match self.random.below(6) {
            0 => self.random.pick(&known.epochs).copied(),
            _ => stored,
        };
        self.planners[planner].token = token;
        let text = format!("document {}", self.log.len());
        let swap = self.planners[planner].request(expected, &text);
        let answer = self.planners[planner].ask(&swap).await?;
        self.log.push(format!(
            "swap of {keyspace} over {expected:?} by {token}: {answer:?}"
        ));
        let (fenced, conflict) = (token < known.token, expected != stored);
        let by = known.token;
        let fits = match &answer {
            Swapped::Stored(epoch) => {
                let rises = *epoch > stored.unwrap_or_default();
                known.stored = Some(StoredDocument {
                    epoch: *epoch,
                    document: swap.document,
                });
                known.epochs.push(*epoch);
                known.token = token.max(known.token);
                !fenced && !conflict && rises
            }
            Swapped::Conflict { found } => conflict && *found == stored,
            Swapped::Fenced { by: told } => fenced && *told == by,
            Swapped::NotEnded(_) => false,
        };
        if fits {
            return Ok(());
        }
        self.differs(
            &format!("an answer that fits epoch {stored:?} and token {by}"),
            answer,
        )
    }

    async fn lead(&mut self, planner: usize, keyspace: &'static str) -> Verdict {
        let token = self.token(keyspace);
        let answer = self.planners[planner].lead(token.get()).await?;
        self.log.push(format!("lead of {keyspace} by {token}"));
        let Some(known) = self.known.get_mut(keyspace) else {
            return Ok(());
        };
        let wanted = if token < known.token {
            Lead::Fenced { by: known.token }
        } else {
            known.token = token;
            Lead::Led(known.stored.clone())
        };
        if answer == wanted {
            return Ok(());
        }
        self.differs(&format!("{wanted:?}"), answer)
    }

    async fn load(&mut self, planner: usize, keyspace: &'static str) -> Verdict {
        let loaded = self.planners[planner].load().await?;
        let wanted = self
            .known
            .get(keyspace)
            .and_then(|known| known.stored.clone());
        self.log.push(format!("load of {keyspace}"));
        if loaded == wanted {
            return Ok(());
        }
        self.differs(&format!("{wanted:?}"), loaded)
    }
}
