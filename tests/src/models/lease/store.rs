//! The contract of a lock backend, for one key, in its plainest form.

use coordinator_core::machine::lease::Event;
use coordinator_core::{ErrorKind, FencingToken, Holder, Instance, MemberId};

use super::{Defect, TTL};
use crate::models::clock::span;

/// The end of a lease that does not end by itself.
pub(super) const NEVER: u32 = u32::MAX;

/// One attempt at the lease: whose, and which of that node's.
pub(super) type Attempt = (usize, u32);

/// What a process asks of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Acquire { floor: Option<FencingToken> },
    Renew { token: FencingToken },
    Release { token: FencingToken },
}

/// A lease that was granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) attempt: Attempt,
    pub(super) token: FencingToken,
    pub(super) ends: u32,
}

/// What the store remembers.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) grant: Option<Grant>,
    /// The attempt whose lease was given back, until the next grant.
    pub(super) released: Option<Attempt>,
    /// The newest token. That it outlives the store's memory is the work of wall time (K1).
    pub(super) last: FencingToken,
    /// The end of the quarantine, if there is one (I2).
    pub(super) silent_until: u32,
}

impl Store {
    /// The memory is gone.
    pub(super) fn forget(&mut self, now: u32, defect: Option<Defect>) {
        let silent = if defect == Some(Defect::NoQuarantine) {
            0
        } else {
            TTL
        };
        self.grant = None;
        self.released = None;
        self.silent_until = now + silent;
        if defect == Some(Defect::TokensFromMemory) {
            self.last = FencingToken::default();
        }
    }

    /// The lease, while it lasts.
    pub(super) fn held(&self, now: u32) -> Option<Grant> {
        self.grant.filter(|grant| now < grant.ends)
    }

    /// Handles one request, which a process sent as its `request`th.
    pub(super) fn serve(
        &mut self,
        now: u32,
        attempt: Attempt,
        ask: Ask,
        request: u64,
        defect: Option<Defect>,
    ) -> Event {
        match ask {
            Ask::Acquire { floor } => self.acquire(now, attempt, floor, request, defect),
            Ask::Renew { token } => self.renew(now, attempt, token, request, defect),
            Ask::Release { token } => {
                if self.held(now).is_some_and(|held| held.token == token) {
                    self.grant = None;
                    self.released = Some(attempt);
                }
                Event::Released { request }
            }
        }
    }

    fn acquire(
        &mut self,
        now: u32,
        attempt: Attempt,
        floor: Option<FencingToken>,
        request: u64,
        defect: Option<Defect>,
    ) -> Event {
        match self.held(now) {
            Some(held) if held.attempt == attempt => Event::Granted {
                request,
                token: held.token,
            },
            Some(held) => Event::Held {
                request,
                holder: holder(held, now),
            },
            None if now < self.silent_until => {
                let ends_within = span(self.silent_until - now);
                let kind = ErrorKind::Quarantined { ends_within };
                Event::Failed { request, kind }
            }
            None if self.released == Some(attempt) => Event::Failed {
                request,
                kind: ErrorKind::Rejected,
            },
            None => {
                let token = FencingToken::new(self.last.max(floor.unwrap_or_default()).get() + 1);
                self.last = token;
                self.released = None;
                self.grant = Some(Grant {
                    attempt,
                    token,
                    ends: ends(now, defect),
                });
                Event::Granted { request, token }
            }
        }
    }

    fn renew(
        &mut self,
        now: u32,
        attempt: Attempt,
        token: FencingToken,
        request: u64,
        defect: Option<Defect>,
    ) -> Event {
        let held = self.held(now);
        let same = held.is_some_and(|held| held.token == token);
        // I6: nobody else can have been granted anything since.
        let forgotten = now < self.silent_until && held.is_none_or(|held| held.token < token);
        if !same && !forgotten {
            return Event::Gone { request };
        }
        self.last = self.last.max(token);
        self.grant = Some(Grant {
            attempt,
            token,
            ends: ends(now, defect),
        });
        Event::Renewed { request }
    }
}

fn ends(now: u32, defect: Option<Defect>) -> u32 {
    match defect {
        Some(Defect::ShortLease) => now + TTL - 2,
        Some(Defect::NeverExpires) => NEVER,
        Some(Defect::TrustFromReply | Defect::NoQuarantine | Defect::TokensFromMemory) | None => {
            now + TTL
        }
    }
}

fn holder(held: Grant, now: u32) -> Holder {
    let (node, attempt) = held.attempt;
    let instance = Instance::from_random(u128::from(attempt));
    let holder = Holder::new(MemberId::new(format!("m{node}")), instance, held.token);
    if held.ends == NEVER {
        return holder;
    }
    holder.free_in(span(held.ends - now))
}
