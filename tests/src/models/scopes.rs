//! What of each model is explored: all of it, within a budget of faults.

use std::fmt;

use super::{Counterexample, Explored, Model, explore, handoff, lease, takeover, vote};

/// More states than any scope has.
const MOST: usize = 20_000_000;

/// One model with one budget.
pub struct Scope {
    /// Which model.
    pub model: &'static str,
    /// Of how many members, or processes.
    pub members: usize,
    /// Which faults.
    pub faults: String,
    /// What is planted, and the property that must find it.
    pub planted: Option<(String, &'static str)>,
    explore: Box<dyn Fn() -> Result<Explored, Counterexample> + Send>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.model, self.faults)
    }
}

impl Scope {
    /// Visits every state.
    ///
    /// # Errors
    /// A run that must not be.
    pub fn explore(&self) -> Result<Explored, Counterexample> {
        (self.explore)()
    }

    fn plants<M: Model + Send + 'static>(
        (model, found_by): (&'static str, &'static str),
        planted: M,
        faults: &impl fmt::Debug,
        defect: &impl fmt::Debug,
    ) -> Self {
        Self {
            model,
            members: 3,
            faults: said(faults),
            planted: Some((format!("{defect:?}"), found_by)),
            explore: Box::new(move || explore(&planted, MOST)),
        }
    }

    fn lease(faults: lease::Faults) -> Self {
        let model = lease::Election {
            members: 3,
            faults,
            defect: None,
            backed: true,
        };
        Self {
            model: "election by lease",
            members: 3,
            faults: said(&faults),
            planted: None,
            explore: Box::new(move || explore(&model, MOST)),
        }
    }

    fn vote(faults: vote::Faults) -> Self {
        let defect = None;
        let model = vote::Election { faults, defect };
        Self {
            model: "election by vote",
            members: 3,
            faults: said(&faults),
            planted: None,
            explore: Box::new(move || explore(&model, MOST)),
        }
    }

    fn handoff(faults: handoff::Faults) -> Self {
        let defect = None;
        let model = handoff::Handoff { faults, defect };
        Self {
            model: "hand-off of shards",
            members: 3,
            faults: said(&faults),
            planted: None,
            explore: Box::new(move || explore(&model, MOST)),
        }
    }

    fn takeover(model: takeover::Succession) -> Self {
        let name = match (model.policy, model.writes) {
            (takeover::Policy::WaitOut, _) => "take-over by waiting",
            (_, None) => "take-over by evidence",
            (_, Some(_)) => "take-over from writers",
        };
        Self {
            model: name,
            members: model.processes,
            faults: said(&model.faults),
            planted: None,
            explore: Box::new(move || explore(&model, MOST)),
        }
    }
}

/// Defects that take longer to find than a test may.
fn planted() -> Vec<Scope> {
    let vote = |defect, faults, found_by| {
        let planted = vote::Election {
            faults,
            defect: Some(defect),
        };
        Scope::plants(("election by vote", found_by), planted, &faults, &defect)
    };
    let handoff = |defect, faults, found_by| {
        let planted = handoff::Handoff {
            faults,
            defect: Some(defect),
        };
        Scope::plants(("hand-off of shards", found_by), planted, &faults, &defect)
    };
    let shards = handoff::Faults::NONE;
    vec![
        vote(
            vote::Defect::NoAbstention,
            vote::Faults::NONE.crashes(1).cuts(1).losses(1),
            "ONE-LEADER",
        ),
        handoff(handoff::Defect::ShortLife, shards.cuts(1), "ONE-OWNER"),
        handoff(
            handoff::Defect::NeverDue,
            shards.crashes(1),
            "it can go on for ever",
        ),
    ]
}

/// Take-overs of a lease that is held by advisory lock.
fn takeovers() -> Vec<Scope> {
    let two = takeover::Succession::of(2);
    let three = takeover::Succession::of(3);
    let none = takeover::Faults::NONE;
    let any = two.policy(takeover::Policy::WaitOut, takeover::Closes::Any);
    let models = [
        two.faults(none.closes(2).delays(1)),
        two.faults(none.closes(1).cuts(1).delays(1)),
        two.faults(none.closes(1).cuts(2)),
        two.faults(none.closes(1).doubts(1).delays(1)),
        two.faults(none.closes(1).freezes(1).kills(1)),
        two.faults(none.freezes(1).delays(1)),
        two.faults(none.closes(1).resigns(1).delays(1)),
        two.faults(none.restarts(1).kills(1).delays(1)),
        two.faults(none.crashes(1).freezes(1)),
        two.faults(none.cancels(1).cuts(1).freezes(1)),
        three.faults(none.kills(1).closes(1)),
        three.faults(none.cancels(1).freezes(1)),
        two.writes(1).faults(none.closes(1).delays(1)),
        two.writes(1).faults(none.freezes(1)),
        two.writes(4).faults(none.closes(1)),
        any.faults(none.sweeps(1).closes(1).delays(1)),
    ];
    models.into_iter().map(Scope::takeover).collect()
}

/// The faults that are in the budget, as `Debug` names them.
fn said(faults: &impl fmt::Debug) -> String {
    let text = format!("{faults:?}");
    let fields = text.trim_start_matches("Faults { ").trim_end_matches(" }");
    let some = fields.split(", ").filter(|field| !field.ends_with(": 0"));
    some.collect::<Vec<_>>().join(", ")
}

/// All that is explored.
pub fn all() -> Vec<Scope> {
    let lease = lease::Faults::NONE;
    let vote = vote::Faults::NONE;
    let handoff = handoff::Faults::NONE;
    let mut all = planted();
    all.extend(takeovers());
    all.extend([
        Scope::handoff(handoff.sleeps(1)),
        Scope::handoff(handoff.cuts(1)),
        Scope::handoff(handoff.crashes(1)),
        Scope::handoff(handoff.forgets(1).losses(1)),
        Scope::handoff(handoff.coups(1).delays(1)),
        Scope::vote(vote.crashes(1).losses(1).cuts(1)),
        Scope::vote(vote.crashes(1).sleeps(1)),
        Scope::vote(vote.crashes(1).delays(1)),
        Scope::vote(vote.resigns(1).delays(1)),
        Scope::vote(vote.resigns(1).copies(1)),
        Scope::vote(vote.crashes(1).jumps(1)),
        Scope::vote(vote.losses(3)),
        Scope::lease(lease.crashes(1).sleeps(1).forgets(1)),
        Scope::lease(lease.crashes(1).losses(1).delays(1)),
        Scope::lease(lease.crashes(1).losses(1).forgets(1)),
        Scope::lease(lease.crashes(1).losses(1).resigns(1)),
        Scope::lease(lease.losses(2).delays(1)),
    ]);
    all
}
