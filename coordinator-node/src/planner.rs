//! Planning: one task a keyspace that campaigns for the planner's lease and, elected, plans.

mod driver;
mod requests;

use std::sync::Arc;

use coordinator_core::Strategy;
use coordinator_core::machine::planner::PlannerConfig;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::context::Context;
use crate::members::Membership;
use driver::Driver;
use requests::Stores;

/// This node takes part in planning a keyspace. Dropping it gives the planner's lease back, if
/// this node has it: another member that serves the keyspace goes on.
#[must_use = "dropping it ends the planning"]
pub(crate) struct Planning {
    _end: DropGuard,
}

/// Begins to take part in planning a keyspace, until the handle is dropped or the node drains.
///
/// `None`: the backend has no locks, members or assignments to plan with.
pub(crate) fn serve(
    context: &Arc<Context>,
    membership: &Membership,
    config: PlannerConfig,
    strategy: Arc<dyn Strategy>,
) -> Option<Planning> {
    let stores = Stores {
        locks: context.backend.locks.clone()?,
        members: context.backend.members.clone()?,
        assignments: context.backend.assignments.clone()?,
    };
    let end = CancellationToken::new();
    let driver = Driver::new(context, membership, stores, config, strategy, end.clone());
    // It ends by itself: with the handle, with `draining`, or with `stopping`.
    drop(context.tasks.spawn(driver.run()));
    Some(Planning {
        _end: end.drop_guard(),
    })
}

impl std::fmt::Debug for Planning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planning").finish_non_exhaustive()
    }
}
