//! The members of all groups: one script each, judged by the server's clock.

mod flat;

use std::sync::Arc;

use bytes::Bytes;
use coordinator_core::{
    Beat, Eviction, Group, Guarantees, Heartbeat, Incarnation, Join, Joined, Leave, MAX_MEMBERS,
    MemberId, MembershipError, MembershipStore, MemoryId, Profile, Snapshot, StoreId, Version,
    Versions, async_trait, check_member,
};

use crate::bells::Bell;
use crate::client::Value;
use crate::guarantees;
use crate::hub::Hub;
use crate::names::Tag;
use crate::reply::{Read, hex, microseconds, numbers_ended, or_empty, part, quarantined, verdict};
use crate::script::Script;
use crate::trouble::Trouble;

macro_rules! member_script {
    ($name:ident = $new:ident, $file:literal) => {
        static $name: Script = Script::$new(
            concat!("member_", $file),
            concat!(
                include_str!("../lua/fields.lua"),
                include_str!("../lua/member_common.lua"),
                include_str!(concat!("../lua/member_", $file, ".lua"))
            ),
        );
    };
}

member_script!(JOIN = new, "join");
member_script!(HEARTBEAT = new, "heartbeat");
member_script!(LEAVE = plain, "leave");
member_script!(EVICT = new, "evict");
member_script!(SNAPSHOT = plain, "snapshot");
member_script!(VERSIONS = plain, "versions");

/// Where the scripts find the members of a group, in the order in which they name them.
pub(crate) fn member_keys(tag: &Tag) -> Vec<Bytes> {
    let kinds = [
        "group", "lives", "expiry", "graves", "names", "profiles", "reports", "named",
    ];
    kinds.into_iter().map(|kind| tag.key(kind, "")).collect()
}

/// One life, as the scripts name it.
pub(crate) fn life_of((id, incarnation): &(MemberId, Incarnation)) -> String {
    format!("{incarnation}:{id}")
}

/// The members of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    hub: Arc<Hub>,
}

impl Members {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    fn tag(&self, group: &Group) -> Tag {
        self.hub.names.tag(group.as_str())
    }

    async fn ask(
        &self,
        script: &'static Script,
        group: &Group,
        args: Vec<Bytes>,
    ) -> Result<Value, Trouble> {
        let tag = self.tag(group);
        self.hub.run(script, &tag, &member_keys(&tag), args).await
    }

    async fn try_join(&self, join: &Join) -> Result<Joined, Trouble> {
        join.check(self.hub.config.max_ttl)
            .map_err(Trouble::rejected)?;
        let args = vec![
            self.tag(&join.group).channel(),
            text(join.id.as_str()),
            hex(join.instance).into(),
            flag(join.fixed),
            microseconds(join.ttl).into(),
            or_empty(join.floor).into(),
            flat::of_profile(&join.profile),
        ];
        let answer = self.ask(&JOIN, &join.group, args).await?;
        match verdict(&answer)? {
            ("member", parts) => Ok(Joined::Member {
                memory: MemoryId::from(part(parts, 0)?.text()?),
                incarnation: Incarnation::new(part(parts, 1)?.number()?),
                snapshot: flat::read_snapshot(part(parts, 2)?)?,
            }),
            ("taken", parts) => {
                let incumbent = flat::read_life(part(parts, 0)?, part(parts, 1)?)?;
                Ok(Joined::Taken(Box::new(incumbent)))
            }
            ("full", _) => Err(Trouble::rejected(format!(
                "the group has {MAX_MEMBERS} members already, and no more are allowed"
            ))),
            ("quarantined", parts) => Err(quarantined(parts)),
            ("numbers", _) => Err(numbers_ended()),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_heartbeat(&self, beat: &Heartbeat) -> Result<Beat, Trouble> {
        beat.check(self.hub.config.max_ttl)
            .map_err(Trouble::rejected)?;
        let profile = beat.profile.as_ref().map(flat::of_profile);
        let args = vec![
            self.tag(&beat.group).channel(),
            text(beat.id.as_str()),
            beat.incarnation.to_string().into(),
            beat.beat.to_string().into(),
            microseconds(beat.ttl).into(),
            beat.known.members.to_string().into(),
            beat.known.reports.to_string().into(),
            flag(beat.wants_reports),
            profile.unwrap_or_default(),
            flat::of_report(&beat.report),
        ];
        let answer = self.ask(&HEARTBEAT, &beat.group, args).await?;
        match verdict(&answer)? {
            ("alive", parts) => Ok(Beat::Alive {
                memory: MemoryId::from(part(parts, 0)?.text()?),
                news: parts.get(1).map(flat::read_snapshot).transpose()?,
            }),
            ("expired", _) => Ok(Beat::Expired),
            ("evicted", _) => Ok(Beat::Evicted),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_leave(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Leave, Trouble> {
        check_member(group, id).map_err(Trouble::rejected)?;
        let args = self.life_args(group, id, incarnation);
        let answer = self.ask(&LEAVE, group, args).await?;
        match verdict(&answer)? {
            ("left", _) => Ok(Leave::Left),
            ("not_live", _) => Ok(Leave::NotLive),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    async fn try_evict(
        &self,
        group: &Group,
        id: &MemberId,
        incarnation: Incarnation,
    ) -> Result<Eviction, Trouble> {
        check_member(group, id).map_err(Trouble::rejected)?;
        let mut args = self.life_args(group, id, incarnation);
        args.push(flat::of_profile(&Profile::new()));
        let answer = self.ask(&EVICT, group, args).await?;
        match verdict(&answer)? {
            ("marked", _) => Ok(Eviction::Marked),
            ("entered", _) => Ok(Eviction::Entered),
            ("ended", _) => Ok(Eviction::Ended),
            (other, _) => Err(Trouble::unreadable(other)),
        }
    }

    fn life_args(&self, group: &Group, id: &MemberId, incarnation: Incarnation) -> Vec<Bytes> {
        vec![
            self.tag(group).channel(),
            text(id.as_str()),
            incarnation.to_string().into(),
        ]
    }

    async fn try_snapshot(&self, group: &Group) -> Result<Snapshot, Trouble> {
        group.check().map_err(Trouble::rejected)?;
        flat::read_snapshot(&self.ask(&SNAPSHOT, group, Vec::new()).await?)
    }

    async fn versions(&self, group: &Group) -> Result<Versions, Trouble> {
        let answer = self.ask(&VERSIONS, group, Vec::new()).await?;
        let parts = answer.list()?;
        Ok(Versions {
            members: Version::new(part(parts, 0)?.number()?),
            reports: Version::new(part(parts, 1)?.number()?),
        })
    }

    /// The bell is listened for first, so that no change falls between the look and the wait.
    async fn try_changed(&self, group: &Group, known: Versions) -> Result<(), Trouble> {
        group.check().map_err(Trouble::rejected)?;
        let bell = Bell::members(&self.tag(group));
        let mut hearing = self.hub.bells.listen(bell).await?;
        if self.versions(group).await? == known {
            hearing.rung().await;
        }
        Ok(())
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn flag(flag: bool) -> Bytes {
    Bytes::from_static(if flag { b"1" } else { b"0" })
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
