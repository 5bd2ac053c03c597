//! How a node is described and started.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::trust::{DEFAULT_TTL, Trust};
use coordinator_core::{
    Backend, BoxError, Executor, Group, Guarantee, Guarantees, MemberId, Profile,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clock::SystemClock;
use crate::connect::connect;
use crate::context::{Context, Parts};
use crate::errors::StartError;
use crate::handle::Node;
use crate::members::check_metadata;
use crate::shared::Shared;
use crate::tasks::{Tasks, TokioExecutor};

/// How long work has to finish, unless it says otherwise.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

type Shutdown = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Describes a node. [`NodeBuilder::start`] makes it a member of its group.
#[must_use = "a node begins with `start`"]
pub struct NodeBuilder {
    group: Group,
    url: Option<String>,
    backend: Option<Backend>,
    member: Option<MemberId>,
    profile: Profile,
    ttl: Duration,
    drain_timeout: Duration,
    required: Vec<Guarantee>,
    shutdown_on: Option<Shutdown>,
}

impl NodeBuilder {
    pub(crate) fn new(group: Group) -> Self {
        Self {
            group,
            url: None,
            backend: None,
            member: None,
            profile: Profile::new(),
            ttl: DEFAULT_TTL,
            drain_timeout: DRAIN_TIMEOUT,
            required: Vec::new(),
            shutdown_on: None,
        }
    }

    /// The backend, by its URL: see [`connect`](crate::connect()).
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The backend itself.
    pub fn backend(mut self, backend: impl Into<Backend>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// A static name: this node's own, also through restarts. At most one live process may have
    /// it. Without one, each start has a name of its own.
    pub fn member(mut self, id: impl Into<MemberId>) -> Self {
        self.member = Some(id.into());
        self
    }

    /// Something that the other members see of this one. At most 16 KiB in all.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.profile.metadata.insert(key.into(), value.into());
        self
    }

    /// Where the node runs. Shards are spread over zones among equals.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.profile.zone = Some(zone.into());
        self
    }

    /// The node's share of the shards, relative to the other members'; 1 by default. Zero: none.
    pub fn weight(mut self, weight: u32) -> Self {
        self.profile.weight = weight;
        self
    }

    /// How long the membership lasts without a heartbeat, and the default for elections and locks;
    /// 10 s by default, 200 ms to 30 s. Shorter is a faster fail-over, and less patience with a
    /// slow store.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long work has to finish when it is asked to, unless it says otherwise; 10 s by default.
    pub fn drain_timeout(mut self, span: Duration) -> Self {
        self.drain_timeout = span;
        self
    }

    /// Demands guarantees of the parts that grant leases. A start without them fails, and says
    /// what was found.
    pub fn require(mut self, guarantees: impl IntoIterator<Item = Guarantee>) -> Self {
        self.required.extend(guarantees);
        self
    }

    /// Shuts the node down when this future ends: a signal, usually. Runs in the background; call
    /// [`Node::shutdown`] as well to wait for the end and to be told of it.
    pub fn shutdown_on(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown_on = Some(Box::pin(signal));
        self
    }

    /// Starts the node: connects, checks, joins the group. Must be called in a tokio runtime.
    ///
    /// Dropped before it ends, it leaves at most a membership that expires by itself.
    ///
    /// # Errors
    /// A setting that is not allowed, a guarantee that is not given, a name that is taken, or a
    /// store that does not answer.
    pub async fn start(mut self) -> Result<Node, StartError> {
        let trust = self.check()?;
        let backend = self.take_backend().await?;
        self.check_parts(&backend)?;
        let shutdown_on = self.shutdown_on.take();
        let node = self.assemble(backend, trust).await?;
        if let Some(signal) = shutdown_on {
            node.shut_down_on(signal);
        }
        Ok(node)
    }

    fn check(&self) -> Result<Trust, StartError> {
        self.group
            .check()
            .map_err(|error| self.rejected("group", error))?;
        if let Some(member) = &self.member {
            member
                .check()
                .map_err(|error| self.rejected("member", error))?;
        }
        if self.drain_timeout.is_zero() {
            return Err(self.rejected("drain_timeout", "a drain timeout of 0s is not allowed"));
        }
        check_metadata(&self.profile.metadata).map_err(|error| self.rejected("metadata", error))?;
        Trust::new(self.ttl).map_err(|error| self.rejected("ttl", error))
    }

    async fn take_backend(&mut self) -> Result<Backend, StartError> {
        match (self.backend.take(), self.url.take()) {
            (Some(backend), None) => Ok(backend),
            (None, Some(url)) => Ok(connect(&url).await?),
            (Some(_), Some(url)) => {
                let error = format!("both a backend and the url `{url}` were given: give one");
                Err(self.rejected("backend", error))
            }
            (None, None) => {
                let error = "neither `backend` nor `url` was given: give one";
                Err(self.rejected("backend", error))
            }
        }
    }

    fn check_parts(&self, backend: &Backend) -> Result<(), StartError> {
        if let (Some(members), Some(assignments)) = (&backend.members, &backend.assignments)
            && members.store() != assignments.store()
        {
            let error = format!(
                "members are in `{}`, assignments in `{}`: they must be in one store",
                members.store(),
                assignments.store()
            );
            return Err(self.rejected("backend", error));
        }
        let found = guarantees(backend);
        for guarantee in &self.required {
            for part in &found {
                Self::check_guarantee(*guarantee, part)?;
            }
            if found.is_empty() {
                Self::check_guarantee(*guarantee, &Guarantees::unknown())?;
            }
        }
        Ok(())
    }

    fn check_guarantee(guarantee: Guarantee, found: &Guarantees) -> Result<(), StartError> {
        if found.has(guarantee) {
            return Ok(());
        }
        let finding = found.finding(guarantee);
        Err(StartError::MissingGuarantee {
            guarantee,
            found: finding
                .map_or("nothing that gives it", |finding| &finding.found)
                .to_owned(),
            remedy: finding
                .map_or("use a backend that gives it", |finding| &finding.remedy)
                .to_owned(),
        })
    }

    async fn assemble(self, backend: Backend, trust: Trust) -> Result<Node, StartError> {
        let random = match backend.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::try_from_rng(&mut rand::rngs::SysRng)
                .map_err(|error| self.rejected("randomness", error))?,
        };
        let executor: Arc<dyn Executor> = match &backend.executor {
            Some(executor) => executor.clone(),
            None => Arc::new(TokioExecutor::current()),
        };
        let context = Arc::new(Context::new(Parts {
            group: self.group,
            me: self.member,
            clock: backend
                .clock
                .clone()
                .unwrap_or_else(|| Arc::new(SystemClock::new())),
            tasks: Tasks::new(executor),
            backend,
            trust,
            drain_timeout: self.drain_timeout,
            required: self.required,
            random,
        }));
        let shared = Shared::start(context, self.profile).await?;
        Ok(Node {
            shared: Arc::new(shared),
        })
    }

    fn rejected(&self, what: &'static str, source: impl Into<BoxError>) -> StartError {
        StartError::Rejected {
            group: self.group.clone(),
            what,
            source: source.into(),
        }
    }
}

impl Node {
    /// Waits for the signal without keeping the node alive.
    fn shut_down_on(&self, signal: Shutdown) {
        let (context, shared) = (self.shared.context.clone(), Arc::downgrade(&self.shared));
        drop(self.shared.context.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = context.stopping.cancelled() => {}
                () = signal => {
                    context.draining.cancel();
                    if let Some(shared) = shared.upgrade() {
                        // How it ends is told to whoever calls `shutdown`, and logged.
                        drop(shared.begin_end());
                    }
                }
            }
        }));
    }
}

/// What each part that grants leases was found to guarantee.
pub(crate) fn guarantees(backend: &Backend) -> Vec<Guarantees> {
    let locks = backend.locks.as_ref().map(|part| part.guarantees());
    let members = backend.members.as_ref().map(|part| part.guarantees());
    let assignments = backend.assignments.as_ref().map(|part| part.guarantees());
    let checkpoints = backend.checkpoints.as_ref().map(|part| part.guarantees());
    [locks, members, assignments, checkpoints]
        .into_iter()
        .flatten()
        .collect()
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("group", &self.group)
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}
