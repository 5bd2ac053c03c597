//! No connection, or no server that will do.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use coordinator_node::StartError;
use coordinator_postgres::{ConnectError, PostgresConfig};
use coordinator_tests::servers::{PgBouncer, Pooling, Postgres, shared};
use tokio::net::TcpListener;

use super::fake::Fake;
use super::{SECRET, refusal, start_refusal};
use crate::kit::{Tested, connect};

/// The host and port of the shared server.
fn address(url: &str) -> &str {
    let host = url.rsplit('@').next().unwrap_or_default();
    host.split('/').next().unwrap_or_default()
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_database_say_where_to_look() -> Tested {
    let Some(url) = shared() else { return Ok(()) };
    let wrong = format!("postgres://nobody:{SECRET}@{}/postgres", address(&url));
    let (error, text) = refusal(wrong.as_str()).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(text.contains("check user, password"), "{text}");
    let (error, text) = start_refusal(&wrong).await;
    assert!(matches!(error, StartError::Connect(_)), "{error:?}");
    assert!(
        text.contains("nobody:***@") && text.contains("check user"),
        "{text}"
    );

    let (_, text) = refusal(format!("{}_none", url.trim_end_matches('/'))).await;
    assert!(text.contains("create the database"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_host_where_nothing_listens_and_one_that_says_nothing_are_told_soon() -> Tested {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = silent.local_addr()?.port();
    let url = format!("postgres://me:{SECRET}@127.0.0.1:{port}/db");
    let within = Duration::from_millis(500);
    let began = Instant::now();
    let (error, text) = refusal(PostgresConfig::new(&url).connect_timeout(within)).await;
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error:?}");
    assert!(
        error.is_transient() && text.contains(&port.to_string()),
        "{text}"
    );
    assert!(began.elapsed() < within * 4, "{:?}", began.elapsed());

    drop(silent);
    let (error, text) = refusal(url.as_str()).await;
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(text.contains("check that it runs"), "{text}");
    let (error, _) = refusal(format!("postgres://me:{SECRET}@no-such-host.invalid/db")).await;
    assert!(error.is_transient(), "{error:?}");
    Ok(())
}

/// A server that runs, and lets nobody in for the moment, is not called out of reach; and what it says is said once.
#[tokio::test]
async fn a_server_that_is_full_or_starting_up_says_so_once() -> Tested {
    let settings = [
        ("max_connections", "4"),
        ("superuser_reserved_connections", "0"),
    ];
    let Some(server) = Postgres::start(&settings).await? else {
        return Ok(());
    };
    let mut all = Vec::new();
    while let Ok(client) = connect(&server.url()).await {
        all.push(client);
        anyhow::ensure!(all.len() <= 10, "it has no limit");
    }
    let (error, text) = refusal(server.url()).await;
    assert!(matches!(error, ConnectError::NotNow { .. }), "{error:?}");
    assert!(
        error.is_transient() && text.contains("max_connections"),
        "{text}"
    );
    assert_eq!(text.matches("too many clients").count(), 1, "{text}");
    drop(all);

    let starting = Fake::that_refuses("57P03", "the database system is starting up").await?;
    let (error, text) = refusal(starting.url()).await;
    assert!(matches!(error, ConnectError::NotNow { .. }), "{error:?}");
    assert!(text.contains("wait until it takes connections"), "{text}");
    assert_eq!(text.matches("starting up (57P03)").count(), 1, "{text}");
    assert!(!text.contains("check that it runs"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_server_of_version_13_is_too_old() -> Tested {
    let fake = Fake::of_version(130_014, "13.14").await?;
    let (error, text) = refusal(fake.url()).await;
    assert!(matches!(error, ConnectError::TooOld { .. }), "{error:?}");
    assert!(
        text.contains("13.14") && text.contains("version 14 or later"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_breaks_off_or_talks_nonsense_is_no_panic() -> Tested {
    for nonsense in [
        b"".as_slice(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0xff; 64],
    ] {
        let fake = Fake::that_says(nonsense.to_vec()).await?;
        let (error, _) = refusal(fake.url()).await;
        assert!(error.is_transient(), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_text_that_is_no_url_and_a_value_that_is_none_are_told() {
    let (error, _) = refusal(format!("mysql://me:{SECRET}@h/db")).await;
    assert!(matches!(error, ConnectError::BadUrl { .. }), "{error:?}");
    let url = format!("postgres://me:{SECRET}@h/db");
    let (error, text) = refusal(PostgresConfig::new(&url).schema("Quoted Name")).await;
    assert!(matches!(error, ConnectError::BadSchema { .. }), "{error:?}");
    assert!(text.contains("Quoted Name"), "{text}");
    let (error, text) = refusal(PostgresConfig::new(&url).max_ttl(Duration::ZERO)).await;
    assert!(
        matches!(error, ConnectError::BadSetting { .. }),
        "{error:?}"
    );
    assert!(text.contains("max_ttl"), "{text}");
    let (_, text) = start_refusal(&format!("{url}?leases=perhaps")).await;
    assert!(text.contains("`advisory`, `row`"), "{text}");
}

/// L6, P7: behind a pooler in transaction mode session locks would strand; the error names the mode
/// that works.
#[tokio::test]
async fn l6_a_pooler_in_transaction_mode_is_refused_with_the_way_out() -> Tested {
    let Some(url) = shared() else { return Ok(()) };
    for settings in [
        [("default_pool_size", "2")],
        [("server_reset_query_always", "1")],
    ] {
        let Some(pooler) = PgBouncer::start(&url, Pooling::Transaction, &settings).await? else {
            return Ok(());
        };
        let (error, text) =
            refusal(PostgresConfig::new(pooler.url()).schema("t_refused_by_pooler")).await;
        assert!(matches!(error, ConnectError::Pooler { .. }), "{error:?}");
        assert!(text.contains("Leases::Row"), "{text}");
    }
    Ok(())
}
