//! The durable log, as its readers see it (rules U9 to U16).

mod batch;
mod cursor;
mod feed;
mod place;
mod reads;
mod statements;

use std::sync::Arc;

use coordinator_core::{BusError, Start, Topic};

use crate::config::Cursors;
use crate::error::{CallError, ConnectError};
use crate::hub::Hub;
use crate::names::Schema;
use crate::pool::Pool;
pub(super) use feed::{Begin, LogFeed};
use place::{Place, Snapshot, Wanted};
use reads::Reads;
use statements::Statements;

/// The log, read through the pool.
#[derive(Debug)]
pub(super) struct Log {
    statements: Arc<Statements>,
    reads: Reads,
    cursors: Cursors,
}

impl Log {
    pub(super) fn new(schema: &Schema, pool: Arc<Pool>, cursors: Cursors) -> Self {
        let statements = Arc::new(Statements::new(schema, pool, cursors));
        Self {
            reads: Reads::new(statements.clone()),
            statements,
            cursors,
        }
    }

    /// Where a subscription begins.
    pub(super) async fn begin(&self, topics: &[Topic], start: &Start) -> Result<Begin, BusError> {
        let wanted = Wanted::new(topics);
        match start {
            Start::Now => {
                let any = topics.first().cloned().unwrap_or(Topic::new("*"));
                let here = self.here(wanted).await;
                here.map_err(|error| error.of_bus("subscribe to", &any))
            }
            Start::Oldest => Ok(Begin {
                place: Place::oldest(self.cursors, &wanted),
                identity: None,
                at: 0,
                before: None,
                wanted,
            }),
            Start::After(cursor) => {
                let read = cursor::read(cursor, self.cursors, &wanted);
                let any = topics.first().cloned().unwrap_or(Topic::new("*"));
                let known = read.map_err(|error| BusError::rejected("subscribe to", any, error))?;
                Ok(Begin {
                    place: known.place,
                    identity: Some(known.identity),
                    at: known.at,
                    before: None,
                    wanted,
                })
            }
        }
    }

    /// Behind what is there now, and before what is still to be committed.
    async fn here(&self, wanted: Arc<Wanted>) -> Result<Begin, CallError> {
        let here = self.statements.here(&wanted).await?;
        let before = Snapshot::parse(&here.snapshot);
        let place = match self.cursors {
            Cursors::Counter => Place::Numbers(here.numbers),
            Cursors::Watermark => Place::Watermark {
                xid: before.xmin().saturating_sub(1),
                id: i64::MAX,
            },
        };
        Ok(Begin {
            place,
            identity: Some(here.identity),
            at: here.at,
            before: (self.cursors == Cursors::Watermark).then_some(before),
            wanted,
        })
    }
}

/// U15: rows out of a dump would stay invisible until this server has counted as far.
pub(super) async fn refuse_restored(hub: &Hub) -> Result<(), ConnectError> {
    let asked = hub
        .call(&hub.sql("select {schema}.log_is_ahead()"), &[])
        .await;
    let rows = asked.map_err(|error| ConnectError::Failed {
        doing: "look at the log of messages",
        source: error.source,
    })?;
    if rows.first().is_some_and(|row| row.get(0)) {
        return Err(ConnectError::RestoredLog {
            schema: hub.schema.as_str().to_owned(),
        });
    }
    Ok(())
}
