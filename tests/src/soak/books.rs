//! Who held what, and when: by what the nodes have said.

use std::collections::BTreeMap;
use std::time::Duration;

/// One hold of a lease by one node: from the moment it was first known to be trusted to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tenure {
    began: Duration,
    last: Duration,
    token: u64,
    life: String,
}

/// All holds of all leases.
#[derive(Debug, Default)]
pub(super) struct Books {
    leases: BTreeMap<String, Vec<Tenure>>,
}

impl Books {
    /// A node says that it trusted then to hold this.
    pub(super) fn trusted(&mut self, life: &str, lease: &str, token: u64, at: Duration) {
        let tenures = self.leases.entry(lease.to_owned()).or_default();
        let same = |tenure: &&mut Tenure| tenure.token == token && tenure.life == life;
        // Of late holds, for what is told now is mostly of those.
        if let Some(tenure) = tenures.iter_mut().rev().find(same) {
            tenure.last = tenure.last.max(at);
            return;
        }
        tenures.push(Tenure {
            began: at,
            last: at,
            token,
            life: life.to_owned(),
        });
    }

    /// How many holds of leases whose names begin so.
    pub(super) fn count(&self, beginning: &str) -> usize {
        let ours = self
            .leases
            .iter()
            .filter(|(name, _)| name.starts_with(beginning));
        ours.map(|(_, tenures)| tenures.len()).sum()
    }

    /// Two holders at one moment, and tokens that do not rise: one line for each.
    pub(super) fn violations(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (lease, tenures) in &self.leases {
            let mut tenures: Vec<_> = tenures.iter().collect();
            tenures.sort_by_key(|tenure| tenure.began);
            for (at, tenure) in tenures.iter().enumerate() {
                for later in &tenures[at + 1..] {
                    if later.began <= tenure.last {
                        let both = tenure.last.min(later.last).saturating_sub(later.began);
                        found.push(format!(
                            "{lease} had two holders for {both:?} at {:?}: {} (token {}) and {} (token {})",
                            later.began, tenure.life, tenure.token, later.life, later.token
                        ));
                    }
                    if later.token <= tenure.token {
                        found.push(format!(
                            "{lease}: token {} of {} came after {} of {}",
                            later.token, later.life, tenure.token, tenure.life
                        ));
                    }
                    if later.began > tenure.last && later.token > tenure.token {
                        break;
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn holds_that_follow_each_other_are_right() {
        let mut books = Books::default();
        for at in [1, 2, 5] {
            books.trusted("a", "election", 1, ms(at));
        }
        books.trusted("b", "election", 2, ms(6));
        books.trusted("b", "lock", 1, ms(2));
        assert_eq!(books.count("ele"), 2);
        assert!(books.violations().is_empty());
    }

    #[test]
    fn two_holders_and_falling_tokens_are_found() {
        let mut books = Books::default();
        books.trusted("a", "e", 1, ms(1));
        books.trusted("b", "e", 2, ms(4));
        books.trusted("a", "e", 1, ms(9));
        let found = books.violations();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("two holders"), "{found:?}");
        books.trusted("c", "e", 1, ms(20));
        let found = books.violations();
        assert!(
            found.iter().any(|line| line.contains("came after")),
            "{found:?}"
        );
    }
}
