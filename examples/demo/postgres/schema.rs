//! The schema of one run: made for it, and dropped after it.

use anyhow::Context;
use coordinator_examples::Scratch;
use coordinator_postgres::PostgresBackend;

use super::books;

/// A schema that this process has made.
pub(super) struct Schema {
    pub(super) scratch: Scratch,
    pub(super) postgres: PostgresBackend,
}

impl Schema {
    /// Connects, and makes a new schema with the tables of the library and of the demo.
    pub(super) async fn make(url: &str) -> anyhow::Result<Self> {
        let scratch = Scratch::new(url, "coordinator_demo")?;
        let config = scratch.config()?.application_name("coordinator demo");
        let postgres = PostgresBackend::connect(config).await?;
        let made = Self { scratch, postgres };
        if let Err(error) = books::make(made.scratch.pool()).await {
            made.remove().await?;
            return Err(error).context("cannot make the tables of the demo");
        }
        Ok(made)
    }

    /// Drops it with all that is in it.
    pub(super) async fn remove(self) -> anyhow::Result<()> {
        // Its sessions end first.
        drop(self.postgres);
        self.scratch.remove().await
    }
}
