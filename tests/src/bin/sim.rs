//! The simulation, as a program: `cargo xtask sim` builds and runs it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks to its user"
)]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::many::{Failure, Job, Progress, Result, SAMPLE, compare, run_all};
use coordinator_tests::sim::report::{Least, Story, Summary, progress_line};
use coordinator_tests::sim::run::{Plan, run};
use coordinator_tests::sim::shrink::shrink;
use coordinator_tests::sim::trace::Keep;
use coordinator_tests::sim::worlds::Kind;

/// Where there is no terminal, a line of progress comes so often.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// On a terminal.
const REDRAW_EVERY: Duration = Duration::from_millis(500);
/// How long a failing schedule is made smaller.
const SHRINK_FOR: Duration = Duration::from_secs(60);

/// Runs whole fleets under faults, each from one seed, and checks every step.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim")]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run this seed alone, and say whether it replays exactly.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens. Only with `--seed`.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// On how many threads to run; as many as there are cores, if nothing is said.
    #[arg(long)]
    jobs: Option<usize>,
    /// Run only worlds of this kind: leases, shards, dense, static, two-groups,
    /// bus, votes, live or weighted.
    #[arg(long)]
    only: Option<Kind>,
    /// Of the seed's faults bring about only these, by number. Only with `--seed`.
    #[arg(long, requires = "seed", value_delimiter = ',')]
    keep: Option<Vec<usize>>,
    /// Bring about only faults of these classes: `Crash,HalfOpen`. Only with `--seed`.
    #[arg(long, requires = "seed", value_delimiter = ',')]
    classes: Option<Vec<Class>>,
    /// For how many seconds faults last, at the least and the most: `0.5,5`. Only with `--seed`.
    #[arg(long, requires = "seed", value_parser = seconds)]
    lasting: Option<(Duration, Duration)>,
    /// Stop at the first violation, and do not make its schedule smaller.
    #[arg(long)]
    until_violation: bool,
    /// Print nothing but the last line.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.seed {
        Some(seed) => one(&options, seed),
        None => all(&options),
    };
    match outcome {
        Ok(Some((failure, tried))) => {
            println!(
                "violated {} seed={} tried={tried}",
                failure.violation.invariant, failure.seed
            );
            ExitCode::from(1)
        }
        Ok(None) => {
            let seeds = options.seed.map_or(options.seeds, |_| 1);
            println!("clean seeds={seeds}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// Two spans in seconds, the shorter first.
fn seconds(text: &str) -> std::result::Result<(Duration, Duration), String> {
    let span = |text: &str| {
        let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
    };
    let (least, most) = text.split_once(',').ok_or("two numbers, with a comma")?;
    let (least, most) = (span(least)?, span(most)?);
    if least > most {
        return Err("the shorter span comes first".to_owned());
    }
    Ok((least, most))
}

/// Something was wrong, and how many seeds had been run.
type Outcome = io::Result<Option<(Failure, u64)>>;

fn one(options: &Options, seed: u64) -> Outcome {
    let plan = Plan {
        seed,
        only: options.only,
        classes: options.classes.clone(),
        lasting: options.lasting,
        keep: options.keep.clone(),
        trace: if options.trace { Keep::All } else { Keep::Last },
    };
    let testimony = run(&plan)?;
    if options.trace && !options.quiet && testimony.violation.is_none() {
        for line in &testimony.history.lines {
            println!("{line}");
        }
    }
    if !options.quiet {
        println!(
            "world `{}`, {} faults, {} lines, trace {:016x}",
            plan.kind(),
            plan.schedule().len(),
            testimony.history.count,
            testimony.history.digest.unwrap_or(0)
        );
    }
    let violation = match testimony.violation {
        Some(violation) => violation,
        None => match compare(&plan)? {
            Some(difference) => difference,
            None => return Ok(None),
        },
    };
    let failure = Failure { seed, violation };
    tell(options, &plan, &failure)?;
    Ok(Some((failure, 1)))
}

fn all(options: &Options) -> Outcome {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let job = Job {
        seeds: options.first..options.first.saturating_add(options.seeds),
        only: options.only,
        jobs: options.jobs.unwrap_or(cores),
        sample: SAMPLE,
    };
    let began = Instant::now();
    let result = watched(options, &job, began)?;
    if !options.quiet {
        let took = began.elapsed();
        println!(
            "{}",
            Summary {
                result: &result,
                took
            }
        );
    }
    let Some(failure) = result.failure else {
        return Ok(None);
    };
    let plan = Plan {
        only: options.only,
        ..Plan::new(failure.seed)
    };
    tell(options, &plan, &failure)?;
    Ok(Some((failure, result.tried)))
}

/// Runs all seeds, and says now and then how far it is.
fn watched(options: &Options, job: &Job, began: Instant) -> io::Result<Result> {
    let (progress, done) = (Progress::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        if !options.quiet {
            scope.spawn(|| show(&progress, &done, options.seeds, began));
        }
        let result = run_all(job, &progress);
        done.store(true, Ordering::Release);
        result
    })
}

fn show(progress: &Progress, done: &AtomicBool, seeds: u64, began: Instant) {
    let terminal = io::stderr().is_terminal();
    let every = if terminal { REDRAW_EVERY } else { LINE_EVERY };
    let mut next = began + every;
    while !done.load(Ordering::Acquire) {
        thread::sleep(Duration::from_millis(50));
        if Instant::now() < next {
            continue;
        }
        next += every;
        let (tried, simulated) = progress.so_far();
        let line = progress_line(tried, seeds, simulated, began.elapsed());
        if terminal {
            eprint!("\r{line}\x1b[K");
            // What cannot be shown is no reason to stop.
            drop(io::stderr().flush());
        } else {
            eprintln!("{line}");
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
}

/// Tells the story of a failure, and makes its schedule smaller.
fn tell(options: &Options, plan: &Plan, failure: &Failure) -> io::Result<()> {
    if options.quiet {
        return Ok(());
    }
    // The same run again, this time written down.
    let plan = Plan {
        trace: if options.trace { Keep::All } else { Keep::Last },
        ..plan.clone()
    };
    let history = run(&plan)?.history;
    println!(
        "{}",
        Story {
            plan: &plan,
            failure,
            history: &history
        }
    );
    if options.until_violation || plan.keep.is_some() {
        return Ok(());
    }
    let unwritten = Plan {
        trace: Keep::Nothing,
        ..plan
    };
    let shrunk = shrink(&unwritten, &failure.violation, SHRINK_FOR)?;
    println!(
        "{}",
        Least {
            plan: &unwritten,
            shrunk: &shrunk
        }
    );
    Ok(())
}
