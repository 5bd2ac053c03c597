//! Other programs: where they are, and what they say.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How often a process that is to end is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Where a program is: on the search path, or else in one of these places.
pub fn find(name: &str, places: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = places.iter().map(PathBuf::from);
    let mut candidates = env::split_paths(&path)
        .chain(places)
        .map(|place| place.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// Runs a program to its end, which must be a good one, and returns its output.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(Error::io(format!("start `{program}`")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::failed(
        format!("run `{program}` ({})", output.status),
        said,
    ))
}

/// Sends a signal to processes. The shell has a `kill` where the machine has no program of that
/// name.
///
/// Every number is checked to be a process's: 0 and negative numbers mean whole groups.
pub(crate) fn signal(name: &str, processes: &[u32]) -> Result<(), Error> {
    let processes: Vec<String> = processes
        .iter()
        .filter(|process| **process > 1)
        .map(u32::to_string)
        .collect();
    if processes.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("sh");
    command.args(["-c", r#"kill -s "$0" "$@""#, name]);
    run(command.args(processes)).map(drop)
}

/// The processes that a process has started and that still run.
pub(crate) fn children(parent: u32) -> Result<Vec<u32>, Error> {
    if let Ok(listed) = fs::read_dir("/proc/self/task").and_then(|_| fs::read_dir("/proc")) {
        let names = listed.flatten().map(|entry| entry.file_name());
        let processes = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
        let is_child = |process: &u32| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat"));
            stat.is_ok_and(|stat| parent_in_stat(&stat) == Some(parent))
        };
        return Ok(processes.filter(is_child).collect());
    }
    let mut command = Command::new("ps");
    let listed = run(command.args(["-A", "-o", "pid=,ppid="]))?;
    Ok(children_in(&listed, parent))
}

/// Waits for the end of a process, and says whether it came.
pub(crate) fn await_end(process: &mut Child, limit: Duration) -> Result<bool, Error> {
    let began = Instant::now();
    loop {
        let ended = process
            .try_wait()
            .map_err(Error::io("look at the server"))?;
        if ended.is_some() {
            return Ok(true);
        }
        if began.elapsed() >= limit {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
}

/// The parent in what Linux says of a process. Its name, in brackets, may be anything.
fn parent_in_stat(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The children in what `ps` lists.
fn children_in(listed: &str, parent: u32) -> Vec<u32> {
    let pairs = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(str::parse::<u32>);
        Some((words.next()?.ok()?, words.next()?.ok()?))
    });
    pairs
        .filter(|(_, of)| *of == parent)
        .map(|(child, _)| child)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_those_whose_parent_it_is() {
        let listed = "    1     0\n  410     1\n  411   410\n 4110   410\n  500   411\n";
        assert_eq!(children_in(listed, 410), [411, 4110]);
        assert_eq!(children_in(listed, 7), [0; 0]);
    }

    #[test]
    fn a_parent_is_found_whatever_the_process_is_called() {
        assert_eq!(parent_in_stat("17 (a) b (c) S 4 17 17 0 -1"), Some(4));
        assert_eq!(parent_in_stat("17"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_child_of_ours_is_found_and_ended() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(children(std::process::id()).unwrap().contains(&child.id()));
        signal("KILL", &[child.id()]).unwrap();
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn no_signal_goes_to_whole_groups() {
        // `kill` would fail if it were started without a process.
        assert!(signal("KILL", &[0, 1]).is_ok());
        assert!(signal("KILL", &[]).is_ok());
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert_eq!(find("no-such-program-of-ours", &["/nowhere"]), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_failure_tells_what_the_program_has_said() {
        let mut command = Command::new("sh");
        let failed = run(command.args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        assert!(failed.to_string().contains("no such thing"), "{failed}");
    }
}
