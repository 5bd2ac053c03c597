//! Members, assignments and checkpoints.

use coordinator_postgres::PostgresConfig;

use crate::fixture::store;

fn plain(config: PostgresConfig) -> PostgresConfig {
    config
}

coordinator_conformance::membership_store! { membership_store, store(plain).members() }
coordinator_conformance::assignment_store! { assignment_store, store(plain).planning() }
coordinator_conformance::checkpoint_store! { checkpoint_store, store(plain).checkpoints() }
