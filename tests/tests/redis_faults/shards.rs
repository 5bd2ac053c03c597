//! H: shards.

mod checkpoints;
mod crashes;
mod effects;
mod handoffs;
mod lost_plans;

use std::time::Duration;

const TTL: Duration = Duration::from_secs(1);

const SERVE: &str = "shards k 6";
