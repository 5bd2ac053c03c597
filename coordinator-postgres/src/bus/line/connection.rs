//! One life of the session F.

use std::pin::pin;

use futures_util::future::{Either, select};
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Load;
use super::rows::{Columns, Row};
use crate::bells::Bell;
use crate::bus::packet::Charset;
use crate::error::{CallError, ConnectError};
use crate::greeting;
use crate::hub::Hub;
use crate::session::{Session, no_inbox};

/// No rows come back: one per packet would be traffic for nothing.
const NOTIFY: &str = "select 1 from unnest($2::text[]) as packet \
    where pg_catalog.pg_notify($1, packet) is null";

/// A message alone: with no array to take apart the round trip is a tenth shorter.
const NOTIFY_ONE: &str = "select pg_catalog.pg_notify($1, $2)";

const INSERT: &str = "insert into {schema}.log \
    (topic, name, origin, instance, stream, sequence, age, beacon, payload) \
    select * from unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::uuid[], $5::bigint[], \
    $6::bigint[], $7::bigint[], $8::boolean[], $9::bytea[])";

/// A row alone: the plan of the statement above depends on how many rows it is for, and is made anew
/// each time, for longer than a row takes.
const INSERT_ONE: &str = "insert into {schema}.log \
    (topic, name, origin, instance, stream, sequence, age, beacon, payload) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const NUMBER: &str = "select {schema}.log_number($1::uuid[])";

const SPILL: &str = "insert into {schema}.spill (payload) values ($1) returning id";

/// U9: a message that is reported as stored survives a crash of the server.
const SET_UP: &str = "select pg_catalog.current_setting('server_encoding'), \
    case pg_catalog.current_setting('synchronous_commit') when 'off' \
    then pg_catalog.set_config('synchronous_commit', 'local', false) end";

#[derive(Debug)]
pub(super) struct Connection {
    session: Session,
    channel: String,
    charset: Charset,
    notify: Statement,
    notify_one: Statement,
    insert: Statement,
    insert_one: Statement,
    number: Statement,
    spill: Statement,
}

impl Connection {
    pub(super) async fn dial(hub: &Hub) -> Result<Self, ConnectError> {
        let session = hub.target.dial(None, no_inbox()).await?;
        greeting::greet(&session, &hub.target).await?;
        let failed = |error| ConnectError::failed("prepare the bus's session", error);
        let client = session.client();
        let rows = client.query_typed(SET_UP, &[]).await.map_err(failed)?;
        let encoding = rows.first().map_or("", |row| row.get(0));
        let prepare = async |statement: &str| client.prepare(&hub.sql(statement)).await;
        Ok(Self {
            charset: Charset::of(encoding),
            channel: hub.schema.channel(),
            notify: prepare(NOTIFY).await.map_err(failed)?,
            notify_one: prepare(NOTIFY_ONE).await.map_err(failed)?,
            insert: prepare(INSERT).await.map_err(failed)?,
            insert_one: prepare(INSERT_ONE).await.map_err(failed)?,
            number: prepare(NUMBER).await.map_err(failed)?,
            spill: prepare(SPILL).await.map_err(failed)?,
            session,
        })
    }

    pub(super) fn charset(&self) -> Charset {
        self.charset
    }

    pub(super) fn is_ended(&self) -> bool {
        self.session.is_ended()
    }

    pub(super) fn close(&self) {
        self.session.close();
    }

    /// Rows first, then the doorbell, each in a commit of its own: a commit that carries a NOTIFY
    /// takes a lock of the whole server, and rows that share it lose their group commit. All are
    /// sent at once: the server takes them one after the other.
    pub(super) async fn send(&self, load: &Load, numbers: bool) -> Result<(), CallError> {
        let store = async {
            if load.rows.is_empty() {
                return Ok(());
            }
            self.store(&load.rows).await
        };
        let topics: Vec<Uuid> = load.bells.iter().copied().collect();
        let number = async {
            if !numbers || topics.is_empty() {
                return Ok(());
            }
            self.execute(&self.number, &[&topics]).await
        };
        let bells = load.bells.iter();
        let bells: Vec<String> = bells
            .map(|topic| Bell::Log.payload(&topic.simple().to_string()))
            .collect();
        let payloads = load.packets.iter().chain(&bells);
        let payloads: Vec<&str> = payloads.map(String::as_str).collect();
        let notify = async {
            let channel = &self.channel;
            match payloads.as_slice() {
                [] => Ok(()),
                [one] => self.execute(&self.notify_one, &[channel, one]).await,
                all => self.execute(&self.notify, &[channel, &all]).await,
            }
        };
        // Polled in this order, and so sent in it.
        let told = async {
            let (numbered, notified) = tokio::join!(biased; number, notify);
            numbered.and(notified)
        };
        match select(pin!(store), pin!(told)).await {
            Either::Left((Ok(()), told)) if load.rows.is_empty() || !load.packets.is_empty() => {
                told.await
            }
            // What is stored will arrive, rung for or not: readers look by themselves.
            Either::Left((stored, _)) => stored,
            Either::Right((told, store)) => store.await.and(if load.packets.is_empty() {
                Ok(())
            } else {
                told
            }),
        }
    }

    pub(super) async fn spill(&self, payload: &[u8]) -> Result<i64, CallError> {
        let stored = self
            .session
            .client()
            .query_one(&self.spill, &[&payload])
            .await;
        let row = stored.map_err(|error| self.error(error))?;
        Ok(row.get(0))
    }

    async fn store(&self, rows: &[Row]) -> Result<(), CallError> {
        match rows {
            [one] => self.execute(&self.insert_one, &one.parameters()).await,
            all => {
                let columns = Columns::of(all);
                self.execute(&self.insert, &columns.parameters()).await
            }
        }
    }

    async fn execute(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(), CallError> {
        let answer = self.session.client().execute(statement, parameters).await;
        answer.map(drop).map_err(|error| self.error(error))
    }

    fn error(&self, error: tokio_postgres::Error) -> CallError {
        if error.as_db_error().is_none() && self.session.is_ended() {
            return self.session.gone();
        }
        error.into()
    }
}
