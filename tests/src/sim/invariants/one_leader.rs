use super::{Invariant, Verdict, that};
use crate::sim::scene::{Scene, Sort};
use crate::sim::seen::Seen;

/// At no instant do two members both hold an unexpired trust window of one election or lock.
///
/// T1, T2, T5, W6; E4, E5, E8, E12, E20. At every beginning of work, every grant of the store, and
/// every look: of all guards of one name in living processes, at most one says by its own member's
/// clock that it is trusted.
#[derive(Debug, Default)]
pub struct OneLeader;

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "ONE-LEADER"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Begins(_) | Seen::Look => alone(scene, |sort| {
                matches!(sort, Sort::Lease(_) | Sort::Vote)
            }),
            _ => Ok(()),
        }
    }
}

/// Whether of the holds of these sorts no two exclude each other.
pub(super) fn alone(scene: &Scene, sorts: impl Fn(&Sort) -> bool) -> Verdict {
    let trusted = || {
        let open = scene.open_holds();
        open.filter(|(_, hold)| hold.is_trusted() && sorts(&hold.sort))
    };
    for (one, hold) in trusted() {
        let mut others = trusted().filter(|(other, _)| *other > one);
        let other = others.find(|(_, other)| hold.excludes(other) && !same(hold, other));
        that(other.is_none(), || {
            let other = other.map(|(_, other)| format!("{} #{}", other.process, other.token));
            format!(
                "{} is trusted by {} #{} and by {}",
                hold.what,
                hold.process,
                hold.token,
                other.unwrap_or_default()
            )
        })?;
    }
    Ok(())
}

/// Work that failed begins again under the same grant, in the same process.
fn same(one: &crate::sim::scene::Hold, other: &crate::sim::scene::Hold) -> bool {
    one.process == other.process && one.token == other.token && one.sort == other.sort
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, lost};
    use super::*;

    #[test]
    fn two_leaders_at_a_time_are_a_violation() {
        let mut stage = Stage::new(OneLeader);
        let one = stage.leader(0, 1);
        stage.ok(Seen::Begins(one));
        let other = stage.leader(1, 2);
        stage.bad(Seen::Begins(other));
    }

    #[test]
    fn two_leaders_one_after_the_other_are_none() {
        let mut stage = Stage::new(OneLeader);
        let one = stage.leader(0, 1);
        stage.ok(Seen::Begins(one));
        stage.ok(lost(one));
        let other = stage.leader(1, 2);
        stage.ok(Seen::Begins(other));
        stage.ok(Seen::Look);
    }
}
