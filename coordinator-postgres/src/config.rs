//! What a deployment chooses.

use std::fmt;
use std::time::Duration;

use coordinator_core::trust::MAX_TTL;
use sqlx::PgPool;

use crate::error::ConnectError;

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

impl Leases {
    /// As it is stored, and written in a URL.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Advisory => "advisory",
            Self::Row => "row",
        }
    }
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
#[derive(Clone)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
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
    /// How leases are held. A constant of the schema: all processes must name the same, and the first
    /// one stores it.
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
    /// Whether a schema that is made grants at once though it cannot know that it is new (I5): where leases are
    /// rows, or where processes that use a schema of this name are connected still. Otherwise it grants
    /// nothing for `max_ttl` once, when it is made: there may have been one before, and holders of its leases
    /// who trust still. **Unsafe** if there are.
    pub trust_empty_store: bool,
    /// Whether a take-over ends fenced transactions that hold it up for longer than a TTL (F3).
    pub evict_writers: bool,
    /// How long the rows of durable messages are kept.
    pub retention: Duration,
    /// How often the processes of a schema, all together, look for what nobody can need any more: ended
    /// leases, members and groups. Ten minutes by default; between a tenth of a second and thirty days.
    pub clean_every: Duration,
    /// What the server shows as the name of our sessions.
    pub application_name: String,
    /// How long `connect`, and each attempt to connect again, may take.
    pub connect_timeout: Duration,
}

/// Shows no URL, for it may hold a password.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("schema", &self.schema)
            .field("pool", &self.pool)
            .field("spill", &self.spill)
            .field("cursors", &self.cursors)
            .field("leases", &self.leases)
            .field("takeover", &self.takeover)
            .field("direct", &self.direct)
            .field("max_ttl", &self.max_ttl)
            .field("fast_death", &self.fast_death)
            .field("migrate", &self.migrate)
            .field("trust_empty_store", &self.trust_empty_store)
            .field("evict_writers", &self.evict_writers)
            .field("retention", &self.retention)
            .field("clean_every", &self.clean_every)
            .field("application_name", &self.application_name)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
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
            trust_empty_store: false,
            evict_writers: false,
            retention: Duration::from_hours(24),
            clean_every: Duration::from_mins(10),
            application_name: "coordinator".to_owned(),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl PostgresConfig {
    /// The configuration that a URL alone gives. Beside the driver's own parameters it may have
    /// these, after `?` and separated by `&`:
    ///
    /// | parameter | values |
    /// |---|---|
    /// | `schema` | the schema |
    /// | `leases` | `advisory`, `row` |
    /// | `takeover` | `evidence`, `wait-out`, `immediate` |
    /// | `spill` | `overflow`, `always`, `never` |
    /// | `cursors` | `watermark`, `counter` |
    /// | `migrate`, `fast_death`, `direct`, `trust_empty_store` | `true`, `false` |
    /// | `max_ttl_seconds` | a whole number |
    /// | `application_name` | what the server shows as the name of our sessions |
    ///
    /// # Errors
    /// [`ConnectError::BadSetting`] for another value of one of these.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let Some((address, parameters)) = url.split_once('?') else {
            return Ok(Self::new(url));
        };
        let mut config = Self::new("");
        let mut kept = Vec::new();
        for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
            let taken = match pair.split_once('=') {
                Some((name, value)) => config.take(name, value)?,
                None => false,
            };
            if !taken {
                kept.push(pair);
            }
        }
        config.url = if kept.is_empty() {
            address.to_owned()
        } else {
            format!("{address}?{}", kept.join("&"))
        };
        Ok(config)
    }

    /// Whether the parameter is one of ours.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, ConnectError> {
        let boolean = ["true", "false"];
        match name {
            "schema" => value.clone_into(&mut self.schema),
            "application_name" => value.clone_into(&mut self.application_name),
            "leases" => {
                let all = [("advisory", Leases::Advisory), ("row", Leases::Row)];
                self.leases = choose("leases", value, &all)?;
            }
            "takeover" => {
                let all = [
                    ("evidence", Takeover::Evidence),
                    ("wait-out", Takeover::WaitOut),
                    ("immediate", Takeover::Immediate),
                ];
                self.takeover = choose("takeover", value, &all)?;
            }
            "spill" => {
                let all = [
                    ("overflow", Spill::Overflow),
                    ("always", Spill::Always),
                    ("never", Spill::Never),
                ];
                self.spill = choose("spill", value, &all)?;
            }
            "cursors" => {
                let all = [
                    ("watermark", Cursors::Watermark),
                    ("counter", Cursors::Counter),
                ];
                self.cursors = choose("cursors", value, &all)?;
            }
            "migrate" => self.migrate = choose("migrate", value, &boolean.map(yes))?,
            "trust_empty_store" => {
                self.trust_empty_store = choose("trust_empty_store", value, &boolean.map(yes))?;
            }
            "fast_death" => self.fast_death = choose("fast_death", value, &boolean.map(yes))?,
            "direct" => self.direct = Some(choose("direct", value, &boolean.map(yes))?),
            "max_ttl_seconds" => {
                let seconds = value.parse().map_err(|_| ConnectError::BadSetting {
                    setting: "max_ttl_seconds",
                    given: format!("`{value}`"),
                    wanted: "a whole number of seconds".to_owned(),
                })?;
                self.max_ttl = Duration::from_secs(seconds);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn yes(word: &'static str) -> (&'static str, bool) {
    (word, word == "true")
}

fn choose<T: Copy>(
    setting: &'static str,
    given: &str,
    all: &[(&'static str, T)],
) -> Result<T, ConnectError> {
    let chosen = all.iter().find(|(word, _)| *word == given);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|(word, _)| format!("`{word}`")).collect();
        ConnectError::BadSetting {
            setting,
            given: format!("`{given}`"),
            wanted: format!("one of {}", words.join(", ")),
        }
    })
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
    /// The same, and a schema that is made grants at once, or only where it is known to be new.
    trust_empty_store: bool;
    /// The same, and take-overs end transactions that hold them up, or wait for them.
    evict_writers: bool;
    /// The same, with another time for which durable messages are kept.
    retention: Duration;
    /// The same, with another rhythm of cleaning up.
    clean_every: Duration;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_choose_and_the_rest_is_the_drivers() -> Result<(), ConnectError> {
        let url = "postgres://me@h/db?schema=billing&sslmode=require&leases=row&direct=true\
            &application_name=invoices";
        let config = PostgresConfig::from_url(url)?;
        assert_eq!(config.url, "postgres://me@h/db?sslmode=require");
        assert_eq!(config.schema, "billing");
        assert_eq!(config.application_name, "invoices");
        assert_eq!(config.leases, Leases::Row);
        assert_eq!(config.direct, Some(true));
        Ok(())
    }

    #[test]
    fn a_value_that_is_none_is_told_which_there_are() {
        let error = PostgresConfig::from_url("postgres://h/db?spill=maybe").map(drop);
        let text = error.expect_err("no such policy").to_string();
        assert_eq!(
            text,
            "spill cannot be `maybe`: one of `overflow`, `always`, `never`"
        );
    }
}
