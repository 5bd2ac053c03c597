//! E: elections by lease.

mod cancelled;
mod cut_off;
mod ends;
mod promoted;
mod restarts;
mod stalled;
mod terminated;

use std::time::Duration;

use crate::kit::{Member, Place, Tested};

/// A ttl at which a test need not wait for long.
const TTL: Duration = Duration::from_secs(1);

/// What is left of it for the holder, at most.
const TRUST: Duration = Duration::from_millis(900);

/// Starts members that campaign for `x` with [`TTL`], the first of them first, so that it leads.
async fn campaigning(place: &Place, names: &[&str]) -> Tested<Vec<Member>> {
    let mut members = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let mut member = Member::start(name, &place.url(), TTL, &["lead x ttl=1000"])?;
        if number == 0 {
            member.until("elected x").await?;
        } else {
            member.until("ready").await?;
        }
        members.push(member);
    }
    Ok(members)
}

/// The span in which a leader that is cut off has a successor: its ttl, and what a busy machine
/// adds.
const CUT_OFF: Duration = Duration::from_millis(1_000 + 800);

/// For what is done without a wait: on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);
