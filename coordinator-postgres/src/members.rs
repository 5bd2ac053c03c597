//! The members of all groups: one statement each, judged by the server's clock.

mod deaths;
mod rows;
mod stake;
mod watch;

use std::sync::Arc;

use coordinator_core::{
    Beat, Eviction, Group, Guarantees, Heartbeat, Incarnation, Join, Joined, Leave, MAX_MEMBERS,
    MemberId, MembershipError, MembershipStore, Snapshot, StoreId, Version, Versions, async_trait,
    check_member,
};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::bells::Bell;
use crate::guarantees;
use crate::hub::Hub;
use crate::names::id_of;
use crate::trouble::{Trouble, microseconds, unsigned};
use deaths::Deaths;
use rows::{Answer, FlatProfile, FlatReport};

const JOIN: &str = "select * from {schema}.join_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
const HEARTBEAT: &str = "select * from {schema}.heartbeat($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
const SNAPSHOT: &str = "select * from {schema}.snapshot($1, $2)";
const LEAVE: &str = "select {schema}.leave_group($1, $2, $3)";
const EVICT: &str = "select {schema}.evict_member($1, $2, $3, $4, $5)";
const VERSIONS: &str =
    "select members, reports from {schema}.member_group where id = $1 and name = $2";

/// The id of a group's row, and of its bell.
pub(crate) fn group_id(group: &Group) -> Uuid {
    id_of("group", group.as_str())
}

/// The id of a name within its group.
pub(crate) fn member_id(member: &MemberId) -> Uuid {
    id_of("member", member.as_str())
}

/// The members of all groups of a schema.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    hub: Arc<Hub>,
    deaths: Arc<Deaths>,
}

impl Members {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        let deaths = Arc::new(Deaths::new(hub.clone()));
        Self { hub, deaths }
    }

    async fn ask(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Answer, Trouble> {
        let rows = self.hub.call(&self.hub.sql(statement), parameters).await?;
        Answer::read(&rows)
    }

    async fn try_join(&self, join: &Join) -> Result<Joined, Trouble> {
        join.check(self.hub.config.max_ttl)
            .map_err(Trouble::rejected)?;
        let profile = FlatProfile::of(&join.profile);
        let floor = join.floor.map(i64::from);
        // The lock's name has the incarnation in it, which is not known yet.
        let direct: Option<String> = None;
        let parameters: [(&(dyn ToSql + Sync), Type); 14] = [
            (&group_id(&join.group), Type::UUID),
            (&join.group.as_str(), Type::TEXT),
            (&member_id(&join.id), Type::UUID),
            (&join.id.as_str(), Type::TEXT),
            (&Uuid::from_bytes(join.instance.to_bytes()), Type::UUID),
            (&join.fixed, Type::BOOL),
            (&microseconds(join.ttl), Type::INT8),
            (&floor, Type::INT8),
            (&profile.metadata, Type::TEXT_ARRAY),
            (&profile.zone, Type::TEXT),
            (&profile.weight, Type::INT8),
            (&profile.keyspaces, Type::TEXT_ARRAY),
            (&profile.format, Type::INT4),
            (&direct, Type::TEXT),
        ];
        let answer = self.ask(JOIN, &parameters).await?;
        match answer.verdict.as_str() {
            "member" => {
                let joined = answer.joined()?;
                if let Joined::Member { incarnation, .. } = &joined {
                    self.deaths.begin(join, *incarnation).await;
                }
                Ok(joined)
            }
            "taken" => answer.taken(),
            "full" => Err(Trouble::rejected(format!(
                "the group has {MAX_MEMBERS} members already, and no more are allowed"
            ))),
            "quarantined" => Err(Trouble::quarantined(answer.quarantine)),
            "numbers" => Err(Trouble::numbers_ended()),
            other => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_heartbeat(&self, beat: &Heartbeat) -> Result<Beat, Trouble> {
        beat.check(self.hub.config.max_ttl)
            .map_err(Trouble::rejected)?;
        let profile = beat.profile.as_ref().map(FlatProfile::of);
        let tells_profile = profile.is_some();
        let profile = profile.unwrap_or_default();
        let report = FlatReport::of(&beat.report);
        let number = i64::try_from(beat.beat).unwrap_or(i64::MAX);
        let direct = self.deaths.told(beat);
        let parameters: [(&(dyn ToSql + Sync), Type); 18] = [
            (&group_id(&beat.group), Type::UUID),
            (&member_id(&beat.id), Type::UUID),
            (&i64::from(beat.incarnation), Type::INT8),
            (&number, Type::INT8),
            (&microseconds(beat.ttl), Type::INT8),
            (&i64::from(beat.known.members), Type::INT8),
            (&i64::from(beat.known.reports), Type::INT8),
            (&beat.wants_reports, Type::BOOL),
            (&direct, Type::TEXT),
            (&tells_profile, Type::BOOL),
            (&profile.metadata, Type::TEXT_ARRAY),
            (&profile.zone, Type::TEXT),
            (&profile.weight, Type::INT8),
            (&profile.keyspaces, Type::TEXT_ARRAY),
            (&profile.format, Type::INT4),
            (&report.keyspaces, Type::TEXT_ARRAY),
            (&report.seen, Type::INT8_ARRAY),
            (&report.draining, Type::TEXT_ARRAY),
        ];
        let answer = self.ask(HEARTBEAT, &parameters).await?;
        match answer.verdict.as_str() {
            "alive" => {
                if direct.is_none() {
                    self.deaths.denied(beat);
                }
                answer.alive(beat)
            }
            "expired" => {
                self.deaths.end(&beat.group, &beat.id, beat.incarnation);
                Ok(Beat::Expired)
            }
            "evicted" => Ok(Beat::Evicted),
            other => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_leave(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Leave, Trouble> {
        check_member(group, id).map_err(Trouble::rejected)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&group_id(group), Type::UUID),
            (&member_id(id), Type::UUID),
            (&i64::from(incarnation), Type::INT8),
        ];
        let rows = self.hub.call(&self.hub.sql(LEAVE), &parameters).await?;
        let left = rows.first().map(|row| row.try_get(0)).transpose()?;
        self.deaths.end(group, id, incarnation);
        Ok(match left {
            Some(true) => Leave::Left,
            Some(false) | None => Leave::NotLive,
        })
    }

    async fn try_evict(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Eviction, Trouble> {
        check_member(group, id).map_err(Trouble::rejected)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&group_id(group), Type::UUID),
            (&group.as_str(), Type::TEXT),
            (&member_id(id), Type::UUID),
            (&id.as_str(), Type::TEXT),
            (&i64::from(incarnation), Type::INT8),
        ];
        let rows = self.hub.call(&self.hub.sql(EVICT), &parameters).await?;
        let verdict: Option<&str> = rows.first().map(|row| row.try_get(0)).transpose()?;
        match verdict.unwrap_or_default() {
            "marked" => Ok(Eviction::Marked),
            "entered" => Ok(Eviction::Entered),
            "ended" => Ok(Eviction::Ended),
            other => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_snapshot(&self, group: &Group) -> Result<Snapshot, Trouble> {
        group.check().map_err(Trouble::rejected)?;
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [
            (&group_id(group), Type::UUID),
            (&group.as_str(), Type::TEXT),
        ];
        let rows = self.hub.call(&self.hub.sql(SNAPSHOT), &parameters).await?;
        if rows.is_empty() {
            return Ok(Snapshot::default());
        }
        Ok(Answer::read(&rows)?.snapshot())
    }

    async fn versions(&self, group: &Group) -> Result<Versions, Trouble> {
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [
            (&group_id(group), Type::UUID),
            (&group.as_str(), Type::TEXT),
        ];
        let rows = self.hub.call(&self.hub.sql(VERSIONS), &parameters).await?;
        let Some(row) = rows.first() else {
            return Ok(Versions::default());
        };
        Ok(Versions {
            members: Version::new(unsigned(row.try_get(0)?)),
            reports: Version::new(unsigned(row.try_get(1)?)),
        })
    }

    /// The bell is listened for first, so that no change falls between the look and the wait. It may
    /// ring for what is known already, for C and W answer independently: such news is no hint, and
    /// the runtime would be slow to believe the next one.
    async fn try_changed(&self, group: &Group, known: Versions) -> Result<(), Trouble> {
        group.check().map_err(Trouble::rejected)?;
        let bell = group_id(group).to_string();
        let mut hearing = self.hub.bells.listen(Bell::Members, &bell);
        while self.versions(group).await? == known {
            hearing.rung().await;
        }
        Ok(())
    }
}

#[async_trait]
impl MembershipStore for Members {
    async fn join(&self, join: &Join) -> Result<Joined, MembershipError> {
        let joined = self.try_join(join).await;
        joined.map_err(|trouble| trouble.of_members("join", &join.group))
    }

    async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Beat, MembershipError> {
        let beat = self.try_heartbeat(heartbeat).await;
        beat.map_err(|trouble| trouble.of_members("beat among", &heartbeat.group))
    }

    async fn leave(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Leave, MembershipError> {
        let leave = self.try_leave(group, id, incarnation).await;
        leave.map_err(|trouble| trouble.of_members("leave", group))
    }

    async fn evict(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Eviction, MembershipError> {
        let eviction = self.try_evict(group, id, incarnation).await;
        eviction.map_err(|trouble| trouble.of_members("evict from", group))
    }

    async fn snapshot(&self, group: &Group) -> Result<Snapshot, MembershipError> {
        let snapshot = self.try_snapshot(group).await;
        snapshot.map_err(|trouble| trouble.of_members("read", group))
    }

    async fn changed(&self, group: &Group, known: Versions) -> Result<(), MembershipError> {
        let changed = self.try_changed(group, known).await;
        changed.map_err(|trouble| trouble.of_members("watch", group))
    }

    fn store(&self) -> StoreId {
        self.hub.store.clone()
    }

    fn guarantees(&self) -> Guarantees {
        guarantees::of(&self.hub)
    }
}
