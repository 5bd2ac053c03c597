//! Many seeds, on some threads.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::figures::Figures;
use super::run::{Plan, run};
use super::trace::{History, Keep};
use super::witness::Violation;
use super::worlds::Kind;

/// Of so many seeds one is run again, with a trace, twice: both must be equal.
pub const SAMPLE: u64 = 100;

/// What to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// In which kind of world; each seed in its own, if none is named.
    pub only: Option<Kind>,
    /// On how many threads.
    pub jobs: usize,
    /// Of so many seeds one is run again, to see that the replay is exact; 0: none.
    pub sample: u64,
}

/// A seed in which something was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What.
    pub violation: Violation,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Result {
    /// The first failure, by seed, of those that were found.
    pub failure: Option<Failure>,
    /// How many seeds were run.
    pub tried: u64,
    /// How many were run again and compared.
    pub replayed: u64,
    /// What was counted in all of them.
    pub figures: Figures,
}

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    tried: AtomicU64,
    simulated: AtomicU64,
}

impl Progress {
    /// How many seeds were run, and how much time was simulated.
    pub fn so_far(&self) -> (u64, Duration) {
        let simulated = Duration::from_millis(self.simulated.load(Ordering::Relaxed));
        (self.tried.load(Ordering::Relaxed), simulated)
    }
}

struct Shared<'a> {
    job: &'a Job,
    next: AtomicU64,
    stop: AtomicBool,
    progress: &'a Progress,
    result: Mutex<Result>,
}

/// Runs all seeds, or as far as the first failure.
///
/// # Errors
/// A runtime could not be made.
pub fn run_all(job: &Job, progress: &Progress) -> io::Result<Result> {
    let shared = Shared {
        job,
        next: AtomicU64::new(job.seeds.start),
        stop: AtomicBool::new(false),
        progress,
        result: Mutex::default(),
    };
    thread::scope(|scope| {
        let threads = (0..job.jobs.max(1)).map(|_| scope.spawn(|| work(&shared)));
        let threads: Vec<_> = threads.collect();
        for thread in threads {
            match thread.join() {
                Ok(done) => done?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<(), io::Error>(())
    })?;
    let result = shared.result.into_inner();
    Ok(result.unwrap_or_else(PoisonError::into_inner))
}

fn work(shared: &Shared<'_>) -> io::Result<()> {
    let mut figures = Figures::default();
    while !shared.stop.load(Ordering::Acquire) {
        let seed = shared.next.fetch_add(1, Ordering::AcqRel);
        if !shared.job.seeds.contains(&seed) {
            break;
        }
        let plan = Plan {
            only: shared.job.only,
            ..Plan::new(seed)
        };
        let testimony = run(&plan)?;
        let mut violation = testimony.violation;
        figures.add(&testimony.figures);
        shared.progress.tried.fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(testimony.figures.simulated.as_millis()).unwrap_or(0);
        shared
            .progress
            .simulated
            .fetch_add(millis, Ordering::Relaxed);
        let sampled = shared.job.sample > 0 && seed.is_multiple_of(shared.job.sample);
        if violation.is_none() && sampled {
            violation = compare(&plan)?;
            lock(&shared.result).replayed += 1;
        }
        lock(&shared.result).tried += 1;
        if let Some(violation) = violation {
            fail(shared, Failure { seed, violation });
        }
    }
    lock(&shared.result).figures.add(&figures);
    Ok(())
}

fn lock(result: &Mutex<Result>) -> std::sync::MutexGuard<'_, Result> {
    result.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fail(shared: &Shared<'_>, failure: Failure) {
    shared.stop.store(true, Ordering::Release);
    let mut result = lock(&shared.result);
    let first = result.failure.as_ref();
    if first.is_none_or(|first| failure.seed < first.seed) {
        result.failure = Some(failure);
    }
}

/// Runs a seed twice, and says where the two differ. That is a failure of its own: a violation
/// that cannot be replayed is worth little.
///
/// # Errors
/// A runtime could not be made.
pub fn compare(plan: &Plan) -> io::Result<Option<Violation>> {
    let traced = |keep| {
        let plan = Plan {
            trace: keep,
            ..plan.clone()
        };
        run(&plan).map(|testimony| testimony.history)
    };
    let (one, other) = (traced(Keep::Last)?, traced(Keep::Last)?);
    if one.digest == other.digest {
        return Ok(None);
    }
    let (one, other) = (traced(Keep::All)?, traced(Keep::All)?);
    Ok(Some(Violation {
        invariant: "SAME-SEED-SAME-RUN",
        what: difference(&one, &other),
        at: Duration::ZERO,
    }))
}

fn difference(one: &History, other: &History) -> String {
    let mut pairs = one.lines.iter().zip(&other.lines);
    match pairs.find(|(one, other)| one != other) {
        Some((one, other)) => format!("`{one}` in one run is `{other}` in another"),
        None => format!("{} lines in one run, {} in another", one.count, other.count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_that_differ_are_told_apart() {
        let history = |lines: &[&str]| History {
            lines: lines.iter().map(ToString::to_string).collect(),
            digest: Some(1),
            count: lines.len() as u64,
        };
        let (one, other) = (history(&["a", "b"]), history(&["a", "c"]));
        assert_eq!(difference(&one, &other), "`b` in one run is `c` in another");
        let longer = history(&["a", "b", "c"]);
        assert_eq!(
            difference(&one, &longer),
            "2 lines in one run, 3 in another"
        );
    }
}
