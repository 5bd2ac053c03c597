//! M: members whose clocks are wrong, whose heartbeats are lost, and whose store is away.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{EndReason, LostCause};
use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::figures::is_led;
use coordinator_tests::sim::invariants::Verdict;
use coordinator_tests::sim::scene::{Phase, Scene};
use coordinator_tests::sim::seen::Seen;
use coordinator_tests::sim::worlds::Kind;

use super::play::{Scenario, that};
use super::undisturbed::keeps_its_leader;

/// By lease, and with shards, in one group and in two.
const STORED: [Kind; 4] = [Kind::Leases, Kind::Shards, Kind::Dense, Kind::TwoGroups];

/// While there are faults, nobody's membership, leadership or shard ends but on request.
fn nothing_ends(scene: &Scene, seen: &Seen) -> Verdict {
    if scene.phase != Phase::Wild {
        return Ok(());
    }
    match seen {
        Seen::Store(Event::Ended { id, reason, .. }) => that(*reason == EndReason::Left, || {
            format!("{id} ended: {reason:?}")
        }),
        Seen::Store(Event::Evicted { id, .. }) => Err(format!("{id} was evicted")),
        Seen::Lost(id, cause) => {
            let hold = &scene.holds[*id];
            // Who lets go says so.
            let let_go = *cause == LostCause::Released;
            that(let_go, || {
                format!("{} of {}: {cause}", hold.what, hold.process)
            })
        }
        _ => Ok(()),
    }
}

#[test]
#[should_panic(expected = "THE-SCENARIO-ITSELF")]
fn an_end_that_nobody_asked_for_is_noticed() {
    let scenario = Scenario::of(&[Kind::Shards], &[Class::Partition]);
    let scenario = scenario.lasting(|terms| (terms.ttl * 2, terms.ttl * 3));
    scenario.play(|| |scene, seen, _| nothing_ends(scene, seen));
}

/// How often the store is written to in a run.
fn writes(classes: &[Class]) -> u64 {
    let scenario = Scenario::of(&STORED, classes).fitting(keeps_its_leader);
    let played = scenario.play(|| {
        |scene, seen, counts| {
            if let (Seen::Store(_), Phase::Wild) = (seen, scene.phase) {
                counts.add("writes");
            }
            nothing_ends(scene, seen)
        }
    });
    played.count("writes")
}

/// M4: off by an hour, again and again, either way. As much is written as without it.
#[test]
fn m4_a_clock_that_is_an_hour_off_spins_no_loop_and_ends_nobody() {
    let (off, calm) = (writes(&[Class::MemberWall]), writes(&[]));
    assert!(calm > 500, "{calm} writes");
    let allowed = calm / 20;
    assert!(
        off.abs_diff(calm) <= allowed,
        "{off} writes with wrong clocks, {calm} without"
    );
}

/// M5: a member is cut off for less than two heartbeats, not again within a ttl.
#[test]
fn m5_one_missed_heartbeat_is_tolerated() {
    let cuts = [Class::Partition, Class::OneWayOut, Class::OneWayIn];
    let scenario = Scenario::of(&STORED, &cuts).fitting(keeps_its_leader);
    let scenario = scenario.lasting(|terms| (terms.ttl / 4, terms.ttl / 4));
    let played = scenario.seeds(3).play(|| {
        let mut cut: BTreeMap<usize, Duration> = BTreeMap::new();
        let mut twice: BTreeMap<usize, Duration> = BTreeMap::new();
        let mut beats = BTreeMap::new();
        move |scene, seen, counts| {
            let ttl = scene.terms.ttl;
            if let Seen::Fault(_, Some(seat)) = seen {
                let last = cut.insert(*seat, scene.now);
                if last.is_some_and(|last| scene.since(last) < ttl * 2) {
                    twice.insert(*seat, scene.now);
                }
            }
            if let Seen::Store(Event::Beat { id, .. }) = seen {
                let last = beats.insert(id.clone(), scene.now);
                if last.is_some_and(|last| scene.since(last) > ttl / 3 * 3 / 2) {
                    counts.add("missed heartbeats");
                }
            }
            // Of a member that was cut off twice in a row more than one may be missing.
            let often = |seat: &usize| twice.get(seat).is_some_and(|at| scene.since(*at) < ttl * 3);
            let excused = match seen {
                Seen::Lost(id, _) => often(&scene.holds[*id].process.seat),
                _ => twice.keys().any(often),
            };
            if excused {
                return Ok(());
            }
            nothing_ends(scene, seen)
        }
    });
    played.at_least(10, "missed heartbeats");
}

/// M7: the store is away for longer than the ttl, and back. Each member joins anew at most once an
/// outage, and what is written in the first second is in proportion to the members.
#[test]
fn m7_after_an_outage_of_the_whole_store_there_is_no_overlap_and_no_storm() {
    let kinds = [Kind::Leases, Kind::Shards, Kind::TwoGroups];
    let scenario = Scenario::of(&kinds, &[Class::StoreOutage]);
    let scenario = scenario.lasting(|terms| (terms.ttl * 5 / 4, terms.ttl * 2));
    let played = scenario.play(|| {
        let (mut outages, mut joins, mut since, mut written) = (1, 0, None, 0);
        move |scene, seen, counts| {
            let members = scene.seats.len();
            let just = since.is_some_and(|at| scene.since(at) < Duration::from_secs(1));
            match seen {
                Seen::Fault(Class::StoreOutage, _) => outages += 1,
                Seen::Mended(Class::StoreOutage, _) => {
                    (since, written) = (Some(scene.now), 0);
                    counts.add("outages");
                }
                Seen::Store(Event::Joined { .. }) => joins += 1,
                _ => {}
            }
            if let (Seen::Store(_) | Seen::Swapped(_), true) = (seen, just) {
                written += 1;
            }
            let served = scene.wanted.iter().filter(|what| is_led(what));
            if matches!(seen, Seen::Closes) && served.clone().all(|what| scene.is_served(what)) {
                counts.add("ends");
            }
            if is_asked(scene) {
                return Ok(());
            }
            that(joins <= outages * members, || {
                format!("{joins} joins of {members} members in {outages} outages")
            })?;
            let shards = usize::from(scene.terms.shards) * scene.terms.keyspaces;
            let most = 10 * (members + shards);
            that(written <= most, || {
                format!("{written} writes at once, allowed are {most}")
            })
        }
    });
    played.at_least(played.runs * 2, "outages");
    played.at_least(played.runs, "ends");
}

/// Whether members leave and return for other reasons.
fn is_asked(scene: &Scene) -> bool {
    !matches!(scene.phase, Phase::Wild | Phase::Healed)
}
