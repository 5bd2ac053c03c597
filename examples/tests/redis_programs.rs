//! The programs that show what Redis adds to the public face, as they would stand in a service.

#[path = "../redis_jobs.rs"]
#[allow(dead_code, reason = "its own beginning is not this one")]
mod redis_jobs;

use coordinator_examples::Space;
use coordinator_tests::servers::redis::fresh_space;

/// C2, E4: what a leader sends after another has taken over is not in the queue.
#[test]
fn a_queue_has_no_job_of_a_superseded_leader() {
    let Some(fresh) = fresh_space() else { return };
    let space = Space::named(fresh.url(), fresh.name()).unwrap();
    redis_jobs::demonstrate(&space).unwrap();
}
