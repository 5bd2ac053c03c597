//! The memory store: what it grants, to whom, and when.

use super::{Mutant, expression, statement};

const ASSIGNMENTS: &str = "coordinator-memory/src/assignments.rs";
const LOCKS: &str = "coordinator-memory/src/locks.rs";
const STATE: &str = "coordinator-memory/src/state.rs";
const TURNS: &str = "coordinator-memory/src/turns.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "claim-without-instance",
        world: "leases",
        rules: &["T4"],
        does: "A claim is known by its number alone: another process's, of the same number, is the \
               same claim.",
        caught_by: &["ONE-LEADER"],
        edits: &[expression(
            LOCKS,
            "(lease.instance, lease.id) == (claim.instance, claim.id)",
            "lease.id == claim.id",
        )],
    },
    Mutant {
        name: "last-token-forgotten",
        world: "leases",
        rules: &["K3"],
        does: "A lease that is released takes the last token of its key along.",
        caught_by: &["TOKENS-RISE"],
        edits: &[statement(
            LOCKS,
            "row.released = row.grant.take().map(|grant| (grant.instance, grant.id));",
            "self.rows.remove(&claim.key);",
        )],
    },
    Mutant {
        name: "memory-without-identity",
        world: "dense",
        rules: &["I1"],
        does: "A store that lost its memory calls it by the same name as before.",
        caught_by: &["ONE-OWNER", "ACK-BEFORE-GRANT"],
        edits: &[statement(
            STATE,
            "self.memory = memory_id(self.memories);",
            "",
        )],
    },
    Mutant {
        name: "no-quarantine",
        world: "leases",
        rules: &["I2"],
        does: "A store that lost its memory grants at once.",
        caught_by: &["ONE-LEADER", "ONE-OWNER", "QUARANTINE-KEPT"],
        edits: &[expression(
            STATE,
            "(!left.is_zero()).then_some(left)",
            "None::<Duration>.filter(|_| left.is_zero())",
        )],
    },
    Mutant {
        name: "shards-granted-in-quarantine",
        world: "shards",
        rules: &["I2"],
        does: "A store that lost its memory replaces assignments at once.",
        caught_by: &["ONE-OWNER", "QUARANTINE-KEPT"],
        edits: &[expression(ASSIGNMENTS, "terms.quarantine", "None::<std::time::Duration>")
            .within("if let Some(left) = terms.quarantine {\n            return Err(Refusal::Quarantined(left));\n        }\n        let place")],
    },
    Mutant {
        name: "quarantine-shorter-than-a-lease",
        world: "leases",
        rules: &["I4"],
        does: "A quarantine lasts a tenth of the longest lease, and not as long as one.",
        caught_by: &["ONE-LEADER", "ONE-OWNER", "QUARANTINE-KEPT"],
        edits: &[expression(
            STATE,
            "self.clock.elapsed() + self.max_ttl",
            "self.clock.elapsed() + self.max_ttl / 10",
        )],
    },
    Mutant {
        name: "holders-forgotten-in-quarantine",
        world: "leases",
        rules: &["I6"],
        does: "In quarantine nobody may register again what the store forgot.",
        caught_by: &["LOST-TO-SOMEBODY"],
        edits: &[expression(
            LOCKS,
            "self.may_register(claim, token, now)",
            "false",
        )],
    },
    Mutant {
        name: "turn-kept-for-ever",
        world: "leases",
        rules: &["P2"],
        does: "A turn that is not taken does not pass on.",
        caught_by: &["LEADERLESS-BOUNDED"],
        edits: &[expression(
            TURNS,
            "now + self.patience",
            "now + self.patience * 3_600",
        )],
    },
    Mutant {
        name: "hand-over-kept-for-ever",
        world: "leases",
        rules: &["P10"],
        does: "A lease that is handed over is kept for that member alone, even if it has died.",
        caught_by: &["LEADERLESS-BOUNDED"],
        edits: &[expression(TURNS, "now + HAND_OVER", "now + HAND_OVER * 3_600")],
    },
    Mutant {
        name: "expired-lease-renewed",
        world: "live",
        rules: &["R2"],
        does: "A lease that has run out is renewed if nobody has taken it yet.",
        caught_by: &["ONE-GRANT"],
        edits: &[expression(
            LOCKS,
            "row\n                    .lease(now)\n                    \
             .is_some_and(|lease| lease.instance == claim.instance)",
            "row.grant.as_ref().is_some_and(|lease| lease.instance == claim.instance)",
        )],
    },
    Mutant {
        name: "swap-without-expected-epoch",
        world: "shards",
        rules: &["S2"],
        does: "An assignment is replaced whatever it was planned upon.",
        caught_by: &["ONE-OWNER", "LEGAL-STEP", "ACK-BEFORE-GRANT"],
        edits: &[expression(ASSIGNMENTS, "found != swap.expected", "false")],
    },
    Mutant {
        name: "deposed-planner-writes",
        world: "shards",
        rules: &["S2"],
        does: "An assignment is replaced by whoever once planned, and whatever it was planned upon.",
        caught_by: &["ONE-OWNER", "LEGAL-STEP", "ACK-BEFORE-GRANT"],
        edits: &[
            expression(ASSIGNMENTS, "found != swap.expected", "false"),
            expression(ASSIGNMENTS, "swap.token < row.planner", "false"),
        ],
    },
    Mutant {
        name: "loaded-without-claim",
        world: "shards",
        rules: &["C1"],
        does: "Who loads a position does not shut older owners out.",
        caught_by: &["FENCED", "POSITIONS-NEVER-GO-BACK", "EXACTLY-ONCE"],
        edits: &[statement(
            "coordinator-memory/src/checkpoints.rs",
            "row.claim(token);",
            "",
        )],
    },
    Mutant {
        name: "late-save-counts",
        world: "shards",
        rules: &["C1"],
        does: "A save that was overtaken by a later one of the same owner replaces it.",
        caught_by: &["POSITIONS-NEVER-GO-BACK"],
        edits: &[expression(
            "coordinator-memory/src/checkpoints.rs",
            "number <= last",
            "false",
        )
        .within("Some(last) if number <= last => Save::Superseded")],
    },
];
