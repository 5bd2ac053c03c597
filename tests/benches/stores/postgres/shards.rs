//! How long shards are without an owner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use coordinator_tests::servers::Program;
use coordinator_tests::servers::process::Event;
use futures_util::future::select_all;
use tokio::time::{sleep, timeout};

use super::Bench;
use crate::figure::{Figure, Target, Unit, middle, worst};
use crate::nodes::{PATIENCE, process};

const SHARDS: usize = 64;
/// Longer than joins are gathered for, so that each round's change is a first one.
const BETWEEN: Duration = Duration::from_millis(1200);
const TTL: Duration = Duration::from_secs(10);
/// Those that stay.
const STAY: usize = 2;

/// One join, one clean leave, one more join and one death in each round.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let url = bench.namespace("shards");
    let mut fleet = Fleet::new(&url);
    for _ in 0..STAY {
        fleet.join().await?;
        sleep(BETWEEN).await;
    }
    let (mut joins, mut leaves, mut deaths) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds(10) {
        joins.push(fleet.join().await?);
        sleep(BETWEEN).await;
        leaves.push(fleet.leave().await?);
        sleep(BETWEEN).await;
        joins.push(fleet.join().await?);
        sleep(BETWEEN).await;
        deaths.push(fleet.kill().await?);
        sleep(BETWEEN).await;
    }
    let doubles = fleet.history.overlaps();
    let mut figures = Vec::new();
    let kinds = [
        ("join, from the member's start", joins, 0.050),
        ("clean leave, from its beginning", leaves, 0.050),
        ("kill −9 of a member, direct path", deaths, 0.150),
    ];
    for (what, spans, most) in kinds {
        let what = |which| format!("{SHARDS} shards consistent after a {what}: {which}");
        let (p50, most) = (middle(&spans), Target::AtMost(most));
        figures.push(Figure::alone(what("p50"), Unit::Seconds, p50, most));
        let which = format!("worst of {}", spans.len());
        figures.push(Figure::alone(
            what(&which),
            Unit::Seconds,
            worst(&spans),
            Target::Nothing,
        ));
    }
    figures.push(Figure::alone(
        "shards with two owners at one moment",
        Unit::Count,
        doubles as f64,
        Target::AtMost(0.0),
    ));
    Ok(figures)
}

/// Nodes that serve one keyspace, and what each owns.
struct Fleet {
    url: String,
    members: Vec<Member>,
    history: History,
}

struct Member {
    program: Program,
    number: usize,
    owned: BTreeSet<String>,
}

impl Fleet {
    fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            members: Vec::new(),
            history: History::default(),
        }
    }

    /// One more; how long until it has its share.
    async fn join(&mut self) -> anyhow::Result<Duration> {
        // Little is told of shards but their beginning and end: telling costs time.
        let order = format!("shards k {SHARDS} every=600000");
        let mut program = process(&self.url, TTL, &[&order])?;
        let ready = program.until("ready ", PATIENCE).await?;
        self.members.push(Member {
            program,
            number: self.history.next_number(),
            owned: BTreeSet::new(),
        });
        self.consistent(ready.at).await
    }

    /// The last one leaves.
    async fn leave(&mut self) -> anyhow::Result<Duration> {
        let mut member = self.members.pop().context("nobody is there")?;
        let began = coordinator_tests::servers::process::now();
        member.program.tell("quit")?;
        let span = self.consistent(began).await?;
        member.program.end().await?;
        while let Some(event) = member.program.next().await {
            self.history.hear(member.number, &mut member.owned, &event);
        }
        Ok(span)
    }

    /// The last one dies.
    async fn kill(&mut self) -> anyhow::Result<Duration> {
        let mut member = self.members.pop().context("nobody is there")?;
        let began = member.program.kill()?;
        member.program.end().await?;
        while let Some(event) = member.program.next().await {
            self.history.hear(member.number, &mut member.owned, &event);
        }
        self.history.died(member.number, began);
        self.consistent(began).await
    }

    /// Until every shard has one owner, and each member its share: how long after that moment.
    async fn consistent(&mut self, since: Duration) -> anyhow::Result<Duration> {
        let mut last = since;
        let hearing = async {
            while !self.is_consistent() {
                let next = self
                    .members
                    .iter_mut()
                    .map(|member| Box::pin(member.program.next()));
                let (event, which, _) = select_all(next).await;
                let event = event.context("a node has ended")?;
                let member = &mut self.members[which];
                self.history.hear(member.number, &mut member.owned, &event);
                last = last.max(event.at);
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, hearing)
            .await
            .context("the shards do not come to rest")??;
        Ok(last.saturating_sub(since))
    }

    fn is_consistent(&self) -> bool {
        let share = SHARDS / self.members.len();
        let counts = self.members.iter().map(|member| member.owned.len());
        let all: BTreeSet<&String> = self
            .members
            .iter()
            .flat_map(|member| &member.owned)
            .collect();
        let mut counts_and_shares = counts.clone();
        all.len() == SHARDS
            && counts.sum::<usize>() == SHARDS
            && counts_and_shares.all(|count| count == share || count == share + 1)
    }
}

/// Who has owned what, from when until when.
#[derive(Default)]
struct History {
    numbers: usize,
    open: BTreeMap<(usize, String), Duration>,
    /// By shard: member, beginning, end.
    closed: BTreeMap<String, Vec<(Duration, Duration)>>,
}

impl History {
    fn next_number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    fn hear(&mut self, member: usize, owned: &mut BTreeSet<String>, event: &Event) {
        let mut words = event.text.split(' ');
        let (verb, name) = (words.next(), words.next().unwrap_or_default());
        let key = (member, name.to_owned());
        match verb {
            Some("elected") => {
                owned.insert(name.to_owned());
                self.open.insert(key, event.at);
            }
            Some("stopped") => {
                owned.remove(name);
                if let Some(began) = self.open.remove(&key) {
                    self.closed
                        .entry(key.1)
                        .or_default()
                        .push((began, event.at));
                }
            }
            _ => (),
        }
    }

    /// It has owned until then, and not a moment longer.
    fn died(&mut self, member: usize, at: Duration) {
        let held = self.open.extract_if(.., |(owner, _), _| *owner == member);
        let held: Vec<_> = held.collect();
        for ((_, shard), began) in held {
            self.closed.entry(shard).or_default().push((began, at));
        }
    }

    /// How often a shard was begun before its last owner had stopped.
    fn overlaps(&mut self) -> usize {
        for (_, shard) in self.open.keys().cloned().collect::<Vec<_>>() {
            self.closed.entry(shard).or_default();
        }
        let mut count = 0;
        for (shard, spans) in &mut self.closed {
            let open = self.open.iter().filter(|((_, name), _)| name == shard);
            spans.extend(open.map(|(_, began)| (*began, Duration::MAX)));
            spans.sort();
            count += spans
                .windows(2)
                .filter(|pair| pair[1].0 < pair[0].1)
                .count();
        }
        count
    }
}
