//! The programs that show the public face, as they would stand in a service: whoever changes a
//! signature sees here what that costs. What they call on stands for the service's own code.
//!
//! Those that need a database or a broker come with their backends.
#![allow(clippy::unused_async, reason = "a real service would wait here")]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_memory::MemoryStore;
use coordinator_node::{
    Backend, BoxError, Bus, BusError, Cursor, Guarantee, Incoming, Json, MemberId, Node,
    OwnedShard, RunError, ShardConfig, ShardId, Start, StartError, Topic, WorkResult, connect,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    id: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct PriceChanged {
    sku: String,
    cents: u64,
}

struct OrderEvent {
    position: u64,
}

/// A cache that is emptied rather than wrong.
#[derive(Default)]
struct Cache(Mutex<BTreeMap<String, u64>>);

impl Cache {
    fn remove(&self, sku: &str) {
        self.prices().remove(sku);
    }

    fn clear(&self) {
        self.prices().clear();
    }

    fn prices(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run_due_jobs() -> Result<(), BoxError> {
    Ok(())
}

async fn run_queued_jobs() -> Result<(), BoxError> {
    Ok(())
}

async fn run_job(_job: Job) -> Result<(), BoxError> {
    Ok(())
}

async fn users_with_mail() -> Result<Vec<u64>, BoxError> {
    Ok(Vec::new())
}

async fn send_mail(_user: u64) -> Result<(), BoxError> {
    Ok(())
}

async fn next_batch(_shard: ShardId, after: u64) -> Result<Vec<OrderEvent>, BoxError> {
    sleep(Duration::from_secs(1)).await;
    let position = after + 1;
    Ok(vec![OrderEvent { position }])
}

async fn handle(_event: &OrderEvent) -> Result<(), BoxError> {
    Ok(())
}

async fn keep(_price: PriceChanged, _cursor: Option<Cursor>) -> anyhow::Result<()> {
    Ok(())
}

async fn write_report() -> anyhow::Result<()> {
    Ok(())
}

/// 1. A scheduler on the leader only.
async fn scheduler(terminated: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let node = Node::builder("billing")
        .url("memory:")
        .shutdown_on(terminated)
        .start()
        .await?;
    node.election("scheduler")
        .run(async |term| {
            while term.tick(Duration::from_mins(1)).await {
                run_due_jobs().await?;
            }
            Ok(())
        })
        .await?;
    Ok(node.shutdown().await?)
}

const JOBS: Topic<Json<Job>> = Topic::new("jobs");

/// 2. A consumer of notifications on the leader only.
async fn consume(node: Node) -> Result<(), RunError> {
    node.election("job-consumer")
        .run(async |term| {
            let mut jobs = node.bus().subscribe(&JOBS).await?; // live from here on …
            run_queued_jobs().await?; // … so nothing slips in between
            while let Some(incoming) = term.until_drain(jobs.next()).await.flatten() {
                match incoming {
                    Incoming::Message(message) => run_job(message.payload.0).await?,
                    Incoming::Gap(_) => run_queued_jobs().await?,
                    Incoming::Malformed(bad) => {
                        log(&format!("{:?} sent rubbish: {}", bad.origin, bad.error));
                    }
                }
            }
            Ok(())
        })
        .await
}

/// Where a service has its log.
fn log(_text: &str) {}

/// 3. The dense layout: index and count, cut anew at each change of members.
async fn mail(node: Node) -> Result<(), RunError> {
    node.run_dense("mailer", |shard| async move {
        log(&format!("now shard {} of {}", shard.index(), shard.count()));
        while shard.tick(Duration::from_secs(1)).await {
            for user in users_with_mail().await? {
                if shard.owns(user.to_be_bytes()) {
                    send_mail(user).await?;
                }
            }
        }
        Ok(())
    })
    .await
}

/// 4. Fixed shards: a task each, drained on revoke, with a fenced checkpoint.
async fn run_orders(node: Node) -> Result<(), RunError> {
    let config = ShardConfig::new("orders", 256).drain_timeout(Duration::from_secs(20));
    node.run_shards(config, orders).await
}

async fn orders(shard: OwnedShard) -> WorkResult {
    let mut position: u64 = shard.load().await?.unwrap_or(0);
    while let Some(batch) = shard.until_drain(next_batch(shard.id(), position)).await {
        for event in batch? {
            handle(&event).await?;
            position = event.position; // the batch in hand is finished
        }
        shard.save(position).await?; // refused if someone else owns the shard by now
    }
    Ok(()) // the shard is dropped: that is the ack
}

const PRICES: Topic<Json<PriceChanged>> = Topic::new("prices");

/// 6. Typed broadcast, best effort: a gap empties the cache.
async fn keep_cache(bus: Bus, cache: Cache) -> Result<(), BusError> {
    let mut prices = bus.subscribe(&PRICES).others_only().await?;
    let changed = PriceChanged {
        sku: "4711".into(),
        cents: 999,
    };
    bus.publish(&PRICES, &Json(changed)).await?;
    while let Some(incoming) = prices.next().await {
        match incoming {
            Incoming::Message(message) => cache.remove(&message.payload.0.sku),
            Incoming::Gap(_) | Incoming::Malformed(_) => cache.clear(),
        }
    }
    Ok(())
}

/// 6. The same, durable, from a cursor that is kept with the data.
async fn follow(bus: Bus, saved: Option<Cursor>) -> anyhow::Result<()> {
    let start = saved.map_or(Start::Oldest, Start::After);
    let mut prices = bus.subscribe(&PRICES).start(start).await?;
    while let Some(incoming) = prices.next().await {
        match incoming {
            Incoming::Message(message) => keep(message.payload.0, message.cursor).await?,
            Incoming::Gap(gap) => anyhow::bail!("fell behind retention: {gap:?}"),
            Incoming::Malformed(bad) => anyhow::bail!("{:?} sent rubbish", bad.origin),
        }
    }
    Ok(())
}

/// 8. A lock by hand, for work that must not go on without it.
async fn report_once(node: Node) -> anyhow::Result<()> {
    let Some(held) = node.lock("nightly-report").try_acquire().await? else {
        return Ok(());
    };
    held.run(write_report()).await??; // dropped in mid-write if the lock is lost
    Ok(held.release().await?)
}

/// 8. A lock around a closure: its token goes with the write.
async fn charge(node: Node, account: i64) -> Result<bool, RunError> {
    node.lock(format!("account/{account}"))
        .run(async |held| {
            let _patience = held.trust_left();
            let fence = i64::from(held.token()?);
            Ok(fence > 0)
        })
        .await
}

/// 9. The backend at run time, from a URL; and mixed, with a level demanded.
async fn start_any() -> anyhow::Result<(Node, Node)> {
    let one = Node::builder("billing").url("memory:").start().await?;
    let (stores, messages) = (connect("memory:").await?, connect("memory:").await?);
    let mixed = Node::builder("billing")
        .backend(Backend {
            bus: messages.bus,
            ..stores
        })
        .require([Guarantee::NeverEvicts]);
    Ok((one, mixed.start().await?))
}

/// 14. On a signal: hand over to a named member, then leave.
async fn hand_over(
    node: Node,
    successor: MemberId,
    terminated: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let election = node.election("writer");
    let leave = async {
        terminated.await;
        if let Err(error) = election.transfer_to(&successor).await {
            log(&format!("resigning instead: {error}"));
        }
        anyhow::Ok(node.shutdown().await?) // drains what still runs, resigns, leaves
    };
    let run = async { anyhow::Ok(election.run(async |term| write(term).await).await?) };
    tokio::try_join!(run, leave).map(drop)
}

async fn write(term: coordinator_node::Leadership) -> WorkResult {
    while term.tick(Duration::from_secs(1)).await {}
    Ok(())
}

async fn half_a_minute() {
    sleep(Duration::from_secs(30)).await;
}

/// A node of its own on the store.
async fn start(store: &MemoryStore, name: &str) -> Result<Node, StartError> {
    let node = Node::builder("app").member(name);
    node.backend(store.connect(name)).start().await
}

/// Half a minute, after which every program must end because its node shuts down, and none of
/// them in an error. Spawned, because `Send` is lost easily and missed late.
#[tokio::test(start_paused = true)]
async fn each_program_runs_as_a_task_and_ends_with_its_node() {
    let store = MemoryStore::new();
    let node = start(&store, "one").await.unwrap();
    let mut programs: JoinSet<Result<(), BoxError>> = JoinSet::new();
    let run = node.clone();
    programs.spawn(async { Ok(scheduler(half_a_minute()).await?) });
    programs.spawn(async { Ok(consume(run).await?) });
    let run = node.clone();
    programs.spawn(async { Ok(mail(run).await?) });
    let run = node.clone();
    programs.spawn(async { Ok(run_orders(run).await?) });
    let run = node.bus();
    programs.spawn(async { Ok(keep_cache(run, Cache::default()).await?) });
    let run = node.clone();
    programs.spawn(async { Ok(report_once(run).await?) });
    let run = node.clone();
    programs.spawn(async { Ok(charge(run, 42).await.map(drop)?) });
    half_a_minute().await;
    node.shutdown().await.unwrap();
    let ended = timeout(Duration::from_mins(1), programs.join_all()).await;
    for ended in ended.expect("every program ends") {
        ended.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_hands_over_to_the_member_that_it_names() {
    let store = MemoryStore::new();
    let one = start(&store, "one").await.unwrap();
    let two = start(&store, "two").await.unwrap();
    let leaving = tokio::spawn(hand_over(one, two.id().clone(), half_a_minute()));
    sleep(Duration::from_secs(5)).await;
    let election = two.election("writer");
    let observer = election.observe();
    let led = tokio::spawn(async move { election.run(write).await });
    leaving.await.unwrap().unwrap();
    let term = observer.current().expect("somebody leads");
    assert_eq!(term.leader, *two.id());
    two.shutdown().await.unwrap();
    led.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_backend_comes_from_a_url_whole_or_in_parts() {
    let (one, mixed) = tokio::spawn(start_any()).await.unwrap().unwrap();
    one.shutdown().await.unwrap();
    mixed.shutdown().await.unwrap();
}

/// A durable bus is asked for what this one does not keep: an error, never a silent start at now.
#[tokio::test(start_paused = true)]
async fn a_bus_that_keeps_nothing_refuses_to_start_in_the_past() {
    let store = MemoryStore::new();
    let node = start(&store, "one").await.unwrap();
    let ended = tokio::spawn(follow(node.bus(), None)).await.unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("rejected"), "{error}");
    node.shutdown().await.unwrap();
}
