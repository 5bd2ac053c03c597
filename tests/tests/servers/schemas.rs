//! A schema of its own for each test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use coordinator_tests::servers::{Schema, fresh_schema};
use tokio_postgres::Client;

use crate::support::{LONG, Tested, connect, value};

async fn exists(client: &Client, schema: &str) -> anyhow::Result<bool> {
    let count = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'");
    Ok(value(client, &count).await? == "1")
}

async fn create(client: &Client, schema: &Schema) -> Tested {
    let name = schema.name();
    let create = format!("CREATE SCHEMA {name}; CREATE TABLE {name}.t (a int)");
    Ok(client.batch_execute(&create).await?)
}

#[tokio::test]
async fn a_schema_is_dropped_with_all_in_it_and_what_belongs_to_it() -> Tested {
    let Some(mut schema) = fresh_schema() else {
        return Ok(());
    };
    let client = connect(schema.url()).await?;
    create(&client, &schema).await?;
    let name = schema.name().to_owned();
    client.batch_execute(&format!("CREATE ROLE {name}")).await?;
    schema.afterwards(format!("DROP ROLE {name}"));
    assert!(exists(&client, &name).await?);
    drop(schema);
    assert!(!exists(&client, &name).await?);
    let roles = format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'");
    assert_eq!(value(&client, &roles).await?, "0");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failed_test_leaves_no_schema_behind_also_with_a_paused_clock() -> Tested {
    let Some(schema) = fresh_schema() else {
        return Ok(());
    };
    let url = schema.url().to_owned();
    let name = schema.name().to_owned();
    // A paused clock and a real socket do not go together: another thread talks.
    let ask = move |schema: Option<Schema>| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = connect(&url).await?;
            if let Some(schema) = &schema {
                create(&client, schema).await?;
            }
            exists(&client, &name).await.map(|there| (there, schema))
        })
    };
    let asked = ask.clone();
    let (there, schema) = std::thread::spawn(move || asked(Some(schema)))
        .join()
        .unwrap()?;
    assert!(there);
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let _schema = schema;
        panic!("as a failed assertion does");
    }));
    assert!(failed.is_err());
    let (there, _) = std::thread::spawn(move || ask(None)).join().unwrap()?;
    assert!(!there);
    Ok(())
}

#[tokio::test]
async fn a_session_that_was_left_behind_in_a_transaction_does_not_keep_the_schema() -> Tested {
    let Some(schema) = fresh_schema() else {
        return Ok(());
    };
    let client = connect(schema.url()).await?;
    create(&client, &schema).await?;
    let left = connect(schema.url()).await?;
    let name = schema.name().to_owned();
    left.batch_execute(&format!("BEGIN; INSERT INTO {name}.t VALUES (1)"))
        .await?;
    let began = Instant::now();
    drop(schema);
    assert!(began.elapsed() < LONG);
    assert!(!exists(&client, &name).await?);
    assert!(left.batch_execute("COMMIT").await.is_err());
    Ok(())
}
