//! What of a state decides how it goes on: times as distances from now, tokens as distances from
//! the highest, and processes without their names.

use xxhash_rust::xxh3::xxh3_128;

use super::process::{Process, Step, Term};
use super::session::{Answer, Ask, Fence, Rows, Session, Slot};
use super::{Defect, PROBE, State, Succession, TTL, Token};

/// Writes one state, with the processes in one order.
struct Pen<'a> {
    now: u16,
    top: Token,
    run: u8,
    /// What each process is called.
    names: &'a [u8],
    out: Vec<u8>,
}

impl State {
    /// The least digest of all orders of the processes, which are alike.
    pub(super) fn digest(&self, world: &Succession) -> u128 {
        let orders: &[&[u8]] = match self.processes.len() {
            1 => &[&[0]],
            2 => &[&[0, 1], &[1, 0]],
            _ => &[
                &[0, 1, 2],
                &[0, 2, 1],
                &[1, 0, 2],
                &[1, 2, 0],
                &[2, 0, 1],
                &[2, 1, 0],
            ],
        };
        let digests = orders.iter().map(|names| self.look(world, names));
        digests.min().unwrap_or_default()
    }

    fn look(&self, world: &Succession, names: &[u8]) -> u128 {
        let fence = self.server.fence.map_or(0, |fence| fence.token);
        let mut pen = Pen {
            now: self.now,
            top: fence.max(self.server.closing),
            run: self.server.run,
            names,
            out: Vec::with_capacity(256),
        };
        let parts = |pen: &mut Pen<'_>, parts: &mut Vec<Vec<u8>>| {
            parts.sort_unstable();
            for part in parts.drain(..) {
                pen.out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                pen.out.extend(part);
            }
        };
        let mut written = Vec::new();
        for (at, process) in self.processes.iter().enumerate() {
            let is_past = self
                .server
                .fence
                .is_some_and(|it| it.owner == at && it.token <= process.ended);
            pen.process(at, process, is_past, world);
            written.push(std::mem::take(&mut pen.out));
        }
        parts(&mut pen, &mut written);
        for session in &self.server.sessions {
            pen.session(session);
            written.push(std::mem::take(&mut pen.out));
        }
        parts(&mut pen, &mut written);
        for writer in &self.server.writers {
            let rested = writer.since < self.now;
            pen.token(writer.token);
            let age = pen.past(writer.since, world.writes.unwrap_or(0));
            let age = if writer.token == 0 {
                u8::from(rested)
            } else {
                age
            };
            pen.out.push(age);
            written.push(std::mem::take(&mut pen.out));
        }
        parts(&mut pen, &mut written);
        pen.rows(&Rows {
            fence: self.server.fence,
            beat: self
                .server
                .beat
                .map(|beat| (beat.token, (self.now - beat.at).min(TTL), beat.witness)),
            closing: self.server.closing,
            run: self.server.run,
        });
        pen.token(self.elected);
        pen.token(self.committed);
        pen.out.extend(self.faults.to_bytes());
        xxh3_128(&pen.out)
    }
}

impl Pen<'_> {
    fn token(&mut self, token: Token) {
        // Nothing is further behind than tokens of which something is left.
        let behind = (self.top + 8).wrapping_sub(token);
        let byte = u8::try_from(behind).unwrap_or(u8::MAX);
        self.out.push(if token == 0 { u8::MAX } else { byte });
    }

    /// How long ago, at most so much.
    fn past(&self, at: u16, most: u16) -> u8 {
        u8::try_from(self.now.saturating_sub(at).min(most)).unwrap_or(u8::MAX)
    }

    fn ahead(&mut self, until: u16) {
        let ahead = until.saturating_sub(self.now);
        self.out.push(u8::try_from(ahead).unwrap_or(u8::MAX));
    }

    fn process(&mut self, at: usize, it: &Process, is_past: bool, world: &Succession) {
        let Process {
            alive,
            frozen,
            step,
            term,
            ended: _,
            holds,
            may_say,
            doubts,
            heard,
            pinged,
            queued,
            latest,
        } = *it;
        self.out.push(self.names[at]);
        self.out.push(
            u8::from(alive)
                | u8::from(frozen) << 1
                | u8::from(holds) << 2
                | u8::from(is_past) << 3
                | u8::from(may_say) << 4
                | u8::from(doubts) << 5,
        );
        self.step(step);
        self.out.push(self.past(heard, PROBE + 1));
        if let Some(Term {
            token,
            until,
            trusted,
            work,
        }) = term
        {
            self.token(token);
            self.ahead(until);
            self.out.push(u8::from(trusted) | u8::from(work) << 1);
        }
        let pings = matches!(
            step,
            Step::Delaying { .. } | Step::Leading | Step::Withdrawn
        );
        if pings {
            self.out.push(self.past(pinged, 1));
        }
        if world.defect == Some(Defect::TrustFromWait) {
            self.out.push(self.past(queued, TTL));
        }
        if world.writes.is_some() {
            self.token(latest);
        }
    }

    fn step(&mut self, step: Step) {
        let (tag, token) = match step {
            Step::Resting => (0, 0),
            Step::Waiting => (1, 0),
            Step::Reading => (2, 0),
            Step::Delaying { token, until } => {
                self.ahead(until);
                (3, token)
            }
            Step::Awaiting { token } => (4, token),
            Step::Announcing { token } => (5, token),
            Step::Taking { token } => (6, token),
            Step::Fencing { token } => (7, token),
            Step::Late { token } => (8, token),
            Step::Leading => (9, 0),
            Step::Ending => (10, 0),
            Step::Marking => (11, 0),
            Step::Unlocking => (12, 0),
            Step::Dropping => (13, 0),
            Step::Withdrawn => (14, 0),
        };
        self.out.push(tag);
        self.token(token);
    }

    fn session(&mut self, it: &Session) {
        let Session {
            owner,
            kind,
            client,
            server,
            cut,
            since,
            slot,
            heard,
            allowed,
            confirmed,
            place,
            term,
        } = *it;
        self.out.push(self.names[owner]);
        self.out.push(kind as u8);
        self.out.push(
            u8::from(client)
                | u8::from(server) << 1
                | u8::from(cut) << 2
                | u8::from(confirmed) << 3,
        );
        let since = if cut || !server {
            self.past(since, TTL)
        } else {
            u8::MAX
        };
        self.out.push(since);
        let heard = if server {
            self.past(heard, allowed)
        } else {
            u8::MAX
        };
        self.out.push(heard);
        self.out.push(u8::try_from(allowed).unwrap_or(u8::MAX));
        self.out.push(place.unwrap_or(u8::MAX));
        self.token(term);
        self.slot(slot);
    }

    fn slot(&mut self, slot: Slot) {
        match slot {
            Slot::Idle => self.out.push(0),
            Slot::Sent { ask, at, slow } => {
                self.out.extend([1, u8::from(slow), self.past(at, TTL)]);
                self.ask(ask);
            }
            Slot::Blocked { ask, at } => {
                // How long one waits for the key's lock decides nothing.
                let age = if ask == Ask::Lock {
                    0
                } else {
                    self.past(at, TTL)
                };
                self.out.extend([2, age]);
                self.ask(ask);
            }
            Slot::Back {
                ask,
                at,
                answer,
                slow,
            } => {
                self.out.extend([3, u8::from(slow), self.past(at, TTL)]);
                self.ask(ask);
                match answer {
                    Answer::Done => self.out.push(0),
                    Answer::Refused => self.out.push(1),
                    Answer::TimedOut => self.out.push(2),
                    Answer::Rows(rows) => self.rows(&rows),
                }
            }
            Slot::Lost { at } => self.out.extend([4, self.past(at, TTL)]),
        }
    }

    fn ask(&mut self, ask: Ask) {
        let (tag, token, more) = match ask {
            Ask::Lock => (0, 0, 0),
            Ask::Read => (1, 0, 0),
            Ask::Nudge => (2, 0, 0),
            Ask::Await { of, at_most } => (3, of, u8::try_from(at_most).unwrap_or(u8::MAX)),
            Ask::Announce { token } => (4, token, 0),
            Ask::Take { token } => (5, token, 0),
            Ask::Fence { token, witness } => (6, token, u8::from(witness)),
            Ask::Ping { token, witness } => (7, token, u8::from(witness)),
            Ask::Mark { token } => (8, token, 0),
            Ask::Unlock => (9, 0, 0),
            Ask::Drop => (10, 0, 0),
        };
        self.out.extend([tag, more]);
        self.token(token);
    }

    fn rows(&mut self, rows: &Rows) {
        let Rows {
            fence,
            beat,
            closing,
            run,
        } = *rows;
        let current = self.run;
        if let Some(Fence {
            token,
            owner,
            released,
            run,
        }) = fence
        {
            self.token(token);
            self.out.push(self.names[owner]);
            self.out
                .push(u8::from(released) | u8::from(run == current) << 1);
        }
        self.out.push(u8::from(run == current));
        if let Some((token, age, witness)) = beat {
            self.token(token);
            self.out.push(u8::from(witness));
            self.out.push(u8::try_from(age).unwrap_or(u8::MAX));
        }
        self.token(closing);
    }
}
