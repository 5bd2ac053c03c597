//! A server in a container, by a program of ours that is built only when it is needed: the
//! client of the container engine has 85 crates.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coordinator_servers::{detach, find_program};

use crate::error::Error;
use crate::process;

/// How long the engine may take to say that it runs.
const LIMIT: Duration = Duration::from_secs(20);

/// A container, which ends when this is dropped: the program that started it removes it when its
/// input ends, and so also when we are gone.
pub(crate) struct Container {
    program: Child,
    url: String,
}

/// Starts one of that store, if a container engine answers.
pub(crate) fn start(store: &str) -> Result<Option<Container>, Error> {
    if find_program("docker", &[]).is_none() {
        return Ok(None);
    }
    let mut asked = Command::new("docker");
    asked
        .arg("info")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if process::run_for(&mut asked, LIMIT).is_err() {
        return Ok(None);
    }
    let target = process::target_dir().join("containers");
    let mut command = process::cargo(["run", "--quiet", "--locked", "--target-dir"]);
    command.arg(target);
    command.args([
        "--manifest-path",
        "tests/containers/Cargo.toml",
        "--",
        store,
    ]);
    process::announce(&command);
    Container::by(command).map(Some)
}

impl Container {
    /// The one that a program starts, which prints its URL, and removes it when its input ends.
    fn by(mut command: Command) -> Result<Self, Error> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        detach(&mut command);
        let program = command.spawn().map_err(Error::io("start a container"))?;
        let url = String::new();
        let mut container = Self { program, url };
        container.url = container.first_line()?;
        Ok(container)
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn first_line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        if let Some(output) = self.program.stdout.take() {
            let read = BufReader::new(output).read_line(&mut line);
            read.map_err(Error::io("read where the container is"))?;
        }
        match line.trim() {
            "" => Err(Error::Server("no container was started".to_owned())),
            url => Ok(url.to_owned()),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        drop(self.program.wait());
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn program(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_first_line_says_where_it_is_and_the_program_ends_with_its_input() {
        let left = std::env::temp_dir().join(format!("container-{}", std::process::id()));
        let script = format!("echo postgres://h:1/d; cat; touch '{}'", left.display());
        let container = Container::by(program(&script)).unwrap();
        assert_eq!(container.url(), "postgres://h:1/d");
        drop(container);
        std::fs::remove_file(left).expect("it was not waited for");
    }

    #[test]
    fn a_program_that_says_nothing_has_started_none() {
        assert!(matches!(
            Container::by(program("exit 1")),
            Err(Error::Server(_))
        ));
    }
}
