//! Members, assignments and checkpoints: what conformance asks of every backend.

use crate::fixture::{by_fred, by_redis, store};

coordinator_conformance::membership_store! { membership_store, store(by_redis).members() }
coordinator_conformance::assignment_store! { assignment_store, store(by_redis).planning() }
coordinator_conformance::checkpoint_store! { checkpoint_store, store(by_redis).checkpoints() }

coordinator_conformance::membership_store! { membership_store_by_fred, store(by_fred).members() }
coordinator_conformance::assignment_store! { assignment_store_by_fred, store(by_fred).planning() }
coordinator_conformance::checkpoint_store! { checkpoint_store_by_fred, store(by_fred).checkpoints() }
