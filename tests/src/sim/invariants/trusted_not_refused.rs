use super::{Invariant, Verdict, that};
use crate::sim::scene::Scene;
use crate::sim::seen::Seen;

/// Who is trusted at the moment of an effect is never refused: no resource has seen a higher token.
///
/// K1, T5, C2; E12, E15, H8. At every effect of work on a resource that refuses older tokens.
#[derive(Debug, Default)]
pub struct TrustedNotRefused;

impl Invariant for TrustedNotRefused {
    fn name(&self) -> &'static str {
        "TRUSTED-NOT-REFUSED"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        let Seen::Acts {
            hold,
            trusted,
            highest,
        } = seen
        else {
            return Ok(());
        };
        let hold = &scene.holds[*hold];
        that(!trusted || hold.token >= *highest, || {
            let (process, what, token) = (hold.process, &hold.what, hold.token);
            format!("{process} trusts {what} #{token}, and #{highest} was there before")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Stage;
    use super::*;

    #[test]
    fn a_trusted_holder_that_is_refused_is_a_violation() {
        let mut stage = Stage::new(TrustedNotRefused);
        let hold = stage.leader(0, 5);
        stage.ok(Seen::Begins(hold));
        let acts = |trusted, highest| Seen::Acts {
            hold,
            trusted,
            highest,
        };
        stage.ok(acts(true, 5));
        stage.ok(acts(false, 6));
        stage.bad(acts(true, 6));
    }
}
