//! One server.

use std::time::Duration;

use coordinator_tests::servers::Redis;
use tokio::time::timeout;

use crate::support::{LONG, Tested};

async fn run_id(server: &Redis) -> anyhow::Result<String> {
    Ok(server.info("server", "run_id").await?)
}

#[tokio::test]
async fn what_it_knew_is_gone_after_a_restart_unless_it_is_to_remember() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let first = run_id(&server).await?;
    server.ask(&["SET", "a", "1"]).await?;
    server.restart().await?;
    assert_eq!(server.ask(&["GET", "a"]).await?.text(), "");
    let second = run_id(&server).await?;
    assert_ne!(first, second);

    server.ask(&["CONFIG", "SET", "appendonly", "yes"]).await?;
    server
        .until_info("persistence", "aof_rewrite_in_progress", "0")
        .await?;
    server.set(&[("appendonly", "yes")]).await?;
    server.ask(&["SET", "a", "2"]).await?;
    server.restart().await?;
    assert_eq!(server.ask(&["GET", "a"]).await?.text(), "2");
    server.stop().await?;
    assert!(server.ask(&["PING"]).await.is_err());
    server.start_again().await?;
    assert_eq!(server.ask(&["GET", "a"]).await?.text(), "2");
    assert_ne!(run_id(&server).await?, second);
    assert!(server.log().contains("Ready to accept connections"));
    Ok(())
}

#[tokio::test]
async fn a_suspended_server_is_silent_and_goes_on_where_it_was() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let before = run_id(&server).await?;
    server.freeze().await?;
    let other = server.clone();
    let answer = tokio::spawn(async move { run_id(&other).await });
    tokio::pin!(answer);
    let silent = timeout(Duration::from_millis(200), &mut answer).await;
    assert!(silent.is_err());
    server.thaw().await?;
    assert_eq!(timeout(LONG, answer).await???, before);
    // One that is suspended can be stopped as well.
    server.freeze().await?;
    Ok(server.stop().await?)
}

#[tokio::test]
async fn nobody_enters_without_the_password() -> Tested {
    let Some(server) = Redis::start(&[]).await? else {
        return Ok(());
    };
    let right = server.url();
    let wrong = right.replace(&server.password(), "wrong");
    let ask = |url: String| {
        tokio::task::spawn_blocking(move || {
            coordinator_servers::Talk::to(&url).and_then(|mut talk| talk.ask(&["PING"]))
        })
    };
    assert_eq!(ask(right).await??.text(), "PONG");
    let refused = ask(wrong).await?.unwrap_err().to_string();
    assert!(refused.contains("WRONGPASS"), "{refused}");
    let without = format!("redis://127.0.0.1:{}", server.port());
    let refused = ask(without).await?.unwrap_err().to_string();
    assert!(refused.contains("NOAUTH"), "{refused}");
    Ok(())
}
