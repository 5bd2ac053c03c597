//! Leases by session lock: what conformance asks of every backend, under both policies that are safe.

use coordinator_postgres::Takeover;

use crate::fixture::store;

coordinator_conformance::lock_backend!(evidence, store(|config| config).locks());
coordinator_conformance::lock_backend!(
    wait_out,
    store(|config| config.takeover(Takeover::WaitOut)).locks()
);
