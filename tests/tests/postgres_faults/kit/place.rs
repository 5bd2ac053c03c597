//! Where the nodes of a test meet: a schema, and how it is used.

use coordinator_postgres::PostgresConfig;
use coordinator_tests::servers::{Postgres, Proxy, Schema, fresh_schema};

/// A schema of a server.
pub(crate) struct Place {
    server: String,
    schema: String,
    /// Ours, for each node.
    parameters: Vec<(String, String)>,
    /// Dropped in the end; a server of the test's own takes it with it.
    _schema: Option<Schema>,
}

impl Place {
    /// In the server that all tests share; none without one.
    pub(crate) fn shared() -> Option<Self> {
        let schema = fresh_schema()?;
        let (server, name) = (schema.url().to_owned(), schema.name().to_owned());
        Some(Self::new(server, name, Some(schema)))
    }

    /// In a server of the test's own.
    pub(crate) fn on(server: &Postgres) -> Self {
        Self::new(server.url(), "ours".to_owned(), None)
    }

    fn new(server: String, name: String, schema: Option<Schema>) -> Self {
        Self {
            server,
            parameters: vec![("schema".to_owned(), name.clone())],
            schema: name,
            _schema: schema,
        }
    }

    /// The same, with one more parameter for each node.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        if (name, value) == ("leases", "row") {
            // It is: nobody had a schema of this name before (I5).
            return self.with("trust_empty_store", "true");
        }
        self
    }

    /// For connections of the test.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// For a statement, where `{schema}` stands for the schema.
    pub(crate) fn sql(&self, statement: &str) -> String {
        statement.replace("{schema}", self.schema())
    }

    /// For a node.
    pub(crate) fn url(&self) -> String {
        self.at(self.server())
    }

    /// For a node behind a proxy.
    pub(crate) fn through(&self, proxy: &Proxy) -> String {
        self.at(&proxy.url(self.server()))
    }

    /// For a node that reaches the server by another URL.
    pub(crate) fn at(&self, server: &str) -> String {
        let parameters = self.parameters.iter();
        let pairs: Vec<_> = parameters
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let begin = if server.contains('?') { '&' } else { '?' };
        format!("{server}{begin}{}", pairs.join("&"))
    }

    /// What the server calls the sessions of a member that was started with a URL of this place.
    pub(crate) fn sessions_of(&self, member: &str) -> String {
        format!("{}_{member}", self.schema)
    }

    /// For a node in this process.
    pub(crate) fn config(&self) -> PostgresConfig {
        PostgresConfig::from_url(&self.url()).expect("its parameters are right")
    }
}
