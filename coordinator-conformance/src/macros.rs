//! The macros that make each check a test of its own.

/// Tests of a [`LockBackend`](coordinator_core::LockBackend): `lock_backend!(name, fixture)` makes
/// a module `name` with one `#[test]` per check of [`lock::CHECKS`](crate::lock::CHECKS).
///
/// The fixture is anything that `Into<Fixture<dyn LockBackend>>` takes: a closure from a namespace
/// to a connection, or a [`Fixture`](crate::Fixture). It is made anew for each test.
#[macro_export]
macro_rules! lock_backend {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__tests! { $name, $fixture, lock, dyn $crate::core::LockBackend, __lock_checks }
    };
}

/// Tests of a [`MembershipStore`](coordinator_core::MembershipStore), like [`lock_backend!`]: one
/// `#[test]` per check of [`members::CHECKS`](crate::members::CHECKS).
#[macro_export]
macro_rules! membership_store {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__tests! {
            $name, $fixture, members, dyn $crate::core::MembershipStore, __members_checks
        }
    };
}

/// Tests of an [`AssignmentStore`](coordinator_core::AssignmentStore) and of the members in the same
/// store, like [`lock_backend!`]: one `#[test]` per check of
/// [`assignments::CHECKS`](crate::assignments::CHECKS).
///
/// The fixture's closure gives a pair: a connection to the members, and one to the assignments. Or
/// it is a [`Fixture<Planning>`](crate::Planning).
#[macro_export]
macro_rules! assignment_store {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__tests! { $name, $fixture, assignments, $crate::Planning, __assignments_checks }
    };
}

/// Tests of a [`CheckpointStore`](coordinator_core::CheckpointStore), like [`lock_backend!`]: one
/// `#[test]` per check of [`checkpoints::CHECKS`](crate::checkpoints::CHECKS).
#[macro_export]
macro_rules! checkpoint_store {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__tests! {
            $name, $fixture, checkpoints, dyn $crate::core::CheckpointStore, __checkpoints_checks
        }
    };
}

/// Tests of a [`ClusterBus`](coordinator_core::ClusterBus), like [`lock_backend!`]: one `#[test]`
/// per check of [`bus::CHECKS`](crate::bus::CHECKS).
#[macro_export]
macro_rules! cluster_bus {
    ($name:ident, $fixture:expr $(,)?) => {
        $crate::__tests! { $name, $fixture, bus, dyn $crate::core::ClusterBus, __bus_checks }
    };
}

/// Tests of a whole [`Backend`](coordinator_core::Backend): `backend!(name, fixture)` makes a module
/// `name` with a module for each part, and one `#[test]` per check in each. The checks of a part
/// that the backend lacks are skipped.
///
/// The fixture's closure gives anything that is `Into<Backend>`; or it is a
/// [`Fixture<Backend>`](crate::Fixture).
#[macro_export]
macro_rules! backend {
    ($name:ident, $fixture:expr $(,)?) => {
        #[cfg(test)]
        mod $name {
            mod whole {
                #[allow(unused_imports, reason = "the fixture may need nothing from outside")]
                use super::super::*;

                pub(super) fn fixture() -> $crate::Fixture<$crate::core::Backend> {
                    $crate::Fixture::from($fixture)
                }
            }
            $crate::lock_backend! { lock, whole::fixture().locks() }
            $crate::membership_store! { members, whole::fixture().members() }
            $crate::assignment_store! { assignments, whole::fixture().planning() }
            $crate::checkpoint_store! { checkpoints, whole::fixture().checkpoints() }
            $crate::cluster_bus! { bus, whole::fixture().bus() }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($name:ident, $fixture:expr, $part:ident, $subject:ty, $list:ident) => {
        #[cfg(test)]
        mod $name {
            mod given {
                #[allow(unused_imports, reason = "the fixture may need nothing from outside")]
                use super::super::*;

                pub(super) fn fixture() -> $crate::Fixture<$subject> {
                    $crate::Fixture::from($fixture)
                }
            }
            $crate::$list! { $crate::__one_test, $part }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __one_test {
    ($part:ident; $($file:ident::$check:ident $covers:tt $shows:literal;)*) => {
        $(
            #[doc = $shows]
            #[test]
            fn $check() -> Result<(), $crate::Failure> {
                $crate::$part::test(stringify!($check), given::fixture())
            }
        )*
    };
}

/// Makes the table of checks of a part, and its runners, from the part's list.
macro_rules! table {
    ($part:ident, $subject:ty; $($file:ident::$check:ident $covers:tt $shows:literal;)*) => {
        /// Every check, in order of the clauses.
        pub const CHECKS: &[$crate::Check<$subject>] = &[$(
            $crate::Check {
                name: stringify!($check),
                part: stringify!($part),
                covers: &$covers,
                shows: $shows,
                run: |lab| Box::pin($file::$check(lab)),
            },
        )*];

        /// Runs all checks, one after the other, on the caller's runtime and its clock.
        pub async fn check_all(fixture: impl Into<$crate::Fixture<$subject>>) -> $crate::Report {
            $crate::check::check_all(CHECKS, fixture.into()).await
        }

        /// Runs one check as a test, on a runtime of its own: what the macro calls.
        #[doc(hidden)]
        pub fn test(
            name: &str,
            fixture: $crate::Fixture<$subject>,
        ) -> Result<(), $crate::Failure> {
            $crate::check::test_one(CHECKS, name, fixture)
        }
    };
}
pub(crate) use table;
