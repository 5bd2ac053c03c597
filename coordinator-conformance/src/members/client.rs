//! One connection to a membership store, which takes no error for an answer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use coordinator_core::{
    Beat, Eviction, Group, Heartbeat, Incarnation, Instance, Join, Joined, Leave, Member, MemberId,
    MemberState, MembershipStore, MemoryId, Snapshot, Versions,
};

use crate::lab::Lab;
use crate::report::{Stop, Verdict, broken, require, require_eq};

pub(crate) type Members = Lab<dyn MembershipStore>;

/// A connection to the store of one group.
pub(crate) struct Fleet<'a, P: ?Sized> {
    pub(crate) lab: &'a Lab<P>,
    pub(crate) store: Arc<dyn MembershipStore>,
    pub(crate) group: Group,
}

/// One life of a member, as the member itself knows it.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) id: MemberId,
    pub(crate) instance: Instance,
    pub(crate) incarnation: Incarnation,
    pub(crate) memory: MemoryId,
    pub(crate) ttl: Duration,
    beats: Cell<u64>,
}

impl Members {
    /// A connection of its own.
    pub(crate) async fn fleet(&self) -> Result<Fleet<'_, dyn MembershipStore>, Stop> {
        Ok(Fleet {
            lab: self,
            store: self.connect().await?,
            group: "fleet".into(),
        })
    }
}

impl<P: ?Sized + 'static> Fleet<'_, P> {
    /// A request to join, of a new instance.
    pub(crate) fn request(&self, id: &str, ttl: Duration) -> Join {
        Join::new(self.group.clone(), id.into(), self.lab.instance(), ttl)
    }

    pub(crate) async fn ask_join(&self, join: &Join) -> Result<Joined, Stop> {
        self.lab.answer("join", self.store.join(join)).await
    }

    /// Joins under a name that must be free.
    pub(crate) async fn enter(&self, join: &Join) -> Result<(Life, Snapshot), Stop> {
        match self.ask_join(join).await? {
            Joined::Member {
                incarnation,
                memory,
                snapshot,
            } => {
                let life = Life {
                    id: join.id.clone(),
                    instance: join.instance,
                    incarnation,
                    memory,
                    ttl: join.ttl,
                    beats: Cell::new(0),
                };
                Ok((life, snapshot))
            }
            taken @ Joined::Taken(_) => {
                let what = format!("`Member`: the name {} is free", join.id);
                Err(broken(what, taken))
            }
        }
    }

    /// Joins with an empty profile.
    pub(crate) async fn join(&self, id: &str, ttl: Duration) -> Result<Life, Stop> {
        let request = self.request(id, ttl);
        Ok(self.enter(&request).await?.0)
    }

    /// Asks for a name until it is free.
    pub(crate) async fn join_after(
        &self,
        id: &str,
        ttl: Duration,
        limit: Duration,
    ) -> Result<Life, Stop> {
        let request = self.request(id, ttl);
        let what = format!("the name {id} to be free");
        self.lab
            .eventually(&what, limit, async || {
                let joined = self.ask_join(&request).await?;
                Ok(matches!(joined, Joined::Member { .. }))
            })
            .await?;
        // The same request again: the same life.
        Ok(self.enter(&request).await?.0)
    }

    /// The next heartbeat of a life.
    pub(crate) fn next_beat(&self, life: &Life) -> Heartbeat {
        life.beats.set(life.beats.get() + 1);
        Heartbeat::new(
            self.group.clone(),
            life.id.clone(),
            life.incarnation,
            life.beats.get(),
            life.ttl,
        )
    }

    pub(crate) async fn ask_beat(&self, heartbeat: &Heartbeat) -> Result<Beat, Stop> {
        let asked = self.store.heartbeat(heartbeat);
        self.lab.answer("heartbeat", asked).await
    }

    /// Beats for a life that must be live; gives the news.
    pub(crate) async fn send(&self, heartbeat: &Heartbeat) -> Result<Option<Snapshot>, Stop> {
        match self.ask_beat(heartbeat).await? {
            Beat::Alive { news, .. } => Ok(news),
            ended @ (Beat::Expired | Beat::Evicted) => {
                Err(broken(format!("`Alive`: {} lives", heartbeat.id), ended))
            }
        }
    }

    /// A plain heartbeat of a life that must be live.
    pub(crate) async fn beat(&self, life: &Life) -> Verdict {
        self.send(&self.next_beat(life)).await.map(drop)
    }

    /// A plain heartbeat, and the only answer to it that the contract allows.
    pub(crate) async fn beat_is(&self, life: &Life, wanted: Beat, why: &str) -> Verdict {
        let answer = self.ask_beat(&self.next_beat(life)).await?;
        require_eq(&format!("`heartbeat`, where {why}"), &answer, &wanted)
    }

    pub(crate) async fn leave_is(&self, life: &Life, wanted: Leave, why: &str) -> Verdict {
        let asked = self.store.leave(&self.group, &life.id, life.incarnation);
        let answer = self.lab.answer("leave", asked).await?;
        require_eq(&format!("`leave`, where {why}"), &answer, &wanted)
    }

    pub(crate) async fn leave(&self, life: &Life) -> Verdict {
        self.leave_is(life, Leave::Left, "the member lives").await
    }

    pub(crate) async fn evict_is(
        &self,
        id: &MemberId,
        incarnation: Incarnation,
        wanted: Eviction,
        why: &str,
    ) -> Verdict {
        let asked = self.store.evict(&self.group, id, incarnation);
        let answer = self.lab.answer("evict", asked).await?;
        require_eq(&format!("`evict`, where {why}"), &answer, &wanted)
    }

    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Stop> {
        let asked = self.store.snapshot(&self.group);
        self.lab.answer("snapshot", asked).await
    }

    pub(crate) async fn versions(&self) -> Result<Versions, Stop> {
        Ok(self.snapshot().await?.versions)
    }

    /// The record of a life, which must be there.
    pub(crate) async fn record(&self, life: &Life) -> Result<Member, Stop> {
        let snapshot = self.snapshot().await?;
        let record = snapshot.get(&life.id, life.incarnation).cloned();
        record.ok_or_else(|| {
            let what = format!("a record of {} {}", life.id, life.incarnation);
            broken(what, snapshot.members)
        })
    }

    pub(crate) async fn state(&self, life: &Life) -> Result<MemberState, Stop> {
        Ok(self.record(life).await?.state)
    }

    pub(crate) async fn is_live(&self, life: &Life) -> Result<bool, Stop> {
        let state = self.state(life).await?;
        Ok(matches!(state, MemberState::Live { .. }))
    }

    pub(crate) async fn sees_live(&self, life: &Life, why: &str) -> Verdict {
        let state = self.state(life).await?;
        let live = matches!(state, MemberState::Live { .. });
        require(live, format!("{} to be live, {why}", life.id), state)
    }

    pub(crate) async fn sees_no_life(&self, life: &Life, why: &str) -> Verdict {
        let state = self.state(life).await?;
        let live = matches!(state, MemberState::Live { .. });
        require(!live, format!("{} not to be live, {why}", life.id), state)
    }

    /// Waits until a life's TTL has passed.
    pub(crate) async fn gone(&self, life: &Life) -> Verdict {
        let what = format!("{} to be live no longer", life.id);
        let ttl = life.ttl;
        self.lab
            .eventually(&what, ttl, async || Ok(!self.is_live(life).await?))
            .await
    }
}
