//! Whether good states are always reached, and how soon.
//!
//! Take the good states away. If what is left has no cycle, then every run, however unlucky, comes
//! to a good state again; and the longest way through what is left is the longest time without one.
//! No fairness is assumed but what the model's own actions say: time does not pass over what is due.

use super::{Counterexample, Graph, Model};

/// What is known of the time from a state to the next good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Unknown,
    /// On the way that is walked at the moment: met again, it is a cycle.
    Walked,
    /// At most so many units.
    Units(u16),
}

/// A state on the way, and what was found of its steps so far.
struct Stop {
    state: u32,
    step: usize,
    longest: u16,
}

impl Graph {
    /// The longest time without a good state.
    pub(super) fn longest_without<M: Model>(&self, model: &M) -> Result<u16, Counterexample> {
        let mut waits = vec![Wait::Unknown; self.origins.len()];
        let mut longest = 0;
        for start in 0..self.next_state() {
            if !self.good[start as usize] && waits[start as usize] == Wait::Unknown {
                let units = self.walk(start, &mut waits).map_err(|way| {
                    let broken = "it can go on for ever without a good state";
                    self.counterexample(model, way.from, &way.steps, broken)
                })?;
                longest = longest.max(units);
            }
        }
        Ok(longest)
    }

    /// Walks all ways from `start` that meet no good state, depth first.
    fn walk(&self, start: u32, waits: &mut [Wait]) -> Result<u16, Way> {
        let mut way = vec![Stop::at(start)];
        waits[start as usize] = Wait::Walked;
        loop {
            let Some(stop) = way.last_mut() else {
                return Ok(0);
            };
            let Some(&(to, passes)) = self.steps_of(stop.state).get(stop.step) else {
                let (done, longest) = (stop.state, stop.longest);
                waits[done as usize] = Wait::Units(longest);
                way.pop();
                let Some(before) = way.last_mut() else {
                    return Ok(longest);
                };
                before.take(self, longest);
                continue;
            };
            if self.good[to as usize] {
                stop.longest = stop.longest.max(passes);
                stop.step += 1;
                continue;
            }
            match waits[to as usize] {
                Wait::Units(units) => stop.take(self, units),
                Wait::Walked => return Err(Way::around(&way, to)),
                Wait::Unknown => {
                    waits[to as usize] = Wait::Walked;
                    way.push(Stop::at(to));
                }
            }
        }
    }
}

impl Stop {
    const fn at(state: u32) -> Self {
        Self {
            state,
            step: 0,
            longest: 0,
        }
    }

    /// The step at hand leads to a state from which it takes so many units more.
    fn take(&mut self, graph: &Graph, units: u16) {
        let (_, passes) = graph.steps_of(self.state)[self.step];
        self.longest = self.longest.max(units.saturating_add(passes));
        self.step += 1;
    }
}

/// A cycle: where it begins, and the steps once around.
struct Way {
    from: u32,
    steps: Vec<u16>,
}

impl Way {
    fn around(way: &[Stop], met: u32) -> Self {
        let around = way.iter().skip_while(|stop| stop.state != met);
        Self {
            from: met,
            steps: around
                .map(|stop| u16::try_from(stop.step).unwrap_or(u16::MAX))
                .collect(),
        }
    }
}
