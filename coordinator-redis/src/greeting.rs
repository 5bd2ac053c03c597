//! What a process asks the store when it connects, and again later: which store it is, what it remembers (I1), and whether the user has the
//! rights that the scripts need.

use std::time::Duration;

use bytes::Bytes;

use crate::client::{Client, PubSub, Value};
use crate::config::RedisConfig;
use crate::error::ConnectError;
use crate::guarantees::Settings;
use crate::hub::unusable;
use crate::names::Names;
use crate::reply::{Read, part};
use crate::script::Script;
use crate::spread;
use crate::trouble::Trouble;

static OPEN: Script = Script::new("open", include_str!("../lua/open.lua"));

/// What the store answers.
#[derive(Debug)]
pub(crate) struct Greeting {
    /// Its name, the same by whatever address it is reached.
    pub(crate) store: String,
    /// Which memory it has.
    pub(crate) memory: String,
    /// For how long it grants nothing.
    pub(crate) quarantine: Duration,
    /// How messages of the bus spread, and for how long that has been known (U18).
    pub(crate) pubsub: PubSub,
    pub(crate) pubsub_age: Duration,
    /// Commands that the user may not run on keys, or to channels, of the namespace.
    missing: Vec<String>,
}

/// What scripts take that look at what the store remembers: in the order in which `identity.lua` names them, from the last to the
/// first. `store`: its name, if it has none.
pub(crate) fn constants(config: &RedisConfig, settings: &Settings, store: &str) -> [Bytes; 4] {
    let milliseconds = |span: Duration| Bytes::from(span.as_millis().to_string());
    let trusts: &'static [u8] = if config.trust_empty_store { b"1" } else { b"0" };
    [
        milliseconds(config.max_ttl),
        milliseconds(settings.lag()),
        Bytes::from_static(trusts),
        store.to_owned().into(),
    ]
}

/// Asks, with these constants. `wanted`: how messages spread if nobody has decided it; nothing where there is no choice.
pub(crate) async fn ask(
    client: &dyn Client,
    names: &Names,
    wanted: Option<PubSub>,
    constants: [Bytes; 4],
    channels: &[Bytes],
) -> Result<Greeting, Trouble> {
    let tag = names.own_tag();
    let keys = vec![tag.identity(), tag.key("rights", "")];
    let wanted = Bytes::from(wanted.map(PubSub::name).unwrap_or_default());
    let args = std::iter::once(wanted).chain(channels.iter().cloned());
    let args = args.chain(constants).collect();
    read(&client.eval(&OPEN, keys, args).await?)
}

/// Asks for the first time, and tries the rights. `own`: this process's channel. `advice`: how they are given.
pub(crate) async fn first(
    client: &dyn Client,
    names: &Names,
    config: &RedisConfig,
    settings: &Settings,
    own: &Bytes,
    advice: &str,
) -> Result<Greeting, ConnectError> {
    let host = client.shown();
    let name = format!("{:016x}", rand::random::<u64>());
    let channels = [names.own_tag().channel(), own.clone()];
    let constants = constants(config, settings, &name);
    let wanted = spread::wanted(client, config, settings);
    let greeting = match ask(client, names, wanted, constants, &channels).await {
        Ok(greeting) => greeting,
        Err(Trouble::OtherMaxTtl { stored }) => {
            return Err(ConnectError::OtherMaxTtl {
                namespace: config.namespace.clone(),
                stored: Duration::from_millis(stored.parse().unwrap_or_default()),
                ours: config.max_ttl,
            });
        }
        Err(trouble) => return Err(unusable(&host, trouble)),
    };
    if greeting.missing.is_empty() {
        return Ok(greeting);
    }
    let missing = greeting.missing.join(", ");
    let text = format!("it may not run {missing} on keys or to channels of the namespace");
    let denied = Trouble::Denied(text.into());
    Err(unusable(&host, denied.advised(None, advice)))
}

fn read(answer: &Value) -> Result<Greeting, Trouble> {
    let parts = answer.list()?;
    let missing = part(parts, 3)?.list()?.iter();
    let missing: Result<_, Trouble> = missing.map(|name| name.text().map(str::to_owned)).collect();
    Ok(Greeting {
        store: part(parts, 0)?.text()?.to_owned(),
        memory: part(parts, 1)?.text()?.to_owned(),
        quarantine: Duration::from_millis(part(parts, 2)?.number()?),
        missing: missing?,
        pubsub: spread::read(part(parts, 4)?.text()?)?,
        pubsub_age: Duration::from_millis(part(parts, 5)?.number()?),
    })
}
