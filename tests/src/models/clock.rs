//! Time in units. All members' clocks and the store's agree: what their rates may differ by is paid
//! for by the margin, which is arithmetic, and tested as such.

use std::time::Duration;

use coordinator_core::Moment;

/// So much time passes at once.
pub(super) const UNIT: Duration = Duration::from_secs(2);

/// Every model begins this late, so that nothing lies before the origin.
const START: Duration = Duration::from_secs(1_000);

/// So many units after the beginning.
pub(super) fn moment(units: u32) -> Moment {
    Moment::since_origin(START + UNIT * units)
}

/// So many units.
pub(super) fn span(units: u32) -> Duration {
    UNIT * units
}
