//! A namespace of a Redis server, for one run.

use std::env;
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator_redis::RedisConfig;
use tokio::time::timeout;

/// How long removing the keys may take.
const REMOVING: Duration = Duration::from_secs(20);

/// So many keys are looked at in one step.
const STEP: usize = 1_000;

/// The name of a namespace that nothing is in yet.
#[derive(Debug, Clone)]
pub struct Space {
    url: String,
    name: String,
    client: redis::Client,
}

impl Space {
    /// In the server whose URL is the first argument of this program, or `COORDINATOR_URL`.
    ///
    /// # Errors
    /// Where neither is given: says what to do.
    pub fn of_example() -> anyhow::Result<Self> {
        let named = env::args()
            .nth(1)
            .or_else(|| env::var("COORDINATOR_URL").ok());
        let Some(url) = named else {
            bail!(
                "no server: give the URL of a Redis server, redis://user:password@host:port, \
                 as the argument or in COORDINATOR_URL"
            );
        };
        Self::new(&url, "coordinator_example")
    }

    /// In this server, under a new name that begins so.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str, prefix: &str) -> anyhow::Result<Self> {
        Self::named(url, format!("{prefix}_{:08x}", rand::random::<u32>()))
    }

    /// In this server, under this name.
    ///
    /// # Errors
    /// The URL is none.
    pub fn named(url: &str, name: impl Into<String>) -> anyhow::Result<Self> {
        let config = RedisConfig::from_url(url)?;
        let client = redis::Client::open(config.url).context("this is no URL of a server")?;
        Ok(Self {
            url: url.to_owned(),
            name: name.into(),
            client,
        })
    }

    /// How a backend uses it. The name is new, so nobody can trust anything in it.
    ///
    /// # Errors
    /// A parameter of the URL has another value than there are.
    pub fn config(&self) -> anyhow::Result<RedisConfig> {
        let config = RedisConfig::from_url(&self.url)?;
        Ok(config.namespace(&self.name).trust_empty_store(true))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program's own client of the server.
    pub fn client(&self) -> &redis::Client {
        &self.client
    }

    /// Removes all keys that have its name in theirs.
    ///
    /// # Errors
    /// They could not be removed: says which are left.
    pub async fn remove(self) -> anyhow::Result<()> {
        let left = || format!("keys with {} in their names are left behind", self.name);
        let removed = async { anyhow::Ok(timeout(REMOVING, self.remove_all()).await??) };
        removed.await.with_context(left)
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        let mut connection = self.client.get_multiplexed_async_connection().await?;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(format!("*{}*", self.name));
            scan.arg("COUNT").arg(STEP);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
            for key in keys {
                let () = redis::cmd("UNLINK")
                    .arg(key)
                    .query_async(&mut connection)
                    .await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
