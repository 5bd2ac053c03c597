//! Names, groups, and what is too much.

use std::time::Duration;

use coordinator_core::{Group, Join, MAX_MEMBERS, MAX_METADATA_BYTES, MAX_NAME_BYTES, Profile};
use coordinator_core::{MemberId, MembershipError};
use tokio::time::Instant;

use super::client::{Fleet, Members};
use crate::join::join_all;
use crate::probe::odd_names;
use crate::report::{Verdict, require, require_eq, skip};

pub(super) async fn groups_do_not_see_each_other(lab: &Members) -> Verdict {
    let mut fleet = lab.fleet().await?;
    let mut lives = Vec::new();
    for name in odd_names(MAX_NAME_BYTES) {
        fleet.group = Group::new(name.clone());
        let before = fleet.snapshot().await?;
        require_eq("the members of a new group", &before.members, &Vec::new())?;
        // The same name in each group, and one that no other group has.
        lives.push((
            fleet.group.clone(),
            fleet.join("ann", lab.long()).await?,
            fleet
                .join(&format!("m-{}", lives.len()), lab.long())
                .await?,
        ));
    }
    for (group, ann, own) in &lives {
        fleet.group = group.clone();
        let snapshot = fleet.snapshot().await?;
        require_eq(
            "the number of members of a group",
            &snapshot.live().count(),
            &2,
        )?;
        fleet.sees_live(ann, "in its group").await?;
        fleet.sees_live(own, "in its group").await?;
        fleet.leave(ann).await?;
    }
    fleet.group = "one".into();
    for name in odd_names(MAX_NAME_BYTES) {
        fleet.join(&name, lab.long()).await?;
    }
    Ok(())
}

pub(super) async fn namespaces_do_not_see_each_other(lab: &Members) -> Verdict {
    let here = lab.fleet().await?;
    let there = Fleet {
        lab,
        store: lab.connect_elsewhere().await?,
        group: here.group.clone(),
    };
    let ann = here.join("ann", lab.long()).await?;
    let elsewhere = there.snapshot().await?.members;
    require_eq("the members of another namespace", &elsewhere, &Vec::new())?;
    let twin = there.join("ann", lab.long()).await?;
    here.leave(&ann).await?;
    there
        .sees_live(&twin, "whatever its namesake does elsewhere")
        .await
}

pub(super) async fn connections_name_their_store(lab: &Members) -> Verdict {
    let ids = [
        lab.connect().await?.store(),
        lab.connect().await?.store(),
        lab.connect_elsewhere().await?.store(),
    ];
    require(
        ids[0] == ids[1] && ids[0] != ids[2],
        "one id for two connections to a namespace, and another for another namespace",
        ids,
    )
}

async fn is_rejected<P: ?Sized + 'static>(fleet: &Fleet<'_, P>, join: &Join, why: &str) -> Verdict {
    let what = format!("join, where {why}, ");
    let asked = fleet.store.join(join);
    fleet
        .lab
        .rejected(&what, asked, MembershipError::kind)
        .await
}

pub(super) async fn a_malformed_name_is_rejected(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let too_long = "x".repeat(MAX_NAME_BYTES + 1);
    for name in ["", too_long.as_str()] {
        let why = format!("the name has {} bytes", name.len());
        is_rejected(&fleet, &fleet.request(name, lab.long()), &why).await?;
        let mut join = fleet.request("ann", lab.long());
        join.group = name.into();
        is_rejected(&fleet, &join, &format!("the group's {why}")).await?;
    }
    require_eq("the members", &fleet.snapshot().await?.members, &Vec::new())?;
    fleet.join("ann", lab.long()).await?;
    Ok(())
}

pub(super) async fn a_ttl_out_of_bounds_is_rejected(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let longest = lab.settings().max_ttl;
    let life = fleet.join("bob", lab.long()).await?;
    for ttl in [
        Duration::ZERO,
        longest + Duration::from_millis(1),
        longest * 100,
    ] {
        let why = format!("the ttl is {ttl:?}, at most {longest:?}");
        is_rejected(&fleet, &fleet.request("ann", ttl), &why).await?;
        let mut beat = fleet.next_beat(&life);
        beat.ttl = ttl;
        let asked = fleet.store.heartbeat(&beat);
        let what = format!("heartbeat, where {why}, ");
        lab.rejected(&what, asked, MembershipError::kind).await?;
    }
    fleet.sees_live(&life, "whatever was rejected").await?;
    fleet.join("ann", longest).await?;
    Ok(())
}

/// A profile whose metadata has so many bytes.
fn heavy(bytes: usize) -> Profile {
    let mut profile = Profile::new();
    let value = "é".repeat((bytes - 4) / 2);
    profile
        .metadata
        .insert("k".into(), "x".repeat(bytes - 2 - value.len()));
    profile.metadata.insert("l".into(), value);
    profile
}

pub(super) async fn too_much_metadata_is_rejected(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let mut join = fleet.request("ann", lab.long());
    join.profile = heavy(MAX_METADATA_BYTES + 1);
    is_rejected(&fleet, &join, "there is too much metadata").await?;
    join.profile = heavy(MAX_METADATA_BYTES);
    let (life, _) = fleet.enter(&join).await?;
    require_eq(
        "the metadata",
        &fleet.record(&life).await?.profile,
        &join.profile,
    )?;
    let mut beat = fleet.next_beat(&life);
    beat.profile = Some(heavy(MAX_METADATA_BYTES + 1));
    let asked = fleet.store.heartbeat(&beat);
    let what = "heartbeat with too much metadata";
    lab.rejected(what, asked, MembershipError::kind).await?;
    require_eq(
        "the metadata",
        &fleet.record(&life).await?.profile,
        &join.profile,
    )
}

pub(super) async fn a_full_group_takes_nobody_more(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let mut first = None;
    let begun = Instant::now();
    for start in (0..MAX_MEMBERS).step_by(64) {
        if begun.elapsed() > lab.settings().max_ttl * 3 / 4 {
            // Each join is answered with all members, which costs the square of their number.
            return Err(skip(
                "the first members would be due before the last has joined",
            ));
        }
        let batch = start..(start + 64).min(MAX_MEMBERS);
        let joins = batch.map(|number| {
            let fleet = &fleet;
            async move {
                fleet
                    .join(&format!("member-{number}"), lab.settings().max_ttl)
                    .await
            }
        });
        for joined in join_all(joins).await {
            first.get_or_insert(joined?);
        }
    }
    is_rejected(
        &fleet,
        &fleet.request("one-more", lab.long()),
        "the group is full",
    )
    .await?;
    let snapshot = fleet.snapshot().await?;
    let more = snapshot
        .members
        .iter()
        .any(|member| member.id == MemberId::from("one-more"));
    require(!more, "no record of the rejected member", more)?;
    if let Some(first) = first {
        fleet.beat(&first).await?;
    }
    Ok(())
}
