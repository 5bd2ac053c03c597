//! Members, assignments and checkpoints.

use std::time::Duration;

use coordinator_core::{
    Backend, Beat, Bytes, Document, EndReason, Epoch, ErrorKind, FeedEvent, FencingToken, Frame,
    Group, Heartbeat, Incarnation, Instance, Join, Joined, Layout, MAX_MEMBERS, MemberId,
    MemberState, MembershipStore, Routing, Start, Swap, Swapped, Topic,
};
use coordinator_postgres::PostgresConfig;
use coordinator_tests::servers::{Schema, fresh_schema};
use futures_util::FutureExt;
use std::sync::Arc;
use tokio_postgres::Client;

use crate::fixture::{client, connect, store};

fn plain(config: PostgresConfig) -> PostgresConfig {
    config
}

coordinator_conformance::membership_store! { membership_store, store(plain).members() }
coordinator_conformance::assignment_store! { assignment_store, store(plain).planning() }
coordinator_conformance::checkpoint_store! { checkpoint_store, store(plain).checkpoints() }

const TTL: Duration = Duration::from_secs(10);

fn group() -> Group {
    Group::from("fleet")
}

fn request(name: &str) -> Join {
    let instance = Instance::from_bytes([7; 16]);
    Join::new(group(), MemberId::from(name), instance, TTL)
}

async fn backend(schema: &Schema) -> (Backend, Arc<dyn MembershipStore>, Client) {
    let backend = Backend::from(connect(schema, PostgresConfig::new(schema.url())).await);
    let members = backend.members.clone().expect("members");
    let client = client(schema.url()).await;
    (backend, members, client)
}

async fn join(members: &Arc<dyn MembershipStore>, name: &str) -> Incarnation {
    match members.join(&request(name)).await.expect("an answer") {
        Joined::Member { incarnation, .. } => incarnation,
        Joined::Taken(by) => panic!("taken by {by:?}"),
    }
}

/// A doorbell that rings for what is known already is no hint: C may answer with a change before W
/// hears of it.
#[tokio::test]
async fn a_bell_that_brings_nothing_new_is_no_hint() {
    let Some(schema) = fresh_schema() else { return };
    let (backend, members, client) = backend(&schema).await;
    join(&members, "one").await;
    let known = members.snapshot(&group()).await.expect("members").versions;
    let (group, bus) = (group(), backend.bus.clone().expect("a bus"));
    let mut changed = std::pin::pin!(members.changed(&group, known));
    // Listens, and has compared.
    let topic = Topic::new("after");
    let topics = [topic.clone()];
    let mut feed = tokio::select! {
        feed = bus.subscribe(&topics, Start::Now) => feed.expect("a feed"),
        answer = &mut changed => panic!("nothing has changed: {answer:?}"),
    };
    let ring = format!(
        "select {0}.ring('m', id) from {0}.member_group",
        schema.name()
    );
    client.batch_execute(&ring).await.expect("ring");
    // Behind the bell on the same channel.
    let instance = Instance::from_bytes([7; 16]);
    let frame = Frame::new(topic, MemberId::from("one"), instance, Bytes::new());
    bus.publish(&[frame]).await.expect("published");
    tokio::select! {
        event = feed.next() => assert!(matches!(event, Some(FeedEvent::Frame { .. })), "{event:?}"),
        answer = &mut changed => panic!("nothing has changed: {answer:?}"),
    }
    assert!(changed.as_mut().now_or_never().is_none());
    join(&members, "two").await;
    changed.await.expect("told of the change");
}

/// Clause 11 of members, S10: where the greatest group is made behind the store's back.
#[tokio::test]
async fn a_full_group_takes_nobody_more() {
    let Some(schema) = fresh_schema() else { return };
    let (_backend, members, client) = backend(&schema).await;
    join(&members, "first").await;
    let fill = format!(
        "insert into {0}.member select (jsonb_populate_record(m, jsonb_build_object('member_id', gen_random_uuid(), 'name', 'm' || i))).* \
         from {0}.member as m, generate_series(2, {MAX_MEMBERS}) as i",
        schema.name()
    );
    client.batch_execute(&fill).await.expect("rows");
    let refused = members.join(&request("one-more")).await;
    let refused = refused.expect_err("the group is full");
    assert_eq!(refused.kind(), ErrorKind::Rejected, "{refused}");
    let snapshot = members.snapshot(&group()).await.expect("an answer");
    assert_eq!(snapshot.live().count(), MAX_MEMBERS);
}

/// What the server counts of a table, once its statistics have come: updates, and those of them that were HOT.
async fn updates(client: &Client, schema: &Schema, least: i64) -> (i64, i64) {
    let count = "select n_tup_upd, n_tup_hot_upd from pg_catalog.pg_stat_user_tables \
        where schemaname = $1 and relname = 'member'";
    for _ in 0..200 {
        let row = client.query_one(count, &[&schema.name()]).await;
        let row = row.expect("statistics");
        let counted = (row.get(0), row.get(1));
        if counted.0 >= least {
            return counted;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no statistics of {least} updates");
}

/// G1: a heartbeat changes one row on its page, and no index, however long a member lives.
#[tokio::test]
async fn heartbeats_are_hot_updates() {
    const BEATS: i64 = 300;
    let Some(schema) = fresh_schema() else { return };
    let (backend, members, client) = backend(&schema).await;
    let mut lives = Vec::new();
    for name in ["a", "b", "c"] {
        lives.push((name, join(&members, name).await));
    }
    for beat in 1..=BEATS {
        for (name, life) in &lives {
            let number = u64::try_from(beat).expect("positive");
            let heartbeat = Heartbeat::new(group(), MemberId::from(*name), *life, number, TTL);
            let answer = members.heartbeat(&heartbeat).await.expect("an answer");
            assert!(matches!(answer, Beat::Alive { .. }), "{answer:?}");
        }
    }
    // A session tells its statistics when it is idle, or ends.
    drop((backend, members));
    let (all, hot) = updates(&client, &schema, 3 * BEATS).await;
    // Where another test's open transaction keeps the server from clearing a page that is full, one update goes to another
    // page, and those after it stay there again. With an index on what they change, none would be HOT.
    assert!(hot * 100 >= all * 80, "{hot} of {all} updates were HOT");
}

/// G7, clause 8: a tombstone outlasts its retention while a document names it, and goes when none does.
#[tokio::test]
async fn a_tombstone_stays_while_a_document_names_it() {
    let Some(schema) = fresh_schema() else { return };
    let (backend, members, client) = backend(&schema).await;
    let assignments = backend.assignments.clone().expect("assignments");
    let (named, unnamed) = (
        join(&members, "named").await,
        join(&members, "unnamed").await,
    );
    let token = FencingToken::new(1);
    let mut document = Document::new(token, Layout::Fixed { shards: 1 }, Routing::default());
    document.members.push((MemberId::from("named"), named));
    let bytes = document.encode().expect("a document");
    let mut swap = Swap::new(group(), "orders".into(), token, bytes);
    let Swapped::Stored(epoch) = assignments.swap(&swap).await.expect("an answer") else {
        panic!("not stored");
    };
    for (name, life) in [("named", named), ("unnamed", unnamed)] {
        members
            .leave(&group(), &MemberId::from(name), life)
            .await
            .expect("an answer");
    }
    let age = |table: &str, column: &str| {
        format!(
            "update {}.{table} set {column} = {column} - interval '2 hours';",
            schema.name()
        )
    };
    let older = age("member", "buried_at") + &age("member_group", "swept_at");
    client.batch_execute(&older).await.expect("older");
    join(&members, "other").await;
    let snapshot = members.snapshot(&group()).await.expect("an answer");
    let kept = snapshot
        .get(&MemberId::from("named"), named)
        .map(|member| member.state);
    let left = matches!(
        kept,
        Some(MemberState::Ended {
            reason: EndReason::Left,
            ..
        })
    );
    assert!(left, "{kept:?}");
    assert_eq!(snapshot.get(&MemberId::from("unnamed"), unnamed), None);

    swap.expected = Some(epoch);
    swap.document = Bytes::from_static(b"names nobody");
    let swapped = assignments.swap(&swap).await.expect("an answer");
    assert!(
        matches!(swapped, Swapped::Stored(later) if later > Epoch::new(0)),
        "{swapped:?}"
    );
    client
        .batch_execute(&age("member_group", "swept_at"))
        .await
        .expect("older");
    join(&members, "one-more").await;
    let snapshot = members.snapshot(&group()).await.expect("an answer");
    assert_eq!(snapshot.get(&MemberId::from("named"), named), None);
}

/// Clause 12: a change is heard in another process within a moment.
#[tokio::test]
async fn a_join_and_a_swap_are_heard_elsewhere() {
    let Some(schema) = fresh_schema() else { return };
    let (here, members, _) = backend(&schema).await;
    let (there, others, _) = backend(&schema).await;
    join(&members, "a").await;
    let known = others.snapshot(&group()).await.expect("an answer").versions;
    let heard = tokio::spawn({
        let others = others.clone();
        async move { others.changed(&group(), known).await }
    });
    let assigned = tokio::spawn(async move {
        let assignments = there.assignments.clone().expect("assignments");
        assignments.changed(&group(), &"orders".into(), None).await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        !heard.is_finished() && !assigned.is_finished(),
        "nothing has changed"
    );
    join(&members, "b").await;
    let limit = Duration::from_secs(5);
    let heard = tokio::time::timeout(limit, heard)
        .await
        .expect("heard in time");
    heard.expect("no panic").expect("an answer");
    let swap = Swap::new(group(), "orders".into(), FencingToken::new(1), Bytes::new());
    let assignments = here.assignments.clone().expect("assignments");
    assignments.swap(&swap).await.expect("an answer");
    let assigned = tokio::time::timeout(limit, assigned)
        .await
        .expect("heard in time");
    assigned.expect("no panic").expect("an answer");
}
