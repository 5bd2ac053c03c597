//! E: elections by lease and by vote.

use std::collections::BTreeMap;
use std::time::Duration;

use coordinator_node::core::LostCause;
use coordinator_tests::sim::bounds::{Bound, COOL_DOWN, Terms};
use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::figures::is_led;
use coordinator_tests::sim::scene::{Hold, Phase, Process, Scene};
use coordinator_tests::sim::seen::Seen;
use coordinator_tests::sim::worlds::Kind;

use super::play::{Scenario, that};
use super::undisturbed::{Undisturbed, is_over, keeps_its_leader};

/// By lease, by vote, and by vote with a store that decides.
const ALL: [Kind; 3] = [Kind::Leases, Kind::Votes, Kind::Live];

/// Who leads, if somebody does.
fn leader(scene: &Scene) -> Option<&Hold> {
    let mut holds = scene.open_holds().map(|(_, hold)| hold);
    holds.find(|hold| is_led(&hold.what) && hold.is_trusted())
}

/// Whether a process that has just been killed led.
fn was_leading(scene: &Scene, process: Process) -> bool {
    let holds = scene.holds.iter().rev();
    let mut its = holds.filter(|hold| hold.process == process && is_led(&hold.what));
    its.any(|hold| hold.lost.is_none() && hold.stopped == Some(scene.now))
}

/// From the death of a leader, when all others are well, to the next.
fn successor_within(terms: &Terms) -> Bound {
    let bound = match terms.window {
        None => Bound::new()
            .and("the dead leader's lease", terms.ttl)
            .and("a turn that lapses", terms.ttl)
            .and("a hint that was lost", Duration::from_secs(5)),
        Some(window) => Bound::new()
            .and("time-outs and split votes", window * 6)
            .and("the dead leader's lease", window),
    };
    bound.and("cool-down", COOL_DOWN)
}

/// E4: from each death of a leader on, a successor within the bound, counted from the last death or
/// return of anybody.
#[test]
fn e4_a_killed_leader_has_a_successor_within_the_bound() {
    let scenario = Scenario::of(&ALL, &[Class::Crash, Class::RestartSameId]);
    let played = scenario.seeds(3).play(|| {
        let mut since = None;
        move |scene, seen, counts| {
            let abstention = scene.terms.window.unwrap_or_default() * 2;
            match seen {
                Seen::Crashed(process) if was_leading(scene, *process) => {
                    counts.add("leaders killed");
                    since = Some(scene.now);
                }
                // Who is back abstains for a while, and a turn may have been its.
                Seen::Crashed(_) | Seen::Started(_) if since.is_some() => since = Some(scene.now),
                Seen::Begins(id) if is_led(&scene.holds[*id].what) && since.take().is_some() => {
                    counts.add("successors");
                }
                Seen::Look if !is_over(scene) => {
                    let waited = since.map_or(Duration::ZERO, |at| scene.since(at));
                    let enough = scene.present().count() > scene.seats.len() / 2;
                    let enough = enough || scene.terms.window.is_none();
                    let bound = successor_within(&scene.terms).and("abstention", abstention);
                    return that(!enough || waited <= bound.total(), || {
                        format!("nobody leads for {waited:.1?}; allowed are {bound}")
                    });
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(10, "leaders killed");
    played.at_least(8, "successors");
}

/// E5: cut off in every way, it steps down while it lives, and only then another leads.
#[test]
fn e5_a_leader_that_is_cut_off_steps_down_before_its_successor() {
    let classes = [
        Class::Partition,
        Class::OneWayOut,
        Class::OneWayIn,
        Class::HalfOpen,
    ];
    let scenario = Scenario::of(&ALL, &classes).lasting(|terms| {
        let window = terms.window.unwrap_or(terms.ttl);
        (window * 3 / 2, window * 4)
    });
    let played = scenario.play(|| {
        let mut stepped_down = false;
        move |scene, seen, counts| {
            match seen {
                Seen::Lost(id, LostCause::Expired) => {
                    let hold = &scene.holds[*id];
                    if is_led(&hold.what) && scene.is_alive(hold.process) {
                        counts.add("leaders that stepped down");
                        stepped_down = true;
                    }
                }
                Seen::Begins(id) if is_led(&scene.holds[*id].what) => {
                    let begins = &scene.holds[*id];
                    let others = scene.holds.iter().filter(|hold| hold.what == begins.what);
                    let still = others.filter(|hold| hold.is_trusted()).count();
                    that(still == 1, || format!("{still} lead at once"))?;
                    if std::mem::take(&mut stepped_down) {
                        counts.add("successors");
                    }
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(3, "leaders that stepped down");
    played.at_least(3, "successors");
}

/// E8: ONE-LEADER and LEADERLESS-BOUNDED say the rest.
#[test]
fn e8_many_short_cuts_never_make_two_leaders_and_leave_one() {
    let cuts = [Class::Partition, Class::HalfOpen, Class::OneWayIn];
    let by_store = [&cuts[..], &[Class::StoreOutage]].concat();
    let by_bus = [&cuts[..], &[Class::BusSplit]].concat();
    for (kinds, classes) in [
        (&[Kind::Leases, Kind::Live][..], by_store),
        (&ALL[1..], by_bus),
    ] {
        let scenario = Scenario::of(kinds, &classes)
            .lasting(move |_| (Duration::from_millis(500), Duration::from_secs(5)));
        let played = scenario.play(|| {
            let mut settled = 0;
            move |scene, seen, counts| {
                match seen {
                    Seen::Fault(..) => counts.add("cuts"),
                    Seen::Look if scene.phase == Phase::Settled => {
                        let leading = |hold: &&Hold| is_led(&hold.what) && hold.is_trusted();
                        let holds = scene.open_holds().map(|(_, hold)| hold);
                        settled = holds.filter(leading).count();
                    }
                    Seen::Closes => {
                        counts.add("ends");
                        return that(settled == 1, || format!("{settled} lead at the end"));
                    }
                    _ => {}
                }
                Ok(())
            }
        });
        played.at_least(5 * played.runs, "cuts");
        played.at_least(played.runs, "ends");
    }
}

/// E9: NO-ORPHAN-LEASE and LEADERLESS-BOUNDED say that nothing is left hanging.
#[test]
fn e9_a_candidate_dies_in_the_midst_of_its_campaign() {
    let classes = [Class::Crash, Class::RestartSameId, Class::CancelledCall];
    let played = Scenario::of(&ALL, &classes).seeds(3).play(|| {
        |scene, seen, counts| {
            if let Seen::Crashed(_) = seen
                && leader(scene).is_none()
                && scene.now > scene.terms.ttl
            {
                counts.add("candidates that died");
            }
            Ok(())
        }
    });
    played.at_least(5, "candidates that died");
    assert!(played.figures.elections > played.runs * 2, "{played:?}");
}

/// E11: whoever joins or comes back finds a leader, and leaves it in peace.
#[test]
fn e11_a_newcomer_never_deposes_a_healthy_leader() {
    let newcomers = [Class::RestartSameId, Class::Leave];
    let joins = Scenario::of(&[Kind::Leases], &[Class::MassJoin]);
    for scenario in [joins, Scenario::of(&ALL, &newcomers)] {
        let played = scenario.fitting(keeps_its_leader).play(|| {
            let mut undisturbed = Undisturbed::default();
            move |scene, seen, counts| {
                if let Seen::Started(_) = seen
                    && leader(scene).is_some()
                {
                    counts.add("newcomers");
                }
                undisturbed.see(scene, seen)
            }
        });
        played.at_least(5, "newcomers");
    }
}

/// E12: FENCED and ENDED-STAYS-ENDED say that a leader that wakes too late does nothing more.
#[test]
fn e12_who_wakes_neither_usurps_nor_acts_on() {
    let scenario = Scenario::of(&ALL, &[Class::Pause]).seeds(3);
    let played = scenario.fitting(keeps_its_leader).play(|| {
        let mut undisturbed = Undisturbed::default();
        move |scene, seen, counts| {
            if let (Seen::Thawed(seat), Some(leads)) = (seen, leader(scene))
                && leads.process.seat != *seat
            {
                let open = scene.open_holds().map(|(_, hold)| hold);
                let mut old = open.filter(|hold| hold.process.seat == *seat && is_led(&hold.what));
                let overtaken = old.any(|hold| hold.token < leads.token);
                counts.add(if overtaken {
                    "leaders that woke too late"
                } else {
                    "followers that woke"
                });
            }
            undisturbed.see(scene, seen)
        }
    });
    played.at_least(10, "followers that woke");
    played.at_least(2, "leaders that woke too late");
}

/// E15: also when the store loses its memory, or a part of it.
#[test]
fn e15_tokens_strictly_rise() {
    let by_store = [
        Class::Crash,
        Class::StoreRestart,
        Class::StoreAmnesia,
        Class::FailOver,
        Class::WallBack,
    ];
    let by_vote = [Class::Crash, Class::Transfer, Class::MemberWall];
    let stored = Scenario::of(&[Kind::Leases, Kind::Live], &by_store);
    for scenario in [stored, Scenario::of(&[Kind::Votes], &by_vote)] {
        let played = scenario.seeds(3).play(|| {
            let mut highest = BTreeMap::new();
            move |scene, seen, counts| {
                let Seen::Begins(id) = seen else {
                    return Ok(());
                };
                let hold = &scene.holds[*id];
                let last = highest.insert(hold.what.clone(), hold.token);
                counts.add("terms");
                that(last.is_none_or(|last| last < hold.token), || {
                    format!("{} after {last:?}", hold.token)
                })
            }
        });
        played.at_least(3 * played.runs, "terms");
    }
}

/// E21: and nobody's term ends for a stall that was none.
#[test]
fn e21_work_that_is_stuck_ends_its_term_at_the_stall_limit() {
    let scenario = Scenario::of(&ALL, &[Class::WedgedWork]).seeds(3);
    let scenario = scenario.fitting(|world| world.terms().stall.is_some());
    let scenario = scenario.lasting(|terms| (terms.ttl, terms.ttl * 4));
    let played = scenario.play(|| {
        move |scene, seen, counts| {
            if let Seen::Lost(id, LostCause::Stalled) = seen {
                let hold = &scene.holds[*id];
                counts.add("terms that ended by a stall");
                return that(hold.stuck.is_some(), || {
                    format!("{} was not stuck", hold.process)
                });
            }
            Ok(())
        }
    });
    played.at_least(5, "terms that ended by a stall");
}
