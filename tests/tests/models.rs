//! The models in a small scope: every state they can reach, and every planted defect found.

use coordinator_tests::models::explore;
use coordinator_tests::models::lease::{Defect, Election, Faults};

/// More states than any of these has.
const MOST: usize = 2_000_000;

fn shows(model: Election) {
    if let Err(counterexample) = explore(&model, MOST) {
        panic!("{:?}: {counterexample}", model.faults);
    }
}

/// The counterexample of a model with a defect names this property, and is this short.
fn finds(defect: Defect, faults: Faults, property: &str, most: usize) {
    let model = Election {
        members: 3,
        faults,
        defect: Some(defect),
        backed: property == "T1",
    };
    let Err(counterexample) = explore(&model, MOST) else {
        panic!("{defect:?} goes unnoticed");
    };
    assert!(
        counterexample.property.starts_with(property) && counterexample.trace.len() <= most,
        "{defect:?} shows otherwise: {counterexample}"
    );
}

/// T1, T2, T6, I2, I6, K1, K4, W1.
#[test]
fn an_election_by_lease_never_has_two_leaders_and_always_gets_one() {
    for faults in [
        Faults::NONE.crashes(1).losses(1),
        Faults::NONE.crashes(1).forgets(1),
        Faults::NONE.delays(1).forgets(1),
        Faults::NONE.sleeps(1).losses(1),
        Faults::NONE.resigns(1).delays(1),
    ] {
        shows(Election {
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
    finds(Defect::ShortLease, Faults::NONE, "T1", 8);
    let faults = Faults::NONE.losses(1).crashes(1);
    finds(Defect::ShortLease, faults, "ONE-LEADER", 20);
}

/// T1.
#[test]
fn trust_that_is_counted_from_the_answer_is_found() {
    finds(Defect::TrustFromReply, Faults::NONE.delays(1), "T1", 8);
}

/// I2.
#[test]
fn a_store_that_grants_at_once_after_a_loss_of_memory_is_found() {
    finds(Defect::NoQuarantine, Faults::NONE.forgets(1), "T1", 8);
    finds(
        Defect::NoQuarantine,
        Faults::NONE.forgets(1),
        "ONE-LEADER",
        16,
    );
}

/// K1.
#[test]
fn tokens_that_start_anew_are_found() {
    let faults = Faults::NONE.forgets(1).crashes(1);
    finds(Defect::TokensFromMemory, faults, "TOKENS-RISE", 20);
}

/// T6.
#[test]
fn a_lease_that_never_ends_by_itself_is_found() {
    let faults = Faults::NONE.crashes(1);
    finds(Defect::NeverExpires, faults, "it can go on for ever", 30);
}
