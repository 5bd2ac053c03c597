//! E: elections, by lease and by vote.

mod cancelled;
mod cut_off;
mod cuts;
mod ends;
mod promoted;
mod restarts;
mod sentinels;
mod stalled;
mod votes;

use std::time::Duration;

use crate::kit::{Member, Place, Tested};

/// A ttl at which a test need not wait for long.
const TTL: Duration = Duration::from_secs(1);

/// How a member campaigns with it.
const LEAD: &str = "lead x ttl=1000";

/// Starts members that campaign for `x` with [`TTL`], the first of them first, so that it leads, and
/// waits until the others stand in line.
async fn campaigning(place: &Place, names: &[&str]) -> Tested<Vec<Member>> {
    let mut members = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let mut member = Member::start(name, &place.url(), TTL, &[LEAD])?;
        if number == 0 {
            member.until("elected x").await?;
        } else {
            member.until("ready").await?;
        }
        members.push(member);
    }
    place.until_waiting(names.len() - 1).await?;
    Ok(members)
}

/// The span in which a leader that is cut off or dead has a successor: its ttl, and what a busy
/// machine adds.
const CUT_OFF: Duration = Duration::from_millis(1_000 + 800);

/// For what is done without a wait: on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);
