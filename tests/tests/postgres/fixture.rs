//! Connections to schemas that end with the test, for the checks of conformance and for others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coordinator_conformance::{Fault, Faults, Fixture};
use coordinator_core::{Backend, async_trait};
use coordinator_postgres::{PostgresBackend, PostgresConfig, migration_sql, role_sql};
use coordinator_tests::servers::{Schema, fresh_schema, shared};
use tokio_postgres::{Client, NoTls};

/// The longest TTL of conformance's schemas: checks that wait out a quarantine wait for so long.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(20);

/// How long a call may take: a group of the greatest size answers joins, 64 at a time, with all its members each.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A client of the server, for what a test does behind the backend's back.
pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .expect("the server takes connections");
    tokio::spawn(connection);
    client
}

/// Connects to a schema, which is made if need be.
pub(crate) async fn connect(schema: &Schema, config: PostgresConfig) -> PostgresBackend {
    let config = config.schema(schema.name());
    PostgresBackend::connect(config)
        .await
        .expect("a server that runs takes connections")
}

/// Schemas by the namespaces that checks name. Dropped with the last fixture.
#[derive(Debug, Clone, Default)]
struct Schemas(Arc<Mutex<BTreeMap<String, Schema>>>);

/// Who connects.
#[derive(Debug, Clone)]
enum Who {
    /// The owner of the schema, who makes it.
    Owner,
    /// A role that is granted what `role_sql` prints, in the schemas of these namespaces.
    Guest(Arc<tokio::sync::Mutex<BTreeSet<String>>>),
}

impl Who {
    /// What to connect with, once the owner has made the schema and let the guest in.
    async fn config(
        &self,
        schemas: &Schemas,
        namespace: &str,
        own: PostgresConfig,
    ) -> PostgresConfig {
        let Self::Guest(known) = self else { return own };
        let role = format!("{}_guest", own.schema);
        let mut known = known.lock().await;
        if known.insert(namespace.to_owned()) {
            let owner = client(&own.url).await;
            let create = format!("create role {role} login password '{role}'");
            owner.batch_execute(&create).await.expect("a role");
            schemas.drop_afterwards(namespace, &role);
            for statements in [migration_sql(&own), role_sql(&own, &role)] {
                let statements = statements.expect("a schema");
                owner.batch_execute(&statements).await.expect("applied");
            }
        }
        let host = own.url.rsplit('@').next().unwrap_or_default();
        let url = format!("postgres://{role}:{role}@{host}");
        let mut guest = own.migrate(false);
        guest.url = url;
        guest
    }
}

impl Schemas {
    /// URL and name of a namespace's schema; none where there is no server.
    fn of(&self, namespace: &str) -> Option<(String, String)> {
        let mut schemas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !schemas.contains_key(namespace) {
            schemas.insert(namespace.to_owned(), fresh_schema()?);
        }
        let schema = schemas.get(namespace)?;
        Some((schema.url().to_owned(), schema.name().to_owned()))
    }

    fn drop_afterwards(&self, namespace: &str, role: &str) {
        let mut schemas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = schemas.get_mut(namespace) {
            schema.afterwards(format!("drop role {role}"));
            schema.afterwards(format!("drop owned by {role}"));
        }
    }

    /// Runs statements in which `{schema}` stands for the schema.
    async fn run(&self, namespace: &str, statements: &str) -> Fault {
        let Some((url, schema)) = self.of(namespace) else {
            return Fault::NotOffered;
        };
        let statements = statements.replace("{schema}", &schema);
        let done = client(&url).await.batch_execute(&statements).await;
        done.expect("the statements of a fault");
        Fault::Done
    }
}

/// What the checks of conformance reach: a schema for each namespace.
pub(crate) fn store(change: fn(PostgresConfig) -> PostgresConfig) -> Fixture<Backend> {
    store_for(Who::Owner, change)
}

/// The same, by a role that has no more rights than it needs.
pub(crate) fn store_of_guest(change: fn(PostgresConfig) -> PostgresConfig) -> Fixture<Backend> {
    store_for(Who::Guest(Arc::default()), change)
}

fn store_for(who: Who, change: fn(PostgresConfig) -> PostgresConfig) -> Fixture<Backend> {
    // Where this process starts the server, it takes a moment.
    shared();
    let schemas = Schemas::default();
    let faults = schemas.clone();
    let connect = async move |namespace: &str| {
        let (url, schema) = schemas.of(namespace)?;
        let config = change(PostgresConfig::new(url).schema(schema).max_ttl(MAX_TTL));
        let config = who.config(&schemas, namespace, config).await;
        let backend = PostgresBackend::connect(config).await;
        let backend = backend.expect("a server that runs takes connections");
        Some(Arc::new(Backend::from(backend)))
    };
    Fixture::shared(connect)
        .faults(faults)
        .max_ttl(MAX_TTL)
        .patience(PATIENCE)
}

/// Everything but the history of migrations and the identity.
const TABLES: &str = "select tablename from pg_catalog.pg_tables \
    where schemaname = '{schema}' and tablename not in ('history', 'identity') and tablename not like 'mark\\_%'";

#[async_trait]
impl Faults for Schemas {
    /// As if a backup without a single row had been restored.
    async fn forget(&self, namespace: &str) -> Fault {
        let statements = "do $do$ declare t text; begin for t in {tables} loop \
                execute format('truncate {schema}.%I', t); end loop; end $do$; \
            update {schema}.identity set birth = gen_random_uuid(), memory = 'a server that is lost';";
        let statements = statements.replace("{tables}", TABLES);
        self.run(namespace, &statements).await
    }

    async fn mark(&self, namespace: &str) -> Fault {
        let statements = "do $do$ declare t text; begin for t in {tables} loop \
                execute format('drop table if exists {schema}.%I', 'mark_' || t); \
                execute format('create table {schema}.%I as table {schema}.%I', 'mark_' || t, t); end loop; end $do$;";
        let statements = statements.replace("{tables}", TABLES);
        self.run(namespace, &statements).await
    }

    /// As if a standby had been promoted that had the rows of the mark.
    async fn roll_back(&self, namespace: &str) -> Fault {
        let statements = "do $do$ declare t text; begin for t in {tables} loop \
                execute format('truncate {schema}.%I', t); \
                execute format('insert into {schema}.%I overriding system value select * from {schema}.%I', t, 'mark_' || t); end loop; end $do$; \
            update {schema}.identity set birth = gen_random_uuid(), memory = 'a server that is lost';";
        let statements = statements.replace("{tables}", TABLES);
        self.run(namespace, &statements).await
    }
}
