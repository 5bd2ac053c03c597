//! Starting other programs, and waiting for them: to their end, or for so long.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How often a program with a time limit is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The directory of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The cargo that runs us, in the directory of the workspace.
pub(crate) fn cargo<I: IntoIterator<Item: AsRef<str>>>(arguments: I) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command
}

/// Runs a program to its end, which must be a good one. Its output is ours.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    run_as(&line(command), command)
}

/// As [`run`], where the command line is not to be shown: this is, instead.
pub(crate) fn run_as(shown: &str, command: &mut Command) -> Result<(), Error> {
    println!("$ {shown}");
    let status = command
        .status()
        .map_err(Error::io(format!("start `{shown}`")))?;
    if status.success() {
        return Ok(());
    }
    let (program, code) = (shown.to_owned(), status.code());
    Err(Error::Failed { program, code })
}

/// Builds programs of our tests, optimised, and runs the one called `name`, which speaks for itself.
pub(crate) fn run_optimised(
    name: &str,
    programs: &[&str],
    arguments: &[String],
) -> Result<(), Error> {
    let mut build = cargo([
        "build",
        "--quiet",
        "--release",
        "--package",
        "coordinator-tests",
    ]);
    for program in programs {
        build.args(["--bin", program]);
    }
    // Not announced: with `--quiet` its last line is all there is.
    let status = build.status().map_err(Error::io("start `cargo build`"))?;
    succeeded(&build, status)?;
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let mut program = Command::new(target_dir().join("release").join(file));
    let status = program.args(arguments).status();
    let status = status.map_err(Error::io(format!("start `{name}`")))?;
    match status.code() {
        Some(0) => Ok(()),
        // It has said what was wrong, and its last line stays the last.
        Some(code) => Err(Error::Told(u8::try_from(code).unwrap_or(1))),
        None => succeeded(&program, status),
    }
}

/// Runs a program, gives each line of its standard output to `each`, and returns how it ended.
pub(crate) fn read_lines(
    command: &mut Command,
    mut each: impl FnMut(&str),
) -> Result<ExitStatus, Error> {
    let mut child = spawn(command.stdout(Stdio::piped()))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while read_line(&mut output, &mut bytes, command)? {
            each(&String::from_utf8_lossy(&bytes));
        }
    }
    child
        .wait()
        .map_err(Error::io(format!("wait for `{}`", line(command))))
}

fn read_line(
    output: &mut impl BufRead,
    bytes: &mut Vec<u8>,
    command: &Command,
) -> Result<bool, Error> {
    bytes.clear();
    let read = output.read_until(b'\n', bytes);
    read.map_err(Error::io(format!("read the output of `{}`", line(command))))?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
        if bytes.is_empty() {
            return Ok(true); // an empty line is a line
        }
    }
    Ok(!bytes.is_empty())
}

/// Runs a program for at most `limit`. Its output is ours.
pub(crate) fn run_for(command: &mut Command, limit: Duration) -> Result<(), Error> {
    announce(command);
    let mut child = spawn(command)?;
    let started = Instant::now();
    loop {
        let status = child.try_wait();
        if let Some(status) = status.map_err(Error::io(format!("wait for `{}`", line(command))))? {
            return succeeded(command, status);
        }
        if started.elapsed() >= limit {
            end(&mut child, command)?;
            let program = line(command);
            return Err(Error::TimedOut { program, limit });
        }
        thread::sleep(LOOK);
    }
}

fn end(child: &mut Child, command: &Command) -> Result<(), Error> {
    let ended = child.kill().and_then(|()| child.wait());
    ended
        .map(drop)
        .map_err(Error::io(format!("end `{}`", line(command))))
}

fn spawn(command: &mut Command) -> Result<Child, Error> {
    let child = command.spawn();
    child.map_err(Error::io(format!("start `{}`", line(command))))
}

pub(crate) fn succeeded(command: &Command, status: ExitStatus) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    let program = line(command);
    let code = status.code();
    Err(Error::Failed { program, code })
}

pub(crate) fn announce(command: &Command) {
    println!("$ {}", line(command));
}

/// The command line, as one would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_stem().unwrap_or(program.as_os_str());
    let mut line = name.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
