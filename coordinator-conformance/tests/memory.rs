//! The memory backend passes every check, in virtual time and in real time.

mod support;

use coordinator_conformance::Fixture;
use coordinator_core::Backend;
use support::Stores;

/// The memory backend in virtual time, with all its faults.
fn memory() -> Fixture<Backend> {
    let stores = Stores::default();
    let connections = stores.clone();
    Fixture::from(async move |namespace: &str| connections.connect(namespace))
        .faults(stores)
        .virtual_time()
}

/// The memory backend in real time, as a server would be tested: without faults.
fn memory_in_real_time() -> Fixture<Backend> {
    let stores = Stores::default();
    Fixture::from(async move |namespace: &str| stores.connect(namespace))
}

coordinator_conformance::backend!(in_virtual_time, memory());
coordinator_conformance::backend!(in_real_time, memory_in_real_time());
