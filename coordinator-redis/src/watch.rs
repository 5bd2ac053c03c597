//! Asks the server again what it is: after each cut, for another may have taken its place, and once a minute, for its settings may
//! be changed and its memory be flushed without any cut.

use std::sync::Weak;
use std::time::Duration;

use coordinator_core::{Guarantee, Guarantees};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::hub::Hub;

/// How often it is asked.
const EVERY: Duration = Duration::from_mins(1);
/// After a question without an answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks until the backend is dropped. `returns` changes whenever the listening connection is there again.
pub(crate) async fn run(hub: Weak<Hub>, mut returns: watch::Receiver<u64>) {
    let mut pause = EVERY;
    loop {
        if let Ok(Err(_)) = timeout(pause, returns.changed()).await {
            return;
        }
        let Some(hub) = hub.upgrade() else {
            return;
        };
        pause = match hub.look_again().await {
            Ok(()) => EVERY,
            Err(error) => {
                tracing::debug!(%error, "Redis does not say what it guarantees");
                AGAIN
            }
        };
    }
}

/// Tells of guarantees that were gained and lost.
pub(crate) fn tell_changes(before: &Guarantees, now: &Guarantees) {
    let all = [
        Guarantee::NeverEvicts,
        Guarantee::SurvivesCrash,
        Guarantee::SurvivesFailover,
    ];
    for guarantee in all {
        let Some(finding) = now.finding(guarantee) else {
            continue;
        };
        match (before.has(guarantee), finding.given) {
            (true, false) => tracing::warn!(
                %guarantee,
                found = finding.found,
                remedy = finding.remedy,
                "Redis no longer gives what it gave"
            ),
            (false, true) => {
                tracing::info!(%guarantee, found = finding.found, "Redis gives what it did not");
            }
            (true, true) | (false, false) => {}
        }
    }
}
