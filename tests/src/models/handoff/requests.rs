//! What planners ask of the store, and what becomes of it.

use std::sync::Arc;

use coordinator_core::machine::planner::{PlannedSwap, PlannerAction, PlannerEvent};
use coordinator_core::{Document, ErrorKind, Evidence, Snapshot, Swapped};

use super::node::Ask;
use super::{Late, State, keyspace};
use crate::models::clock::moment;

impl State {
    /// Handles a planner's request, and answers it unless the answer gets lost.
    pub(super) fn serve(&mut self, node: usize, ask: usize, answered: bool) -> Result<(), String> {
        let cut = self.nodes[node].cut;
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let Ask {
            action, snapshot, ..
        } = process.asks.remove(ask);
        let event = if cut {
            failed(&action, ErrorKind::Unavailable)
        } else {
            let event = self.handle(&action, &snapshot)?;
            if answered {
                event
            } else {
                failed(&action, ErrorKind::Indeterminate)
            }
        };
        if let Some(event) = event {
            self.plan(node, event);
        }
        Ok(())
    }

    fn handle(
        &mut self,
        action: &PlannerAction,
        snapshot: &Snapshot,
    ) -> Result<Option<PlannerEvent>, String> {
        let now = moment(self.now);
        Ok(Some(match action {
            PlannerAction::Lead { request, token } => PlannerEvent::LeadAnswered {
                request: *request,
                answer: Ok(self.store.change(|store| store.lead(*token))),
            },
            PlannerAction::Load { request } => PlannerEvent::LoadAnswered {
                request: *request,
                answer: Ok(self.store.machine().bytes.clone()),
            },
            PlannerAction::ReadSnapshot { request } => {
                let snapshot = Arc::new(self.store.machine().snapshot(now));
                PlannerEvent::SnapshotAnswered {
                    request: *request,
                    answer: Ok(snapshot),
                }
            }
            PlannerAction::Swap(swap) => PlannerEvent::SwapAnswered {
                request: swap.request,
                answer: self.swap(swap, snapshot)?,
            },
            PlannerAction::Evict { life, .. } => PlannerEvent::EvictAnswered {
                life: life.clone(),
                answer: Ok(self.store.change(|store| store.evict(now, life))),
            },
            PlannerAction::Resign { .. } => return Ok(None),
        }))
    }

    /// S2: what is stored may follow what was there, by what its planner knew.
    pub(super) fn swap(
        &mut self,
        swap: &PlannedSwap,
        snapshot: &Snapshot,
    ) -> Result<Result<Swapped, ErrorKind>, String> {
        let now = moment(self.now);
        let before = self.store.machine().document.clone();
        let answer = self.store.change(|store| store.swap(now, swap));
        let keyspace = keyspace();
        let evidence = Evidence {
            keyspace: &keyspace,
            snapshot,
            ended: &swap.ended,
        };
        let follows = |before: &Document, after: &Document| after.follows(before, &evidence);
        if let (Some(before), Some(after)) = (&before, &self.store.machine().document)
            && before.epoch != after.epoch
        {
            follows(before, after).map_err(|illegal| format!("S2: {illegal}"))?;
        }
        Ok(answer)
    }

    pub(super) fn delay(&mut self, node: usize, ask: usize) {
        let now = self.now;
        let Some(process) = &mut self.nodes[node].process else {
            return;
        };
        let ask = process.asks.remove(ask);
        let event = failed(&ask.action, ErrorKind::Indeterminate);
        self.late.push(Late { ask, since: now });
        if let Some(event) = event {
            self.plan(node, event);
        }
    }
}

/// The answer to a request that came to nothing.
fn failed(action: &PlannerAction, kind: ErrorKind) -> Option<PlannerEvent> {
    Some(match action {
        PlannerAction::Lead { request, .. } => PlannerEvent::LeadAnswered {
            request: *request,
            answer: Err(kind),
        },
        PlannerAction::Load { request } => PlannerEvent::LoadAnswered {
            request: *request,
            answer: Err(kind),
        },
        PlannerAction::ReadSnapshot { request } => PlannerEvent::SnapshotAnswered {
            request: *request,
            answer: Err(kind),
        },
        PlannerAction::Swap(swap) => PlannerEvent::SwapAnswered {
            request: swap.request,
            answer: Err(kind),
        },
        PlannerAction::Evict { life, .. } => PlannerEvent::EvictAnswered {
            life: life.clone(),
            answer: Err(kind),
        },
        PlannerAction::Resign { .. } => return None,
    })
}
