//! What the command line may say.

use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

/// The input that comes with the demo.
pub(crate) const DEFAULT_INPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/commits.csv");

/// The most nodes: each is a whole member with its own heartbeat, all on one thread.
const MAX_NODES: u16 = 100;

/// The most shards: each is a task, and all run on one thread. The library takes 65,535.
const MAX_SHARDS: u16 = 4_096;

/// The slowest pace, and the fastest that is told from `max`.
const MIN_SPEED: f64 = 0.001;
const MAX_SPEED: f64 = 10_000.0;

/// A fleet shares real work through joins, leaves, crashes, pauses and cuts, and the result is
/// compared with that of a single process.
///
/// Nodes are tasks of this process and time is virtual, unless --backend names a store: a run
/// takes about four minutes of it, at the pace of --speed, and the same seed gives the same run.
///
/// With --backend postgres://… or redis://… each node is a process, which is really killed and
/// frozen, and a run takes about a minute. Everything is kept in a new schema or namespace,
/// `coordinator_demo_` and a number, which is removed in the end; a role of Postgres must be allowed
/// to create one.
///
/// Exit code 0: the result is equal; 1: it is not; 2: bad flags or input, or no store.
#[derive(Debug, Clone, Parser)]
#[command(name = "demo", version)]
pub(crate) struct Options {
    /// Where the fleet runs: `memory:`, postgres://user:password@host/database, or
    /// redis://user:password@host:port. Each node takes some five connections
    #[arg(long, value_name = "URL", default_value = "memory:")]
    pub(crate) backend: String,
    /// Keep the schema or the namespace, to look at what is in it
    #[arg(long)]
    pub(crate) keep: bool,
    /// How many nodes begin, 1 to 100
    #[arg(long, value_name = "N", default_value = "5", value_parser = nodes, allow_negative_numbers = true)]
    pub(crate) nodes: NonZeroU16,
    /// How many shards they share, 1 to 4096
    #[arg(long, value_name = "N", default_value = "32", value_parser = shards, allow_negative_numbers = true)]
    pub(crate) shards: NonZeroU16,
    /// What decides when and whom faults hit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub(crate) seed: u64,
    /// The commits to fold; without it, those that come with the demo
    #[arg(long, value_name = "FILE", default_value = DEFAULT_INPUT, hide_default_value = true)]
    pub(crate) input: PathBuf,
    /// Virtual seconds per real second, or `max`; without it, 10 on a terminal, else `max`. On a
    /// store time is real
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) speed: Option<Speed>,
    /// Let nothing go wrong, and nobody come or go
    #[arg(long)]
    pub(crate) no_faults: bool,
    /// Print lines, also on a terminal
    #[arg(long)]
    pub(crate) plain: bool,
    /// Be a node of a run, which tells on the standard input what else there is to know
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) as_node: Option<String>,
}

/// Where the fleet runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// In this process.
    Memory,
    /// In a process for each node, on the database with this URL.
    Postgres(&'a str),
    /// In a process for each node, on the Redis server with this URL.
    Redis(&'a str),
}

impl<'a> Place<'a> {
    /// Where a URL leads.
    pub(crate) fn at(url: &'a str) -> Result<Self, BadOption> {
        // No message shows the URL: there may be a password in it.
        match url.split_once(':') {
            Some(("memory", _)) => Ok(Self::Memory),
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url)),
            Some(("redis" | "rediss", _)) => Ok(Self::Redis(url)),
            _ => Err(BadOption::Backend),
        }
    }
}

impl Options {
    /// Where the fleet is to run.
    pub(crate) fn place(&self) -> Result<Place<'_>, BadOption> {
        match Place::at(&self.backend)? {
            Place::Memory if self.keep => Err(BadOption::NothingToKeep),
            Place::Postgres(_) | Place::Redis(_) if self.speed.is_some() => {
                Err(BadOption::RealTime)
            }
            place => Ok(place),
        }
    }
}

/// How fast virtual time runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many virtual seconds per real second.
    Times(f64),
    /// As fast as the machine can.
    Max,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "×{times}"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// A value that a flag does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadOption {
    #[error("allowed is a whole number from 1 to {most}")]
    Count { most: u16 },
    #[error(
        "allowed is a number from {MIN_SPEED} to {MAX_SPEED}, or `max`: as fast as the machine can"
    )]
    Speed,
    #[error(
        "--backend takes `memory:`, `postgres://user:password@host/database` or \
         `redis://user:password@host:port`"
    )]
    Backend,
    #[error("--speed is for virtual time: on a store it is real")]
    RealTime,
    #[error(
        "--keep is for a schema or a namespace: give a store by --backend postgres://… or redis://…"
    )]
    NothingToKeep,
}

impl FromStr for Speed {
    type Err = BadOption;

    fn from_str(text: &str) -> Result<Self, BadOption> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(times) if (MIN_SPEED..=MAX_SPEED).contains(&times) => Ok(Self::Times(times)),
            Ok(_) | Err(_) => Err(BadOption::Speed),
        }
    }
}

fn nodes(text: &str) -> Result<NonZeroU16, BadOption> {
    count(text, MAX_NODES)
}

fn shards(text: &str) -> Result<NonZeroU16, BadOption> {
    count(text, MAX_SHARDS)
}

fn count(text: &str, most: u16) -> Result<NonZeroU16, BadOption> {
    match text.parse::<NonZeroU16>() {
        Ok(number) if number.get() <= most => Ok(number),
        Ok(_) | Err(_) => Err(BadOption::Count { most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Options, String> {
        let words = std::iter::once("demo").chain(flags.iter().copied());
        Options::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn five_nodes_share_32_shards_unless_told_otherwise() {
        let options = parse(&[]).unwrap();
        assert_eq!((options.nodes.get(), options.shards.get()), (5, 32));
        assert_eq!(options.speed, None);
    }

    #[test]
    fn a_fleet_runs_in_memory_or_on_a_store_and_no_message_shows_a_password() {
        let place = |flags: &[&str]| {
            let options = parse(flags).unwrap();
            match options.place() {
                Ok(Place::Memory) => "memory".to_owned(),
                Ok(Place::Postgres(url) | Place::Redis(url)) => url.to_owned(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(place(&[]), "memory");
        for url in ["postgres://h/d", "redis://h:1"] {
            assert_eq!(place(&["--backend", url]), url);
        }
        for (flags, said) in [
            (
                &["--backend", "mysql://u:secret@h/d"][..],
                "`memory:`, `postgres://",
            ),
            (&["--backend", "secret"], "`memory:`, `postgres://"),
            (&["--keep"], "--keep is for a schema or"),
            (
                &["--backend", "redis://h", "--speed", "2"],
                "on a store it is real",
            ),
        ] {
            let text = place(flags);
            assert!(text.contains(said) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_speed_is_a_positive_number_or_max() {
        let speed = |text| parse(&["--speed", text]).map(|options| options.speed);
        assert_eq!(speed("2.5"), Ok(Some(Speed::Times(2.5))));
        assert_eq!(speed("max"), Ok(Some(Speed::Max)));
    }

    #[test]
    fn a_bad_value_is_named_with_its_flag_and_what_is_allowed() {
        for (flags, said) in [
            (["--nodes", "0"], "allowed is a whole number from 1 to 100"),
            (
                ["--nodes", "101"],
                "allowed is a whole number from 1 to 100",
            ),
            (
                ["--shards", "0"],
                "allowed is a whole number from 1 to 4096",
            ),
            (
                ["--shards", "4097"],
                "allowed is a whole number from 1 to 4096",
            ),
            (
                ["--speed", "0"],
                "allowed is a number from 0.001 to 10000, or `max`",
            ),
            (
                ["--speed", "-1"],
                "allowed is a number from 0.001 to 10000, or `max`",
            ),
            (
                ["--speed", "1e-300"],
                "allowed is a number from 0.001 to 10000, or `max`",
            ),
            (
                ["--speed", "NaN"],
                "allowed is a number from 0.001 to 10000, or `max`",
            ),
            (
                ["--speed", "inf"],
                "allowed is a number from 0.001 to 10000, or `max`",
            ),
            (["--seed", "x"], "invalid digit"),
            (["--seed", "-1"], "invalid digit"),
            (["--nodes", "-1"], "allowed is a whole number from 1 to 100"),
        ] {
            let error = parse(&flags).unwrap_err();
            assert!(error.contains(said), "{error}");
            let given = format!("invalid value '{}' for '{}", flags[1], flags[0]);
            assert!(error.contains(&given), "{error}");
        }
    }
}
