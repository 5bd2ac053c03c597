//! Fenced writes: F1, C2, K3.

use coordinator_core::{
    Acquisition, Backend, Bytes, Claim, ClaimId, FencingToken, Group, Held, HeldShard, Instance,
    Key, Keyspace, Lease, Load, Lost, LostCause, MemberId, Position, Release, Save, ShardId,
    StoreId, Swap, Swapped,
};
use coordinator_redis::{FenceError, RedisBackend};
use coordinator_servers::Talk;
use coordinator_tests::servers::redis::{Space, fresh_space};
use std::time::Duration;

use crate::fixture::{CLIENTS, Change, connect};

/// A guard, as a node gives them.
#[derive(Debug, Clone)]
struct Guard {
    lease: Result<Lease, Lost>,
    keyspace: Keyspace,
    shard: ShardId,
}

impl Held for Guard {
    fn lease(&self) -> Result<&Lease, Lost> {
        self.lease.as_ref().map_err(Clone::clone)
    }
}

impl HeldShard for Guard {
    fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    fn shard(&self) -> ShardId {
        self.shard
    }
}

fn guard(key: Key, token: FencingToken, store: &StoreId) -> Guard {
    Guard {
        lease: Ok(Lease::new(key, MemberId::from("m"), token, store.clone())),
        keyspace: Keyspace::from("orders/eu"),
        shard: ShardId::new(3),
    }
}

fn group() -> Group {
    Group::from("fl/ee%t")
}

fn ledger() -> Key {
    Key::scoped(&group(), "lock", "ledger")
}

/// A namespace, its backend, and a client of the application.
struct Place {
    backend: RedisBackend,
    parts: Backend,
    talk: Talk,
    tag: String,
    _space: Space,
}

impl Place {
    async fn new(client: Change) -> Option<Self> {
        let space = fresh_space()?;
        let backend = connect(client, &space).await;
        Some(Self {
            tag: backend.hash_tag(&ledger()),
            parts: Backend::from(backend.clone()),
            backend,
            talk: Talk::to(space.url()).expect("a connection"),
            _space: space,
        })
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }

    fn ask(&mut self, command: &[&str]) -> String {
        self.talk.ask(command).expect("an answer").text()
    }

    /// Grants the lease to another, and takes it back again.
    async fn grant(&self, number: u64) -> FencingToken {
        let instance = Instance::from_bytes([7; 16]);
        let ttl = Duration::from_secs(5);
        let claim = Claim::new(ledger(), "m".into(), instance, ClaimId::new(number), ttl);
        let locks = self.parts.locks.as_ref().expect("locks");
        let Acquisition::Granted(token) = locks.acquire(&claim).await.expect("an answer") else {
            panic!("it is free");
        };
        let released = locks.release(&claim, token, None).await;
        assert_eq!(released.expect("an answer"), Release::Released);
        token
    }

    fn guard(&self, key: Key, token: FencingToken) -> Guard {
        guard(key, token, &self.backend.store())
    }

    /// The guard of shard 3 of a keyspace with a name that needs care.
    fn shard(&self, token: u64) -> Guard {
        let key = Key::scoped(&group(), "shard", "orders/eu/3");
        self.guard(key, FencingToken::new(token))
    }

    /// A keyspace has a document before anybody owns a shard of it.
    async fn plan(&self) {
        let token = FencingToken::new(1);
        let swap = Swap::new(
            group(),
            "orders/eu".into(),
            token,
            Bytes::from_static(b"plan"),
        );
        let store = self.parts.assignments.as_ref().expect("assignments");
        let swapped = store.swap(&swap).await.expect("an answer");
        assert!(matches!(swapped, Swapped::Stored(_)), "{swapped:?}");
    }
}

/// F1: what the newest holder writes is written, all at once; what an older one writes is not.
#[tokio::test]
async fn only_the_newest_token_writes() {
    for client in CLIENTS {
        let Some(mut place) = Place::new(client).await else {
            return;
        };
        let (text, map, jobs) = (place.key("text"), place.key("map"), place.key("jobs"));
        let old = place.grant(1).await;
        let (backend, store) = (place.backend.clone(), place.backend.store());
        let write = async |token, value: &str| {
            let writes = backend.fenced(&guard(ledger(), token, &store));
            let writes = writes
                .set(&text, value)
                .hset(&map, [("a", value), ("b", "x")]);
            writes.xadd(&jobs, [("job", value)]).apply().await
        };
        let ids = write(old, "one").await.expect("it is the newest");
        assert_eq!(ids.len(), 1);
        let new = place.grant(2).await;
        let refused = write(old, "late").await;
        assert!(
            matches!(&refused, Err(FenceError::Refused { token, higher, .. }) if (*token, *higher) == (old, new)),
            "{refused:?}"
        );
        assert_eq!(place.ask(&["GET", &text]), "one");
        assert_eq!(place.ask(&["HGET", &map, "a"]), "one");
        assert_eq!(place.ask(&["XLEN", &jobs]), "1");
        write(new, "two").await.expect("it is the newest");
        assert_eq!(place.ask(&["GET", &text]), "two");
        assert_eq!(place.ask(&["XLEN", &jobs]), "2");
    }
}

/// D3: a grant that a fail-over has lost still shuts out older ones, once it has written; and the next grant exceeds it.
#[tokio::test]
async fn a_token_that_the_store_has_lost_refuses_older_ones_once_it_has_written() {
    for client in CLIENTS {
        let Some(place) = Place::new(client).await else {
            return;
        };
        let text = place.key("text");
        let old = place.grant(1).await;
        let lost = FencingToken::new(old.get() + 3_600_000);
        let write = async |token| {
            let writes = place.backend.fenced(&place.guard(ledger(), token));
            writes.set(&text, "x").apply().await
        };
        write(lost)
            .await
            .expect("nobody is known to have come later");
        let refused = write(old).await;
        assert!(
            matches!(refused, Err(FenceError::Refused { higher, .. }) if higher == lost),
            "{refused:?}"
        );
        assert!(place.grant(2).await > lost);
    }
}

/// K3: a store that knows nothing of the lease refuses.
#[tokio::test]
async fn a_lease_that_the_store_does_not_know_writes_nothing() {
    for client in CLIENTS {
        let Some(mut place) = Place::new(client).await else {
            return;
        };
        let text = place.key("text");
        let guard = place.guard(ledger(), FencingToken::new(u64::from(u32::MAX)));
        let refused = place.backend.fenced(&guard).set(&text, "x").apply().await;
        assert!(
            matches!(refused, Err(FenceError::NoRow { .. })),
            "{refused:?}"
        );
        let refused = place
            .backend
            .fenced(&place.shard(9))
            .set(&text, "x")
            .apply()
            .await;
        assert!(
            matches!(refused, Err(FenceError::NoRow { .. })),
            "{refused:?}"
        );
        assert_eq!(place.ask(&["EXISTS", &text]), "0");
    }
}

/// A script is not undone: what cannot be written is found before anything is.
#[tokio::test]
async fn a_key_of_another_type_stops_the_whole_batch() {
    for client in CLIENTS {
        let Some(mut place) = Place::new(client).await else {
            return;
        };
        let (text, list) = (place.key("text"), place.key("list"));
        place.ask(&["RPUSH", &list, "x"]);
        let token = place.grant(1).await;
        let writes = place.backend.fenced(&place.guard(ledger(), token));
        let refused = writes
            .set(&text, "x")
            .hset(&list, [("a", "b")])
            .apply()
            .await;
        let Err(FenceError::WrongType { written, found }) = refused else {
            panic!("written: {refused:?}");
        };
        assert_eq!((written, found.as_str()), (list, "list"));
        assert_eq!(place.ask(&["EXISTS", &text]), "0");
    }
}

/// C2: a shard's fence claims, and its position moves together with what the work writes.
#[tokio::test]
async fn a_shard_is_claimed_and_its_position_saved_with_the_writes() {
    for client in CLIENTS {
        let Some(mut place) = Place::new(client).await else {
            return;
        };
        place.plan().await;
        let text = place.key("text");
        let (old, new) = (place.shard(5), place.shard(8));
        let backend = place.backend.clone();
        let write = async |guard: &Guard, position: u64| {
            let writes = backend.fenced_with_position(guard, position);
            writes.set(&text, position.to_string()).apply().await
        };
        write(&old, 10).await.expect("nobody is newer");
        let store = place.parts.checkpoints.clone().expect("checkpoints");
        let (keyspace, shard) = (Keyspace::from("orders/eu"), ShardId::new(3));
        let loaded = store
            .load(&group(), &keyspace, shard, FencingToken::new(7))
            .await;
        assert_eq!(
            loaded.expect("an answer"),
            Load::Loaded(Some(Position::new("10")))
        );
        let refused = write(&old, 11).await;
        assert!(
            matches!(refused, Err(FenceError::Refused { .. })),
            "{refused:?}"
        );
        write(&new, 12).await.expect("nobody is newer");
        let late = coordinator_core::Checkpoint::new(
            group(),
            keyspace,
            shard,
            FencingToken::new(7),
            Position::new("13"),
        );
        let save = store.save(&late).await.expect("an answer");
        assert_eq!(
            save,
            Save::Fenced {
                by: Some(FencingToken::new(8))
            }
        );
        assert_eq!(place.ask(&["GET", &text]), "12");
    }
}

/// A lease that is lost, or another store's, is refused before the store is asked.
#[tokio::test]
async fn a_lost_or_foreign_lease_writes_nothing() {
    for client in CLIENTS {
        let Some(place) = Place::new(client).await else {
            return;
        };
        let token = place.grant(1).await;
        let mut guard = place.guard(ledger(), token);
        guard.lease = Err(Lost::new(ledger(), LostCause::Expired));
        let refused = place.backend.fenced(&guard).set("x", "x").apply().await;
        assert!(matches!(refused, Err(FenceError::Lost(_))), "{refused:?}");
        guard.lease = Ok(Lease::new(
            ledger(),
            "m".into(),
            token,
            StoreId::from("redis:other"),
        ));
        let refused = place.backend.fenced(&guard).set("x", "x").apply().await;
        assert!(
            matches!(refused, Err(FenceError::OtherStore { .. })),
            "{refused:?}"
        );
    }
}
