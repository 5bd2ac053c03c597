//! Buses in a schema of the test, and what is published and seen there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Backend, Bytes, ClusterBus, Cursor, Feed, FeedEvent, Frame, Instance, MemberId, Start, Topic,
};
use coordinator_postgres::{Cursors, PostgresBackend, PostgresConfig, Spill};
use coordinator_tests::servers::{Proxy, Schema, fresh_schema};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::fixture;

/// Whatever is awaited comes within this time, on a machine that does much else.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) const MODES: [Cursors; 2] = [Cursors::Watermark, Cursors::Counter];

/// A schema, and as many connections to it as the test wants.
pub(super) struct Kit {
    pub(super) schema: Schema,
    pub(super) config: PostgresConfig,
}

impl Kit {
    /// `None`: there is no server.
    pub(super) fn new(change: impl FnOnce(PostgresConfig) -> PostgresConfig) -> Option<Self> {
        Some(Self::at(fresh_schema()?, change))
    }

    /// In a server of the test's own.
    pub(super) fn at(
        schema: Schema,
        change: impl FnOnce(PostgresConfig) -> PostgresConfig,
    ) -> Self {
        let config = change(PostgresConfig::new(schema.url()).schema(schema.name()));
        // Its sessions are told from those of other tests by this.
        let config = config.application_name(schema.name());
        Self { schema, config }
    }

    /// A proxy before the server, and a bus behind it.
    pub(super) async fn behind_proxy(&self) -> (Proxy, Arc<dyn ClusterBus>) {
        let proxy = Proxy::before(self.schema.url()).await.expect("a proxy");
        let mut far = self.config.clone();
        far.url = proxy.url(self.schema.url());
        let connected = PostgresBackend::connect(far).await;
        (proxy, bus_of(connected.expect("a way through")))
    }

    pub(super) fn durable(cursors: Cursors) -> Option<Self> {
        Self::new(|config| config.spill(Spill::Always).cursors(cursors))
    }

    pub(super) async fn backend(&self) -> PostgresBackend {
        let connected = PostgresBackend::connect(self.config.clone()).await;
        connected.expect("a server that runs takes connections")
    }

    pub(super) async fn bus(&self) -> Arc<dyn ClusterBus> {
        bus_of(self.backend().await)
    }

    /// A client beside the backend.
    pub(super) async fn client(&self) -> Client {
        fixture::client(self.schema.url()).await
    }

    /// A statement with the schema's name in it.
    pub(super) fn sql(&self, statement: &str) -> String {
        statement.replace("{schema}", self.schema.name())
    }

    /// Ends the listening sessions of this schema, on the server's side; says how many.
    pub(super) async fn end_listeners(&self, client: &Client) -> usize {
        let ended = client
            .query(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 \
                 and (query like 'listen%' or query = 'select 1')",
                &[&self.config.application_name],
            )
            .await;
        ended.expect("sessions of one's own can be ended").len()
    }
}

pub(super) fn bus_of(backend: PostgresBackend) -> Arc<dyn ClusterBus> {
    Backend::from(backend)
        .bus
        .expect("a server without a pooler has a bus")
}

/// Stamps frames as a node does.
pub(super) struct Publisher {
    pub(super) bus: Arc<dyn ClusterBus>,
    instance: Instance,
    next: BTreeMap<String, u64>,
}

impl Publisher {
    pub(super) fn new(bus: Arc<dyn ClusterBus>) -> Self {
        Self {
            bus,
            instance: Instance::from_random(rand::random()),
            next: BTreeMap::new(),
        }
    }

    pub(super) fn frame(&mut self, topic: &str, payload: impl Into<Bytes>) -> Frame {
        let next = self.next.entry(topic.to_owned()).or_insert(1);
        let origin = MemberId::from("ann");
        let frame = Frame::new(Topic::named(topic), origin, self.instance, payload.into());
        let frame = frame.sequence(*next);
        *next += 1;
        frame
    }

    pub(super) async fn publish(&mut self, topic: &str, payload: impl Into<Bytes>) -> Frame {
        let frame = self.frame(topic, payload);
        let sent = self.bus.publish(std::slice::from_ref(&frame)).await;
        sent.expect("a server that runs takes messages");
        frame
    }
}

/// A subscription that is read in the test.
pub(super) struct Reader(pub(super) Box<dyn Feed>);

pub(super) async fn subscribe(bus: &Arc<dyn ClusterBus>, topic: &str, start: Start) -> Reader {
    let feed = bus.subscribe(&[Topic::named(topic)], start).await;
    Reader(feed.expect("a server that runs takes subscriptions"))
}

impl Reader {
    pub(super) async fn event(&mut self) -> FeedEvent {
        let event = timeout(SOON, self.0.next()).await;
        event.expect("an event in time").expect("an open feed")
    }

    /// The next frame; nothing but frames may come.
    pub(super) async fn frame(&mut self) -> Frame {
        match self.event().await {
            FeedEvent::Frame { frame, .. } => frame,
            other => panic!("a frame, not {other:?}"),
        }
    }

    /// The next frame and its cursor, whatever comes before.
    pub(super) async fn with_cursor(&mut self) -> (Frame, Cursor) {
        loop {
            match self.event().await {
                FeedEvent::Frame { frame, cursor } => return (frame, cursor.expect("a cursor")),
                FeedEvent::Disconnected | FeedEvent::Connected => {}
                other => panic!("a frame, not {other:?}"),
            }
        }
    }

    /// Nothing comes for so long.
    pub(super) async fn silent(&mut self, span: Duration) {
        let event = timeout(span, self.0.next()).await;
        assert!(event.is_err(), "nothing, not {event:?}");
    }
}

/// The texts of payloads.
pub(super) fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(&frame.payload).into_owned()
}
