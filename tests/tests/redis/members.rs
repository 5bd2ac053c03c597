//! Members, assignments and checkpoints: what conformance asks of every backend.

use coordinator_redis::RedisConfig;

use crate::fixture::store;

fn plain(config: RedisConfig) -> RedisConfig {
    config
}

coordinator_conformance::membership_store! { membership_store, store(plain).members() }
coordinator_conformance::assignment_store! { assignment_store, store(plain).planning() }
coordinator_conformance::checkpoint_store! { checkpoint_store, store(plain).checkpoints() }
