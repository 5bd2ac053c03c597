//! H: shards, fixed and dense.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_memory::Event;
use coordinator_node::core::{LostCause, MemberId, ShardId, Slot};
use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::invariants::Verdict;
use coordinator_tests::sim::scene::{Hold, Phase, Scene, Sort};
use coordinator_tests::sim::seen::{Seen, Swap};
use coordinator_tests::sim::worlds::{Kind, World};

use super::play::{Scenario, that};

/// Of a fixed number, and as many as members.
const BOTH: [Kind; 2] = [Kind::Shards, Kind::Dense];

fn is_shard(hold: &Hold) -> bool {
    matches!(hold.sort, Sort::Shard { .. } | Sort::Part { .. })
}

fn all_served(scene: &Scene) -> bool {
    scene.wanted.iter().all(|what| scene.is_served(what))
}

/// Who has any shard, by seat.
fn owners(scene: &Scene) -> BTreeSet<usize> {
    let holds = scene.open_holds().map(|(_, hold)| hold);
    let owning = holds.filter(|hold| is_shard(hold) && hold.is_trusted());
    owning.map(|hold| hold.process.seat).collect()
}

fn has_three_members(world: &dyn World) -> bool {
    world.seats().iter().filter(|seat| !seat.reserve).count() == 3
}

/// H1: members come and go, and the shards are served by one of them, by two, by three, and again.
#[test]
fn h1_from_one_member_to_three_and_back() {
    let scenario = Scenario::of(&BOTH, &[Class::Leave]).fitting(has_three_members);
    let scenario = scenario.lasting(|terms| (terms.ttl * 2, terms.ttl * 5));
    let played = scenario.seeds(3).play(|| {
        let mut last = 0;
        move |scene, seen, counts| {
            let present = scene.present().count();
            if matches!(seen, Seen::Look) && all_served(scene) && owners(scene).len() == present {
                match (last, present) {
                    (2, 1) => counts.add("from two to one"),
                    (3, 2) => counts.add("from three to two"),
                    (1, 2) => counts.add("from one to two"),
                    (2, 3) => counts.add("from two to three"),
                    _ => {}
                }
                last = present;
            }
            Ok(())
        }
    });
    for what in [
        "from one to two",
        "from two to three",
        "from three to two",
        "from two to one",
    ] {
        played.at_least(1, what);
    }
}

/// H2: while one is away that left, nobody else loses a shard. LEAST-MOVED says the rest.
#[test]
fn h2_a_survivor_keeps_its_shards() {
    let played = Scenario::of(&[Kind::Shards], &[Class::Crash])
        .seeds(4)
        .play(|| {
            let mut away = None;
            move |scene, seen, counts| {
                let (Seen::Leaves(_) | Seen::Returns(_) | Seen::Drains(_) | Seen::Lost(..)) = seen
                else {
                    return Ok(());
                };
                if scene.phase != Phase::Settled {
                    return Ok(());
                }
                match seen {
                    Seen::Leaves(seat) => {
                        away = Some(*seat);
                        owners(scene)
                            .iter()
                            .filter(|owner| *owner != seat)
                            .for_each(|_| {
                                counts.add("survivors");
                            });
                    }
                    Seen::Returns(_) => away = None,
                    Seen::Drains(id) | Seen::Lost(id, _) => {
                        let hold = &scene.holds[*id];
                        let survives = away.is_some_and(|away| away != hold.process.seat);
                        return that(!survives || !is_shard(hold), || {
                            format!("{} gives up {}", hold.process, hold.what)
                        });
                    }
                    _ => {}
                }
                Ok(())
            }
        });
    played.at_least(4, "survivors");
}

/// H3: everything is served while a member is away that stands between others.
#[test]
fn h3_a_member_in_the_middle_leaves_no_hole() {
    let scenario = Scenario::of(&BOTH, &[Class::Leave]);
    let scenario = scenario.lasting(|terms| (terms.ttl * 2, terms.ttl * 3));
    let played = scenario.play(|| {
        let mut leaving = None;
        move |scene, seen, counts| {
            let there: Vec<usize> = scene.present().collect();
            match seen {
                Seen::Leaves(seat) => {
                    let (below, above) = (there.first(), there.last());
                    let between = below.is_some_and(|it| it < seat) && above > Some(seat);
                    leaving = between.then_some(*seat);
                }
                Seen::Look if leaving.is_some() && all_served(scene) => {
                    let gone = leaving.is_some_and(|seat| !scene.seats[seat].alive);
                    if gone {
                        counts.add("served without the one in the middle");
                        leaving = None;
                    }
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(4, "served without the one in the middle");
}

/// H4: ALL-OWNED says that others take over.
#[test]
fn h4_each_position_crashes_in_turn_and_the_planner_too() {
    const POSITIONS: [&str; 3] = ["the first", "the second", "the third"];
    let scenario = Scenario::of(&BOTH, &[Class::Crash]).fitting(has_three_members);
    let played = scenario.play(|| {
        let mut planner: Option<MemberId> = None;
        move |scene, seen, counts| {
            match seen {
                Seen::Store(Event::Granted { key, owner, .. })
                    if key.as_str().contains("/planner/") =>
                {
                    planner = Some(owner.clone());
                }
                Seen::Crashed(process) => {
                    if let Some(position) = POSITIONS.get(process.seat) {
                        counts.add(position);
                    }
                    let seat = &scene.seats[process.seat];
                    if planner.is_some() && seat.names.get(&process.life) == planner.as_ref() {
                        counts.add("the planner");
                    }
                }
                Seen::Closes => {
                    return that(all_served(scene), || "not all is served".to_owned());
                }
                _ => {}
            }
            Ok(())
        }
    });
    for position in POSITIONS {
        played.at_least(2, position);
    }
    played.at_least(2, "the planner");
}

/// H5: when it is back, it begins nothing under what it had before.
#[test]
fn h5_an_isolated_owner_stops_by_its_deadline_and_comes_back_with_nothing() {
    let cuts = [Class::Partition, Class::OneWayOut, Class::OneWayIn];
    let scenario = Scenario::of(&[Kind::Shards, Kind::Static], &cuts);
    let scenario = scenario.lasting(|terms| (terms.ttl * 3 / 2, terms.ttl * 3));
    let played = scenario.play(|| {
        let mut lost = BTreeMap::new();
        move |scene, seen, counts| {
            match seen {
                Seen::Lost(id, LostCause::Expired) => {
                    let hold = &scene.holds[*id];
                    if is_shard(hold) && scene.is_alive(hold.process) {
                        counts.add("owners that stopped");
                        lost.insert(hold.what.clone(), hold.token);
                    }
                }
                Seen::Begins(id) => {
                    let hold = &scene.holds[*id];
                    let Some(token) = lost.get(&hold.what) else {
                        return Ok(());
                    };
                    counts.add("owned anew");
                    return that(hold.token > *token, || {
                        format!("{} begins {} as before", hold.process, hold.what)
                    });
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(5, "owners that stopped");
    played.at_least(5, "owned anew");
}

/// H6: each plan of a group names only its own members, and both serve at the end.
#[test]
fn h6_two_groups_of_ten_members_at_once() {
    let faults = [
        Class::Crash,
        Class::Leave,
        Class::Pause,
        Class::Partition,
        Class::MassLeave,
    ];
    let scenario = Scenario::of(&[Kind::TwoGroups], &faults).seeds(1);
    let scenario = scenario.fitting(|world| {
        let seats = world.seats();
        let regular = seats.iter().filter(|seat| !seat.reserve).count();
        regular >= 20 && world.terms().ttl <= Duration::from_secs(10)
    });
    let played = scenario.play(|| {
        move |scene, seen, counts| match seen {
            Seen::Swapped(swap) => {
                counts.add(if swap.group.as_str() == "g" {
                    "plans of one"
                } else {
                    "plans of the other"
                });
                let half = scene.seats.len() / 2;
                let first = swap.group.as_str() == "g";
                let is_there = |id: &MemberId| {
                    let number = id.as_str().trim_start_matches('m').parse::<usize>();
                    number.is_ok_and(|number| (number < half) == first)
                };
                let mut members = swap.next.members.iter();
                that(members.all(|(id, _)| is_there(id)), || {
                    format!("a stranger in {}", swap.group)
                })
            }
            Seen::Closes => {
                counts.add("ends");
                that(all_served(scene), || "not all is served".to_owned())
            }
            _ => Ok(()),
        }
    });
    played.at_least(1, "plans of one");
    played.at_least(1, "plans of the other");
    played.at_least(played.runs, "ends");
}

/// H8: FENCED says that late writes are refused, DRAIN-BOUNDED that no drain takes longer.
#[test]
fn h8_a_drain_is_over_or_cancelled_before_the_new_owner_starts() {
    let faults = [
        Class::SlowDrain,
        Class::Leave,
        Class::MassJoin,
        Class::LateWrite,
    ];
    let played = Scenario::of(&[Kind::Shards], &faults).seeds(3).play(|| {
        move |scene, seen, counts| {
            match seen {
                Seen::Lost(id, LostCause::Overran) if is_shard(&scene.holds[*id]) => {
                    counts.add("drains that overran");
                }
                Seen::Begins(id) if is_shard(&scene.holds[*id]) => {
                    let begins = &scene.holds[*id];
                    let before = scene.holds[..*id].iter().rev();
                    let Some(last) = before.clone().find(|hold| hold.what == begins.what) else {
                        return Ok(());
                    };
                    if last.draining.is_some() && last.process != begins.process {
                        counts.add("owners after a drain");
                        return that(!last.is_trusted(), || {
                            format!("{} drains {} still", last.process, last.what)
                        });
                    }
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(3, "drains that overran");
    played.at_least(10, "owners after a drain");
}

/// What the newest plan says of a hold that begins: it is its owner's still, since that epoch.
fn is_in_force(newest: &Swap, hold: &Hold) -> bool {
    match hold.sort {
        Sort::Shard { number } => {
            let slot = newest.next.slots.get(usize::from(number));
            let since = slot.and_then(Slot::token);
            let named = newest.next.owner(ShardId::new(number)).is_some();
            named && since.is_some_and(|since| since.get() == hold.token)
        }
        _ => newest.next.epoch.get() >= hold.token,
    }
}

/// H9: members that hear late never begin under a plan that is no more in force, and never work
/// under two.
#[test]
fn h9_a_late_older_plan_is_ignored() {
    let faults = [
        Class::SlowMember,
        Class::Delay,
        Class::Loss,
        Class::Leave,
        Class::MassJoin,
    ];
    let played = Scenario::of(&BOTH, &faults).play(|| {
        let mut newest: Option<Box<Swap>> = None;
        move |scene, seen, counts| {
            match seen {
                Seen::Swapped(swap) => {
                    counts.add("plans");
                    newest = Some(swap.clone());
                }
                Seen::Begins(id) if is_shard(&scene.holds[*id]) => {
                    counts.add("beginnings");
                    let hold = &scene.holds[*id];
                    that(
                        newest
                            .as_ref()
                            .is_some_and(|newest| is_in_force(newest, hold)),
                        || format!("{} begins {} by an old plan", hold.process, hold.what),
                    )?;
                    return one_cut(scene);
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(10 * played.runs, "plans");
    played.at_least(10 * played.runs, "beginnings");
}

/// All parts of a dense keyspace that anybody trusts are of one cut.
fn one_cut(scene: &Scene) -> Verdict {
    let holds = scene.open_holds().map(|(_, hold)| hold);
    let parts = holds.filter(|hold| matches!(hold.sort, Sort::Part { .. }) && hold.is_trusted());
    let cuts: BTreeSet<u64> = parts.map(|part| part.token).collect();
    that(cuts.len() <= 1, || format!("a mixture of {cuts:?}"))
}

/// H10: PLANS-BOUNDED says the rest.
#[test]
fn h10_many_that_join_at_once_cost_few_plans() {
    let scenario = Scenario::of(&BOTH, &[Class::MassJoin]).fitting(|world| {
        let seats = world.seats();
        seats.iter().filter(|seat| seat.reserve).count() >= 3
    });
    let scenario = scenario.lasting(|terms| (terms.ttl * 2, terms.ttl * 3));
    let played = scenario.play(|| {
        let mut grown = 0;
        move |_, seen, counts| {
            match seen {
                Seen::Fault(Class::MassJoin, _) => {
                    counts.add("mass joins");
                    grown = 0;
                }
                Seen::Swapped(swap) => {
                    let before = swap.previous.as_ref().map_or(0, |it| it.members.len());
                    if swap.next.members.len() > before {
                        counts.add("plans that grew");
                        grown += 1;
                    }
                    return that(grown <= 4, || format!("{grown} plans for one mass join"));
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(played.runs, "mass joins");
    played.at_least(played.runs, "plans that grew");
}

/// H12: ALL-OWNED says that no shard stays owned and idle.
#[test]
fn h12_a_release_that_failed_is_retried() {
    let cuts = [Class::ReplyLost, Class::Loss, Class::HalfOpen];
    let faults = [&cuts[..], &[Class::Leave, Class::MassJoin]].concat();
    let played = Scenario::of(&[Kind::Shards], &faults).seeds(4).play(|| {
        let mut faulty: BTreeMap<usize, u32> = BTreeMap::new();
        let mut released = BTreeSet::new();
        move |scene, seen, counts| {
            let cut = |class| [Class::ReplyLost, Class::Loss, Class::HalfOpen].contains(class);
            match seen {
                Seen::Fault(class, Some(seat)) if cut(class) => {
                    *faulty.entry(*seat).or_default() += 1;
                }
                Seen::Mended(class, Some(seat)) if cut(class) => {
                    *faulty.entry(*seat).or_default() -= 1;
                }
                Seen::Stops(id) => {
                    let hold = &scene.holds[*id];
                    let on = faulty.get(&hold.process.seat).is_some_and(|on| *on > 0);
                    if on && hold.lost.is_none() && scene.is_alive(hold.process) {
                        counts.add("releases over a bad link");
                        released.insert(hold.what.clone());
                    }
                }
                Seen::Begins(id) if released.remove(&scene.holds[*id].what) => {
                    counts.add("owned again");
                }
                Seen::Closes => {
                    return that(released.is_empty(), || format!("{released:?} are idle"));
                }
                _ => {}
            }
            Ok(())
        }
    });
    played.at_least(5, "releases over a bad link");
    played.at_least(5, "owned again");
}

/// H15: as a single process would: 0, 1, 2, and so on, shard by shard.
#[test]
fn h15_events_are_handled_in_order_and_exactly_once() {
    let faults = [
        Class::Crash,
        Class::RestartSameId,
        Class::RestartNewId,
        Class::Leave,
        Class::Pause,
        Class::Partition,
        Class::OneWayIn,
        Class::MassJoin,
        Class::LateWrite,
    ];
    let scenario = Scenario::of(&[Kind::Shards], &faults).seeds(5);
    let played = scenario
        .fitting(|world| world.terms().grace.is_zero())
        .play(|| {
            let mut alone: BTreeMap<_, u64> = BTreeMap::new();
            move |scene, seen, _| {
                let Seen::Handles(id, event, _) = seen else {
                    return Ok(());
                };
                let what = &scene.holds[*id].what;
                let next = alone.entry(what.clone()).or_default();
                let expected = std::mem::replace(next, *next + 1);
                that(*event == expected, || {
                    format!("{what}: {event} instead of {expected}")
                })
            }
        });
    let (handled, moved) = (played.figures.handled, played.figures.moved);
    assert!(
        handled > 1_000 && moved > 50,
        "{handled} handled, {moved} moved"
    );
}

/// H16: from the first restart on, no shard is another name's.
#[test]
fn h16_a_rolling_restart_of_static_names_moves_no_shard() {
    let played = Scenario::of(&[Kind::Static], &[Class::RollingRestart])
        .seeds(3)
        .play(|| {
            let (mut rolls, mut owned) = (false, BTreeMap::new());
            move |scene, seen, counts| {
                match seen {
                    Seen::Rolls(_) => {
                        counts.add("restarts");
                        rolls = true;
                    }
                    Seen::Begins(id) if is_shard(&scene.holds[*id]) => {
                        let hold = &scene.holds[*id];
                        let last = owned.insert(hold.what.clone(), hold.process.seat);
                        if rolls && last == Some(hold.process.seat) {
                            counts.add("kept");
                        }
                        let kept = last.is_none_or(|last| last == hold.process.seat);
                        return that(!rolls || kept, || {
                            format!("{} passes to {}", hold.what, hold.process)
                        });
                    }
                    _ => {}
                }
                Ok(())
            }
        });
    played.at_least(3 * played.runs, "restarts");
    played.at_least(played.runs, "kept");
}
