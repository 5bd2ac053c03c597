//! Random calls against a plain model of members.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use coordinator_core::{
    Beat, Incarnation, Join, Joined, Leave, MemberId, MemberState, MembershipStore,
};
use tokio::time::{Instant, sleep};

use super::beats::report;
use super::client::{Fleet, Life, Members};
use crate::random::Random;
use crate::report::{Verdict, broken, require};

const STEPS: usize = 250;
const NAMES: [&str; 3] = ["ann", "bob", "cid"];

/// What a store knows of one name.
#[derive(Debug, Default)]
struct Name {
    last: Incarnation,
    /// The join that began the newest life, and that life as the store has it.
    life: Option<(Join, Kept)>,
}

/// A life that has not ended: it may be due.
#[derive(Debug, Clone)]
struct Kept {
    incarnation: Incarnation,
    beat: u64,
    seen: u64,
    until: Instant,
}

struct Run<'a> {
    fleet: Fleet<'a, dyn MembershipStore>,
    names: BTreeMap<&'static str, Name>,
    /// Every life ever begun: old ones go on beating and leaving.
    lives: Vec<Life>,
    random: Random,
    log: Vec<String>,
}

pub(super) async fn random_calls_match_the_model(lab: &Members) -> Verdict {
    let mut run = Run {
        fleet: lab.fleet().await?,
        names: BTreeMap::new(),
        lives: Vec::new(),
        random: lab.random(),
        log: Vec::new(),
    };
    for _ in 0..STEPS {
        run.step().await?;
    }
    Ok(())
}

impl Run<'_> {
    async fn step(&mut self) -> Verdict {
        match self.random.below(12) {
            0..3 => self.join_anew().await,
            3 => self.join_again().await,
            4..8 => self.beat().await,
            8 => self.leave().await,
            9..11 => self.look().await,
            _ => {
                self.pass_time().await;
                Ok(())
            }
        }
    }

    fn in_virtual_time(&self) -> bool {
        self.fleet.lab.settings().virtual_time
    }

    async fn pass_time(&mut self) {
        // In real time nobody can tell how much passes within a call: there the lives are long.
        if self.in_virtual_time() {
            let span = Duration::from_millis(self.random.next() % 1_500);
            self.log.push(format!("{span:?} pass"));
            sleep(span).await;
        }
    }

    /// Whether a life has its TTL left: exact, because only virtual time ends one here.
    fn lasts(&self, life: &Kept) -> bool {
        !self.in_virtual_time() || life.until > Instant::now()
    }

    fn differs(&self, wanted: &str, seen: impl Debug) -> Verdict {
        let from = self.log.len().saturating_sub(12);
        let story = self.log[from..].join("; ");
        Err(broken(format!("{wanted}, after: {story}"), seen))
    }

    fn ttl(&mut self) -> Duration {
        if self.in_virtual_time() {
            Duration::from_millis(501 + self.random.next() % 3_000)
        } else {
            self.fleet.lab.long()
        }
    }

    async fn join_anew(&mut self) -> Verdict {
        let (name, ttl) = (NAMES[self.random.below(NAMES.len())], self.ttl());
        let join = self.fleet.request(name, ttl);
        self.ask_join(name, join).await
    }

    async fn join_again(&mut self) -> Verdict {
        let name = NAMES[self.random.below(NAMES.len())];
        let kept = self.names.get(name).and_then(|name| name.life.clone());
        match kept {
            Some((join, life)) if self.lasts(&life) => self.ask_join(name, join).await,
            // Of the same instance, but no repetition: the life it began has ended.
            Some(_) | None => Ok(()),
        }
    }

    async fn ask_join(&mut self, name: &'static str, join: Join) -> Verdict {
        let asked = Instant::now();
        let answer = self.fleet.ask_join(&join).await?;
        self.log.push(format!(
            "{name} joins as {}: {}",
            join.instance,
            told(&answer)
        ));
        let known = self.names.entry(name).or_default();
        let (last, life) = (known.last, known.life.clone());
        match (answer, life.filter(|(_, life)| self.lasts(life))) {
            (Joined::Member { incarnation, .. }, None) => {
                let wanted = format!("an incarnation above {last}");
                require(incarnation > last, wanted, incarnation)?;
                self.begin(name, join, incarnation, asked).await
            }
            (
                Joined::Member {
                    incarnation,
                    snapshot,
                    ..
                },
                Some((first, life)),
            ) if first.instance == join.instance && incarnation == life.incarnation => {
                let record = snapshot.get(&join.id, incarnation);
                self.joined_again(name, asked, record.map(|record| record.state), join.ttl)
            }
            (Joined::Taken(incumbent), Some((first, life)))
                if first.instance != join.instance && incumbent.incarnation == life.incarnation =>
            {
                Ok(())
            }
            (answer, life) => self.differs(&format!("an answer that fits {life:?}"), answer),
        }
    }

    /// A repeated join may prolong the life, or not; but what it says of that is true.
    fn joined_again(
        &mut self,
        name: &'static str,
        asked: Instant,
        state: Option<MemberState>,
        ttl: Duration,
    ) -> Verdict {
        let Some(MemberState::Live { expires_in, .. }) = state else {
            return self.differs("itself live in the answer to a join", state);
        };
        let exact = self.in_virtual_time();
        let known = self.names.get_mut(name);
        let Some((_, life)) = known.and_then(|name| name.life.as_mut()) else {
            return Ok(());
        };
        let until = asked + expires_in;
        if exact && until != life.until && until != asked + ttl {
            return self.differs(
                "a life as long as before, or for a ttl from now",
                expires_in,
            );
        }
        life.until = until;
        Ok(())
    }

    async fn begin(
        &mut self,
        name: &'static str,
        join: Join,
        incarnation: Incarnation,
        asked: Instant,
    ) -> Verdict {
        // Again, for the life as a client has it: a repetition, which changes nothing.
        let (life, _) = self.fleet.enter(&join).await?;
        self.lives.push(life);
        let kept = Kept {
            incarnation,
            beat: 0,
            seen: 0,
            until: asked + join.ttl,
        };
        let known = self.names.entry(name).or_default();
        known.last = incarnation;
        known.life = Some((join, kept));
        Ok(())
    }

    /// The life that the store knows, if it is this one and lasts.
    fn kept(&self, id: &MemberId, incarnation: Incarnation) -> Option<Kept> {
        let known = self.names.get(id.as_str())?;
        let (_, life) = known.life.as_ref()?;
        (life.incarnation == incarnation && self.lasts(life)).then(|| life.clone())
    }

    async fn beat(&mut self) -> Verdict {
        if self.lives.is_empty() {
            return Ok(());
        }
        let chosen = self.random.below(self.lives.len());
        let mut beat = self.fleet.next_beat(&self.lives[chosen]);
        beat.ttl = self.ttl();
        if self.random.below(4) == 0 {
            beat.beat = self.random.next() % (beat.beat + 1);
        }
        let seen = self.random.next() % 20;
        beat.report = report(seen, &[]);
        let asked = Instant::now();
        let answer = self.fleet.ask_beat(&beat).await?;
        let alive = matches!(answer, Beat::Alive { .. });
        self.log.push(format!(
            "{} {} beats {}: alive {alive}",
            beat.id, beat.incarnation, beat.beat
        ));
        let Some(mut kept) = self.kept(&beat.id, beat.incarnation) else {
            return match answer {
                Beat::Expired => Ok(()),
                Beat::Alive { .. } | Beat::Evicted => self.differs("`Expired`", answer),
            };
        };
        if !alive {
            return self.differs("`Alive`", answer);
        }
        if beat.beat > kept.beat {
            kept.beat = beat.beat;
            kept.seen = kept.seen.max(seen);
            kept.until = asked + beat.ttl;
        }
        let known = self
            .names
            .values_mut()
            .filter_map(|name| name.life.as_mut());
        for (join, life) in known {
            if join.id == beat.id {
                *life = kept.clone();
            }
        }
        Ok(())
    }

    async fn leave(&mut self) -> Verdict {
        if self.lives.is_empty() {
            return Ok(());
        }
        let chosen = self.random.below(self.lives.len());
        let (id, incarnation) = {
            let life = &self.lives[chosen];
            (life.id.clone(), life.incarnation)
        };
        let asked = self.fleet.store.leave(&self.fleet.group, &id, incarnation);
        let answer = self.fleet.lab.answer("leave", asked).await?;
        self.log
            .push(format!("{id} {incarnation} leaves: {answer:?}"));
        let lasts = self.kept(&id, incarnation).is_some();
        let wanted = if lasts { Leave::Left } else { Leave::NotLive };
        if answer != wanted {
            return self.differs(&format!("{wanted:?}"), answer);
        }
        if lasts && let Some(known) = self.names.get_mut(id.as_str()) {
            known.life = None;
        }
        Ok(())
    }

    /// Compares all who live, and what they have reported.
    async fn look(&mut self) -> Verdict {
        let snapshot = self.fleet.snapshot().await?;
        let told: BTreeMap<_, _> = snapshot
            .live()
            .map(|member| {
                let seen = member.report.values().map(|kept| kept.seen.get()).max();
                (
                    member.id.clone(),
                    (member.incarnation, member.beat, seen.unwrap_or(0)),
                )
            })
            .collect();
        let kept = self.names.values().filter_map(|name| name.life.as_ref());
        let wanted: BTreeMap<_, _> = kept
            .filter(|(_, life)| self.lasts(life))
            .map(|(join, life)| (join.id.clone(), (life.incarnation, life.beat, life.seen)))
            .collect();
        self.log.push(format!("{} live", told.len()));
        if told == wanted {
            return Ok(());
        }
        self.differs(&format!("these to live: {wanted:?}"), told)
    }
}

fn told(answer: &Joined) -> String {
    match answer {
        Joined::Member { incarnation, .. } => format!("member {incarnation}"),
        Joined::Taken(incumbent) => format!("taken by {}", incumbent.incarnation),
    }
}
