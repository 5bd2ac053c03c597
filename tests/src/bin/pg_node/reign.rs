//! One hold of a lease, and what is said of it.

use std::time::Duration;

use coordinator_node::{FencingToken, LeaseView};
use coordinator_tests::servers::process::{now, report_at};

use crate::say;

/// While it lives this process may act. Its end is told.
pub(crate) struct Reign {
    name: String,
    token: FencingToken,
    view: LeaseView,
}

impl Reign {
    /// Begins with a lease that has just been had. `None`: it is lost already.
    pub(crate) fn begin(name: &str, view: LeaseView) -> Option<Self> {
        let name = name.to_owned();
        let token = view.token().ok()?;
        let reign = Self { name, token, view };
        reign.tell("elected");
        Some(reign)
    }

    /// Does what a holder does, if it may.
    pub(crate) fn act(&self) {
        self.tell("acts");
    }

    /// Says that it trusts, with a moment read *before* it asked: that it trusted at a later one
    /// shows that it did at this one, for trust ends once and for all.
    fn tell(&self, verb: &str) {
        let at = now();
        if self.view.token().is_ok() {
            let left = self.view.trust_left().as_nanos();
            let told = report_at(
                at,
                format_args!("{verb} {} {} {left}", self.name, self.token),
            );
            drop(told);
        }
    }

    /// Acts every so often until the lease is lost, which is told; makes progress by it, or none.
    pub(crate) async fn act_until_lost(&self, every: Duration, progress: bool) {
        let mut ticks = tokio::time::interval(every);
        let lost = self.view.lost();
        tokio::pin!(lost);
        loop {
            tokio::select! {
                biased;
                lost = &mut lost => {
                    say(format_args!("lost {} {} {}", self.name, self.token, lost.cause));
                    return;
                }
                _ = ticks.tick() => self.act(),
            }
            if progress {
                self.view.progress();
            }
        }
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        say(format_args!("stopped {} {}", self.name, self.token));
    }
}
