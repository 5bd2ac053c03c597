//! A server whose queue of notifications is full: somebody listens, and sits in a transaction. Whoever
//! notifies is refused from then on, in every database of the server.

use std::env;

use coordinator_node::{Bytes, Node, Topic};
use coordinator_tests::servers::{Postgres, Stop};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::kit::{
    LONG, Member, Place, Tested, Warnings, all_served, connect, first_of, got, ms, one_at_a_time,
    one_owner_each, reigns,
};

/// Servers before this version have a queue of 8 GB, and no setting for it.
const SETTABLE: i32 = 17_00_00;
/// Set, the queue of such servers is filled as well: 8 GB on the disk, in about a minute.
const ASKED: &str = "COORDINATOR_TEST_FULL_QUEUE";
/// Pages of the smallest queue that can be set.
const PAGES: &str = "64";

/// A server, and what keeps its queue full.
struct Full {
    server: Postgres,
    hog: Client,
    /// Pages that are filled at once.
    step: u32,
}

impl Full {
    /// Starts a server, if there is one whose queue may be filled. It is not full yet.
    async fn start() -> Tested<Option<Self>> {
        let Some(server) = Postgres::start(&[]).await? else {
            return Ok(None);
        };
        let hog = connect(&server.url()).await?;
        let row = hog
            .query_one("select current_setting('server_version_num')::int", &[])
            .await?;
        let is_settable = row.get::<_, i32>(0) >= SETTABLE;
        if is_settable {
            server.set(&[("max_notify_queue_pages", PAGES)]).await?;
            server.restart(Stop::Fast).await?;
        } else if env::var_os(ASKED).is_none() {
            println!("skipped: this server's queue has 8 GB, and {ASKED} is not set");
            return Ok(None);
        }
        let hog = connect(&server.url()).await?;
        let step = if is_settable { 2 } else { 500 };
        Ok(Some(Self { server, hog, step }))
    }

    /// In small steps: listeners are not told of what a commit that fails leaves in the queue, and would keep it full.
    async fn fill(&self) -> Tested {
        // Only a commit makes it a listener.
        self.hog.batch_execute("listen hog").await?;
        self.hog.batch_execute("begin; select 1").await?;
        let filler = connect(&self.server.url()).await?;
        filler.batch_execute("set synchronous_commit = off").await?;
        // A message takes more than half of a page, and so a whole one.
        let fill = format!(
            "do $$ begin loop \
                 perform pg_notify('hog', repeat('x', 5000) || i) from generate_series(1, {}) i; \
                 commit; \
             end loop; end $$",
            self.step
        );
        let filled = filler.batch_execute(&fill).await;
        let error = filled.expect_err("it is full some time");
        let said = error
            .as_db_error()
            .map(|error| error.code().code().to_owned());
        assert_eq!(said.as_deref(), Some("54000"), "{error:?}");
        Ok(())
    }

    /// Whoever notifies reads in its log who holds the queue up, and the query of the error finds it.
    async fn is_blamed(&self, place: &Place, refused: &str) -> Tested {
        let row = self.hog.query_one("select pg_backend_pid()", &[]).await?;
        let hog: i32 = row.get(0);
        let query = refused.split('`').find(|text| text.starts_with("select"));
        let query = query.ok_or_else(|| anyhow::anyhow!("no query in {refused}"))?;
        let found = connect(&self.server.url()).await?.query(query, &[]).await?;
        let found = found.first().map(|row| row.get::<_, i32>(0));
        assert_eq!(found, Some(hog), "{query}");

        let mut warnings = Warnings::listen();
        let node = Node::builder("g").url(place.url()).ttl(ms(1_000));
        let node = node.start().await?;
        let topic = Topic::<Bytes>::named("t".to_owned());
        node.bus().publish(&topic, &Bytes::new()).await.unwrap_err();
        let hog = format!("PID {hog} ");
        let warning = warnings.until(&["NOTIFY queue", &hog], LONG).await;
        println!("{warning}");
        node.shutdown().await?;
        Ok(())
    }

    /// Ends the transaction, and waits until all that was held up has been read.
    async fn empty(&self) -> Tested {
        self.hog.batch_execute("commit; unlisten *").await?;
        let mut usage = 1.0;
        while usage > 0.1 {
            sleep(ms(50)).await;
            let row = self
                .hog
                .query_one("select pg_notification_queue_usage()", &[])
                .await?;
            usage = row.get::<_, f64>(0);
        }
        Ok(())
    }
}

/// Leases, members and shards go on, by looking instead of by bells; so do durable messages; others are refused with
/// what to do, and work again when the queue does.
#[tokio::test]
async fn a_full_notification_queue_stops_nothing_but_messages_and_says_what_to_do() -> Tested {
    for (spill, leases) in [("overflow", "advisory"), ("always", "row")] {
        let Some(full) = Full::start().await? else {
            return Ok(());
        };
        let place = Place::on(&full.server)
            .with("spill", spill)
            .with("leases", leases)
            .with("max_ttl_seconds", "2");
        let works = ["lead x ttl=1000", "shards k 6"];
        let start = |name: &str| Member::start(name, &place.url(), ms(1_000), &works);
        let mut members = vec![start("a")?];
        members[0].until("elected x").await?;
        members[0].tell("subscribe t")?;
        members[0].until("subscribed t").await?;
        members.push(start("b")?);
        members[1].until("ready").await?;
        all_served(&mut members).await?;

        full.fill().await?;
        members[1].tell("publish t 1 each=1")?;
        if spill == "always" {
            members[1].until("accepted t 0").await?;
            members[0].until("got t b 0 ").await?;
        } else {
            let refused = members[1].until("published t 0 ").await?;
            println!("{}", refused.text);
            for wanted in ["nothing has happened", "NOTIFY queue", "pg_stat_activity"] {
                assert!(refused.text.contains(wanted), "{}", refused.text);
            }
            members[1].until("published t all, 1 failed").await?;
            full.is_blamed(&place, &refused.text).await?;
        }
        // One comes, and one leaves who leads and owns.
        members.push(start("c")?);
        members[2].until("ready").await?;
        members[0].tell("resign x")?;
        first_of(&mut members[1..], "elected x").await?;
        let mut left = members.remove(0);
        left.quit().await?;
        all_served(&mut members).await?;
        members.insert(0, left);

        full.empty().await?;
        members[2].tell("subscribe t")?;
        members[2].until("subscribed t").await?;
        members[1].tell("publish t 3 from=10")?;
        members[1].until("published t all, 0 failed").await?;
        members[2].until("got t b 12 ").await?;
        assert_eq!(got(&mut members[2], "t").await, [10, 11, 12]);
        one_at_a_time(&reigns(&mut members, "x").await, 2);
        one_owner_each(&mut members).await;
        for member in &mut members[1..] {
            assert_eq!(member.count("error").await, 0);
            member.quit().await?;
        }
    }
    Ok(())
}
