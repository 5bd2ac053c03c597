//! The suite proves itself: each sabotaged backend is rejected by the checks meant for it, and by
//! no others; and each check rejects at least one.
//!
//! A saboteur stands between the checks and the memory backend, and breaks one promise.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod assignments;
#[cfg(test)]
mod buses;
#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod members;

use std::collections::BTreeSet;

use coordinator_conformance as suite;

/// Checks that no saboteur fails, each with the reason.
const WITHOUT_SABOTEUR: &[(&str, &str)] = &[];

#[test]
fn every_check_rejects_a_sabotaged_backend() {
    let checks = [
        names(suite::lock::CHECKS),
        names(suite::members::CHECKS),
        names(suite::assignments::CHECKS),
        names(suite::checkpoints::CHECKS),
        names(suite::bus::CHECKS),
    ]
    .concat();
    let rejecting: BTreeSet<&str> = [
        locks::rejecting(),
        members::rejecting(),
        assignments::rejecting(),
        checkpoints::rejecting(),
        buses::rejecting(),
    ]
    .concat()
    .into_iter()
    .collect();
    let excused: BTreeSet<&str> = WITHOUT_SABOTEUR.iter().map(|(check, _)| *check).collect();
    let idle: Vec<_> = checks
        .iter()
        .filter(|check| !rejecting.contains(check.as_str()) && !excused.contains(check.as_str()))
        .collect();
    assert!(idle.is_empty(), "no sabotaged backend fails {idle:#?}");
    let needless: Vec<_> = excused.intersection(&rejecting).collect();
    assert!(
        needless.is_empty(),
        "these reject one after all: {needless:?}"
    );
}

fn names<P: ?Sized>(checks: &[suite::Check<P>]) -> Vec<String> {
    checks.iter().map(suite::Check::full_name).collect()
}
