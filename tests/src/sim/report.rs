//! What is told of runs: a summary of many, and the story of one that failed.

use std::fmt;
use std::time::Duration;

use super::faults::Class;
use super::figures::{Figures, Longest};
use super::many::{Failure, Result};
use super::run::Plan;
use super::shrink::Shrunk;
use super::trace::History;

/// Figures of many runs, as a table of lines.
#[derive(Debug)]
pub struct Summary<'a> {
    /// What came out.
    pub result: &'a Result,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { result, took } = self;
        let figures = &result.figures;
        let rate = per_second(result.tried, *took);
        writeln!(
            f,
            "{} seeds in {:.1?}, {rate:.1} seeds/s; {} of them run twice more, and compared",
            result.tried, took, result.replayed
        )?;
        writeln!(
            f,
            "{:.1} h simulated, {:.2} h in a second",
            hours(figures.simulated),
            hours(figures.simulated) / took.as_secs_f64().max(f64::MIN_POSITIVE)
        )?;
        write_faults(f, figures)?;
        writeln!(f, "elections held: {}", figures.elections)?;
        writeln!(f, "shards moved: {}", figures.moved)?;
        writeln!(f, "processes started: {}", figures.starts)?;
        writeln!(f, "events handled exactly once: {}", figures.handled)?;
        let (received, gaps) = (figures.received, figures.gaps);
        writeln!(f, "messages received: {received}, gaps told: {gaps}")?;
        write_longest(f, "leaderless", figures.leaderless)?;
        write_longest(f, "unowned", figures.unowned)?;
        let settled = figures.settled_within;
        writeln!(
            f,
            "everything served again: {settled:.1?} after the last fault at the latest"
        )?;
        writeln!(f, "invariant checks made: {}", figures.checks)
    }
}

fn write_longest(f: &mut fmt::Formatter<'_>, what: &str, longest: Longest) -> fmt::Result {
    let Longest { ever, healed } = longest;
    writeln!(
        f,
        "longest {what}: {ever:.1?}; without any fault: {healed:.1?}"
    )
}

fn write_faults(f: &mut fmt::Formatter<'_>, figures: &Figures) -> fmt::Result {
    let all: u64 = figures.faults.values().sum();
    writeln!(f, "faults injected: {all}")?;
    for class in Class::ALL {
        let count = figures.faults.get(&class).copied().unwrap_or(0);
        writeln!(f, "  {count:>8}  {class}")?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn hours(span: Duration) -> f64 {
    span.as_secs_f64() / 3_600.0
}

/// How far it is, in one line.
pub fn progress_line(tried: u64, of: u64, simulated: Duration, took: Duration) -> String {
    format!(
        "{tried} of {of} seeds, {:.1} seeds/s, {:.2} simulated hours in a second",
        per_second(tried, took),
        hours(simulated) / took.as_secs_f64().max(f64::MIN_POSITIVE)
    )
}

/// The command that replays a plan.
pub fn command(plan: &Plan) -> String {
    let only = plan.only.map(|kind| format!(" --only {kind}"));
    let keep = plan.keep.as_ref().map(|keep| {
        let numbers: Vec<String> = keep.iter().map(ToString::to_string).collect();
        format!(" --keep {}", numbers.join(","))
    });
    let classes = plan.classes.as_ref().map(|classes| {
        let names: Vec<String> = classes.iter().map(|class| format!("{class:?}")).collect();
        format!(" --classes {}", names.join(","))
    });
    let lasting = plan
        .lasting
        .map(|(least, most)| format!(" --lasting {},{}", least.as_secs_f64(), most.as_secs_f64()));
    let parts = [only, classes, lasting, keep];
    let parts: String = parts.into_iter().flatten().collect();
    format!("cargo xtask sim --seed {}{parts}", plan.seed)
}

/// The story of a run that failed.
#[derive(Debug)]
pub struct Story<'a> {
    /// What was run.
    pub plan: &'a Plan,
    /// What was wrong.
    pub failure: &'a Failure,
    /// The last lines of its trace.
    pub history: &'a History,
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plan,
            failure,
            history,
        } = self;
        for line in &history.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f)?;
        writeln!(f, "{}", failure.violation)?;
        writeln!(f, "seed {}, world `{}`", plan.seed, plan.kind())?;
        writeln!(f, "replay it: {}", command(plan))
    }
}

/// The least that it takes.
#[derive(Debug)]
pub struct Least<'a> {
    /// What was run.
    pub plan: &'a Plan,
    /// What is left of it.
    pub shrunk: &'a Shrunk,
}

impl fmt::Display for Least<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, shrunk } = self;
        let all = plan.schedule();
        writeln!(
            f,
            "of {} faults {} are enough ({} runs):",
            all.len(),
            shrunk.keep.len(),
            shrunk.runs
        )?;
        for fault in all
            .iter()
            .filter(|fault| shrunk.keep.contains(&fault.number))
        {
            writeln!(f, "{fault}")?;
        }
        writeln!(f, "{}", shrunk.violation)?;
        let plan = Plan {
            keep: Some(shrunk.keep.clone()),
            ..(*plan).clone()
        };
        writeln!(f, "replay that: {}", command(&plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::worlds::Kind;

    #[test]
    fn the_command_names_all_that_it_takes() {
        let mut plan = Plan::new(7);
        assert_eq!(command(&plan), "cargo xtask sim --seed 7");
        plan.only = Some(Kind::Bus);
        plan.keep = Some(vec![3, 17]);
        assert_eq!(
            command(&plan),
            "cargo xtask sim --seed 7 --only bus --keep 3,17"
        );
        plan.keep = None;
        plan.classes = Some(vec![Class::Crash, Class::HalfOpen]);
        plan.lasting = Some((Duration::from_millis(500), Duration::from_secs(5)));
        assert_eq!(
            command(&plan),
            "cargo xtask sim --seed 7 --only bus --classes Crash,HalfOpen --lasting 0.5,5"
        );
    }
}
