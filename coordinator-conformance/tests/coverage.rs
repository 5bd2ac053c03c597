//! No clause of a contract is without a check.

use std::collections::BTreeSet;

use coordinator_conformance::{Check, assignments, bus, checkpoints, lock, members};

fn covered<P: ?Sized>(checks: &[Check<P>]) -> Vec<&'static str> {
    checks
        .iter()
        .flat_map(|check| check.covers.iter().copied())
        .collect()
}

fn all_covered() -> BTreeSet<&'static str> {
    [
        covered(lock::CHECKS),
        covered(members::CHECKS),
        covered(assignments::CHECKS),
        covered(checkpoints::CHECKS),
        covered(bus::CHECKS),
    ]
    .concat()
    .into_iter()
    .collect()
}

/// How many clauses the contract in a source file of core has: the highest number in its list.
fn clauses(source: &str) -> usize {
    let contract = source.split("/// # Contract").nth(1).unwrap_or_default();
    let list = contract.split("/// # Fencing").next().unwrap_or_default();
    let numbers = list.lines().filter_map(|line| {
        let (number, _) = line.strip_prefix("/// ")?.split_once(". ")?;
        number.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

#[test]
fn every_clause_of_every_contract_has_a_check() {
    let covered = all_covered();
    let contracts = [
        ("lock", include_str!("../../coordinator-core/src/lock.rs")),
        (
            "members",
            include_str!("../../coordinator-core/src/member.rs"),
        ),
        (
            "assignments",
            include_str!("../../coordinator-core/src/assignment.rs"),
        ),
        (
            "checkpoints",
            include_str!("../../coordinator-core/src/checkpoint.rs"),
        ),
        ("bus", include_str!("../../coordinator-core/src/bus.rs")),
    ];
    for (part, source) in contracts {
        let count = clauses(source);
        assert!(
            count >= 7,
            "the contract of {part} has only {count} clauses: was it moved?"
        );
        for clause in 1..=count {
            let name = format!("{part} {clause}");
            assert!(
                covered.contains(name.as_str()),
                "no check covers clause `{name}`"
            );
        }
    }
}

/// The scenarios for every backend that a backend's trait can show; the others are the runtime's.
#[test]
fn every_scenario_that_a_trait_can_show_has_a_check() {
    let covered = all_covered();
    let scenarios = "E2 E3 E10 E11 E13 E15 E17 E19 E20 L1 L2 L3 M1 M2 M6 H3 H14 \
                     B1 B2 B3 B4 B5 B6 B7 B10 B11 B13 B16 B17";
    for scenario in scenarios.split_whitespace() {
        assert!(
            covered.contains(scenario),
            "no check covers scenario {scenario}"
        );
    }
}

#[test]
fn every_check_has_a_name_of_its_own() {
    fn names<P: ?Sized>(checks: &[Check<P>]) {
        let names: BTreeSet<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), checks.len());
    }
    names(lock::CHECKS);
    names(members::CHECKS);
    names(assignments::CHECKS);
    names(checkpoints::CHECKS);
    names(bus::CHECKS);
}
