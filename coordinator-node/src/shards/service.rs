//! One service of a keyspace by this node: from its first check until everything has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_core::{
    AssignmentError, AssignmentStore, Backoff, BoxError, Document, Keyspace, Layout,
};

use super::ShardConfig;
use super::driver::Driver;
use super::line::{Host, Line, LineState, Offer, Stop};
use crate::context::Context;
use crate::errors::AcquireError;
use crate::members::Membership;
use crate::shared::Shared;
use crate::watch;

/// The keyspaces that this node has ever served: each has one keeper, for the node's life.
#[derive(Clone)]
pub(crate) struct Keyspaces {
    context: Arc<Context>,
    membership: Membership,
    lines: Arc<Mutex<BTreeMap<Keyspace, Arc<Line>>>>,
}

impl Keyspaces {
    pub(crate) fn new(context: &Arc<Context>, membership: &Membership) -> Self {
        Self {
            context: context.clone(),
            membership: membership.clone(),
            lines: Arc::default(),
        }
    }

    fn line(&self, keyspace: &Keyspace, store: Arc<dyn AssignmentStore>) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(keyspace) {
            return line.clone();
        }
        let (context, membership) = (self.context.clone(), self.membership.clone());
        let line = Arc::new(Line::new(context, membership, store, keyspace.clone()));
        // It ends with `stopping`.
        drop(self.context.tasks.spawn(Driver::new(line.clone()).run()));
        lines.insert(keyspace.clone(), line.clone());
        line
    }
}

/// One service. Dropped before its end, its work is dropped, too, unless it was told to drain.
pub(super) struct Service {
    line: Arc<Line>,
    state: watch::Receiver<LineState>,
    on_drop: Stop,
}

impl Service {
    /// Checks the configuration against itself, the backend and the stored document, then serves.
    /// Waits outages out.
    pub(super) async fn begin(
        node: &Arc<Shared>,
        config: ShardConfig,
        layout: Layout,
        host: Arc<dyn Host>,
        on_drop: Stop,
    ) -> Result<Self, AcquireError> {
        let name = config.name.to_string();
        let rejected = |source: BoxError| AcquireError::Rejected {
            name: name.clone(),
            source,
        };
        config
            .check(layout)
            .map_err(|error| rejected(error.into()))?;
        let store = check_parts(&node.context, &name)?;
        let line = node.keyspaces.line(&config.name, store);
        if !line.take() {
            return Err(rejected("this node serves the keyspace already".into()));
        }
        let service = Self {
            state: line.state.subscribe(),
            line,
            on_drop,
        };
        service.check_document(&config, layout).await?;
        service.line.serve(Offer {
            config: Arc::new(config),
            layout,
            host,
            node: node.clone(),
        });
        Ok(service)
    }

    /// Whether what is wanted is what is stored; the error says what either is (H11).
    async fn check_document(
        &self,
        config: &ShardConfig,
        layout: Layout,
    ) -> Result<(), AcquireError> {
        let context = &self.line.context;
        let (mut backoff, mut random) = (backoff(context), context.fork_random());
        loop {
            let name = config.name.to_string();
            let load = self.line.store.load(&context.group, &config.name);
            let stored = tokio::select! {
                biased;
                () = context.draining.cancelled() => {
                    return Err(AcquireError::ShuttingDown { name: name.clone() });
                }
                stored = load => stored,
            };
            let rejected = |source: BoxError| AcquireError::Rejected {
                name: name.clone(),
                source,
            };
            match stored {
                Ok(None) => return Ok(()),
                Ok(Some(stored)) => {
                    let document = Document::decode(stored.epoch, &stored.document);
                    let document = document.map_err(|error| rejected(error.into()))?;
                    let agreed = document.agrees(layout, config.routing);
                    return agreed.map_err(|mismatch| rejected(mismatch.into()));
                }
                Err(error @ AssignmentError::Rejected { .. }) => {
                    return Err(rejected(error.into()));
                }
                Err(error) => {
                    tracing::debug!(keyspace = %config.name, error = %error, "document not read");
                    tokio::time::sleep(backoff.next(&mut random)).await;
                }
            }
        }
    }

    /// Waits until the service must end: the node shuts down, or the keyspace is another.
    pub(super) async fn ended(&self) -> Result<(), AcquireError> {
        let context = &self.line.context;
        let mut state = self.state.clone();
        let refused = async {
            match state.wait_for(|state| state.refused.is_some()).await {
                Ok(state) => state.refused,
                Err(_) => None,
            }
        };
        tokio::select! {
            biased;
            () = context.draining.cancelled() => Ok(()),
            () = context.stopping.cancelled() => Ok(()),
            mismatch = refused => match mismatch {
                Some(mismatch) => Err(AcquireError::Rejected {
                    name: self.line.keyspace.to_string(),
                    source: mismatch.into(),
                }),
                None => Ok(()),
            },
        }
    }

    /// Drains everything, and waits until nothing is left of it, or the node stops.
    pub(super) async fn finish(mut self) {
        let context = self.line.context.clone();
        if !context.draining.is_cancelled() {
            self.line.stop(Stop::Drain);
        }
        self.on_drop = Stop::Drain;
        let mut state = self.state.clone();
        tokio::select! {
            biased;
            _ = state.wait_for(|state| !state.serving && !state.busy) => {}
            () = context.stopping.cancelled() => {}
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.line.stop(self.on_drop);
        self.line.give_back();
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("keyspace", &self.line.keyspace)
            .finish_non_exhaustive()
    }
}

/// Everything that serving a keyspace needs.
fn check_parts(context: &Context, name: &str) -> Result<Arc<dyn AssignmentStore>, AcquireError> {
    let missing = |part| AcquireError::MissingPart {
        name: name.to_owned(),
        part,
    };
    if context.draining.is_cancelled() {
        return Err(AcquireError::ShuttingDown {
            name: name.to_owned(),
        });
    }
    let backend = &context.backend;
    let assignments = backend
        .assignments
        .clone()
        .ok_or_else(|| missing("assignments"))?;
    if backend.members.is_none() {
        return Err(missing("members"));
    }
    // The planner is elected by lease.
    if backend.locks.is_none() {
        return Err(missing("locks"));
    }
    Ok(assignments)
}

fn backoff(context: &Context) -> Backoff {
    Backoff::new(Duration::from_millis(100), context.trust.renew_every())
}
