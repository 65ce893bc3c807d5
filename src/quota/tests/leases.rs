use std::sync::atomic::AtomicUsize;

use super::{
    super::{authority::Authority, lease::Margin},
    *,
};

const SECOND: u64 = 1_000_000;
const HERE: Storage = Storage::Here { replicas: 2 };
const AWAY: Storage = Storage::Away { replicas: 2 };

/// Replicas of one core each, that reach the authority at once or not at all. Its clock is ahead by an hour.
struct Gateway {
    authority: Authority,
    replicas: Vec<(Arc<Ledger>, Balances)>,
    questions: Vec<Question>,
}

impl Gateway {
    fn new(replicas: usize) -> Self {
        let replica = |_| {
            let ledger = Arc::new(Ledger::new(1, 100, || {}));
            ledger.storage(HERE, Tick(0));
            (ledger.clone(), Balances::new(ledger, 0))
        };
        Self { authority: Authority::default(), replicas: (0..replicas).map(replica).collect(), questions: Vec::new() }
    }

    /// Asks the authority what the replica has to ask, with an answer that takes so long.
    fn pump(&mut self, replica: usize, now: u64, takes: u64) -> usize {
        let ledger = &self.replicas[replica].0;
        let questions = ledger.questions(Tick(now), 100);
        let count = questions.len();
        for (ticket, question) in questions {
            let answer = self.authority.answer(replica as u64, &question, 3_600_000 + now / 1000);
            ledger.answered(ticket, Tick(now), answer.ok_or(Lost::Unanswered), Tick(now + takes));
            self.questions.push(question);
        }
        count
    }

    fn try_to(&self, replica: usize, limiter: &Arc<Limiter>, now: u64, since: Option<u64>) -> Decision {
        self.replicas[replica].1.spend(limiter, b"key", Tick(now), since.map(Tick), || Some(Box::new(|| {})))
    }

    /// Spends, and waits for the answer where that is to be done.
    fn spend(&mut self, replica: usize, limiter: &Arc<Limiter>, now: u64) -> Decision {
        let first = self.try_to(replica, limiter, now, None);
        if !matches!(first, Decision::Wait { .. }) {
            self.pump(replica, now, 0);
            return first;
        }
        self.pump(replica, now, 0);
        self.try_to(replica, limiter, now, Some(now))
    }

    fn admitted(&mut self, replica: usize, limiter: &Arc<Limiter>, now: u64, tries: usize) -> usize {
        (0..tries).filter(|_| is_admitted(self.spend(replica, limiter, now))).count()
    }

    fn storage(&self, state: Storage, now: u64) {
        self.replicas.iter().for_each(|(ledger, _)| ledger.storage(state, Tick(now)));
    }
}

fn shared(limits: &[(u64, u64)], on_storage_failure: OnStorageFailure) -> Arc<Limiter> {
    let limits: Vec<_> = limits.iter().map(|(maximum, period)| Limit { maximum: *maximum, period: *period }).collect();
    Arc::new(Limiter::new(7, limits, true, on_storage_failure, false))
}

#[test]
fn replicas_share_a_limit() {
    let (mut gateway, limiter) = (Gateway::new(3), shared(&[(10, SECOND)], OnStorageFailure::Deny));
    let admitted: usize = (0..30).map(|turn| gateway.admitted(turn % 3, &limiter, turn as u64 * 1000, 1)).sum();
    assert_eq!(admitted, 10);
    assert_eq!(gateway.admitted(0, &limiter, SECOND + 1000, 20), 10);
}

#[test]
fn an_exhausted_key_asks_once_in_a_window() {
    let (mut gateway, limiter) = (Gateway::new(2), shared(&[(1, SECOND)], OnStorageFailure::Deny));
    for window in 0..3 {
        let start = window * (SECOND + 5000);
        assert_eq!(gateway.admitted(0, &limiter, start, 1), 1);
        gateway.questions.clear();
        for now in (start..start + SECOND).step_by(10_000) {
            assert_eq!(gateway.admitted(0, &limiter, now, 1) + gateway.admitted(1, &limiter, now, 1), 0);
        }
        assert_eq!(gateway.questions.len(), 1, "the other replica's, in window {window}");
    }
}

#[test]
fn requests_that_wait_are_asked_for_at_once() {
    let (mut gateway, limiter) = (Gateway::new(1), shared(&[(3, SECOND)], OnStorageFailure::Deny));
    let woken = Arc::<AtomicUsize>::default();
    for _ in 0..5 {
        let woken = woken.clone();
        let bell = move || {
            Some(Box::new(move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }) as Wake)
        };
        let decision = gateway.replicas[0].1.spend(&limiter, b"key", Tick(0), None, bell);
        assert_eq!(decision, Decision::Wait { at_most_us: WAIT_MAX_US });
    }
    assert_eq!((gateway.pump(0, 0, 1000), gateway.questions[0].need), (1, 5));
    assert_eq!(woken.load(Ordering::Relaxed), 5);
    let admitted = (0..5).filter(|_| is_admitted(gateway.try_to(0, &limiter, 1000, Some(0)))).count();
    assert_eq!(admitted, 3);
}

#[test]
fn what_one_core_has_of_a_lease_another_spends() {
    let (mut gateway, limiter) = (Gateway::new(1), shared(&[(300, SECOND)], OnStorageFailure::Deny));
    let now = grow(&mut gateway, &limiter);
    let other = Balances::new(gateway.replicas[0].0.clone(), 0);
    let first = std::mem::replace(&mut gateway.replicas[0].1, other);
    assert_eq!(gateway.admitted(0, &limiter, now, 200), 100, "the first core has lent what it did not need");
    gateway.replicas[0].1 = first;
    assert_eq!(gateway.admitted(0, &limiter, now, 1), 0);
}

/// Grows a lease of replica 0 by 200 requests, and returns when it has been spent from last.
fn grow(gateway: &mut Gateway, limiter: &Arc<Limiter>) -> u64 {
    assert_eq!((0..200).map(|now| gateway.admitted(0, limiter, now * 500, 1)).sum::<usize>(), 200);
    200 * 500
}

#[test]
fn a_lease_that_nobody_needs_is_returned() {
    let (mut gateway, limiter) = (Gateway::new(2), shared(&[(1000, SECOND)], OnStorageFailure::Deny));
    let idle = grow(&mut gateway, &limiter);
    assert!(gateway.questions.len() < 20, "{} questions", gateway.questions.len());
    gateway.questions.clear();
    // An eighth of the window.
    gateway.replicas[0].0.sweep(Tick(idle));
    assert_eq!(gateway.pump(0, idle, 0), 0);
    for now in [idle + 125_000, idle + 250_000] {
        gateway.replicas[0].0.sweep(Tick(now));
        gateway.pump(0, now, 0);
    }
    let returned: u64 =
        gateway.questions.iter().filter_map(|question| question.returns.as_ref()).map(|r| r.count).sum();
    assert!(returned > 50, "{:?}", gateway.questions);
    assert_eq!(gateway.admitted(1, &limiter, idle + 250_000, 1000), 800);
}

#[test]
fn a_reload_gives_the_lease_back_and_keeps_the_count() {
    let (mut gateway, limiter) = (Gateway::new(2), shared(&[(1000, SECOND)], OnStorageFailure::Deny));
    let now = grow(&mut gateway, &limiter);
    let lowered = shared(&[(210, SECOND)], OnStorageFailure::Deny);
    assert_eq!(gateway.admitted(0, &lowered, now, 100) + gateway.admitted(1, &lowered, now, 100), 10);
    let raised = shared(&[(250, SECOND), (1000, 2 * SECOND)], OnStorageFailure::Deny);
    assert_eq!(gateway.admitted(1, &raised, now, 100) + gateway.admitted(0, &raised, now, 100), 40);
}

#[test]
fn without_the_authority_leases_are_spent_and_then_a_share() {
    let (mut gateway, limiter) = (Gateway::new(2), shared(&[(1000, SECOND)], OnStorageFailure::Local));
    let now = grow(&mut gateway, &limiter);
    let returned = gateway.replicas[0].0.clone();
    gateway.storage(AWAY, now);
    let leased = gateway.admitted(0, &limiter, now, 2000);
    assert!((501..=1000 - 200 + 500).contains(&leased), "{leased}");
    assert_eq!(gateway.admitted(1, &limiter, now, 2000), 500);
    // The next windows of their own.
    assert_eq!(gateway.admitted(1, &limiter, now + SECOND - 1, 2000), 0);
    assert_eq!([0, 1].map(|replica| gateway.admitted(replica, &limiter, now + SECOND, 2000)), [500, 500]);
    // Back again, what is refused without is not refused any more.
    gateway.storage(HERE, now + SECOND);
    let admitted = [0, 1, 0].map(|replica| gateway.admitted(replica, &limiter, now + SECOND, 600));
    assert_eq!((admitted[0], admitted.iter().sum::<usize>()), (600, 1000));
    assert_eq!(returned.counts().unanswered, 0);
}

#[test]
fn a_window_sees_one_share_however_often_the_storage_comes_and_goes() {
    let (mut gateway, limiter) = (Gateway::new(1), shared(&[(4, SECOND)], OnStorageFailure::Local));
    gateway.storage(AWAY, 0);
    assert_eq!(gateway.admitted(0, &limiter, 0, 9), 2);
    gateway.storage(HERE, 600_000);
    // Not all of it, else the window would be known to be full.
    assert_eq!(gateway.admitted(0, &limiter, 600_000, 1), 1);
    gateway.storage(AWAY, 900_000);
    let admitted: usize = (900..1600).map(|now| gateway.admitted(0, &limiter, now * 1000, 1)).sum();
    assert_eq!(admitted, 0, "the authority's window has had the share before");
    assert!(gateway.admitted(0, &limiter, 2_700_000, 9) > 0);
}

#[test]
fn without_the_authority_all_or_none_are_admitted_where_that_is_wanted() {
    let mut gateway = Gateway::new(1);
    let (deny, allow) =
        (shared(&[(1, SECOND)], OnStorageFailure::Deny), shared(&[(1, SECOND)], OnStorageFailure::Allow));
    assert_eq!(gateway.admitted(0, &deny, 0, 2), 1);
    gateway.storage(AWAY, 1);
    assert!(!is_admitted(gateway.try_to(0, &deny, 2, None)), "that the window is full is known");
    assert_eq!(gateway.try_to(0, &deny, 2 * SECOND, None), Decision::Unavailable);
    assert_eq!(gateway.admitted(0, &allow, 2 * SECOND, 9), 9);
}

#[test]
fn nobody_waits_longer_than_for_a_quarter_of_a_second() {
    let (gateway, limiter) = (Gateway::new(1), shared(&[(4, SECOND)], OnStorageFailure::Local));
    assert_eq!(gateway.try_to(0, &limiter, 0, None), Decision::Wait { at_most_us: WAIT_MAX_US });
    assert_eq!(gateway.try_to(0, &limiter, 100_000, Some(0)), Decision::Wait { at_most_us: 150_000 });
    let decided = [0; 3].map(|since| is_admitted(gateway.try_to(0, &limiter, WAIT_MAX_US, Some(since))));
    assert_eq!(decided, [true, true, false], "its share");
    // For a moment the next ones do not wait for it again.
    let again = WAIT_MAX_US + SECOND;
    assert!(matches!(gateway.try_to(0, &limiter, again - 1, None), Decision::Refused(_)));
    assert_eq!(gateway.replicas[0].0.counts().unanswered, 4);
    assert!(matches!(gateway.try_to(0, &limiter, again, None), Decision::Wait { .. }));
}

#[test]
fn a_storage_that_is_slow_now_and_then_adds_one_share_to_what_it_grants() {
    let (mut gateway, limiter) = (Gateway::new(1), shared(&[(50, SECOND)], OnStorageFailure::Local));
    let mut admitted = 0;
    for turn in 0..40 {
        let now = turn * SECOND / 4;
        // Half of a window is granted, then an answer is missed, then the other half.
        let is_missed = turn % 4 == 1;
        for _ in 0..if is_missed { 60 } else { 25 } {
            let decision = match is_missed {
                true => gateway.try_to(0, &limiter, now, Some(now - WAIT_MAX_US)),
                false => gateway.spend(0, &limiter, now),
            };
            admitted += u64::from(is_admitted(decision));
        }
    }
    assert!(admitted <= 50 * 11, "{admitted} in 10 s");
}

#[test]
fn what_the_storage_refuses_is_decided_at_once() {
    let (gateway, limiter) = (Gateway::new(1), shared(&[(4, SECOND)], OnStorageFailure::Deny));
    let ledger = &gateway.replicas[0].0;
    assert!(matches!(gateway.try_to(0, &limiter, 0, None), Decision::Wait { .. }));
    let (ticket, _) = ledger.questions(Tick(0), 9).pop().expect("it asks");
    ledger.answered(ticket, Tick(0), Err(Lost::Refused), Tick(500));
    assert_eq!(gateway.try_to(0, &limiter, 500, Some(0)), Decision::Unavailable);
}

#[test]
fn who_cannot_wait_is_decided_at_once() {
    let (gateway, limiter) = (Gateway::new(1), shared(&[(1, SECOND)], OnStorageFailure::Deny));
    let decision = gateway.replicas[0].1.spend(&limiter, b"key", Tick(0), None, || None);
    assert_eq!(decision, Decision::Unavailable);
}

#[test]
fn a_lost_question_is_asked_again() {
    let (mut gateway, limiter) = (Gateway::new(1), shared(&[(1, SECOND)], OnStorageFailure::Deny));
    gateway.try_to(0, &limiter, 0, None);
    let (ticket, lost) = gateway.replicas[0].0.questions(Tick(0), 9).pop().expect("a question");
    gateway.replicas[0].0.answered(ticket, Tick(0), Err(Lost::Unanswered), Tick(500));
    assert_eq!(gateway.try_to(0, &limiter, 500, Some(0)), Decision::Wait { at_most_us: 20_000 });
    assert_eq!(gateway.pump(0, 20_499, 0), 0);
    assert!(matches!(gateway.try_to(0, &limiter, 20_500, Some(0)), Decision::Wait { .. }));
    assert_eq!(gateway.pump(0, 20_500, 0), 1);
    assert!(is_admitted(gateway.try_to(0, &limiter, 20_500, Some(0))));
    // Had the first one come all the same, and later, it would change nothing.
    assert_eq!(gateway.authority.answer(0, &lost, 3_600_021), None);
}

#[test]
fn an_answer_that_nobody_waits_for_any_more_is_left() {
    let (mut gateway, limiter) = (Gateway::new(1), shared(&[(2, SECOND)], OnStorageFailure::Deny));
    gateway.try_to(0, &limiter, 0, None);
    let (ticket, question) = gateway.replicas[0].0.questions(Tick(0), 9).pop().expect("a question");
    gateway.try_to(0, &limiter, 260_000, None);
    assert_eq!(gateway.pump(0, 260_000, 0), 1, "it is asked anew");
    let late = gateway.authority.answer(1, &question, 3_600_000).expect("of another replica");
    gateway.replicas[0].0.answered(ticket, Tick(0), Ok(late), Tick(300_000));
    assert_eq!(gateway.replicas[0].0.counts().late, 1);
    assert!(is_admitted(gateway.try_to(0, &limiter, 300_000, Some(260_000))));
    assert!(matches!(gateway.try_to(0, &limiter, 300_000, None), Decision::Wait { .. }));
}

#[test]
fn an_answer_grants_no_more_than_was_asked_for() {
    let (gateway, limiter) = (Gateway::new(1), shared(&[(9, SECOND)], OnStorageFailure::Deny));
    gateway.try_to(0, &limiter, 0, None);
    let ledger = &gateway.replicas[0].0;
    let (ticket, _) = ledger.questions(Tick(0), 9).pop().expect("a question");
    let stands = Stands { window: u64::MAX, used: u64::MAX, left_ms: u64::MAX };
    ledger.answered(ticket, Tick(0), Ok(Answer { granted: u64::MAX, limits: [stands].into() }), Tick(1));
    assert!(is_admitted(gateway.try_to(0, &limiter, 1, Some(0))));
    assert!(!is_admitted(gateway.try_to(0, &limiter, 2, None)));
}

#[test]
fn an_answer_that_its_window_does_not_outlive_is_none() {
    let (mut gateway, limiter) = (Gateway::new(1), shared(&[(9, 50_000)], OnStorageFailure::Local));
    gateway.try_to(0, &limiter, 0, None);
    gateway.pump(0, 0, 60_000);
    assert!(is_admitted(gateway.try_to(0, &limiter, 60_000, Some(0))), "of its share");
    assert_eq!(gateway.replicas[0].0.counts().unanswered, 1);
    // At the end of a window it is waited for the next one.
    let mut gateway = Gateway::new(2);
    gateway.admitted(1, &limiter, 0, 1);
    gateway.try_to(0, &limiter, 49_900, None);
    gateway.pump(0, 49_900, 200);
    assert_eq!(gateway.try_to(0, &limiter, 50_100, Some(49_900)), Decision::Wait { at_most_us: 1000 });
    assert!(matches!(gateway.try_to(0, &limiter, 51_100, Some(49_900)), Decision::Wait { .. }));
    gateway.pump(0, 51_100, 200);
    assert!(is_admitted(gateway.try_to(0, &limiter, 51_300, Some(49_900))));
    assert_eq!(gateway.replicas[0].0.counts().unanswered, 0);
}

#[test]
fn who_waits_looks_again_when_the_storage_goes() {
    let (gateway, limiter) = (Gateway::new(1), shared(&[(1, SECOND)], OnStorageFailure::Local));
    let woken = Arc::<AtomicUsize>::default();
    let rings = woken.clone();
    let bell = move || {
        Some(Box::new(move || {
            rings.fetch_add(1, Ordering::Relaxed);
        }) as Wake)
    };
    gateway.replicas[0].1.spend(&limiter, b"key", Tick(0), None, bell);
    gateway.storage(AWAY, 10);
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert!(is_admitted(gateway.try_to(0, &limiter, 10, Some(0))));
    assert!(gateway.replicas[0].0.questions(Tick(10), 9).is_empty());
}

#[test]
fn keys_that_the_authority_counts_make_room() {
    let ledger = Arc::new(Ledger::with(1, 10, 1, Margin::STATED, || {}));
    let limiter = shared(&[(1, SECOND)], OnStorageFailure::Deny);
    let (core, mut authority) = (Balances::new(ledger.clone(), 0), Authority::default());
    ledger.storage(HERE, Tick(0));
    let mut admitted = 0;
    for turn in 0..100 {
        let key = [turn % 50];
        core.spend(&limiter, &key, Tick(0), None, || Some(Box::new(|| {})));
        for (ticket, question) in ledger.questions(Tick(0), 9) {
            let answer = authority.answer(1, &question, 5);
            ledger.answered(ticket, Tick(0), answer.ok_or(Lost::Unanswered), Tick(0));
        }
        admitted += usize::from(is_admitted(core.spend(&limiter, &key, Tick(0), Some(Tick(0)), || None)));
    }
    assert_eq!(admitted, 50);
    let counts = ledger.counts();
    assert!(counts.keys <= 10 && counts.forgotten_early > 50 && counts.without_room == 0, "{counts:?}");
}

#[test]
fn a_key_that_has_a_lease_in_hand_makes_no_room() {
    let ledger = Arc::new(Ledger::with(1, 1, 1, Margin::STATED, || {}));
    let limiter = shared(&[(1, SECOND)], OnStorageFailure::Deny);
    let (core, mut authority) = (Balances::new(ledger.clone(), 0), Authority::default());
    ledger.storage(HERE, Tick(0));
    core.spend(&limiter, b"a", Tick(0), None, || Some(Box::new(|| {})));
    let (ticket, question) = ledger.questions(Tick(0), 9).pop().expect("it asks");
    ledger.answered(ticket, Tick(0), authority.answer(1, &question, 5).ok_or(Lost::Unanswered), Tick(0));
    // Another key comes before the one that has been woken.
    core.spend(&limiter, b"b", Tick(0), None, || Some(Box::new(|| {})));
    assert!(is_admitted(core.spend(&limiter, b"a", Tick(0), Some(Tick(0)), || None)));
    assert_eq!(ledger.counts().forgotten_early, 0);
}

#[test]
fn the_standing_counts_what_all_replicas_had_at_the_last_answer() {
    let limits = [Limit { maximum: 5, period: SECOND }];
    let limiter = Arc::new(Limiter::new(7, limits, true, OnStorageFailure::Deny, true));
    let mut gateway = Gateway::new(2);
    let mut said = Vec::new();
    for (replica, now) in [(0, 0), (1, 1000), (0, 2000), (1, 3000), (0, 4000), (0, 5000)] {
        said.push(match gateway.spend(replica, &limiter, now) {
            Decision::Admitted(Standing { remaining, reset_ms, .. }) => (true, remaining, reset_ms),
            Decision::Refused(Standing { remaining, reset_ms, .. }) => (false, remaining, reset_ms),
            other => panic!("{other:?}"),
        });
    }
    let remaining: Vec<_> = said.iter().map(|(admitted, remaining, _)| (*admitted, *remaining)).collect();
    assert_eq!(remaining.first(), Some(&(true, 4)));
    assert_eq!(said.iter().filter(|(admitted, ..)| *admitted).count(), 5);
    assert!(said.iter().all(|(_, remaining, reset_ms)| *remaining <= 4 && (995..=1000).contains(reset_ms)), "{said:?}");
}
