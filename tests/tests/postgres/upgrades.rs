//! A rolling upgrade: processes of this build beside those of a newer one, whose steps have been applied to
//! the schema.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Beat, Bytes, Checkpoint, Claim, ClaimId, ClusterBus, FeedEvent,
    FencingToken, Frame, Group, Heartbeat, Instance, Join, Joined, Key, Keyspace, Lead, Load,
    MemberId, Position, Release, Renewal, Save, ShardId, Start, Swap, Swapped, Topic,
};
use coordinator_postgres::{Cursors, Leases, PostgresBackend, PostgresConfig, Spill};
use coordinator_tests::servers::{Schema, fresh_schema};
use tokio::time::timeout;

use crate::fixture::client;

const TTL: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(20);
const GROUP: &str = "fleet";

/// What a newer build may do to the schema: every table gets a column, and there are things that this build does not
/// know. A function of its own is made again under the same signature.
const NEWER: &str = "do $do$ declare one text; begin
        for one in select tablename from pg_catalog.pg_tables where schemaname = '{schema}' loop
            execute format('alter table {schema}.%I add column added_by_2 text not null default ''two''', one);
        end loop;
    end $do$;
    create table {schema}.of_version_2 (id uuid primary key, note text);
    create function {schema}.fence(the_key text, its_token bigint, its_note text) returns text
        language sql volatile as $$ select its_note $$;
    create or replace function {schema}.wall() returns bigint language sql volatile as $$
        select floor(extract(epoch from clock_timestamp()) * 1000)::bigint
    $$;
    insert into {schema}.history (version, program) values (2, 'a newer build');";

/// Processes of this build, which between them use every mode of the bus.
async fn processes(schema: &Schema, leases: Leases, migrate: bool) -> Vec<Backend> {
    let config = PostgresConfig::new(schema.url())
        .schema(schema.name())
        .leases(leases)
        .trust_empty_store(true)
        .migrate(migrate);
    let configs = [
        config.clone(),
        config.clone().spill(Spill::Never),
        config.clone().spill(Spill::Always),
        config.spill(Spill::Always).cursors(Cursors::Counter),
    ];
    let mut processes = Vec::new();
    for config in configs {
        let connected = PostgresBackend::connect(config).await;
        processes.push(Backend::from(connected.expect("it serves this build")));
    }
    processes
}

/// Uses every part once, under a name that was not used before.
async fn use_all(backend: &Backend, name: &str) {
    lease(backend, name).await;
    let epoch = member(backend, name).await;
    checkpoint(backend, name, epoch).await;
    message(backend.bus.as_ref().expect("a bus"), name).await;
}

async fn lease(backend: &Backend, name: &str) {
    let locks = backend.locks.as_ref().expect("locks");
    let instance = Instance::from_random(rand::random());
    let owner = MemberId::from(name);
    let claim = Claim::new(
        Key::from(name),
        owner.clone(),
        instance,
        ClaimId::new(1),
        TTL,
    );
    let Ok(Acquisition::Granted(token)) = locks.acquire(&claim).await else {
        panic!("{name} is free");
    };
    let renewal = locks.renew(&claim, token).await.expect("an answer");
    assert_eq!(renewal, Renewal::Renewed, "{name}");
    let holder = locks.holder(&claim.key).await.expect("an answer");
    assert_eq!(holder.map(|holder| holder.owner), Some(owner), "{name}");
    let release = locks.release(&claim, token, None).await;
    assert_eq!(release.expect("an answer"), Release::Released, "{name}");
}

async fn member(backend: &Backend, name: &str) -> FencingToken {
    let members = backend.members.as_ref().expect("members");
    let (group, id) = (Group::from(GROUP), MemberId::from(name));
    let instance = Instance::from_random(rand::random());
    let join = Join::new(group.clone(), id.clone(), instance, TTL);
    let Ok(Joined::Member { incarnation, .. }) = members.join(&join).await else {
        panic!("{name} joins");
    };
    let mut beat = Heartbeat::new(group.clone(), id.clone(), incarnation, 1, TTL);
    let mut profile = join.profile.clone();
    profile.keyspaces.insert(Keyspace::from(name));
    beat.profile = Some(profile);
    let answer = members.heartbeat(&beat).await.expect("an answer");
    assert!(matches!(answer, Beat::Alive { .. }), "{name}: {answer:?}");
    let snapshot = members.snapshot(&group).await.expect("an answer");
    assert!(snapshot.get(&id, incarnation).is_some(), "{name}");

    let assignments = backend.assignments.as_ref().expect("assignments");
    let keyspace = Keyspace::from(name);
    let token = FencingToken::new(1);
    let lead = assignments.lead(&group, &keyspace, token).await;
    assert!(matches!(lead, Ok(Lead::Led(None))), "{name}: {lead:?}");
    let document = Bytes::from_static(b"a document");
    let mut swap = Swap::new(group.clone(), keyspace.clone(), token, document.clone());
    members
        .leave(&group, &id, incarnation)
        .await
        .expect("an answer");
    swap.ended.push((id, incarnation));
    let Ok(Swapped::Stored(epoch)) = assignments.swap(&swap).await else {
        panic!("{name} is assigned");
    };
    let loaded = assignments.load(&group, &keyspace).await;
    let loaded = loaded.expect("an answer").expect("a document");
    assert_eq!((loaded.epoch, loaded.document), (epoch, document), "{name}");
    FencingToken::from(epoch)
}

async fn checkpoint(backend: &Backend, name: &str, token: FencingToken) {
    let checkpoints = backend.checkpoints.as_ref().expect("checkpoints");
    let (group, keyspace, shard) = (Group::from(GROUP), Keyspace::from(name), ShardId::new(3));
    let loaded = checkpoints.load(&group, &keyspace, shard, token).await;
    assert_eq!(loaded.expect("an answer"), Load::Loaded(None), "{name}");
    let position = Position::new("twelve");
    let save = Checkpoint::new(
        group.clone(),
        keyspace.clone(),
        shard,
        token,
        position.clone(),
    );
    let saved = checkpoints.save(&save.number(1)).await;
    assert_eq!(saved.expect("an answer"), Save::Saved, "{name}");
    let loaded = checkpoints.load(&group, &keyspace, shard, token).await;
    assert_eq!(
        loaded.expect("an answer"),
        Load::Loaded(Some(position)),
        "{name}"
    );
}

async fn message(bus: &Arc<dyn ClusterBus>, name: &str) {
    let topic = Topic::named(name);
    let feed = bus
        .subscribe(std::slice::from_ref(&topic), Start::Now)
        .await;
    let mut feed = feed.expect("a feed");
    // Whole, in fragments, and by reference, where the bus takes them.
    let limit = bus.capabilities().payload_limit.unwrap_or(usize::MAX);
    let instance = Instance::from_random(rand::random());
    for (sequence, size) in (1..).zip([10, 20_000, 200_000].map(|size: usize| size.min(limit))) {
        let payload = Bytes::from(vec![b'x'; size]);
        let frame = Frame::new(topic.clone(), MemberId::from("ann"), instance, payload);
        let frame = frame.sequence(sequence);
        let sent = bus.publish(std::slice::from_ref(&frame)).await;
        sent.expect("sent");
        let event = timeout(SOON, feed.next()).await.expect("an event in time");
        let Some(FeedEvent::Frame { frame: heard, .. }) = event else {
            panic!("{name}: {event:?}");
        };
        assert!(heard == frame, "{name}, {size} bytes");
    }
}

/// The processes that were there before go on, with every statement that their sessions have planned; and new ones of
/// this build begin, with and without the right to make a schema.
async fn serves(leases: Leases) {
    let Some(schema) = fresh_schema() else { return };
    let before = processes(&schema, leases, true).await;
    for (number, backend) in before.iter().enumerate() {
        use_all(backend, &format!("before {number}")).await;
    }
    let other = client(schema.url()).await;
    let name = schema.name();
    let sweep = format!("select gone, more from {name}.sweep(hashtextextended('{name}', 0), 0)");
    other.query_one(&sweep, &[]).await.expect("a sweep");
    let newer = NEWER.replace("{schema}", schema.name());
    other.batch_execute(&newer).await.expect("a newer step");
    for (number, backend) in before.iter().enumerate() {
        use_all(backend, &format!("beside {number}")).await;
    }
    for migrate in [true, false] {
        let after = processes(&schema, leases, migrate).await;
        for (number, backend) in after.iter().enumerate() {
            use_all(backend, &format!("after {number} {migrate}")).await;
        }
    }
    other.query_one(&sweep, &[]).await.expect("a sweep");
    let clean = format!("select {name}.log_clean(hashtextextended('{name}', 0), 0, false)");
    other.query_one(&clean, &[]).await.expect("a clean log");
    let versions = format!("select max(version) from {}.history", schema.name());
    let newest = other.query_one(&versions, &[]).await.expect("a version");
    assert_eq!(newest.get::<_, i32>(0), 2);
}

/// A newer schema serves this build, where leases are session locks.
#[tokio::test]
async fn a_newer_schema_serves_leases_by_session_lock() {
    serves(Leases::Advisory).await;
}

/// The same, where leases are rows.
#[tokio::test]
async fn a_newer_schema_serves_leases_by_row() {
    serves(Leases::Row).await;
}
