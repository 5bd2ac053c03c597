//! Checks as values, and how they are run.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime;

use crate::fixture::{Fixture, LocalFuture};
use crate::lab::Lab;
use crate::report::{Failure, Outcome, Report, Stop, Verdict, broken};

/// One clause of a contract, as something that a backend passes or fails.
pub struct Check<P: ?Sized + 'static> {
    /// The name of the test.
    pub name: &'static str,
    /// The trait whose contract it is about: `lock`, `members`, ….
    pub part: &'static str,
    /// The clauses (`lock 3`), rules (`K1`) and scenarios (`L2`) that it stands for.
    pub covers: &'static [&'static str],
    /// What a backend that passes has shown.
    pub shows: &'static str,
    #[doc(hidden)]
    pub(crate) run: for<'a> fn(&'a Lab<P>) -> LocalFuture<'a, Verdict>,
}

impl<P: ?Sized + 'static> fmt::Debug for Check<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("part", &self.part)
            .field("name", &self.name)
            .field("covers", &self.covers)
            .finish_non_exhaustive()
    }
}

impl<P: ?Sized + 'static> Check<P> {
    /// Runs this check, in a namespace of its own.
    pub async fn run(&self, fixture: Fixture<P>) -> Outcome {
        let seed = fixture.settings.seed;
        let lab = Lab::new(fixture, fresh_namespace(), seed);
        let stop = match unless_it_panics((self.run)(&lab)).await {
            Ok(()) => return Outcome::Passed,
            Err(stop) => stop,
        };
        match stop {
            Stop::Skip(reason) => Outcome::Skipped { reason },
            Stop::Fail { expected, seen } => Outcome::Failed(Failure {
                check: self.full_name(),
                covers: self.covers,
                expected,
                seen,
                namespace: lab.namespace().to_owned(),
                seed: lab.seed(),
            }),
        }
    }

    /// `part::name`.
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.part, self.name)
    }
}

/// Runs every check, one after the other, on the runtime of the caller.
pub(crate) async fn check_all<P: ?Sized + 'static>(
    checks: &[Check<P>],
    fixture: Fixture<P>,
) -> Report {
    let mut report = Report::default();
    for check in checks {
        let outcome = check.run(fixture.clone()).await;
        report.outcomes.push((check.full_name(), outcome));
    }
    report
}

/// Runs one check as a test: on a runtime of its own, with a line for a skip.
pub(crate) fn test_one<P: ?Sized + 'static>(
    checks: &[Check<P>],
    name: &str,
    fixture: Fixture<P>,
) -> Result<(), Failure> {
    let Some(check) = checks.iter().find(|check| check.name == name) else {
        return Err(not_run(name, "a check of this name", "none"));
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(fixture.settings.virtual_time)
        .build()
        .map_err(|error| not_run(name, "a runtime", &error.to_string()))?;
    match runtime.block_on(check.run(fixture)) {
        Outcome::Passed => Ok(()),
        Outcome::Skipped { reason } => {
            say_skipped(&check.full_name(), &reason);
            Ok(())
        }
        Outcome::Failed(failure) => Err(failure),
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a test that is skipped says so, and a test has nothing but its output to say it with"
)]
fn say_skipped(check: &str, reason: &str) {
    println!("skipped {check}: {reason}");
}

fn not_run(name: &str, expected: &str, seen: &str) -> Failure {
    Failure {
        check: name.to_owned(),
        covers: &[],
        expected: expected.to_owned(),
        seen: seen.to_owned(),
        namespace: String::new(),
        seed: 0,
    }
}

/// What the check says; that the backend panicked, if it did.
async fn unless_it_panics(mut check: LocalFuture<'_, Verdict>) -> Verdict {
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| check.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| {
            let said = panic_text(&*panic);
            Err(broken("an answer or an error", format!("a panic: {said}"))).into()
        })
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "without words".to_owned())
}

/// A name that no other check has, of this run or of any other on the same store.
fn fresh_namespace() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let run = RandomState::new().hash_one(std::process::id());
    format!("conformance_{run:016x}_{count}")
}
