//! What the server's settings guarantee, read whenever a session begins.

use coordinator_core::{Guarantee, Guarantees};

use crate::config::{Leases, Takeover};
use crate::error::ConnectError;
use crate::hub::Hub;
use crate::session::Session;

/// What a server says of its durability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    synchronous_standby_names: String,
}

/// Reads them.
pub(crate) async fn probe(session: &Session) -> Result<Settings, ConnectError> {
    let settings = "select current_setting('fsync'), current_setting('full_page_writes'), \
        current_setting('synchronous_commit'), current_setting('synchronous_standby_names')";
    let failed = |error| ConnectError::failed("read the server's settings", error);
    let rows = session.client().query_typed(settings, &[]).await;
    let rows = rows.map_err(failed)?;
    let text = |column| rows.first().map(|row| row.get(column)).unwrap_or_default();
    Ok(Settings {
        fsync: text(0),
        full_page_writes: text(1),
        synchronous_commit: text(2),
        synchronous_standby_names: text(3),
    })
}

/// What the present server gives.
pub(crate) fn of(hub: &Hub) -> Guarantees {
    let guarantees = Guarantees::unknown().given(
        Guarantee::NeverEvicts,
        "Postgres keeps rows until they are deleted",
    );
    let guarantees = match hub.facts().settings {
        Some(settings) => survives_failover(survives_crash(guarantees, &settings), &settings),
        None => guarantees,
    };
    sees_dead_holders(guarantees, hub)
}

/// Grants are committed with `synchronous_commit` on, whatever the setting says.
fn survives_crash(guarantees: Guarantees, settings: &Settings) -> Guarantees {
    let found = format!(
        "fsync = {}, full_page_writes = {}",
        settings.fsync, settings.full_page_writes
    );
    if settings.fsync == "on" && settings.full_page_writes == "on" {
        guarantees.given(Guarantee::SurvivesCrash, found)
    } else {
        let remedy = "set `fsync = on` and `full_page_writes = on`";
        guarantees.missing(Guarantee::SurvivesCrash, found, remedy)
    }
}

/// I8: with standbys that confirm, each renewal waits for one, so a deposed primary renews nothing.
fn survives_failover(guarantees: Guarantees, settings: &Settings) -> Guarantees {
    let found = format!(
        "synchronous_standby_names = '{}', synchronous_commit = {}",
        settings.synchronous_standby_names, settings.synchronous_commit
    );
    if settings.synchronous_standby_names.is_empty() {
        let remedy = "name a standby in `synchronous_standby_names`: without one, a fail-over may lose the \
            last grants, and a deposed primary that goes on serving renews leases";
        guarantees.missing(Guarantee::SurvivesFailover, found, remedy)
    } else {
        guarantees.given(Guarantee::SurvivesFailover, found)
    }
}

fn sees_dead_holders(guarantees: Guarantees, hub: &Hub) -> Guarantees {
    let wanted = Guarantee::SeesDeadHolders;
    let config = &hub.config;
    if config.leases == Leases::Row {
        let remedy = "choose `Leases::Advisory`, on a path without a pooler in transaction mode";
        return guarantees.missing(wanted, "leases are rows with an expiry", remedy);
    }
    if config.takeover == Takeover::WaitOut {
        let remedy = "choose `Takeover::Evidence`";
        return guarantees.missing(wanted, "`Takeover::WaitOut` believes no evidence", remedy);
    }
    if hub.has_direct_witness() || config.takeover == Takeover::Immediate {
        return guarantees.given(wanted, "the path to the server is direct");
    }
    let remedy = "connect to the server's own address; or declare the path direct, if it only translates \
        addresses and closes no connection by itself";
    guarantees.missing(wanted, "something stands between us and the server", remedy)
}
