//! What all parts of a backend share: the client, the bells, the names, the constants of the namespace.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::StoreId;
use tokio::sync::watch::Sender;

use crate::bells::Bells;
use crate::client::{self, Advised, Client, Listener, PubSub, Value};
use crate::config::RedisConfig;
use crate::endpoint::Endpoint;
use crate::error::ConnectError;
use crate::greeting::{self, Greeting};
use crate::guarantees::{self, Settings};
use crate::janitor;
use crate::names::{Names, Tag};
use crate::script::Script;
use crate::spread;
use crate::trouble::Trouble;
use crate::watch;

/// The bounds of the longest TTL.
const LEAST_MAX_TTL: Duration = Duration::from_secs(1);
const MOST_MAX_TTL: Duration = Duration::from_hours(24);
/// So many tags are remembered as told of; then telling begins anew.
const MANY_TAGS: usize = 10_000;

/// What is shared.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) config: RedisConfig,
    pub(crate) names: Names,
    pub(crate) store: StoreId,
    /// The store's own name.
    name: String,
    pub(crate) client: Arc<dyn Client>,
    pub(crate) bells: Bells,
    /// How messages of the bus spread, as the store says (U18).
    pub(crate) pubsub: Sender<PubSub>,
    facts: Mutex<Facts>,
    /// The tags that the index knows from this process.
    told: Mutex<BTreeSet<Tag>>,
}

/// What the server said when it was asked last.
#[derive(Debug, Clone)]
struct Facts {
    settings: Arc<Settings>,
    /// Which memory it has (I1).
    memory: Arc<str>,
    /// Why nothing is granted on it, if nothing is.
    refusal: Option<Arc<str>>,
    /// Whether all know how messages spread.
    is_settled: bool,
}

impl Hub {
    /// Connects, and finds out what the server gives.
    pub(crate) async fn connect(config: RedisConfig) -> Result<Arc<Self>, ConnectError> {
        let endpoint = Endpoint::read(&config.url)?;
        let dial = client::dial(&endpoint, &config)?;
        check(&config)?;
        let client = client::connect(&endpoint, dial, config.listen_bytes).await?;
        let user = endpoint.login.user.unwrap_or_default();
        Self::by(client, &user, config).await
    }

    /// The same, by a client that is there, and that comes as this user; an empty text is the default one.
    pub(crate) async fn by(
        client: Arc<dyn Client>,
        user: &str,
        config: RedisConfig,
    ) -> Result<Arc<Self>, ConnectError> {
        check(&config)?;
        let names = Names::new(&config.namespace)?;
        client.reach().await?;
        let host = client.shown();
        let user = if user.is_empty() { "default" } else { user };
        let advice: Arc<str> = names.rights(user).into();
        let client: Arc<dyn Client> = Arc::new(Advised::new(client, advice.clone()));
        let settings = guarantees::probe(client.as_ref(), &host, &config).await?;
        let own = names.own_channel(rand::random());
        let greeting =
            greeting::first(client.as_ref(), &names, &config, &settings, &own, &advice).await?;
        spread::check(greeting.pubsub, &settings, &config)?;
        let listener = listen(client.as_ref(), &names, &own).await;
        let listener = listener.map_err(|trouble| unusable(&host, trouble))?;
        let bells = Bells::start(listener, own);
        tell_quarantine(&config.namespace, &greeting);
        let store = StoreId::new(format!("redis:{}#{}", config.namespace, greeting.store));
        let is_settled = spread::is_settled(&greeting);
        let hub = Arc::new(Self {
            config,
            names,
            store,
            name: greeting.store,
            client,
            bells,
            pubsub: Sender::new(greeting.pubsub),
            facts: Mutex::new(Facts {
                settings: Arc::new(settings),
                memory: greeting.memory.into(),
                refusal: None,
                is_settled,
            }),
            told: Mutex::default(),
        });
        tokio::spawn(janitor::run(Arc::downgrade(&hub)));
        let returns = hub.bells.returns();
        tokio::spawn(watch::run(Arc::downgrade(&hub), returns));
        Ok(hub)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server said of itself when it was asked last.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.facts().settings.clone()
    }

    /// Whether leases and shards may be granted on this server: not while it deletes keys to make room, unless that is accepted.
    pub(crate) fn may_grant(&self) -> Result<(), Trouble> {
        match &self.facts().refusal {
            Some(why) => Err(Trouble::unavailable(&**why)),
            None => Ok(()),
        }
    }

    /// Asks the server again what it guarantees and remembers, and tells what has changed.
    pub(crate) async fn look_again(&self) -> Result<(), ConnectError> {
        let (client, host) = (self.client.as_ref(), self.client.shown());
        let settings = guarantees::read(client, &host).await?;
        let refusal = guarantees::refusal(&settings, &host, &self.config);
        let refusal: Option<Arc<str>> = refusal.map(|error| error.to_string().into());
        let now = *self.pubsub.borrow();
        let wanted = client.is_cluster().then_some(now);
        let constants = self.constants();
        let greeting = greeting::ask(client, &self.names, wanted, constants, &[]).await;
        let greeting = greeting.map_err(|trouble| unusable(&host, trouble))?;
        if let Err(error) = spread::check(greeting.pubsub, &settings, &self.config) {
            tracing::error!(%error, "messages spread otherwise than they can, or should");
        }
        spread::follow(&self.pubsub, greeting.pubsub);
        let before = guarantees::of(self);
        let old = std::mem::replace(
            &mut *self.facts(),
            Facts {
                settings: Arc::new(settings),
                memory: greeting.memory.as_str().into(),
                refusal: refusal.clone(),
                is_settled: spread::is_settled(&greeting),
            },
        );
        if spread::is_settled(&greeting) && !old.is_settled {
            spread::settle(&self.pubsub);
        }
        watch::tell_changes(&before, &guarantees::of(self));
        match (&old.refusal, &refusal) {
            (None, Some(why)) => tracing::error!(why = &**why, "nothing is granted from now on"),
            (Some(_), None) => tracing::info!(host, "leases and shards are granted again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if *old.memory != *greeting.memory {
            tell_quarantine(&self.config.namespace, &greeting);
        }
        Ok(())
    }

    /// What the store remembers, for scripts on keys of this hash tag (I1). On one server one key says it for the whole
    /// namespace: there a script reaches any key. In a cluster it reaches those of its own slot alone, and the slot of each tag may move to
    /// another node by itself: so there each tag has its own, and a group that is new waits as a namespace does.
    fn identity(&self, tag: &Tag) -> Bytes {
        if self.has_identities() {
            tag.identity()
        } else {
            self.names.own_tag().identity()
        }
    }

    /// Whether each hash tag has an identity of its own.
    pub(crate) fn has_identities(&self) -> bool {
        self.settings().is_cluster()
    }

    /// Runs a script on keys of one hash tag: the identity comes first, and the constants last.
    pub(crate) async fn run(
        &self,
        script: &'static Script,
        tag: &Tag,
        keys: &[Bytes],
        mut args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        let keys = [self.identity(tag)].into_iter().chain(keys.iter().cloned());
        if script.remembers() {
            self.tell_of(tag);
            args.extend(self.constants());
        }
        self.client.eval(script, keys.collect(), args).await
    }

    fn constants(&self) -> [Bytes; 4] {
        greeting::constants(&self.config, &self.settings(), &self.name)
    }

    /// Enters a tag in the index that janitors go by, once a process. That is not waited for: the next process does it, too.
    fn tell_of(&self, tag: &Tag) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.contains(tag) {
                return;
            }
            if told.len() >= MANY_TAGS {
                told.clear();
            }
            told.insert(tag.clone());
        }
        let words: [Bytes; 5] = [
            "ZADD".into(),
            self.names.tags_key(),
            "NX".into(),
            "0".into(),
            tag.to_string().into(),
        ];
        let client = self.client.clone();
        tokio::spawn(async move {
            if let Err(trouble) = client.pipeline(vec![words.into()]).await {
                tracing::debug!(?trouble, "a hash tag is not in the janitor's index");
            }
        });
    }

    /// Takes a tag out of the index: nothing is left of it.
    pub(crate) async fn forget_tag(&self, tag: &Tag) -> Result<(), Trouble> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(tag);
        let words: [Bytes; 3] = ["ZREM".into(), self.names.tags_key(), tag.to_string().into()];
        let answers = self.client.pipeline(vec![words.into()]).await?;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}

/// Listens on the channels of this process and of the namespace: a user who may not is told so now.
async fn listen(client: &dyn Client, names: &Names, own: &Bytes) -> Result<Listener, Trouble> {
    let listener = client.listen(PubSub::Plain.always()).await?;
    let group = names.own_tag().channel();
    for channel in [own, &group] {
        listener.subscribe(channel.clone()).await?;
    }
    listener.unsubscribe(group).await?;
    Ok(listener)
}

fn tell_quarantine(namespace: &str, greeting: &Greeting) {
    if !greeting.quarantine.is_zero() {
        tracing::warn!(
            namespace,
            ends_within = ?greeting.quarantine,
            "Redis is new, or may have lost what it knew (a restart, a flush, a fail-over): until then nothing is granted; \
             who holds a lease keeps it"
        );
    }
}

fn check(config: &RedisConfig) -> Result<(), ConnectError> {
    if (LEAST_MAX_TTL..=MOST_MAX_TTL).contains(&config.max_ttl) {
        return Ok(());
    }
    Err(ConnectError::BadSetting {
        setting: "max_ttl",
        given: format!("{:?}", config.max_ttl),
        wanted: format!("between {LEAST_MAX_TTL:?} and {MOST_MAX_TTL:?}"),
    })
}

/// The server cannot be used, for this reason.
pub(crate) fn unusable(host: &str, trouble: Trouble) -> ConnectError {
    let host = host.to_owned();
    match trouble {
        Trouble::Denied(source) => ConnectError::Refused { host, source },
        Trouble::Rejected(source) => ConnectError::Rejected { host, source },
        Trouble::Unavailable(source) | Trouble::Indeterminate(source) => {
            ConnectError::Unusable { host, source }
        }
        Trouble::Elsewhere(_) => ConnectError::OtherKind {
            host,
            found: "a node of a cluster",
            wanted: "redis-cluster://",
        },
        other @ (Trouble::Quarantined(_) | Trouble::OtherMaxTtl { .. }) => ConnectError::Unusable {
            host,
            source: other.to_string().into(),
        },
    }
}
