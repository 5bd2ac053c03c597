//! Looks for mutants: one simulation each, until something that must not happen has happened.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::list::Mutant;
use crate::error::Error;
use crate::process;

/// No simulation takes longer: one that does stands still.
const LIMIT: Duration = Duration::from_mins(10);
/// How often one is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How the hunt for one mutant ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was seen at work.
    Caught {
        /// By what.
        invariant: String,
        /// In which run.
        seed: u64,
        /// In how many runs.
        tried: u64,
    },
    /// So many runs were clean.
    Clean {
        /// So many.
        seeds: u64,
    },
    /// The simulation has said neither.
    Mute(String),
}

impl Verdict {
    /// Reads the last line of a simulation's output.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let number = |key: &str, word: Option<&str>| -> Option<u64> {
            word?.strip_prefix(key)?.strip_prefix('=')?.parse().ok()
        };
        match words.next()? {
            "violated" => {
                let invariant = words.next()?.to_owned();
                let seed = number("seed", words.next())?;
                let tried = number("tried", words.next())?;
                Some(Self::Caught {
                    invariant,
                    seed,
                    tried,
                })
            }
            "clean" => {
                let seeds = number("seeds", words.next())?;
                Some(Self::Clean { seeds })
            }
            _ => None,
        }
    }

    /// What is wrong with it, if the mutant should be caught by one of these.
    pub(crate) fn complaint(&self, mutant: &Mutant) -> Option<String> {
        match self {
            Self::Caught { invariant, .. } => {
                let meant = mutant.caught_by.contains(&invariant.as_str());
                let expected = mutant.caught_by.join(" or ");
                (!meant).then(|| format!("caught by {invariant}, and not by {expected}"))
            }
            Self::Clean { seeds } => Some(format!("survives {seeds} seeds")),
            Self::Mute(why) => Some(format!("no verdict: {why}")),
        }
    }
}

/// Runs the simulation with no mutant alive, in all kinds of worlds.
pub(crate) fn healthy(program: &Path, seeds: u64) -> Verdict {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    verdict(simulation(program, seeds, cores).env_remove("COORDINATOR_MUTANT"))
}

/// Runs the simulation with this mutant alive, in the worlds where it is sought.
pub(crate) fn hunt(program: &Path, number: usize, mutant: &Mutant, seeds: u64) -> Verdict {
    let mut command = simulation(program, seeds, 1);
    command.args(["--only", mutant.world]);
    verdict(command.env("COORDINATOR_MUTANT", number.to_string()))
}

fn simulation(program: &Path, seeds: u64, jobs: usize) -> Command {
    let mut command = Command::new(program);
    command.args(["--until-violation", "--quiet"]);
    command.args(["--seeds", &seeds.to_string(), "--jobs", &jobs.to_string()]);
    command.current_dir(process::root()).stdin(Stdio::null());
    command
}

fn verdict(command: &mut Command) -> Verdict {
    // Mutants panic; what counts is the verdict.
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    match output(command) {
        Ok(output) => {
            let last = output.lines().rfind(|line| !line.trim().is_empty());
            let verdict = last.and_then(Verdict::read);
            verdict.unwrap_or_else(|| Verdict::Mute(format!("it ended with {last:?}")))
        }
        Err(error) => Verdict::Mute(error.to_string()),
    }
}

fn output(command: &mut Command) -> Result<String, Error> {
    let mut child = command.spawn().map_err(Error::io("start the simulation"))?;
    let stdout = child.stdout.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        let read = stdout.map(|mut stdout| stdout.read_to_end(&mut text));
        read.transpose().map(|_| text)
    });
    await_end(&mut child)?;
    let read = reader
        .join()
        .map_err(|_| Error::Unexpected("the reader panicked".to_owned()))?;
    let text = read.map_err(Error::io("read the simulation's output"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn await_end(child: &mut Child) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        if child
            .try_wait()
            .map_err(Error::io("wait for the simulation"))?
            .is_some()
        {
            return Ok(());
        }
        if started.elapsed() >= LIMIT {
            let ended = child.kill().and_then(|()| child.wait());
            ended.map_err(Error::io("end the simulation"))?;
            let error = format!("it was still running after {LIMIT:?}");
            return Err(Error::Unexpected(error));
        }
        thread::sleep(LOOK);
    }
}

/// Does `work` for each of so many, on all cores, each with the simulation's own order of seeds. The
/// results come in order.
pub(crate) fn on_all_cores<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let one_core = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return done;
            }
            done.push((at, work(at)));
        }
    };
    let mut done: Vec<(usize, T)> = thread::scope(|scope| {
        let cores: Vec<_> = (0..cores.min(count.max(1)))
            .map(|_| scope.spawn(one_core))
            .collect();
        let joined = cores.into_iter().filter_map(|core| core.join().ok());
        joined.flatten().collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUTANT: Mutant = Mutant {
        name: "m",
        world: "leases",
        rules: &["T1"],
        does: "Nothing.",
        caught_by: &["ONE-LEADER"],
        edits: &[],
    };

    #[test]
    fn a_violation_is_read_with_its_seed() {
        let caught = Verdict::read("violated ONE-LEADER seed=17 tried=4").unwrap();
        assert_eq!(
            caught,
            Verdict::Caught {
                invariant: "ONE-LEADER".to_owned(),
                seed: 17,
                tried: 4
            }
        );
        assert_eq!(caught.complaint(&MUTANT), None);
    }

    #[test]
    fn a_mutant_that_survives_or_is_caught_by_something_else_is_complained_of() {
        let clean = Verdict::read("clean seeds=1000").unwrap();
        assert_eq!(
            clean.complaint(&MUTANT).as_deref(),
            Some("survives 1000 seeds")
        );
        let other = Verdict::read("violated ONE-OWNER seed=1 tried=1").unwrap();
        assert_eq!(
            other.complaint(&MUTANT).as_deref(),
            Some("caught by ONE-OWNER, and not by ONE-LEADER")
        );
    }

    #[test]
    fn anything_else_is_no_verdict() {
        assert_eq!(Verdict::read("seed 4: 12 faults"), None);
        assert_eq!(Verdict::read("violated ONE-LEADER"), None);
    }

    #[test]
    fn results_come_in_order_whoever_is_done_first() {
        assert_eq!(on_all_cores(5, |at| at * 2), [0, 2, 4, 6, 8]);
        assert!(on_all_cores(0, |at| at).is_empty());
    }
}
