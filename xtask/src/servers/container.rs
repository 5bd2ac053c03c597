//! A Postgres server in a container, by a program of ours that is built only when it is needed: the
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

/// Starts one, if a container engine answers.
pub(crate) fn start() -> Result<Option<Container>, Error> {
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
    command.args(["--manifest-path", "tests/containers/Cargo.toml"]);
    process::announce(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    detach(&mut command);
    let program = command.spawn().map_err(Error::io("start a container"))?;
    let mut container = Container {
        program,
        url: String::new(),
    };
    container.url = container.first_line()?;
    Ok(Some(container))
}

impl Container {
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
