//! The objects in our schema: made by embedded steps with a history of their own.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tracing::{info, warn};

use crate::config::{Leases, PostgresConfig};
use crate::error::{ConnectError, server_message};
use crate::names::Schema;

/// The version that this build needs. A newer one is fine: steps only add (the rules are in the crate's README).
pub(crate) const VERSION: i32 = 1;

/// A step: its version, and its files in order.
type Step = (i32, &'static [&'static str]);

const STEPS: &[Step] = &[(
    1,
    &[
        include_str!("../sql/0001/00_base.sql"),
        include_str!("../sql/0001/05_bells.sql"),
        include_str!("../sql/0001/10_locks.sql"),
        include_str!("../sql/0001/15_row_leases.sql"),
        include_str!("../sql/0001/20_members.sql"),
        include_str!("../sql/0001/25_deaths.sql"),
        include_str!("../sql/0001/30_assignments.sql"),
        include_str!("../sql/0001/40_checkpoints.sql"),
        include_str!("../sql/0001/50_bus.sql"),
        include_str!("../sql/0001/50_fences.sql"),
        include_str!("../sql/0001/55_log_kept.sql"),
        include_str!("../sql/0001/60_janitor.sql"),
    ],
)];

/// The statements that make the schema, for whoever may run them: give them to `psql`.
///
/// # Errors
/// [`ConnectError::BadSchema`].
pub fn migration_sql(config: &PostgresConfig) -> Result<String, ConnectError> {
    let schema = Schema::new(&config.schema)?;
    let mut text = format!(
        "begin;\n{};\n",
        schema.sql("create schema if not exists {schema}")
    );
    for step in STEPS {
        text.push_str(&statements(&schema, config, step));
        text.push('\n');
        text.push_str(&noted(&schema, step.0));
        text.push_str(";\n");
    }
    text.push_str("commit;\n");
    Ok(text)
}

fn statements(schema: &Schema, config: &PostgresConfig, step: &Step) -> String {
    let text = schema.sql(&step.1.join("\n"));
    text.replace("{max_ttl}", &config.max_ttl.as_millis().to_string())
        .replace("{leases}", config.leases.word())
        .replace("{known_new}", &known_new(schema, config))
}

/// I5: what tells a schema that is new from one that was dropped under processes that live. Witnesses share the
/// fleet's lock, which outlives the schema. Rows are for poolers, behind which there are no witnesses.
fn known_new(schema: &Schema, config: &PostgresConfig) -> String {
    match config.leases {
        _ if config.trust_empty_store => "true".to_owned(),
        Leases::Row => "false".to_owned(),
        Leases::Advisory => {
            format!("pg_catalog.pg_try_advisory_xact_lock({})", schema.fleet())
        }
    }
}

fn noted(schema: &Schema, version: i32) -> String {
    let program = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    schema.sql(&format!(
        "insert into {{schema}}.history (version, program) values ({version}, '{program}')"
    ))
}

/// Makes the schema what this build needs, or finds that it is. Safe from many processes at once.
pub(crate) async fn prepare(
    client: &Client,
    schema: &Schema,
    config: &PostgresConfig,
) -> Result<(), ConnectError> {
    let found = version(client, schema).await?;
    if found >= VERSION {
        return Ok(());
    }
    if !config.migrate {
        return Err(ConnectError::NotMigrated {
            schema: schema.as_str().to_owned(),
            found,
            needed: VERSION,
        });
    }
    let begun = client
        .batch_execute("begin isolation level read committed")
        .await;
    begun.map_err(|error| ConnectError::failed("begin the migration", error))?;
    let migrated = migrate(client, schema, config).await;
    let end = if migrated.is_ok() {
        "commit"
    } else {
        "rollback"
    };
    let ended = client.batch_execute(end).await;
    migrated?;
    ended.map_err(|error| ConnectError::failed("commit the migration", error))
}

/// Within a transaction, whose lock ends with it: nothing is left locked whatever fails.
async fn migrate(
    client: &Client,
    schema: &Schema,
    config: &PostgresConfig,
) -> Result<(), ConnectError> {
    let failed = |error| ConnectError::failed("migrate the schema", error);
    let key = schema.advisory("migration", "");
    let alone = format!("select pg_catalog.pg_advisory_xact_lock({key})");
    client.batch_execute(&alone).await.map_err(failed)?;
    let found = version(client, schema).await?;
    if found == 0 && !exists(client, schema).await? {
        let made = schema.sql("create schema {schema}");
        client.batch_execute(&made).await.map_err(failed)?;
    }
    for step in STEPS.iter().filter(|step| step.0 > found) {
        let text = statements(schema, config, step);
        let applied = client.batch_execute(&text).await;
        applied.map_err(|error| in_the_way(schema, error))?;
        let noted = client.batch_execute(&noted(schema, step.0)).await;
        noted.map_err(|error| in_the_way(schema, error))?;
        info!(
            schema = schema.as_str(),
            version = step.0,
            "schema migrated"
        );
    }
    if found == 0 {
        tell_of_quarantine(client, schema).await?;
    }
    Ok(())
}

async fn tell_of_quarantine(client: &Client, schema: &Schema) -> Result<(), ConnectError> {
    let asked = client
        .query_typed(&schema.sql("select {schema}.quarantine()"), &[])
        .await;
    let rows = asked.map_err(|error| in_the_way(schema, error))?;
    let milliseconds = rows.first().map_or(0, |row| row.get::<_, i64>(0));
    if milliseconds > 0 {
        warn!(
            schema = schema.as_str(),
            milliseconds,
            "the schema cannot know that it is new, and grants nothing for so long; `trust_empty_store` says that it is"
        );
    }
    Ok(())
}

/// The version of what is there; 0: nothing.
async fn version(client: &Client, schema: &Schema) -> Result<i32, ConnectError> {
    let failed = |error| ConnectError::failed("read the schema's version", error);
    // Read from the catalogue, not asked of `to_regclass`: behind a wait for a lock that answers from
    // what the session remembers.
    let there = "select exists (select from pg_catalog.pg_class as class \
        join pg_catalog.pg_namespace as space on space.oid = class.relnamespace \
        where space.nspname = $1 and class.relname = 'history')";
    let name = schema.as_str();
    let there = client.query_typed(there, &[(&name, Type::TEXT)]).await;
    let there = there.map_err(failed)?;
    if !there.first().is_some_and(|row| row.get(0)) {
        return Ok(0);
    }
    let newest = schema.sql("select coalesce(max(version), 0) from {schema}.history");
    let newest = client.query_typed(&newest, &[]).await;
    let newest = newest.map_err(|error| in_the_way(schema, error))?;
    Ok(newest.first().map_or(0, |row| row.get(0)))
}

async fn exists(client: &Client, schema: &Schema) -> Result<bool, ConnectError> {
    let there = "select exists (select from pg_catalog.pg_namespace where nspname = $1)";
    let name = schema.as_str();
    let there = client.query_typed(there, &[(&name, Type::TEXT)]).await;
    let there = there.map_err(|error| ConnectError::failed("look for the schema", error))?;
    Ok(there.first().is_some_and(|row| row.get(0)))
}

/// An object that is there already, or has other columns, is not ours.
fn in_the_way(schema: &Schema, error: tokio_postgres::Error) -> ConnectError {
    match error.code() {
        Some(
            &SqlState::DUPLICATE_TABLE
            | &SqlState::DUPLICATE_OBJECT
            | &SqlState::DUPLICATE_FUNCTION
            | &SqlState::UNDEFINED_COLUMN
            | &SqlState::WRONG_OBJECT_TYPE,
        ) => ConnectError::ForeignObjects {
            schema: schema.as_str().to_owned(),
            object: server_message(&error),
        },
        _ => ConnectError::failed("migrate the schema", error),
    }
}
