//! The keys that the fleet projects events into: for each shard a stream of what was folded, and a hash
//! of each author's totals.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use coordinator_node::Backend;
use coordinator_node::core::{FencingToken, Load, NUMBER_LIMIT, StoreId};
use coordinator_redis::{FenceError, FencedWrites, RedisBackend};
use redis::AsyncCommands;

use crate::fleet::{GROUP, KEYSPACE};
use crate::ledger::{Ledger, Totals};
use crate::on_store::{Pretended, lease_key};
use crate::source::Timed;
use crate::watch::{Store, shard_id};
use crate::witness::Letter;

/// The numbers of the events in an entry.
const SEQS: &str = "seqs";

/// The totals of each author.
pub(super) type Authors = BTreeMap<String, Totals>;

/// The keys of one shard. They lie where the fence's lease does.
pub(super) struct Keys {
    /// A stream: nothing keeps an event from being entered twice, and that it is not is what the demo shows.
    folded: String,
    /// A hash.
    totals: String,
}

impl Keys {
    pub(super) fn of(redis: &RedisBackend, shard: usize) -> Self {
        let tag = redis.hash_tag(&lease_key(shard));
        Self {
            folded: format!("{tag}:folded:{shard}"),
            totals: format!("{tag}:totals:{shard}"),
        }
    }

    /// What was written so far.
    pub(super) async fn totals(&self, client: &redis::Client) -> anyhow::Result<Authors> {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let found: BTreeMap<String, String> = connection.hgetall(&self.totals).await?;
        let read = found
            .into_iter()
            .map(|(author, text)| Ok((author, sums(&text)?)));
        read.collect()
    }

    /// Enters a batch of the shard's events.
    pub(super) fn enter<'a>(
        &self,
        writes: FencedWrites<'a>,
        totals: &mut Authors,
        batch: &[Timed],
    ) -> FencedWrites<'a> {
        let mut changed = BTreeSet::new();
        for event in batch.iter().map(|timed| &timed.event) {
            totals.entry(event.author.clone()).or_default().add(event);
            changed.insert(event.author.as_str());
        }
        let seqs: Vec<String> = batch
            .iter()
            .map(|timed| timed.event.seq.to_string())
            .collect();
        let fields = changed.into_iter().filter_map(|author| {
            let sums = totals.get(author)?;
            Some((author, text(sums)))
        });
        writes
            .xadd(&self.folded, [(SEQS, seqs.join(" "))])
            .hset(&self.totals, fields)
    }
}

fn text(sums: &Totals) -> String {
    let Totals {
        commits,
        files,
        insertions,
        deletions,
    } = sums;
    format!("{commits} {files} {insertions} {deletions}")
}

fn sums(text: &str) -> anyhow::Result<Totals> {
    let mut numbers = text.split(' ').map(str::parse);
    let mut number = || numbers.next().context("too few numbers in a total");
    Ok(Totals {
        commits: number()??,
        files: number()??,
        insertions: number()??,
        deletions: number()??,
    })
}

/// The keys, for the observer.
pub(crate) struct Books {
    redis: RedisBackend,
    client: redis::Client,
    backend: Backend,
    store: StoreId,
}

impl Books {
    pub(super) fn new(redis: RedisBackend, client: redis::Client) -> Self {
        Self {
            backend: redis.clone().into(),
            store: redis.store(),
            redis,
            client,
        }
    }

    /// How far a shard has come by its checkpoint. The last claim of all: nobody can write after it.
    async fn place(&self, shard: usize) -> anyhow::Result<usize> {
        let store = self.backend.checkpoints.as_ref();
        let store = store.context("the store keeps checkpoints")?;
        let token = FencingToken::new(NUMBER_LIMIT - 1);
        let (group, keyspace) = (GROUP.into(), KEYSPACE.into());
        match store
            .load(&group, &keyspace, shard_id(shard)?, token)
            .await?
        {
            Load::Loaded(None) => Ok(0),
            Load::Loaded(Some(position)) => Ok(position.as_str().parse()?),
            Load::Fenced { by } => anyhow::bail!("shard {shard} is fenced by {by}"),
        }
    }

    async fn ledger(&self, shard: usize) -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::new();
        ledger.folded = self.place(shard).await?;
        let keys = Keys::of(&self.redis, shard);
        let mut connection = self.client.get_multiplexed_async_connection().await?;
        let mut range = redis::cmd("XRANGE");
        range.arg(&keys.folded).arg("-").arg("+");
        let entries: Vec<(String, [String; 2])> = range.query_async(&mut connection).await?;
        for (_, [_, seqs]) in entries {
            for seq in seqs.split(' ') {
                ledger.chain_on(seq.parse()?);
            }
        }
        ledger.authors = keys.totals(&self.client).await?;
        Ok(ledger)
    }
}

impl Store for Books {
    fn backend(&self) -> &Backend {
        &self.backend
    }

    /// In one step, as the owner's: its entry must go with it.
    async fn write_late(&self, letter: &Letter) -> anyhow::Result<bool> {
        let late = Pretended::late(letter, &self.store)?;
        let keys = Keys::of(&self.redis, letter.shard);
        let writes = self.redis.fenced_with_position(&late, 0);
        match writes.xadd(&keys.folded, [(SEQS, "0")]).apply().await {
            Ok(_) => Ok(true),
            Err(FenceError::Refused { higher, .. }) if higher > letter.token => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The position is the checkpoint's, and all the rest is the keys': they must agree.
    async fn ledgers(&self, shards: usize) -> anyhow::Result<Vec<Ledger>> {
        let mut ledgers = Vec::with_capacity(shards);
        for shard in 0..shards {
            ledgers.push(self.ledger(shard).await?);
        }
        Ok(ledgers)
    }
}
