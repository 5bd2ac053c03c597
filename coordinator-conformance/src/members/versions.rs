//! Versions, and news.

use coordinator_core::{Beat, Eviction, Profile, Versions};

use super::beats::report;
use super::client::{Fleet, Life, Members};
use crate::lab::SHORT;
use crate::probe::poll_times;
use crate::report::{Stop, Verdict, require, require_eq};

/// That a change was told by the version of the members, and by nothing else.
async fn members_grew<P: ?Sized + 'static>(
    fleet: &Fleet<'_, P>,
    by: &str,
    before: &mut Versions,
) -> Verdict {
    let after = fleet.versions().await?;
    let grew = after.members > before.members && after.reports == before.reports;
    let wanted = format!("a new version of the members, by {by}, after {before:?}");
    require(grew, wanted, after)?;
    *before = after;
    Ok(())
}

pub(super) async fn versions_grow_with_each_change(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let empty = fleet.versions().await?;
    let ann = fleet.join("ann", lab.long()).await?;
    let mut known = fleet.versions().await?;
    // The first join may begin the group's record, with both versions.
    require(
        known.members > empty.members,
        format!("more than {empty:?}"),
        known,
    )?;
    let bob = fleet.join("bob", lab.long()).await?;
    members_grew(&fleet, "a join", &mut known).await?;
    let mut beat = fleet.next_beat(&ann);
    let mut profile = Profile::new();
    profile.weight = 5;
    beat.profile = Some(profile.clone());
    fleet.send(&beat).await?;
    members_grew(&fleet, "a change of profile", &mut known).await?;
    require_eq(
        "the new profile",
        &fleet.record(&ann).await?.profile,
        &profile,
    )?;
    fleet.leave(&ann).await?;
    members_grew(&fleet, "a leave", &mut known).await?;
    fleet
        .evict_is(&bob.id, bob.incarnation, Eviction::Marked, "it lives")
        .await?;
    members_grew(&fleet, "an eviction", &mut known).await?;
    let silent = fleet.join("cid", SHORT).await?;
    fleet.gone(&silent).await?;
    known = fleet.versions().await?;
    fleet.join("cid", lab.long()).await?;
    members_grew(&fleet, "a tombstone and a join", &mut known).await
}

pub(super) async fn versions_rest_without_changes(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let (ann, bob) = (
        fleet.join("ann", lab.long()).await?,
        fleet.join("bob", SHORT).await?,
    );
    let old = fleet.next_beat(&ann);
    let known = fleet.versions().await?;
    fleet.beat(&ann).await?;
    fleet.beat(&ann).await?;
    require_eq(
        "the versions after plain heartbeats",
        &fleet.versions().await?,
        &known,
    )?;
    fleet.send(&old).await?;
    require_eq(
        "the versions after an old heartbeat",
        &fleet.versions().await?,
        &known,
    )?;
    fleet.gone(&bob).await?;
    require_eq(
        "the versions after a ttl passed",
        &fleet.versions().await?,
        &known,
    )?;
    fleet
        .beat_is(&bob, Beat::Expired, "its ttl has passed")
        .await?;
    require_eq(
        "the versions after a refused heartbeat",
        &fleet.versions().await?,
        &known,
    )
}

pub(super) async fn reports_have_a_version_of_their_own(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let life = fleet.join("ann", lab.long()).await?;
    let mut known = fleet.versions().await?;
    for told in [report(1, &[]), report(1, &[4]), report(2, &[])] {
        let mut beat = fleet.next_beat(&life);
        beat.report = told.clone();
        fleet.send(&beat).await?;
        let after = fleet.versions().await?;
        let grew = after.reports > known.reports && after.members == known.members;
        require(
            grew,
            format!("a new version of the reports alone, after {known:?}"),
            after,
        )?;
        known = after;
        let mut same = fleet.next_beat(&life);
        same.report = told;
        fleet.send(&same).await?;
        let after = fleet.versions().await?;
        require_eq("the versions after the same report again", &after, &known)?;
    }
    Ok(())
}

/// A heartbeat that knows so much; whether its answer has news, and which versions.
async fn news<P: ?Sized + 'static>(
    fleet: &Fleet<'_, P>,
    life: &Life,
    known: Versions,
    wants_reports: bool,
) -> Result<Option<Versions>, Stop> {
    let mut beat = fleet.next_beat(life);
    beat.known = known;
    beat.wants_reports = wants_reports;
    beat.report = report(1, &[]);
    Ok(fleet.send(&beat).await?.map(|snapshot| snapshot.versions))
}

pub(super) async fn news_comes_when_there_is_news(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let (life, other) = (
        fleet.join("ann", lab.long()).await?,
        fleet.join("bob", lab.long()).await?,
    );
    // Its own report is a change, too: told before anything is compared.
    news(&fleet, &life, Versions::default(), true).await?;
    let known = fleet.versions().await?;
    for wants_reports in [false, true] {
        let told = news(&fleet, &life, known, wants_reports).await?;
        require_eq("news for who knows the newest", &told, &None)?;
        let told = news(&fleet, &life, Versions::default(), wants_reports).await?;
        require_eq("news for who knows nothing", &told, &Some(known))?;
    }
    let mut beat = fleet.next_beat(&other);
    beat.report = report(7, &[1]);
    fleet.send(&beat).await?;
    let newer = fleet.versions().await?;
    let told = news(&fleet, &life, known, false).await?;
    require_eq("a new report as news for who wants none", &told, &None)?;
    let told = news(&fleet, &life, known, true).await?;
    require_eq(
        "a new report as news for who wants them",
        &told,
        &Some(newer),
    )?;
    fleet.leave(&other).await?;
    let newest = fleet.versions().await?;
    for wants_reports in [false, true] {
        let told = news(&fleet, &life, newer, wants_reports).await?;
        require_eq("a leave as news", &told, &Some(newest))?;
    }
    Ok(())
}

pub(super) async fn hints_change_nothing(lab: &Members) -> Verdict {
    let fleet = lab.fleet().await?;
    let life = fleet.join("ann", lab.long()).await?;
    let known = fleet.versions().await?;
    for polls in [1, 2, 5] {
        poll_times(fleet.store.changed(&fleet.group, known), polls).await;
        poll_times(
            fleet.store.changed(&fleet.group, Versions::default()),
            polls,
        )
        .await;
        poll_times(fleet.store.snapshot(&fleet.group), polls).await;
    }
    require_eq(
        "the versions after dropped waits",
        &fleet.versions().await?,
        &known,
    )?;
    fleet.beat(&life).await?;
    fleet.leave(&life).await
}
