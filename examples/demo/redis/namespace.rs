//! The namespace of one run: made for it, and emptied after it.

use coordinator_examples::Space;
use coordinator_redis::RedisBackend;

use super::books::Books;
use crate::on_store::Ground;

/// A namespace that nobody else uses.
pub(crate) struct Namespace {
    space: Space,
    redis: RedisBackend,
}

impl Ground for Namespace {
    const STORE: &'static str = "Redis";
    const KIND: &'static str = "namespace";
    type Books = Books;

    async fn make(url: &str) -> anyhow::Result<Self> {
        let space = Space::new(url, "coordinator_demo")?;
        let redis = RedisBackend::connect(space.config()?).await?;
        Ok(Self { space, redis })
    }

    fn name(&self) -> &str {
        self.space.name()
    }

    fn books(&self) -> Books {
        Books::new(self.redis.clone(), self.space.client().clone())
    }

    async fn remove(self) -> anyhow::Result<()> {
        // What still writes ends first.
        drop(self.redis);
        self.space.remove().await
    }
}
