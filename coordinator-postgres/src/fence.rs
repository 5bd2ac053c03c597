//! Transactions of the application that commit only while a lease is the newest of its key.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use coordinator_core::{BoxError, FencingToken, Held, HeldShard, Key, Lease, Lost, StoreId};
use sqlx::{AssertSqlSafe, PgConnection, PgTransaction, Row};

use crate::names::Schema;

/// An open transaction of Postgres: `sqlx::PgTransaction`. Sealed.
#[diagnostic::on_unimplemented(
    message = "a fence holds for a transaction, and `{Self}` is none",
    label = "begin a transaction, and pass `&mut tx`",
    note = "`let mut tx = pool.begin().await?;`, then `held.fence(&mut tx).await?;`"
)]
pub trait PgTx: sealed::Sealed + Send {
    #[doc(hidden)]
    fn connection(&mut self) -> &mut PgConnection;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for sqlx::PgTransaction<'_> {}
}

impl PgTx for PgTransaction<'_> {
    fn connection(&mut self) -> &mut PgConnection {
        self
    }
}

/// Why a transaction was not fenced. Do not commit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// The lease is no longer held: stop the work.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The lease is of another store than the transaction: fence with a transaction of the database
    /// that the node's leases are kept in.
    #[error("the lease is of store `{lease}`, which this transaction's database is not: {found}")]
    OtherStore {
        /// Which store granted it.
        lease: StoreId,
        /// Where the transaction is, as far as is known.
        found: String,
    },
    /// Another has taken over: stop the work. The transaction has failed.
    #[error("token {token} of `{key}` is no longer the highest: {higher} is; stop, and roll back")]
    Refused {
        /// What was leased.
        key: Key,
        /// The lease's token.
        token: FencingToken,
        /// The token of who took over, or is about to.
        higher: FencingToken,
    },
    /// The store knows nothing of the lease: it has forgotten it, or it was deleted by hand. The
    /// transaction has failed.
    #[error("the store knows nothing of `{key}`: it may have lost its memory; stop, and roll back")]
    NoRow {
        /// What was leased.
        key: Key,
    },
    /// Something has changed since the transaction's snapshot, or two transactions waited for each other:
    /// begin it again. If another has taken over, that is refused then.
    #[error(
        "the transaction's snapshot is older than a change of `{key}`: roll back, and begin again"
    )]
    Conflict {
        /// What was leased.
        key: Key,
        /// What the server said.
        source: BoxError,
    },
    /// The store did not answer.
    #[error("the fence of `{key}` was not answered: roll back, and begin again")]
    Unavailable {
        /// What was leased.
        key: Key,
        /// What the client library said.
        source: BoxError,
    },
    /// The store refuses the statement: a table that is not there, a right that is lacking. Trying again is of no use.
    #[error("the fence of `{key}` was rejected")]
    Rejected {
        /// What was leased.
        key: Key,
        /// What the server said.
        source: BoxError,
    },
    /// The position that is stored is none of the type asked for.
    #[error("the position of `{key}` is not what was asked for: `{found}`")]
    Malformed {
        /// Whose position.
        key: Key,
        /// Its beginning.
        found: String,
        /// Why.
        source: BoxError,
    },
}

/// Fences transactions: on every guard of a lease that a Postgres store has granted.
pub trait Fence: Held {
    /// `async fn fence(&self, tx: &mut impl PgTx) -> Result<(), FenceError>`
    ///
    /// From here on the transaction commits only if no other was granted the lease before. A take-over
    /// waits until the transaction ends: so call it late, behind what takes long.
    ///
    /// # Errors
    /// See [`FenceError`]: roll the transaction back after each of them.
    ///
    /// # Cancel safety
    /// Dropped, the transaction is fenced or not: roll it back.
    fn fence(&self, tx: &mut impl PgTx) -> impl Future<Output = Result<(), FenceError>> + Send {
        let lease = self.lease().cloned();
        async move {
            let lease = lease?;
            let place = Place::of(&lease.store)?;
            let fence = place.sql("{schema}.fence($3, $4)");
            call(tx, &lease, &place, fence, None).await.map(|_| ())
        }
    }
}

impl<H: Held + ?Sized> Fence for H {}

/// A shard's position within a transaction: what the work writes, how far it has come, and that the shard is still
/// owned, commit together or not at all.
///
/// Use these, or `load` and `save`, for one shard: a `save` that was given up may still arrive later.
pub trait SaveIn: HeldShard {
    /// `async fn load_in<P: FromStr>(&self, tx: &mut impl PgTx) -> Result<Option<P>, FenceError>`
    ///
    /// Claims the shard, fences the transaction, and reads the position. `None`: none was ever saved.
    ///
    /// # Errors
    /// See [`FenceError`].
    ///
    /// # Cancel safety
    /// Dropped, the transaction is fenced or not: roll it back.
    fn load_in<P>(
        &self,
        tx: &mut impl PgTx,
    ) -> impl Future<Output = Result<Option<P>, FenceError>> + Send
    where
        P: FromStr,
        P::Err: Into<BoxError>,
    {
        let lease = self.lease().cloned();
        async move {
            let lease = lease?;
            let place = Place::of(&lease.store)?;
            let load = place.sql("{schema}.load_in($3, $4)");
            let saved = call(tx, &lease, &place, load, None).await?;
            let parsed = saved.map(|text| {
                text.parse::<P>().map_err(|error| FenceError::Malformed {
                    key: lease.key.clone(),
                    found: text.chars().take(120).collect(),
                    source: error.into(),
                })
            });
            parsed.transpose()
        }
    }

    /// `async fn save_in(&self, tx: &mut impl PgTx, position: impl Display) -> Result<(), FenceError>`
    ///
    /// Claims the shard, fences the transaction, and stores the position: at most 64 KiB of text.
    ///
    /// # Errors
    /// See [`FenceError`].
    ///
    /// # Cancel safety
    /// Dropped, the position is stored in the transaction or not: roll it back.
    fn save_in(
        &self,
        tx: &mut impl PgTx,
        position: impl fmt::Display,
    ) -> impl Future<Output = Result<(), FenceError>> + Send {
        let lease = self.lease().cloned();
        let position = coordinator_core::Position::new(position.to_string());
        async move {
            let lease = lease?;
            let place = Place::of(&lease.store)?;
            let save = place.sql("{schema}.save_in($3, $4, $5)");
            if let Err(error) = crate::checkpoints::fits(&position) {
                return Err(FenceError::Rejected {
                    key: lease.key,
                    source: error.into(),
                });
            }
            let saved = call(tx, &lease, &place, save, Some(position.as_str())).await;
            saved.map(|_| ())
        }
    }
}

impl<H: HeldShard + ?Sized> SaveIn for H {}

/// Where a lease was granted: a store is named `postgres:cluster/database/schema`.
struct Place {
    cluster: String,
    database: String,
    schema: Schema,
}

impl Place {
    fn of(store: &StoreId) -> Result<Self, FenceError> {
        let name = store.as_str().strip_prefix("postgres:");
        let parts = name.and_then(|name| {
            let (cluster, rest) = name.split_once('/')?;
            let (database, schema) = rest.rsplit_once('/')?;
            Some((cluster, database, Schema::new(schema).ok()?))
        });
        let (cluster, database, schema) = parts.ok_or_else(|| FenceError::OtherStore {
            lease: store.clone(),
            found: "the lease was not granted by Postgres".to_owned(),
        })?;
        Ok(Self {
            cluster: cluster.to_owned(),
            database: database.to_owned(),
            schema,
        })
    }

    /// One statement: that this is the store, and what is to be done there.
    fn sql(&self, call: &str) -> String {
        self.schema.sql(&format!(
            "select {{schema}}.check_store($1, $2)::text, {call}::text"
        ))
    }
}

async fn call(
    tx: &mut impl PgTx,
    lease: &Lease,
    place: &Place,
    statement: String,
    position: Option<&str>,
) -> Result<Option<String>, FenceError> {
    let mut query = sqlx::query(AssertSqlSafe(statement))
        .bind(&place.cluster)
        .bind(&place.database)
        .bind(lease.key.as_str())
        .bind(i64::from(lease.token));
    if let Some(position) = position {
        query = query.bind(position);
    }
    let row = query.fetch_one(tx.connection()).await;
    let answer = row.and_then(|row| row.try_get::<Option<String>, _>(1));
    answer.map_err(|error| refused(lease, error))
}

/// What an error of the statement means.
fn refused(lease: &Lease, error: sqlx::Error) -> FenceError {
    let key = lease.key.clone();
    let told = error.as_database_error();
    let code = told.and_then(sqlx::error::DatabaseError::code);
    let told = told.and_then(|told| told.try_downcast_ref::<sqlx::postgres::PgDatabaseError>());
    let detail = told
        .and_then(sqlx::postgres::PgDatabaseError::detail)
        .unwrap_or_default();
    match code.as_deref() {
        Some("CO002") => FenceError::Refused {
            key,
            token: lease.token,
            higher: detail.parse().unwrap_or_default(),
        },
        Some("CO003") => FenceError::NoRow { key },
        Some("CO004") => FenceError::OtherStore {
            lease: lease.store.clone(),
            found: format!("it is `{detail}`"),
        },
        // The schema or its functions are not there.
        Some("3F000" | "42883") => FenceError::OtherStore {
            lease: lease.store.clone(),
            found: "it has no such schema".to_owned(),
        },
        Some("40001" | "40P01") => FenceError::Conflict {
            key,
            source: error.into(),
        },
        Some(code) if !code.starts_with("08") && !code.starts_with("57") => FenceError::Rejected {
            key,
            source: error.into(),
        },
        Some(_) | None => FenceError::Unavailable {
            key,
            source: error.into(),
        },
    }
}
