//! Trust in leases: how long it lasts, and what ends it.

use super::{Edit, Mutant, expression, statement, text};

const LEASE: &str = "coordinator-core/src/machine/lease.rs";
const CAMPAIGN: &str = "coordinator-core/src/machine/lease/campaign.rs";
const TRUST: &str = "coordinator-core/src/trust.rs";
const GRIP: &str = "coordinator-node/src/lease/grip.rs";

/// A guard that does not look at the clock itself: it is lost when its driver says so.
pub(super) const BLIND_GUARD: Edit = expression(GRIP, "now < until", "true");
/// The same for whoever waits for the end: its timer is gone.
pub(super) const DEAF_GUARD: Edit = expression(
    GRIP,
    "sleep_until(&*self.clock, Some(until), self.look_every)",
    "sleep_until(&*self.clock, None, self.look_every)",
)
.within("() = sleep_until(&*self.clock, Some(until), self.look_every) => {}");

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "renew-counted-from-the-reply",
        world: "leases",
        rules: &["T1"],
        does: "A renewal is trusted from when its answer came.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[expression(
            LEASE,
            "self.config.trust.until(asked)",
            "self.config.trust.until(now)",
        )
        .within("let renewed_until = self.config.trust.until(asked);")],
    },
    Mutant {
        name: "grant-counted-from-the-reply",
        world: "leases",
        rules: &["T1"],
        does: "A grant is trusted from when its answer came.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[expression(
            CAMPAIGN,
            "self.config.trust.until(asked)",
            "self.config.trust.until(now)",
        )],
    },
    Mutant {
        name: "no-margin",
        world: "leases",
        rules: &["T1"],
        does: "Trust lasts as long as the lease.",
        caught_by: &["ONE-LEADER", "ONE-OWNER", "TRUST-WITHIN-LEASE"],
        edits: &[expression(
            TRUST,
            "asked + self.window()",
            "asked + self.ttl",
        )],
    },
    Mutant {
        name: "unanswered-acquire-forgotten",
        world: "leases",
        rules: &["T1"],
        does: "A grant is trusted from the last acquire, though an unanswered one before it may have \
               been granted.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[statement(
            CAMPAIGN,
            "self.asked.get_or_insert(now);",
            "self.asked = Some(now);",
        )],
    },
    Mutant {
        name: "late-answer-revives",
        world: "leases",
        rules: &["T2"],
        does: "A term whose trust is over goes on while a renewal is unanswered.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE", "NO-REVIVAL"],
        edits: &[
            expression(
                LEASE,
                "now >= until",
                "now >= until && matches!(term.renewal, Renewal::At(_))",
            )
            .within("        if now >= until {\n            let cause = if stalled {"),
            expression(
                LEASE,
                "renew_at.min(self.until).min(drained)",
                "if matches!(self.renewal, Renewal::At(_)) { renew_at.min(self.until).min(drained) } \
                 else { self.until + Duration::from_hours(1) }",
            ),
            expression(
                LEASE,
                "(now + self.config.trust.renew_every()).min(end)",
                "now + self.config.trust.ttl()",
            ),
            BLIND_GUARD,
            DEAF_GUARD,
        ],
    },
    Mutant {
        name: "late-grant-trusted-at-once",
        world: "leases",
        rules: &["T3"],
        does: "A grant that comes when its window is over is trusted from now on, unrenewed.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[statement(
            CAMPAIGN,
            "self.confirm(now, token, actions);",
            "self.lead(now, token, self.config.trust.until(now), actions);",
        )],
    },
    Mutant {
        name: "trust-only-announced",
        world: "leases",
        rules: &["T5"],
        does: "A guard does not compare the clock itself: it believes until it is told otherwise.",
        caught_by: &["ONE-LEADER", "ONE-OWNER", "TRUST-WITHIN-LEASE"],
        edits: &[BLIND_GUARD, DEAF_GUARD],
    },
    Mutant {
        name: "unknown-outcome-taken-for-renewed",
        world: "leases",
        rules: &["T6"],
        does: "A renewal without an answer counts as one that succeeded.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[text(
            LEASE,
            "// Not renewed is all that an unknown outcome means (T6).",
            "if MUTANT && kind == ErrorKind::Indeterminate { \
             return self.renewed(now, request, actions); }",
        )],
    },
    Mutant {
        name: "numbers-from-one",
        world: "leases",
        rules: &["K1"],
        does: "The next token, epoch or incarnation is one more than the last that the store knows.",
        caught_by: &["TOKENS-RISE"],
        edits: &[expression(
            "coordinator-core/src/numbers.rs",
            "above(last).max(above(floor)).max(wall_ms).max(1)",
            "above(last).max(1)",
        )],
    },
];
