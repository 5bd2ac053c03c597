//! H7: how shards are shared out.

use coordinator_node::core::{Candidate, MemberIndex, Question, Sticky, Strategy};
use coordinator_tests::sim::faults::Class;
use coordinator_tests::sim::many::compare;
use coordinator_tests::sim::run::Plan;
use coordinator_tests::sim::scene::{Phase, Scene, Sort};
use coordinator_tests::sim::seen::Seen;
use coordinator_tests::sim::worlds::{Kind, World};

use super::play::{Scenario, that};

fn members(world: &dyn World) -> usize {
    world.seats().iter().filter(|seat| !seat.reserve).count()
}

/// How many shards anybody owns.
fn owned(scene: &Scene) -> usize {
    let holds = scene.open_holds().map(|(_, hold)| hold);
    let owned = holds.filter(|hold| matches!(hold.sort, Sort::Shard { .. }) && hold.is_trusted());
    owned.count()
}

/// H7: members come, go and crash. BALANCED says that each comes to have its share by weight.
#[test]
fn h7_shards_sum_up_and_are_balanced_by_weight() {
    let faults = [Class::Crash, Class::Leave, Class::MassJoin];
    let few = Scenario::of(&[Kind::Weighted], &faults)
        .seeds(5)
        .fitting(|world| members(world) > usize::from(world.terms().shards));
    let zero = Scenario::of(&[Kind::Weighted], &faults)
        .seeds(5)
        .fitting(|world| world.seats().iter().any(|seat| seat.weight == 0));
    let even = Scenario::of(&[Kind::Shards], &faults).seeds(5);
    for scenario in [few, zero, even] {
        let played = scenario.play(|| {
            move |scene, seen, counts| {
                let shards = usize::from(scene.terms.shards);
                match seen {
                    Seen::Swapped(swap) => {
                        let slots = swap.next.slots.len();
                        that(slots == shards, || format!("{slots} slots of {shards}"))
                    }
                    Seen::Look if scene.phase != Phase::Closing => {
                        let owned = owned(scene);
                        that(owned <= shards, || format!("{owned} are owned of {shards}"))
                    }
                    Seen::Closes => {
                        counts.add("ends");
                        let owned = owned(scene);
                        that(owned == shards, || format!("{owned} are owned of {shards}"))
                    }
                    _ => Ok(()),
                }
            }
        });
        played.at_least(played.runs, "ends");
        assert!(played.figures.moved > 0, "{played:?}");
    }
}

/// H7: the same seed, the same plans.
#[test]
fn h7_plans_are_the_same_whenever_they_are_made() {
    let plan = Plan {
        only: Some(Kind::Weighted),
        ..Plan::new(3)
    };
    assert_eq!(compare(&plan).unwrap(), None);
}

/// H7: what nobody holds goes evenly to the zones, whatever the number of members.
#[test]
fn h7_zones_share_what_equal_members_could_have_either_way() {
    let names: Vec<String> = (0..7).map(|at| format!("m{at}")).collect();
    for east in 1..7 {
        let zone = |at: usize| if at < east { "east" } else { "west" };
        let all: Vec<Candidate<'_>> = (0..7)
            .map(|at| Candidate::new(&names[at]).zone(zone(at)))
            .collect();
        // One each, and one more for two of them: for one in each zone, if both are as large.
        let target = Sticky::new().target(&Question::new(&all, &[None; 9]));
        let in_east = |owner: &Option<MemberIndex>| owner.is_some_and(|at| usize::from(at) < east);
        let count = target.iter().filter(|owner| in_east(owner)).count();
        let (least, most) = (east, east + 2.min(east));
        assert!(
            (least..=most).contains(&count),
            "{count} in the east of {east}"
        );
        let closest = count.abs_diff(9 - count);
        let possible = (least..=most).filter(|it| 9 - it <= (7 - east) + 2.min(7 - east));
        let best = possible.map(|it| it.abs_diff(9 - it)).min();
        assert_eq!(Some(closest), best, "{count} in the east of {east}");
    }
}
