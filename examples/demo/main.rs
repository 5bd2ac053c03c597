//! A fleet shares real work through joins, leaves, crashes, pauses and cuts; at the end its
//! result is compared with that of a single process.
//!
//! `cargo run --release --example demo`; `-- --help` tells what can be asked for.
//!
//! | module | its part |
//! |---|---|
//! | `work` | the program of a user of the library: all that one writes to share such work |
//! | `fleet` | the nodes that run it |
//! | `faults`, `chaos` | what is done to them, and the doing |
//! | `witness`, `moves`, `watch` | what is seen from outside |
//! | `verdict` | the comparison with a single process |
//! | `state`, `view`, `screen` | what the viewer sees |

mod chaos;
mod faults;
mod fleet;
mod input;
mod ledger;
mod moves;
mod options;
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

use crate::options::{Options, Speed};
use crate::run::{Ended, Run};
use crate::screen::Screen;

/// Exit code where the result is not that of a single process.
const UNEQUAL: u8 = 1;
/// Exit code where flags or input cannot be used.
const UNUSABLE: u8 = 2;
/// Exit code where the viewer or a signal ended the run.
const INTERRUPTED: u8 = 130;

/// How fast virtual time runs on a terminal, unless told.
const LIVE_SPEED: Speed = Speed::Times(10.0);

fn main() -> ExitCode {
    let options = Options::parse();
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
    let run = Run::prepare(options)?;
    let live = !options.plain && can_draw();
    let speed = options
        .speed
        .unwrap_or(if live { LIVE_SPEED } else { Speed::Max });
    let screen = if live {
        Screen::live(speed)?
    } else {
        Screen::lines(speed, io::stdout())
    };
    // Everything runs on this thread, in virtual time: so a seed replays its run.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    // A signal ends the run from inside, so that the terminal is given back.
    let ended = runtime.block_on(run.play(screen, speed, signal::terminate()))?;
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

/// Whether the output is a terminal on which a picture can be drawn.
fn can_draw() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether the reader of our output has gone, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let source = error.downcast_ref::<io::Error>();
    source.is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
}
