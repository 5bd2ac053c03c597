//! The run itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep_until, timeout};

use super::books::Books;
use super::faults::Fault;
use super::fleet::{DURABLE, ELECTIONS, Fleet, NEWS, SHARDS};
use super::messages::Messages;
use super::server::{Server, Store};
use crate::servers::process::{Event, now};
use crate::servers::{Direction, Mode};

/// What is kept of each run for its start and its end.
const AROUND: Duration = Duration::from_secs(22);
/// A line so often.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// All nodes are up, or all is calm again, within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is held is told of at least so often by whoever lives.
const RECENT: Duration = Duration::from_secs(2);
/// Sessions that come and go: readers of a pool.
const SPARE_SESSIONS: i64 = 8;
/// Listeners may grow by so much after the beginning: megabytes.
const GROWTH: f64 = 24.0;
/// No table has more rows, but for the log: names that lived in one run are few.
const ROWS: i64 = 2_000;

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long, all in all.
    pub length: Duration,
    /// On which server.
    pub store: Store,
    /// Where the faults come from.
    pub seed: u64,
    /// The program `pg_node`.
    pub program: PathBuf,
    /// Whether each fault is told.
    pub trace: bool,
}

/// What a run has shown.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What was found wrong. Empty: nothing.
    pub violations: Vec<String>,
    /// What was looked at, and how it was.
    pub findings: Vec<String>,
}

/// Runs it; `tell` is given a line now and then.
///
/// # Errors
/// When it cannot be run at all: no server, no program.
pub async fn run(plan: &Plan, tell: impl FnMut(&str)) -> io::Result<Verdict> {
    let server = Server::start(plan.store).await?;
    let fleet = Fleet::start(&server, &plan.program)?;
    let mut soak = Soak {
        plan,
        server,
        fleet,
        tell,
        random: StdRng::seed_from_u64(plan.seed),
        books: Books::default(),
        topics: [DURABLE, NEWS]
            .map(|name| (name.to_owned(), Messages::default()))
            .into(),
        recent: BTreeMap::new(),
        ready: BTreeSet::new(),
        later: Vec::new(),
        faults: BTreeMap::new(),
        verdict: Verdict::default(),
        began: Instant::now(),
    };
    soak.all().await?;
    Ok(soak.verdict)
}

/// What ends a fault.
enum After {
    Start(usize),
    Resume(usize),
    Pass(usize),
    Reset(usize),
    CloseOurs(usize),
}

struct Soak<'a, T> {
    plan: &'a Plan,
    server: Server,
    fleet: Fleet,
    tell: T,
    random: StdRng,
    books: Books,
    topics: BTreeMap<String, Messages>,
    /// When each lease was last told to be held.
    recent: BTreeMap<String, Duration>,
    ready: BTreeSet<usize>,
    later: Vec<(Instant, After)>,
    faults: BTreeMap<&'static str, usize>,
    verdict: Verdict,
    began: Instant,
}

impl<T: FnMut(&str)> Soak<'_, T> {
    async fn all(&mut self) -> io::Result<()> {
        let all = self.fleet.nodes.len();
        if !self
            .listen_until(|soak| soak.ready.len() == all && soak.all_held())
            .await?
        {
            self.violated("not all nodes started, or not everything has a holder");
            return Ok(());
        }
        let sessions = self.sessions().await;
        let rest = self.plan.length.saturating_sub(AROUND);
        let memory = self.under_faults(Instant::now() + rest).await?;
        self.calm(sessions, &memory).await?;
        for line in self.books.violations() {
            self.violated(&line);
        }
        self.leave().await
    }

    /// Lets faults happen until then. What listeners had in memory once all was warm.
    async fn under_faults(&mut self, end: Instant) -> io::Result<Vec<Option<f64>>> {
        let warm = Instant::now() + (end - Instant::now()) / 4;
        let mut memory = None;
        let half = Instant::now() + (end - Instant::now()) / 2;
        let mut next_fault = Instant::now();
        let mut next_line = self.began + LINE_EVERY;
        while Instant::now() < end {
            if memory.is_none() && Instant::now() >= warm {
                memory = Some(self.memory());
            }
            if Instant::now() >= next_line {
                next_line += LINE_EVERY;
                self.line().await;
            }
            if Instant::now() >= next_fault {
                next_fault = Instant::now() + Fault::pause(&mut self.random);
                let fault = self.next_fault(Instant::now() >= half);
                self.bring_about(fault).await?;
            }
            let until = next_fault.min(next_line).min(end);
            self.listen(until).await?;
        }
        Ok(memory.unwrap_or_else(|| self.memory()))
    }

    /// Listens until then, and ends faults when they are due.
    async fn listen(&mut self, until: Instant) -> io::Result<()> {
        loop {
            let due = self.later.iter().map(|(at, _)| *at).min().unwrap_or(until);
            tokio::select! {
                (index, event) = self.fleet.next() => self.hear(index, event),
                () = sleep_until(due.min(until)) => {}
            }
            while let Some(at) = self.later.iter().position(|(at, _)| *at <= Instant::now()) {
                let (_, after) = self.later.swap_remove(at);
                self.end_fault(after).await?;
            }
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    /// Listens until something is so. False: it has not become so.
    async fn listen_until(&mut self, is_so: impl Fn(&Self) -> bool) -> io::Result<bool> {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            if Instant::now() >= end {
                return Ok(false);
            }
            self.listen(Instant::now() + Duration::from_millis(50))
                .await?;
        }
        Ok(true)
    }

    fn hear(&mut self, index: usize, event: Option<Event>) {
        let node = &mut self.fleet.nodes[index];
        let life = node.life();
        let Some(event) = event else {
            let was_expected = node.is_ending;
            node.program = None;
            self.ready.remove(&index);
            if !was_expected {
                self.violated(&format!("node {life} ended by itself"));
                self.later.push((Instant::now(), After::Start(index)));
            }
            return;
        };
        let words: Vec<&str> = event.text.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let topic = |soak: &mut Self, each: &dyn Fn(&mut Messages)| {
            let topic = words.get(1).and_then(|name| soak.topics.get_mut(*name));
            topic.into_iter().for_each(each);
        };
        match (words.first().copied(), number(2), number(3)) {
            (Some("ready"), ..) => drop(self.ready.insert(index)),
            (Some("elected" | "acts"), Some(token), _) => {
                self.books.trusted(&life, words[1], token, event.at);
                let recent = self.recent.entry(words[1].to_owned()).or_default();
                *recent = event.at.max(*recent);
            }
            (Some("accepted"), Some(number), _) => topic(self, &|topic| topic.accepted(number)),
            (Some("published"), Some(number), _) => topic(self, &|topic| topic.failed(number)),
            (Some("got"), _, Some(number)) => topic(self, &|topic| topic.received(number)),
            (Some("gap"), ..) => {
                topic(self, &Messages::gap);
                if words.get(1) == Some(&DURABLE) && !self.server.may_tell(&event.text) {
                    self.violated(&format!("a durable subscriber was told: {}", event.text));
                }
            }
            // One who leaves gives up what it waits for.
            (Some("error"), ..) if self.fleet.nodes[index].is_ending => (),
            // Begun amid a fault: it says so and ends, and whoever runs it starts it again.
            (Some("failed"), ..)
                if !self.ready.contains(&index) && is_out_of_reach(&event.text) =>
            {
                self.fleet.nodes[index].is_ending = true;
                let again = Instant::now() + Duration::from_secs(1);
                self.later.push((again, After::Start(index)));
            }
            (Some("failed" | "error" | "malformed"), ..) => {
                self.violated(&format!("node {life}: {}", event.text));
            }
            _ => (),
        }
    }

    /// By chance; but the server restarts in every run.
    fn next_fault(&mut self, is_late: bool) -> Fault {
        let nodes = self.fleet.nodes.iter().enumerate();
        let proxied = nodes.filter(|(_, node)| node.proxy.is_some());
        let proxied: Vec<_> = proxied.map(|(index, _)| index).collect();
        let fault = Fault::random(&mut self.random, self.fleet.nodes.len(), &proxied);
        let restart = Fault::Restart(true);
        if is_late && !self.faults.contains_key(restart.kind()) {
            return restart;
        }
        fault
    }

    async fn bring_about(&mut self, fault: Fault) -> io::Result<()> {
        if self.plan.trace {
            let line = format!("{:6.1} s: {fault}", self.began.elapsed().as_secs_f64());
            (self.tell)(&line);
        }
        if self.happens(fault).await? {
            *self.faults.entry(fault.kind()).or_default() += 1;
        }
        Ok(())
    }

    /// Whether it could happen: a node may be down already.
    async fn happens(&mut self, fault: Fault) -> io::Result<bool> {
        let after = |span: Duration| Instant::now() + span;
        match fault {
            Fault::Kill(index, back) => {
                let node = &mut self.fleet.nodes[index];
                let Some(program) = node.program.as_mut().filter(|_| !node.is_ending) else {
                    return Ok(false);
                };
                node.is_ending = true;
                program.kill()?;
                self.later.push((after(back), After::Start(index)));
            }
            Fault::Suspend(index, span) => {
                let node = &mut self.fleet.nodes[index];
                let can = !node.is_ending && !node.suspended;
                let Some(program) = node.program.as_mut().filter(|_| can) else {
                    return Ok(false);
                };
                program.suspend()?;
                node.suspended = true;
                self.later.push((after(span), After::Resume(index)));
            }
            Fault::Terminate(which) => {
                let ended = self.server.terminate(which).await;
                ended.map_err(io::Error::other)?;
            }
            Fault::Hold(index, span) => {
                self.network(index, Mode::Hold);
                self.later.push((after(span), After::Pass(index)));
            }
            Fault::Lose(index, span) => {
                self.network(index, Mode::Lose);
                self.later.push((after(span), After::Reset(index)));
            }
            Fault::Reset(index) => self.end_fault(After::Reset(index)).await?,
            Fault::HalfClose(index, span) => {
                if let Some(proxy) = &self.fleet.nodes[index].proxy {
                    proxy.close_server_side().await;
                }
                self.later.push((after(span), After::CloseOurs(index)));
            }
            Fault::Restart(orderly) => {
                self.server.restart(orderly).await?;
            }
        }
        Ok(true)
    }

    async fn end_fault(&mut self, after: After) -> io::Result<()> {
        match after {
            After::Start(index) => {
                // What it said last comes first.
                while self.fleet.nodes[index].program.is_some() {
                    let program = self.fleet.nodes[index].program.as_mut();
                    let event = match program {
                        Some(program) => program.next().await,
                        None => None,
                    };
                    self.hear(index, event);
                }
                self.fleet.start_node(index)?;
            }
            After::Resume(index) => {
                let node = &mut self.fleet.nodes[index];
                if let Some(program) = node.program.as_mut().filter(|_| node.suspended) {
                    // It may have been killed, and not yet be gone.
                    drop(program.resume());
                }
                node.suspended = false;
            }
            After::Pass(index) => self.network(index, Mode::Pass),
            After::Reset(index) => {
                if let Some(proxy) = &self.fleet.nodes[index].proxy {
                    proxy.reset_all().await;
                }
                self.network(index, Mode::Pass);
            }
            After::CloseOurs(index) => {
                if let Some(proxy) = &self.fleet.nodes[index].proxy {
                    proxy.close_client_side().await;
                }
            }
        }
        Ok(())
    }

    fn network(&self, index: usize, mode: Mode) {
        if let Some(proxy) = &self.fleet.nodes[index].proxy {
            proxy.set(Direction::Both, mode);
        }
    }

    /// Whether everything that somebody can hold was held a moment ago.
    fn all_held(&self) -> bool {
        let since = now().saturating_sub(RECENT);
        let is_held = |name: &String| self.recent.get(name).is_some_and(|at| *at >= since);
        let shards = (0..SHARDS).map(|shard| format!("k/{shard}"));
        let elections = ELECTIONS.iter().map(ToString::to_string);
        shards
            .chain(elections)
            .chain(["l".to_owned()])
            .all(|name| is_held(&name))
    }

    /// After the last fault all must be as at the beginning.
    async fn calm(&mut self, sessions: i64, memory: &[Option<f64>]) -> io::Result<()> {
        while !self.later.is_empty() {
            let last = self.later.iter().map(|(at, _)| *at).max();
            self.listen(last.unwrap_or_else(Instant::now)).await?;
        }
        let all = self.fleet.nodes.len();
        let recovers = Instant::now();
        let is_well = |soak: &Self| soak.ready.len() == all && soak.all_held();
        if !self.listen_until(is_well).await? {
            self.violated("after the last fault not everything has a holder");
        }
        let took = recovers.elapsed();
        self.found(format!(
            "all is held again {took:.1?} after the last fault has ended"
        ));
        let arrived = |soak: &Self| soak.topics[DURABLE].outstanding() < 100;
        if !self.listen_until(arrived).await? {
            self.violated("the durable subscriber does not catch up");
        }
        self.compare_memory(memory);
        self.compare_sessions("after the faults", sessions + SPARE_SESSIONS)
            .await?;
        self.line().await;
        Ok(())
    }

    fn compare_memory(&mut self, before: &[Option<f64>]) {
        for (number, (before, after)) in before.iter().zip(self.memory()).enumerate() {
            let (Some(before), Some(after)) = (before, after) else {
                self.found("memory: not known on this system".to_owned());
                continue;
            };
            let line = format!("memory of listener {number}: {before:.1} MB, then {after:.1} MB");
            if after - before > GROWTH {
                self.violated(&line);
            }
            self.found(line);
        }
    }

    /// Waits for the sessions to be no more than this.
    async fn compare_sessions(&mut self, when: &str, most: i64) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let sessions = self.sessions().await;
            if sessions <= most {
                self.found(format!(
                    "sessions {when}: {sessions}, at most {most} expected"
                ));
                return Ok(());
            }
            if Instant::now() >= end {
                self.violated(&format!(
                    "sessions {when}: {sessions}, at most {most} expected"
                ));
                return Ok(());
            }
            self.listen(Instant::now() + Duration::from_millis(250))
                .await?;
        }
    }

    /// Everybody leaves; then the log is read, and the tables are looked at.
    async fn leave(&mut self) -> io::Result<()> {
        for node in &mut self.fleet.nodes {
            if node.listens() {
                continue;
            }
            node.is_ending = true;
            if let Some(program) = node.program.as_mut() {
                program.tell("quit")?;
            }
        }
        let published = |soak: &Self| {
            let nodes = soak.fleet.nodes.iter();
            nodes
                .filter(|node| !node.listens())
                .all(|node| node.program.is_none())
        };
        if !self.listen_until(published).await? {
            self.violated("not all nodes end when they are told to");
        }
        if !self
            .listen_until(|soak| soak.topics[DURABLE].outstanding() == 0)
            .await?
        {
            self.violated("the durable subscriber has not received what was accepted last");
        }
        self.read_log().await?;
        for line in self.topics[NEWS].lost_silently() {
            self.violated(&format!("news: {line}"));
        }
        for node in &mut self.fleet.nodes {
            node.is_ending = true;
            if let Some(program) = node.program.as_mut() {
                program.tell("quit")?;
            }
        }
        if !self
            .listen_until(|soak| soak.fleet.nodes.iter().all(|node| node.program.is_none()))
            .await?
        {
            self.violated("not all listeners end when they are told to");
        }
        self.compare_sessions("when all have left", 0).await?;
        self.compare_rows().await;
        Ok(())
    }

    /// Whoever comes later finds everything in the log.
    async fn read_log(&mut self) -> io::Result<()> {
        let mut reader = self.fleet.start_reader()?;
        let mut received = BTreeSet::new();
        let [accepted, ..] = self.topics[DURABLE].counts();
        let reading = async {
            while let Some(event) = reader.next().await {
                let mut words = event.text.split(' ');
                if words.next() == Some("got")
                    && let Some(number) = words.nth(2).and_then(|word| word.parse().ok())
                {
                    received.insert(number);
                }
                // What was not answered may be there, too, in between.
                if received.len() as u64 >= accepted
                    && self.topics[DURABLE].lost_durably(&received).is_empty()
                {
                    return;
                }
            }
        };
        // What is missing at the end of this is told below.
        drop(timeout(PATIENCE, reading).await);
        for line in self.topics[DURABLE].lost_durably(&received) {
            self.violated(&format!("durable: {line}"));
        }
        self.found(format!(
            "durable: {accepted} accepted, {} found in the log",
            received.len()
        ));
        reader.tell("quit")?;
        drop(timeout(PATIENCE, reader.end()).await);
        Ok(())
    }

    async fn compare_rows(&mut self) {
        let rows = match self.server.rows().await {
            Ok(rows) => rows,
            Err(why) => return self.violated(&why),
        };
        for (table, count) in &rows {
            let log = ["log", "message"].iter().any(|word| table.contains(word));
            if !log && *count > ROWS {
                self.violated(&format!(
                    "{table} has {count} rows, at most {ROWS} expected"
                ));
            }
        }
        let rows: Vec<_> = rows
            .iter()
            .map(|(table, count)| format!("{table} {count}"))
            .collect();
        self.found(format!("rows: {}", rows.join(", ")));
    }

    async fn sessions(&self) -> i64 {
        let sessions = self.server.sessions().await;
        // The server may be cut off just now; whoever compares asks again.
        sessions.unwrap_or(i64::MAX)
    }

    fn memory(&self) -> Vec<Option<f64>> {
        let listeners = self.fleet.nodes.iter().filter(|node| node.listens());
        listeners.map(super::fleet::Node::megabytes).collect()
    }

    async fn line(&mut self) {
        let faults: Vec<_> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        let [accepted, failed, received, _] = self.topics[DURABLE].counts();
        let [news, refused, heard, gaps] = self.topics[NEWS].counts();
        let memory: Vec<_> = self
            .memory()
            .iter()
            .flatten()
            .map(|mb| format!("{mb:.0} MB"))
            .collect();
        let line = format!(
            "{:4.0} s: faults: {}; terms {}, locks {}, shards {}; durable {accepted} accepted, {failed} \
             failed, {received} received; news {news}, {refused}, {heard}, {gaps} gaps; {} sessions; {}; \
             {} violations",
            self.began.elapsed().as_secs_f64(),
            faults.join(", "),
            self.books.count("a") + self.books.count("b"),
            self.books.count("l"),
            self.books.count("k/"),
            self.sessions().await,
            memory.join(", "),
            self.verdict.violations.len() + self.books.violations().len(),
        );
        (self.tell)(&line);
    }

    fn violated(&mut self, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        (self.tell)(&format!("{at:6.1} s: VIOLATION: {what}"));
        self.verdict.violations.push(what.to_owned());
    }

    fn found(&mut self, what: String) {
        self.verdict.findings.push(what);
    }
}

/// Whether a node could not start because nothing answered.
fn is_out_of_reach(text: &str) -> bool {
    text.contains("cannot reach the store") || text.contains("could not be joined within")
}
