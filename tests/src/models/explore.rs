//! Visits every state that a model can reach, breadth first: so a counterexample is a shortest one.
//!
//! A state is known by its digest; of each only its parent and the action that led to it are kept.
//! The states of the frontier alone are held whole. What is kept besides is the graph, for the
//! question that no single state answers: whether good states are always reached.

mod liveness;

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Debug};

/// A system that moves by discrete actions.
pub trait Model {
    /// All there is to know of one instant.
    type State: Clone;
    /// One thing that can happen.
    type Action: Clone + Debug;

    /// The state that everything begins with.
    fn start(&self) -> Self::State;

    /// All that can happen next. A state in which nothing can is an error of the model.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    /// Lets one of them happen.
    ///
    /// # Errors
    /// A sentence that names the property that no longer holds.
    fn act(&self, state: &mut Self::State, action: &Self::Action) -> Result<(), String>;

    /// Two states with one digest must behave alike from then on.
    fn digest(&self, state: &Self::State) -> u128;

    /// Whether the state is one that must be reached again and again.
    fn is_good(&self, state: &Self::State) -> bool;

    /// How many units of time an action lets pass.
    fn passes(&self, action: &Self::Action) -> u16;

    /// An action, as a line of a trace.
    fn tell(&self, _state: &Self::State, action: &Self::Action) -> String {
        format!("{action:?}")
    }
}

/// How much was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// So many steps were taken.
    pub steps: usize,
    /// So many different states were seen.
    pub states: usize,
    /// In so many of them all is good.
    pub good: usize,
    /// So many actions lie between the first state and the furthest.
    pub depth: usize,
    /// The longest time, in units, for which any run stays without a good state.
    pub longest_without: u16,
}

/// A run that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterexample {
    /// What does not hold.
    pub property: String,
    /// The actions that lead there.
    pub trace: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} actions:", self.property, self.trace.len())?;
        for (at, action) in (1..).zip(&self.trace) {
            writeln!(f, "{at:>4}. {action}")?;
        }
        Ok(())
    }
}

/// How a state was reached first.
#[derive(Debug, Clone, Copy)]
struct Origin {
    parent: u32,
    /// Which of the parent's actions, in order.
    action: u16,
    depth: u16,
}

/// The states that were reached, and what leads from one to another.
struct Graph {
    origins: Vec<Origin>,
    good: Vec<bool>,
    /// Where the steps of each state begin in `steps`; one more at the end.
    first_step: Vec<usize>,
    /// To which state each action leads, and the time it takes.
    steps: Vec<(u32, u16)>,
}

/// Visits all states of a model, at most `most`, and checks all that it promises.
///
/// # Errors
/// A shortest run that breaks what must always hold; else one that stays without a good state for
/// ever. Too many states are an error as well: then nothing was shown.
pub fn explore<M: Model>(model: &M, most: usize) -> Result<Explored, Counterexample> {
    let graph = visit(model, most)?;
    let longest_without = graph.longest_without(model)?;
    Ok(Explored {
        steps: graph.steps.len(),
        states: graph.origins.len(),
        good: graph.good.iter().filter(|good| **good).count(),
        depth: graph
            .origins
            .last()
            .map_or(0, |last| usize::from(last.depth)),
        longest_without,
    })
}

fn visit<M: Model>(model: &M, most: usize) -> Result<Graph, Counterexample> {
    let start = model.start();
    let mut known = HashMap::from([(model.digest(&start), 0_u32)]);
    let mut graph = Graph::new(model.is_good(&start));
    let mut frontier = VecDeque::from([start]);
    let mut at = 0_u32;
    while let Some(state) = frontier.pop_front() {
        let actions = model.actions(&state);
        if actions.is_empty() {
            return Err(graph.counterexample(model, at, &[], "nothing can happen any more"));
        }
        for (number, action) in (0_u16..).zip(&actions) {
            let mut next = state.clone();
            if let Err(broken) = model.act(&mut next, action) {
                return Err(graph.counterexample(model, at, &[number], &broken));
            }
            let new = graph.next_state();
            let to = *known.entry(model.digest(&next)).or_insert(new);
            graph.steps.push((to, model.passes(action)));
            if to == new {
                if graph.origins.len() >= most {
                    let broken = format!("more than {most} states");
                    return Err(graph.counterexample(model, at, &[number], &broken));
                }
                graph.enter(at, number, model.is_good(&next));
                frontier.push_back(next);
            }
        }
        graph.first_step.push(graph.steps.len());
        at += 1;
    }
    Ok(graph)
}

impl Graph {
    fn new(good: bool) -> Self {
        Self {
            origins: vec![Origin {
                parent: 0,
                action: 0,
                depth: 0,
            }],
            good: vec![good],
            first_step: vec![0],
            steps: Vec::new(),
        }
    }

    /// The number that the next new state gets. Exploring stops long before they run out.
    fn next_state(&self) -> u32 {
        u32::try_from(self.origins.len()).unwrap_or(u32::MAX)
    }

    fn enter(&mut self, parent: u32, action: u16, good: bool) {
        let depth = self.origins[parent as usize].depth.saturating_add(1);
        self.origins.push(Origin {
            parent,
            action,
            depth,
        });
        self.good.push(good);
    }

    fn steps_of(&self, state: u32) -> &[(u32, u16)] {
        let at = state as usize;
        &self.steps[self.first_step[at]..self.first_step[at + 1]]
    }

    /// The run to `state` and the actions from there on, told by running it once more.
    fn counterexample<M: Model>(
        &self,
        model: &M,
        state: u32,
        then: &[u16],
        broken: &str,
    ) -> Counterexample {
        let mut numbers: Vec<u16> = then.iter().rev().copied().collect();
        let mut at = state;
        while at != 0 {
            let origin = self.origins[at as usize];
            numbers.push(origin.action);
            at = origin.parent;
        }
        let mut state = model.start();
        let mut trace = Vec::new();
        for number in numbers.into_iter().rev() {
            let actions = model.actions(&state);
            // States of one digest list their actions alike, or the trace ends early.
            let Some(action) = actions.get(usize::from(number)) else {
                break;
            };
            trace.push(model.tell(&state, action));
            if model.act(&mut state, action).is_err() {
                break;
            }
        }
        Counterexample {
            property: broken.to_owned(),
            trace,
        }
    }
}
