//! Cleaning up after a process, however it ends.
//!
//! A static is never dropped, and nothing is when a process is killed or somebody presses Ctrl-C. So
//! a shell holds the other end of a pipe: when the pipe closes without a word, we are gone, and it
//! does what we would have done. Nothing else tells a process of another's end without `unsafe`.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::Error;
use crate::os;

/// Stops what has left its number in a folder, and removes the folder. A number alone may be that
/// of another process by now: it must also name the folder on its command line.
const REMOVE_FOLDER: &str = r#"
command_line() {
    if [ -e "/proc/$1/cmdline" ]; then
        tr '\0' ' ' < "/proc/$1/cmdline"
    else
        ps -p "$1" -o args=
    fi
}
for file in "$1"/data/postmaster.pid "$1"/*.pid; do
    [ -e "$file" ] || continue
    process=$(head -n 1 "$file")
    case "$(command_line "$process")" in
        *"$1"*)
            # A Redis has no answer of its own to QUIT, which it may have been started to ignore.
            case "$file" in
                */redis.pid) signal=KILL ;;
                *) signal=QUIT ;;
            esac
            kill -s CONT "$process"
            kill -s "$signal" "$process"
            tries=0
            while kill -0 "$process" && [ -e "$file" ] && [ "$tries" -lt 100 ]; do
                sleep 0.1
                tries=$((tries + 1))
            done
            [ -e "$file" ] && kill -s KILL "$process"
            ;;
    esac
done
rm -rf "$1"
"#;

/// Ends a process.
const END_PROCESS: &str = r#"kill -s KILL "$1""#;

/// Waits for a word, and goes when it comes. A shell that Ctrl-C reaches must not go before.
const AWAIT: &str = r#"
trap '' HUP INT QUIT TERM
read -r word
[ "$word" = done ] && exit 0
"#;

/// A shell that cleans up if this process ends without [`Cleaner::dismiss`] or a drop.
#[derive(Debug)]
pub struct Cleaner {
    shell: Child,
}

impl Cleaner {
    /// One that stops the servers in a folder and removes it.
    pub(crate) fn of_folder(folder: &Path) -> Result<Self, Error> {
        let mut command = shell(REMOVE_FOLDER);
        command.arg(folder);
        Self::start(command)
    }

    /// One that ends a process. Dismiss it before the process is waited for: afterwards the number
    /// may be another's.
    pub fn of_process(process: u32) -> Result<Self, Error> {
        let mut command = shell(END_PROCESS);
        command.arg(process.to_string());
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self, Error> {
        let shell = command.spawn();
        let shell = shell.map_err(Error::io("start the shell that cleans up"))?;
        Ok(Self { shell })
    }

    /// Lets it go: there is nothing left to clean up.
    pub fn dismiss(self) {
        drop(self);
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        let told = self
            .shell
            .stdin
            .take()
            .map(|mut pipe| pipe.write_all(b"done\n"));
        // A shell that is gone already cannot be told, and need not be.
        drop(told);
        drop(self.shell.wait());
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{AWAIT}{script}"), "cleaner"]);
    command.current_dir("/");
    command.stdin(Stdio::piped());
    // An open pipe to whoever reads our output would keep them waiting after our end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    os::detach(&mut command);
    command
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// What happens when this process is gone: the pipe closes, without a word.
    fn vanish(mut cleaner: Cleaner) -> bool {
        drop(cleaner.shell.stdin.take());
        cleaner.shell.wait().is_ok()
    }

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn a_folder_goes_with_the_process_that_made_it() {
        let folder = std::env::temp_dir().join(format!("cleaner-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let cleaner = Cleaner::of_folder(&folder).unwrap();
        assert!(vanish(cleaner));
        assert!(!folder.exists());
    }

    #[test]
    fn a_process_goes_with_the_process_that_started_it() {
        let mut sleeper = sleeper().spawn().unwrap();
        assert!(vanish(Cleaner::of_process(sleeper.id()).unwrap()));
        assert!(!sleeper.wait().unwrap().success());
    }

    #[test]
    fn a_number_that_is_another_processes_by_now_is_let_be() {
        let folder = std::env::temp_dir().join(format!("cleaner-other-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut sleeper = sleeper().spawn().unwrap();
        std::fs::write(folder.join("old.pid"), sleeper.id().to_string()).unwrap();
        assert!(vanish(Cleaner::of_folder(&folder).unwrap()));
        assert!(!folder.exists());
        assert!(sleeper.try_wait().unwrap().is_none(), "it was ended");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn one_that_is_dismissed_does_nothing_and_goes() {
        let mut sleeper = sleeper().spawn().unwrap();
        let began = Instant::now();
        Cleaner::of_process(sleeper.id()).unwrap().dismiss();
        assert!(began.elapsed() < Duration::from_secs(60));
        assert!(sleeper.try_wait().unwrap().is_none());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}
