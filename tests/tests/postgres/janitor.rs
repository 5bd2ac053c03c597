//! What the janitor forgets, and what it keeps (K3). Time passes by moving every stamp and number of the
//! schema into the past.

use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Backend, Bytes, Claim, ClaimId, Document, Epoch, FencingToken, Group, Incarnation,
    Instance, Join, Joined, Key, Keyspace, Layout, Load, LockBackend, MemberId, Routing, ShardId,
    Swap, Swapped,
};
use coordinator_postgres::{Leases, PostgresConfig};
use coordinator_tests::servers::{Schema, fresh_schema};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use crate::fixture::{client, connect};

const TTL: Duration = Duration::from_secs(10);
const INSTANCE: Instance = Instance::from_bytes([7; 16]);
/// So many of a kind that one part of a round does not forget them all.
const MANY: i64 = 2_500;

/// Every table that grows with use.
const TABLES: [&str; 11] = [
    "assignment",
    "beat",
    "checkpoint",
    "claiming",
    "closing",
    "fence",
    "incarnation",
    "member",
    "member_group",
    "pulse",
    "row_lease",
];

/// Moves all that is stored so many milliseconds into the past.
const AGE: &str = "
    update {schema}.fence set token = greatest(1, token - {ms}), released_at = released_at - {span};
    update {schema}.closing set token = greatest(1, token - {ms});
    update {schema}.beat set token = greatest(1, token - {ms}), at = at - {span};
    update {schema}.pulse set at = at - {span};
    update {schema}.session_marker set at = at - {span};
    update {schema}.row_lease set token = greatest(1, token - {ms}), expires_at = expires_at - {span},
        released_at = released_at - {span};
    update {schema}.member set incarnation = incarnation - {ms}, expires_at = expires_at - {span},
        ended_at = ended_at - {span}, buried_at = buried_at - {span};
    update {schema}.incarnation set last = last - {ms};
    update {schema}.member_group set members = members - {ms}, reports = reports - {ms},
        swept_at = swept_at - {span};
    update {schema}.assignment set planner = greatest(1, planner - {ms}), epoch = epoch - {ms},
        changed_at = changed_at - {span}, named_lives = array(select l - {ms} from unnest(named_lives) as l);
    update {schema}.checkpoint set fence = greatest(1, fence - {ms}), saved_at = saved_at - {span};
    update {schema}.claiming set token = greatest(1, token - {ms});
    update {schema}.swept set at = at - {span};";

/// Processes whose own janitors do nothing while the test looks.
fn idle(schema: &Schema) -> PostgresConfig {
    PostgresConfig::new(schema.url()).clean_every(Duration::MAX)
}

/// A schema, and a client beside the backend.
struct Place {
    schema: Schema,
    client: Client,
    backend: Backend,
}

impl Place {
    async fn new() -> Option<Self> {
        let schema = fresh_schema()?;
        let backend = Backend::from(connect(&schema, idle(&schema)).await);
        let client = client(schema.url()).await;
        Some(Self {
            schema,
            client,
            backend,
        })
    }

    fn sql(&self, statement: &str) -> String {
        statement.replace("{schema}", self.schema.name())
    }

    async fn run(&self, statement: &str) {
        let done = self.client.batch_execute(&self.sql(statement)).await;
        done.expect("a statement of the test");
    }

    async fn age(&self, hours: u64) {
        let ms = (hours * 3_600_000).to_string();
        let span = format!("interval '{hours} hours'");
        let aged = AGE.replace("{ms}", &ms).replace("{span}", &span);
        self.run(&aged).await;
    }

    async fn count(&self, table: &str) -> i64 {
        let count = self.sql(&format!("select count(*) from {{schema}}.{table}"));
        let row = self.client.query_one(&count, &[]).await;
        row.expect("a count").get(0)
    }

    async fn counts(&self) -> Vec<(&'static str, i64)> {
        let mut counts = Vec::new();
        for table in TABLES {
            counts.push((table, self.count(table).await));
        }
        counts
    }

    /// Whole rounds, whatever the rhythm; says how many parts the last of them had.
    async fn sweep(&self) -> usize {
        let mut parts = 0;
        while sweep(&self.client, &self.schema, 0).await.1 {
            parts += 1;
        }
        parts + 1
    }

    /// Another kind of leases than before takes the schema over, as an operator may change it.
    async fn locks(&self, leases: Leases) -> Arc<dyn LockBackend> {
        let word = match leases {
            Leases::Advisory => "advisory",
            Leases::Row => "row",
        };
        self.run(&format!("update {{schema}}.identity set leases = '{word}'"))
            .await;
        let config = idle(&self.schema).leases(leases);
        let backend = Backend::from(connect(&self.schema, config).await);
        backend.locks.expect("locks")
    }

    async fn join(&self, group: &str, name: &str) -> Incarnation {
        let members = self.backend.members.as_ref().expect("members");
        let join = Join::new(Group::from(group), MemberId::from(name), INSTANCE, TTL);
        match members.join(&join).await.expect("an answer") {
            Joined::Member { incarnation, .. } => incarnation,
            Joined::Taken(by) => panic!("taken by {by:?}"),
        }
    }

    async fn leave(&self, group: &str, name: &str, life: Incarnation) {
        let members = self.backend.members.as_ref().expect("members");
        let (group, name) = (Group::from(group), MemberId::from(name));
        let left = members.leave(&group, &name, life).await;
        left.expect("an answer");
    }

    /// Assigns a keyspace by a document that names a life.
    async fn assign(&self, group: &str, keyspace: &str, name: &str, life: Incarnation) -> Epoch {
        let token = FencingToken::new(1);
        let mut document = Document::new(token, Layout::Fixed { shards: 4 }, Routing::default());
        document.members.push((MemberId::from(name), life));
        let bytes: Bytes = document.encode().expect("a document");
        let swap = Swap::new(Group::from(group), Keyspace::from(keyspace), token, bytes);
        let assignments = self.backend.assignments.as_ref().expect("assignments");
        match assignments.swap(&swap).await.expect("an answer") {
            Swapped::Stored(epoch) => epoch,
            other => panic!("not stored: {other:?}"),
        }
    }

    async fn claim_shard(&self, group: &str, keyspace: &str, token: FencingToken) {
        let checkpoints = self.backend.checkpoints.as_ref().expect("checkpoints");
        let (group, keyspace) = (Group::from(group), Keyspace::from(keyspace));
        let load = checkpoints.load(&group, &keyspace, ShardId::new(3), token);
        let loaded = load.await.expect("an answer");
        assert!(matches!(loaded, Load::Loaded(_)), "{loaded:?}");
    }

    /// Multiplies a fence row.
    async fn many_fences(&self, like: &str) {
        let fill = format!(
            "insert into {{schema}}.fence select (jsonb_populate_record(f, jsonb_build_object( \
                'id', gen_random_uuid(), 'key', 'many/' || i, 'lock', null))).* \
             from {{schema}}.fence as f, generate_series(1, {MANY}) as i where f.key = '{like}'"
        );
        self.run(&fill).await;
    }
}

/// The call of a part of a round. Tests share a database, so each has a lock of its own.
fn sweep_of(schema: &Schema, every: &str) -> String {
    let name = schema.name();
    format!("{name}.sweep(hashtextextended('{name}', 0), {every})")
}

/// A part of a round: how many rows went, and whether there is more.
async fn sweep(client: &Client, schema: &Schema, every: i64) -> (i64, bool) {
    let sweep = format!("select gone, more from {}", sweep_of(schema, "$1"));
    let row = client.query_one(&sweep, &[&every]).await;
    let row = row.expect("a sweep");
    (row.get(0), row.get(1))
}

fn claim(key: &str, id: u64) -> Claim {
    let owner = MemberId::from("a");
    Claim::new(Key::from(key), owner, INSTANCE, ClaimId::new(id), TTL)
}

async fn granted(locks: &Arc<dyn LockBackend>, claim: &Claim) -> FencingToken {
    match locks.acquire(claim).await.expect("an answer") {
        Acquisition::Granted(token) => token,
        Acquisition::HeldBy(by) => panic!("held by {by:?}"),
    }
}

/// K3: short-lived leases, members, groups and keyspaces leave nothing behind, by whichever end they came; and the next
/// numbers are higher than those that are forgotten.
#[tokio::test]
async fn tables_return_to_their_size() {
    let Some(place) = Place::new().await else {
        return;
    };
    let before = place.counts().await;
    let mut newest = FencingToken::new(0);
    for leases in [Leases::Advisory, Leases::Row] {
        let locks = place.locks(leases).await;
        for number in 0..20 {
            let claim = claim(&format!("{leases:?}/{number}"), 1);
            let token = granted(&locks, &claim).await;
            newest = newest.max(token);
            // Every other one is not released, and runs out.
            if number % 2 == 0 {
                let released = locks.release(&claim, token, None).await;
                released.expect("an answer");
            }
        }
    }
    place.many_fences("Row/0").await;
    place
        .run("insert into {schema}.pulse (id, at) select id, at from {schema}.beat limit 3")
        .await;
    for number in 0..25 {
        let group = format!("group {number}");
        let (leaves, expires) = (
            place.join(&group, "leaves").await,
            place.join(&group, "expires").await,
        );
        place.assign(&group, "orders", "leaves", leaves).await;
        place.leave(&group, "leaves", leaves).await;
        assert!(leaves <= expires);
    }
    let full = place.counts().await;

    // A day later every number is needed still.
    place.age(24).await;
    place.sweep().await;
    let later = place.counts().await;
    for ((table, was), (_, is)) in full.iter().zip(&later) {
        assert!(is == was || *table == "member", "{table}: {was}, {is}");
    }
    // Those who have expired are dead since the last round, so another day must pass.
    place.age(7 * 24).await;
    let parts = place.sweep().await;
    assert!(parts > 2, "{MANY} rows went in {parts} parts");
    place.age(24).await;
    place.sweep().await;
    assert_eq!(place.counts().await, before);

    let locks = place.locks(Leases::Row).await;
    assert!(granted(&locks, &claim("Row/0", 2)).await > newest);
}

/// K3, G7, U14: what lives, or a number that is needed, stays; so does what users have stored.
#[tokio::test]
async fn what_lives_or_is_needed_stays() {
    let Some(place) = Place::new().await else {
        return;
    };
    let rows = place.locks(Leases::Row).await;
    let sessions = place.locks(Leases::Advisory).await;
    for key in ["s/long", "s/unheard", "s/announced"] {
        granted(&sessions, &claim(key, 1)).await;
    }
    for key in ["s/released", "s/young"] {
        let claim = claim(key, 1);
        let token = granted(&sessions, &claim).await;
        let released = sessions.release(&claim, token, None).await;
        released.expect("an answer");
    }
    for key in ["r/long", "r/released"] {
        granted(&rows, &claim(key, 1)).await;
    }
    let life = place.join("living", "long").await;
    let epoch = place.assign("living", "orders", "long", life).await;
    let gone = place.join("dead", "gone").await;
    let positions = place.assign("dead", "positions", "gone", gone).await;
    place.leave("dead", "gone", gone).await;
    place
        .claim_shard("dead", "positions", FencingToken::from(positions))
        .await;
    place.age(9 * 24).await;
    place
        .run(
            // Living: heard just now, with tokens of nine days ago.
            "update {schema}.beat set at = clock_timestamp()
                where id in (select id from {schema}.fence where key = 's/long');
             update {schema}.row_lease set expires_at = clock_timestamp() + interval '10 s' where key = 'r/long';
             update {schema}.member set expires_at = clock_timestamp() + interval '10 s' where name = 'long';
             -- A crash has emptied the table of beats a moment ago.
             delete from {schema}.beat where id in (select id from {schema}.fence where key = 's/unheard');
             update {schema}.session_marker set at = clock_timestamp();
             -- Released a moment ago; and long ago, with a token of six days ago.
             update {schema}.fence set released_at = clock_timestamp() where key = 's/released';
             update {schema}.fence set token = {schema}.wall() - 518400000 where key = 's/young';
             update {schema}.beat set at = clock_timestamp()
                where id in (select id from {schema}.fence where key in ('s/released', 's/young'));
             -- A take-over is under way.
             update {schema}.closing set token = {schema}.wall() where key = 's/announced';
             insert into {schema}.closing (id, key, token) values (gen_random_uuid(), 's/first', {schema}.wall());
             -- Released, by a number that may have to be counted on.
             update {schema}.row_lease set released = true, released_at = clock_timestamp() - interval '3 days',
                token = {schema}.wall() - 518400000 where key = 'r/released';
             insert into {schema}.claiming (keyspace_id, shard, token)
                select keyspace_id, shard, fence + 1 from {schema}.checkpoint;
             insert into {schema}.log_floor (topic, xid, id, at)
                values (gen_random_uuid(), '1', 1, clock_timestamp() - interval '1 year');
             insert into {schema}.log_counter (topic, last) values (gen_random_uuid(), 7);",
        )
        .await;
    let full = place.counts().await;
    place.sweep().await;
    assert_eq!(place.counts().await, full);
    for table in ["log_floor", "log_counter"] {
        assert_eq!(place.count(table).await, 1, "{table}");
    }
    let assignments = place.backend.assignments.as_ref().expect("assignments");
    let stored = assignments
        .load(&Group::from("living"), &Keyspace::from("orders"))
        .await
        .expect("an answer");
    assert!(stored.is_some_and(|stored| stored.epoch < epoch));
}

/// I6: in quarantine nothing is forgotten, for holders may come back with what they had.
#[tokio::test]
async fn nothing_is_forgotten_in_quarantine() {
    let Some(place) = Place::new().await else {
        return;
    };
    let rows = place.locks(Leases::Row).await;
    granted(&rows, &claim("r/x", 1)).await;
    place.age(9 * 24).await;
    place
        .run("update {schema}.identity set memory = 'a server that is lost'")
        .await;
    assert_eq!(sweep(&place.client, &place.schema, 0).await, (0, false));
    place
        .run("update {schema}.identity set since = '-infinity'")
        .await;
    let (gone, _) = sweep(&place.client, &place.schema, 0).await;
    assert_eq!(gone, 3, "of row_lease, fence and closing");
}

/// A claim that has been made needs no announcement any more, however young.
#[tokio::test]
async fn announced_claims_go_when_they_are_made() {
    let Some(place) = Place::new().await else {
        return;
    };
    let life = place.join("g", "m").await;
    place.assign("g", "orders", "m", life).await;
    place.claim_shard("g", "orders", FencingToken::new(7)).await;
    for (announced, stays) in [(6, 0), (7, 0), (8, 1)] {
        let announce = format!(
            "select {{schema}}.announce_claim(keyspace_id, shard, {announced}) from {{schema}}.checkpoint"
        );
        place.run(&announce).await;
        place.sweep().await;
        assert_eq!(place.count("claiming").await, stays, "{announced}");
    }
}

/// Janitors of many processes: one at a time, nobody waits, and nothing is deleted twice; all together they do one round
/// in a span.
#[tokio::test]
async fn janitors_do_not_collide() {
    let Some(place) = Place::new().await else {
        return;
    };
    let rows = place.locks(Leases::Row).await;
    granted(&rows, &claim("r/x", 1)).await;
    place.many_fences("r/x").await;
    place.age(9 * 24).await;

    let mut first = client(place.schema.url()).await;
    let open = first.transaction().await.expect("a transaction");
    let part = format!("select gone from {}", sweep_of(&place.schema, "0"));
    let row = open.query_one(&part, &[]).await.expect("a sweep");
    let gone: i64 = row.get(0);
    assert!(gone > 0);
    let other = timeout(TTL, sweep(&place.client, &place.schema, 0)).await;
    assert_eq!(other.expect("it does not wait"), (0, false));
    open.commit().await.expect("a commit");

    let mut total = gone;
    let mut others = Vec::new();
    for _ in 0..4 {
        let client = client(place.schema.url()).await;
        let part = part.clone();
        others.push(tokio::spawn(async move {
            let mut gone = 0;
            for _ in 0..20 {
                let row = client.query_one(&part, &[]).await;
                gone += row.expect("a sweep").get::<_, i64>(0);
            }
            gone
        }));
    }
    for other in others {
        total += other.await.expect("no panic");
    }
    place.sweep().await;
    assert_eq!(place.count("fence").await, 0);
    // The fences, and the row and the announcement of the first of them.
    assert!(total <= MANY + 3, "{total} rows are said to be gone");

    granted(&rows, &claim("r/x", 2)).await;
    place.age(9 * 24).await;
    let span = 600_000;
    assert_eq!(sweep(&place.client, &place.schema, span).await.0, 3);
    granted(&rows, &claim("r/y", 1)).await;
    let old = "update {schema}.fence set token = 1; update {schema}.row_lease \
        set token = 1, expires_at = expires_at - interval '9 days'; update {schema}.closing set token = 1;";
    place.run(old).await;
    assert_eq!(sweep(&place.client, &place.schema, span).await.0, 0);
    // The server's clock was set back.
    place
        .run("update {schema}.swept set at = clock_timestamp() + interval '1 hour'")
        .await;
    assert_eq!(sweep(&place.client, &place.schema, span).await.0, 3);
}

/// F1: the janitor does not wait for a fenced transaction, and the transaction does not for the janitor.
#[tokio::test]
async fn a_row_that_a_transaction_holds_is_skipped() {
    let Some(place) = Place::new().await else {
        return;
    };
    let rows = place.locks(Leases::Row).await;
    for key in ["r/fenced", "r/free"] {
        granted(&rows, &claim(key, 1)).await;
    }
    place.age(9 * 24).await;
    let mut writer = client(place.schema.url()).await;
    let open = writer.transaction().await.expect("a transaction");
    let fence =
        place.sql("select {schema}.fence(key, token) from {schema}.fence where key = 'r/fenced'");
    open.query_one(&fence, &[]).await.expect("it is the newest");
    let swept = timeout(Duration::from_secs(5), place.sweep()).await;
    swept.expect("it does not wait");
    let kept = place.sql("select key from {schema}.fence");
    let kept = place.client.query(&kept, &[]).await.expect("rows");
    let kept: Vec<String> = kept.iter().map(|row| row.get(0)).collect();
    assert_eq!(kept, ["r/fenced"]);
    open.commit().await.expect("a commit");
    place.sweep().await;
    assert_eq!(place.count("fence").await, 0);
    assert_eq!(place.count("closing").await, 0);
}

/// Every process cleans up by itself; and a group that nobody joins or leaves, too.
#[tokio::test]
async fn each_process_cleans_up() {
    let Some(place) = Place::new().await else {
        return;
    };
    let rows = place.locks(Leases::Row).await;
    granted(&rows, &claim("r/x", 1)).await;
    place.join("g", "expires").await;
    place.age(9 * 24).await;
    let config = PostgresConfig::new(place.schema.url())
        .leases(Leases::Row)
        .clean_every(Duration::from_millis(100));
    let cleaner = connect(&place.schema, config).await;
    let limit = Instant::now() + Duration::from_secs(20);
    while place.count("fence").await > 0 || dead(&place).await == 0 {
        assert!(Instant::now() < limit, "{:?}", place.counts().await);
        sleep(Duration::from_millis(50)).await;
    }
    drop(cleaner);
}

/// Our own pool leads to the host that let our sessions in, whichever of the URL's that is.
#[tokio::test]
async fn a_process_cleans_up_at_whichever_host_lets_it_in() {
    let Some(place) = Place::new().await else {
        return;
    };
    place.join("g", "expires").await;
    place.age(9 * 24).await;
    let url = place.schema.url();
    let at = url.rfind('@').map_or(0, |at| at + 1);
    // Nobody listens there.
    let url = format!("{}127.0.0.1:1,{}", &url[..at], &url[at..]);
    let config = PostgresConfig::new(url).clean_every(Duration::from_millis(100));
    let cleaner = connect(&place.schema, config).await;
    let limit = Instant::now() + Duration::from_secs(20);
    while dead(&place).await == 0 {
        assert!(Instant::now() < limit, "{:?}", place.counts().await);
        sleep(Duration::from_millis(50)).await;
    }
    drop(cleaner);
}

/// How many tombstones there are, of those who were long due.
async fn dead(place: &Place) -> i64 {
    place.count("member where reason = 'expired'").await
}
