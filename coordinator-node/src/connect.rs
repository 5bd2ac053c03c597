//! Backends by URL, chosen at run time.

use coordinator_core::Backend;

use crate::errors::ConnectError;

/// Connects to the backend that a URL names.
///
/// | url | backend | feature |
/// |---|---|---|
/// | `memory:name` | a store in this process, shared by all that name it | `memory` |
/// | `postgres://user@host/database` | a schema of a Postgres database; parameters choose which, and how: `?schema=billing&leases=row` (see `PostgresConfig::from_url`) | `postgres` |
/// | `redis://:password@host` | a namespace of a Redis or Valkey server; parameters choose which, and how: `?namespace=billing` (see `RedisConfig::from_url`); `redis-sentinel:` and `redis-cluster:` likewise, `rediss` by TLS; `client=fred` with `redis-fred` | `redis` |
///
/// # Errors
/// A text that is no such URL, a backend that this build leaves out, or a store that does not
/// answer. Messages hold no password.
pub async fn connect(url: &str) -> Result<Backend, ConnectError> {
    match url.split_once(':') {
        #[cfg(feature = "memory")]
        Some(("memory", name)) => Ok(memory(name)),
        #[cfg(not(feature = "memory"))]
        Some(("memory", _)) => Err(ConnectError::MissingFeature {
            scheme: "memory".into(),
            feature: "memory",
        }),
        #[cfg(feature = "postgres")]
        Some(("postgres" | "postgresql", _)) => postgres(url).await,
        #[cfg(not(feature = "postgres"))]
        Some(("postgres" | "postgresql", _)) => Err(ConnectError::MissingFeature {
            scheme: "postgres".into(),
            feature: "postgres",
        }),
        #[cfg(feature = "redis")]
        Some((scheme, _)) if is_redis(scheme) => redis(url).await,
        #[cfg(not(feature = "redis"))]
        Some((scheme, _)) if is_redis(scheme) => Err(ConnectError::MissingFeature {
            scheme: "redis".into(),
            feature: "redis",
        }),
        _ => Err(ConnectError::BadUrl {
            url: without_password(url),
        }),
    }
}

/// A server, with TLS or without, or those who know which one it is now.
fn is_redis(scheme: &str) -> bool {
    matches!(
        scheme,
        "redis"
            | "rediss"
            | "redis-sentinel"
            | "rediss-sentinel"
            | "redis-cluster"
            | "rediss-cluster"
    )
}

#[cfg(feature = "redis")]
async fn redis(url: &str) -> Result<Backend, ConnectError> {
    use coordinator_redis::{RedisBackend, RedisConfig};

    let connected = match RedisConfig::from_url(url) {
        Ok(config) => RedisBackend::connect(config).await,
        Err(error) => Err(error),
    };
    connected.map(Backend::from).map_err(|error| {
        let url = without_password(url);
        if error.is_transient() {
            let source = error.into();
            ConnectError::Unavailable { url, source }
        } else {
            let source = error.into();
            ConnectError::Rejected { url, source }
        }
    })
}

#[cfg(feature = "postgres")]
async fn postgres(url: &str) -> Result<Backend, ConnectError> {
    use coordinator_postgres::{PostgresBackend, PostgresConfig};

    let connected = match PostgresConfig::from_url(url) {
        Ok(config) => PostgresBackend::connect(config).await,
        Err(error) => Err(error),
    };
    connected.map(Backend::from).map_err(|error| {
        let url = without_password(url);
        if error.is_transient() {
            let source = error.into();
            ConnectError::Unavailable { url, source }
        } else {
            let source = error.into();
            ConnectError::Rejected { url, source }
        }
    })
}

/// The stores of this process, by name. They live as long as the process does: give a test that
/// must not share a name of its own, or a `MemoryStore`.
#[cfg(feature = "memory")]
fn memory(name: &str) -> Backend {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    use coordinator_memory::MemoryStore;

    static STORES: Mutex<BTreeMap<String, (MemoryStore, u64)>> = Mutex::new(BTreeMap::new());

    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    let (store, connections) = stores
        .entry(name.to_owned())
        .or_insert_with(|| (MemoryStore::new(), 0));
    *connections += 1;
    store.connect(format!("connection-{connections}"))
}

/// The URL as it may be shown: `postgres://user:***@host/db`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let Some((credentials, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match credentials.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        assert_eq!(
            without_password("postgres://me:s@cret@host/db"),
            "postgres://me:***@host/db"
        );
        assert_eq!(without_password("postgres://host/db"), "postgres://host/db");
        assert_eq!(without_password("nonsense"), "nonsense");
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn nodes_that_name_one_memory_store_share_it() {
        let start = async || {
            crate::Node::builder("g")
                .url("memory:connect-test")
                .start()
                .await
                .expect("it starts")
        };
        let (a, b) = (start().await, start().await);
        assert_ne!(a.id(), b.id());
        let held = a.lock("l").try_acquire().await.expect("the store answers");
        assert!(held.is_some());
        assert!(
            b.lock("l")
                .try_acquire()
                .await
                .expect("the store answers")
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_text_that_names_no_backend_is_an_error_that_says_what_would() {
        let error = connect("mysql://me:secret@host/db")
            .await
            .expect_err("no such backend");
        let text = error.to_string();
        assert!(
            text.contains("`mysql://me:***@host/db`") && text.contains("`memory:`"),
            "{text}"
        );
    }
}
