//! Heartbeats, and what they report.

use std::collections::BTreeSet;

use coordinator_core::{Beat, Epoch, Heartbeat, Keyspace, KeyspaceReport, Report, ShardId};
use tokio::time::Instant;

use super::client::Members;
use crate::lab::{Look, told_within, until};
use crate::report::{Verdict, require, require_eq};

/// A report about one keyspace.
pub(super) fn report(seen: u64, draining: &[u16]) -> Report {
    let report = KeyspaceReport {
        seen: Epoch::new(seen),
        draining: draining.iter().copied().map(ShardId::new).collect(),
    };
    Report::from([(Keyspace::from("orders"), report)])
}

fn with(mut heartbeat: Heartbeat, report: Report) -> Heartbeat {
    heartbeat.report = report;
    heartbeat
}

pub(super) async fn an_old_heartbeat_changes_nothing(lab: &Members) -> Verdict {
    let fleet = &lab.fleet().await?;
    lab.timed(|ttl, id| {
        Box::pin(async move {
            let asked = Instant::now();
            let life = fleet.join(&id, ttl).await?;
            let first = with(fleet.next_beat(&life), report(3, &[1]));
            let second = with(fleet.next_beat(&life), report(5, &[2]));
            let newest = Instant::now();
            fleet.send(&second).await?;
            let record = fleet.record(&life).await?;
            until(newest, ttl * 7 / 10).await;
            // The same number again with other contents, and a lower one.
            let mut forged = with(second.clone(), report(9, &[9]));
            let mut profile = coordinator_core::Profile::new();
            profile.weight = 9;
            forged.profile = Some(profile);
            let late = Instant::now();
            for old in [&first, &forged] {
                let answer = fleet.ask_beat(old).await?;
                if told_within(newest, ttl) == Look::TooLate {
                    return Ok(Look::TooLate);
                }
                require(
                    matches!(answer, Beat::Alive { .. }),
                    "`Alive` for an old heartbeat of a live member",
                    answer,
                )?;
            }
            let after = fleet.record(&life).await?;
            if told_within(asked, ttl) == Look::TooLate {
                return Ok(Look::TooLate);
            }
            let facts = |member: &coordinator_core::Member| {
                (member.beat, member.profile.clone(), member.report.clone())
            };
            require_eq(
                "the record after old heartbeats",
                &facts(&after),
                &facts(&record),
            )?;
            // Had they prolonged the life, it would last until a TTL after them.
            until(newest, ttl).await;
            while told_within(late, ttl) == Look::Told {
                if !fleet.is_live(&life).await? {
                    return Ok(told_within(late, ttl));
                }
                until(Instant::now(), ttl / 50).await;
            }
            Ok(Look::TooLate)
        })
    })
    .await
}

pub(super) async fn seen_never_goes_back(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let life = fleet.join("ann", lab.long()).await?;
    for (told, kept) in [(5, 5), (3, 5), (6, 6), (0, 6)] {
        fleet
            .send(&with(fleet.next_beat(&life), report(told, &[])))
            .await?;
        let seen = fleet.record(&life).await?.report;
        require_eq(
            "the report, with the highest `seen`",
            &seen,
            &report(kept, &[]),
        )?;
    }
    Ok(())
}

pub(super) async fn draining_is_taken_from_the_newest_heartbeat(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let life = fleet.join("ann", lab.long()).await?;
    let draining = with(fleet.next_beat(&life), report(4, &[1, 2]));
    let drained = with(fleet.next_beat(&life), report(4, &[]));
    fleet.send(&draining).await?;
    let seen = fleet.record(&life).await?.report;
    require_eq("the report of what drains", &seen, &report(4, &[1, 2]))?;
    fleet.send(&drained).await?;
    fleet.send(&draining).await?;
    let seen = fleet.record(&life).await?.report;
    require_eq(
        "the newest report, after a late older one",
        &seen,
        &report(4, &[]),
    )?;
    let again = with(fleet.next_beat(&life), report(5, &[7]));
    fleet.send(&again).await?;
    let record = fleet.record(&life).await?.report;
    let told: BTreeSet<_> = record
        .values()
        .flat_map(|kept| kept.draining.clone())
        .collect();
    require_eq("what drains now", &told, &BTreeSet::from([ShardId::new(7)]))
}
