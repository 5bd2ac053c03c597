//! Servers that only read.

use std::time::Duration;

use coordinator_postgres::{ConnectError, PostgresBackend};
use coordinator_tests::servers::{Postgres, Stop};
use tokio::time::timeout;

use super::refusal;
use crate::kit::{LONG, Member, Place, Tested, first_of, ms, one_at_a_time, reigns};

#[tokio::test]
async fn a_read_replica_is_refused_and_says_so() -> Tested {
    let Some(primary) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let standby = Postgres::standby_of(&primary, primary.port(), &[]).await?;
    let (error, text) = refusal(standby.url()).await;
    assert!(matches!(error, ConnectError::ReadOnly { .. }), "{error:?}");
    assert!(
        error.is_transient() && text.contains("connect to the primary"),
        "{text}"
    );

    // Named beside its primary, in whichever order, it is passed over.
    let credentials = primary.url();
    let credentials = credentials
        .rsplit_once('@')
        .map_or("", |(credentials, _)| credentials);
    for (one, other) in [(&standby, &primary), (&primary, &standby)] {
        let url = format!(
            "{credentials}@127.0.0.1:{},127.0.0.1:{}/postgres",
            one.port(),
            other.port()
        );
        timeout(LONG, PostgresBackend::connect(url.as_str())).await??;
    }
    Ok(())
}

/// A primary that is demoted under its leader: the leader steps down by its own clock, nobody leads
/// on a server that only reads, and one leads when it is a primary again.
#[tokio::test]
async fn a_demoted_primary_is_stepped_down_from() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let place = Place::on(&server).with("max_ttl_seconds", "2");
    let ttl = Duration::from_secs(1);
    let start = |name: &str| Member::start(name, &place.url(), ttl, &["lead x ttl=1000"]);
    let mut members = vec![start("a")?];
    members[0].until("elected x").await?;
    members.push(start("b")?);
    members[1].until("ready").await?;

    server.stop(Stop::Fast).await?;
    server.write("standby.signal", "")?;
    server.start_again().await?;
    members[0].until("lost x").await?;
    for member in &mut members {
        member.listen(ms(1_500)).await;
        assert_eq!(member.count("error").await, 0);
    }
    assert_eq!(members[1].count("elected x").await, 0);
    server.promote().await?;
    first_of(&mut members, "elected x").await?;
    one_at_a_time(&reigns(&mut members, "x").await, 2);
    for member in &mut members {
        member.quit().await?;
    }
    Ok(())
}
