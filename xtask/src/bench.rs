//! `cargo xtask bench`: runs the benchmarks, and shows what they measured in one table.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::artifacts;
use crate::error::Error;
use crate::process;
use crate::report;

/// What the project promises of a measured time or rate.
enum Target {
    /// At most so many nanoseconds.
    AtMost(f64),
    /// At least so many elements a second.
    AtLeast(f64),
}

/// Benchmarks that have a target, by a part of their id.
const TARGETS: &[(&str, Target)] = &[
    ("shards/from scratch", Target::AtMost(20e6)),
    ("shards/one join", Target::AtMost(5e6)),
    ("shards/one leave", Target::AtMost(5e6)),
    ("planner steps/", Target::AtLeast(1e6)),
    ("machine/", Target::AtLeast(1e6)),
    ("bus/1_subscriber", Target::AtLeast(1e6)),
    ("bus/50_subscribers", Target::AtLeast(200e3)),
];

/// The benchmark that measures what works on a store: only by the store's name, for it takes ten minutes.
const OF_STORES: &str = "stores";

/// The stores that it knows.
const STORES: [&str; 2] = ["postgres", "redis"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    if let [store, ..] = arguments
        && STORES.contains(&store.as_str())
    {
        return of_stores(arguments);
    }
    let figures = process::target_dir().join("criterion");
    let benches = artifacts::build(
        "bench",
        &["bench", "--workspace", "--all-features", "--no-run"],
    )?;
    for bench in benches.iter().filter(|bench| bench.name != OF_STORES) {
        let mut command = Command::new(&bench.executable);
        command.arg("--bench").args(arguments).stdin(Stdio::null());
        command
            .current_dir(&bench.package)
            .env("CRITERION_HOME", &figures);
        process::run(&mut command)?;
    }
    let filter = arguments.first().map_or("", String::as_str);
    let mut found = Vec::new();
    collect(&figures, &mut found)?;
    found.retain(|figure| figure.id.contains(filter));
    found.sort_by(|a, b| a.id.cmp(&b.id));
    let rows: Vec<_> = found.iter().map(Figure::row).collect();
    println!(
        "\n{}",
        report::table(
            &["benchmark", "mean", "rate", "target", "times better"],
            &rows
        )
    );
    Ok(())
}

/// It starts its servers and nodes by itself, and shows its own table.
fn of_stores(arguments: &[String]) -> Result<(), Error> {
    let package = "coordinator-tests";
    let bench = ["bench", "--package", package, "--bench", OF_STORES, "--"];
    process::run(process::cargo(bench).args(arguments))
}

/// What one benchmark measured.
#[derive(Debug, PartialEq)]
struct Figure {
    id: String,
    nanoseconds: f64,
    /// What one iteration handles.
    handled: Option<Handled>,
}

/// How much one iteration handles.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Handled {
    Elements(f64),
    Bytes(f64),
}

/// Reads all figures below a directory of criterion's.
fn collect(directory: &Path, found: &mut Vec<Figure>) -> Result<(), Error> {
    let entries = fs::read_dir(directory);
    let entries = entries.map_err(Error::io(format!("read {}", directory.display())))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.ends_with("new") {
            let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
            found.extend(figure(&read("benchmark.json"), &read("estimates.json")));
        } else if path.is_dir() {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn figure(benchmark: &str, estimates: &str) -> Option<Figure> {
    let mean = &estimates[estimates.find(r#""mean":"#)?..];
    Some(Figure {
        id: artifacts::string(benchmark, "full_id")?,
        nanoseconds: number(mean, "point_estimate")?,
        handled: handled(benchmark),
    })
}

fn handled(benchmark: &str) -> Option<Handled> {
    let elements = number(benchmark, "Elements").map(Handled::Elements);
    elements.or_else(|| number(benchmark, "Bytes").map(Handled::Bytes))
}

/// The number under a key, at its first place in `json`.
fn number(json: &str, key: &str) -> Option<f64> {
    let key = format!(r#""{key}":"#);
    let text = &json[json.find(&key)? + key.len()..];
    text[..text.find([',', '}'])?].trim().parse().ok()
}

impl Figure {
    /// Iterations, or what they handle, in a second.
    fn per_second(&self) -> f64 {
        let each = match self.handled {
            Some(Handled::Elements(handled) | Handled::Bytes(handled)) => handled,
            None => 1.0,
        };
        each / self.nanoseconds * 1e9
    }

    fn row(&self) -> Vec<String> {
        let target = TARGETS.iter().find(|(part, _)| self.id.contains(part));
        let (target, factor) = match target {
            None => (String::new(), None),
            Some((_, Target::AtMost(limit))) => (
                format!("≤ {}", span(*limit)),
                Some(limit / self.nanoseconds),
            ),
            Some((_, Target::AtLeast(limit))) => (
                format!("≥ {}", rate(*limit)),
                Some(self.per_second() / limit),
            ),
        };
        let factor = factor
            .map(|factor| format!("{factor:.2}"))
            .unwrap_or_default();
        let own_rate = match self.handled {
            Some(Handled::Elements(_)) => rate(self.per_second()),
            Some(Handled::Bytes(_)) => format!("{:.2} GB/s", self.per_second() / 1e9),
            None => String::new(),
        };
        vec![
            self.id.clone(),
            span(self.nanoseconds),
            own_rate,
            target,
            factor,
        ]
    }
}

fn span(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.1} ns"),
        n if n < 1e6 => format!("{:.2} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

fn rate(per_second: f64) -> String {
    match per_second {
        n if n < 1e3 => format!("{n:.0} /s"),
        n if n < 1e6 => format!("{:.0} k/s", n / 1e3),
        n => format!("{:.2} M/s", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_read_from_what_criterion_writes() {
        let benchmark = r#"{"group_id":"bus","full_id":"bus/one","throughput":{"Elements":1000},"title":"bus/one"}"#;
        let estimates = r#"{"mean":{"confidence_interval":{"confidence_level":0.95,"lower_bound":1.0},"point_estimate":500000.5,"standard_error":1.0},"median":{"point_estimate":1.0}}"#;
        let found = figure(benchmark, estimates).unwrap();
        assert_eq!(found.id, "bus/one");
        assert!((found.nanoseconds - 500_000.5).abs() < f64::EPSILON);
        assert_eq!(found.row()[1..3], ["500.00 µs", "2.00 M/s"]);
    }
}
