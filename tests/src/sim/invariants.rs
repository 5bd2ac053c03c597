//! What must hold at every step, one idea a file.
//!
//! An invariant is shown everything that happens, in order, and each time the whole scene; it
//! answers what is wrong, if anything is. Its name is what a violation prints.

#[cfg(test)]
mod kit;

macro_rules! invariants {
    ($($file:ident :: $name:ident),* $(,)?) => {
        $(mod $file;)*
        $(pub use $file::$name;)*

        /// All of them, fresh.
        pub fn all() -> Vec<Box<dyn Invariant>> {
            vec![$(Box::new($name::default()),)*]
        }
    };
}

invariants! {
    ack_before_grant::AckBeforeGrant,
    all_owned::AllOwned,
    balanced::Balanced,
    bounded::Bounded,
    drain_bounded::DrainBounded,
    ended_stays_ended::EndedStaysEnded,
    exactly_once::ExactlyOnce,
    fenced::Fenced,
    flapping_rests::FlappingRests,
    leaderless_bounded::LeaderlessBounded,
    least_moved::LeastMoved,
    legal_step::LegalStep,
    lost_to_somebody::LostToSomebody,
    mercy_kept::MercyKept,
    no_false_gap::NoFalseGap,
    no_orphan_lease::NoOrphanLease,
    no_revival::NoRevival,
    no_silent_loss::NoSilentLoss,
    no_stray_error::NoStrayError,
    no_work_after_stop::NoWorkAfterStop,
    one_bearer::OneBearer,
    one_grant::OneGrant,
    one_leader::OneLeader,
    one_lost_per_term::OneLostPerTerm,
    one_owner::OneOwner,
    plans_bounded::PlansBounded,
    positions_never_go_back::PositionsNeverGoBack,
    quarantine_kept::QuarantineKept,
    released_after_stop::ReleasedAfterStop,
    rolling_moves_nothing::RollingMovesNothing,
    shutdown_bounded::ShutdownBounded,
    steady::Steady,
    stuck_term_ends::StuckTermEnds,
    tokens_rise::TokensRise,
    trust_within_lease::TrustWithinLease,
    trusted_not_refused::TrustedNotRefused,
}

use super::scene::Scene;
use super::seen::Seen;

/// Whether all is well; if not, what is wrong.
pub type Verdict = Result<(), String>;

/// Something that must hold at every step.
pub trait Invariant: Send {
    /// What a violation is called.
    fn name(&self) -> &'static str;

    /// Something happened, and the scene is as it is right after it.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict;
}

/// Fails unless it holds.
pub(crate) fn that(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_invariant_has_a_name_of_its_own() {
        let all = super::all();
        let names: BTreeSet<_> = all.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), all.len());
        for name in names {
            let shouted = |c: char| c.is_ascii_uppercase() || c == '-';
            assert!(name.chars().all(shouted), "{name}");
        }
    }
}
