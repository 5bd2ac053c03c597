//! What a process makes of the answers to its statements, by the functions that decide in
//! production: when to start, and under which token.

use std::time::Duration;

use coordinator_core::{FencingToken, Instance};
use coordinator_postgres::takeover::{
    Asker, Beat, Fence, Identities, MemoryIdentity, SessionIdentity, View, When, claims_witness,
    decide, next_token,
};

use super::process::{Step, Term};
use super::session::{Answer, Ask, Kind, Rows};
use super::{Defect, PROBE, State, Succession, TTL, Token, span, within};

impl State {
    /// An answer has come.
    pub(super) fn hear(
        &mut self,
        world: &Succession,
        p: usize,
        kind: Kind,
        (ask, at): (Ask, u16),
        answer: Answer,
    ) -> Result<(), String> {
        if matches!(ask, Ask::Ping { witness: false, .. }) && answer == Answer::Done {
            self.processes[p].may_say = false;
        }
        match (self.processes[p].step, ask) {
            (Step::Waiting, Ask::Lock) => {
                self.processes[p].step = Step::Reading;
                self.send(p, kind, Ask::Read);
            }
            (Step::Reading, Ask::Read) => {
                if let Answer::Rows(rows) = answer {
                    self.judge(world, p, &rows);
                }
            }
            (Step::Awaiting { token }, Ask::Await { .. }) => self.announce(p, token),
            (Step::Announcing { token }, Ask::Announce { .. }) => {
                self.processes[p].step = Step::Taking { token };
                if self.is_idle(p, Kind::Witness) {
                    self.send(p, Kind::Witness, Ask::Take { token });
                } else {
                    self.fence(world, p, token);
                }
            }
            (Step::Taking { token }, Ask::Take { token: taken }) if taken == token => {
                self.processes[p].holds = answer == Answer::Done && !self.processes[p].doubts;
                self.fence(world, p, token);
            }
            (Step::Leading, Ask::Take { token }) if self.token(p) == Some(token) => {
                self.processes[p].holds = answer == Answer::Done && !self.processes[p].doubts;
            }
            (Step::Fencing { token }, Ask::Fence { .. }) => {
                return self.fenced(world, p, token, at, answer);
            }
            (Step::Late { token }, Ask::Ping { .. }) => match answer {
                Answer::Done => return self.begin(world, p, token, at),
                Answer::Refused | Answer::TimedOut | Answer::Rows(_) => self.give_up(p, token),
            },
            (Step::Leading, Ask::Ping { .. }) => self.ponged(world, p, at, answer),
            (Step::Marking, Ask::Mark { .. }) => {
                self.processes[p].step = Step::Unlocking;
                self.send(p, kind, Ask::Unlock);
            }
            (Step::Unlocking, Ask::Unlock) => {
                self.hang_up(p, Kind::Lease);
                self.drop_term(p);
            }
            (Step::Dropping, Ask::Drop) => self.finish(p),
            // Answers that nobody waits for any more.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn token(&self, p: usize) -> Option<Token> {
        self.processes[p].term.map(|term| term.token)
    }

    /// P5, by the function that decides in production.
    fn judge(&mut self, world: &Succession, p: usize, rows: &Rows) {
        let mut view = view(rows);
        distort(&mut view, world.defect);
        let asker = Asker {
            instance: instance(p),
            policy: world.policy,
            ended: Some(FencingToken::new(self.processes[p].ended)),
        };
        let token = next_token(&view, 0, None).map_or(Token::MAX, FencingToken::get);
        let when = match world.defect {
            Some(Defect::FreeLock) => When::AtOnce,
            _ => decide(&asker, &view),
        };
        match when {
            When::AtOnce => self.announce(p, token),
            When::AfterTermLock { of, at_most } => {
                let (of, at_most) = (of.get(), within(at_most));
                self.processes[p].step = Step::Awaiting { token };
                self.send(p, Kind::Lease, Ask::Await { of, at_most });
            }
            When::AfterRest(rest) | When::AfterQuarantine { ends_within: rest } => {
                let until = self.now + within(rest);
                self.processes[p].step = Step::Delaying { token, until };
            }
        }
    }

    pub(super) fn announce(&mut self, p: usize, token: Token) {
        self.processes[p].may_say = false;
        self.processes[p].step = Step::Announcing { token };
        self.send(p, Kind::Lease, Ask::Announce { token });
    }

    pub(super) fn fence(&mut self, world: &Succession, p: usize, token: Token) {
        let witness = self.claims(world, p);
        self.processes[p].step = Step::Fencing { token };
        let elsewhere =
            world.defect == Some(Defect::FencesElsewhere) && self.is_idle(p, Kind::Witness);
        let kind = if elsewhere {
            Kind::Witness
        } else {
            Kind::Lease
        };
        self.send(p, kind, Ask::Fence { token, witness });
    }

    /// P6, by the function that decides in production.
    pub(super) fn claims(&self, world: &Succession, p: usize) -> bool {
        let process = &self.processes[p];
        let since = match world.defect {
            Some(Defect::ClaimsUnheard) => 0,
            _ => self.now - process.heard,
        };
        claims_witness(process.holds, span(since), span(PROBE))
    }

    fn fenced(
        &mut self,
        world: &Succession,
        p: usize,
        token: Token,
        at: u16,
        answer: Answer,
    ) -> Result<(), String> {
        match answer {
            Answer::Done => {
                let asked = match world.defect {
                    Some(Defect::TrustFromWait) => self.processes[p].queued,
                    _ => at,
                };
                if self.now < asked + TTL {
                    return self.begin(world, p, token, asked);
                }
                if self.now == at {
                    return Err("T3: the window has ended before it began".to_owned());
                }
                self.processes[p].step = Step::Late { token };
            }
            Answer::TimedOut => self.fence(world, p, token),
            Answer::Refused | Answer::Rows(_) => self.give_up(p, token),
        }
        Ok(())
    }

    /// A term begins.
    fn begin(
        &mut self,
        world: &Succession,
        p: usize,
        token: Token,
        asked: u16,
    ) -> Result<(), String> {
        let until = match world.defect {
            Some(Defect::TrustFromReply) => self.now + TTL,
            _ => asked + TTL,
        };
        if self.now >= until {
            self.processes[p].step = Step::Late { token };
            return Ok(());
        }
        if token <= self.elected {
            return Err("TOKENS-RISE: a term's token is no higher than one before".to_owned());
        }
        self.elected = token;
        let process = &mut self.processes[p];
        process.step = Step::Leading;
        process.latest = token;
        process.term = Some(Term {
            token,
            until,
            trusted: true,
            work: true,
        });
        Ok(())
    }

    fn ponged(&mut self, world: &Succession, p: usize, at: u16, answer: Answer) {
        if answer != Answer::Done {
            return self.lose(world, p);
        }
        let until = match world.defect {
            Some(Defect::TrustFromReply) => self.now + TTL,
            _ => at + TTL,
        };
        if let Some(term) = &mut self.processes[p].term {
            term.until = term.until.max(until);
        }
    }
}

fn instance(p: usize) -> Instance {
    Instance::from_random(p as u128 + 1)
}

fn identities(run: u8) -> Identities {
    Identities {
        session: SessionIdentity::new(run.to_string()),
        memory: MemoryIdentity::new("m"),
    }
}

fn view(rows: &Rows) -> View {
    let beat = |(token, age, witness): (Token, u16, bool)| Beat {
        token: FencingToken::new(token),
        age: span(age),
        witness,
    };
    View {
        fence: rows.fence.map(|fence| Fence {
            token: FencingToken::new(fence.token),
            instance: instance(fence.owner),
            ttl: span(TTL),
            released: fence.released,
            direct: true,
            identities: identities(fence.run),
        }),
        beat: rows.beat.map(beat),
        closing: (rows.closing != 0).then(|| FencingToken::new(rows.closing)),
        identities: identities(rows.run),
        quarantine: Duration::ZERO,
    }
}

/// What is planted in what the decision sees.
fn distort(view: &mut View, defect: Option<Defect>) {
    match defect {
        Some(Defect::WitnessAssumed) => {
            if let Some(beat) = &mut view.beat {
                beat.witness = true;
            }
        }
        Some(Defect::RunIgnored) => {
            let identities = view.identities.clone();
            if let Some(fence) = &mut view.fence {
                fence.identities = identities;
            }
        }
        Some(Defect::NoBeatNoRest) if view.beat.is_none() => view.fence = None,
        _ => {}
    }
}
