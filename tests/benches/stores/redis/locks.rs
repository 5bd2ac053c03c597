//! How long it takes to have a lock, and to have it next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use coordinator_core::{
    Acquisition, Backend, Claim, ClaimId, FencingToken, Instance, Key, LockBackend, MemberId,
    Release,
};
use coordinator_node::Node;
use coordinator_redis::RedisBackend;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Bench;
use super::raw::{Listener, connection, listener};
use crate::figure::{Figure, Target, Unit, middle};
use crate::nodes::{PATIENCE, shut_down};

const TTL: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_millis(700);
/// So many times in a round a lock goes from one to the other.
const TURNS: usize = 40;
/// How often it is looked whether the next one waits.
const LOOK: Duration = Duration::from_millis(1);

/// What anybody would write by hand: a lease by the server's clock, with a token that rises, and a word to whoever
/// watches.
const ACQUIRE: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = redis.call('HMGET', KEYS[1], 'token', 'expires')
if tonumber(known[2] or 0) > now then
  return { 'held', known[1], known[2] }
end
local token = string.format('%.0f', math.max(math.floor(now / 1000), tonumber(known[1] or 0) + 1))
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'instance', ARGV[2], 'token', token, 'expires', string.format('%.0f', now + ARGV[3]))
redis.call('PUBLISH', ARGV[4], 'taken ' .. token)
return { 'granted', token }";
const RELEASE: &str = "\
local known = redis.call('HMGET', KEYS[1], 'token', 'instance')
if known[1] ~= ARGV[2] or known[2] ~= ARGV[1] then
  return 'not_held'
end
redis.call('HSET', KEYS[1], 'expires', '0')
redis.call('PUBLISH', ARGV[3], 'free ' .. known[1])
return 'released'";

/// A lock written by hand.
struct ByHand {
    connection: MultiplexedConnection,
    acquire: String,
    release: String,
    instance: String,
    key: String,
    bell: String,
}

impl ByHand {
    async fn new(bench: &Bench, key: &str, instance: u128) -> anyhow::Result<Self> {
        let mut connection = connection(&bench.url()).await?;
        let mut load = async |script: &str| {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script);
            load.query_async(&mut connection).await
        };
        let (acquire, release) = (load(ACQUIRE).await?, load(RELEASE).await?);
        Ok(Self {
            connection,
            acquire,
            release,
            instance: format!("{instance:032x}"),
            key: key.to_owned(),
            bell: format!("{key}/bell"),
        })
    }

    async fn acquire(&self) -> anyhow::Result<String> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.acquire).arg(1).arg(&self.key).arg("bench");
        call.arg(&self.instance)
            .arg(TTL.as_micros().to_string())
            .arg(&self.bell);
        let answer: Vec<String> = call.query_async(&mut self.connection.clone()).await?;
        match &answer[..] {
            [granted, token] if granted == "granted" => Ok(token.clone()),
            other => anyhow::bail!("not granted: {other:?}"),
        }
    }

    async fn release(&self, token: &str) -> anyhow::Result<()> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.release).arg(1).arg(&self.key);
        call.arg(&self.instance).arg(token).arg(&self.bell);
        let answer: String = call.query_async(&mut self.connection.clone()).await?;
        anyhow::ensure!(answer == "released", "{answer}");
        Ok(())
    }
}

/// One who takes locks of a backend.
struct Ours {
    locks: Arc<dyn LockBackend>,
    key: Key,
    instance: Instance,
    attempts: u64,
}

impl Ours {
    async fn new(bench: &Bench, namespace: &str, instance: u128) -> anyhow::Result<Self> {
        let backend = RedisBackend::connect(bench.config(namespace)).await?;
        let locks = Backend::from(backend).locks.context("it has locks")?;
        let instance = Instance::from_random(instance);
        let key = Key::from("bench/lock/x");
        let attempts = 0;
        Ok(Self {
            locks,
            key,
            instance,
            attempts,
        })
    }

    fn claim(&mut self) -> Claim {
        self.attempts += 1;
        let id = ClaimId::new(self.attempts);
        Claim::new(
            self.key.clone(),
            MemberId::from("bench"),
            self.instance,
            id,
            TTL,
        )
    }

    async fn acquire(&self, claim: &Claim) -> anyhow::Result<FencingToken> {
        match self.locks.acquire(claim).await? {
            Acquisition::Granted(token) => Ok(token),
            Acquisition::HeldBy(holder) => anyhow::bail!("held by {holder:?}"),
        }
    }

    async fn release(&self, claim: &Claim, token: FencingToken) -> anyhow::Result<()> {
        let released = self.locks.release(claim, token, None).await?;
        anyhow::ensure!(released == Release::Released, "{released:?}");
        Ok(())
    }
}

/// Taken and given back, by one who is alone.
pub(super) async fn round_trip(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let by_hand = ByHand::new(bench, "raw/round", 1).await?;
    let mut ours = Ours::new(bench, "lock_round", 1).await?;
    let node = bench.node(bench.config("lock_node")).await?;
    let (mut of_backend, mut of_node) = (Vec::new(), Vec::new());
    for round in 0..=bench.rounds(9) {
        let raw = pairs(async || by_hand.release(&by_hand.acquire().await?).await).await?;
        let began = Instant::now();
        let mut count = 0;
        while began.elapsed() < ROUND {
            let claim = ours.claim();
            let token = ours.acquire(&claim).await?;
            ours.release(&claim, token).await?;
            count += 1;
        }
        let backend = began.elapsed().as_secs_f64() / f64::from(count);
        let lock = node.lock("x");
        let through = pairs(async || Ok(lock.acquire().await?.release().await?)).await?;
        if round > 0 {
            of_backend.push((raw, backend));
            of_node.push((raw, through));
        }
    }
    shut_down(vec![node]).await?;
    let (whole, target) = ("a lock taken and given back", Target::RatioAtMost(1.5));
    Ok(vec![
        Figure::paired(
            &format!("{whole}, through the backend; raw: two scripts by hand"),
            Unit::Seconds,
            &of_backend,
            target,
        ),
        Figure::paired(
            &format!("{whole}, through a node, trust, tasks and all"),
            Unit::Seconds,
            &of_node,
            Target::Nothing,
        ),
    ])
}

/// How long one takes, of as many as fit a round.
async fn pairs(mut pair: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < ROUND {
        pair().await?;
        count += 1;
    }
    Ok(began.elapsed().as_secs_f64() / f64::from(count))
}

/// From the release to the answer of who waited.
pub(super) async fn turn(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut raw = RawTurns::start(bench).await?;
    let mut backend = Turns::start(bench).await?;
    let first = bench.node(bench.config("turn_node")).await?;
    let second = bench.node(bench.config("turn_node")).await?;
    let line = Line::new(bench, "{turn_node:bench}:line:bench/lock/x").await?;
    let (mut of_backend, mut of_node) = (Vec::new(), Vec::new());
    for round in 0..=bench.rounds(7) {
        let raw = raw.round().await?;
        let ours = backend.round().await?;
        let through = through_nodes(&first, &second, &line).await?;
        if round > 0 {
            of_backend.push((raw, ours));
            of_node.push((raw, through));
        }
    }
    shut_down(vec![first, second]).await?;
    let what = "a lock's release to the one who waits";
    let target = Target::RatioAtMost(5.0);
    Ok(vec![
        Figure::paired(
            &format!(
                "{what}, through the backend; raw: a script that publishes, and one by whoever heard"
            ),
            Unit::Seconds,
            &of_backend,
            target,
        ),
        Figure::paired(
            &format!("{what}, through nodes, trust, tasks and all"),
            Unit::Seconds,
            &of_node,
            target,
        ),
    ])
}

/// One releases by a script that publishes; the other hears it, and takes the lock by a script.
struct RawTurns {
    first: ByHand,
    calls: mpsc::UnboundedSender<oneshot::Sender<anyhow::Result<(Instant, String)>>>,
    second: ByHand,
}

impl RawTurns {
    async fn start(bench: &Bench) -> anyhow::Result<Self> {
        let first = ByHand::new(bench, "raw/turn", 1).await?;
        let waiter = ByHand::new(bench, "raw/turn", 2).await?;
        let second = ByHand::new(bench, "raw/turn", 2).await?;
        let (rings, mut rung) = mpsc::unbounded_channel();
        let on = move |_: &str, payload: &[u8]| {
            if payload.starts_with(b"free") {
                rings.send(()).ok();
            }
        };
        let bell = [waiter.bell.clone()];
        let listening: Listener = listener(&bench.url(), &bell, on).await?;
        let (calls, mut called) = mpsc::unbounded_channel::<oneshot::Sender<_>>();
        tokio::spawn(async move {
            while let Some(answer) = called.recv().await {
                rung.recv().await;
                let taken = waiter.acquire().await;
                let taken = taken.map(|token| (Instant::now(), token));
                answer.send(taken).ok();
                // Its own release rings, too.
                rung.recv().await;
            }
            drop(listening);
        });
        Ok(Self {
            first,
            calls,
            second,
        })
    }

    async fn round(&mut self) -> anyhow::Result<f64> {
        let mut spans = Vec::new();
        for _ in 0..TURNS {
            let token = self.first.acquire().await?;
            let (answer, taken) = oneshot::channel();
            self.calls.send(answer)?;
            let began = Instant::now();
            self.first.release(&token).await?;
            let (at, token) = timeout(PATIENCE, taken).await???;
            spans.push(at.saturating_duration_since(began));
            self.second.release(&token).await?;
        }
        Ok(middle(&spans))
    }
}

/// The line of those who wait, as the backend keeps it.
struct Line {
    connection: MultiplexedConnection,
    key: String,
}

impl Line {
    async fn new(bench: &Bench, key: &str) -> anyhow::Result<Self> {
        Ok(Self {
            connection: connection(&bench.url()).await?,
            key: key.to_owned(),
        })
    }

    /// Until somebody waits.
    async fn is_taken(&self) -> anyhow::Result<()> {
        let mut connection = self.connection.clone();
        let waits = async {
            while connection.zcard::<_, usize>(&self.key).await? == 0 {
                sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, waits).await?
    }
}

/// The same by the backend: two processes' connections.
struct Turns {
    first: Ours,
    second: Ours,
    line: Line,
}

impl Turns {
    async fn start(bench: &Bench) -> anyhow::Result<Self> {
        Ok(Self {
            first: Ours::new(bench, "lock_turn", 1).await?,
            second: Ours::new(bench, "lock_turn", 2).await?,
            line: Line::new(bench, "{lock_turn:bench}:line:bench/lock/x").await?,
        })
    }

    async fn round(&mut self) -> anyhow::Result<f64> {
        let mut spans = Vec::new();
        for _ in 0..TURNS {
            let claim = self.first.claim();
            let token = self.first.acquire(&claim).await?;
            let waiting = self.second.claim();
            let locks = self.second.locks.clone();
            let wanted = waiting.clone();
            let taken = tokio::spawn(async move {
                locks.wait_turn(&wanted).await?;
                let taken = locks.acquire(&wanted).await?;
                anyhow::Ok((Instant::now(), taken))
            });
            self.line.is_taken().await?;
            let began = Instant::now();
            self.first.release(&claim, token).await?;
            let (at, taken) = timeout(PATIENCE, taken).await???;
            spans.push(at.saturating_duration_since(began));
            let Acquisition::Granted(token) = taken else {
                anyhow::bail!("not granted: {taken:?}");
            };
            self.second.release(&waiting, token).await?;
        }
        Ok(middle(&spans))
    }
}

/// The same by nodes.
async fn through_nodes(first: &Node, second: &Node, line: &Line) -> anyhow::Result<f64> {
    let mut spans = Vec::new();
    for _ in 0..TURNS {
        let guard = first.lock("x").acquire().await?;
        let lock = second.lock("x");
        let taken = tokio::spawn(async move {
            let guard = lock.acquire().await?;
            anyhow::Ok((Instant::now(), guard))
        });
        line.is_taken().await?;
        let began = Instant::now();
        guard.release().await?;
        let (at, guard) = timeout(PATIENCE, taken).await???;
        spans.push(at.saturating_duration_since(began));
        guard.release().await?;
    }
    Ok(middle(&spans))
}
