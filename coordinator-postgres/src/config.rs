//! What a deployment chooses.

use std::time::Duration;

use coordinator_core::trust::MAX_TTL;
use sqlx::PgPool;

/// How leases are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leases {
    /// By session locks: a dead holder's lease passes on in milliseconds. Needs sessions of its own,
    /// so no pooler in transaction mode between.
    #[default]
    Advisory,
    /// By rows with an expiry: works behind a pooler in transaction mode. A dead holder's lease is
    /// free after its TTL, not before.
    Row,
}

/// When a successor may start after a holder that did not release (rule P5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Takeover {
    /// At once where the server has seen all sessions of the holder's process end, on a direct path;
    /// else after the rest of its window. Leaves one residual: all sessions of a living holder
    /// closed at once, on the server's side alone.
    #[default]
    Evidence,
    /// After the rest of the holder's window, always: no evidence is believed.
    WaitOut,
    /// As soon as the session lock is free. **Unsafe**: a holder whose connection was closed under it
    /// may still act. For deployments that fence every write.
    Immediate,
}

/// What happens to a message that does not fit one NOTIFY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spill {
    /// It is cut into several NOTIFYs, or above 64 KB stored in a row and sent by reference.
    #[default]
    Overflow,
    /// Every message has a row: durable, and can be replayed from a cursor.
    Always,
    /// It is refused.
    Never,
}

/// How a durable subscriber's place in the log is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cursors {
    /// By transaction ids and the server's snapshot: full speed, but nothing is delivered past the
    /// oldest write transaction that is still open on the server.
    #[default]
    Watermark,
    /// By a counter row for each topic: dense numbers and no stall, at a half to a sixth of the speed.
    Counter,
}

/// How to reach the store, and what to use it for: see [`PostgresBackend::connect`].
///
/// [`PostgresBackend::connect`]: crate::PostgresBackend::connect
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`, or the `key=value` form. Several hosts are
    /// tried in order. Needed with a pool too: the sessions of leases never come from a pool.
    pub url: String,
    /// The schema that holds everything: the namespace. 1 to 48 lower-case letters, digits and
    /// `_`; `coordinator` by default.
    pub schema: String,
    /// The application's pool, for bulk reads. Without one, a small one is opened when needed.
    pub pool: Option<PgPool>,
    /// What happens to messages too large for one NOTIFY.
    pub spill: Spill,
    /// How places in the durable log are counted.
    pub cursors: Cursors,
    /// How leases are held.
    pub leases: Leases,
    /// When a successor may start.
    pub takeover: Takeover,
    /// `Some(true)` declares the network path to be direct, where addresses are translated between
    /// but nothing closes connections on its own; `Some(false)` that it is not. `None`: found out by
    /// comparing the addresses at both ends (P7).
    pub direct: Option<bool>,
    /// The longest TTL of the namespace (I4). All processes must name the same.
    pub max_ttl: Duration,
    /// Whether members are declared dead as soon as the server has seen all their sessions end (G5).
    pub fast_death: bool,
    /// Whether to create or upgrade the schema. Without, it must be there.
    pub migrate: bool,
    /// Whether a take-over ends fenced transactions that hold it up for longer than a TTL (F3).
    pub evict_writers: bool,
    /// How long the rows of durable messages are kept.
    pub retention: Duration,
    /// What the server shows as the name of our sessions.
    pub application_name: String,
    /// How long `connect`, and each attempt to connect again, may take.
    pub connect_timeout: Duration,
}

impl PostgresConfig {
    /// The store at this URL, with every default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "coordinator".to_owned(),
            pool: None,
            spill: Spill::default(),
            cursors: Cursors::default(),
            leases: Leases::default(),
            takeover: Takeover::default(),
            direct: None,
            max_ttl: MAX_TTL,
            fast_death: true,
            migrate: true,
            evict_writers: false,
            retention: Duration::from_hours(24),
            application_name: "coordinator".to_owned(),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $kind:ty;)*) => {
        impl PostgresConfig {$(
            $(#[$doc])*
            pub fn $field(mut self, $field: $kind) -> Self {
                self.$field = $field;
                self
            }
        )*}
    };
}

setters! {
    /// The same, with another policy for large messages.
    spill: Spill;
    /// The same, with another kind of cursor.
    cursors: Cursors;
    /// The same, with another kind of lease.
    leases: Leases;
    /// The same, with another policy for take-overs.
    takeover: Takeover;
    /// The same, with another longest TTL.
    max_ttl: Duration;
    /// The same, with evidence of death used for members, or not.
    fast_death: bool;
    /// The same, and the schema is created and upgraded, or must be there.
    migrate: bool;
    /// The same, and take-overs end transactions that hold them up, or wait for them.
    evict_writers: bool;
    /// The same, with another time for which durable messages are kept.
    retention: Duration;
    /// The same, with another limit for connecting.
    connect_timeout: Duration;
}

impl PostgresConfig {
    /// The same, in another schema.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The same, with the application's pool for bulk reads.
    pub fn pool(mut self, pool: PgPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// The same, with the network path declared.
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = Some(direct);
        self
    }

    /// The same, under another name for the server's lists.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }
}

impl From<&str> for PostgresConfig {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for PostgresConfig {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}
