//! Elections by vote: what a voter promises, and what a leader may conclude from it.

use super::{Mutant, expression, text};

const CAMPAIGN: &str = "coordinator-core/src/machine/vote/campaign.rs";
const REIGN: &str = "coordinator-core/src/machine/vote/reign.rs";
const VOTE: &str = "coordinator-core/src/machine/vote.rs";
const VOTER: &str = "coordinator-core/src/machine/vote/voter.rs";
const WIRE: &str = "coordinator-core/src/machine/vote/wire.rs";
const LIVE: &str = "coordinator-node/src/vote/live.rs";
const LOCKS: &str = "coordinator-node/src/vote/locks.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "promise-broken-by-a-higher-term",
        world: "votes",
        rules: &["V1"],
        does: "A voter follows whoever comes with a higher term, whatever it has promised.",
        caught_by: &["ONE-LEADER"],
        edits: &[
            expression(
                VOTER,
                "promise.to != reign",
                "promise.to != reign && promise.to.term >= reign.term",
            ),
            expression(
                VOTER,
                "fresh && self.is_free(at)",
                "fresh && (self.is_free(at) || (asked.term > self.term && !self.abstains(at)))",
            ),
        ],
    },
    Mutant {
        name: "trust-renews-itself",
        world: "votes",
        rules: &["V2"],
        does: "A leader that is trusted is confirmed at once, without a heartbeat that a quorum acks.",
        caught_by: &["ONE-LEADER"],
        edits: &[text(
            REIGN,
            "let from_seq = reign.seq + 1;",
            "if MUTANT && reign.trusted_until.is_some_and(|until| at.now < until) { \
                 let term = reign.term; \
                 actions.push(Action::Confirmed { request, term }); \
                 return self.beat(at, actions); \
             } \
             let from_seq = reign.seq + 1;",
        )],
    },
    Mutant {
        name: "votes-are-trust",
        world: "votes",
        rules: &["V2"],
        does: "A candidate leads as soon as it is voted for, before a quorum has promised to follow.",
        caught_by: &["ONE-LEADER", "TOKENS-RISE"],
        edits: &[text(
            LOCKS,
            "self.voter.confirm().await.ok_or_else(unconfirmed)?",
            "if MUTANT { \
                 let _ = futures_util::FutureExt::now_or_never(self.voter.confirm()); \
                 match self.voter.view().borrow().standing { \
                     Standing::Reigning { term } => Some(term), \
                     _ => None, \
                 } \
             } else { self.voter.confirm().await }.ok_or_else(unconfirmed)?",
        )],
    },
    Mutant {
        name: "acks-add-up",
        world: "votes",
        rules: &["V2"],
        does: "Acks of different heartbeats make one quorum.",
        caught_by: &["ONE-LEADER"],
        edits: &[expression(
            REIGN,
            "(round.sent, round.acks.clone())",
            "(round.sent, reign.rounds.values().flat_map(|it| it.acks.iter().cloned())\
             .collect::<BTreeSet<_>>())",
        )],
    },
    Mutant {
        name: "no-abstention",
        world: "votes",
        rules: &["V4"],
        does: "A voter that has just started votes, acks and campaigns at once.",
        caught_by: &["ONE-LEADER", "TOKENS-RISE"],
        edits: &[expression(VOTE, "at.steady + window", "at.steady")],
    },
    Mutant {
        name: "ack-while-abstaining",
        world: "votes",
        rules: &["V4"],
        does: "A voter that has just started acks heartbeats, though it votes for nobody.",
        caught_by: &["ONE-LEADER", "TOKENS-RISE"],
        edits: &[expression(VOTER, "!self.abstains(at)", "true")
            .within("!self.abstains(at) && reign.term >= self.term")],
    },
    Mutant {
        name: "terms-from-one",
        world: "votes",
        rules: &["V5"],
        does: "A term is one more than the highest that was heard of.",
        caught_by: &["TOKENS-RISE"],
        edits: &[expression(
            CAMPAIGN,
            "next_number(Some(heard), at.wall_millis, self.floor)",
            "next_number(Some(heard), 0, None)",
        )],
    },
    Mutant {
        name: "release-voids-every-promise",
        world: "votes",
        rules: &["V7"],
        does: "A release, however late it comes, voids the promise to whomever it was made.",
        caught_by: &["ONE-LEADER"],
        edits: &[expression(VOTE, "promise.to == reign", "true")
            .within("self.promise.take_if(|promise| promise.to == reign);")],
    },
    Mutant {
        name: "mixed-voter-lists",
        world: "votes",
        rules: &["V9"],
        does: "Messages count, whatever list of voters and whatever window their sender has.",
        caught_by: &["ONE-LEADER"],
        edits: &[expression(
            WIRE,
            "digest != self.digest.to_be_bytes()",
            "false",
        )],
    },
    Mutant {
        name: "live-without-the-store",
        world: "live",
        rules: &["Live"],
        does: "Whoever has the votes of the members it sees goes on, without asking the store again.",
        caught_by: &["ONE-LEADER", "TRUST-WITHIN-LEASE"],
        edits: &[expression(
            LIVE,
            "tokio::join!(votes, self.store.renew(claim, token))",
            "(votes.await, Ok::<_, LockError>(Renewal::Renewed))",
        )],
    },
];
