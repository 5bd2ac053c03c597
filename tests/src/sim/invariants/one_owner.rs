use super::one_leader::alone;
use super::{Invariant, Verdict};
use crate::sim::scene::{Scene, Sort};
use crate::sim::seen::Seen;

/// At no instant do two members both hold one shard, or two parts of a dense keyspace that overlap.
///
/// S1, S2, S3, S11, S12, I2, G1; H4, H5, H6, M3. At every beginning of work and every look: of all
/// guards of one shard in living processes, at most one says that it is trusted; and parts of two
/// dense cuts are never trusted at one time.
#[derive(Debug, Default)]
pub struct OneOwner;

impl Invariant for OneOwner {
    fn name(&self) -> &'static str {
        "ONE-OWNER"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Begins(_) | Seen::Look => alone(scene, |sort| {
                matches!(sort, Sort::Shard { .. } | Sort::Part { .. })
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Stage;
    use super::*;

    #[test]
    fn two_owners_at_a_time_are_a_violation() {
        let mut stage = Stage::new(OneOwner);
        let one = stage.owner(0, 1);
        stage.ok(Seen::Begins(one));
        let other = stage.owner(1, 2);
        stage.bad(Seen::Begins(other));
    }

    #[test]
    fn a_dead_owner_is_none() {
        let mut stage = Stage::new(OneOwner);
        let one = stage.owner(0, 1);
        stage.ok(Seen::Begins(one));
        stage.ok(Seen::Crashed(super::super::kit::m(0)));
        let other = stage.owner(1, 2);
        stage.ok(Seen::Begins(other));
    }

    #[test]
    fn parts_of_one_cut_do_not_overlap_and_of_two_cuts_they_do() {
        let mut stage = Stage::new(OneOwner);
        let one = stage.part(0, 0, 2, 5);
        stage.ok(Seen::Begins(one));
        let other = stage.part(1, 1, 2, 5);
        stage.ok(Seen::Begins(other));
        let newer = stage.part(2, 2, 3, 6);
        stage.bad(Seen::Begins(newer));
    }
}
