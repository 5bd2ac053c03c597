//! A role that has no more rights than `role_sql` gives it, in a schema that another has made: what conformance
//! asks of every backend.

use coordinator_postgres::{Cursors, Leases, PostgresConfig, Spill};

use crate::fixture::store_of_guest;

fn plain(config: PostgresConfig) -> PostgresConfig {
    config
}

fn by_row(config: PostgresConfig) -> PostgresConfig {
    config.leases(Leases::Row).trust_empty_store(true)
}

fn durable(config: PostgresConfig) -> PostgresConfig {
    config.spill(Spill::Always).cursors(Cursors::Counter)
}

coordinator_conformance::lock_backend! { advisory, store_of_guest(plain).locks() }
coordinator_conformance::lock_backend! { rows, store_of_guest(by_row).locks() }
coordinator_conformance::membership_store! { members, store_of_guest(plain).members() }
coordinator_conformance::checkpoint_store! { checkpoints, store_of_guest(plain).checkpoints() }
coordinator_conformance::cluster_bus! { durable_bus, store_of_guest(durable).bus() }
