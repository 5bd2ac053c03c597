//! The leases of the store: one row a key, judged by the store's clock and no other.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_core::{
    Acquisition, Claim, ClaimId, FencingToken, Holder, Instance, Key, MemberId, Moment,
    NUMBER_LIMIT, Release, Renewal, check_key, next_number,
};

use crate::refusal::{Refusal, numbers_ended};
use crate::time::millis;
use crate::turns::Turn;

/// A row whose last token is older than this is no longer needed (K3): the store's clock alone
/// makes the next token higher.
const TOKEN_RETENTION: Duration = Duration::from_hours(7 * 24);
/// Tokens this far ahead of the store's clock are not believed (K1).
const DAY: Duration = Duration::from_hours(24);
/// Rows are swept when there are twice as many as the last sweep left, but not below this.
const LEAST_SWEEP: usize = 1024;

/// All leases, and the last token of each key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Locks {
    rows: BTreeMap<Key, Row>,
    sweep_at: usize,
}

/// What is kept of one key.
#[derive(Debug, Clone)]
struct Row {
    /// The last token granted. It outlives the lease (K3).
    token: FencingToken,
    /// The last grant, expired or not, until it is released.
    grant: Option<Grant>,
    /// The attempt that was released last: asked again, it is no new attempt (L2, R1).
    released: Option<(Instance, ClaimId)>,
    /// Written by a store that this one took over from: what was written after it is lost.
    inherited: bool,
}

/// A lease that was granted, and perhaps has expired since.
#[derive(Debug, Clone)]
struct Grant {
    owner: MemberId,
    instance: Instance,
    id: ClaimId,
    expires: Moment,
}

impl Row {
    /// The grant, if it has not expired.
    fn lease(&self, now: Moment) -> Option<&Grant> {
        self.grant.as_ref().filter(|grant| grant.expires > now)
    }

    fn holder(&self, now: Moment) -> Option<Holder> {
        let lease = self.lease(now)?;
        Some(
            Holder::new(lease.owner.clone(), lease.instance, self.token)
                .free_in(lease.expires.since(now)),
        )
    }
}

/// What the store knows when a request arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// The store's wall clock.
    pub(crate) now: Moment,
    /// The longest TTL of the namespace (I4).
    pub(crate) max_ttl: Duration,
    /// How long nothing is granted, after a loss of memory (I2).
    pub(crate) quarantine: Option<Duration>,
}

impl Locks {
    /// Asks for a lease. `turn`: for whom a free lease is kept at this moment.
    pub(crate) fn acquire(
        &mut self,
        claim: &Claim,
        turn: Option<&Turn>,
        terms: Terms,
    ) -> Result<Acquisition, Refusal> {
        claim.check(terms.max_ttl).map_err(Refusal::rejected)?;
        let now = terms.now;
        if let Some(answer) = self.known(claim, now)? {
            return Ok(answer);
        }
        if let Some(left) = terms.quarantine {
            return Err(Refusal::Quarantined(left));
        }
        if let Some(turn) = turn.filter(|turn| !turn.admits(claim)) {
            return Ok(Acquisition::HeldBy(self.kept(claim, turn, now)));
        }
        self.grant(claim, now).map(Acquisition::Granted)
    }

    /// The answer that needs no new grant: the claim was granted before, or another has the lease.
    fn known(&self, claim: &Claim, now: Moment) -> Result<Option<Acquisition>, Refusal> {
        let Some(row) = self.rows.get(&claim.key) else {
            return Ok(None);
        };
        if row.released == Some((claim.instance, claim.id)) {
            return Err(Refusal::rejected("this claim was released: make a new one"));
        }
        let Some(lease) = row.lease(now) else {
            return Ok(None);
        };
        if (lease.instance, lease.id) == (claim.instance, claim.id) {
            // The same attempt again, for its answer was lost: one grant, and nothing is
            // prolonged, for its holder counts from the first asking (W4).
            return Ok(Some(Acquisition::Granted(row.token)));
        }
        Ok(row.holder(now).map(Acquisition::HeldBy))
    }

    /// Whom a claim is told of that comes out of turn.
    fn kept(&self, claim: &Claim, turn: &Turn, now: Moment) -> Holder {
        let row = self.rows.get(&claim.key);
        let token = row.map_or(FencingToken::new(0), |row| row.token);
        let instance = turn.instance.unwrap_or(Instance::from_bytes([0; 16]));
        Holder::new(turn.owner.clone(), instance, token).free_in(turn.until.since(now))
    }

    fn grant(&mut self, claim: &Claim, now: Moment) -> Result<FencingToken, Refusal> {
        let last = self.rows.get(&claim.key).map(|row| row.token.get());
        let floor = claim.floor.map(FencingToken::get);
        let token = next_number(last, millis(now), floor).ok_or_else(numbers_ended)?;
        let token = FencingToken::new(token);
        self.sweep(now);
        self.rows.insert(
            claim.key.clone(),
            Row {
                token,
                grant: Some(granted(claim, now)),
                released: None,
                inherited: false,
            },
        );
        Ok(token)
    }

    /// Prolongs a grant that lasts, and no other (R2); but during a quarantine it may bring one back
    /// that the store forgot (I6).
    pub(crate) fn renew(
        &mut self,
        claim: &Claim,
        token: FencingToken,
        terms: Terms,
    ) -> Result<Renewal, Refusal> {
        claim.check(terms.max_ttl).map_err(Refusal::rejected)?;
        let now = terms.now;
        let held = self.rows.get_mut(&claim.key).filter(|row| {
            row.token == token
                && row
                    .lease(now)
                    .is_some_and(|lease| lease.instance == claim.instance)
        });
        if let Some(row) = held
            && let Some(grant) = row.grant.as_mut()
        {
            grant.expires = now + claim.ttl;
            row.inherited = false;
            return Ok(Renewal::Renewed);
        }
        if terms.quarantine.is_some() && self.may_register(claim, token, now) {
            self.register(claim, token, now);
            return Ok(Renewal::Renewed);
        }
        Ok(Renewal::Lost)
    }

    /// Whether nobody can have been granted the key since `token`: the store grants nothing now,
    /// and knows no higher one (I6).
    fn may_register(&self, claim: &Claim, token: FencingToken, now: Moment) -> bool {
        let limit = millis(now + DAY).min(NUMBER_LIMIT - 1);
        if token.get() == 0 || token.get() > limit {
            return false;
        }
        self.rows.get(&claim.key).is_none_or(|row| {
            // The very same grant, which only looks expired because its renewals were lost. One that
            // has expired since is over (R2), however late its last renewal arrives.
            let same = row.token == token
                && row.inherited
                && row
                    .grant
                    .as_ref()
                    .is_some_and(|grant| grant.instance == claim.instance);
            row.token < token || same
        })
    }

    fn register(&mut self, claim: &Claim, token: FencingToken, now: Moment) {
        self.rows.insert(
            claim.key.clone(),
            Row {
                token,
                grant: Some(granted(claim, now)),
                released: None,
                inherited: false,
            },
        );
    }

    /// Frees a lease, if it is still that grant's.
    pub(crate) fn release(
        &mut self,
        claim: &Claim,
        token: FencingToken,
        terms: Terms,
    ) -> Result<Release, Refusal> {
        check_key(&claim.key).map_err(Refusal::rejected)?;
        let Some(row) = self.rows.get_mut(&claim.key) else {
            return Ok(Release::NotHeld);
        };
        let held = row
            .lease(terms.now)
            .is_some_and(|lease| lease.instance == claim.instance);
        if row.token != token || !held {
            return Ok(Release::NotHeld);
        }
        row.released = row.grant.take().map(|grant| (grant.instance, grant.id));
        Ok(Release::Released)
    }

    /// These are the rows of a store that another one takes over from.
    pub(crate) fn inherit(&mut self) {
        for row in self.rows.values_mut() {
            row.inherited = true;
        }
    }

    /// Ends a lease now, as an administrator does: the row stays, and so the tokens rise (K4).
    pub(crate) fn expire(&mut self, key: &Key, now: Moment) -> bool {
        let grant = self.rows.get_mut(key).and_then(|row| row.grant.as_mut());
        let Some(grant) = grant.filter(|grant| grant.expires > now) else {
            return false;
        };
        grant.expires = now;
        true
    }

    /// Who holds an unexpired lease.
    pub(crate) fn holder(&self, key: &Key, now: Moment) -> Option<Holder> {
        self.rows.get(key)?.holder(now)
    }

    /// Forgets rows that are free, and whose tokens the clock alone exceeds (K3).
    fn sweep(&mut self, now: Moment) {
        if self.rows.len() < self.sweep_at.max(LEAST_SWEEP) {
            return;
        }
        let oldest = millis(now - TOKEN_RETENTION);
        self.rows
            .retain(|_, row| row.lease(now).is_some() || row.token.get() >= oldest);
        self.sweep_at = self.rows.len() * 2;
    }
}

fn granted(claim: &Claim, now: Moment) -> Grant {
    Grant {
        owner: claim.owner.clone(),
        instance: claim.instance,
        id: claim.id,
        expires: now + claim.ttl,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EPOCH;

    const TTL: Duration = Duration::from_secs(10);

    fn terms(seconds: u64) -> Terms {
        Terms {
            now: EPOCH + Duration::from_secs(seconds),
            max_ttl: Duration::from_secs(30),
            quarantine: None,
        }
    }

    fn quarantined(seconds: u64) -> Terms {
        Terms {
            quarantine: Some(Duration::from_secs(5)),
            ..terms(seconds)
        }
    }

    fn claim(owner: u8, id: u64) -> Claim {
        let instance = Instance::from_bytes([owner; 16]);
        let name = MemberId::new(format!("m{owner}"));
        Claim::new(Key::from("k"), name, instance, ClaimId::new(id), TTL)
    }

    fn granted_token(answer: Result<Acquisition, Refusal>) -> FencingToken {
        match answer {
            Ok(Acquisition::Granted(token)) => token,
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Clauses 1 and 2.
    #[test]
    fn a_lease_is_held_until_the_very_moment_of_its_end() {
        let mut locks = Locks::default();
        granted_token(locks.acquire(&claim(1, 1), None, terms(0)));
        let almost = Terms {
            now: terms(10).now - Duration::from_nanos(1),
            ..terms(10)
        };
        assert!(matches!(
            locks.acquire(&claim(2, 1), None, almost),
            Ok(Acquisition::HeldBy(holder)) if holder.free_in == Some(Duration::from_nanos(1))
        ));
        granted_token(locks.acquire(&claim(2, 1), None, terms(10)));
    }

    /// Clause 4, W4: asked again it is one grant, and nothing is prolonged.
    #[test]
    fn a_claim_asked_for_twice_is_one_grant_that_ends_when_the_first_would() {
        let mut locks = Locks::default();
        let first = granted_token(locks.acquire(&claim(1, 1), None, terms(0)));
        let again = granted_token(locks.acquire(&claim(1, 1), None, terms(9)));
        assert_eq!(first, again);
        assert!(locks.holder(&Key::from("k"), terms(10).now).is_none());
    }

    /// Clause 4, L2: the same id of another instance is no retry.
    #[test]
    fn another_instance_with_the_same_attempt_number_is_another_claim() {
        let mut locks = Locks::default();
        granted_token(locks.acquire(&claim(1, 1), None, terms(0)));
        assert!(matches!(
            locks.acquire(&claim(2, 1), None, terms(1)),
            Ok(Acquisition::HeldBy(_))
        ));
    }

    /// Clause 4, R1.
    #[test]
    fn a_released_claim_is_rejected_until_the_next_grant() {
        let mut locks = Locks::default();
        let token = granted_token(locks.acquire(&claim(1, 1), None, terms(0)));
        let released = locks.release(&claim(1, 1), token, terms(1));
        assert!(matches!(released, Ok(Release::Released)));
        let again = locks.acquire(&claim(1, 1), None, terms(1));
        assert!(matches!(again, Err(Refusal::Rejected(_))), "{again:?}");
        granted_token(locks.acquire(&claim(1, 2), None, terms(1)));
    }

    /// Clause 5: nothing revives a grant that has expired.
    #[test]
    fn an_expired_grant_is_lost_and_not_held_even_if_nobody_took_it() {
        let mut locks = Locks::default();
        let token = granted_token(locks.acquire(&claim(1, 1), None, terms(0)));
        let renewal = locks.renew(&claim(1, 1), token, terms(10));
        assert!(matches!(renewal, Ok(Renewal::Lost)));
        let release = locks.release(&claim(1, 1), token, terms(10));
        assert!(matches!(release, Ok(Release::NotHeld)));
    }

    /// Clause 5, L2: a stale token touches nothing.
    #[test]
    fn a_release_by_a_stale_token_leaves_the_new_holder_alone() {
        let mut locks = Locks::default();
        let old = granted_token(locks.acquire(&claim(1, 1), None, terms(0)));
        let new = granted_token(locks.acquire(&claim(1, 2), None, terms(10)));
        assert!(new > old);
        let release = locks.release(&claim(1, 1), old, terms(11));
        assert!(matches!(release, Ok(Release::NotHeld)));
        assert_eq!(
            locks.holder(&Key::from("k"), terms(11).now).unwrap().token,
            new
        );
    }

    /// K1: also when the wall clock stands, or was set back.
    #[test]
    fn tokens_rise_by_the_last_one_the_clock_and_the_floor() {
        let mut locks = Locks::default();
        let first = granted_token(locks.acquire(&claim(1, 1), None, terms(100)));
        assert_eq!(first.get(), millis(terms(100).now));
        locks.release(&claim(1, 1), first, terms(50)).unwrap();
        let second = granted_token(locks.acquire(&claim(1, 2), None, terms(50)));
        assert_eq!(second.get(), first.get() + 1);
        locks.release(&claim(1, 2), second, terms(50)).unwrap();
        let seen = FencingToken::new(second.get() + 1000);
        let third = granted_token(locks.acquire(&claim(1, 3).floor(Some(seen)), None, terms(50)));
        assert_eq!(third.get(), seen.get() + 1);
    }

    /// I2, I6: the store forgot; the holder's old token comes back, a lower one does not.
    #[test]
    fn in_quarantine_a_holder_re_registers_unless_a_higher_token_is_known() {
        let mut locks = Locks::default();
        let (low, high) = (FencingToken::new(5), FencingToken::new(7));
        let acquire = locks.acquire(&claim(3, 1), None, quarantined(0));
        assert!(matches!(acquire, Err(Refusal::Quarantined(_))));
        let renewal = locks.renew(&claim(1, 1), high, quarantined(0));
        assert!(matches!(renewal, Ok(Renewal::Renewed)));
        let renewal = locks.renew(&claim(2, 1), low, quarantined(1));
        assert!(matches!(renewal, Ok(Renewal::Lost)));
        let holder = locks.holder(&Key::from("k"), terms(1).now).unwrap();
        assert_eq!((holder.token, holder.owner.as_str()), (high, "m1"));
    }

    /// I6 holds during the quarantine only.
    /// I6, R2: a grant that came back in quarantine, and expired there, is over.
    #[test]
    fn in_quarantine_a_late_renewal_revives_no_grant_that_has_expired_since() {
        let (mut locks, claim) = (Locks::default(), claim(1, 1));
        let token = granted_token(locks.acquire(&claim, None, terms(0)));
        locks.inherit();
        let renew = |locks: &mut Locks, at| locks.renew(&claim, token, quarantined(at)).unwrap();
        assert_eq!(
            renew(&mut locks, 12),
            Renewal::Renewed,
            "its renewals were lost"
        );
        assert_eq!(renew(&mut locks, 21), Renewal::Renewed, "it lasts");
        assert_eq!(renew(&mut locks, 31), Renewal::Lost, "it has expired");
    }

    #[test]
    fn outside_of_quarantine_an_unknown_token_is_lost() {
        let mut locks = Locks::default();
        let renewal = locks.renew(&claim(1, 1), FencingToken::new(7), terms(0));
        assert!(matches!(renewal, Ok(Renewal::Lost)));
    }

    /// A grant that was released is not brought back by a late renewal, quarantine or not.
    #[test]
    fn a_released_grant_stays_released_in_quarantine() {
        let mut locks = Locks::default();
        let token = granted_token(locks.acquire(&claim(1, 1), None, terms(0)));
        locks.release(&claim(1, 1), token, terms(1)).unwrap();
        let renewal = locks.renew(&claim(1, 1), token, quarantined(2));
        assert!(matches!(renewal, Ok(Renewal::Lost)));
    }

    /// K3: the row of a free key goes only when the clock alone makes its next token higher.
    #[test]
    fn the_sweep_forgets_old_free_rows_and_keeps_the_others() {
        let mut locks = Locks::default();
        for key in 0..LEAST_SWEEP {
            let key = Key::new(format!("k{key}"));
            let mut claim = claim(1, 1);
            claim.key = key;
            granted_token(locks.acquire(&claim, None, terms(0)));
        }
        let week = 7 * 24 * 60 * 60;
        granted_token(locks.acquire(&claim(1, 1), None, terms(week)));
        assert_eq!(locks.rows.len(), LEAST_SWEEP + 1);
        let mut later = claim(1, 1);
        later.key = Key::from("later");
        locks.sweep_at = 0;
        granted_token(locks.acquire(&later, None, terms(week + 1)));
        assert_eq!(locks.rows.len(), 2);
    }

    /// Clause 11.
    #[test]
    fn malformed_keys_and_ttls_out_of_bounds_are_rejected() {
        let mut locks = Locks::default();
        let mut bad = vec![claim(1, 1), claim(1, 1), claim(1, 1), claim(1, 1)];
        bad[0].key = Key::from("");
        bad[1].key = Key::from("x".repeat(4000));
        bad[2].ttl = Duration::from_millis(199);
        bad[3].ttl = Duration::from_millis(30_001);
        for claim in bad {
            let answer = locks.acquire(&claim, None, terms(0));
            assert!(matches!(answer, Err(Refusal::Rejected(_))), "{answer:?}");
        }
    }
}
