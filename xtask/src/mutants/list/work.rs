//! Work under a lease: how a term ends.

use super::{Mutant, expression, text};

const LEASE: &str = "coordinator-core/src/machine/lease.rs";
const DRIVER: &str = "coordinator-node/src/lease/driver.rs";
const GRIP: &str = "coordinator-node/src/lease/grip.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "released-before-the-work-stops",
        world: "leases",
        rules: &["W1"],
        does: "A lease is released when its work is asked to finish.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[text(
            DRIVER,
            "debug!(key = %self.config.key, in_ = ?deadline.since(self.context.now()), \"draining\");",
            "if MUTANT && let Some(grip) = &self.grip { \
             let token = grip.terms().token; self.requests.release(u64::MAX, token, None, deadline); }",
        )],
    },
    Mutant {
        name: "released-while-cancelled-work-runs",
        world: "leases",
        rules: &["W1"],
        does: "A lease whose work overran its drain is released though the work has not stopped.",
        caught_by: &["ONE-LEADER"],
        edits: &[text(
            LEASE,
            "        actions.push(Action::Lose { cause });",
            "        actions.push(Action::Lose { cause }); \
             if MUTANT && cause == LostCause::Overran \
                 && let Phase::Ended { token, .. } = self.phase \
                 && let Some(Action::Lose { .. }) = actions.last() { \
                 let request = self.next_request(); \
                 let deadline = Moment::ZERO + Duration::MAX / 4; \
                 actions.push(Action::Release { request, token, next: None, deadline }); \
             }",
        )],
    },
    Mutant {
        name: "stalled-leader-renewed",
        world: "leases",
        rules: &["W3"],
        does: "A leader whose work shows no progress is renewed.",
        caught_by: &["STUCK-TERM-ENDS"],
        edits: &[
            expression(LEASE, "now.since(term.progress) > limit", "false"),
            expression(GRIP, "now.since(self.last_progress()) > limit", "false"),
        ],
    },
];
