use std::net::SocketAddr;
use std::time::Duration;

use coordinator_core::{FencingToken, Instance};

use super::*;

const TTL: Duration = Duration::from_secs(10);
const TOKEN: FencingToken = FencingToken::new(7);

fn store(session: &str, memory: &str) -> Identities {
    Identities {
        session: SessionIdentity::new(session),
        memory: MemoryIdentity::new(memory),
    }
}

/// A holder on a direct path whose witness holds the term lock, heard two seconds ago.
fn view() -> View {
    View {
        fence: Some(Fence {
            token: TOKEN,
            instance: Instance::from_random(1),
            ttl: TTL,
            released: false,
            direct: true,
            identities: store("s1", "m1"),
        }),
        beat: Some(Beat::new(TOKEN, 2_000_000, true)),
        closing: Some(TOKEN),
        identities: store("s1", "m1"),
        quarantine: Duration::ZERO,
    }
}

fn asker(policy: Takeover) -> Asker {
    Asker {
        instance: Instance::from_random(2),
        policy,
        ended: None,
    }
}

fn with(change: impl FnOnce(&mut View)) -> View {
    let mut view = view();
    change(&mut view);
    view
}

fn fence(change: impl FnOnce(&mut Fence)) -> View {
    with(|view| change(view.fence.as_mut().unwrap()))
}

fn evidence(view: &View) -> When {
    decide(&asker(Takeover::Evidence), view)
}

/// Eight seconds, and what two clocks may differ by.
const REST: Duration = Duration::from_millis(8_016);

/// P5.3: the term lock is waited for, and for no longer than the window lasts.
#[test]
fn a_free_lock_alone_starts_no_term() {
    let (of, at_most) = (TOKEN, REST);
    assert_eq!(evidence(&view()), When::AfterTermLock { of, at_most });
}

/// P5.4.
#[test]
fn whoever_believes_no_evidence_waits_out_the_window() {
    let when = decide(&asker(Takeover::WaitOut), &view());
    assert_eq!(when, When::AfterRest(REST));
}

/// P5.
#[test]
fn who_starts_at_once_says_so_in_its_policy() {
    assert_eq!(decide(&asker(Takeover::Immediate), &view()), When::AtOnce);
}

/// P5.3: each of the three alone is enough to doubt.
#[test]
fn evidence_counts_only_with_a_witness_on_a_direct_path_in_the_same_run_of_sessions() {
    let doubts = [
        with(|view| view.beat = Some(Beat::new(TOKEN, 2_000_000, false))),
        fence(|fence| fence.direct = false),
        fence(|fence| fence.identities = store("s0", "m1")),
        fence(|fence| fence.identities = store("s1", "m0")),
    ];
    for view in doubts {
        assert_eq!(evidence(&view), When::AfterRest(REST), "{view:?}");
    }
}

/// P5.4: a crash empties the table of beats; a beat of another term says nothing of this one.
#[test]
fn without_a_beat_of_that_term_its_whole_window_may_be_left() {
    let whole = When::AfterRest(Duration::from_millis(10_020));
    assert_eq!(evidence(&with(|view| view.beat = None)), whole);
    let older = Beat::new(FencingToken::new(6), 2_000_000, true);
    assert_eq!(evidence(&with(|view| view.beat = Some(older))), whole);
}

/// P5.4: a frozen holder was ended a TTL after its last ping, and costs no second one.
#[test]
fn nothing_is_left_of_the_window_of_a_holder_that_was_silent_for_all_of_it() {
    for age in [10_000_000, 10_000_001, i64::MAX] {
        let view = with(|view| view.beat = Some(Beat::new(TOKEN, age, false)));
        assert_eq!(decide(&asker(Takeover::WaitOut), &view), When::AtOnce);
    }
}

/// P5.4: a clock that was set back never makes more than a window of it.
#[test]
fn a_beat_from_the_future_leaves_one_window() {
    let view = with(|view| view.beat = Some(Beat::new(TOKEN, -3_600_000_000, false)));
    let whole = When::AfterRest(Duration::from_millis(10_020));
    assert_eq!(evidence(&view), whole);
}

/// P5.4: the predecessor's TTL counts, not the asker's.
#[test]
fn the_window_is_that_of_the_predecessor() {
    let view = fence(|fence| fence.ttl = Duration::from_secs(30));
    let when = decide(&asker(Takeover::WaitOut), &view);
    assert_eq!(when, When::AfterRest(Duration::from_millis(28_056)));
}

/// P5.2.
#[test]
fn a_released_term_is_followed_at_once() {
    let released = fence(|fence| fence.released = true);
    for policy in [Takeover::Evidence, Takeover::WaitOut, Takeover::Immediate] {
        assert_eq!(decide(&asker(policy), &released), When::AtOnce);
        let new = with(|view| view.fence = None);
        assert_eq!(decide(&asker(policy), &new), When::AtOnce);
    }
}

/// P5.2: by instance and token, for one process may campaign twice, and a new process under an old
/// name knows nothing of what the old one trusts.
#[test]
fn only_our_own_past_term_is_followed_at_once() {
    let ours = |ended| Asker {
        instance: Instance::from_random(1),
        policy: Takeover::WaitOut,
        ended,
    };
    assert_eq!(decide(&ours(Some(TOKEN)), &view()), When::AtOnce);
    for ended in [None, Some(FencingToken::new(6))] {
        assert_eq!(decide(&ours(ended), &view()), When::AfterRest(REST));
    }
    let another = Asker {
        instance: Instance::from_random(2),
        ..ours(Some(TOKEN))
    };
    assert_eq!(decide(&another, &view()), When::AfterRest(REST));
}

/// P5.1, I2: the mark may be older than a grant that the fail-over lost.
#[test]
fn in_quarantine_nothing_starts_whatever_the_row_says() {
    let ends_within = Duration::from_secs(3);
    let released = fence(|fence| fence.released = true);
    let new = with(|view| view.fence = None);
    for mut view in [view(), released, new] {
        view.quarantine = ends_within;
        for policy in [Takeover::Evidence, Takeover::WaitOut, Takeover::Immediate] {
            let when = decide(&asker(policy), &view);
            assert_eq!(when, When::AfterQuarantine { ends_within });
        }
    }
}

/// K1, P4: whoever announced a token may have died before its term began.
#[test]
fn a_token_is_above_the_fence_and_above_whatever_was_announced() {
    let token = |view: &View, floor: Option<u64>| {
        next_token(view, 1, floor.map(FencingToken::new)).map(FencingToken::get)
    };
    assert_eq!(token(&view(), None), Some(8));
    let announced = with(|view| view.closing = Some(FencingToken::new(9)));
    assert_eq!(token(&announced, None), Some(10));
    assert_eq!(token(&with(|view| view.closing = None), None), Some(8));
    assert_eq!(token(&view(), Some(20)), Some(21));
    assert_eq!(
        next_token(&view(), 1_000, None),
        Some(FencingToken::new(1_000))
    );
    let last = with(|view| view.closing = Some(FencingToken::new((1 << 53) - 1)));
    assert_eq!(token(&last, None), None);
}

/// P6, P9, W1: what is not known to have stopped is not given back.
#[test]
fn a_term_is_given_back_only_when_its_work_has_stopped() {
    let farewell = |work_stopped, session| {
        farewell(Remains {
            work_stopped,
            session,
        })
    };
    assert_eq!(farewell(true, true), Farewell::Clean);
    assert_eq!(farewell(true, false), Farewell::Yield);
    assert_eq!(farewell(false, true), Farewell::CloseAlone);
    assert_eq!(farewell(false, false), Farewell::CloseAlone);
}

/// P7.
#[test]
fn a_path_is_direct_if_both_ends_see_the_same() {
    let tcp = |local: &str, peer: &str| (address(local), address(peer));
    let see = |(local, peer), (client, server), declared| {
        let client_ends = ClientEnds::Tcp { local, peer };
        is_direct(client_ends, ServerEnds::Tcp { client, server }, declared)
    };
    let ours = tcp("10.0.0.1:5000", "10.0.0.2:5432");
    assert!(see(ours, ours, None));
    assert!(see(
        ours,
        tcp("[::ffff:10.0.0.1]:5000", "10.0.0.2:5432"),
        None
    ));
    for theirs in [
        tcp("10.0.0.9:5000", "10.0.0.2:5432"), // the client's address is translated
        tcp("10.0.0.1:5001", "10.0.0.2:5432"), // a proxy on the client's host
        tcp("10.0.0.1:5000", "172.17.0.2:5432"), // a service address
        tcp("10.0.0.1:5000", "10.0.0.2:6432"), // a port that is mapped
    ] {
        assert!(!see(ours, theirs, None), "{theirs:?}");
        assert!(see(ours, theirs, Some(true)), "the user knows better");
    }
    assert!(!see(ours, ours, Some(false)), "the user knows better");
}

/// P7: a proxy may offer a Unix socket.
#[test]
fn a_unix_socket_is_direct_if_the_server_sees_one_too() {
    let (client, server) = (address("10.0.0.1:5000"), address("10.0.0.2:5432"));
    let through = ServerEnds::Tcp { client, server };
    assert!(is_direct(ClientEnds::Unix, ServerEnds::Unix, None));
    assert!(!is_direct(ClientEnds::Unix, through, None));
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// P8.
#[test]
fn a_ping_that_changes_no_row_or_is_answered_by_another_session_ends_the_term() {
    let due = Pong {
        pid: 42,
        idle_timeout: milliseconds("10s"),
    };
    assert_eq!(judge(Some(due), due), Ok(()));
    assert_eq!(judge(None, due), Err(Ended::Gone));
    assert_eq!(judge(Some(Pong { pid: 43, ..due }), due), Err(Ended::Moved));
    for setting in ["0", "10001ms", "20s", "nonsense"] {
        let idle_timeout = milliseconds(setting);
        let pong = Pong {
            pid: 42,
            idle_timeout,
        };
        assert_eq!(judge(Some(pong), due), Err(Ended::Reset), "{setting}");
    }
    let unread = Pong {
        pid: 42,
        idle_timeout: None,
    };
    assert_eq!(judge(Some(unread), unread), Err(Ended::Reset));
}

/// P8.
#[test]
fn settings_are_read_as_the_server_writes_them() {
    for (setting, millis) in [
        ("0", 0),
        ("250ms", 250),
        ("1500", 1_500),
        ("10s", 10_000),
        ("5min", 300_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
    ] {
        assert_eq!(milliseconds(setting), Some(Duration::from_millis(millis)));
    }
    for setting in ["", "s", "-1", "10us", "10 s", "99999999999999999999d"] {
        assert_eq!(milliseconds(setting), None, "{setting}");
    }
}

/// P2: with a whole TTL, one silent holder and two frozen waiters cost three of them.
#[test]
fn a_silent_client_loses_the_lock_after_a_quarter_of_its_ttl() {
    assert_eq!(confirm(TTL), Duration::from_millis(2_500));
    assert_eq!(confirm(Duration::from_secs(1)), Duration::from_millis(250));
    assert_eq!(
        confirm(Duration::from_millis(200)),
        Duration::from_millis(250)
    );
}

/// P4, P8: two pings may be lost before a client counts as silent.
#[test]
fn a_client_is_heard_three_times_in_the_silence_that_is_allowed() {
    for (phase, allowed) in [(Phase::Confirming, confirm(TTL)), (Phase::Holding, TTL)] {
        let every = ping_every(TTL, phase);
        assert!(every * 3 <= allowed && every * 4 > allowed, "{phase:?}");
    }
}

/// P6, U5: a process that was frozen has probed nothing since.
#[test]
fn a_witness_is_claimed_only_while_it_is_heard() {
    let probe = Duration::from_secs(7);
    assert!(claims_witness(true, probe, probe));
    assert!(!claims_witness(
        true,
        probe + Duration::from_nanos(1),
        probe
    ));
    assert!(!claims_witness(false, Duration::ZERO, probe));
}

/// P1: the last ping that claims the witness is sent when it was heard a probe ago at most; trust
/// in it ends within a TTL.
#[test]
fn a_witness_outlasts_all_trust_that_was_renewed_while_it_was_claimed() {
    let probe = Duration::from_secs(7);
    for ttl in [Duration::from_millis(200), TTL, Duration::from_secs(30)] {
        let last_claim = probe;
        assert!(last_claim + ttl <= witness_silence(Duration::from_secs(30), probe));
    }
}

/// P1: a keepalive of four seconds would end both sessions of a holder that is cut off, and trusts.
#[test]
fn the_servers_keepalive_is_no_sooner_than_the_silence_it_bears() {
    for millis in [200, 1_000, 1_001, 10_000, 37_000] {
        let silence = Duration::from_millis(millis);
        assert!(Duration::from_secs(server_keepalive(silence)) >= silence);
    }
}

/// P6.
#[test]
fn a_witness_is_not_closed_while_the_beat_may_tell_of_it() {
    assert!(!may_close_witness(true, true));
    assert!(may_close_witness(true, false));
    assert!(may_close_witness(false, true));
}
