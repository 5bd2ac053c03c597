//! What the rows of a key say, at one moment.

use std::time::{Duration, Instant};

use coordinator_core::{Claim, ClaimId, FencingToken, Holder, Instance, MemberId};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::refusal::Refusal;
use crate::takeover::{Beat, Fence, Identities, MemoryIdentity, SessionIdentity, View, next_token};

/// The columns of `lease_view`, in the order in which they are read here.
pub(super) const COLUMNS: &str = "granted, token, owner, instance, attempt, ttl, released, next, kept, path, \
     session_was, memory_was, beat, age, witness, closing, session, memory, quarantine, wall, taken";

/// The rows, and what the server said beside them.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Whether the session that read them holds the key's lock.
    pub(super) granted: bool,
    /// What a start is decided by.
    pub(super) view: View,
    owner: Option<MemberId>,
    attempt: ClaimId,
    next: Option<MemberId>,
    kept: Duration,
    wall: u64,
    taken: Option<String>,
    /// When they arrived.
    pub(super) at: Instant,
}

/// What the rows alone answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It was granted already, and lasts.
    Granted(FencingToken),
    /// It was released.
    Released,
    /// Another has the lease, or it is kept for another.
    HeldBy(Holder),
}

impl Seen {
    pub(super) fn read(row: &Row) -> Self {
        let token = |column| row.get::<_, Option<i64>>(column).map(to_token);
        let fence = token(1).map(|token| Fence {
            token,
            instance: instance(row.get::<_, Option<Uuid>>(3)),
            ttl: millis(row.get(5)),
            released: row.get::<_, Option<bool>>(6).unwrap_or_default(),
            direct: row.get::<_, Option<&str>>(9) == Some("direct"),
            identities: identities(row.get(10), row.get(11)),
        });
        let beat = token(12).map(|token| {
            let age: Option<i64> = row.get(13);
            let witness: Option<bool> = row.get(14);
            Beat::new(token, age.unwrap_or_default(), witness.unwrap_or_default())
        });
        let attempt: Option<i64> = row.get(4);
        let owner: Option<String> = row.get(2);
        let next: Option<String> = row.get(7);
        Self {
            granted: row.get::<_, Option<bool>>(0).unwrap_or_default(),
            view: View {
                fence,
                beat,
                closing: token(15),
                identities: identities(row.get(16), row.get(17)),
                quarantine: millis(row.get(18)),
            },
            owner: owner.map(MemberId::new),
            attempt: ClaimId::new(number(attempt)),
            next: next.map(MemberId::new),
            kept: millis(row.get(8)),
            wall: number(row.get(19)),
            taken: row.get(20),
            at: Instant::now(),
        }
    }

    /// P11: what this key would be taken for.
    pub(super) fn check(&self, claim: &Claim) -> Result<(), Refusal> {
        match &self.taken {
            None => Ok(()),
            Some(other) => Err(Refusal::rejected(format!(
                "`{}` and `{other}` have the same hash: rename one of them",
                claim.key
            ))),
        }
    }

    /// What the rows alone answer to this claim; nothing: the key may be free.
    pub(super) fn answer(&self, claim: &Claim) -> Option<Known> {
        let fence = self.view.fence.as_ref()?;
        let same = (fence.instance, self.attempt) == (claim.instance, claim.id);
        if same && fence.released {
            return Some(Known::Released);
        }
        match self.holder() {
            Some(_) if same => Some(Known::Granted(fence.token)),
            Some(holder) => Some(Known::HeldBy(holder)),
            None => self.kept_for_another(claim).map(Known::HeldBy),
        }
    }

    /// Who holds an unexpired lease.
    pub(super) fn holder(&self) -> Option<Holder> {
        let fence = self.view.fence.as_ref().filter(|fence| !fence.released)?;
        let beat = self.view.beat.filter(|beat| beat.token == fence.token)?;
        let left = fence.ttl.saturating_sub(beat.age);
        Some(self.last()?.free_in(left)).filter(|_| !left.is_zero())
    }

    /// The last holder, whether its lease lasts or not.
    pub(super) fn last(&self) -> Option<Holder> {
        let fence = self.view.fence.as_ref()?;
        let owner = self.owner.clone()?;
        Some(Holder::new(owner, fence.instance, fence.token))
    }

    /// P10: for whom a released lease is kept still, if not for this claim.
    pub(super) fn kept_for_another(&self, claim: &Claim) -> Option<Holder> {
        let fence = self.view.fence.as_ref()?;
        let next = self.next.clone().filter(|next| *next != claim.owner)?;
        let left = self.kept.saturating_sub(self.at.elapsed());
        let nobody = Instance::from_bytes([0; 16]);
        Some(Holder::new(next, nobody, fence.token).free_in(left)).filter(|_| !left.is_zero())
    }

    /// K1: the token that a take-over announces now.
    pub(super) fn next_token(&self, floor: Option<FencingToken>) -> Result<FencingToken, Refusal> {
        let passed = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        next_token(&self.view, self.wall.saturating_add(passed), floor).ok_or_else(|| {
            Refusal::rejected(format!(
                "the next token would reach {}",
                coordinator_core::NUMBER_LIMIT
            ))
        })
    }
}

fn identities(session: Option<&str>, memory: Option<&str>) -> Identities {
    Identities {
        session: SessionIdentity::new(session.unwrap_or_default()),
        memory: MemoryIdentity::new(memory.unwrap_or_default()),
    }
}

fn instance(id: Option<Uuid>) -> Instance {
    Instance::from_bytes(id.unwrap_or_default().into_bytes())
}

fn to_token(number: i64) -> FencingToken {
    FencingToken::new(u64::try_from(number).unwrap_or_default())
}

fn number(value: Option<i64>) -> u64 {
    u64::try_from(value.unwrap_or_default()).unwrap_or_default()
}

fn millis(value: Option<i64>) -> Duration {
    Duration::from_millis(number(value))
}
