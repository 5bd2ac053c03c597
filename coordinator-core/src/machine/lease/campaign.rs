//! Before the term: asking, waiting, and giving up without leaving a grant behind.

use std::time::Duration;

use rand::RngExt;

use super::{Action, HINT_SPACING, Lease, Outcome, Patience, Phase};
use crate::errors::ErrorKind;
use crate::lock::Holder;
use crate::numbers::FencingToken;
use crate::time::Moment;
use crate::trust::Trust;

impl Lease {
    pub(super) fn ask(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let request = self.next_request();
        // Counted from the request, not from the reply (T1): a slow answer may only shorten
        // our trust in the lease, never stretch it.
        self.asked.get_or_insert(now);
        if !self.withdrawn {
            self.meant = now;
        }
        self.phase = Phase::Asking { request };
        let deadline = now + self.config.trust.renew_every();
        actions.push(Action::Acquire {
            request,
            floor: self.config.claim.floor,
            deadline,
        });
    }

    pub(super) fn turn(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // In any other phase the hint is stale: an answer is under way, or nothing is wanted.
        let Phase::Waiting { .. } = self.phase else {
            return;
        };
        let pause = self.hint_pause(now);
        if pause.is_zero() {
            return self.ask(now, actions);
        }
        let ask_at = now + pause;
        self.phase = Phase::Waiting { ask_at };
    }

    /// How long to wait before a hint is heeded: hints may come for no reason.
    pub(super) fn hint_pause(&mut self, now: Moment) -> Duration {
        let spaced = self
            .hinted_at
            .is_none_or(|at| now.since(at) >= HINT_SPACING);
        self.hinted_at = Some(now);
        if spaced {
            self.hints.reset();
            Duration::ZERO
        } else {
            self.hints.next(&mut self.random)
        }
    }

    pub(super) fn withdraw(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.withdrawn = true;
        match &self.phase {
            Phase::Waiting { .. } => self.settle(now, actions),
            Phase::Confirming { token, .. } => self.release(now, *token, None, actions),
            // The answer decides; or there is nothing to withdraw from.
            Phase::Asking { .. }
            | Phase::Leading(_)
            | Phase::Ended { .. }
            | Phase::Releasing(_)
            | Phase::Finished => {}
        }
    }

    /// A withdrawn campaign must not leave a grant behind that nobody knows of (W4): while an
    /// acquire is unanswered, it asks again, and releases what comes.
    pub(super) fn settle(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.is_settled(now) {
            self.finish(Outcome::Withdrawn, actions);
        } else {
            self.ask(now, actions);
        }
    }

    /// T3: a grant whose window is over when it comes is renewed before it is trusted.
    pub(super) fn granted(
        &mut self,
        now: Moment,
        request: u64,
        token: FencingToken,
        actions: &mut Vec<Action>,
    ) {
        // The answer to a request that was given up: it was asked again under the same claim,
        // so this very grant is, or will be, answered again.
        let Some(asked) = self
            .asked
            .filter(|_| self.phase == Phase::Asking { request })
        else {
            return;
        };
        let until = self.config.trust.until(asked);
        if self.withdrawn {
            self.release(now, token, None, actions);
        } else if now < until {
            self.lead(now, token, until, actions);
        } else {
            // Ours, but its window ended before it began (T3).
            self.confirm(now, token, actions);
        }
    }

    pub(super) fn confirm(&mut self, now: Moment, token: FencingToken, actions: &mut Vec<Action>) {
        let end = now + self.config.trust.ttl();
        let renewal = self.renew(now, token, end, actions);
        self.phase = Phase::Confirming { token, renewal };
    }

    pub(super) fn held(
        &mut self,
        now: Moment,
        request: u64,
        holder: Holder,
        actions: &mut Vec<Action>,
    ) {
        if self.phase != (Phase::Asking { request }) {
            return;
        }
        if !self.unknown {
            self.asked = None;
        }
        self.config.claim.floor = self.config.claim.floor.max(Some(holder.token));
        if self.withdrawn {
            return self.finish(Outcome::Withdrawn, actions);
        }
        if self.config.patience == Patience::Once {
            return self.finish(Outcome::HeldBy(holder), actions);
        }
        self.retries.reset();
        let ask_at = now + self.until_free(&holder);
        self.phase = Phase::Waiting { ask_at };
        actions.push(Action::WaitTurn);
    }

    /// When to ask without being woken: when the lease ends unless renewed, spread over some time
    /// so that the waiters do not ask as one.
    pub(super) fn until_free(&mut self, holder: &Holder) -> Duration {
        let ttl = self.config.trust.ttl();
        let spread = if self.config.wakes { ttl / 4 } else { ttl / 20 };
        let jitter = spread.mul_f64(self.random.random::<f64>());
        let free_in = holder
            .free_in
            .unwrap_or_else(|| (ttl / 2).max(Duration::from_secs(1)));
        Trust::surely(free_in).saturating_add(jitter + Duration::from_millis(1))
    }

    pub(super) fn ask_failed(&mut self, now: Moment, kind: ErrorKind, actions: &mut Vec<Action>) {
        let pause = self.retries.next(&mut self.random);
        let wait = match kind {
            ErrorKind::Unavailable | ErrorKind::Rejected => pause,
            ErrorKind::Quarantined { ends_within } => ends_within.saturating_add(pause),
            ErrorKind::Indeterminate => {
                self.unknown = true;
                pause
            }
        };
        if !self.unknown {
            self.asked = None;
        }
        let hopeless = kind == ErrorKind::Rejected || self.config.patience == Patience::Once;
        if hopeless && self.asked.is_none() && !self.withdrawn {
            return self.finish(Outcome::NoAnswer(kind), actions);
        }
        self.withdrawn |= hopeless;
        if self.withdrawn && self.is_settled(now) {
            return self.finish(Outcome::Withdrawn, actions);
        }
        self.phase = Phase::Waiting { ask_at: now + wait };
        if !self.withdrawn {
            // It may be our turn sooner: once the store is back, or the vote is won.
            actions.push(Action::WaitTurn);
        }
    }
}
