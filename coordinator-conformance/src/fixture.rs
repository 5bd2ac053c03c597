//! What a backend's author gives: how to connect, and what the store lets a test do to it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::trust::MAX_TTL;
use coordinator_core::{
    AssignmentStore, Backend, CheckpointStore, ClusterBus, LockBackend, MembershipStore,
    async_trait,
};

pub(crate) type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

type Connect<P> = Rc<dyn Fn(&str) -> LocalFuture<'static, Option<Arc<P>>>>;

/// How the checks reach a store, made from a closure:
///
/// ```
/// # use coordinator_conformance::Fixture;
/// # use coordinator_core::ClusterBus;
/// # fn example<B: ClusterBus>(dial: impl AsyncFn(&str) -> B + Copy + 'static) {
/// let plain: Fixture<dyn ClusterBus> = Fixture::from(async move |namespace: &str| dial(namespace).await);
/// # drop(plain);
/// # }
/// ```
///
/// The closure makes one more connection to the store, in that namespace: a schema, a prefix, a
/// database. A check calls it several times with one namespace, for several clients that share
/// their leases and members, and with other namespaces, which share nothing with the first.
/// Namespaces are fresh for each check and each run: 1 to 40 lower-case letters, digits and `_`.
///
/// `P` is what a connection gives: `dyn LockBackend`, `dyn MembershipStore`, [`Planning`],
/// `dyn CheckpointStore`, `dyn ClusterBus`, or a whole [`Backend`].
pub struct Fixture<P: ?Sized> {
    pub(crate) connect: Connect<P>,
    pub(crate) faults: Rc<dyn Faults>,
    pub(crate) settings: Settings,
}

/// The numbers of a [`Fixture`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) virtual_time: bool,
    pub(crate) patience: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            virtual_time: false,
            patience: Duration::from_secs(5),
            max_ttl: MAX_TTL,
            seed: 1,
        }
    }
}

impl<P: ?Sized + 'static> Fixture<P> {
    /// The fixture of a closure that gives shared parts; `None`: the store has no such part, and
    /// all checks of it are skipped.
    pub fn shared<F>(connect: F) -> Self
    where
        F: AsyncFn(&str) -> Option<Arc<P>> + 'static,
    {
        let connect = Rc::new(connect);
        Self {
            connect: Rc::new(move |namespace| {
                let connect = Rc::clone(&connect);
                let namespace = namespace.to_owned();
                Box::pin(async move { connect(&namespace).await })
            }),
            faults: Rc::new(NoFaults),
            settings: Settings::default(),
        }
    }

    /// The same, and the store can be hurt: see [`Faults`]. Without, such checks are skipped.
    pub fn faults(mut self, faults: impl Faults) -> Self {
        self.faults = Rc::new(faults);
        self
    }

    /// The same, and the store's clock is tokio's: the checks run in virtual time, where a minute
    /// takes no time at all and only sleeping lets time pass.
    pub fn virtual_time(mut self) -> Self {
        self.settings.virtual_time = true;
        self
    }

    /// The same, with another limit for each call to the backend: an answer that takes longer is a
    /// failure. 5 s by default.
    pub fn patience(mut self, limit: Duration) -> Self {
        self.settings.patience = limit;
        self
    }

    /// The same, with another longest TTL of the namespace (rule I4). 30 s by default.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.settings.max_ttl = ttl;
        self
    }

    /// The same, with another seed for the checks' random choices. 1 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// The fixture of a part of what this one connects to.
    pub(crate) fn part<Q: ?Sized + 'static>(&self, part: fn(&P) -> Option<Arc<Q>>) -> Fixture<Q> {
        let connect = Rc::clone(&self.connect);
        Fixture {
            connect: Rc::new(move |namespace| {
                let whole = connect(namespace);
                Box::pin(async move { whole.await.and_then(|whole| part(&whole)) })
            }),
            faults: Rc::clone(&self.faults),
            settings: self.settings,
        }
    }
}

impl<P: ?Sized> Clone for Fixture<P> {
    fn clone(&self) -> Self {
        Self {
            connect: Rc::clone(&self.connect),
            faults: Rc::clone(&self.faults),
            settings: self.settings,
        }
    }
}

impl<P: ?Sized> fmt::Debug for Fixture<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Members and assignments of one store: what the checks of an [`AssignmentStore`] need, because a
/// swap judges lives.
#[derive(Clone)]
pub struct Planning {
    /// Who lives.
    pub members: Arc<dyn MembershipStore>,
    /// What they are assigned, in the same store.
    pub assignments: Arc<dyn AssignmentStore>,
}

impl fmt::Debug for Planning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planning")
            .field("members", &self.members.store())
            .field("assignments", &self.assignments.store())
            .finish()
    }
}

macro_rules! from_closures {
    ($($part:ident)*) => {$(
        impl<F, B> From<F> for Fixture<dyn $part>
        where
            F: AsyncFn(&str) -> B + 'static,
            B: $part,
        {
            fn from(connect: F) -> Self {
                Self::shared(async move |namespace: &str| {
                    let part: Arc<dyn $part> = Arc::new(connect(namespace).await);
                    Some(part)
                })
            }
        }
    )*};
}

from_closures! { LockBackend MembershipStore CheckpointStore ClusterBus }

impl<F, M, A> From<F> for Fixture<Planning>
where
    F: AsyncFn(&str) -> (M, A) + 'static,
    M: MembershipStore,
    A: AssignmentStore,
{
    fn from(connect: F) -> Self {
        Self::shared(async move |namespace: &str| {
            let (members, assignments) = connect(namespace).await;
            Some(Arc::new(Planning {
                members: Arc::new(members),
                assignments: Arc::new(assignments),
            }))
        })
    }
}

impl<F, B> From<F> for Fixture<Backend>
where
    F: AsyncFn(&str) -> B + 'static,
    B: Into<Backend>,
{
    fn from(connect: F) -> Self {
        Self::shared(async move |namespace: &str| Some(Arc::new(connect(namespace).await.into())))
    }
}

/// Whether a fault was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done.
    Done,
    /// The fixture has no way to do it: the check is skipped.
    NotOffered,
}

/// What a test can do to the store of a namespace. Each default is [`Fault::NotOffered`].
///
/// `connection` counts the connections made in that namespace, from 0, in the order in which the
/// fixture was called.
#[async_trait]
pub trait Faults: 'static + Send + Sync {
    /// `async fn forget(&self, namespace: &str) -> Fault`
    ///
    /// The store loses everything and comes back empty, under another memory identity (rule I1).
    async fn forget(&self, namespace: &str) -> Fault {
        let _ = namespace;
        Fault::NotOffered
    }

    /// `async fn restart(&self, namespace: &str) -> Fault`
    ///
    /// The store stops and starts again with all it knew.
    async fn restart(&self, namespace: &str) -> Fault {
        let _ = namespace;
        Fault::NotOffered
    }

    /// `async fn mark(&self, namespace: &str) -> Fault`
    ///
    /// Remembers the store's state, for [`Faults::roll_back`].
    async fn mark(&self, namespace: &str) -> Fault {
        let _ = namespace;
        Fault::NotOffered
    }

    /// `async fn roll_back(&self, namespace: &str) -> Fault`
    ///
    /// A fail-over that loses the last writes: the store returns to the mark, under another memory
    /// identity.
    async fn roll_back(&self, namespace: &str) -> Fault {
        let _ = namespace;
        Fault::NotOffered
    }

    /// `async fn cut(&self, namespace: &str, connection: usize) -> Fault`
    ///
    /// Nothing passes between this connection and the store any more.
    async fn cut(&self, namespace: &str, connection: usize) -> Fault {
        let _ = (namespace, connection);
        Fault::NotOffered
    }

    /// `async fn heal(&self, namespace: &str, connection: usize) -> Fault`
    ///
    /// Ends a cut.
    async fn heal(&self, namespace: &str, connection: usize) -> Fault {
        let _ = (namespace, connection);
        Fault::NotOffered
    }
}

/// A store that cannot be hurt.
#[derive(Debug, Clone, Copy)]
struct NoFaults;

impl Faults for NoFaults {}
