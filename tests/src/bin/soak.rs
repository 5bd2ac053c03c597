//! The soak, as a program: `cargo xtask soak` builds and runs it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks to its user"
)]

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    println!("the soak kills and suspends processes, which needs Unix");
    ExitCode::SUCCESS
}

#[cfg(unix)]
mod unix {
    use std::io;
    use std::process::ExitCode;
    use std::time::{Duration, SystemTime};

    use clap::Parser;
    use coordinator_tests::soak::{Plan, Store, Verdict, run};

    /// Runs nodes as processes on a real server, under random faults, and looks at everything.
    #[derive(Debug, Parser)]
    #[command(name = "cargo xtask soak")]
    struct Options {
        /// How long, start and end included.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// On which server: `postgres` or `redis`.
        #[arg(long, default_value = "postgres")]
        backend: Store,
        /// Where the faults come from; another one each time, if nothing is said.
        #[arg(long)]
        seed: Option<u64>,
        /// Tell each fault.
        #[arg(long)]
        trace: bool,
    }

    pub(super) fn main() -> ExitCode {
        match soak(&Options::parse()) {
            Ok(verdict) => told(&verdict),
            Err(error) => {
                eprintln!("soak: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn soak(options: &Options) -> io::Result<Verdict> {
        let ours = std::env::current_exe()?;
        let program = format!("pg_node{}", std::env::consts::EXE_SUFFIX);
        let plan = Plan {
            length: Duration::from_secs(60 * options.minutes),
            store: options.backend,
            seed: options.seed.unwrap_or_else(any_seed),
            program: ours.with_file_name(program),
            trace: options.trace,
        };
        let (store, minutes) = (options.backend, options.minutes);
        println!("soak on {store:?}: {minutes} minutes, seed {}", plan.seed);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(run(&plan, |line| println!("{line}")))
    }

    fn any_seed() -> u64 {
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        age.map_or(0, |age| u64::from(age.subsec_micros()))
    }

    fn told(verdict: &Verdict) -> ExitCode {
        for line in &verdict.findings {
            println!("  {line}");
        }
        for line in &verdict.violations {
            println!("  violated: {line}");
        }
        if verdict.violations.is_empty() {
            println!("clean");
            return ExitCode::SUCCESS;
        }
        println!("{} violations", verdict.violations.len());
        ExitCode::from(1)
    }
}
