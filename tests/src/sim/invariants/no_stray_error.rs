use super::{Invariant, Verdict};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// No call fails with an error that it does not name for such a case, and nothing panics.
///
/// W5, H11; E7, E13, E14. Whatever the work of a world is told beyond what it expects; and every
/// panic of a task that no work has asked for.
#[derive(Debug, Default)]
pub struct NoStrayError;

impl Invariant for NoStrayError {
    fn name(&self) -> &'static str {
        "NO-STRAY-ERROR"
    }

    fn see(&mut self, _: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Errs(process, error) => Err(format!("{process}: {error}")),
            Seen::Panics(message) => Err(format!("a task panicked: {message}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, m};
    use super::*;

    #[test]
    fn an_error_and_a_panic_are_violations() {
        let mut stage = Stage::new(NoStrayError);
        stage.bad(Seen::Errs(m(0), "rejected".into()));
        stage.bad(Seen::Panics("index out of bounds".into()));
    }
}
