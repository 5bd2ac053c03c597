//! What an observer is told, and when.

use std::sync::{Arc, Mutex};

use coordinator_core::{Beat, Bytes, FencingToken, Swap, Swapped};
use coordinator_memory::{Event, MemoryStore, Observed};

use crate::common::{TTL, claim, granted, group, heartbeat, joined, members, seconds};

/// What was seen at each act: its kind, and what the store knew at that moment.
type Notes = Arc<Mutex<Vec<String>>>;

fn note(observed: &Observed<'_>) -> String {
    let lives = |id: &str, incarnation| {
        let lives = observed.lives(&group(), &id.into(), incarnation);
        lives.map_or("unknown", |lives| if lives { "lives" } else { "ended" })
    };
    match &observed.entry().event {
        Event::Granted { key, token, .. } => {
            let holder = observed.holder(key).expect("it was granted just now");
            assert_eq!(holder.token, *token);
            format!("granted to {}", holder.owner)
        }
        Event::Joined {
            id, incarnation, ..
        } => format!("{id} joined, {}", lives(id.as_str(), *incarnation)),
        Event::Beat { id, ttl, .. } => format!("{id} beats, for {ttl:?}"),
        Event::Swapped {
            keyspace, ended, ..
        } => {
            let stored = observed.assignment(&group(), keyspace).expect("stored");
            let text = String::from_utf8_lossy(&stored.document).into_owned();
            let (id, incarnation) = &ended[0];
            format!("{text}, {id} {}", lives(id.as_str(), *incarnation))
        }
        other => format!("{other:?}"),
    }
}

/// In the order of the acts, with the state at that moment; heartbeats too, which the history
/// leaves out.
#[tokio::test(start_paused = true)]
async fn an_observer_is_told_of_each_act_at_its_moment() {
    let notes = Notes::default();
    let told = notes.clone();
    let store = MemoryStore::builder()
        .observer(move |observed| told.lock().unwrap().push(note(observed)))
        .build();
    let a = store.connect("a");
    granted(&a, &claim("a", 1, 1)).await;
    let life = joined(&a, "a", 1).await;
    tokio::time::advance(seconds(2)).await;
    // Asked twice it is one life, which goes on.
    assert_eq!(joined(&a, "a", 1).await, life);
    let beat = members(&a).heartbeat(&heartbeat("a", life, 1)).await;
    assert!(matches!(beat, Ok(Beat::Alive { .. })), "{beat:?}");
    tokio::time::advance(TTL).await;
    let document = Bytes::from_static(b"plan");
    let mut swap = Swap::new(group(), "orders".into(), FencingToken::new(1), document);
    swap.ended = vec![("a".into(), life)];
    let assignments = a.assignments.clone().expect("it has assignments");
    let swapped = assignments.swap(&swap).await;
    assert!(matches!(swapped, Ok(Swapped::Stored(_))), "{swapped:?}");
    let wanted = [
        "granted to a",
        "a joined, lives",
        "a beats, for 10s",
        "a beats, for 10s",
        "plan, a ended",
    ];
    assert_eq!(*notes.lock().unwrap(), wanted);
    assert_eq!(store.history().len(), 3, "heartbeats are not kept");
}
