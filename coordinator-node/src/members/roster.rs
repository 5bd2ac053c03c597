//! The live members, and when to look again for one that died without a word.

use std::time::Duration;

use coordinator_core::trust::Trust;
use coordinator_core::{Member, MemberState, Moment, Snapshot};

/// The live members of a snapshot.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    members: Vec<Member>,
}

impl Roster {
    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Takes the news. Whether they differ in anything but the passing of time.
    pub(super) fn update(&mut self, snapshot: &Snapshot) -> bool {
        let live: Vec<Member> = snapshot.live().cloned().collect();
        let differs = live.len() != self.members.len()
            || live.iter().zip(&self.members).any(|(new, old)| {
                (&new.id, new.incarnation, &new.profile) != (&old.id, old.incarnation, &old.profile)
            });
        self.members = live;
        differs
    }
}

/// When the first of the others may have expired, if it has not beaten since.
pub(super) fn next_look(snapshot: &Snapshot, answered: Moment) -> Option<Moment> {
    let spans = snapshot
        .members
        .iter()
        .filter_map(|member| match member.state {
            MemberState::Live { expires_in, .. } => Some(expires_in),
            MemberState::Due | MemberState::Ended { .. } => None,
        });
    // A little later than the store, so that the look finds it due.
    spans
        .min()
        .map(|span| answered + Trust::surely(span) + Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use coordinator_core::{Incarnation, Instance, MemberId};

    use super::*;

    fn member(name: &str, incarnation: u64) -> Member {
        let ttl = Duration::from_secs(10);
        let instance = Instance::from_random(1);
        Member::new(
            MemberId::from(name),
            Incarnation::new(incarnation),
            instance,
            ttl,
        )
    }

    fn snapshot(members: Vec<Member>) -> Snapshot {
        Snapshot {
            members,
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_passing_of_time_is_no_change_but_a_new_life_or_profile_is() {
        let mut roster = Roster::default();
        assert!(roster.update(&snapshot(vec![member("a", 1)])));
        let mut beaten = member("a", 1);
        beaten.beat = 9;
        assert!(!roster.update(&snapshot(vec![beaten])));
        assert!(roster.update(&snapshot(vec![member("a", 2)])));
        let mut heavier = member("a", 2);
        heavier.profile.weight = 2;
        assert!(roster.update(&snapshot(vec![heavier])));
        let mut due = member("a", 2);
        due.state = MemberState::Due;
        assert!(roster.update(&snapshot(vec![due])));
        assert_eq!(roster.members(), []);
    }
}
