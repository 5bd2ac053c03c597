//! PgBouncer in front of the shared server.

use coordinator_tests::servers::{PgBouncer, Pooling, shared};

use crate::support::{Tested, connect, value};

const PROCESS: &str = "SELECT pg_backend_pid()";

#[tokio::test]
async fn in_transaction_mode_two_clients_share_a_session() -> Tested {
    let Some(url) = shared() else { return Ok(()) };
    let settings = [("default_pool_size", "1")];
    let Some(pooler) = PgBouncer::start(&url, Pooling::Transaction, &settings).await? else {
        return Ok(());
    };
    let (one, other) = (connect(&pooler.url()).await?, connect(&pooler.url()).await?);
    assert_eq!(value(&one, PROCESS).await?, value(&other, PROCESS).await?);
    Ok(())
}

#[tokio::test]
async fn in_session_mode_each_client_has_its_own() -> Tested {
    let Some(url) = shared() else { return Ok(()) };
    let Some(pooler) = PgBouncer::start(&url, Pooling::Session, &[]).await? else {
        return Ok(());
    };
    let (one, other) = (connect(&pooler.url()).await?, connect(&pooler.url()).await?);
    assert_ne!(value(&one, PROCESS).await?, value(&other, PROCESS).await?);
    Ok(())
}
