//! Runs all checks of a part against a sabotaged backend, and compares which reject it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use coordinator_conformance::{Check, Fixture, Outcome};

/// Fills a group with thousands of members: no saboteur but its own waits for that.
const LONG_CHECK: &str = "a_full_group_takes_nobody_more";

/// That exactly these checks reject the backend.
pub(crate) fn assert_rejected_by<P: ?Sized + 'static>(
    checks: &[Check<P>],
    fixture: &Fixture<P>,
    meant: &[&str],
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut rejecting = BTreeSet::new();
    for check in checks {
        if check.name == LONG_CHECK && !meant.contains(&LONG_CHECK) {
            continue;
        }
        let outcome = runtime.block_on(check.run(fixture.clone()));
        if let Outcome::Failed(failure) = outcome {
            println!("{failure}");
            rejecting.insert(check.name);
        }
    }
    assert_eq!(rejecting, meant.iter().copied().collect::<BTreeSet<_>>());
}

/// Counts calls that overlap: where a careless backend looks first and acts later.
#[derive(Debug, Default)]
pub(crate) struct Overlap(AtomicUsize);

impl Overlap {
    /// Begins a call, lets others begin theirs, and says whether any is under way at its end.
    pub(crate) async fn race<T>(&self, call: impl Future<Output = T>) -> (T, bool) {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let answer = call.await;
        let others = self.0.fetch_sub(1, Ordering::SeqCst) > 1;
        (answer, others)
    }
}

/// Makes a test of each saboteur: its name, and the checks that reject it. The list of all these
/// checks, with their part, is `rejecting`.
#[macro_export]
macro_rules! saboteurs {
    ($part:literal: $($(#[$doc:meta])* $test:ident = $flaw:ident => [$($check:ident),* $(,)?];)*) => {
        /// One broken promise.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Flaw { $($(#[$doc])* $flaw,)* }

        $(
            $(#[$doc])*
            #[test]
            fn $test() {
                $crate::harness::assert_rejected_by(
                    CHECKS,
                    &sabotaged(Flaw::$flaw),
                    &[$(stringify!($check)),*],
                );
            }
        )*

        /// All checks that reject a saboteur.
        pub(crate) fn rejecting() -> Vec<&'static str> {
            vec![$($(concat!($part, "::", stringify!($check)),)*)*]
        }
    };
}
