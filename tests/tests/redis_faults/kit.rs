//! What all of these tests need: places, members, and the measure of overlap.

#[path = "../kit/member.rs"]
mod member;
#[path = "../kit/messages.rs"]
mod messages;
#[path = "../kit/owners.rs"]
mod owners;
mod place;
#[path = "../kit/reigns.rs"]
mod reigns;

use std::error::Error;
use std::time::Duration;

pub(crate) use member::{Member, first_of};
pub(crate) use messages::{gaps, got, rise};
pub(crate) use owners::{SHARDS, all_served, one_owner_each, owned};
pub(crate) use place::{CLIENTS, Place};
pub(crate) use reigns::{Reign, longest_overlap, one_at_a_time, reigns};

pub(crate) type Tested<T = ()> = anyhow::Result<T>;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A member's URL: members have nothing of their own in it.
fn url_of(_: &str, url: &str) -> String {
    url.to_owned()
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
