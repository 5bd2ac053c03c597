//! The schema of one run: made for it, and dropped after it.

use anyhow::Context;
use coordinator_examples::Scratch;
use coordinator_postgres::PostgresBackend;

use super::books::{self, Books};
use crate::on_store::Ground;

/// A schema that this process has made.
pub(crate) struct Schema {
    scratch: Scratch,
    postgres: PostgresBackend,
}

impl Ground for Schema {
    const STORE: &'static str = "Postgres";
    const KIND: &'static str = "schema";
    type Books = Books;

    /// With the tables of the library and of the demo.
    async fn make(url: &str) -> anyhow::Result<Self> {
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

    fn name(&self) -> &str {
        self.scratch.schema()
    }

    fn books(&self) -> Books {
        Books::new(&self.postgres, self.scratch.pool().clone())
    }

    async fn remove(self) -> anyhow::Result<()> {
        // Its sessions end first.
        drop(self.postgres);
        self.scratch.remove().await
    }
}
