//! Random calls against a plain model of leases.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_core::{Acquisition, Claim, FencingToken, Key, Release, Renewal};
use tokio::time::{Instant, sleep};

use super::client::{Client, Locks};
use crate::random::Random;
use crate::report::{Verdict, broken, require};

const STEPS: usize = 250;

/// What a store knows of one key.
#[derive(Debug, Default)]
struct Lease {
    last: FencingToken,
    held: Option<Grant>,
    /// The claim that was released last, until the next grant.
    released: Option<Claim>,
}

#[derive(Debug, Clone)]
struct Grant {
    client: usize,
    claim: Claim,
    token: FencingToken,
    until: Instant,
}

struct Run<'a> {
    lab: &'a Locks,
    clients: Vec<Client<'a>>,
    keys: Vec<Key>,
    leases: BTreeMap<Key, Lease>,
    /// Every grant ever made: stale tokens to try.
    grants: Vec<Grant>,
    random: Random,
    log: Vec<String>,
}

pub(super) async fn random_calls_match_the_model(lab: &Locks) -> Verdict {
    let mut run = Run {
        lab,
        clients: vec![
            lab.client("ann").await?,
            lab.client("ann").await?,
            lab.client("bob").await?,
        ],
        keys: vec![Key::new("k"), Key::new("l")],
        leases: BTreeMap::new(),
        grants: Vec::new(),
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
        self.expire();
        match self.random.below(12) {
            0..4 => self.claim_anew().await,
            4 => self.claim_again().await,
            5..7 => self.renew().await,
            7..9 => self.release().await,
            9..11 => self.look().await,
            _ => {
                self.pass_time().await;
                Ok(())
            }
        }
    }

    fn lease(&mut self, key: &Key) -> &mut Lease {
        self.leases.entry(key.clone()).or_default()
    }

    /// Ends what has expired: only virtual time passes here, and exactly.
    fn expire(&mut self) {
        let now = Instant::now();
        if !self.lab.settings().virtual_time {
            return;
        }
        for lease in self.leases.values_mut() {
            lease.held.take_if(|grant| grant.until <= now);
        }
    }

    fn ttl(&mut self) -> Duration {
        if self.lab.settings().virtual_time {
            Duration::from_millis(501 + self.random.next() % 3_000)
        } else {
            self.lab.long()
        }
    }

    async fn pass_time(&mut self) {
        // In real time nobody can tell how much passes within a call: there the leases are long.
        if self.lab.settings().virtual_time {
            let span = Duration::from_millis(self.random.next() % 1_500);
            self.log.push(format!("{span:?} pass"));
            sleep(span).await;
        }
    }

    fn differs(&self, wanted: &str, seen: impl std::fmt::Debug) -> Verdict {
        let from = self.log.len().saturating_sub(12);
        let story = self.log[from..].join("; ");
        Err(broken(format!("{wanted}, after: {story}"), seen))
    }

    async fn claim_anew(&mut self) -> Verdict {
        let client = self.random.below(self.clients.len());
        let key = self.keys[self.random.below(self.keys.len())].clone();
        let ttl = self.ttl();
        let mut claim = self.clients[client].claim(&key, ttl);
        if self.random.below(4) == 0 {
            let floor = self.lease(&key).last.get() + self.random.next() % 1_000;
            claim.floor = Some(FencingToken::new(floor));
        }
        self.ask(client, claim).await
    }

    async fn claim_again(&mut self) -> Verdict {
        let Some(grant) = self.random.pick(&self.grants).cloned() else {
            return Ok(());
        };
        let lease = self.leases.entry(grant.claim.key.clone()).or_default();
        let lasts = lease
            .held
            .as_ref()
            .is_some_and(|held| held.token == grant.token);
        if lasts {
            return self.ask(grant.client, grant.claim).await;
        }
        if lease.released.as_ref() == Some(&grant.claim) {
            self.log.push(format!(
                "claim {} of {} again",
                grant.claim.id, grant.client
            ));
            let client = &self.clients[grant.client];
            return client
                .is_rejected(&grant.claim, "the claim was released")
                .await;
        }
        // Older claims may be forgotten: what they get is not promised.
        Ok(())
    }

    async fn ask(&mut self, client: usize, claim: Claim) -> Verdict {
        let asked = Instant::now();
        let answer = self.clients[client].acquire(&claim).await?;
        let lease = self.leases.entry(claim.key.clone()).or_default();
        let (last, held) = (lease.last, lease.held.clone());
        self.log.push(format!(
            "{client} claims {} as {}: {answer:?}",
            claim.key, claim.id
        ));
        match (answer, held) {
            (Acquisition::Granted(token), None) => {
                let least = last.max(claim.floor.unwrap_or_default());
                require(token > least, format!("a token above {least}"), token)?;
                let until = asked + claim.ttl;
                let grant = Grant {
                    client,
                    claim,
                    token,
                    until,
                };
                lease.last = token;
                lease.released = None;
                lease.held = Some(grant.clone());
                self.grants.push(grant);
                Ok(())
            }
            (Acquisition::Granted(token), Some(held))
                if (held.client, held.claim.id, held.token) == (client, claim.id, token) =>
            {
                Ok(())
            }
            (Acquisition::HeldBy(told), Some(held))
                if told.token == held.token
                    && (held.client, held.claim.id) != (client, claim.id) =>
            {
                Ok(())
            }
            (answer, held) => self.differs(&format!("an answer that fits {held:?}"), answer),
        }
    }

    async fn renew(&mut self) -> Verdict {
        let Some(grant) = self.random.pick(&self.grants).cloned() else {
            return Ok(());
        };
        let asked = Instant::now();
        let answer = self.clients[grant.client]
            .renew(&grant.claim, grant.token)
            .await?;
        self.log.push(format!(
            "{} renews {}: {answer:?}",
            grant.client, grant.token
        ));
        let lease = self.leases.entry(grant.claim.key.clone()).or_default();
        let held = lease.held.as_mut().filter(|held| held.token == grant.token);
        let wanted = match held {
            Some(held) => {
                held.until = asked + held.claim.ttl;
                Renewal::Renewed
            }
            None => Renewal::Lost,
        };
        if answer == wanted {
            return Ok(());
        }
        self.differs(&format!("{wanted:?} for {}", grant.token), answer)
    }

    async fn release(&mut self) -> Verdict {
        let Some(grant) = self.random.pick(&self.grants).cloned() else {
            return Ok(());
        };
        let client = &self.clients[grant.client];
        let asked = client.backend.release(&grant.claim, grant.token, None);
        let answer = self.lab.answer("release", asked).await?;
        self.log.push(format!(
            "{} releases {}: {answer:?}",
            grant.client, grant.token
        ));
        let lease = self.leases.entry(grant.claim.key.clone()).or_default();
        let wanted = if lease
            .held
            .take_if(|held| held.token == grant.token)
            .is_some()
        {
            lease.released = Some(grant.claim);
            Release::Released
        } else {
            Release::NotHeld
        };
        if answer == wanted {
            return Ok(());
        }
        self.differs(&format!("{wanted:?} for {}", grant.token), answer)
    }

    async fn look(&mut self) -> Verdict {
        let key = self.keys[self.random.below(self.keys.len())].clone();
        let looker = self.random.below(self.clients.len());
        let told = self.clients[looker]
            .holder(&key)
            .await?
            .map(|holder| holder.token);
        self.log.push(format!("{looker} sees {told:?}"));
        let wanted = self.lease(&key).held.as_ref().map(|held| held.token);
        if told == wanted {
            return Ok(());
        }
        self.differs(&format!("{wanted:?} as the holder of {key}"), told)
    }
}
