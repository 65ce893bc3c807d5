//! What a ledger asks the authority, what it answers, and the rule by which it does.
//!
//! [`Authority`] is the rule in Rust. It is the specification of the script that Redis runs, and what the simulation plays
//! against; both are held to it. One account per key holds all limits of the key, so that one question takes from all of them
//! or from none, and an answer is atomic. At the authority an account is
//!
//! ```text
//! field                        value
//! "w" PERIOD_MS "." ORDINAL    START_MS ":" USED     a window: when it began by the authority's clock, and what is granted of it
//! "s" REPLICA                  SEQUENCE              the replica's last question
//! ```
//!
//! and may be forgotten as soon as the last of its windows has ended, for then nothing in it means anything.
//!
//! A window is open while `START_MS <= now < START_MS + PERIOD_MS`, and also while the clock has gone back behind its start by
//! at most a period: so a fail-over to a machine whose clock is a little behind stretches windows, and admits nothing twice.
//!
//! To answer a question, in this order:
//!
//! 1. `sequence` at most the replica's last one: stale. Nothing changes, and nothing is granted.
//! 2. The replica's last sequence is this one.
//! 3. `returns`: each of its windows that is open and began at the very same time has `count` less used, at least nought.
//! 4. `free` is the least of `maximum - used` over the limits (nought where more is used), a window that is not open having
//!    nothing used. Where `need` is nought and any window is not open, nothing is granted: only a request opens windows. Else
//!    `min(free, max(need, min(need + want, free / share)))` is granted, divided with the rest dropped.
//! 5. Where anything is granted, windows that are not open begin now, with nothing used, and each has as much more used.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use super::Limit;

/// What a replica wants of one key. It is asked once; asked again it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The account's name at the storage, behind the gateway's prefix: printable where the key is.
    pub key: Arc<[u8]>,
    /// Larger than in any earlier question of this replica (of this run of it: one that restarts is another).
    pub sequence: u64,
    /// All limits of the key, one at least, with different fields.
    pub limits: Arc<[Asked]>,
    /// What the replica was granted and will never spend.
    pub returns: Option<Returned>,
    /// So many requests wait for the answer. Only where there are any may it open windows.
    pub need: u64,
    /// So many more are expected soon.
    pub want: u64,
    /// What is granted ahead of need is at most so large a part of what is left; 1 at least.
    pub share: u64,
}

/// Under which name a limit is counted: a changed maximum keeps the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field {
    pub period_ms: u64,
    /// Among the key's limits of this period, from 0.
    pub ordinal: u32,
}

/// `60000.0`: the period in milliseconds and the ordinal.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.period_ms, self.ordinal)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub field: Field,
    pub maximum: u64,
}

/// Granted of these windows, all at once. A window is known by when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    pub windows: Box<[(Field, u64)]>,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub granted: u64,
    /// One for each limit of the question, in its order.
    pub limits: Box<[Stands]>,
}

/// How a window stands after the grant. All is nought where it is not open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stands {
    /// When it began, by the authority's clock, in milliseconds.
    pub window: u64,
    pub used: u64,
    /// Until it ends: `window + period_ms - now`.
    pub left_ms: u64,
}

/// No answer has come, and none will: what was asked may have happened or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// None has come, and none will.
    Unanswered,
    /// The storage says that it cannot do it. It would say so again.
    Refused,
}

/// The accounts of all keys.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    accounts: HashMap<Arc<[u8]>, Account>,
}

#[derive(Clone, Debug, Default)]
struct Account {
    windows: BTreeMap<Field, Window>,
    sequences: BTreeMap<u64, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    started_ms: u64,
    used: u64,
}

impl Authority {
    /// Answers a question of this replica, as of now by the authority's clock. None where it is stale, which the replica is to
    /// take for [`Lost`].
    pub fn answer(&mut self, replica: u64, question: &Question, now_ms: u64) -> Option<Answer> {
        self.accounts.entry(question.key.clone()).or_default().answer(replica, question, now_ms)
    }

    /// Forgets the accounts whose windows have all ended.
    pub fn expire(&mut self, now_ms: u64) {
        self.accounts.retain(|_, account| account.windows.iter().any(|(field, window)| window.is_open(*field, now_ms)));
    }
}

impl Account {
    fn answer(&mut self, replica: u64, question: &Question, now_ms: u64) -> Option<Answer> {
        let last = self.sequences.entry(replica).or_default();
        if question.sequence <= *last {
            return None;
        }
        *last = question.sequence;
        self.windows.retain(|field, window| window.is_open(*field, now_ms));
        question.returns.iter().for_each(|returned| self.take_back(returned));
        let granted = self.grantable(question);
        if granted > 0 {
            for Asked { field, .. } in question.limits.iter() {
                let window = self.windows.entry(*field).or_insert(Window { started_ms: now_ms, used: 0 });
                window.used += granted;
            }
        }
        let limits = question.limits.iter().map(|limit| self.stands(limit.field, now_ms)).collect();
        Some(Answer { granted, limits })
    }

    fn take_back(&mut self, returned: &Returned) {
        for (field, started_ms) in &returned.windows {
            if let Some(window) = self.windows.get_mut(field).filter(|window| window.started_ms == *started_ms) {
                window.used = window.used.saturating_sub(returned.count);
            }
        }
    }

    fn grantable(&self, question: &Question) -> u64 {
        let Question { limits, need, want, share, .. } = question;
        if *need == 0 && limits.iter().any(|limit| !self.windows.contains_key(&limit.field)) {
            return 0;
        }
        let free = |limit: &Asked| {
            let used = self.windows.get(&limit.field).map_or(0, |window| window.used);
            limit.maximum.saturating_sub(used)
        };
        let free = limits.iter().map(free).min().unwrap_or_default();
        let ahead = need.saturating_add(*want).min(free / share.max(&1));
        free.min(ahead.max(*need))
    }

    fn stands(&self, field: Field, now_ms: u64) -> Stands {
        self.windows.get(&field).map_or(Stands::default(), |window| Stands {
            window: window.started_ms,
            used: window.used,
            left_ms: window.started_ms + field.period_ms - now_ms,
        })
    }
}

impl Window {
    fn is_open(&self, field: Field, now_ms: u64) -> bool {
        let Self { started_ms, .. } = *self;
        now_ms < started_ms + field.period_ms && started_ms <= now_ms + field.period_ms
    }
}

/// These limits as they are asked for.
pub(super) fn asked(limits: &[Limit]) -> Arc<[Asked]> {
    let ordinal = |at: usize| limits[..at].iter().filter(|other| other.period == limits[at].period).count() as u32;
    let asked = limits.iter().enumerate().map(|(at, limit)| Asked {
        field: Field { period_ms: limit.period.div_ceil(1000), ordinal: ordinal(at) },
        maximum: limit.maximum,
    });
    asked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Field = Field { period_ms: 1000, ordinal: 0 };
    const MINUTE: Field = Field { period_ms: 60_000, ordinal: 0 };

    /// Answers questions of replica 1 about one key, with sequences of their own.
    struct Asking {
        authority: Authority,
        sequence: u64,
        limits: Arc<[Asked]>,
    }

    impl Asking {
        fn new(limits: &[(Field, u64)]) -> Self {
            let limits = limits.iter().map(|(field, maximum)| Asked { field: *field, maximum: *maximum }).collect();
            Self { authority: Authority::default(), sequence: 0, limits }
        }

        fn question(&mut self, need: u64, want: u64, share: u64) -> Question {
            self.sequence += 1;
            let (sequence, limits) = (self.sequence, self.limits.clone());
            Question { key: Arc::from(*b"key"), sequence, limits, returns: None, need, want, share }
        }

        /// What is granted, and window, used and left of each limit.
        fn ask(&mut self, question: &Question, now_ms: u64) -> (u64, Vec<(u64, u64, u64)>) {
            let answer = self.authority.answer(1, question, now_ms).expect("not stale");
            let limits = answer.limits.iter().map(|limit| (limit.window, limit.used, limit.left_ms));
            (answer.granted, limits.collect())
        }

        fn need(&mut self, need: u64, now_ms: u64) -> (u64, Vec<(u64, u64, u64)>) {
            let question = self.question(need, 0, 1);
            self.ask(&question, now_ms)
        }

        fn give_back(&mut self, windows: &[(Field, u64)], count: u64, now_ms: u64) -> (u64, Vec<(u64, u64, u64)>) {
            let returns = Some(Returned { windows: windows.into(), count });
            let question = Question { returns, ..self.question(0, 0, 1) };
            self.ask(&question, now_ms)
        }
    }

    #[test]
    fn a_window_begins_with_what_is_needed_and_ends_a_period_later() {
        let mut asking = Asking::new(&[(SECOND, 3)]);
        assert_eq!(asking.need(2, 500), (2, vec![(500, 2, 1000)]));
        assert_eq!(asking.need(2, 1499), (1, vec![(500, 3, 1)]));
        assert_eq!(asking.need(1, 1499), (0, vec![(500, 3, 1)]));
        assert_eq!(asking.need(5, 1500), (3, vec![(1500, 3, 1000)]));
    }

    #[test]
    fn what_is_not_needed_yet_opens_nothing_and_is_a_part_of_what_is_left() {
        let mut asking = Asking::new(&[(SECOND, 100)]);
        let grants = [
            (0, 10, 1, 0, 0),
            (1, 0, 4, 0, 1),
            (1, 10, 4, 0, 11),
            (0, 1000, 4, 0, 22),
            (1, 1000, 4, 0, 16),
            (40, 1000, 4, 0, 40),
            (0, 1000, 11, 0, 0),
            (11, 0, 11, 0, 10),
            (0, 10, 1, 1000, 0),
        ];
        for (need, want, share, now_ms, granted) in grants {
            let question = asking.question(need, want, share);
            assert_eq!(asking.ask(&question, now_ms).0, granted, "need {need}, want {want}, share {share}");
        }
    }

    #[test]
    fn all_limits_or_none() {
        let mut asking = Asking::new(&[(SECOND, 2), (MINUTE, 3)]);
        assert_eq!(asking.need(5, 0), (2, vec![(0, 2, 1000), (0, 2, 60_000)]));
        assert_eq!(asking.need(5, 1000), (1, vec![(1000, 1, 1000), (0, 3, 59_000)]));
        // What the longer one refuses opens no window of the shorter one.
        assert_eq!(asking.need(5, 2000), (0, vec![(0, 0, 0), (0, 3, 58_000)]));
    }

    #[test]
    fn what_is_stale_changes_nothing() {
        let mut asking = Asking::new(&[(SECOND, 3)]);
        let (first, second) = (asking.question(1, 0, 1), asking.question(1, 0, 1));
        assert_eq!(asking.ask(&second, 0).0, 1);
        assert_eq!([&first, &second].map(|stale| asking.authority.answer(1, stale, 0)), [None, None]);
        assert_eq!(asking.authority.answer(2, &first, 0).map(|answer| answer.granted), Some(1), "of another replica");
        assert_eq!(asking.need(5, 0), (1, vec![(0, 3, 1000)]));
    }

    #[test]
    fn a_return_counts_in_the_windows_that_it_is_of() {
        let mut asking = Asking::new(&[(SECOND, 5), (MINUTE, 9)]);
        assert_eq!(asking.need(5, 7), (5, vec![(7, 5, 1000), (7, 5, 60_000)]));
        assert_eq!(asking.give_back(&[(SECOND, 7), (MINUTE, 7)], 2, 8), (0, vec![(7, 3, 999), (7, 3, 59_999)]));
        assert_eq!(asking.need(1, 1007), (1, vec![(1007, 1, 1000), (7, 4, 59_000)]));
        assert_eq!(asking.give_back(&[(SECOND, 7), (MINUTE, 7)], 3, 1008), (0, vec![(1007, 1, 999), (7, 1, 58_999)]));
        assert_eq!(asking.give_back(&[(SECOND, 1007)], 100, 1009), (0, vec![(1007, 0, 998), (7, 1, 58_998)]));
    }

    #[test]
    fn a_changed_maximum_keeps_the_count() {
        let mut asking = Asking::new(&[(SECOND, 5)]);
        assert_eq!(asking.need(4, 0).0, 4);
        asking.limits = Asking::new(&[(SECOND, 3)]).limits;
        assert_eq!(asking.need(1, 1), (0, vec![(0, 4, 999)]));
        asking.limits = Asking::new(&[(SECOND, 6), (MINUTE, 6)]).limits;
        assert_eq!(asking.need(9, 2), (2, vec![(0, 6, 998), (2, 2, 60_000)]));
    }

    #[test]
    fn a_clock_that_goes_back_a_little_stretches_a_window() {
        let mut asking = Asking::new(&[(SECOND, 1)]);
        assert_eq!(asking.need(1, 5000), (1, vec![(5000, 1, 1000)]));
        assert_eq!(asking.need(1, 4000), (0, vec![(5000, 1, 2000)]));
        assert_eq!(asking.need(1, 3999), (1, vec![(3999, 1, 1000)]));
    }

    #[test]
    fn accounts_are_forgotten_when_their_windows_have_ended() {
        let mut asking = Asking::new(&[(SECOND, 1), (MINUTE, 5)]);
        assert_eq!(asking.need(1, 0).0, 1);
        asking.authority.expire(59_999);
        assert_eq!(asking.authority.accounts.len(), 1);
        asking.authority.expire(60_000);
        assert_eq!(asking.authority.accounts.len(), 0);
    }

    #[test]
    fn fields_of_equal_periods_are_told_apart() {
        let limit = |maximum, period| Limit { maximum, period };
        let asked = asked(&[limit(1, 1_000_000), limit(2, 50_000), limit(3, 1_000_000), limit(4, 1)]);
        let fields: Vec<_> = asked.iter().map(|asked| (asked.field.to_string(), asked.maximum)).collect();
        let expected = [("1000.0", 1), ("50.0", 2), ("1000.1", 3), ("1.0", 4)];
        assert_eq!(fields, expected.map(|(field, maximum)| (field.to_owned(), maximum)));
    }
}
