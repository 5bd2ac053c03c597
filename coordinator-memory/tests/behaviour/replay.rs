//! The same seed gives the same run.

use std::time::Duration;

use coordinator_core::{Acquisition, Backend, FencingToken};
use coordinator_memory::{Entry, Event, MemoryStore};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::common::{claim, locks, millis};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// Campaigns, holds for a while, releases, and begins again; whatever goes wrong.
async fn contend(backend: Backend, name: &'static str, instance: u8) {
    let mut random = StdRng::seed_from_u64(backend.seed.expect("a seed"));
    let locks = locks(&backend);
    for attempt in 1.. {
        let claim = claim(name, instance, attempt);
        if let Ok(Acquisition::Granted(token)) = locks.acquire(&claim).await {
            sleep(millis(random.random_range(10..3000))).await;
            // An answer that did not come is as good as none: the lease runs out.
            drop(locks.release(&claim, token, None).await);
        } else {
            drop(locks.wait_turn(&claim).await);
        }
        sleep(millis(random.random_range(1..100))).await;
    }
}

/// Four members contend for five minutes while their links fail in every way.
async fn run(seed: u64) -> Vec<Entry> {
    let store = MemoryStore::builder().seed(seed).build();
    for (number, name) in NAMES.into_iter().enumerate() {
        let backend = store.connect(name);
        let executor = backend.executor.clone().expect("an executor");
        let instance = u8::try_from(number).unwrap();
        executor.spawn(Box::pin(contend(backend, name, instance)));
    }
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..300 {
        let link = store.link(NAMES[random.random_range(0..NAMES.len())]);
        match random.random_range(0..8) {
            0 => link.cut(),
            1 => link.delay(millis(1)..millis(200)),
            2 => link.pause(),
            3 => link.request_loss(0.3),
            _ => {
                link.clear();
                link.resume();
            }
        }
        sleep(millis(1000)).await;
    }
    for name in NAMES {
        store.link(name).crash();
    }
    store.history()
}

#[tokio::test(start_paused = true)]
async fn two_runs_from_one_seed_have_equal_histories() {
    let (first, again, other) = (run(42).await, run(42).await, run(43).await);
    assert!(first.len() > 100, "something happened: {}", first.len());
    assert_eq!(first, again);
    assert_ne!(first, other);
}

/// Clauses 1 and 3 under every fault: leases do not overlap in true time, and tokens rise.
#[tokio::test(start_paused = true)]
async fn leases_never_overlap_and_tokens_rise_whatever_fails() {
    for seed in 0..20 {
        let (mut held, mut last) = (None, FencingToken::new(0));
        for Entry { at, event } in run(seed).await {
            match event {
                Event::Granted { token, ttl, .. } => {
                    let free = held.is_none_or(|(_, until): (FencingToken, Duration)| until <= at);
                    assert!(
                        free,
                        "seed {seed}: granted {token} at {at:?} while {held:?}"
                    );
                    assert!(token > last, "seed {seed}: {token} after {last}");
                    (held, last) = (Some((token, at + ttl)), token);
                }
                Event::Renewed { token, ttl, .. } => held = Some((token, at + ttl)),
                Event::Released { token, .. } => {
                    assert_eq!(
                        held.take().map(|(held, _)| held),
                        Some(token),
                        "seed {seed}"
                    );
                }
                other => panic!("nothing else was asked for: {other:?}"),
            }
        }
    }
}
