use rand::{RngExt, SeedableRng};

use super::*;
use crate::lock::{Claim, Holder};
use crate::numbers::{ClaimId, Instance};

const TOKEN: FencingToken = FencingToken::new(7);

fn at(seconds: f64) -> Moment {
    Moment::since_origin(Duration::from_secs_f64(seconds))
}

fn config(patience: Patience) -> Config {
    let trust = Trust::default();
    let claim = Claim::new(
        "key".into(),
        "a".into(),
        Instance::from_random(1),
        ClaimId::new(1),
        trust.ttl(),
    );
    Config {
        claim,
        trust,
        patience,
        wakes: true,
        stall_limit: None,
    }
}

fn campaign(config: Config) -> Lease {
    Lease::new(config, at(0.0), StdRng::seed_from_u64(1))
}

fn request_of(actions: &[Action]) -> u64 {
    let mut requests = actions.iter().filter_map(|action| match action {
        Action::Acquire { request, .. }
        | Action::Renew { request, .. }
        | Action::Release { request, .. } => Some(*request),
        _ => None,
    });
    requests.next_back().expect("a request among the actions")
}

/// Asked at 0, granted at 0: trusted until 9.
fn leader() -> Lease {
    leader_of(config(Patience::Wait))
}

fn leader_of(config: Config) -> Lease {
    let mut lease = campaign(config);
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    let actions = lease.step(
        at(0.0),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    assert_eq!(
        actions,
        [Action::Elected {
            token: TOKEN,
            until: at(9.0)
        }]
    );
    lease
}

fn holder() -> Holder {
    Holder::new("b".into(), Instance::from_random(2), FencingToken::new(40))
        .free_in(Duration::from_secs(5))
}

/// T1.
#[test]
fn trust_is_counted_from_the_request_however_late_the_answer() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    let actions = lease.step(
        at(3.0),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    assert_eq!(
        actions,
        [Action::Elected {
            token: TOKEN,
            until: at(9.0)
        }]
    );
}

/// T1, W4: the grant may be the answer to the first of two acquires.
#[test]
fn trust_is_counted_from_the_first_acquire_whose_outcome_is_unknown() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    let failed = Event::Failed {
        request,
        kind: ErrorKind::Indeterminate,
    };
    assert_eq!(lease.step(at(3.0), failed), [Action::WaitTurn]);
    let request = request_of(&lease.step(lease.deadline().unwrap(), Event::Tick));
    let actions = lease.step(
        at(4.0),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    assert_eq!(
        actions,
        [Action::Elected {
            token: TOKEN,
            until: at(9.0)
        }]
    );
}

/// An acquire that was delayed in the network may be granted after a later one was refused.
#[test]
fn a_refusal_does_not_make_an_earlier_unanswered_acquire_forgotten() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    drop(lease.step(
        at(3.0),
        Event::Failed {
            request,
            kind: ErrorKind::Indeterminate,
        },
    ));
    let request = request_of(&lease.step(at(3.1), Event::Tick));
    drop(lease.step(
        at(3.2),
        Event::Held {
            request,
            holder: holder(),
        },
    ));
    let request = request_of(&lease.step(at(5.0), Event::Turn));
    let actions = lease.step(
        at(5.1),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    assert_eq!(
        actions,
        [Action::Elected {
            token: TOKEN,
            until: at(9.0)
        }]
    );
}

#[test]
fn an_acquire_that_was_refused_for_certain_no_longer_counts() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    drop(lease.step(
        at(0.1),
        Event::Held {
            request,
            holder: holder(),
        },
    ));
    let request = request_of(&lease.step(at(2.0), Event::Turn));
    let actions = lease.step(
        at(2.1),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    assert_eq!(
        actions,
        [Action::Elected {
            token: TOKEN,
            until: at(11.0)
        }]
    );
}

/// T3.
#[test]
fn a_grant_that_comes_after_its_window_is_trusted_only_once_renewed() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    let actions = lease.step(
        at(20.0),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    let request = request_of(&actions);
    assert!(
        matches!(actions[..], [Action::Renew { token: TOKEN, .. }]),
        "{actions:?}"
    );
    let actions = lease.step(at(21.0), Event::Renewed { request });
    assert_eq!(
        actions,
        [Action::Elected {
            token: TOKEN,
            until: at(29.0)
        }]
    );
}

/// T2, T5.
#[test]
fn a_term_ends_at_the_end_of_trust_and_no_late_answer_revives_it() {
    let mut lease = leader();
    let request = request_of(&lease.step(at(4.0), Event::Tick));
    let lost = [Action::Lose {
        cause: LostCause::Expired,
    }];
    assert_eq!(lease.step(at(9.0), Event::Renewed { request }), lost);
    assert_eq!(lease.step(at(9.1), Event::Renewed { request }), []);
}

/// T6.
#[test]
fn a_leader_renews_every_third_of_its_ttl_and_trusts_from_the_renewals_request() {
    let mut lease = leader();
    let due = lease.deadline().unwrap();
    assert!(due > at(3.3) && due < at(3.4));
    let actions = lease.step(due, Event::Tick);
    let request = request_of(&actions);
    let actions = lease.step(at(5.0), Event::Renewed { request });
    assert_eq!(
        actions,
        [Action::Trust {
            until: due + Duration::from_secs(9)
        }]
    );
}

/// T6.
#[test]
fn a_renewal_without_answer_is_asked_again_and_extends_nothing() {
    let mut lease = leader();
    let first = request_of(&lease.step(at(4.0), Event::Tick));
    let unknown = Event::Failed {
        request: first,
        kind: ErrorKind::Indeterminate,
    };
    assert_eq!(lease.step(at(7.0), unknown), []);
    let second = request_of(&lease.step(lease.deadline().unwrap(), Event::Tick));
    assert_eq!(
        lease.step(at(8.0), Event::Renewed { request: first }),
        [],
        "was given up"
    );
    assert!(
        matches!(lease.step(at(8.0), Event::Renewed { request: second })[..], [Action::Trust { until }] if until > at(16.0))
    );
}

/// E6, E18, W6: one `Lose` a term.
#[test]
fn a_lease_that_the_store_gave_away_is_lost_once_and_released_when_the_work_has_stopped() {
    let mut lease = leader();
    let request = request_of(&lease.step(at(4.0), Event::Tick));
    let lost = [Action::Lose {
        cause: LostCause::Superseded,
    }];
    assert_eq!(lease.step(at(4.1), Event::Gone { request }), lost);
    assert_eq!(lease.step(at(9.5), Event::Tick), []);
    let actions = lease.step(at(9.6), Event::WorkStopped);
    assert!(
        matches!(actions[..], [Action::Release { token: TOKEN, .. }]),
        "{actions:?}"
    );
}

/// W1.
#[test]
fn trust_ends_after_the_work_and_before_the_release() {
    let mut lease = leader();
    let actions = lease.step(at(1.0), Event::WorkStopped);
    assert!(
        matches!(
            actions[..],
            [
                Action::Lose {
                    cause: LostCause::Released
                },
                Action::Release { token: TOKEN, .. }
            ]
        ),
        "{actions:?}"
    );
    let released = Event::Released {
        request: request_of(&actions),
    };
    assert_eq!(
        lease.step(at(1.1), released),
        [Action::Finish(Outcome::Released)]
    );
}

/// W1, W2: renewals go on while the work drains, until its deadline.
#[test]
fn a_drain_is_renewed_through_and_cancelled_at_its_deadline() {
    let mut lease = leader();
    let drain = Event::Drain {
        within: Duration::from_secs(20),
        next: Some("b".into()),
    };
    assert_eq!(
        lease.step(at(1.0), drain),
        [Action::Drain { deadline: at(21.0) }]
    );
    for second in [4.0, 8.0, 12.0, 16.0] {
        let request = request_of(&lease.step(at(second), Event::Tick));
        drop(lease.step(at(second), Event::Renewed { request }));
    }
    let request = request_of(&lease.step(at(20.0), Event::Tick));
    drop(lease.step(at(20.0), Event::Renewed { request }));
    let overran = [Action::Lose {
        cause: LostCause::Overran,
    }];
    assert_eq!(lease.step(at(21.0), Event::Tick), overran);
    let actions = lease.step(at(21.1), Event::WorkStopped);
    assert!(
        matches!(&actions[..], [Action::Release { next: Some(next), .. }] if next.as_str() == "b")
    );
}

/// W1: nothing is released, and nothing renewed, under work that does not stop.
#[test]
fn work_that_never_stops_keeps_its_lease_from_being_released() {
    let mut lease = leader();
    drop(lease.step(
        at(1.0),
        Event::Drain {
            within: Duration::from_secs(2),
            next: None,
        },
    ));
    assert_eq!(
        lease.step(at(3.0), Event::Tick),
        [Action::Lose {
            cause: LostCause::Overran
        }]
    );
    assert_eq!(lease.step(at(1_000.0), Event::Tick), []);
    assert_eq!(lease.deadline(), None);
}

/// W3, E21.
#[test]
fn a_stalled_term_is_not_renewed_and_ends_within_the_limit_and_a_ttl() {
    let stall_limit = Some(Duration::from_secs(5));
    let mut lease = leader_of(Config {
        stall_limit,
        ..config(Patience::Wait)
    });
    let mut now = at(0.0);
    let lost = loop {
        now = now.max(lease.deadline().unwrap());
        let actions = lease.step(now, Event::Tick);
        if let [Action::Renew { request, .. }] = actions[..] {
            drop(lease.step(now, Event::Renewed { request }));
        } else if !actions.is_empty() {
            break actions;
        }
    };
    assert_eq!(
        lost,
        [Action::Lose {
            cause: LostCause::Stalled
        }]
    );
    assert!(now <= at(15.0), "{now:?}");
}

/// W3.
#[test]
fn a_stalled_term_is_saved_by_progress_before_trust_ends() {
    let stall_limit = Some(Duration::from_secs(2));
    let mut lease = leader_of(Config {
        stall_limit,
        ..config(Patience::Wait)
    });
    assert_eq!(lease.step(at(4.0), Event::Tick), []);
    assert_eq!(lease.step(at(4.5), Event::Progress { at: at(4.4) }), []);
    let actions = lease.step(lease.deadline().unwrap(), Event::Tick);
    assert!(matches!(actions[..], [Action::Renew { .. }]), "{actions:?}");
}

/// W4, E19.
#[test]
fn a_withdrawn_campaign_hands_back_a_grant_that_was_under_way() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    assert_eq!(lease.step(at(0.1), Event::Withdraw), []);
    let actions = lease.step(
        at(0.2),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    assert!(
        matches!(actions[..], [Action::Release { token: TOKEN, .. }]),
        "{actions:?}"
    );
}

/// W4, E19.
#[test]
fn a_withdrawn_campaign_asks_again_while_an_acquire_is_unanswered() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    drop(lease.step(
        at(3.0),
        Event::Failed {
            request,
            kind: ErrorKind::Indeterminate,
        },
    ));
    let actions = lease.step(at(3.0), Event::Withdraw);
    let request = request_of(&actions);
    let actions = lease.step(
        at(3.1),
        Event::Granted {
            request,
            token: TOKEN,
        },
    );
    assert!(
        matches!(actions[..], [Action::Release { token: TOKEN, .. }]),
        "{actions:?}"
    );
}

#[test]
fn a_withdrawn_campaign_that_asked_for_nothing_ends_at_once() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    assert_eq!(
        lease.step(
            at(0.1),
            Event::Held {
                request,
                holder: holder()
            }
        ),
        [Action::WaitTurn]
    );
    assert_eq!(
        lease.step(at(0.2), Event::Withdraw),
        [Action::Finish(Outcome::Withdrawn)]
    );
}

/// W4.
#[test]
fn a_settling_campaign_gives_up_when_any_forgotten_grant_has_expired() {
    let mut lease = campaign(config(Patience::Once));
    let mut actions = lease.step(at(0.0), Event::Tick);
    let mut now = at(0.0);
    while !matches!(actions[..], [Action::Finish(_)]) {
        let request = request_of(&actions);
        now = now + Duration::from_secs(3);
        let unknown = Event::Failed {
            request,
            kind: ErrorKind::Indeterminate,
        };
        actions = lease.step(now, unknown);
        if actions.is_empty() {
            now = now.max(lease.deadline().unwrap());
            actions = lease.step(now, Event::Tick);
        }
        assert!(now < at(20.0), "goes on for ever");
    }
    assert_eq!(actions, [Action::Finish(Outcome::Withdrawn)]);
}

#[test]
fn a_single_try_tells_who_holds_the_lease() {
    let mut lease = campaign(config(Patience::Once));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    let actions = lease.step(
        at(0.1),
        Event::Held {
            request,
            holder: holder(),
        },
    );
    assert_eq!(actions, [Action::Finish(Outcome::HeldBy(holder()))]);
}

/// I2: campaigns wait a quarantine out.
#[test]
fn a_quarantine_is_waited_out() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    let kind = ErrorKind::Quarantined {
        ends_within: Duration::from_secs(30),
    };
    let failed = Event::Failed { request, kind };
    assert_eq!(lease.step(at(0.1), failed), [Action::WaitTurn]);
    assert!(lease.deadline().unwrap() > at(30.1));
}

/// K1.
#[test]
fn a_campaign_asks_for_more_than_the_highest_token_it_has_seen() {
    let mut lease = campaign(config(Patience::Wait));
    let request = request_of(&lease.step(at(0.0), Event::Tick));
    drop(lease.step(
        at(0.1),
        Event::Held {
            request,
            holder: holder(),
        },
    ));
    let actions = lease.step(at(1.0), Event::Turn);
    assert!(
        matches!(actions[..], [Action::Acquire { floor, .. }] if floor == Some(FencingToken::new(40)))
    );
}

#[test]
fn hints_that_come_for_no_reason_do_not_make_a_hot_loop() {
    let mut lease = campaign(config(Patience::Wait));
    let mut request = request_of(&lease.step(at(0.0), Event::Tick));
    let (mut now, mut asked) = (at(0.0), 0);
    while now < at(4.0) {
        drop(lease.step(
            now,
            Event::Held {
                request,
                holder: holder(),
            },
        ));
        let mut actions = lease.step(now, Event::Turn);
        while actions.is_empty() {
            now = lease.deadline().unwrap();
            actions = lease.step(now, Event::Tick);
        }
        request = request_of(&actions);
        asked += 1;
        now = now + Duration::from_micros(100);
    }
    assert!(asked < 60, "asked {asked} times in four seconds");
}

/// P8: a holder whose session has ended need not wait for its next renewal to learn of it.
#[test]
fn an_alarm_renews_at_once_and_ends_nothing_by_itself() {
    let mut lease = leader();
    let request = request_of(&lease.step(at(1.0), Event::Alarm));
    assert_eq!(
        lease.step(at(1.0), Event::Gone { request }),
        [Action::Lose {
            cause: LostCause::Superseded
        }]
    );
    let mut lease = leader();
    let request = request_of(&lease.step(at(1.0), Event::Alarm));
    let actions = lease.step(at(1.1), Event::Renewed { request });
    assert_eq!(actions, [Action::Trust { until: at(10.0) }]);
}

#[test]
fn alarms_for_no_reason_do_not_make_a_hot_loop() {
    let mut lease = leader();
    let (mut now, mut asked) = (at(0.0), 0);
    while now < at(4.0) {
        let mut actions = lease.step(now, Event::Alarm);
        while actions.is_empty() {
            now = lease.deadline().unwrap();
            actions = lease.step(now, Event::Tick);
        }
        let request = request_of(&actions);
        drop(lease.step(now, Event::Renewed { request }));
        asked += 1;
        now = now + Duration::from_micros(100);
    }
    assert!(asked < 60, "asked {asked} times in four seconds");
}

/// H12's like for leases.
#[test]
fn a_release_without_answer_is_asked_again_until_the_lease_has_ended_by_itself() {
    let mut lease = leader();
    let mut actions = lease.step(at(1.0), Event::WorkStopped);
    let mut now = at(1.0);
    let mut tries = 0;
    while !matches!(actions[..], [Action::Finish(_)]) {
        tries += 1;
        let request = request_of(&actions);
        now = now + Duration::from_secs(1);
        let failed = Event::Failed {
            request,
            kind: ErrorKind::Unavailable,
        };
        actions = lease.step(now, failed);
        if actions.is_empty() {
            now = now.max(lease.deadline().unwrap());
            actions = lease.step(now, Event::Tick);
        }
    }
    assert!(tries > 2);
    assert!(
        matches!(actions[..], [Action::Finish(Outcome::Unconfirmed { by })] if by <= now && by > at(11.0))
    );
}

/// A thousand random histories against a plain model: a store that grants one lease for ttl, a
/// network that delays, loses and answers late. The leader's trust lies inside the store's lease.
#[test]
fn trust_lies_inside_the_stores_lease_whatever_the_network_does() {
    let mut terms = 0;
    for seed in 0..1_000 {
        let mut history = History::new(seed);
        history.run();
        terms += history.terms;
    }
    assert!(
        terms > 700,
        "only {terms} terms were held: the histories show nothing"
    );
}

struct History {
    random: StdRng,
    lease: Lease,
    now: Moment,
    /// The store: the token and end of the present grant.
    grant: Option<(FencingToken, Moment)>,
    tokens: u64,
    /// Requests and replies on their way, by arrival.
    requests: Vec<(Moment, Action)>,
    replies: Vec<(Moment, Event)>,
    trusted: Option<(FencingToken, Moment)>,
    terms: u32,
    losses: u32,
    finished: bool,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            lease: campaign(config(Patience::Wait)),
            now: at(0.0),
            grant: None,
            tokens: 0,
            requests: Vec::new(),
            replies: Vec::new(),
            trusted: None,
            terms: 0,
            losses: 0,
            finished: false,
        }
    }

    fn run(&mut self) {
        for _ in 0..400 {
            if self.finished {
                return;
            }
            self.now = self.now + self.span(1.5);
            self.store();
            self.network();
            match self.random.random_range(0..200) {
                0 => self.feed(Event::Withdraw),
                1 => self.feed(Event::Drain {
                    within: Duration::from_secs(5),
                    next: None,
                }),
                2 if self.trusted.is_some() => self.feed(Event::WorkStopped),
                3 => self.feed(Event::Turn),
                4 => self.feed(Event::Alarm),
                _ => self.feed(Event::Tick),
            }
            if let (Some((token, until)), grant) = (self.trusted, self.grant)
                && self.now < until
            {
                assert!(grant.is_some_and(|(held, end)| held == token && end > self.now));
            }
        }
    }

    fn span(&mut self, most: f64) -> Duration {
        let long = self.random.random_bool(0.1);
        let most = if long { most * 8.0 } else { most };
        Duration::from_secs_f64(self.random.random::<f64>() * most)
    }

    fn feed(&mut self, event: Event) {
        let actions = self.lease.step(self.now, event);
        self.lease.check().unwrap();
        for action in actions {
            match action {
                Action::Elected { token, until } => {
                    self.terms += 1;
                    assert!(self.terms == self.losses + 1, "a second term");
                    self.trusted = Some((token, until));
                }
                Action::Trust { until } => {
                    let (_, old) = self.trusted.as_mut().expect("trust is extended in a term");
                    assert!(until >= *old);
                    *old = until;
                }
                Action::Lose { .. } => {
                    self.losses += 1;
                    assert!(self.trusted.take().is_some(), "lost twice");
                }
                Action::Finish(_) => {
                    assert!(!self.finished && self.trusted.is_none());
                    self.finished = true;
                }
                Action::Release { .. } => {
                    assert!(self.trusted.is_none(), "released while trusted");
                    self.send(action);
                }
                Action::Acquire { .. } | Action::Renew { .. } => self.send(action),
                Action::Drain { .. } | Action::WaitTurn => {}
            }
        }
    }

    fn send(&mut self, action: Action) {
        let (Action::Acquire {
            request, deadline, ..
        }
        | Action::Renew {
            request, deadline, ..
        }
        | Action::Release {
            request, deadline, ..
        }) = action
        else {
            unreachable!("only requests are sent")
        };
        self.replies.push((
            deadline,
            Event::Failed {
                request,
                kind: ErrorKind::Indeterminate,
            },
        ));
        if self.random.random_bool(0.9) {
            let arrival = self.now + self.span(0.4);
            self.requests.push((arrival, action));
        }
    }

    /// Handles what has arrived, in order of arrival, at the time of arrival.
    fn store(&mut self) {
        self.requests.sort_by_key(|(arrival, _)| *arrival);
        while self
            .requests
            .first()
            .is_some_and(|(arrival, _)| *arrival <= self.now)
        {
            let (arrival, action) = self.requests.remove(0);
            self.grant = self.grant.filter(|(_, end)| *end > arrival);
            let ttl = Duration::from_secs(10);
            let reply = match action {
                Action::Acquire { request, .. } => {
                    let (token, _) = *self.grant.get_or_insert_with(|| {
                        self.tokens += 1;
                        (FencingToken::new(self.tokens), arrival + ttl)
                    });
                    Event::Granted { request, token }
                }
                Action::Renew { request, token, .. } => match &mut self.grant {
                    Some((held, end)) if *held == token => {
                        *end = arrival + ttl;
                        Event::Renewed { request }
                    }
                    _ => Event::Gone { request },
                },
                Action::Release { request, token, .. } => {
                    self.grant = self.grant.filter(|(held, _)| *held != token);
                    Event::Released { request }
                }
                _ => unreachable!("only requests are sent"),
            };
            if self.random.random_bool(0.9) {
                let back = arrival + self.span(0.4);
                self.replies.push((back, reply));
            }
        }
        self.grant = self.grant.filter(|(_, end)| *end > self.now);
    }

    fn network(&mut self) {
        self.replies.sort_by_key(|(arrival, _)| *arrival);
        while self
            .replies
            .first()
            .is_some_and(|(arrival, _)| *arrival <= self.now)
        {
            let (_, reply) = self.replies.remove(0);
            self.feed(reply);
        }
    }
}
