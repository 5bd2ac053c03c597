//! Shards: how they pass from one owner to the next.

use super::{Mutant, expression};

const KEEPER: &str = "coordinator-core/src/machine/keeper.rs";
const DENSE: &str = "coordinator-core/src/machine/planner/dense.rs";
const FIXED: &str = "coordinator-core/src/machine/planner/fixed.rs";
const REIGN: &str = "coordinator-core/src/machine/planner/reign.rs";
const SCENE: &str = "coordinator-core/src/machine/planner/scene.rs";
const MEMBERS: &str = "coordinator-memory/src/members.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "name-owns",
        world: "shards",
        rules: &["S1"],
        does: "Who comes back under a name goes on with what its former life owned.",
        caught_by: &["ONE-OWNER", "POSITIONS-NEVER-GO-BACK"],
        edits: &[expression(
            KEEPER,
            "document.index_of(&life)",
            "document.members.iter().position(|(id, _)| *id == life.0)\
             .and_then(|at| MemberIndex::try_from(at).ok())",
        )],
    },
    Mutant {
        name: "grant-before-ack",
        world: "shards",
        rules: &["S2"],
        does: "A shard passes to its next owner without being given back by the last one.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT", "LEGAL-STEP"],
        edits: &[expression(
            FIXED,
            "self.revoke(member, token, THIS_SWAP, target)",
            "self.hand_over(slot, target)",
        )],
    },
    Mutant {
        name: "ack-not-tied-to-its-epoch",
        world: "shards",
        rules: &["S3"],
        does: "A report that does not name a shard acks its revocation, however old the report is.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT", "LEGAL-STEP"],
        edits: &[expression(
            SCENE,
            "it.seen >= since && !it.draining.contains(&shard)",
            "!it.draining.contains(&shard)",
        )],
    },
    Mutant {
        name: "ack-before-the-drain",
        world: "shards",
        rules: &["S3"],
        does: "A revoked shard that still runs is not reported as draining.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT"],
        edits: &[expression(
            KEEPER,
            "old_cut || self.is_busy(*shard)",
            "false",
        )],
    },
    Mutant {
        name: "evicted-counts-as-ended",
        world: "shards",
        rules: &["S4"],
        does: "The shards of a member that was put out are granted at once, while it may still trust.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT", "LEGAL-STEP"],
        edits: &[
            expression(SCENE, "Standing::Evicted", "Standing::Gone")
                .within("Some(MemberState::Live { evicted: true, .. }) => Standing::Evicted"),
            expression(
                MEMBERS,
                "!record.is_live(now)",
                "!record.is_live(now) || record.evicted",
            )
            .within(
                ".and_then(|fleet| fleet.records.get(life))\n                \
                 .is_some_and(|record| !record.is_live(now))",
            ),
        ],
    },
    Mutant {
        name: "grace-counted-by-the-planner",
        world: "static",
        rules: &["S5"],
        does: "The time for which shards are kept for an absent member begins anew at each look.",
        caught_by: &["ALL-OWNED"],
        edits: &[expression(
            SCENE,
            "ago",
            "Duration::from_secs(ago.as_secs() / 1_000_000)",
        )
        .within("} => ago,")],
    },
    Mutant {
        name: "empty-difference-is-a-plan",
        world: "shards",
        rules: &["S6"],
        does: "An assignment is written anew where nothing differs.",
        caught_by: &["PLANS-BOUNDED"],
        edits: &[expression(
            REIGN,
            "!draft.summary.is_empty()",
            "!draft.summary.is_empty() || now.since(reign.round_at) >= Duration::from_millis(200)",
        )],
    },
    Mutant {
        name: "flapping-unpunished",
        world: "shards",
        rules: &["S7"],
        does: "A member that expires again and again is given new shards each time.",
        caught_by: &["FLAPPING-RESTS"],
        edits: &[expression(
            SCENE,
            "(flaps > 0 && self.now < until).then_some(until)",
            "None::<Moment>",
        )],
    },
    Mutant {
        name: "cut-without-barrier",
        world: "dense",
        rules: &["S11"],
        does: "A dense keyspace is cut anew while parts of the old cut are worked on.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT", "LEGAL-STEP"],
        edits: &[
            expression(DENSE, "held(scene, current)", "false").within("if held(scene, current) {")
        ],
    },
    Mutant {
        name: "stale-document-ignored",
        world: "dense",
        rules: &["S12"],
        does: "A document that a fail-over made older is ignored, and the work under the lost one \
               goes on.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT"],
        edits: &[expression(KEEPER, "epoch < self.seen", "false")],
    },
];
