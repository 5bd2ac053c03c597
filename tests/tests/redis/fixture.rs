//! Connections to namespaces that end with the test, for the checks of conformance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_conformance::{Fault, Faults, Fixture};
use coordinator_core::{Backend, async_trait};
use coordinator_redis::{ClientKind, RedisBackend, RedisConfig};
use coordinator_servers::{Error, Talk};
use coordinator_tests::servers::redis::{Space, fresh_space, shared};

/// The longest TTL of conformance's namespaces: checks that wait out a quarantine wait for so long.
const MAX_TTL: Duration = Duration::from_secs(20);

/// How long a call may take: a group of the greatest size answers joins, 64 at a time, with all its
/// members each.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a store is used.
pub(crate) type Change = fn(RedisConfig) -> RedisConfig;

/// Both clients.
pub(crate) const CLIENTS: [Change; 2] = [by_redis, by_fred];

/// The default client.
pub(crate) fn by_redis(config: RedisConfig) -> RedisConfig {
    config.client(ClientKind::Redis)
}

/// The second client.
pub(crate) fn by_fred(config: RedisConfig) -> RedisConfig {
    config.client(ClientKind::Fred)
}

/// Namespaces of the store by those that checks name. Their keys go with the last fixture.
#[derive(Debug, Clone, Default)]
struct Spaces(Arc<Mutex<BTreeMap<String, Space>>>);

impl Spaces {
    /// Does something with a namespace; none where there is no server.
    fn with<T>(&self, namespace: &str, work: impl FnOnce(&Space) -> T) -> Option<T> {
        let mut spaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !spaces.contains_key(namespace) {
            spaces.insert(namespace.to_owned(), fresh_space()?);
        }
        spaces.get(namespace).map(work)
    }

    /// Runs commands on the keys of a namespace.
    fn fault(&self, namespace: &str, work: fn(&mut Keys) -> Result<(), Error>) -> Fault {
        let done = self.with(namespace, |space| {
            work(&mut Keys {
                talk: Talk::to(space.url())?,
                space,
            })
        });
        match done {
            None => Fault::NotOffered,
            Some(done) => {
                done.expect("the commands of a fault");
                Fault::Done
            }
        }
    }
}

/// What the checks of conformance reach: a namespace for each that they name, in a server that is
/// trusted to be new where it is empty.
pub(crate) fn store(change: Change) -> Fixture<Backend> {
    // Where this process starts the server, it takes a moment.
    shared();
    let spaces = Spaces::default();
    let faults = spaces.clone();
    let connect = async move |namespace: &str| {
        let config = spaces.with(namespace, |space| {
            let config = RedisConfig::new(space.url()).namespace(space.name());
            change(config.max_ttl(MAX_TTL).trust_empty_store(true))
        })?;
        let backend = RedisBackend::connect(config).await;
        let backend = backend.expect("a server that runs takes connections");
        Some(Arc::new(Backend::from(backend)))
    };
    Fixture::shared(connect)
        .faults(faults)
        .max_ttl(MAX_TTL)
        .patience(PATIENCE)
}

/// The keys of a namespace.
struct Keys<'a> {
    talk: Talk,
    space: &'a Space,
}

/// What keeps the state of a mark.
const MARK: &str = "mark:";

/// What is in the name of a key that says which store it is.
const IDENTITY: &str = ":identity:";

impl Keys<'_> {
    /// Those that are ours, or those that keep a mark.
    fn all(&self, marks: bool) -> Result<Vec<String>, Error> {
        let mut keys = self.space.keys()?;
        keys.retain(|key| key.starts_with(MARK) == marks);
        Ok(keys)
    }

    /// Removes all but what says which store it is.
    fn remove(&mut self) -> Result<(), Error> {
        for key in self.all(false)? {
            if !key.contains(IDENTITY) {
                self.talk.ask(&["DEL", &key])?;
            }
        }
        Ok(())
    }

    /// Keeps a copy of all.
    fn mark(&mut self) -> Result<(), Error> {
        for key in self.all(true)? {
            self.talk.ask(&["DEL", &key])?;
        }
        for key in self.all(false)? {
            self.talk.ask(&["COPY", &key, &format!("{MARK}{key}")])?;
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<(), Error> {
        for mark in self.all(true)? {
            let key = &mark[MARK.len()..];
            if !key.contains(IDENTITY) {
                self.talk.ask(&["COPY", &mark, key, "REPLACE"])?;
            }
        }
        Ok(())
    }

    /// Makes it a store that was on another server until now.
    fn move_to_another_server(&mut self) -> Result<(), Error> {
        let here = self.talk.info("server", "run_id")?.unwrap_or_default();
        for key in self.all(false)? {
            if !key.contains(IDENTITY) {
                continue;
            }
            let fields = self.talk.ask(&["HGETALL", &key])?;
            for pair in fields.list().chunks_exact(2) {
                if pair[1].text().contains(&here) {
                    let lost = pair[1].text().replace(&here, &"0".repeat(here.len()));
                    self.talk.ask(&["HSET", &key, &pair[0].text(), &lost])?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Faults for Spaces {
    /// As if a backup without a single key had been restored on another server.
    async fn forget(&self, namespace: &str) -> Fault {
        self.fault(namespace, |keys| {
            keys.remove()?;
            keys.move_to_another_server()
        })
    }

    #[allow(
        clippy::redundant_closure_for_method_calls,
        reason = "the method is of one lifetime, and any is needed"
    )]
    async fn mark(&self, namespace: &str) -> Fault {
        self.fault(namespace, |keys| keys.mark())
    }

    /// As if a replica had been promoted that had the keys of the mark.
    async fn roll_back(&self, namespace: &str) -> Fault {
        self.fault(namespace, |keys| {
            keys.remove()?;
            keys.restore()?;
            keys.move_to_another_server()
        })
    }
}

/// Connects to a namespace, in a server that is trusted to be new where it is empty.
pub(crate) async fn connect(client: Change, space: &Space) -> RedisBackend {
    let config = RedisConfig::new(space.url()).namespace(space.name());
    let backend = RedisBackend::connect(client(config.trust_empty_store(true))).await;
    backend.expect("a server that runs takes connections")
}
