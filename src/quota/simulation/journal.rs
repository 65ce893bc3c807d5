//! What has happened in a history, by the true clock, and whether it was right.
//!
//! A window is what the authority says it is: from the tick at which it granted the first of it to the tick at which its clock
//! ends it. What counts is when requests were admitted, and not what anybody thinks that they were admitted from.

use std::collections::BTreeMap;

use crate::quota::{Answer, Field, Limit, Question};

#[derive(Default)]
pub struct Journal {
    /// Of each key, in order.
    admitted: BTreeMap<u64, Vec<u64>>,
    windows: Vec<Window>,
    /// When a replica had to do without the authority: key, from, until.
    without: Vec<Without>,
    losses: Vec<u64>,
    /// Of a replica: then it does not know its own windows any more.
    crashes: Vec<(usize, u64)>,
    refused: Vec<Refused>,
    pub wrong: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Window {
    pub key: u64,
    pub field: Field,
    started_ms: u64,
    pub opened: u64,
    /// Exclusive.
    pub ends: u64,
    /// The largest that held while it was open.
    maximum: u64,
    full: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Without {
    pub replica: usize,
    pub from: u64,
    pub until: u64,
    /// Perhaps its own window had begun before.
    pub straddles: bool,
}

struct Refused {
    key: u64,
    at: u64,
}

/// For a history as a whole.
pub struct Rules {
    pub limits: Vec<Vec<Limit>>,
    pub replicas: u64,
    /// There is room for all keys.
    pub has_room: bool,
    /// Nothing is admitted without the authority.
    pub denies: bool,
    /// Nothing fails: requests are refused for full windows alone.
    pub is_calm: bool,
}

impl Rules {
    /// The largest maximum that ever holds for a limit.
    fn largest(&self, field: Field) -> u64 {
        let of = |limits: &Vec<Limit>| {
            let mut same = limits.iter().filter(|limit| limit.period == field.period_ms * 1000);
            same.nth(field.ordinal as usize).map_or(0, |limit| limit.maximum)
        };
        self.limits.iter().map(of).max().unwrap_or_default()
    }
}

impl Journal {
    pub fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    pub fn admits(&mut self, key: u64, at: u64) {
        self.admitted.entry(key).or_default().push(at);
    }

    pub fn refuses(&mut self, key: u64, at: u64) {
        self.refused.push(Refused { key, at });
    }

    pub fn is_without(&mut self, without: Without) {
        self.without.push(without);
    }

    pub fn crashes(&mut self, replica: usize, at: u64) {
        self.crashes.push((replica, at));
    }

    pub fn loses(&mut self, at: u64) {
        self.losses.push(at);
    }

    /// What the authority has answered. `offset`: how far its clock is before the true one. Returns windows that began.
    pub fn answers(&mut self, key: u64, question: &Question, answer: &Answer, at: u64, offset: u64) -> Vec<Window> {
        let mut began = Vec::new();
        for (asked, stands) in question.limits.iter().zip(&answer.limits).filter(|(_, stands)| stands.left_ms > 0) {
            let is_it = |window: &&mut Window| {
                (window.key, window.field, window.started_ms) == (key, asked.field, stands.window)
            };
            let full = stands.used >= asked.maximum;
            match self.windows.iter_mut().rev().find(is_it) {
                Some(window) => {
                    window.maximum = window.maximum.max(asked.maximum);
                    window.full |= full;
                }
                None => {
                    let ends = (stands.window + asked.field.period_ms) * 1000 - offset;
                    let (field, maximum) = (asked.field, asked.maximum);
                    began.push(Window { key, field, started_ms: stands.window, opened: at, ends, maximum, full });
                }
            }
        }
        self.windows.extend(began.iter().cloned());
        began
    }

    /// Whether any window has admitted too much, and every request was admitted by one.
    pub fn judge(&mut self, rules: &Rules) {
        let mut wrong = Vec::new();
        self.windows.iter().for_each(|window| self.judge_window(window, rules, &mut wrong));
        for (key, admitted) in &self.admitted {
            let mut last = None;
            for at in admitted.iter().filter(|at| self.is_with(**at, rules)) {
                if last != Some(*at) {
                    self.judge_admission(*key, *at, rules, &mut wrong);
                }
                last = Some(*at);
            }
        }
        if rules.is_calm {
            self.refused.iter().for_each(|refused| self.judge_refusal(refused, &mut wrong));
        }
        self.wrong.extend(wrong);
    }

    /// Whether all replicas had the authority then.
    fn is_with(&self, at: u64, rules: &Rules) -> bool {
        rules.denies || !self.without.iter().any(|without| (without.from..=without.until).contains(&at))
    }

    /// How many requests were admitted while a window was open.
    fn within(&self, window: &Window) -> u64 {
        let times = self.admitted.get(&window.key).map_or(&[][..], |times| times);
        let before = |end: u64| times.partition_point(|at| *at < end) as u64;
        before(window.ends) - before(window.opened)
    }

    /// What each window has admitted that had ended by then.
    pub fn used(&self, until: u64) -> Vec<u64> {
        self.windows.iter().filter(|window| window.ends <= until).map(|window| self.within(window)).collect()
    }

    fn judge_window(&self, window: &Window, rules: &Rules, wrong: &mut Vec<String>) {
        let Window { opened, ends, maximum, field, .. } = window;
        let within = self.within(window);
        let period = field.period_ms * 1000;
        let losses = self.losses.iter().filter(|at| (opened.saturating_sub(period)..*ends).contains(*at)).count();
        let mut most = maximum + rules.largest(*field) * losses as u64;
        if !rules.denies {
            let share = (rules.largest(*field) / rules.replicas).max(1);
            most += (0..rules.replicas)
                .map(|replica| share * self.local_windows(replica as usize, window, rules))
                .sum::<u64>();
        }
        if within > most {
            wrong.push(format!("{within} were admitted, of {most} at the most, in {window:?}"));
        }
    }

    /// As many windows of its own a replica may have had in this one: one where it lost the authority in it, and two, of which
    /// one ended and one began, where it had none when the window opened. Another one where its keys
    /// share one, and got one of their own while the authority was there.
    fn local_windows(&self, replica: usize, window: &Window, rules: &Rules) -> u64 {
        let touching = self.without.iter().filter(|without| {
            without.replica == replica && without.from < window.ends && without.until >= window.opened
        });
        let crashes = self.crashes.iter().filter(|(crashed, at)| *crashed == replica && *at < window.ends);
        let most = touching.map(|without| if without.straddles || without.from < window.opened { 2 } else { 1 }).max();
        most.map_or(0, |most| most + crashes.count() as u64 + u64::from(!rules.has_room))
    }

    fn judge_admission(&self, key: u64, at: u64, rules: &Rules, wrong: &mut Vec<String>) {
        let is_open = |window: &Window| window.key == key && (window.opened..window.ends).contains(&at);
        let open = self.windows.iter().filter(|window| is_open(window)).count();
        // Several limits of one period have a window each.
        if open < rules.limits[0].len() {
            wrong.push(format!("{open} windows of key {key} were open at {at}, when a request was admitted"));
        }
    }

    fn judge_refusal(&self, refused: &Refused, wrong: &mut Vec<String>) {
        let Refused { key, at } = *refused;
        // It is remembered until it surely is over: with the way of the message and the clock's drift.
        let slack = |window: &Window| 5_000 + (window.ends - window.opened) / 500;
        let explains = |window: &&Window| {
            window.key == key && window.full && (window.opened..window.ends + slack(window)).contains(&at)
        };
        if !self.windows.iter().any(|window| explains(&window)) {
            wrong.push(format!("key {key} was refused at {at}, and no window was full"));
        }
    }
}
