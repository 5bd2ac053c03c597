use std::fmt;
use std::sync::Arc;

use coordinator_core::BoxError;
use coordinator_core::machine::lease::Outcome;
use coordinator_core::trust::Trust;

use super::Term;
use crate::errors::ReleaseError;
use crate::lease::{Grip, HeldLease, TermControl, guard_words};
use crate::shared::Shared;

/// What work returns: one fixed error type, so that `?` takes anything, and a plain `Ok(())` infers.
pub type WorkResult = Result<(), BoxError>;

/// What the leader holds while it leads. Dropping it says that the work has stopped, and releases
/// the lease in the background.
#[must_use = "dropping the leadership resigns"]
pub struct Leadership {
    held: HeldLease,
    shared: Arc<Shared>,
}

guard_words!(Leadership);

impl Leadership {
    pub(crate) fn new(shared: Arc<Shared>, held: HeldLease) -> Self {
        Self { held, shared }
    }

    fn grip(&self) -> &Arc<Grip> {
        self.held.grip()
    }

    pub(crate) fn control(&self) -> TermControl {
        self.held.control()
    }

    /// What everybody sees of it: who leads, and under which token. Also after the loss.
    pub fn term(&self) -> Term {
        let lease = self.grip().terms();
        Term {
            leader: lease.owner.clone(),
            token: lease.token,
        }
    }

    /// Resigns, and waits until the store knows. Goes on in the background if dropped.
    ///
    /// # Errors
    /// The leadership was lost before, or the store did not confirm: then it ends by itself.
    pub async fn resign(self) -> Result<(), ReleaseError> {
        release(self.held, &self.shared).await
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leadership").field(self.grip()).finish()
    }
}

/// Gives a lease back, and waits until the store knows.
pub(crate) async fn release(mut held: HeldLease, shared: &Shared) -> Result<(), ReleaseError> {
    let grip = held.grip().clone();
    let lost = grip.token().err();
    let mut control = held.control();
    held.stop();
    let outcome = control.finished().await;
    if let Some(lost) = lost {
        return Err(lost.into());
    }
    let ends_within = match outcome {
        Some(Outcome::Unconfirmed { by }) => by.since(shared.context.now()),
        None => Trust::surely(held.ttl()),
        Some(_) => return Ok(()),
    };
    Err(ReleaseError::Unconfirmed {
        key: grip.terms().key.clone(),
        ends_within,
    })
}
