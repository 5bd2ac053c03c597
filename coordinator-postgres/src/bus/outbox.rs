//! Messages that are part of the caller's own transaction (rule U13).

mod watch;

use std::fmt;
use std::sync::Arc;

use coordinator_core::{BusError, Frame, Group, Instance, MemberId, Payload, Topic, scoped};
use rand::Rng as _;
use sqlx::{AssertSqlSafe, Row as _};

use super::PostgresBus;
use super::line::Row;
use crate::config::Spill;
use crate::error::CallError;
use crate::fence::PgTx;
pub(super) use watch::Watch;

const INSERT: &str = "insert into {schema}.log \
    (topic, name, origin, instance, stream, sequence, age, payload) \
    values ($1::text::uuid, $2, $3, $4::text::uuid, $5, $6, $7, $8) returning xid::text";

/// Publishes within transactions: delivered when they commit, and gone when they roll back.
///
/// Made by [`PostgresBackend::outbox`](crate::PostgresBackend::outbox), of a backend whose messages
/// are durable ([`Spill::Always`]). Nothing is to be done after the commit: the message's row is in
/// the transaction, and this process watches for the commit and wakes the subscribers. If it dies
/// meanwhile, they find the message within a second.
///
/// Messages of one transaction keep their order. Those of different transactions arrive in the order
/// in which the transactions began to write.
#[derive(Clone)]
pub struct Outbox {
    bus: Arc<PostgresBus>,
    group: Group,
    origin: MemberId,
}

impl Outbox {
    pub(crate) fn new(bus: Arc<PostgresBus>, group: Group, origin: MemberId) -> Self {
        Self { bus, group, origin }
    }

    /// Publishes a message if this transaction commits.
    ///
    /// # Errors
    /// - [`BusError::Rejected`]: the backend keeps no messages, the payload does not encode, the topic's
    ///   name is no name, or the server refused. The transaction may be spoilt.
    /// - [`BusError::Unavailable`]: the transaction's connection failed.
    ///
    /// # Cancel safety
    /// Not cancel safe: roll back a transaction in which a publish was dropped.
    pub async fn publish<T: Payload>(
        &self,
        tx: &mut impl PgTx,
        topic: &Topic<T>,
        message: &T,
    ) -> Result<(), BusError> {
        let rejected = |error| BusError::rejected("publish", topic.untyped(), error);
        if self.bus.spill != Spill::Always {
            return Err(rejected(NotDurable.into()));
        }
        topic.check().map_err(|bad| rejected(bad.into()))?;
        let payload = message.encode().map_err(rejected)?;
        let wire = Topic::named(scoped(&self.group, "topic", topic.name()));
        // A stream of its own: transactions may commit in any order, or not at all, and leave no hole
        // that could be taken for loss (U11).
        let instance = Instance::from_random(random());
        let frame = Frame::new(wire, self.origin.clone(), instance, payload);
        let row = Row::new(&frame).map_err(|bad| rejected(bad.into()))?;
        let xid = self.insert(tx, &row).await;
        let xid = xid.map_err(|error| error.of_bus("publish", &topic.untyped()))?;
        self.bus.watch.add(&self.bus.line, xid, row.topic);
        Ok(())
    }

    async fn insert(&self, tx: &mut impl PgTx, row: &Row) -> Result<u64, CallError> {
        let insert = self.bus.hub.sql(INSERT);
        let query = sqlx::query(AssertSqlSafe(insert))
            .bind(row.topic.to_string())
            .bind(&row.name)
            .bind(&row.origin)
            .bind(row.instance.to_string())
            .bind(row.stream)
            .bind(row.sequence)
            .bind(row.age)
            .bind(&row.payload.0[..]);
        // Its connection may lead through a pooler.
        let row = query.persistent(false).fetch_one(tx.connection()).await;
        let row = row.map_err(CallError::from)?;
        let xid: &str = row.try_get(0).map_err(CallError::from)?;
        xid.parse().map_err(CallError::refused)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("group", &self.group)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// A bus that keeps nothing has no rows that a transaction could hold.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the outbox needs messages that have rows: choose `Spill::Always`")]
struct NotDurable;

fn random() -> u128 {
    let mut random = rand::rng();
    (u128::from(random.next_u64()) << 64) | u128::from(random.next_u64())
}
