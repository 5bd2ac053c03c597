//! The simulation itself: a few seeds of every kind of world, the exact replay, and that a violation
//! is found, told, and made small. The long runs are `cargo xtask sim`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::invariants::{Invariant, Verdict};
use coordinator_tests::sim::many::{Job, Progress, compare, run_all};
use coordinator_tests::sim::run::{AT_LEAST, Plan, run, run_with};
use coordinator_tests::sim::scene::Scene;
use coordinator_tests::sim::seen::Seen;
use coordinator_tests::sim::shrink::shrink_with;
use coordinator_tests::sim::trace::Keep;
use coordinator_tests::sim::worlds::Kind;

fn clean(kind: Kind, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let plan = Plan {
            only: Some(kind),
            ..Plan::new(seed)
        };
        let testimony = run(&plan).unwrap();
        assert_eq!(testimony.violation, None, "seed {seed} of `{kind}`");
        let simulated = testimony.figures.simulated;
        assert!(simulated >= AT_LEAST, "{simulated:?}");
    }
}

/// E4, E5, E8, E9, E11, E12, E13, E15, E18, E19, E20, E21, L3, M4, M7.
#[test]
fn elections_and_locks_keep_their_promises() {
    clean(Kind::Leases, 0..2);
}

/// H1, H2, H3, H4, H5, H8, H9, H10, H12, H14, H15, M3, M5.
#[test]
fn fixed_shards_keep_their_promises() {
    clean(Kind::Shards, 0..2);
}

/// H7, H10, S11.
#[test]
fn dense_shards_keep_their_promises() {
    clean(Kind::Dense, 0..2);
}

/// H16, S5.
#[test]
fn static_names_keep_their_shards_through_a_rolling_restart() {
    clean(Kind::Static, 0..2);
}

/// H6, M6.
#[test]
fn two_groups_know_nothing_of_each_other() {
    clean(Kind::TwoGroups, 0..2);
}

/// B7, B8, B11, H17: NO-SILENT-LOSS.
#[test]
fn subscribers_get_everything_or_are_told_of_the_gap() {
    clean(Kind::Bus, 0..2);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for (seed, kind) in (40..).zip(Kind::ALL) {
        let plan = Plan {
            only: Some(kind),
            ..Plan::new(seed)
        };
        assert_eq!(compare(&plan).unwrap(), None, "seed {seed} of `{kind}`");
    }
}

#[test]
fn many_seeds_are_counted_together_whatever_the_number_of_threads() {
    let counted = |jobs| {
        let job = Job {
            seeds: 10..14,
            only: Some(Kind::Leases),
            jobs,
            sample: 2,
        };
        let progress = Progress::default();
        let result = run_all(&job, &progress).unwrap();
        assert_eq!(progress.so_far().0, 4);
        assert_eq!(
            (result.failure, result.tried, result.replayed),
            (None, 4, 2)
        );
        let figures = result.figures;
        (figures.faults, figures.elections, figures.checks)
    };
    let (faults, elections, checks) = counted(1);
    assert_eq!((faults.clone(), elections, checks), counted(2));
    assert!(faults.len() > 5 && elections > 4 && checks > 1_000);
}

/// A promise that nobody makes: that there are not both a pause and a crash.
#[derive(Default)]
struct Planted {
    seen: BTreeSet<Class>,
}

impl Invariant for Planted {
    fn name(&self) -> &'static str {
        "PLANTED"
    }

    fn see(&mut self, _: &Scene, seen: &Seen) -> Verdict {
        if let Seen::Fault(class, _) = seen {
            self.seen.insert(*class);
        }
        let both = [Class::Pause, Class::Crash]
            .iter()
            .all(|it| self.seen.contains(it));
        if both {
            Err("a pause and a crash".into())
        } else {
            Ok(())
        }
    }
}

#[test]
fn a_planted_violation_is_found_and_its_schedule_made_as_small_as_can_be() {
    let planted = || -> Vec<Box<dyn Invariant>> { vec![Box::new(Planted::default())] };
    let found = |seed: &u64| {
        let plan = Plan::new(*seed);
        run_with(&plan, planted()).unwrap().violation.is_some()
    };
    let seed = (0..50).find(found).expect("pauses and crashes are common");
    let plan = Plan {
        trace: Keep::Last,
        ..Plan::new(seed)
    };
    let testimony = run_with(&plan, planted()).unwrap();
    let violation = testimony.violation.unwrap();
    assert_eq!(violation.invariant, "PLANTED");
    let last = testimony.history.lines.last().unwrap();
    assert!(
        last.contains("fault: pause") || last.contains("fault: crash"),
        "{last}"
    );
    let limit = Duration::from_secs(60);
    let shrunk = shrink_with(&plan, &violation, limit, planted).unwrap();
    let schedule = plan.schedule();
    let kept: BTreeSet<&str> = schedule
        .iter()
        .filter(|fault| shrunk.keep.contains(&fault.number))
        .map(|fault| fault.class.name())
        .collect();
    assert_eq!(shrunk.keep.len(), 2, "{shrunk:?}");
    assert_eq!(kept, BTreeSet::from(["crash", "pause"]));
}

/// What other tools rely on.
#[test]
fn the_program_ends_with_one_line_that_says_how_it_went() {
    let sim = env!("CARGO_BIN_EXE_sim");
    let ran = Command::new(sim)
        .args([
            "--seeds",
            "2",
            "--first",
            "6",
            "--jobs",
            "2",
            "--quiet",
            "--until-violation",
        ])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "clean seeds=2\n");
    let ran = Command::new(sim)
        .args(["--seed", "6", "--trace"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(
        text.lines().count() > 100 && text.ends_with("clean seeds=1\n"),
        "{text}"
    );
    let wrong = Command::new(sim)
        .args(["--only", "nothing"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}
