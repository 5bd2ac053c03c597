//! Leases, as the rest of the node uses them: one driver task each, and what guards have in common.

mod driver;
mod grip;
mod requests;
mod words;
mod work;

pub(crate) use driver::{Campaign, CampaignConfig, HeldLease, TermControl};
pub(crate) use grip::{Grip, GripParts};
pub use words::LeaseView;
pub(crate) use words::guard_words;
pub(crate) use work::{Ended, while_held};
