//! What is asked of the log, through the pool.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::batch::Batch;
use super::cursor::Identity;
use super::place::{Place, Wanted};
use crate::config::Cursors;
use crate::error::CallError;
use crate::names::Schema;
use crate::pool::{Pool, Query};

/// So many rows are read at once, or little more than so many bytes.
pub(super) const MOST_ROWS: i32 = 1_000;
pub(super) const MOST_BYTES: i64 = 1024 * 1024;

const COLUMNS: &str = "identity, snapshot, floor_xid, floor_id, floor_number, waiting, \
    pg_catalog.uuid_send(topic), xid, id, number, at, origin, pg_catalog.uuid_send(instance), \
    stream, sequence, age, beacon, payload";

/// The statements, with the schema in them.
#[derive(Debug)]
pub(super) struct Statements {
    pool: Arc<Pool>,
    cursors: Cursors,
    read: String,
    here: String,
    rewind: String,
    number: String,
    blocker: String,
}

/// How things stand at the start of a subscription.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) identity: Identity,
    pub(super) snapshot: String,
    pub(super) numbers: Vec<i64>,
    /// The server's clock, in milliseconds.
    pub(super) at: i64,
}

impl Statements {
    pub(super) fn new(schema: &Schema, pool: Arc<Pool>, cursors: Cursors) -> Self {
        let read = match cursors {
            Cursors::Watermark => {
                "{schema}.log_read($1::text[]::uuid[], $2, $3::text::xid8, $4, $5, $6)"
            }
            Cursors::Counter => "{schema}.log_read_numbers($1::text[]::uuid[], $2, $3, $4, $5)",
        };
        Self {
            pool,
            cursors,
            read: schema.sql(&format!("select {COLUMNS} from {read}")),
            here: schema.sql(
                "select identity, snapshot, numbers, {schema}.wall() \
                 from {schema}.log_here($1::text[]::uuid[], $2)",
            ),
            rewind: schema
                .sql("select xid, id, numbers from {schema}.log_rewind($1::text[]::uuid[], $2)"),
            number: schema.sql("select {schema}.log_number($1::text[]::uuid[])"),
            blocker: schema.sql("select {schema}.log_blocker()"),
        }
    }

    /// What follows a place.
    pub(super) async fn read(&self, wanted: &Wanted, place: &Place) -> Result<Batch, CallError> {
        let query = sqlx::query(AssertSqlSafe(self.read.as_str()))
            .bind(wanted.ids())
            .bind(wanted.names());
        let query = match place {
            Place::Watermark { xid, id } => query.bind(xid.to_string()).bind(id),
            Place::Numbers(numbers) => query.bind(numbers),
        };
        let rows = self.rows(query.bind(MOST_ROWS).bind(MOST_BYTES)).await?;
        Batch::of(&rows, wanted)
            .map_err(CallError::from)?
            .ok_or_else(nothing)
    }

    pub(super) async fn here(&self, wanted: &Wanted) -> Result<Here, CallError> {
        let query = sqlx::query(AssertSqlSafe(self.here.as_str()))
            .bind(wanted.ids())
            .bind(self.cursors == Cursors::Counter);
        let rows = self.rows(query).await?;
        here_of(rows.first().ok_or_else(nothing)?).map_err(CallError::from)
    }

    /// The place before the first row since that moment (U15).
    pub(super) async fn rewind(&self, wanted: &Wanted, since: i64) -> Result<Place, CallError> {
        let query = sqlx::query(AssertSqlSafe(self.rewind.as_str()))
            .bind(wanted.ids())
            .bind(since);
        let rows = self.rows(query).await?;
        let row = rows.first().ok_or_else(nothing)?;
        place_of(row, self.cursors).map_err(CallError::from)
    }

    /// Numbers what nobody has numbered (U12).
    pub(super) async fn number(&self, wanted: &Wanted) -> Result<(), CallError> {
        let query = sqlx::query(AssertSqlSafe(self.number.as_str())).bind(wanted.ids());
        self.rows(query).await.map(drop)
    }

    /// Who keeps the watermark where it is (U16).
    pub(super) async fn blocker(&self) -> Result<String, CallError> {
        let rows = self
            .rows(sqlx::query(AssertSqlSafe(self.blocker.as_str())))
            .await?;
        let row = rows.first().ok_or_else(nothing)?;
        row.try_get(0).map_err(CallError::from)
    }

    async fn rows(&self, query: Query<'_>) -> Result<Vec<PgRow>, CallError> {
        self.pool.rows(query).await
    }
}

fn here_of(row: &PgRow) -> Result<Here, sqlx::Error> {
    Ok(Here {
        identity: Identity::of(row.try_get(0)?),
        snapshot: row.try_get(1)?,
        numbers: row.try_get::<Option<_>, _>(2)?.unwrap_or_default(),
        at: row.try_get(3)?,
    })
}

fn place_of(row: &PgRow, cursors: Cursors) -> Result<Place, sqlx::Error> {
    Ok(match cursors {
        Cursors::Watermark => Place::Watermark {
            xid: row.try_get::<&str, _>(0)?.parse().unwrap_or(0),
            id: row.try_get(1)?,
        },
        Cursors::Counter => Place::Numbers(row.try_get::<Option<_>, _>(2)?.unwrap_or_default()),
    })
}

fn nothing() -> CallError {
    CallError::nothing_happened("the server answered with nothing")
}
