//! Each event by itself, and what exactly follows.

use rand::SeedableRng;

use super::*;
use crate::member::MAX_MEMBERS;

pub(super) const TTL: Duration = Duration::from_secs(10);

pub(super) fn at(millis: u64) -> Moment {
    Moment::since_origin(Duration::from_millis(millis))
}

pub(super) fn instance(of: u8) -> Instance {
    Instance::from_bytes([of; 16])
}

/// `a`, instance 1, ttl 10 s.
fn stranger() -> Hearing {
    let me = HearingConfig {
        group: "g".into(),
        id: "a".into(),
        instance: instance(1),
        fixed: true,
        ttl: TTL,
    };
    Hearing::new(me, Profile::new(), StdRng::seed_from_u64(1), at(0))
}

/// Connected at 0; its first beat is out.
fn listener() -> Hearing {
    let mut hearing = stranger();
    let first = step(&mut hearing, 0, HearingEvent::Connected);
    assert_eq!(words(&first), ["a beats, and asks"]);
    let echo = published(&first).expect("it beats");
    assert_eq!(step(&mut hearing, 5, HearingEvent::Heard(echo)), []);
    hearing
}

fn step(hearing: &mut Hearing, millis: u64, event: HearingEvent) -> Vec<HearingAction> {
    let out = hearing.step(at(millis), event);
    assert_eq!(hearing.check(at(millis)), Ok(()), "at {millis} ms");
    out
}

/// Delivers ticks at their deadlines up to this moment, and says what was done, and when. What is
/// published comes back at once if `echo`.
fn run(hearing: &mut Hearing, until: u64, echo: bool) -> Vec<(u64, String)> {
    let mut done = Vec::new();
    while let Some(due) = hearing.deadline().filter(|due| *due <= at(until)) {
        let mut out = hearing.step(due, HearingEvent::Tick);
        assert_eq!(hearing.check(due), Ok(()));
        if let Some(sign) = published(&out).filter(|_| echo) {
            out.extend(hearing.step(due, HearingEvent::Heard(sign)));
            assert_eq!(hearing.check(due), Ok(()));
        }
        let millis = u64::try_from(due.as_duration().as_millis()).unwrap();
        done.extend(words(&out).into_iter().map(|word| (millis, word)));
    }
    done
}

pub(super) fn published(actions: &[HearingAction]) -> Option<Sign> {
    actions.iter().find_map(|action| match action {
        HearingAction::Publish(sign) => Some(sign.clone()),
        _ => None,
    })
}

fn words(actions: &[HearingAction]) -> Vec<String> {
    let word = |action: &HearingAction| match action {
        HearingAction::Publish(sign) => match &sign.word {
            Word::Beat(beat) if beat.asks => format!("{} beats, and asks", sign.id),
            Word::Beat(_) => format!("{} beats", sign.id),
            Word::Goodbye => format!("{} says goodbye", sign.id),
        },
        HearingAction::Changed => "changed".into(),
        HearingAction::Isolated => "isolated".into(),
        HearingAction::Rejoined => "rejoined".into(),
        HearingAction::Duplicate { id, .. } => format!("{id} is there twice"),
        HearingAction::Crowded { id } => format!("no room for {id}"),
    };
    actions.iter().map(word).collect()
}

/// A beat of another member: its instance, its number, and for how many seconds it has run.
fn beat(id: &str, of: u8, number: u64, age: u64) -> HearingEvent {
    HearingEvent::Heard(sign(id, of, number, age, Profile::new(), false))
}

fn sign(id: &str, of: u8, number: u64, age: u64, profile: Profile, asks: bool) -> Sign {
    Sign {
        group: "g".into(),
        id: id.into(),
        instance: instance(of),
        beat: number,
        age: Duration::from_secs(age),
        word: Word::Beat(Beat {
            ttl: TTL,
            asks,
            fixed: true,
            profile,
        }),
    }
}

fn goodbye(id: &str, of: u8, number: u64) -> HearingEvent {
    let mut sign = sign(id, of, number, 0, Profile::new(), false);
    sign.word = Word::Goodbye;
    HearingEvent::Heard(sign)
}

fn names(hearing: &Hearing, millis: u64) -> Vec<String> {
    let members = hearing.members(at(millis));
    members.iter().map(|member| member.id.to_string()).collect()
}

/// G6: it is silent while the bus is not there, beats at once when it is, and then three times a
/// ttl; and it asks until its own question has come back.
#[test]
fn it_beats_when_it_can_be_heard_and_every_third_of_the_ttl_from_then_on() {
    let mut hearing = stranger();
    assert_eq!(hearing.deadline(), None);
    assert_eq!(names(&hearing, 0), ["a"]);
    let first = step(&mut hearing, 0, HearingEvent::Connected);
    assert_eq!(words(&first), ["a beats, and asks"]);
    let second = run(&mut hearing, 3_400, true);
    assert_eq!(second.len(), 1);
    assert!((2_666..=3_334).contains(&second[0].0), "{second:?}");
    assert_eq!(second[0].1, "a beats, and asks", "the first was lost");
    let later = run(&mut hearing, 60_000, true);
    assert!((17..=22).contains(&later.len()), "{later:?}");
    assert!(later.iter().all(|(_, word)| word == "a beats"));
}

/// G6: a bus that was not reached is told as much as one that was lost, and once.
#[test]
fn who_never_reached_the_bus_suspects_itself_until_it_is_heard() {
    let mut hearing = stranger();
    let refused = step(&mut hearing, 0, HearingEvent::Disconnected);
    assert_eq!(refused, [HearingAction::Isolated]);
    assert_eq!(step(&mut hearing, 1_000, HearingEvent::Disconnected), []);
    let first = step(&mut hearing, 2_000, HearingEvent::Connected);
    assert_eq!(words(&first), ["a beats, and asks"]);
    let echo = published(&first).expect("it beats");
    let heard = step(&mut hearing, 2_005, HearingEvent::Heard(echo));
    assert_eq!(heard, [HearingAction::Rejoined]);
}

/// M1: who beats is there, who says goodbye is not, and a late word does not call it back.
#[test]
fn who_beats_is_there_and_who_says_goodbye_is_gone_at_once() {
    let mut hearing = listener();
    let heard = step(&mut hearing, 100, beat("b", 2, 1, 0));
    assert_eq!(heard, [HearingAction::Changed]);
    assert_eq!(names(&hearing, 100), ["a", "b"]);
    assert_eq!(step(&mut hearing, 200, beat("b", 2, 2, 0)), []);
    let left = step(&mut hearing, 300, goodbye("b", 2, 4));
    assert_eq!(left, [HearingAction::Changed]);
    assert_eq!(step(&mut hearing, 400, beat("b", 2, 3, 0)), []);
    assert_eq!(names(&hearing, 400), ["a"]);
    let again = step(&mut hearing, 500, beat("b", 3, 1, 0));
    assert_eq!(again, [HearingAction::Changed], "another start is welcome");
}

/// G6, M5: two lost beats cost nothing; after a ttl of silence, somebody else must be heard.
#[test]
fn a_silent_member_is_suspected_after_a_ttl_and_gone_with_the_next_sign() {
    let mut hearing = listener();
    let _joined = step(&mut hearing, 1_000, beat("b", 2, 1, 0));
    assert_eq!(step(&mut hearing, 2_000, beat("b", 2, 2, 1)), []);
    let quiet = run(&mut hearing, 11_999, true);
    assert!(quiet.iter().all(|(_, word)| word == "a beats"), "{quiet:?}");
    assert_eq!(hearing.regard(&"b".into()), Some(Regard::Live));
    assert_eq!(step(&mut hearing, 12_000, HearingEvent::Tick), []);
    assert_eq!(hearing.regard(&"b".into()), Some(Regard::Suspect));
    let test = run(&mut hearing, 13_001, true);
    let words: Vec<_> = test.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(words, ["a beats", "changed"], "it hears itself: {test:?}");
    assert_eq!(hearing.regard(&"b".into()), None);
    assert_eq!(names(&hearing, 13_001), ["a"]);
}

/// A sign of a third member shows as well that our ear works: nobody tests it then.
#[test]
fn what_another_member_says_clears_the_doubt_without_a_test() {
    let mut hearing = listener();
    let _joined = step(&mut hearing, 1_000, beat("b", 2, 1, 0));
    let _joined = step(&mut hearing, 2_000, beat("c", 3, 1, 0));
    let _quiet = run(&mut hearing, 10_990, true);
    let _heard = step(&mut hearing, 10_995, beat("c", 3, 2, 9));
    let _suspected = step(&mut hearing, 11_000, HearingEvent::Tick);
    assert_eq!(hearing.regard(&"b".into()), Some(Regard::Suspect));
    let heard = step(&mut hearing, 11_001, beat("c", 3, 3, 9));
    assert_eq!(heard, [HearingAction::Changed]);
    assert_eq!(names(&hearing, 11_001), ["a", "c"]);
}

/// G6, M7: it hears nobody, not even itself; so nobody is judged, and afterwards all have a fresh
/// ttl.
#[test]
fn a_member_that_hears_nobody_suspects_itself_first() {
    let mut hearing = listener();
    let _joined = step(&mut hearing, 1_000, beat("b", 2, 1, 0));
    let deaf = run(&mut hearing, 60_000, false);
    let isolated: Vec<_> = deaf
        .iter()
        .filter(|(_, word)| word != "a beats")
        .map(|(millis, word)| (*millis, word.as_str()))
        .collect();
    assert_eq!(isolated, [(11_000, "isolated")]);
    assert!(hearing.is_isolated());
    assert_eq!(names(&hearing, 60_000), ["a", "b"]);
    let back = step(&mut hearing, 60_001, beat("c", 3, 1, 0));
    assert_eq!(words(&back), ["rejoined", "changed"]);
    let before = run(&mut hearing, 70_000, true);
    assert!(before.iter().all(|(_, word)| word == "a beats"));
    assert_eq!(names(&hearing, 70_000), ["a", "b", "c"]);
    let after = run(&mut hearing, 71_500, true);
    assert!(after.iter().any(|(_, word)| word == "changed"), "{after:?}");
    assert_eq!(names(&hearing, 71_500), ["a"]);
}

/// M7: the same, where the bus says so; and the beat after it is spread by chance.
#[test]
fn after_a_disconnection_everybody_has_a_fresh_ttl_and_the_beats_are_spread() {
    let returns = |seed: u64| {
        let mut hearing = listener();
        hearing.random = StdRng::seed_from_u64(seed);
        let _joined = step(&mut hearing, 1_000, beat("b", 2, 1, 0));
        let cut = step(&mut hearing, 2_000, HearingEvent::Disconnected);
        assert_eq!(cut, [HearingAction::Isolated]);
        assert_eq!(hearing.deadline(), None, "nothing is sent, nobody judged");
        assert_eq!(step(&mut hearing, 60_000, HearingEvent::Connected), []);
        let out = run(&mut hearing, 61_000, true);
        let words: Vec<_> = out.iter().map(|(_, word)| word.as_str()).collect();
        assert_eq!(words, ["a beats", "rejoined"]);
        assert_eq!(names(&hearing, 61_000), ["a", "b"]);
        out[0].0
    };
    let beats: BTreeSet<u64> = (0..20).map(returns).collect();
    assert!(beats.len() > 15, "{beats:?}");
    assert!(
        beats
            .iter()
            .all(|millis| (60_000..=61_000).contains(millis))
    );
}

/// M4, M5: time in which it did not run is not counted against others, be it a pause or a jump.
#[test]
fn a_stall_is_not_counted_against_others() {
    let mut hearing = listener();
    let _joined = step(&mut hearing, 1_000, beat("b", 2, 1, 0));
    let hour = 3_600_000;
    let woken = step(&mut hearing, hour, HearingEvent::Tick);
    assert_eq!(words(&woken), ["a beats, and asks"].map(|_| "a beats"));
    assert_eq!(hearing.regard(&"b".into()), Some(Regard::Live));
    let echo = published(&woken).expect("it beats");
    assert_eq!(step(&mut hearing, hour + 5, HearingEvent::Heard(echo)), []);
    let later = run(&mut hearing, hour + 9_000, true);
    assert!(later.iter().all(|(_, word)| word == "a beats"), "{later:?}");
    let gone = run(&mut hearing, hour + 12_000, true);
    assert!(gone.iter().any(|(_, word)| word == "changed"), "{gone:?}");
}

/// What had queued up while the process was paused is read one by one: the first of it must not
/// cost the last its place.
#[test]
fn signs_that_waited_through_a_pause_are_all_heard() {
    let mut hearing = listener();
    for (id, of) in [("b", 2), ("c", 3), ("d", 4)] {
        let _joined = step(&mut hearing, 1_000, beat(id, of, 1, 0));
    }
    for (id, of) in [("b", 2), ("c", 3), ("d", 4)] {
        let heard = words(&step(&mut hearing, 90_000, beat(id, of, 2, 4)));
        assert!(!heard.contains(&"changed".into()), "{heard:?}");
    }
    assert_eq!(names(&hearing, 90_000), ["a", "b", "c", "d"]);
}

/// A change is told at once, and changes in a row are told together.
#[test]
fn an_announcement_is_told_at_once_but_not_without_end() {
    let mut hearing = listener();
    let announce = |port: u64| {
        let mut profile = Profile::new();
        profile.metadata.insert("port".into(), port.to_string());
        HearingEvent::Announce(profile)
    };
    let told = step(&mut hearing, 1_000, announce(0));
    assert_eq!(words(&told), ["changed", "a beats"]);
    assert_eq!(step(&mut hearing, 1_000, announce(0)), [], "nothing new");
    let mut beats = 0;
    for millis in 1_001..=2_000 {
        let told = words(&step(&mut hearing, millis, announce(millis)));
        beats += told.iter().filter(|word| *word == "a beats").count();
    }
    assert!((2..=3).contains(&beats), "{beats}");
    let last = run(&mut hearing, 2_500, true);
    assert!(last.len() <= 1, "the last one: {last:?}");
    let seen = step(&mut hearing, 2_500, beat("b", 2, 1, 0));
    assert_eq!(words(&seen), ["changed"]);
    let mut profile = Profile::new();
    profile.zone = Some("eu".into());
    let news = HearingEvent::Heard(sign("b", 2, 2, 1, profile, false));
    assert_eq!(words(&step(&mut hearing, 2_600, news)), ["changed"]);
    let late = beat("b", 2, 1, 0);
    assert_eq!(
        step(&mut hearing, 2_700, late),
        [],
        "an older one changes nothing"
    );
}

/// Newcomers are answered soon, and together.
#[test]
fn many_newcomers_get_one_answer() {
    let mut hearing = listener();
    let _quiet = run(&mut hearing, 4_000, true);
    for newcomer in 0..200_u8 {
        let id = format!("n{newcomer}");
        let asks = sign(&id, newcomer.wrapping_add(10), 1, 0, Profile::new(), true);
        let _heard = step(&mut hearing, 4_001, HearingEvent::Heard(asks));
    }
    let answers = run(&mut hearing, 5_001, true);
    let words: Vec<_> = answers.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(words, ["a beats"]);
}

/// The newer start of a name replaces the older, in whichever order they are heard.
#[test]
fn a_newer_start_replaces_an_older_one_of_its_name() {
    let mut hearing = listener();
    let _joined = step(&mut hearing, 1_000, beat("b", 2, 90, 500));
    let before = hearing.members(at(1_000))[1].incarnation;
    assert_eq!(
        words(&step(&mut hearing, 2_000, beat("b", 3, 1, 0))),
        ["changed"]
    );
    let after = &hearing.members(at(2_000))[1];
    assert_eq!(after.instance, instance(3));
    assert!(after.incarnation > before);
    let late = step(&mut hearing, 3_000, beat("b", 2, 91, 501));
    assert_eq!(late, [], "it may have been under way");

    let mut other = listener();
    let _joined = step(&mut other, 2_000, beat("b", 3, 1, 0));
    assert_eq!(step(&mut other, 2_001, beat("b", 2, 91, 501)), []);
    assert_eq!(other.members(at(2_001))[1].instance, instance(3));
}

/// Two live instances of a name are told of once; when the newer one ends, the older is shown.
#[test]
fn a_duplicate_name_is_told_once() {
    let mut hearing = listener();
    let mut told = Vec::new();
    for second in 1..=40_u64 {
        let millis = second * 1_000;
        let _ticks = run(&mut hearing, millis, true);
        let _older = step(&mut hearing, millis, beat("b", 2, second, 500 + second));
        if second >= 3 {
            let newer = step(&mut hearing, millis + 1, beat("b", 3, second, second - 3));
            assert!(second == 3 || newer.is_empty(), "{newer:?}");
        }
        told.extend(words(&step(
            &mut hearing,
            millis + 2,
            beat("b", 2, second * 10, 500 + second),
        )));
    }
    told.retain(|word| word != "changed");
    assert_eq!(told, ["b is there twice"]);
    assert_eq!(hearing.members(at(40_002))[1].instance, instance(3));
    let left = step(&mut hearing, 41_000, goodbye("b", 3, 1_000));
    assert_eq!(words(&left), ["changed"]);
    let shown = step(&mut hearing, 41_001, beat("b", 2, 1_000, 541));
    assert_eq!(words(&shown), ["changed"]);
}

/// Our own name, used by another process: at once if it started after us, and after a ttl if it is
/// older, for its last words may be under way.
#[test]
fn another_process_under_our_own_name_is_told_once() {
    let mut hearing = listener();
    assert_eq!(step(&mut hearing, 3_000, beat("a", 7, 50, 900)), []);
    let _ticks = run(&mut hearing, 10_000, true);
    let older = step(&mut hearing, 10_000, beat("a", 7, 51, 907));
    assert_eq!(words(&older), ["a is there twice"]);
    assert_eq!(step(&mut hearing, 10_100, beat("a", 7, 52, 907)), []);
    let newer = step(&mut hearing, 10_200, beat("a", 8, 1, 0));
    assert_eq!(words(&newer), ["a is there twice"]);
    assert_eq!(names(&hearing, 10_200), ["a"]);
}

/// BOUNDED.
#[test]
fn there_is_room_for_so_many_members_and_no_more() {
    let mut hearing = listener();
    for number in 1..MAX_MEMBERS {
        let mut other = sign(&format!("m{number}"), 0, 1, 0, Profile::new(), false);
        other.instance = Instance::from_random(number as u128 + 1_000);
        let _joined = hearing.step(at(100), HearingEvent::Heard(other));
    }
    assert_eq!(hearing.members(at(100)).len(), MAX_MEMBERS);
    let crowded = step(&mut hearing, 101, beat("z", 9, 1, 0));
    assert_eq!(words(&crowded), ["no room for z"]);
    assert_eq!(hearing.check(at(101)), Ok(()));
}

/// After its goodbye it says and hears nothing.
#[test]
fn who_has_left_is_silent() {
    let mut hearing = listener();
    let left = step(&mut hearing, 1_000, HearingEvent::Leave);
    assert_eq!(words(&left), ["a says goodbye"]);
    assert_eq!(hearing.deadline(), None);
    for event in [
        HearingEvent::Leave,
        HearingEvent::Connected,
        beat("b", 2, 1, 0),
    ] {
        assert_eq!(step(&mut hearing, 2_000, event), []);
    }
    let mut unheard = stranger();
    assert_eq!(step(&mut unheard, 0, HearingEvent::Leave), []);
}

#[test]
fn a_beat_is_never_heavier_than_it_was_weighed() {
    let mut hearing = listener();
    let mut profile = Profile::new();
    profile.metadata.insert("k".into(), "v".repeat(500));
    let weight = hearing.me.weigh(&profile);
    let told = step(&mut hearing, 1_000, HearingEvent::Announce(profile));
    let given = published(&told).expect("it is told").to_bytes().len();
    assert!(
        given <= weight && weight < given + 40,
        "{given} of {weight}"
    );
}
