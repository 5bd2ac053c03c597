//! All parts of a [`Backend`] at once.

use std::sync::Arc;

use coordinator_core::{Backend, CheckpointStore, ClusterBus, LockBackend, MembershipStore};

use crate::fixture::{Fixture, Planning};
use crate::report::Report;
use crate::{assignments, bus, checkpoints, lock, members};

/// Runs the checks of all parts, one after the other, on the caller's runtime and its clock. The
/// checks of a part that the backend lacks are skipped.
pub async fn check_all(fixture: impl Into<Fixture<Backend>>) -> Report {
    let fixture = fixture.into();
    let mut report = Report::default();
    for part in [
        lock::check_all(fixture.locks()).await,
        members::check_all(fixture.members()).await,
        assignments::check_all(fixture.planning()).await,
        checkpoints::check_all(fixture.checkpoints()).await,
        bus::check_all(fixture.bus()).await,
    ] {
        report.outcomes.extend(part.outcomes);
    }
    report
}

impl Fixture<Backend> {
    /// The fixture of the backend's locks.
    pub fn locks(&self) -> Fixture<dyn LockBackend> {
        self.part(|backend| backend.locks.clone())
    }

    /// The fixture of the backend's members.
    pub fn members(&self) -> Fixture<dyn MembershipStore> {
        self.part(|backend| backend.members.clone())
    }

    /// The fixture of the backend's members and assignments.
    pub fn planning(&self) -> Fixture<Planning> {
        self.part(|backend| {
            Some(Arc::new(Planning {
                members: backend.members.clone()?,
                assignments: backend.assignments.clone()?,
            }))
        })
    }

    /// The fixture of the backend's checkpoints.
    pub fn checkpoints(&self) -> Fixture<dyn CheckpointStore> {
        self.part(|backend| backend.checkpoints.clone())
    }

    /// The fixture of the backend's bus.
    pub fn bus(&self) -> Fixture<dyn ClusterBus> {
        self.part(|backend| backend.bus.clone())
    }
}
