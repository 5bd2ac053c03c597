//! Who owns a key: the newest assignment, as this node last read it.

use std::num::NonZeroU16;
use std::sync::{Arc, Weak};
use std::time::Duration;

use coordinator_core::{
    AssignmentError, AssignmentStore, Backoff, Document, Epoch, Keyspace, MemberId, ShardId,
};
use tracing::debug;

use crate::context::Context;
use crate::watch;

/// Tells which member owns a key of a keyspace. A cheap clone. Any node can have one, also one
/// that does not serve the keyspace.
///
/// What it tells is the newest assignment that this node has read: the owner may be another by the
/// time a request arrives there, and must check with its own guard.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Reader>,
    document: watch::Receiver<Option<Arc<Document>>>,
}

/// What all clones of a router share. When the last one is dropped, the reading ends.
struct Reader {
    context: Arc<Context>,
    keyspace: Keyspace,
    document: watch::Sender<Option<Arc<Document>>>,
}

impl Router {
    pub(crate) fn new(context: &Arc<Context>, keyspace: Keyspace) -> Self {
        let reader = Arc::new(Reader {
            context: context.clone(),
            keyspace,
            document: watch::Sender::default(),
        });
        if let Some(store) = context.backend.assignments.clone() {
            // It ends with the last clone, or with `stopping`.
            drop(context.tasks.spawn(follow(Arc::downgrade(&reader), store)));
        }
        Self {
            document: reader.document.subscribe(),
            shared: reader,
        }
    }

    /// The keyspace.
    pub fn keyspace(&self) -> &Keyspace {
        &self.shared.keyspace
    }

    /// The shard of a key. `None` until the assignment was read.
    pub fn shard_of(&self, key: impl AsRef<[u8]>) -> Option<ShardId> {
        let document = self.document.borrow();
        shard_of(document.as_deref()?, key.as_ref())
    }

    /// Who owns a key, also while the shard drains. `None`: nobody does, or nothing was read yet:
    /// wait for [`Self::changed`].
    pub fn owner_of(&self, key: impl AsRef<[u8]>) -> Option<MemberId> {
        let document = self.document.borrow();
        let document = document.as_deref()?;
        let (owner, _) = document.owner(shard_of(document, key.as_ref())?)?;
        Some(owner.clone())
    }

    /// Waits for another assignment than this clone has seen. `false` after shutdown. Cancel safe.
    pub async fn changed(&mut self) -> bool {
        let stopping = &self.shared.context.stopping;
        tokio::select! {
            biased;
            () = stopping.cancelled() => false,
            changed = self.document.changed() => changed.is_ok(),
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("keyspace", &self.shared.keyspace)
            .field(
                "epoch",
                &self
                    .document
                    .borrow()
                    .as_ref()
                    .map(|document| document.epoch),
            )
            .finish_non_exhaustive()
    }
}

fn shard_of(document: &Document, key: &[u8]) -> Option<ShardId> {
    let count = u16::try_from(document.slots.len()).ok()?;
    Some(document.routing.shard_of(key, NonZeroU16::new(count)?))
}

/// Reads the document whenever it may have changed, for as long as a router lives.
async fn follow(reader: Weak<Reader>, store: Arc<dyn AssignmentStore>) {
    let Some(context) = reader.upgrade().map(|reader| reader.context.clone()) else {
        return;
    };
    let pace = context.trust.renew_every();
    let mut backoff = Backoff::new(Duration::from_millis(100), pace);
    let mut random = context.fork_random();
    let mut known: Option<Epoch> = None;
    let mut first = true;
    loop {
        let Some(reader) = reader.upgrade() else {
            return;
        };
        let keyspace = reader.keyspace.clone();
        let loaded = tokio::select! {
            biased;
            () = context.stopping.cancelled() => return,
            loaded = store.load(&context.group, &keyspace) => loaded,
            () = tokio::time::sleep(context.trust.ttl()) => {
                let silence = "no answer within a ttl";
                Err(AssignmentError::unavailable("load", &keyspace, silence))
            }
        };
        let (mut pause, mut listening) = (pace, true);
        match loaded {
            Ok(stored) => {
                backoff.reset();
                let epoch = stored.as_ref().map(|stored| stored.epoch);
                listening = std::mem::take(&mut first) || epoch != known;
                if let Some(stored) = stored.filter(|stored| Some(stored.epoch) != known) {
                    match Document::decode(stored.epoch, &stored.document) {
                        Ok(document) => {
                            reader.document.send_replace(Some(Arc::new(document)));
                        }
                        Err(error) => debug!(%keyspace, error = %error, "document not understood"),
                    }
                }
                known = epoch;
            }
            Err(error) => {
                debug!(%keyspace, error = %error, "document not read");
                pause = backoff.next(&mut random);
            }
        }
        drop(reader);
        // A hint that brought nothing is not asked again at once.
        let rest = if listening {
            Duration::ZERO
        } else {
            Duration::from_millis(100)
        };
        let hint = async {
            tokio::time::sleep(rest).await;
            if store
                .changed(&context.group, &keyspace, known)
                .await
                .is_err()
            {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = context.stopping.cancelled() => return,
            () = hint => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
