//! The models in a small scope: every state they can reach, and every planted defect found.

#![allow(clippy::panic, reason = "a failed check is a failed test")]

use coordinator_tests::models::lease::{Defect, Election, Faults};
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
