//! The sessions of a member, as the server sees them.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use super::{LONG, Place, Tested, connect};

/// Those of the member that bears this name at the server.
const ALL: &str = "select pid from pg_stat_activity where application_name = $1";

/// The one that holds a lease.
const HOLDER: &str = "\
    select distinct l.pid from pg_locks l join pg_stat_activity a using (pid) \
    join {schema}.fence f on f.lock = (l.classid::bigint << 32) | l.objid::bigint \
    where a.application_name = $1 and l.locktype = 'advisory' and l.granted";

/// The one that holds other session locks alone: the witness. (Of its membership's lock C has a share.)
const WITNESS: &str = "\
    select distinct l.pid from pg_locks l join pg_stat_activity a using (pid) \
    where a.application_name = $1 and l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.granted and a.pid not in (\
        select l.pid from pg_locks l join {schema}.fence f \
        on f.lock = (l.classid::bigint << 32) | l.objid::bigint where l.locktype = 'advisory')";

/// How many stand in the server's own queue for a lease of the schema.
const WAITING: &str = "\
    select count(*) from pg_locks l join {schema}.fence f \
    on f.lock = (l.classid::bigint << 32) | l.objid::bigint \
    where l.locktype = 'advisory' and not l.granted";

/// Looks into the server, and ends sessions.
pub(crate) struct Sessions<'a> {
    pub(crate) client: Client,
    place: &'a Place,
    holder: String,
    witness: String,
}

impl<'a> Sessions<'a> {
    pub(crate) async fn of(place: &'a Place) -> Tested<Self> {
        Ok(Self {
            client: connect(place.server()).await?,
            place,
            holder: place.sql(HOLDER),
            witness: place.sql(WITNESS),
        })
    }

    pub(crate) async fn all(&self, member: &str) -> Tested<Vec<i32>> {
        self.found(ALL, member).await
    }

    /// L: the session that holds the lease.
    pub(crate) async fn holder(&self, member: &str) -> Tested<i32> {
        self.one(&self.holder, member).await
    }

    /// W, while it holds a lock.
    pub(crate) async fn witness(&self, member: &str) -> Tested<i32> {
        self.one(&self.witness, member).await
    }

    /// Waits until so many stand in the server's own queue for a lease, no more and no fewer.
    pub(crate) async fn until_waiting(&self, wanted: i64) -> Tested {
        let waiting = self.place.sql(WAITING);
        let search = async {
            loop {
                let count: i64 = self.client.query_one(&waiting, &[]).await?.get(0);
                if count == wanted {
                    return Ok(());
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, search)
            .await
            .with_context(|| format!("not {wanted} wait"))?
    }

    /// Ends these at one moment, as an administrator does.
    pub(crate) async fn terminate(&self, pids: &[i32]) -> Tested {
        let ended = "select pg_terminate_backend(pid) from unnest($1::int[]) as pid";
        self.client.query(ended, &[&pids]).await?;
        Ok(())
    }

    /// The one session that a query finds, as soon as there is one.
    async fn one(&self, query: &str, member: &str) -> Tested<i32> {
        let search = async {
            loop {
                match self.found(query, member).await?.first() {
                    Some(pid) => return Ok(*pid),
                    None => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(LONG, search).await.context("no such session")?
    }

    async fn found(&self, query: &str, member: &str) -> Tested<Vec<i32>> {
        let name = self.place.sessions_of(member);
        let rows = self.client.query(query, &[&name]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
