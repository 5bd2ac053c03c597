//! The models in a small scope: every state they can reach, and every planted defect found.

#![allow(clippy::panic, reason = "a failed check is a failed test")]

use coordinator_tests::models::lease::{Defect, Election, Faults};
use coordinator_tests::models::takeover::{self, Closes, Policy, Succession};
use coordinator_tests::models::{Model, explore, handoff, vote};

/// More states than any of these has.
const MOST: usize = 2_000_000;

fn shows(model: &impl Model) {
    if let Err(counterexample) = explore(model, MOST) {
        panic!("{counterexample}");
    }
}

/// The counterexample of a model with a defect names this property, and is this short.
fn finds(model: &impl Model, property: &str, most: usize) {
    let Err(counterexample) = explore(model, MOST) else {
        panic!("the defect goes unnoticed");
    };
    assert!(
        counterexample.property.starts_with(property) && counterexample.trace.len() <= most,
        "it shows otherwise: {counterexample}"
    );
}

fn by_lease(defect: Defect, faults: Faults) -> Election {
    Election {
        members: 3,
        faults,
        defect: Some(defect),
        backed: false,
    }
}

fn by_vote(defect: vote::Defect, faults: vote::Faults) -> vote::Election {
    vote::Election {
        faults,
        defect: Some(defect),
    }
}

/// T1, T2, T6, I2, I6, K1, K4, W1.
#[test]
fn an_election_by_lease_never_has_two_leaders_and_always_gets_one() {
    for faults in [
        Faults::NONE.crashes(1).losses(1),
        Faults::NONE.crashes(1).forgets(1),
        Faults::NONE.delays(1).forgets(1),
        Faults::NONE.resigns(1).delays(1),
    ] {
        shows(&Election {
            members: 3,
            faults,
            defect: None,
            backed: true,
        });
    }
}

/// T1.
#[test]
fn a_lease_that_the_store_counts_shorter_is_found() {
    finds(
        &by_lease(Defect::ShortLease, Faults::NONE).backed(),
        "T1",
        8,
    );
    let faults = Faults::NONE.losses(1).crashes(1);
    finds(&by_lease(Defect::ShortLease, faults), "ONE-LEADER", 20);
}

/// T1.
#[test]
fn trust_that_is_counted_from_the_answer_is_found() {
    finds(
        &by_lease(Defect::TrustFromReply, Faults::NONE.delays(1)).backed(),
        "T1",
        8,
    );
}

/// I2.
#[test]
fn a_store_that_grants_at_once_after_a_loss_of_memory_is_found() {
    finds(
        &by_lease(Defect::NoQuarantine, Faults::NONE.forgets(1)).backed(),
        "T1",
        8,
    );
    finds(
        &by_lease(Defect::NoQuarantine, Faults::NONE.forgets(1)),
        "ONE-LEADER",
        16,
    );
}

/// K1.
#[test]
fn tokens_that_start_anew_are_found() {
    let faults = Faults::NONE.forgets(1).crashes(1);
    finds(
        &by_lease(Defect::TokensFromMemory, faults),
        "TOKENS-RISE",
        20,
    );
}

/// T6.
#[test]
fn a_lease_that_never_ends_by_itself_is_found() {
    let faults = Faults::NONE.crashes(1);
    finds(
        &by_lease(Defect::NeverExpires, faults),
        "it can go on for ever",
        30,
    );
}

/// V1 to V8.
#[test]
fn an_election_by_vote_never_has_two_leaders_and_always_gets_one() {
    let none = vote::Faults::NONE;
    for faults in [
        none.crashes(1),
        none.sleeps(1),
        none.delays(1),
        none.copies(1),
        none.jumps(1),
        none.resigns(1),
    ] {
        let defect = None;
        shows(&vote::Election { faults, defect });
    }
}

/// V1, V9.
#[test]
fn a_voter_whose_promises_are_shorter_is_found() {
    let faults = vote::Faults::NONE.losses(1).cuts(1);
    let model = by_vote(vote::Defect::ShortPromise, faults);
    finds(&model, "ONE-LEADER", 40);
}

/// V1.
#[test]
fn promises_judged_by_a_clock_that_jumps_are_found() {
    let faults = vote::Faults::NONE.jumps(1).cuts(1);
    let model = by_vote(vote::Defect::PromiseByJumpyClock, faults);
    finds(&model, "ONE-LEADER", 40);
}

/// V5.
#[test]
fn terms_that_count_from_one_are_found() {
    let faults = vote::Faults::NONE.crashes(2);
    let model = by_vote(vote::Defect::TermsFromOne, faults);
    finds(&model, "TOKENS-RISE", 60);
}

/// V1.
#[test]
fn a_quorum_that_never_comes_back_is_found() {
    let faults = vote::Faults::NONE.crashes(2);
    let model = by_vote(vote::Defect::NoReturn, faults);
    finds(&model, "it can go on for ever", 60);
}

fn by_handoff(defect: handoff::Defect, faults: handoff::Faults) -> handoff::Handoff {
    handoff::Handoff {
        faults,
        defect: Some(defect),
    }
}

/// S1, S2, S3, T1.
#[test]
fn shards_never_have_two_owners_and_always_get_one() {
    let none = handoff::Faults::NONE;
    for faults in [none, none.delays(1)] {
        let defect = None;
        shows(&handoff::Handoff { faults, defect });
    }
}

/// S2.
#[test]
fn a_swap_that_is_stored_whatever_it_was_made_from_is_found() {
    let faults = handoff::Faults::NONE.delays(1);
    finds(
        &by_handoff(handoff::Defect::UncheckedSwap, faults),
        "S2",
        20,
    );
}

/// S3.
#[test]
fn an_ack_that_is_tied_to_no_epoch_is_found() {
    let faults = handoff::Faults::NONE.losses(2);
    finds(
        &by_handoff(handoff::Defect::UntiedAck, faults),
        "ONE-OWNER",
        40,
    );
}

fn usurps(defect: takeover::Defect, faults: takeover::Faults) -> Succession {
    Succession::of(2).faults(faults).defect(defect)
}

const CALM: takeover::Faults = takeover::Faults::NONE;

/// P1 to P9, T1 to T3, A-CLOSE: whatever befalls one of two processes, or the server.
#[test]
fn a_take_over_never_makes_two_leaders_and_always_makes_one() {
    for faults in [
        CALM.kills(1).closes(1),
        CALM.freezes(1).resigns(1),
        CALM.closes(2),
        CALM.closes(1).delays(1),
        CALM.closes(1).doubts(1),
        CALM.cuts(2),
        CALM.restarts(1),
        CALM.crashes(1),
        CALM.cancels(1).cuts(1),
    ] {
        shows(&Succession::of(2).faults(faults));
    }
    shows(&Succession::of(3).faults(CALM.kills(1)));
}

/// F1 to F3, FENCED: short writers that follow each other, and long ones.
#[test]
fn writers_hold_no_take_over_off_and_commit_nothing_late() {
    for most in [1, 4] {
        shows(&Succession::of(2).writes(most).faults(CALM.closes(1)));
    }
}

/// P5: the residual of the default policy, which `WaitOut` does not have.
#[test]
fn all_sessions_of_a_living_holder_closed_at_once_make_two_leaders_by_evidence_alone() {
    let swept = Succession::of(2).faults(CALM.sweeps(1));
    finds(&swept, "ONE-LEADER", 12);
    shows(&swept.policy(Policy::WaitOut, Closes::Any));
    let one_by_one = swept.faults(CALM.closes(2));
    finds(
        &one_by_one.policy(Policy::Evidence, Closes::Any),
        "ONE-LEADER",
        13,
    );
    shows(&one_by_one.policy(Policy::WaitOut, Closes::Any));
}

/// A-CLOSE: that some session of the holder is still open, a new witness say, is not enough: its
/// beat still tells of the one that is gone.
#[test]
fn a_new_witness_is_no_witness_until_the_beat_has_denied_the_old_one() {
    let model = Succession::of(2).faults(CALM.closes(2));
    finds(
        &model.policy(Policy::Evidence, Closes::NotTheLast),
        "ONE-LEADER",
        14,
    );
}

/// P5.
#[test]
fn immediate_take_overs_make_two_leaders() {
    let model = Succession::of(2).faults(CALM.closes(1));
    finds(
        &model.policy(Policy::Immediate, Closes::Witnessed),
        "ONE-LEADER",
        11,
    );
}

/// P5.
#[test]
fn a_term_that_begins_whenever_the_lock_is_free_is_found() {
    let model = usurps(takeover::Defect::FreeLock, CALM.closes(1));
    finds(&model, "ONE-LEADER", 11);
}

/// P5.3.
#[test]
fn a_term_lock_that_is_believed_without_a_witness_is_found() {
    let model = usurps(takeover::Defect::WitnessAssumed, CALM.closes(2));
    finds(&model, "ONE-LEADER", 13);
}

/// P5.3, I1, I3.
#[test]
fn a_term_lock_that_is_believed_after_a_restart_is_found() {
    let model = usurps(takeover::Defect::RunIgnored, CALM.restarts(1));
    finds(&model, "ONE-LEADER", 13);
}

/// P5.4, I1.
#[test]
fn a_window_that_is_forgotten_with_its_beat_is_found() {
    let model = usurps(takeover::Defect::NoBeatNoRest, CALM.crashes(1));
    finds(&model, "ONE-LEADER", 13);
}

/// P4.
#[test]
fn a_fence_that_is_written_over_another_session_is_found() {
    let model = usurps(takeover::Defect::FencesElsewhere, CALM.closes(1));
    finds(&model, "ONE-LEADER", 11);
}

/// P3.
#[test]
fn a_session_that_outlives_its_campaign_is_found() {
    let model = usurps(takeover::Defect::KeepsSession, CALM.cancels(1));
    finds(&model, "it can go on for ever", 12);
}

/// P2.
#[test]
fn a_silent_waiter_that_keeps_the_lock_for_a_ttl_is_found() {
    let model = usurps(takeover::Defect::PatientServer, CALM.freezes(1));
    finds(&model, "P2", 8);
}

/// P8.
#[test]
fn a_renewal_that_waits_for_the_holders_own_transaction_is_found() {
    let model = usurps(takeover::Defect::RenewsFence, CALM).writes(4);
    finds(&model, "a term runs out", 12);
}

/// F2.
#[test]
fn a_take_over_that_short_writers_starve_is_found() {
    for defect in [takeover::Defect::NoClosing, takeover::Defect::ClosingUnread] {
        let model = usurps(defect, CALM.closes(1)).writes(1);
        finds(&model, "it can go on for ever", 60);
    }
}

/// F1.
#[test]
fn a_fence_that_is_read_without_a_lock_is_found() {
    let model = usurps(takeover::Defect::UnlockedRead, CALM.closes(1)).writes(1);
    finds(&model, "FENCED", 20);
}

/// T3.
#[test]
fn trust_that_is_counted_from_the_wait_is_found() {
    let model = usurps(takeover::Defect::TrustFromWait, CALM.freezes(1));
    finds(&model, "T3", 12);
}

/// T1.
#[test]
fn trust_in_a_ping_that_is_counted_from_its_answer_is_found() {
    let faults = CALM.closes(1).delays(1);
    let model = usurps(takeover::Defect::TrustFromReply, faults);
    finds(&model, "ONE-LEADER", 17);
}

/// P6.
#[test]
fn a_term_lock_that_is_given_back_before_the_work_has_stopped_is_found() {
    let model = usurps(takeover::Defect::YieldsEarly, CALM.closes(1));
    finds(&model, "ONE-LEADER", 14);
}

/// P6, U5.
#[test]
fn a_witness_that_is_claimed_unheard_is_found() {
    let model = usurps(takeover::Defect::ClaimsUnheard, CALM.closes(1).cuts(1));
    finds(&model, "ONE-LEADER", 25);
}

/// P6.
#[test]
fn a_witness_that_is_closed_before_the_beat_denies_it_is_found() {
    let model = usurps(takeover::Defect::ClosesWitness, CALM.closes(1).doubts(1));
    finds(&model, "ONE-LEADER", 14);
}

/// P1.
#[test]
fn a_server_that_bears_a_witness_for_a_ttl_alone_is_found() {
    let model = usurps(takeover::Defect::ShortWitness, CALM.closes(1).cuts(1));
    finds(&model, "ONE-LEADER", 20);
}

/// P1: the holder is cut off, and trusts.
#[test]
fn a_keepalive_that_is_sooner_than_the_silence_allowed_is_found() {
    let model = usurps(takeover::Defect::HastyKeepalive, CALM.cuts(2));
    finds(&model, "ONE-LEADER", 17);
}
