//! How a node tells what happens in it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coordinator_node::{LeaseView, Lost, OwnedShard};
use tokio::time::sleep;

use super::said::{Said, What, machine_time};

/// How often it says how long it trusts, and that it is there.
const TICK: Duration = Duration::from_millis(20);

/// Trust that is extended by less is not worth a line: the reading alone differs by so much.
const WORTH_TELLING: Duration = Duration::from_millis(1);

/// Tells the process that has started this node. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reporter(Arc<Mutex<Reports>>);

/// What has been told.
#[derive(Default)]
struct Reports {
    /// How many tenures have begun.
    begun: u64,
    /// The tenures that have not ended.
    open: BTreeMap<u64, Open>,
}

struct Open {
    view: LeaseView,
    told: Duration,
}

impl Reporter {
    /// Tells of an event. It is written when this returns: what others do because of it comes later.
    pub(super) fn say(&self, what: What) {
        tell(&self.reports(), what);
    }

    /// Tells again and again how long each shard is trusted.
    pub(super) async fn keep_telling(self) {
        loop {
            sleep(TICK).await;
            let mut reports = self.reports();
            let mut news = Vec::new();
            for (tenure, open) in &mut reports.open {
                let until = trusted_until(&open.view);
                if let Some(until) = until
                    && until > open.told + WORTH_TELLING
                {
                    open.told = until;
                    news.push(What::Trusts {
                        tenure: *tenure,
                        until,
                    });
                }
            }
            news.push(What::Tick);
            for what in news {
                tell(&reports, what);
            }
        }
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One after the other, which is why the reports are locked: times rise from line to line.
fn tell(_: &MutexGuard<'_, Reports>, what: What) {
    let at = machine_time();
    let line = format!("{}\n", Said { at, what });
    if io::stdout().write_all(line.as_bytes()).is_err() {
        // Whoever started us is gone.
        std::process::exit(1);
    }
}

/// None: it is trusted no more. The clock is read before the trust is, so that it is never told for
/// too long.
fn trusted_until(view: &LeaseView) -> Option<Duration> {
    let before = machine_time();
    let left = view.trust_left();
    (!left.is_zero()).then(|| before + left)
}

/// Tells of the work on one shard, its end included, however it comes.
pub(crate) struct Tenure {
    reporter: Reporter,
    id: u64,
}

impl Tenure {
    pub(super) fn begin(shard: &OwnedShard, reporter: &Reporter) -> Result<Self, Lost> {
        let view = shard.view();
        let token = shard.token()?.get();
        let told = trusted_until(&view).unwrap_or_default();
        let mut reports = reporter.reports();
        reports.begun += 1;
        let id = reports.begun;
        reports.open.insert(id, Open { view, told });
        let begins = What::Begins {
            tenure: id,
            shard: usize::from(shard.id().get()),
            token,
            trusted_until: told,
        };
        tell(&reports, begins);
        drop(reports);
        Ok(Self {
            reporter: reporter.clone(),
            id,
        })
    }

    pub(crate) fn claimed(&self, place: usize) {
        let tenure = self.id;
        self.reporter.say(What::Claimed { tenure, place });
    }

    pub(super) fn folded(&self) {
        let tenure = self.id;
        self.reporter.say(What::Folded { tenure });
    }

    pub(crate) fn saved(&self, place: usize) {
        let tenure = self.id;
        self.reporter.say(What::Saved { tenure, place });
    }

    pub(crate) fn drained(&self) {
        self.end(true);
    }

    fn end(&self, drained: bool) {
        let tenure = self.id;
        let mut reports = self.reporter.reports();
        if reports.open.remove(&tenure).is_some() {
            tell(&reports, What::Ended { tenure, drained });
        }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.end(false);
    }
}
