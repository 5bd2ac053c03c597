//! What is stored, and where.

use coordinator_core::{Bytes, FencingToken, MAX_DOCUMENT_BYTES, MAX_NAME_BYTES, Swapped};

use super::client::{Plans, names};
use crate::probe::{bytes_of_all_kinds, odd_names, poll_times};
use crate::report::{Verdict, require, require_eq};

pub(super) async fn a_document_is_kept_byte_for_byte(lab: &Plans) -> Verdict {
    let (planner, other) = (lab.planner().await?, lab.planner().await?);
    let mut last = None;
    for document in bytes_of_all_kinds() {
        let mut swap = planner.request(last, "");
        swap.document = document.clone();
        let epoch = planner
            .stored(&swap, "the expected epoch is the stored one")
            .await?;
        let loaded = other.load().await?;
        let same = loaded
            .as_ref()
            .is_some_and(|stored| stored.epoch == epoch && stored.document == document);
        let wanted = format!("the same {} bytes under epoch {epoch}", document.len());
        require(same, wanted, loaded)?;
        last = Some(epoch);
    }
    Ok(())
}

pub(super) async fn keyspaces_and_groups_do_not_touch_each_other(lab: &Plans) -> Verdict {
    let mut planner = lab.planner().await?;
    let mut stored = Vec::new();
    let names = odd_names(MAX_NAME_BYTES);
    let as_keyspaces = names.iter().map(|name| ("fleet", name.as_str()));
    let as_groups = names.iter().map(|name| (name.as_str(), "orders"));
    let split = [("x/y", "z"), ("x", "y/z"), ("xy", "z"), ("x", "yz")];
    for (number, (group, keyspace)) in (0_u64..).zip(as_keyspaces.chain(as_groups).chain(split)) {
        planner.fleet.group = group.into();
        planner.keyspace = keyspace.into();
        // Lower tokens than those of the keyspaces before.
        planner.token = FencingToken::new(1_000 - number);
        require_eq(
            "the document of a new keyspace",
            &planner.load().await?,
            &None,
        )?;
        let text = format!("of {group} {keyspace}");
        planner.put(None, &text).await?;
        stored.push((group, keyspace, planner.token, planner.load().await?));
    }
    for (group, keyspace, token, document) in stored {
        planner.fleet.group = group.into();
        planner.keyspace = keyspace.into();
        planner.token = token;
        let loaded = planner.load().await?;
        require_eq(
            &format!("the document of {group} {keyspace}"),
            &loaded,
            &document,
        )?;
        planner
            .put(document.map(|stored| stored.epoch), "next")
            .await?;
    }
    Ok(())
}

pub(super) async fn lives_of_other_groups_are_unknown(lab: &Plans) -> Verdict {
    let (here, mut there) = (lab.planner().await?, lab.planner().await?);
    there.fleet.group = "another".into();
    let life = there.fleet.join("ann", lab.long()).await?;
    there.fleet.leave(&life).await?;
    let swap = here.request_ending(None, &[&life]);
    let wanted = Swapped::NotEnded(names(&[&life]));
    here.refused(&swap, wanted, "it was in another group that the life ended")
        .await?;
    let swap = there.request_ending(None, &[&life]);
    there.stored(&swap, "the life has left").await?;
    Ok(())
}

pub(super) async fn namespaces_do_not_touch_each_other(lab: &Plans) -> Verdict {
    let here = lab.planner().await?;
    let there = lab.planner_on(&*lab.connect_elsewhere().await?);
    let first = here.put(None, "here").await?;
    here.lead(100).await?;
    require_eq(
        "the document in another namespace",
        &there.load().await?,
        &None,
    )?;
    there.put(None, "there").await?;
    let stored = here.load().await?.map(|stored| stored.epoch);
    require_eq("the epoch here", &stored, &Some(first))
}

pub(super) async fn too_large_a_document_is_rejected(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let first = planner.put(None, "first").await?;
    let mut swap = planner.request(Some(first), "");
    swap.document = Bytes::from(vec![0xFE; MAX_DOCUMENT_BYTES + 1]);
    planner
        .is_rejected(&swap, "a document that is too large")
        .await?;
    let stored = planner.load().await?.map(|stored| stored.epoch);
    require_eq("the epoch after a rejected swap", &stored, &Some(first))?;
    swap.document = Bytes::from(vec![0xFE; MAX_DOCUMENT_BYTES]);
    planner
        .stored(&swap, "the document is just small enough")
        .await?;
    let size = planner.load().await?.map(|stored| stored.document.len());
    require_eq("the size of the document", &size, &Some(MAX_DOCUMENT_BYTES))
}

pub(super) async fn hints_change_nothing(lab: &Plans) -> Verdict {
    let planner = lab.planner().await?;
    let epoch = planner.put(None, "first").await?;
    let before = planner.load().await?;
    let (group, keyspace) = (&planner.fleet.group, &planner.keyspace);
    for polls in [1, 2, 5] {
        poll_times(planner.store.changed(group, keyspace, Some(epoch)), polls).await;
        poll_times(planner.store.changed(group, keyspace, None), polls).await;
        poll_times(planner.store.load(group, keyspace), polls).await;
    }
    require_eq(
        "the document after dropped waits",
        &planner.load().await?,
        &before,
    )?;
    planner.put(Some(epoch), "second").await?;
    Ok(())
}

pub(super) async fn members_and_assignments_are_one_store(lab: &Plans) -> Verdict {
    let (here, again) = (lab.connect().await?, lab.connect().await?);
    let there = lab.connect_elsewhere().await?;
    let ids = [
        here.members.store(),
        here.assignments.store(),
        again.members.store(),
        again.assignments.store(),
        there.assignments.store(),
    ];
    let one = ids[..4].iter().all(|id| *id == ids[0]);
    let wanted = "one id for both parts of two connections, and another for another namespace";
    require(one && ids[4] != ids[0], wanted, ids)
}
