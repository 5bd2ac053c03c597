//! The bus, in all its modes.

mod commits;
mod cuts;
mod kit;
mod sizes;
mod versions;

mod modes {
    use coordinator_postgres::{Cursors, PostgresConfig, Spill};

    use crate::fixture::store;

    fn overflow(config: PostgresConfig) -> PostgresConfig {
        config
    }

    fn never(config: PostgresConfig) -> PostgresConfig {
        config.spill(Spill::Never)
    }

    fn watermark(config: PostgresConfig) -> PostgresConfig {
        config.spill(Spill::Always)
    }

    fn counter(config: PostgresConfig) -> PostgresConfig {
        config.spill(Spill::Always).cursors(Cursors::Counter)
    }

    coordinator_conformance::cluster_bus! { overflow_bus, store(overflow).bus() }
    coordinator_conformance::cluster_bus! { never_bus, store(never).bus() }
    coordinator_conformance::cluster_bus! { watermark_bus, store(watermark).bus() }
    coordinator_conformance::cluster_bus! { counter_bus, store(counter).bus() }
}
