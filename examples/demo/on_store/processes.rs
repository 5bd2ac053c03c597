//! The fleet: a process for each node, which is this program again. They are really killed, frozen
//! and woken, by the signals of Unix, and end with this process.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZeroU16;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::node::Setup;
use super::recorder::{Recorder, SourceId};
use crate::faults::Fault;
use crate::fleet::Fleet;
use crate::state::Phase;
use crate::world::World;

/// How long all nodes together may take to leave in the end.
const LEAVING: Duration = Duration::from_secs(30);

/// How often it looks whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// The nodes of a run, each a process. Dropped, it ends them all.
pub(super) struct Processes {
    world: World,
    recorder: Arc<Recorder>,
    setup: Setup,
    input: PathBuf,
    shards: NonZeroU16,
    running: BTreeMap<String, Process>,
    leaving: Vec<Process>,
    readers: Vec<JoinHandle<()>>,
    /// How many names have been given.
    named: usize,
}

/// One process.
struct Process {
    name: String,
    id: SourceId,
    child: Child,
    /// As long as it is open, the node is to stay.
    stay: Option<ChildStdin>,
}

impl Processes {
    /// No process yet, of a fleet that is set up so and reads this input.
    pub(super) fn new(
        world: World,
        recorder: Recorder,
        setup: Setup,
        input: PathBuf,
        shards: NonZeroU16,
    ) -> Self {
        Self {
            world,
            recorder: Arc::new(recorder),
            setup,
            input,
            shards,
            running: BTreeMap::new(),
            leaving: Vec::new(),
            readers: Vec::new(),
            named: 0,
        }
    }

    fn spawn(&mut self, name: &str) -> io::Result<Process> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--as-node", name, "--shards", &self.shards.to_string()])
            .arg("--input")
            .arg(&self.input)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What goes wrong is told on the standard output; the terminal is the picture's.
            .stderr(Stdio::null())
            // Ctrl-C is for us alone: we end the nodes.
            .process_group(0)
            .spawn()?;
        let mut stay = child.stdin.take();
        let told = stay.as_mut().map(|stay| writeln!(stay, "{}", self.setup));
        let id = self.recorder.started(name);
        if let Some(output) = child.stdout.take() {
            let recorder = self.recorder.clone();
            let read = move || listen(&recorder, id, BufReader::new(output));
            self.readers.push(thread::spawn(read));
        }
        let process = Process {
            name: name.to_owned(),
            id,
            child,
            stay,
        };
        match told {
            Some(Err(error)) => Err(error),
            Some(Ok(())) | None => Ok(process),
        }
    }

    fn signal(&self, name: &str, signal: Signal) {
        let Some(process) = self.running.get(name) else {
            return;
        };
        // Not yet waited for: so this number is still the child's.
        if let Err(error) = kill_process(Pid::from_child(&process.child), signal) {
            self.world
                .violated(format!("cannot send {signal:?} to {name}: {error}"));
        }
    }

    /// Whether all that were asked to have left.
    fn have_left(&mut self) -> bool {
        let runs = |process: &mut Process| !matches!(process.child.try_wait(), Ok(Some(_)));
        self.leaving.retain_mut(runs);
        self.leaving.is_empty()
    }
}

/// Hears a process to its end.
fn listen(recorder: &Recorder, id: SourceId, output: impl BufRead) {
    // One that cannot be read any more has ended, or is as good as that.
    for line in output.lines().map_while(Result::ok) {
        recorder.hears(id, &line);
    }
    recorder.ended(id);
}

impl Fleet for Processes {
    fn new_name(&mut self) -> String {
        self.named += 1;
        format!("node-{}", self.named)
    }

    fn start(&mut self, name: &str) {
        self.world.enters(name, Phase::Joining);
        match self.spawn(name) {
            Ok(process) => {
                self.running.insert(name.to_owned(), process);
            }
            Err(error) => {
                self.world.enters(name, Phase::Crashed);
                self.world.violated(format!("cannot start {name}: {error}"));
            }
        }
    }

    fn suffer(&mut self, name: &str, fault: Fault) {
        match fault {
            Fault::Join => {}
            Fault::Leave => {
                if let Some(mut process) = self.running.remove(name) {
                    drop(process.stay.take());
                    self.leaving.push(process);
                }
            }
            Fault::Crash => {
                if let Some(mut process) = self.running.remove(name) {
                    process.kill();
                    self.recorder.killed(process.id);
                }
            }
            Fault::Pause => {
                self.signal(name, Signal::STOP);
                if let Some(process) = self.running.get(name) {
                    self.recorder.frozen(process.id);
                }
            }
            Fault::Cut => self
                .world
                .violated(format!("{name} cannot be cut off: it is a process")),
        }
    }

    fn mend(&mut self, name: &str, fault: Fault) {
        match fault {
            Fault::Join | Fault::Leave | Fault::Cut => {}
            Fault::Crash => self.start(name),
            Fault::Pause => {
                if let Some(process) = self.running.get(name) {
                    self.recorder.thawed(process.id);
                }
                self.signal(name, Signal::CONT);
            }
        }
    }

    async fn end(mut self) {
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in &names {
            self.suffer(name, Fault::Leave);
        }
        let deadline = Instant::now() + LEAVING;
        while !self.have_left() && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        for process in &self.leaving {
            let what = format!("{} did not end in {LEAVING:?}", process.name);
            self.world.violated(what);
        }
        // Dropped here: whatever still runs is ended, and all that was said is heard.
    }
}

impl Process {
    /// As `kill -9` does. It is dead when this returns.
    fn kill(&mut self) {
        // Both fail only where it has ended before.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let running = std::mem::take(&mut self.running).into_values();
        for mut process in running.chain(self.leaving.drain(..)) {
            process.kill();
            self.recorder.killed(process.id);
        }
        for reader in self.readers.drain(..) {
            // A reader that panicked has told so.
            reader.join().ok();
        }
    }
}
