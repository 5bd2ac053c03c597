//! Payloads that are stored aside: the message carries their key, and each process fetches them once (U7).

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use coordinator_core::relay::Reference;
use tokio::time::timeout;

use super::router::{Fetch, Router, Wanted};
use crate::client::{Client, Value};
use crate::names::Names;
use crate::trouble::Trouble;

/// So long a payload is kept; the server deletes it by itself.
const KEPT: Duration = Duration::from_secs(60);
/// U7: so long a reference holds back what follows it; and for each `PART` of its bytes as long again, for it could not
/// come sooner over a busy network.
const WITHIN: Duration = Duration::from_secs(1);
const PART: u64 = 2 * 1024 * 1024;
/// Whatever a reference says.
const MOST_PARTS: u32 = 17;

/// Stores a payload. It is there when this returns.
pub(super) async fn store(
    client: &dyn Client,
    names: &Names,
    payload: &Bytes,
) -> Result<Reference, Trouble> {
    let name = format!("{:032x}", rand::random::<u128>());
    let key = names.tag(&name).key("aside", "");
    let command = vec![
        Bytes::from_static(b"SET"),
        key.clone(),
        payload.clone(),
        Bytes::from_static(b"PX"),
        KEPT.as_millis().to_string().into(),
    ];
    one(client, command).await?;
    Ok(Reference {
        key,
        bytes: payload.len() as u64,
    })
}

/// Fetches payloads, each on a task of its own.
pub(super) fn fetcher(client: Arc<dyn Client>) -> Fetch {
    Box::new(move |router, wanted| {
        tokio::spawn(settle(router, wanted, client.clone()));
    })
}

async fn settle(router: Weak<Router>, wanted: Wanted, client: Arc<dyn Client>) {
    let parts = u32::try_from(wanted.reference.bytes / PART).unwrap_or(u32::MAX);
    let within = WITHIN * parts.saturating_add(1).min(MOST_PARTS);
    let fetched = timeout(within, fetch(client.as_ref(), &wanted.reference));
    let payload = match fetched.await {
        Ok(Ok(Some(payload))) => Some(payload),
        Ok(Ok(None)) => lost(&wanted, "it is gone"),
        Ok(Err(trouble)) => lost(&wanted, &format!("{trouble:?}")),
        Err(_) => lost(&wanted, "no answer came in time"),
    };
    if let Some(router) = router.upgrade() {
        router.fetched(&wanted, payload);
    }
}

async fn fetch(client: &dyn Client, reference: &Reference) -> Result<Option<Bytes>, Trouble> {
    let command = vec![Bytes::from_static(b"GET"), reference.key.clone()];
    match one(client, command).await? {
        Value::Bytes(payload) if payload.len() as u64 == reference.bytes => Ok(Some(payload)),
        _ => Ok(None),
    }
}

async fn one(client: &dyn Client, command: Vec<Bytes>) -> Result<Value, Trouble> {
    let answers = client.pipeline(vec![command]).await?;
    let answer = answers.into_iter().next();
    answer.unwrap_or_else(|| Err(Trouble::unreadable("nothing")))
}

fn lost(wanted: &Wanted, error: &str) -> Option<Bytes> {
    let key = String::from_utf8_lossy(&wanted.reference.key);
    tracing::warn!(%key, error, "a payload that was stored aside cannot be fetched");
    None
}
