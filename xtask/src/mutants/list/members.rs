//! Members: who lives, and how the dead are counted.

use super::leases::{BLIND_GUARD, DEAF_GUARD};
use super::{Mutant, expression, statement, text};

const MEMBERSHIP: &str = "coordinator-core/src/machine/membership.rs";
const MEMBERS: &str = "coordinator-memory/src/members.rs";
const PLANNER: &str = "coordinator-core/src/machine/planner.rs";
const SCENE: &str = "coordinator-core/src/machine/planner/scene.rs";
const KEEPER: &str = "coordinator-core/src/machine/keeper.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "heartbeat-counted-from-the-reply",
        world: "shards",
        rules: &["T1"],
        does: "A heartbeat is trusted from when its answer came.",
        caught_by: &["ONE-OWNER", "TRUST-WITHIN-LEASE"],
        edits: &[expression(
            MEMBERSHIP,
            "self.trust.until(asked)",
            "self.trust.until(now)",
        )
        .within("let until = self.trust.until(asked);")],
    },
    Mutant {
        name: "work-outlives-membership",
        world: "shards",
        rules: &["T2", "S3"],
        does: "Shards go on when the membership is lost.",
        caught_by: &["ONE-OWNER", "TRUST-WITHIN-LEASE"],
        edits: &[
            statement(KEEPER, "cancel((shard, token), run, cause, out);", ""),
            BLIND_GUARD,
            DEAF_GUARD,
        ],
    },
    Mutant {
        name: "expired-member-revived",
        world: "shards",
        rules: &["G1"],
        does: "A late heartbeat brings a member back that was due already.",
        caught_by: &["ENDED-STAYS-ENDED"],
        edits: &[
            expression(MEMBERS, "!record.is_live(now)", "record.end.is_some()")
                .within("if !record.is_live(now) {\n            return Ok(Beat::Expired);"),
        ],
    },
    Mutant {
        name: "name-borne-twice",
        world: "shards",
        rules: &["G2"],
        does: "Who joins under the name of another live member does not wait for its end.",
        caught_by: &["ONE-BEARER"],
        edits: &[text(
            MEMBERS,
            "return Ok(Joined::Taken(Box::new(incumbent)));",
            "if !MUTANT { return Ok(Joined::Taken(Box::new(incumbent))); } fleet.begin(join, terms)?",
        )],
    },
    Mutant {
        name: "no-mercy-after-an-outage",
        world: "shards",
        rules: &["G4"],
        does: "After an outage whoever is back first counts all others as ended.",
        caught_by: &["MERCY-KEPT"],
        edits: &[
            expression(PLANNER, "cut_off", "false").within("if cut_off {"),
            expression(
                PLANNER,
                "(now < self.mercy_until).then_some(self.mercy_until)",
                "None::<Moment>",
            ),
        ],
    },
    Mutant {
        name: "absence-taken-for-an-end",
        world: "shards",
        rules: &["G7"],
        does: "A member whose record is missing counts as ended.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT", "LEGAL-STEP"],
        edits: &[
            expression(
                MEMBERS,
                "fleet\n                \
                 .and_then(|fleet| fleet.records.get(life))\n                \
                 .is_some_and(|record| !record.is_live(now))",
                "fleet.and_then(|fleet| fleet.records.get(life))\
                 .is_none_or(|record| !record.is_live(now))",
            ),
            expression(SCENE, "Standing::Missing", "Standing::Gone")
                .within("None if self.view.asked >= self.known_at => Standing::Missing"),
        ],
    },
];
