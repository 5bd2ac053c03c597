//! A fleet shares real work through joins, leaves, crashes, pauses and cuts; at the end its
//! result is compared with that of a single process.
//!
//! `cargo run --release --example demo`; `-- --help` tells what can be asked for.
//!
//! | module | its part |
//! |---|---|
//! | `work` | the program of a user of the library: all that one writes to share such work |
//! | `memory` | the nodes that run it, as tasks of this process in virtual time |
//! | `on_store` | the same on a store: a process for each node, in real time |
//! | `postgres`, `redis` | what each does there, its `projection`, and where that is kept |
//! | `faults`, `chaos` | what is done to them, and the doing |
//! | `witness`, `moves`, `watch` | what is seen from outside |
//! | `verdict` | the comparison with a single process |
//! | `state`, `view`, `screen` | what the viewer sees |

#![cfg_attr(
    not(unix),
    allow(dead_code, reason = "what a fleet of processes needs besides")
)]

mod camera;
mod chaos;
mod director;
mod faults;
mod fleet;
mod input;
mod ledger;
mod memory;
mod moves;
#[cfg(unix)]
mod on_store;
mod options;
#[cfg(unix)]
mod postgres;
#[cfg(unix)]
mod redis;
mod run;
mod screen;
mod source;
mod state;
mod verdict;
mod view;
mod watch;
mod witness;
mod work;
mod world;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use coordinator_node::signal;

use crate::options::{Options, Place, Speed};
use crate::run::{Ended, Run};
use crate::screen::Screen;

/// Exit code where the result is not that of a single process.
const UNEQUAL: u8 = 1;
/// Exit code where flags or input cannot be used, or there is no such store.
const UNUSABLE: u8 = 2;
/// Exit code where the viewer or a signal ended the run.
const INTERRUPTED: u8 = 130;

/// How fast virtual time runs on a terminal, unless told.
const LIVE_SPEED: Speed = Speed::Times(10.0);

fn main() -> ExitCode {
    let options = Options::parse();
    #[cfg(unix)]
    if let Some(name) = &options.as_node {
        return on_store::be_node(name, &options);
    }
    match demonstrate(&options) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            // Where even this cannot be written, the exit code tells.
            writeln!(io::stderr(), "error: {error:#}").ok();
            ExitCode::from(UNUSABLE)
        }
    }
}

fn demonstrate(options: &Options) -> anyhow::Result<ExitCode> {
    let place = options.place()?;
    let run = Run::prepare(options)?;
    let ended = match place {
        Place::Memory => play_in_memory(run, options)?,
        #[cfg(unix)]
        Place::Postgres(url) => play_on::<postgres::Schema>(run, url, options)?,
        #[cfg(unix)]
        Place::Redis(url) => play_on::<redis::Namespace>(run, url, options)?,
        #[cfg(not(unix))]
        Place::Postgres(_) | Place::Redis(_) => anyhow::bail!(
            "nodes are killed and frozen by the signals of Unix: here there is `memory:` only"
        ),
    };
    let mut out = io::stdout().lock();
    Ok(match ended {
        Ended::Interrupted => {
            writeln!(out, "interrupted: no verdict")?;
            ExitCode::from(INTERRUPTED)
        }
        Ended::Judged(verdict) => {
            write!(out, "{verdict}")?;
            if verdict.is_equal() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(UNEQUAL)
            }
        }
    })
}

fn play_in_memory(run: Run, options: &Options) -> anyhow::Result<Ended> {
    let unless_told = if is_live(options) {
        LIVE_SPEED
    } else {
        Speed::Max
    };
    let speed = options.speed.unwrap_or(unless_told);
    let screen = screen(options, speed)?;
    // Everything runs on this thread, in virtual time: so a seed replays its run.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    // A signal ends the run from inside, so that the terminal is given back.
    runtime.block_on(run.play(screen, speed, signal::terminate()))
}

#[cfg(unix)]
fn play_on<G: on_store::Ground>(run: Run, url: &str, options: &Options) -> anyhow::Result<Ended> {
    // The nodes end with the thread that has started them: all happens on this one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let screen = || screen(options, Speed::Times(1.0));
    let playing = on_store::play::<G>(run, url, options, screen, signal::terminate());
    runtime.block_on(playing)
}

fn screen(options: &Options, speed: Speed) -> io::Result<Screen> {
    if is_live(options) {
        Screen::live(speed)
    } else {
        Ok(Screen::lines(speed, io::stdout()))
    }
}

/// Whether the output is a terminal on which a picture can be drawn, and may be.
fn is_live(options: &Options) -> bool {
    let can_draw =
        io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    can_draw && !options.plain
}

/// Whether the reader of our output has gone, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let source = error.downcast_ref::<io::Error>();
    source.is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
}
