use std::collections::BTreeMap;

use coordinator_memory::Event;
use coordinator_node::core::{Group, Key, Keyspace, MemberId};

use super::{Invariant, Verdict, that};
use crate::sim::scene::{Scene, What};
use crate::sim::seen::Seen;

/// Tokens of one key strictly increase over all grants ever made, through crash, restart and
/// fail-over of the store; so do epochs of a keyspace, and incarnations of a name.
///
/// K1, K2, K3, K4, S1; E15, E20, M2. By the store's own account, act by act; and by the guards: no
/// work begins under a lower token than work of the same name has had.
#[derive(Debug, Default)]
pub struct TokensRise {
    granted: BTreeMap<Key, u64>,
    joined: BTreeMap<(Group, MemberId), u64>,
    epochs: BTreeMap<(Group, Keyspace), u64>,
    worked: BTreeMap<What, u64>,
}

impl Invariant for TokensRise {
    fn name(&self) -> &'static str {
        "TOKENS-RISE"
    }

    fn see(&mut self, scene: &Scene, seen: &Seen) -> Verdict {
        match seen {
            Seen::Store(Event::Granted { key, token, .. }) => {
                rises(&mut self.granted, key.clone(), token.get(), key)
            }
            Seen::Store(Event::Joined {
                group,
                id,
                incarnation,
            }) => {
                let place = (group.clone(), id.clone());
                rises(&mut self.joined, place, incarnation.get(), id)
            }
            Seen::Swapped(swap) => {
                let place = (swap.group.clone(), swap.keyspace.clone());
                rises(&mut self.epochs, place, swap.next.epoch.get(), &swap.keyspace)
            }
            Seen::Begins(id) => {
                let hold = &scene.holds[*id];
                let last = self.worked.entry(hold.what.clone()).or_default();
                let (token, highest) = (hold.token, *last);
                *last = highest.max(token);
                // Parts of one cut, and work that failed and begins again, have one token.
                that(token >= highest, || {
                    format!("{} is held with #{token} after #{highest}", hold.what)
                })
            }
            _ => Ok(()),
        }
    }
}

fn rises<K: Ord>(
    last: &mut BTreeMap<K, u64>,
    place: K,
    number: u64,
    what: impl std::fmt::Display,
) -> Verdict {
    let former = last.insert(place, number);
    that(former.is_none_or(|former| former < number), || {
        format!("{what} is given #{number} after #{}", former.unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::super::kit::{Stage, document, granted, joined, swapped};
    use super::*;

    #[test]
    fn a_token_that_was_given_before_is_a_violation() {
        let mut stage = Stage::new(TokensRise::default());
        stage.ok(granted(0, 5));
        stage.ok(granted(1, 6));
        stage.bad(granted(0, 6));
    }

    #[test]
    fn an_incarnation_or_an_epoch_that_does_not_rise_is_a_violation() {
        let mut stage = Stage::new(TokensRise::default());
        stage.ok(joined(0, 5));
        stage.bad(joined(0, 4));
        let mut stage = Stage::new(TokensRise::default());
        stage.ok(swapped(None, document(5, &[None]), &[]));
        stage.bad(swapped(None, document(5, &[None]), &[]));
    }

    #[test]
    fn work_under_an_older_token_is_a_violation() {
        let mut stage = Stage::new(TokensRise::default());
        let (newer, older) = (stage.owner(0, 7), stage.owner(1, 6));
        stage.ok(Seen::Begins(newer));
        stage.bad(Seen::Begins(older));
    }
}
