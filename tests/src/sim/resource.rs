//! What the work of a world acts upon: a store of its own, outside of Coordinator's, that refuses
//! tokens older than it has seen, and never forgets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::scene::What;
use super::seen::Seen;
use super::witness::{Tenure, Witness};

/// All resources of a world, by what is held. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Resources(Arc<Mutex<BTreeMap<What, Row>>>);

#[derive(Debug, Default)]
struct Row {
    highest: u64,
    handled: u64,
}

/// The resource has seen a higher token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a higher token was there before")
    }
}

impl std::error::Error for Refused {}

/// Who acts, and what it says of its trust at that moment.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// Who sees it.
    pub witness: &'a Witness,
    /// Under which tenure.
    pub tenure: &'a Tenure,
    /// What is acted upon.
    pub what: &'a What,
    /// The token it acts with.
    pub token: u64,
    /// Whether its guard says that it is trusted.
    pub trusted: bool,
}

impl Resources {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<What, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An effect; and how many events were handled so far.
    ///
    /// # Errors
    /// It carries too old a token.
    pub fn write(&self, actor: Actor<'_>) -> Result<u64, Refused> {
        let (highest, handled) = {
            let mut rows = self.lock();
            let row = rows.entry(actor.what.clone()).or_default();
            let highest = row.highest;
            row.highest = highest.max(actor.token);
            (highest, row.handled)
        };
        actor.witness.see(Seen::Acts {
            hold: actor.tenure.hold(),
            trusted: actor.trusted,
            highest,
        });
        if actor.token < highest {
            return Err(Refused);
        }
        Ok(handled)
    }

    /// One event is handled, which is an effect.
    ///
    /// # Errors
    /// It carries too old a token.
    pub fn handle(&self, actor: Actor<'_>, event: u64) -> Result<(), Refused> {
        let known = self.write(actor)?;
        if let Some(row) = self.lock().get_mut(actor.what) {
            row.handled += 1;
        }
        actor
            .witness
            .see(Seen::Handles(actor.tenure.hold(), event, known));
        Ok(())
    }
}
