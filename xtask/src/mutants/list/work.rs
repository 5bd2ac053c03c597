//! Work under a lease: how a term ends.

use super::{Mutant, expression, statement, text};

const LEASE: &str = "coordinator-core/src/machine/lease.rs";
const CAMPAIGN: &str = "coordinator-core/src/machine/lease/campaign.rs";
const CONTROL: &str = "coordinator-node/src/election/control.rs";
const DRIVER: &str = "coordinator-node/src/lease/driver.rs";
const GRIP: &str = "coordinator-node/src/lease/grip.rs";
const REQUESTS: &str = "coordinator-node/src/lease/requests.rs";

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
        name: "drain-outlasts-trust",
        world: "leases",
        rules: &["W2"],
        does: "Work that is asked to finish goes on past the end of trust.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[
            expression(
                LEASE,
                "now >= until",
                "now >= until && term.draining.is_none()",
            )
            .within("        if now >= until {\n            let cause = if stalled {"),
            expression(
                LEASE,
                "renew_at.min(self.until).min(drained)",
                "if self.draining.is_some() && matches!(self.renewal, Renewal::InFlight { .. }) \
                 { drained } else { renew_at.min(drained) }",
            ),
            expression(
                LEASE,
                "(now + self.config.trust.renew_every()).min(end)",
                "now + self.config.trust.renew_every()",
            ),
            expression(GRIP, "now < until", "now < until || self.is_draining()"),
            expression(
                GRIP,
                "sleep_until(&*self.clock, Some(until), self.look_every)",
                "sleep_until(&*self.clock, Some(until).filter(|_| !self.is_draining()), self.look_every)",
            )
            .within("() = sleep_until(&*self.clock, Some(until), self.look_every) => {}"),
        ],
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
    Mutant {
        name: "dropped-acquire-left-behind",
        world: "leases",
        rules: &["W4"],
        does: "A campaign that is given up does not look for the grant that it may have got.",
        caught_by: &["NO-ORPHAN-LEASE"],
        edits: &[
            expression(CAMPAIGN, "self.is_settled(now)", "true")
                .within("        if self.is_settled(now) {\n            self.finish(Outcome::Withdrawn, actions);"),
            statement(
                CAMPAIGN,
                "self.release(now, token, None, actions);",
                "self.finish(Outcome::Withdrawn, actions);",
            )
            .within("if self.withdrawn {\n            self.release(now, token, None, actions);"),
        ],
    },
    Mutant {
        name: "renewal-after-the-release",
        world: "leases",
        rules: &["W6"],
        does: "A release leaves while a renewal is under way.",
        caught_by: &["NO-ORPHAN-LEASE", "ONE-GRANT"],
        edits: &[text(
            REQUESTS,
            "renewing.lock().await",
            "if MUTANT { None } else { Some(renewing.lock().await) }",
        )
        .within(
            "let _renewing = renewing.lock().await;\n            // Released or not held any more",
        )],
    },
    Mutant {
        name: "priority-pushes-out",
        world: "leases",
        rules: &["W7"],
        does: "A leader hands over at once to any candidate whose priority is not lower.",
        caught_by: &["STEADY"],
        edits: &[
            expression(CONTROL, "priority <= self.priority", "priority < self.priority"),
            expression(CONTROL, "now.since(candidate.first_heard) >= DAMPING", "true"),
        ],
    },
];
