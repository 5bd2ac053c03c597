//! What all of these tests need: places, members, sessions, and the measure of overlap.

#[path = "../kit/member.rs"]
mod member;
#[path = "../kit/messages.rs"]
mod messages;
#[path = "../kit/owners.rs"]
mod owners;
mod place;
#[path = "../kit/reigns.rs"]
mod reigns;
mod sessions;
#[path = "../kit/warnings.rs"]
mod warnings;

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

pub(crate) use member::{Member, first_of};
pub(crate) use messages::{gaps, got, rise};
pub(crate) use owners::{SHARDS, all_served, one_owner_each, owned};
pub(crate) use place::Place;
pub(crate) use reigns::{Reign, longest_overlap, one_at_a_time, reigns};
pub(crate) use sessions::Sessions;
pub(crate) use warnings::Warnings;

pub(crate) type Tested<T = ()> = anyhow::Result<T>;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A connection of the test's own.
pub(crate) async fn connect(url: &str) -> Tested<Client> {
    let (client, connection) = timeout(LONG, tokio_postgres::connect(url, NoTls)).await??;
    // Its error is the next statement's.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// A member's URL. As `Place::sessions_of` has it: tests share a server, and names of members.
fn url_of(member: &str, url: &str) -> String {
    let schema = url.split("schema=").nth(1).unwrap_or_default();
    let schema = schema.split('&').next().unwrap_or_default();
    format!("{url}&application_name={schema}_{member}")
}

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
