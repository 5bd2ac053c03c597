//! The deterministic simulation: whole fleets of nodes on one thread, from one seed, in virtual
//! time, under faults; and what must hold at every step.
//!
//! One seed is one [world](worlds): its kind, its size, its spans, and the [schedule](faults) of its
//! faults. It has a phase of faults, and then, when all are taken back, it must serve again within
//! a computed [bound](bounds). A [witness] sees everything in true time, and shows it to the
//! [invariants]. A violation prints one command that replays it, exactly.

pub mod bounds;
pub mod chaos;
pub mod faults;
pub mod figures;
pub mod fleet;
pub mod invariants;
pub mod many;
mod panics;
pub mod report;
pub mod resource;
pub mod run;
pub mod scene;
pub mod seen;
pub mod shrink;
pub mod trace;
pub mod witness;
pub mod worlds;
