//! Shards: a keyspace split among the members that serve it, one owner for each part.

mod by_hand;
mod checkpoint;
mod config;
mod driver;
mod guard;
mod line;
mod router;
mod run;
mod seat;
mod service;

use std::future::Future;

pub use coordinator_core::machine::planner::Handoff;
use coordinator_core::{BoxError, Keyspace, Layout};

pub use by_hand::Shards;
pub use config::{DEFAULT_SHARDS, OnError, ShardConfig};
pub use guard::{DenseShard, OwnedShard};
pub use router::Router;
pub(crate) use service::Keyspaces;

use crate::errors::{AcquireError, RunError};
use crate::handle::Node;

impl Node {
    /// Splits a keyspace among the members that serve it, and runs `work` on each shard that this
    /// one owns: a task for each, started when the shard is granted, asked to drain when it is
    /// revoked, dropped at the drain timeout or the end of trust. The shard is handed on only when
    /// its work and guard are gone.
    ///
    /// Work that returns `Ok` unasked is done with the shard until it is granted anew. Work that
    /// fails or panics is started again, see [`ShardConfig::on_error`].
    ///
    /// Returns when the node shuts down and all work has ended. Dropped, it drops the work without
    /// drain; the node then serves the keyspace no longer, and hands its shards on in the
    /// background.
    ///
    /// # Errors
    /// [`AcquireError::Rejected`]: a setting is not allowed, the keyspace has another number of
    /// shards, layout or routing than given (the error names both), or this node serves it
    /// already. [`AcquireError::MissingPart`]: shards need `locks`, `members` and `assignments`.
    /// [`RunError::Work`]: under [`OnError::Stop`], when the other shards have drained.
    pub async fn run_shards<F, Fut>(
        &self,
        config: impl Into<ShardConfig>,
        work: F,
    ) -> Result<(), RunError>
    where
        F: Fn(OwnedShard) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let config = config.into();
        let layout = Layout::Fixed {
            shards: config.shards,
        };
        run::run::<OwnedShard, F, Fut>(&self.shared, config, layout, work).await
    }

    /// As [`Node::run_shards`], with as many shards as members: each has one, and any change of
    /// members cuts the keyspace anew.
    ///
    /// # Errors
    /// As for [`Node::run_shards`].
    pub async fn run_dense<F, Fut>(
        &self,
        config: impl Into<ShardConfig>,
        work: F,
    ) -> Result<(), RunError>
    where
        F: Fn(DenseShard) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        run::run::<DenseShard, F, Fut>(&self.shared, config.into(), Layout::Dense, work).await
    }

    /// Serves a keyspace by hand: for work that is no task a shard. Waits outages out. Dropped, it
    /// serves nothing.
    ///
    /// # Errors
    /// As for [`Node::run_shards`].
    pub async fn shards(&self, config: impl Into<ShardConfig>) -> Result<Shards, AcquireError> {
        let config = config.into();
        let layout = Layout::Fixed {
            shards: config.shards,
        };
        Shards::begin(&self.shared, config, layout).await
    }

    /// Tells which member owns a key of a keyspace, whether this node serves it or not.
    pub fn router(&self, keyspace: impl Into<Keyspace>) -> Router {
        Router::new(&self.shared.context, keyspace.into())
    }
}
