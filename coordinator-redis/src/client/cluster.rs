//! A cluster: each node has the keys of some slots. A request goes to the node that has the slot of its key, as far as is
//! known, and from there to where that node sends it.
//!
//! Channels lie on the node of their slot as well, though a node may pass messages on: who publishes and who listens then
//! meet on one connection's node, in order, and a node that is cut off from the others deceives nobody. Where channels are sharded, nodes
//! pass nothing on but to their replicas, and send those on who come to the wrong one.

mod map;
mod slots;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::exchange::{self, Routes};
use super::primary::worst;
use super::{Chosen, Client, Dial, Listener, PubSub, Told, Value};
use crate::endpoint::{Endpoint, Host};
use crate::error::ConnectError;
use crate::script::Script;
use crate::trouble::{Elsewhere, Trouble};
use map::{Map, View};
use slots::slot;

/// How often to look who has which slots, where nothing has failed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long to wait between two looks, whatever fails.
const BREATH: Duration = Duration::from_millis(100);
/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(2);
/// So many nodes are asked at most.
const ASKED: usize = 5;
/// So often a request is sent on.
const REDIRECTS: usize = 5;

/// The nodes, and what they have.
pub(super) struct Cluster {
    me: Weak<Cluster>,
    /// The nodes that the URL names, for people.
    shown: String,
    seeds: Vec<Host>,
    map: Mutex<Map>,
    /// Says that the map is another.
    changed: watch::Sender<u64>,
    doubt: Arc<Notify>,
    /// So many bytes of messages wait for a listener.
    listen_bytes: usize,
}

impl Cluster {
    /// Finds out who has which slots, and follows their moves from then on, until this is dropped.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        dial: Arc<dyn Dial>,
        listen_bytes: usize,
    ) -> Result<Arc<Self>, ConnectError> {
        let hosts: Vec<String> = endpoint.hosts.iter().map(Host::to_string).collect();
        let cluster = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            shown: hosts.join(","),
            seeds: endpoint.hosts.clone(),
            map: Mutex::new(Map::new(dial)),
            changed: watch::Sender::new(0),
            doubt: Arc::default(),
            listen_bytes,
        });
        cluster.look().await?;
        tokio::spawn(follow(cluster.me.clone(), cluster.doubt.clone()));
        Ok(cluster)
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of a slot.
    fn node(&self, slot: u16) -> Result<(u64, Arc<dyn Client>), Trouble> {
        let node = self.map().node(slot);
        node.ok_or_else(|| {
            self.doubt.notify_one();
            Trouble::unavailable(
                "no node of the cluster is known for the slot: start the primaries that are missing",
            )
        })
    }

    /// What a call that fails means: the node may be gone.
    fn judge<T>(&self, answer: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(Trouble::Unavailable(_) | Trouble::Indeterminate(_)) = &answer {
            self.doubt.notify_one();
        }
        answer
    }

    /// Where to send what a node has sent on.
    fn sent_on(&self, to: &Elsewhere) -> Result<Arc<dyn Client>, Trouble> {
        self.doubt.notify_one();
        let unknown = || Trouble::unavailable("the cluster does not say which node has the slot");
        let host = to.host.as_ref().ok_or_else(unknown)?;
        let mut map = self.map();
        if !to.once {
            map.moved(to.slot, host);
        }
        let client = map.client(host);
        client.map_err(|error| Trouble::Unavailable(error.into()))
    }

    /// Follows a request from node to node. It has had no effect when it is sent on.
    async fn follow(&self, mut to: Elsewhere, command: &[Bytes]) -> Result<Value, Trouble> {
        for _ in 0..REDIRECTS {
            let node = self.sent_on(&to)?;
            // Both in one write: nothing comes between them.
            let asking = to.once.then(|| vec![Bytes::from_static(b"ASKING")]);
            let commands = asking.into_iter().chain([command.to_vec()]).collect();
            let answers = self.judge(node.pipeline(commands).await)?;
            match answers.into_iter().next_back() {
                Some(Err(Trouble::Elsewhere(next))) => to = next,
                Some(answer) => return self.judge(answer),
                None => return Err(Trouble::unreadable("nothing")),
            }
        }
        Err(Trouble::unavailable(
            "the nodes of the cluster do not agree on who has the slot",
        ))
    }

    /// Runs commands, those of one node as one pipeline.
    async fn run(&self, commands: Vec<Vec<Bytes>>) -> Vec<Result<Value, Trouble>> {
        let mut groups = BTreeMap::<u64, (Arc<dyn Client>, Vec<usize>)>::new();
        let mut answers = Vec::with_capacity(commands.len());
        for (place, command) in commands.iter().enumerate() {
            let key = command.get(1).map(Bytes::as_ref).unwrap_or_default();
            match self.node(slot(key)) {
                Ok((number, node)) => {
                    let group = groups.entry(number).or_insert((node, Vec::new()));
                    group.1.push(place);
                    answers.push(Err(Trouble::unreadable("nothing")));
                }
                Err(trouble) => answers.push(Err(trouble)),
            }
        }
        let commands = &commands;
        let asked = groups.into_values().map(async |(node, places)| {
            let group = places
                .iter()
                .filter_map(|place| commands.get(*place).cloned());
            let told = self.judge(node.pipeline(group.collect()).await);
            let told = told.unwrap_or_else(|trouble| trouble.of_each(places.len()));
            places.into_iter().zip(told).collect::<Vec<_>>()
        });
        for (place, answer) in join_all(asked).await.into_iter().flatten() {
            let answer = match (answer, commands.get(place)) {
                (Err(Trouble::Elsewhere(to)), Some(command)) => self.follow(to, command).await,
                (answer, _) => self.judge(answer),
            };
            if let Some(known) = answers.get_mut(place) {
                *known = answer;
            }
        }
        answers
    }

    /// Asks nodes who has which slots, and believes the latest who is in touch with most of them.
    async fn look(&self) -> Result<(), ConnectError> {
        let nodes = self.map().some_nodes(&self.seeds, ASKED);
        let asked = nodes.into_iter().map(async |(host, node)| {
            let node = node?;
            let silent = |_| ConnectError::Unreachable {
                host: host.to_string(),
                source: "no answer came in time".into(),
            };
            timeout(WITHIN, View::of(&host, node.as_ref()))
                .await
                .map_err(silent)?
        });
        let (mut views, mut errors) = (Vec::new(), Vec::new());
        for view in join_all(asked).await {
            match view {
                Ok(view) => views.push(view),
                Err(error) => errors.push(error),
            }
        }
        let best = views
            .iter()
            .filter(|view| view.is_well())
            .max_by_key(|view| view.epoch);
        let has_changed = self.map().set(best);
        if has_changed {
            self.changed.send_modify(|number| *number += 1);
        }
        match (best, views.first()) {
            (Some(_), _) => Ok(()),
            (None, Some(ill)) => Err(ConnectError::ClusterDown {
                host: self.shown.clone(),
                source: ill.said.clone().into(),
            }),
            (None, None) => Err(worst(errors, |text| ConnectError::Unreachable {
                host: self.shown.clone(),
                source: text.into(),
            })),
        }
    }
}

/// Looks once in a while, and soon after a failure, until nobody needs it any more.
async fn follow(cluster: Weak<Cluster>, doubt: Arc<Notify>) {
    loop {
        drop(timeout(LOOK_EVERY, doubt.notified()).await);
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        if let Err(error) = cluster.look().await {
            tracing::debug!(%error, "the cluster does not say who has which slots");
        }
        drop(cluster);
        sleep(BREATH).await;
    }
}

#[async_trait]
impl Client for Cluster {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    async fn reach(&self) -> Result<(), ConnectError> {
        self.look().await
    }

    async fn eval(
        &self,
        script: &'static Script,
        keys: Vec<Bytes>,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        let key = keys.first().map(Bytes::as_ref).unwrap_or_default();
        let (_, node) = self.node(slot(key))?;
        let to = match node.eval(script, keys.clone(), args.clone()).await {
            Err(Trouble::Elsewhere(to)) => to,
            answer => return self.judge(answer),
        };
        // Whole, for the other node may not know it.
        let mut command: Vec<Bytes> = vec!["EVAL".into(), script.text().into()];
        command.push(keys.len().to_string().into());
        command.extend(keys.into_iter().chain(args));
        self.follow(to, &command).await
    }

    async fn publish(&self, how: PubSub, batch: Vec<(Bytes, Bytes)>) -> Vec<Result<(), Trouble>> {
        let word = Bytes::from_static(how.publish().as_bytes());
        let commands = batch.into_iter();
        let commands = commands.map(|(channel, payload)| vec![word.clone(), channel, payload]);
        let answers = self.run(commands.collect()).await;
        answers.into_iter().map(|answer| answer.map(drop)).collect()
    }

    async fn pipeline(
        &self,
        commands: Vec<Vec<Bytes>>,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        Ok(self.run(commands).await)
    }

    async fn listen(&self, how: Chosen) -> Result<Listener, Trouble> {
        let routes = self.me.upgrade().ok_or_else(Trouble::closed)?;
        Ok(exchange::open(
            routes,
            self.changed.subscribe(),
            how,
            self.listen_bytes,
        ))
    }

    async fn everywhere(&self, commands: Vec<Vec<Bytes>>) -> Result<Vec<Told>, Trouble> {
        let nodes = self.map().primaries();
        let commands = &commands;
        try_join_all(nodes.into_iter().map(async |node| {
            let host = node.shown();
            let answers = node.pipeline(commands.clone()).await?;
            Ok(Told { host, answers })
        }))
        .await
    }

    fn is_cluster(&self) -> bool {
        true
    }
}

impl Routes for Cluster {
    fn route(&self, channel: &[u8]) -> Option<(u64, Arc<dyn Client>)> {
        let mut map = self.map();
        // Who is out of touch with the cluster does not know whether the slot is elsewhere by now.
        map.is_well().then(|| map.node(slot(channel)))?
    }

    fn suspect(&self) {
        self.doubt.notify_one();
    }

    fn moved(&self, to: &Elsewhere) {
        if let (Some(host), false) = (&to.host, to.once) {
            self.map().moved(to.slot, host);
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}
