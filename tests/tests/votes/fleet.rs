//! A fleet whose members vote, and a witness of every term.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::core::ClusterBus;
use coordinator_node::{
    Backend, ElectionConfig, FencingToken, Leadership, LeaseView, Node, Quorum, WorkResult,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

pub(crate) const WINDOW: Duration = Duration::from_millis(500);

/// One term, as its own work tells it.
#[derive(Clone)]
pub(crate) struct Begun {
    pub(crate) member: String,
    pub(crate) token: FencingToken,
    pub(crate) at: Instant,
    view: LeaseView,
}

/// All terms whose leader may still trust itself, and what was wrong with any.
#[derive(Default)]
pub(crate) struct Witness {
    terms: Vec<Begun>,
    pub(crate) complaints: Vec<String>,
}

impl Witness {
    fn begins(&mut self, begun: Begun) {
        self.terms.retain(|term| term.view.token().is_ok());
        for other in &self.terms {
            let (member, token, beside) = (&begun.member, begun.token, &other.member);
            let overlap = format!("ONE-LEADER: {member} leads under {token} beside {beside}");
            self.complaints.push(overlap);
        }
        self.terms.push(begun);
    }

    /// Who trusts itself to lead at this moment.
    pub(crate) fn leaders(&self) -> Vec<&str> {
        let trusting = self.terms.iter().filter(|term| term.view.token().is_ok());
        trusting.map(|term| term.member.as_str()).collect()
    }
}

/// How a member's bus differs from the store's.
pub(crate) type Wrap = Arc<dyn Fn(&str, Arc<dyn ClusterBus>) -> Arc<dyn ClusterBus> + Send + Sync>;

/// What members start with.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) quorum: Quorum,
    pub(crate) window: Duration,
    /// Whether they have the store's locks, too.
    pub(crate) locks: bool,
    pub(crate) wrap: Option<Wrap>,
}

impl Plan {
    pub(crate) fn fixed(names: &[String]) -> Self {
        Self {
            quorum: Quorum::fixed(names.iter().map(String::as_str)),
            window: WINDOW,
            locks: false,
            wrap: None,
        }
    }

    pub(crate) fn window(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    fn backend(&self, store: &MemoryStore, name: &str) -> Backend {
        let mut backend = Backend {
            members: None,
            assignments: None,
            checkpoints: None,
            ..store.connect(name)
        };
        if !self.locks {
            backend.locks = None;
        }
        if let Some(wrap) = &self.wrap {
            backend.bus = backend.bus.map(|bus| wrap(name, bus));
        }
        backend
    }
}

pub(crate) struct Fleet {
    pub(crate) store: MemoryStore,
    running: BTreeMap<String, (JoinHandle<()>, Arc<Notify>)>,
    newest: watch::Sender<Option<Begun>>,
    witness: Arc<Mutex<Witness>>,
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("m{number:02}")).collect()
}

impl Fleet {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            store: MemoryStore::builder().seed(seed).build(),
            running: BTreeMap::new(),
            newest: watch::Sender::new(None),
            witness: Arc::default(),
        }
    }

    /// Starts one more process of this member, which campaigns until it is stopped or killed.
    pub(crate) fn start(&mut self, name: &str, plan: &Plan) {
        let link = self.store.link(name);
        let backend = plan.backend(&self.store, name);
        let stop = Arc::new(Notify::new());
        let (stopped, key) = (stop.clone(), name.to_owned());
        let (newest, witness) = (self.newest.clone(), self.witness.clone());
        let (name, quorum) = (name.to_owned(), plan.quorum.clone());
        let window = plan.window;
        let life = async move {
            let node = Node::builder("fleet")
                .member(name.as_str())
                .backend(backend);
            let node = node.shutdown_on(async move { stopped.notified().await });
            let node = node.start().await.expect("it needs nothing but a bus");
            let config = ElectionConfig::new("e")
                .ttl(window)
                .cool_down(Duration::ZERO);
            let election = node.election(config.by_vote(quorum));
            let work = async |term| lead(term, &name, &newest, &witness).await;
            election.run(work).await.expect("a shutdown is no error");
            node.shutdown().await.ok();
        };
        let task = tokio::spawn(async move {
            link.run(life).await;
        });
        self.running.insert(key, (task, stop));
    }

    /// Kills a member's process.
    pub(crate) async fn kill(&mut self, name: &str) {
        self.store.link(name).crash();
        self.ended(name).await;
    }

    /// Stops a member's process, and waits until it has ended.
    pub(crate) async fn stop(&mut self, name: &str) {
        if let Some((_, stop)) = self.running.get(name) {
            stop.notify_one();
        }
        self.ended(name).await;
    }

    async fn ended(&mut self, name: &str) {
        if let Some((task, _)) = self.running.remove(name) {
            let ended = timeout(Duration::from_secs(60), task).await;
            ended.expect("in bounded time").expect("without a panic");
        }
    }

    /// Waits for a term above `token`.
    pub(crate) async fn leader(&self, token: Option<FencingToken>, within: Duration) -> Begun {
        let mut newest = self.newest.subscribe();
        let newer = |begun: &Option<Begun>| begun.as_ref().map(|begun| begun.token) > token;
        let found = timeout(within, newest.wait_for(newer)).await;
        let found = found.unwrap_or_else(|_| panic!("no leader within {within:?}"));
        found
            .expect("the fleet is there")
            .clone()
            .expect("it is newer")
    }

    pub(crate) fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn no_complaints(&self, seed: u64) {
        let complaints = &self.witness().complaints;
        assert!(complaints.is_empty(), "seed {seed}: {complaints:?}");
    }
}

async fn lead(
    term: Leadership,
    name: &str,
    newest: &watch::Sender<Option<Begun>>,
    witness: &Mutex<Witness>,
) -> WorkResult {
    let begun = Begun {
        member: name.to_owned(),
        token: term.token()?,
        at: Instant::now(),
        view: term.view(),
    };
    let told = begun.clone();
    witness
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .begins(told);
    newest.send_replace(Some(begun));
    term.draining().await;
    Ok(())
}
