//! No connection, or no server that will do.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use coordinator_node::StartError;
use coordinator_redis::{ConnectError, RedisConfig};
use coordinator_tests::servers::Redis;
use tokio::net::TcpListener;

use super::fake::Fake;
use super::{SECRET, refusal, start_refusal};
use crate::kit::{CLIENTS, Place, Tested};

/// The URL for one of the clients.
fn with_client(url: &str, client: &str) -> String {
    match client {
        "redis" => url.to_owned(),
        other => format!("{url}?client={other}"),
    }
}

#[tokio::test]
async fn a_wrong_password_or_none_says_where_to_look() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    for client in CLIENTS {
        let place = Place::on(client, &server);
        for who in [
            format!(":{SECRET}@"),
            format!("nobody:{SECRET}@"),
            String::new(),
        ] {
            let wrong = place.at(&format!("redis://{who}127.0.0.1:{}", server.port()));
            let (error, text) = refusal(RedisConfig::from_url(&wrong)?).await;
            assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
            assert!(text.contains("password"), "{text}");
            assert!(!error.is_transient(), "{error:?}");
            let (error, text) = start_refusal(&wrong).await;
            assert!(matches!(error, StartError::Connect(_)), "{error:?}");
            assert!(text.contains("password"), "{text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_host_where_nothing_listens_and_one_that_says_nothing_are_told_soon() -> Tested {
    for client in CLIENTS {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = silent.local_addr()?.port();
        let url = with_client(&format!("redis://:{SECRET}@127.0.0.1:{port}"), client);
        let within = Duration::from_millis(500);
        let began = Instant::now();
        let (error, text) = refusal(RedisConfig::from_url(&url)?.connect_timeout(within)).await;
        assert!(
            matches!(
                error,
                ConnectError::Unreachable { .. } | ConnectError::Unusable { .. }
            ),
            "{error:?}"
        );
        assert!(
            error.is_transient() && text.contains(&port.to_string()),
            "{text}"
        );
        assert!(began.elapsed() < within * 4, "{:?}", began.elapsed());

        drop(silent);
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(
            matches!(error, ConnectError::Unreachable { .. }),
            "{error:?}"
        );
        assert!(text.contains("check that it runs"), "{text}");
        let nowhere = with_client(&format!("redis://:{SECRET}@no-such-host.invalid"), client);
        let (error, _) = refusal(RedisConfig::from_url(&nowhere)?).await;
        assert!(error.is_transient(), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_of_version_6_0_is_too_old() -> Tested {
    for client in CLIENTS {
        let fake = Fake::of_version("6.0.16").await?;
        let url = with_client(&fake.url(), client);
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(matches!(error, ConnectError::TooOld { .. }), "{error:?}");
        assert!(text.contains("6.0.16") && text.contains("6.2"), "{text}");
    }
    Ok(())
}

/// A server that reads its file says so to everybody until it has: whoever connects is told to come
/// again.
#[tokio::test]
async fn a_server_that_is_loading_is_transient_and_says_so() -> Tested {
    for client in CLIENTS {
        let words = "-LOADING Redis is loading the dataset in memory\r\n";
        let fake = Fake::that_answers(words).await?;
        let url = with_client(&fake.url(), client);
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(error.is_transient(), "{error:?}");
        assert!(text.contains("still loads its data: try again"), "{text}");
        assert!(matches!(error, ConnectError::Unusable { .. }), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_breaks_off_or_talks_nonsense_is_no_panic() -> Tested {
    for client in CLIENTS {
        for nonsense in [
            b"".as_slice(),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            &[0xff; 64],
        ] {
            let fake = Fake::that_says(nonsense.to_vec()).await?;
            let url = with_client(&fake.url(), client);
            let config = RedisConfig::from_url(&url)?.connect_timeout(Duration::from_secs(2));
            let (error, _) = refusal(config).await;
            assert!(error.is_transient(), "{error:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_text_that_is_no_url_and_a_value_that_is_none_are_told() {
    for url in [
        format!("mysql://me:{SECRET}@h"),
        format!("redis://:{SECRET}@h:port"),
        format!("redis://:{SECRET}@h?max_ttl_seconds=long"),
        format!("redis://:{SECRET}@h?no_such_word=1"),
    ] {
        let (_, text) = start_refusal(&url).await;
        println!("{text}");
    }
    let url = format!("redis://:{SECRET}@h");
    let (_, text) = refusal(RedisConfig::new(&url).max_ttl(Duration::ZERO)).await;
    assert!(text.contains("max_ttl"), "{text}");
}

/// What is there knows no scripts: it is not the user's fault, and waiting does not help.
#[tokio::test]
async fn a_server_that_lacks_a_command_is_no_refusal_of_the_user() -> Tested {
    let Some(server) = Redis::start(&[("rename-command", "EVALSHA \"\"")]).await? else {
        return Ok(());
    };
    for client in CLIENTS {
        let url = Place::on(client, &server).url();
        let (error, text) = refusal(RedisConfig::from_url(&url)?).await;
        assert!(matches!(error, ConnectError::Rejected { .. }), "{error:?}");
        assert!(text.contains("EVALSHA") && text.contains("proxy"), "{text}");
        assert!(!error.is_transient(), "{error:?}");
    }
    Ok(())
}
