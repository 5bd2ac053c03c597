//! For tests of invariants: a scene of three members, and events that never were.

use std::collections::BTreeSet;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{
    Document, Epoch, FencingToken, Incarnation, Instance, Layout, LostCause, Member, MemberId,
    MemberState, Profile, Report, Routing, Slot, Snapshot,
};

use super::{Invariant, Verdict};
use crate::sim::bounds::Terms;
use crate::sim::scene::{Hold, HoldId, Process, Scene, Sort, What};
use crate::sim::seen::{Seen, Swap};

pub(crate) struct Stage {
    pub(crate) scene: Scene,
    invariant: Box<dyn Invariant>,
}

/// The first start of a member.
pub(crate) fn m(seat: usize) -> Process {
    Process { seat, life: 1 }
}

impl Stage {
    /// Three members run, and are well.
    pub(crate) fn new(invariant: impl Invariant + 'static) -> Self {
        let wanted = ["g/leader", "g/orders/0"].map(What::from);
        let mut stage = Self {
            scene: Scene::new(Terms::default(), 3, BTreeSet::from(wanted)),
            invariant: Box::new(invariant),
        };
        for seat in 0..3 {
            stage.scene.seats[seat].wanted = true;
            stage.ok(Seen::Started(m(seat)));
            let id = MemberId::new(format!("m{seat}"));
            stage.ok(Seen::Named(m(seat), "g".into(), id));
        }
        stage
    }

    pub(crate) fn at(&mut self, seconds: u64) -> &mut Self {
        self.scene.now = Duration::from_secs(seconds);
        self
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "whoever tells of something has no more use for it"
    )]
    pub(crate) fn see(&mut self, seen: Seen) -> Verdict {
        self.scene.take(&seen);
        self.invariant.see(&self.scene, &seen)
    }

    /// It is no violation.
    pub(crate) fn ok(&mut self, seen: Seen) {
        let verdict = self.see(seen);
        assert_eq!(verdict, Ok(()), "{}", self.invariant.name());
    }

    /// It is one.
    pub(crate) fn bad(&mut self, seen: Seen) {
        let verdict = self.see(seen);
        assert!(verdict.is_err(), "{} holds", self.invariant.name());
    }

    fn begin(&mut self, seat: usize, what: &str, sort: Sort, token: u64) -> HoldId {
        self.scene.holds.push(Hold {
            what: what.into(),
            sort,
            process: m(seat),
            token,
            began: self.scene.now,
            lost: None,
            draining: None,
            stopped: None,
            stuck: None,
            claimed: false,
            kept: false,
        });
        self.scene.holds.len() - 1
    }

    /// A leader's work is about to begin.
    pub(crate) fn leader(&mut self, seat: usize, token: u64) -> HoldId {
        self.begin(seat, "g/leader", Sort::Lease("g/leader".into()), token)
    }

    /// An owner's work is about to begin.
    pub(crate) fn owner(&mut self, seat: usize, token: u64) -> HoldId {
        self.begin(seat, "g/orders/0", Sort::Shard { number: 0 }, token)
    }

    /// The work on a part of a dense cut is about to begin.
    pub(crate) fn part(&mut self, seat: usize, index: u16, count: u16, token: u64) -> HoldId {
        self.begin(seat, "g/mails", Sort::Part { index, count }, token)
    }
}

pub(crate) fn lost(hold: HoldId) -> Seen {
    Seen::Lost(hold, LostCause::Expired)
}

pub(crate) fn granted(seat: usize, token: u64) -> Seen {
    Seen::Store(Event::Granted {
        key: "g/leader".into(),
        owner: MemberId::new(format!("m{seat}")),
        instance: Instance::from_bytes([1; 16]),
        token: FencingToken::new(token),
        ttl: Duration::from_secs(10),
    })
}

pub(crate) fn renewed(seat: usize, token: u64) -> Seen {
    Seen::Store(Event::Renewed {
        key: "g/leader".into(),
        owner: MemberId::new(format!("m{seat}")),
        token: FencingToken::new(token),
        ttl: Duration::from_secs(10),
    })
}

pub(crate) fn joined(seat: usize, incarnation: u64) -> Seen {
    Seen::Store(Event::Joined {
        group: "g".into(),
        id: MemberId::new(format!("m{seat}")),
        incarnation: Incarnation::new(incarnation),
    })
}

pub(crate) fn beat(seat: usize, incarnation: u64) -> Seen {
    Seen::Store(Event::Beat {
        group: "g".into(),
        id: MemberId::new(format!("m{seat}")),
        incarnation: Incarnation::new(incarnation),
        ttl: Duration::from_secs(10),
    })
}

pub(crate) fn memory_lost() -> Seen {
    Seen::Store(Event::MemoryLost {
        memory: coordinator_node::core::MemoryId::new("memory-2"),
    })
}

/// A document in which each shard is owned as said: by a member, since an epoch.
pub(crate) fn document(epoch: u64, owners: &[Option<(u16, u64)>]) -> Document {
    let shards = u16::try_from(owners.len()).unwrap();
    let layout = Layout::Fixed { shards };
    let mut document = Document::new(FencingToken::new(1), layout, Routing::default());
    document.epoch = Epoch::new(epoch);
    let life = |seat| (MemberId::new(format!("m{seat}")), Incarnation::new(1));
    document.members = (0..3).map(life).collect();
    document.slots = owners
        .iter()
        .map(|owner| match owner {
            None => Slot::Free { reserved: None },
            Some((member, token)) => Slot::Owned {
                member: *member,
                token: Epoch::new(*token),
            },
        })
        .collect();
    document
}

/// A member as the store tells of it.
fn member(seat: usize, lives: bool) -> Member {
    let id = MemberId::new(format!("m{seat}"));
    let ttl = Duration::from_secs(10);
    let mut member = Member::new(id, Incarnation::new(1), Instance::from_bytes([1; 16]), ttl);
    member.state = if lives {
        MemberState::Live {
            expires_in: ttl,
            evicted: false,
        }
    } else {
        MemberState::Due
    };
    member.profile = Profile::new();
    member.report = Report::new();
    member
}

/// A swap of one document for another; of the three members those live that are named.
pub(crate) fn swapped(previous: Option<Document>, next: Document, live: &[usize]) -> Seen {
    Seen::Swapped(Box::new(Swap {
        group: "g".into(),
        keyspace: "orders".into(),
        previous,
        next,
        ended: Vec::new(),
        members: Snapshot {
            members: (0..3)
                .map(|seat| member(seat, live.contains(&seat)))
                .collect(),
            ..Snapshot::default()
        },
        erased: Vec::new(),
    }))
}
