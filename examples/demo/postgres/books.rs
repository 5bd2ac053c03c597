//! The tables that the fleet projects events into.

use std::collections::BTreeMap;

use coordinator_node::Backend;
use coordinator_node::core::StoreId;
use coordinator_postgres::{FenceError, PostgresBackend, SaveIn};
use sqlx::{PgPool, PgTransaction};

use crate::ledger::{Ledger, Totals};
use crate::on_store::Pretended;
use crate::source::Timed;
use crate::watch::Store;
use crate::witness::Letter;

/// No constraint keeps an event from being entered twice: that it is not is what the demo shows.
const TABLES: [&str; 2] = [
    "create table folded (shard integer not null, place bigint not null, seq bigint not null)",
    "create table totals (shard integer, author text, commits bigint not null, files bigint not null, \
     insertions bigint not null, deletions bigint not null, primary key (shard, author))",
];

const ENTER_FOLDED: &str = "\
    insert into folded (shard, place, seq) \
    select $1, $2 + nth, seq from unnest($3::bigint[]) with ordinality as t (seq, nth)";

const ENTER_TOTALS: &str = "\
    insert into totals as t \
    select $1, author, count(*), sum(files)::bigint, sum(insertions)::bigint, sum(deletions)::bigint \
    from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) \
        as e (author, files, insertions, deletions) \
    group by author \
    on conflict (shard, author) do update set commits = t.commits + excluded.commits, \
        files = t.files + excluded.files, insertions = t.insertions + excluded.insertions, \
        deletions = t.deletions + excluded.deletions";

/// Makes the tables.
pub(super) async fn make(pool: &PgPool) -> sqlx::Result<()> {
    for table in TABLES {
        sqlx::query(table).execute(pool).await?;
    }
    Ok(())
}

/// Enters a batch of a shard's events, of which `place` come before.
pub(super) async fn enter(
    tx: &mut PgTransaction<'_>,
    shard: usize,
    place: usize,
    batch: &[Timed],
) -> anyhow::Result<()> {
    let events = || batch.iter().map(|timed| &timed.event);
    let seqs = numbers(events().map(|event| event.seq))?;
    let shard = i32::try_from(shard)?;
    sqlx::query(ENTER_FOLDED)
        .bind(shard)
        .bind(i64::try_from(place)?)
        .bind(seqs)
        .execute(&mut **tx)
        .await?;
    let authors: Vec<&str> = events().map(|event| event.author.as_str()).collect();
    sqlx::query(ENTER_TOTALS)
        .bind(shard)
        .bind(authors)
        .bind(numbers(events().map(|event| event.files))?)
        .bind(numbers(events().map(|event| event.insertions))?)
        .bind(numbers(events().map(|event| event.deletions))?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn numbers(all: impl Iterator<Item = u64>) -> anyhow::Result<Vec<i64>> {
    Ok(all.map(i64::try_from).collect::<Result<_, _>>()?)
}

/// The tables, for the observer.
pub(crate) struct Books {
    backend: Backend,
    store: StoreId,
    pool: PgPool,
}

impl Books {
    pub(super) fn new(postgres: &PostgresBackend, pool: PgPool) -> Self {
        Self {
            backend: postgres.clone().into(),
            store: postgres.store(),
            pool,
        }
    }

    /// How far a shard has come by its checkpoint. The last claim of all: nobody can write after it.
    async fn place(&self, shard: usize) -> anyhow::Result<usize> {
        let last = Pretended::last(shard, &self.store)?;
        let mut tx = self.pool.begin().await?;
        let place = match last.load_in(&mut tx).await {
            // Nobody has ever had it.
            Err(FenceError::NoRow { .. }) => return Ok(0),
            place => place?.unwrap_or(0),
        };
        tx.commit().await?;
        Ok(place)
    }
}

impl Store for Books {
    fn backend(&self) -> &Backend {
        &self.backend
    }

    /// In a transaction like the owner's: its rows must go with it.
    async fn write_late(&self, letter: &Letter) -> anyhow::Result<bool> {
        let late = Pretended::late(letter, &self.store)?;
        let mut tx = self.pool.begin().await?;
        sqlx::query(ENTER_FOLDED)
            .bind(i32::try_from(letter.shard)?)
            .bind(0_i64)
            .bind(vec![0_i64])
            .execute(&mut *tx)
            .await?;
        match late.save_in(&mut tx, 0).await {
            Ok(()) => {
                tx.commit().await?;
                Ok(true)
            }
            Err(FenceError::Refused { higher, .. }) if higher > letter.token => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The position is the checkpoint's, and all the rest is the rows': they must agree.
    async fn ledgers(&self, shards: usize) -> anyhow::Result<Vec<Ledger>> {
        let mut ledgers = vec![Ledger::new(); shards];
        for (shard, ledger) in ledgers.iter_mut().enumerate() {
            ledger.folded = self.place(shard).await?;
        }
        let folded: Vec<(i32, i64)> =
            sqlx::query_as("select shard, seq from folded order by shard, place, seq")
                .fetch_all(&self.pool)
                .await?;
        for (shard, seq) in folded {
            ledgers[usize::try_from(shard)?].chain_on(u64::try_from(seq)?);
        }
        for (shard, authors) in self.totals().await? {
            ledgers[shard].authors = authors;
        }
        Ok(ledgers)
    }
}

type Authors = BTreeMap<String, Totals>;

impl Books {
    async fn totals(&self) -> anyhow::Result<BTreeMap<usize, Authors>> {
        let rows: Vec<(i32, String, i64, i64, i64, i64)> = sqlx::query_as(
            "select shard, author, commits, files, insertions, deletions from totals",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut shards: BTreeMap<usize, Authors> = BTreeMap::new();
        for (shard, author, commits, files, insertions, deletions) in rows {
            let totals = Totals {
                commits: u64::try_from(commits)?,
                files: u64::try_from(files)?,
                insertions: u64::try_from(insertions)?,
                deletions: u64::try_from(deletions)?,
            };
            let authors = shards.entry(usize::try_from(shard)?).or_default();
            authors.insert(author, totals);
        }
        Ok(shards)
    }
}
