//! Processes to kill and to suspend, and what they report.
//!
//! A program under test prints one line for each event by [`report`], with the moment on a clock that
//! all processes of the machine share.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use coordinator_servers::{Cleaner, detach};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A clock that all processes share, that never goes back, and that counts suspension where the
/// system has such a clock.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// What a program has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, by the clock of [`now`].
    pub at: Duration,
    /// What.
    pub text: String,
}

/// The moment, on the clock that all processes of this machine share.
pub fn now() -> Duration {
    let read = clock_gettime(CLOCK);
    let seconds = u64::try_from(read.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(read.tv_nsec).unwrap_or(0))
}

/// Prints one line with its moment, for the test that has started this program.
///
/// # Errors
/// When nobody reads any more.
pub fn report(text: impl Display) -> io::Result<()> {
    report_at(now(), text)
}

/// Prints one line with a moment that was read before, where what is told must not seem to have come
/// later than it did.
///
/// # Errors
/// When nobody reads any more.
pub fn report_at(at: Duration, text: impl Display) -> io::Result<()> {
    let line = format!("{} {text}\n", at.as_nanos());
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.flush()
}

/// A program under test. Dropping it kills it; so does the end of this process, however it comes.
#[derive(Debug)]
pub struct Program {
    child: Child,
    cleaner: Option<Cleaner>,
    lines: mpsc::UnboundedReceiver<Event>,
    passed_over: VecDeque<Event>,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Starts it. What it prints is read all the time; its standard error is ours, and its input is
    /// open until it is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        detach(command);
        let mut child = command.spawn()?;
        let cleaner = Cleaner::of_process(child.id()).map_err(io::Error::other);
        let (sender, lines) = mpsc::unbounded_channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || read(output, &sender));
        }
        let mut program = Self {
            child,
            cleaner: None,
            lines,
            passed_over: VecDeque::new(),
            ended: None,
        };
        program.cleaner = Some(cleaner?);
        Ok(program)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as `kill -9` does, and returns the moment just before.
    ///
    /// # Errors
    /// When it has ended.
    pub fn kill(&mut self) -> io::Result<Duration> {
        self.signal(Signal::KILL)
    }

    /// Asks it to end, as Ctrl-C and service managers do, and returns the moment just before.
    ///
    /// # Errors
    /// When it has ended.
    pub fn terminate(&mut self) -> io::Result<Duration> {
        self.signal(Signal::TERM)
    }

    /// Stops it where it is, as a suspended machine, and returns the moment just before. The system
    /// goes on acknowledging what is sent to it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn suspend(&mut self) -> io::Result<Duration> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on, and returns the moment just before.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self) -> io::Result<Duration> {
        self.signal(Signal::CONT)
    }

    /// Writes a line to its input.
    ///
    /// # Errors
    /// When it reads no more.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let input = self.child.stdin.as_mut().ok_or_else(gone)?;
        input.write_all(format!("{line}\n").as_bytes())
    }

    /// The next event, in order; none when it has closed its output. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        match self.passed_over.pop_front() {
            Some(event) => Some(event),
            None => self.lines.recv().await,
        }
    }

    /// Waits for the first event that has begun since with this text. Those before it stay for
    /// [`Program::next`].
    ///
    /// # Errors
    /// When it does not come within `limit`, or the output ends: with all that was said instead.
    pub async fn until(&mut self, beginning: &str, limit: Duration) -> io::Result<Event> {
        let meant = |event: &Event| event.text.starts_with(beginning);
        if let Some(at) = self.passed_over.iter().position(meant)
            && let Some(event) = self.passed_over.remove(at)
        {
            return Ok(event);
        }
        let search = async {
            while let Some(event) = self.lines.recv().await {
                if meant(&event) {
                    return Some(event);
                }
                self.passed_over.push_back(event);
            }
            None
        };
        match timeout(limit, search).await {
            Ok(Some(event)) => Ok(event),
            other => {
                let why = if other.is_ok() {
                    "it has ended"
                } else {
                    "it has not come"
                };
                let said: Vec<_> = self.passed_over.iter().map(|event| &event.text).collect();
                let text = format!("no `{beginning}` within {limit:?}, {why}; said: {said:?}");
                Err(io::Error::other(text))
            }
        }
    }

    /// Waits for its end. What it has said until then stays for [`Program::next`].
    ///
    /// # Errors
    /// When it closed its output and cannot be waited for.
    pub async fn end(&mut self) -> io::Result<ExitStatus> {
        while let Some(event) = self.lines.recv().await {
            self.passed_over.push_back(event);
        }
        self.wait()
    }

    fn signal(&mut self, signal: Signal) -> io::Result<Duration> {
        // Once it was waited for, its number may be another's.
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let number = i32::try_from(self.child.id())
            .ok()
            .filter(|number| *number > 1);
        let process = number
            .and_then(Pid::from_raw)
            .filter(|_| self.ended.is_none());
        let before = now();
        kill_process(process.ok_or_else(gone)?, signal)?;
        Ok(before)
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        // First: afterwards the number may be another's.
        self.cleaner = None;
        let ended = self.child.wait()?;
        self.ended = Some(ended);
        Ok(ended)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        drop(self.kill());
        drop(self.wait());
    }
}

fn read(output: ChildStdout, events: &mpsc::UnboundedSender<Event>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if events.send(event(line)).is_err() {
            return;
        }
    }
}

/// A line without a moment of its own has that at which it was read.
fn event(line: String) -> Event {
    let stamped = line.split_once(' ').and_then(|(at, text)| {
        let at = Duration::from_nanos(at.parse().ok()?);
        let text = text.to_owned();
        Some(Event { at, text })
    });
    stamped.unwrap_or_else(|| Event {
        at: now(),
        text: line,
    })
}
