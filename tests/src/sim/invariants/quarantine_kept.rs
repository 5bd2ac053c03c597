use coordinator_memory::Event;

use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// A store that has lost its memory grants nothing, and counts nobody as ended, until whoever may
/// still trust what it forgot has stopped.
///
/// I2, I4, I6, K4; E20, M7. By the store's own account: no grant and no swap within one `max_ttl`
/// of a loss of memory.
#[derive(Debug, Default)]
pub struct QuarantineKept;

impl Invariant for QuarantineKept {
    fn name(&self) -> &'static str {
        "QUARANTINE-KEPT"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let Some(lost) = scene.memory_lost else {
            return Ok(());
        };
        if !matches!(seen, Seen::Store(Event::Granted { .. }) | Seen::Swapped(_)) {
            return Ok(());
        }
        let passed = scene.since(lost);
        that(passed >= scene.terms.max_ttl, || {
            format!("something is granted {passed:?} after the store lost its memory")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, granted, memory_lost};
    use super::*;

    #[test]
    fn a_grant_too_soon_is_a_violation() {
        let mut stage = Stage::new(QuarantineKept);
        stage.ok(granted(0, 1));
        stage.at(100).ok(memory_lost());
        stage.at(129).bad(granted(0, 2));
        stage.at(130).ok(granted(0, 3));
    }
}
