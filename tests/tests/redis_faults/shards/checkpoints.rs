//! How far the work has come.

use std::sync::Arc;

use coordinator_node::core::{Checkpoint, CheckpointStore, Load, Save};
use coordinator_node::{FencingToken, Group, Keyspace, Position, ShardId};

use crate::kit::{CLIENTS, Place, Tested};

async fn store(place: &Place) -> Tested<Arc<dyn CheckpointStore>> {
    let backend = coordinator_node::connect(&place.url()).await?;
    Ok(backend.checkpoints.expect("Redis has checkpoints"))
}

fn at(token: u64, number: u64, position: &str) -> Checkpoint {
    let (group, keyspace) = (Group::from("g"), Keyspace::from("k"));
    let token = FencingToken::new(token);
    Checkpoint::new(
        group,
        keyspace,
        ShardId::new(3),
        token,
        Position::new(position),
    )
    .number(number)
}

/// H14, H8: the writes of an owner whose shard went to another are refused, whether they come before
/// or after the other's first; and a duplicate that was delayed moves nothing back.
#[tokio::test]
async fn h14_a_checkpoint_never_goes_back_and_is_refused_from_an_old_owner() -> Tested {
    for client in CLIENTS {
        let Some(place) = Place::shared(client) else {
            return Ok(());
        };
        let (old, new) = (store(&place).await?, store(&place).await?);
        let (group, keyspace) = (Group::from("g"), Keyspace::from("k"));
        let claim = async |store: &Arc<dyn CheckpointStore>, token: u64| {
            let token = FencingToken::new(token);
            store.load(&group, &keyspace, ShardId::new(3), token).await
        };
        assert_eq!(claim(&old, 5).await?, Load::Loaded(None));
        assert_eq!(old.save(&at(5, 1, "10")).await?, Save::Saved);
        assert_eq!(old.save(&at(5, 2, "20")).await?, Save::Saved);
        // Told again, late.
        assert_eq!(old.save(&at(5, 1, "10")).await?, Save::Superseded);

        let Load::Loaded(position) = claim(&new, 7).await? else {
            panic!("it is the newest");
        };
        assert_eq!(position, Some(Position::new("20")));
        // The new owner has saved nothing yet.
        assert!(matches!(
            old.save(&at(5, 3, "30")).await?,
            Save::Fenced { .. }
        ));
        assert_eq!(new.save(&at(7, 1, "25")).await?, Save::Saved);
        assert!(matches!(
            old.save(&at(5, 4, "40")).await?,
            Save::Fenced { .. }
        ));
        assert!(matches!(claim(&old, 5).await?, Load::Fenced { .. }));
        let Load::Loaded(position) = claim(&new, 7).await? else {
            panic!("it is the newest still");
        };
        assert_eq!(position, Some(Position::new("25")));
    }
    Ok(())
}
