//! Private servers: stopped, crashed, suspended, promoted.

use std::time::Duration;

use coordinator_tests::servers::{Postgres, Stop};
use tokio::time::timeout;

use crate::support::{LONG, Tested, connect, value};

const COUNT: &str = "SELECT count(*) FROM t";

#[tokio::test]
async fn what_was_committed_survives_each_way_to_go_down() -> Tested {
    let Some(server) = Postgres::start(&[("work_mem", "5MB")]).await? else {
        return Ok(());
    };
    let client = connect(&server.url()).await?;
    assert_eq!(value(&client, "SHOW work_mem").await?, "5MB");
    client
        .batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        .await?;

    server.restart(Stop::Fast).await?;
    assert!(client.batch_execute(COUNT).await.is_err());
    let client = connect(&server.url()).await?;
    client.batch_execute("INSERT INTO t VALUES (2)").await?;

    server.restart(Stop::Immediate).await?;
    let client = connect(&server.socket_url()).await?;
    client.batch_execute("INSERT INTO t VALUES (3)").await?;

    server.crash().await?;
    assert!(connect(&server.url()).await.is_err());
    server.start_again().await?;
    let client = connect(&server.url()).await?;
    assert_eq!(value(&client, COUNT).await?, "3");
    assert!(
        server
            .log()
            .contains("database system was not properly shut down")
    );
    Ok(())
}

#[tokio::test]
async fn the_end_of_one_session_by_force_cuts_off_all_others() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let (victim, other) = (connect(&server.url()).await?, connect(&server.url()).await?);
    let process = value(&victim, "SELECT pg_backend_pid()").await?.parse()?;
    server.kill_session(process).await?;
    while other.batch_execute("SELECT 1").await.is_ok() {}
    // Not a process of the server: it is let be.
    assert!(server.kill_session(std::process::id()).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_suspended_server_is_silent_and_goes_on_where_it_was() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let client = connect(&server.url()).await?;
    server.freeze().await?;
    let answer = client.simple_query("SELECT 1");
    tokio::pin!(answer);
    assert!(
        timeout(Duration::from_millis(200), &mut answer)
            .await
            .is_err()
    );
    server.thaw().await?;
    timeout(LONG, answer).await??;
    // One that is suspended can be stopped as well.
    server.freeze().await?;
    Ok(server.stop(Stop::Fast).await?)
}

#[tokio::test]
async fn a_standby_follows_and_can_be_promoted() -> Tested {
    let Some(primary) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let client = connect(&primary.url()).await?;
    client.batch_execute("CREATE TABLE t (a int)").await?;
    let standby = Postgres::standby_of(&primary, primary.port(), &[]).await?;
    primary
        .set(&[("synchronous_standby_names", "standby")])
        .await?;
    client
        .batch_execute("SET synchronous_commit = remote_apply; INSERT INTO t VALUES (1)")
        .await?;

    let copy = connect(&standby.url()).await?;
    assert_eq!(value(&copy, "SELECT pg_is_in_recovery()").await?, "t");
    primary.crash().await?;
    standby.promote().await?;
    assert_eq!(value(&copy, "SELECT pg_is_in_recovery()").await?, "f");
    copy.batch_execute("INSERT INTO t VALUES (2)").await?;
    assert_eq!(value(&copy, COUNT).await?, "2");
    Ok(())
}

#[tokio::test]
async fn servers_of_one_run_are_of_one_system_but_those_that_are_unrelated() -> Tested {
    const IDENTIFIER: &str = "SELECT system_identifier FROM pg_control_system()";
    let mut found = Vec::new();
    let (one, other) = tokio::join!(Postgres::start(&[]), Postgres::start(&[]));
    for server in [one?, other?, Postgres::unrelated(&[]).await?] {
        let Some(server) = server else { return Ok(()) };
        found.push(value(&connect(&server.url()).await?, IDENTIFIER).await?);
    }
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
    Ok(())
}

#[tokio::test]
async fn nobody_enters_without_the_password() -> Tested {
    let Some(server) = Postgres::start(&[]).await? else {
        return Ok(());
    };
    let url = format!(
        "postgres://postgres:wrong@127.0.0.1:{}/postgres",
        server.port()
    );
    let refused = connect(&url).await.unwrap_err();
    assert!(format!("{refused:#}").contains("password"), "{refused:#}");
    Ok(())
}
