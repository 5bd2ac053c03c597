//! A schema of a Postgres database, for one run.

use std::env;
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator_postgres::PostgresConfig;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::timeout;

/// How long dropping a schema may take: sessions that have just ended may hold it for a moment.
const DROPPING: Duration = Duration::from_secs(20);

/// The connections of a pool: examples and their nodes are frugal.
const CONNECTIONS: u32 = 2;

/// The name of a schema that is not there yet. It is made by the first node that starts in it.
#[derive(Debug)]
pub struct Scratch {
    url: String,
    schema: String,
    pool: PgPool,
}

impl Scratch {
    /// In the database whose URL is the first argument of this program, or `COORDINATOR_URL`.
    ///
    /// # Errors
    /// Where neither is given: says what to do.
    pub fn of_example() -> anyhow::Result<Self> {
        let named = env::args()
            .nth(1)
            .or_else(|| env::var("COORDINATOR_URL").ok());
        let Some(url) = named else {
            bail!(
                "no database: give the URL of a Postgres database, \
                 postgres://user:password@host/database, as the argument or in COORDINATOR_URL"
            );
        };
        Self::new(&url, "coordinator_example")
    }

    /// In this database, under a new name that begins so.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str, prefix: &str) -> anyhow::Result<Self> {
        let schema = format!("{prefix}_{:08x}", rand::random::<u32>());
        Self::named(url, schema)
    }

    /// In this database, under this name.
    ///
    /// # Errors
    /// The URL is none.
    pub fn named(url: &str, schema: impl Into<String>) -> anyhow::Result<Self> {
        let schema = schema.into();
        // A schema that the URL names is for others.
        let config = PostgresConfig::from_url(url)?;
        let options: PgConnectOptions =
            config.url.parse().context("this is no URL of a database")?;
        let options = options.options([("search_path", &schema)]);
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
        Ok(Self {
            url: url.to_owned(),
            schema,
            pool: pool.connect_lazy_with(options),
        })
    }

    /// How a backend uses it.
    ///
    /// # Errors
    /// A parameter of the URL has another value than there are.
    pub fn config(&self) -> anyhow::Result<PostgresConfig> {
        let config = PostgresConfig::from_url(&self.url)?;
        Ok(config.schema(&self.schema).pool(self.pool.clone()))
    }

    /// Its name.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// A small pool whose statements find the tables in it. It connects when it is used.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Drops the schema, and all that is in it.
    ///
    /// # Errors
    /// It could not be dropped: says by which statement it can be later.
    pub async fn remove(self) -> anyhow::Result<()> {
        let statement = format!("drop schema if exists {} cascade", self.schema);
        // The name is ours: letters, digits and `_`.
        let dropping = sqlx::query(AssertSqlSafe(statement.clone())).execute(&self.pool);
        let dropped = async { anyhow::Ok(timeout(DROPPING, dropping).await??) };
        let left = || format!("the schema is left behind; to remove it: {statement}");
        dropped.await.with_context(left)?;
        self.pool.close().await;
        Ok(())
    }
}
