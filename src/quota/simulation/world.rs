//! One history: replicas, their authority and the network between them, moved on from event to event.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    journal::{Journal, Rules, Without},
    plan::{Fault, Machine, Plan, Plant},
    random::Random,
};
use crate::quota::{
    Answer, Balances, Decision, Ledger, Limiter, Lost, OnStorageFailure, Question, Storage, Tick, Ticket, WAIT_MAX_US,
    authority::Authority,
};

/// A question is sent with what the history knows of it.
#[derive(Clone)]
struct Message {
    replica: usize,
    /// Which start of the replica's asks.
    life: u64,
    question: Question,
    /// So many requests of its key waited at the replica.
    waiting: usize,
}

enum Event {
    Arrive {
        replica: usize,
        core: usize,
        key: u64,
    },
    /// The next request of a replica's own pace.
    Pace {
        replica: usize,
    },
    Retry {
        request: usize,
        attempt: u32,
    },
    Pump {
        replica: usize,
    },
    Sweep {
        replica: usize,
    },
    Asked(Message),
    Answered {
        message: Message,
        answer: Option<Answer>,
    },
    GiveUp {
        message: Message,
    },
    Notice {
        replica: usize,
        is_here: bool,
    },
    Fault(Fault),
    Restart {
        replica: usize,
    },
    Recover,
}

struct Replica {
    /// None while it is down.
    running: Option<Running>,
    life: u64,
    version: usize,
    /// True until then: nobody asks it.
    idle_until: u64,
    /// Its messages are lost until then.
    cut_until: u64,
    /// Since when it does without the authority.
    without_since: Option<u64>,
}

struct Running {
    ledger: Arc<Ledger>,
    cores: Vec<Balances>,
    rung: Arc<AtomicBool>,
    tickets: BTreeMap<u64, (Ticket, Tick)>,
}

struct Request {
    replica: usize,
    life: u64,
    core: usize,
    key: u64,
    attempt: u32,
    began: u64,
    waits_since: Option<Tick>,
    /// True, when it last was told to wait.
    waits_until: u64,
    is_over: bool,
}

/// Requests whose bells have rung, and at which of their attempts.
type Rung = Arc<Mutex<Vec<(usize, u32)>>>;

pub struct World {
    plan: Plan,
    random: Random,
    now: u64,
    numbered: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    waiting_events: BTreeMap<(u64, u64), Event>,
    replicas: Vec<Replica>,
    limiters: Vec<Arc<Limiter>>,
    authority: Authority,
    /// What it would be back to: once in a while a copy is taken.
    copies: Vec<(u64, Authority)>,
    is_down: bool,
    /// Its answers are late until then, by so much.
    slow_until: u64,
    slow_by: u64,
    requests: Vec<Request>,
    rung: Rung,
    pub journal: Journal,
    /// Of all that happened: what a history was about.
    pub seen: Seen,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub admitted: u64,
    pub refused: u64,
    pub unavailable: u64,
    pub questions: u64,
}

impl World {
    /// Plays the history of a plan to its end, and judges it.
    pub fn play(plan: Plan, seed: u64) -> Self {
        let limiter =
            |limits: &Vec<_>| Arc::new(Limiter::new(1, limits.clone(), true, plan.on_storage_failure, plan.tells));
        let mut world = Self {
            random: Random::new(seed ^ 0x5eed),
            now: 0,
            numbered: 0,
            events: BinaryHeap::new(),
            waiting_events: BTreeMap::new(),
            replicas: Vec::new(),
            limiters: plan.limits.iter().map(limiter).collect(),
            authority: Authority::default(),
            copies: Vec::new(),
            is_down: false,
            slow_until: 0,
            slow_by: 0,
            requests: Vec::new(),
            rung: Rung::default(),
            journal: Journal::default(),
            seen: Seen::default(),
            plan,
        };
        world.begin();
        while let Some(Reverse(next)) = world.events.pop() {
            world.now = next.0;
            let event = world.waiting_events.remove(&next).expect("it was put there");
            world.happen(event);
            world.ring();
        }
        world.end();
        world
    }

    fn begin(&mut self) {
        for (at, fault) in std::mem::take(&mut self.plan.faults) {
            self.at(at, Event::Fault(fault));
            self.plan.faults.push((at, fault));
        }
        for replica in 0..self.plan.replicas.len() {
            let (idle_until, cut_until) = (0, 0);
            let without_since = None;
            self.replicas.push(Replica { running: None, life: 0, version: 0, idle_until, cut_until, without_since });
            self.start(replica);
            self.notice(replica, true);
            let first = self.random.below(1 + self.plan.replicas[replica].pause);
            self.at(first, Event::Pace { replica });
        }
    }

    fn end(&mut self) {
        for replica in 0..self.replicas.len() {
            self.is_with_again(replica);
        }
        let undecided = self.requests.iter().filter(|request| !request.is_over && self.lives(request)).count();
        if undecided > 0 {
            self.journal.wrong(format!("{undecided} requests were never decided"));
        }
        self.journal.judge(&Rules {
            limits: self.plan.limits.clone(),
            replicas: self.plan.replicas.len() as u64,
            has_room: self.plan.keys_max as u64 >= self.plan.keys,
            denies: self.plan.on_storage_failure == OnStorageFailure::Deny,
            is_calm: self.is_calm(),
        });
    }

    /// Nothing fails, and nothing changes.
    fn is_calm(&self) -> bool {
        let is_calm = |fault: &Fault| matches!(fault, Fault::Idle { .. });
        self.plan.network.is_stable()
            && self.plan.network.doubled == 0
            && self.plan.faults.iter().all(|(_, fault)| is_calm(fault))
    }

    fn at(&mut self, at: u64, event: Event) {
        self.numbered += 1;
        self.events.push(Reverse((at, self.numbered)));
        self.waiting_events.insert((at, self.numbered), event);
    }

    fn soon(&mut self, at_most: u64, event: Event) {
        let at = self.now + self.random.below(at_most + 1);
        self.at(at, event);
    }

    fn machine(&self, replica: usize) -> &Machine {
        &self.plan.replicas[replica]
    }

    /// What a replica's clock says now.
    fn clock(&self, replica: usize) -> Tick {
        let Machine { drift_ppm, offset, .. } = self.machine(replica);
        Tick(offset + ticks(self.now, *drift_ppm))
    }

    /// The first true tick at which so much has passed by a replica's clock.
    fn in_time_of(&self, replica: usize, us: u64) -> u64 {
        let drift = self.machine(replica).drift_ppm;
        let target = ticks(self.now, drift) + us;
        let about = (i128::from(target) * 1_000_000 / i128::from(1_000_000 + drift)) as u64;
        let first = (about.saturating_sub(2)..).find(|at| ticks(*at, drift) >= target);
        first.expect("clocks go on").max(self.now)
    }

    fn authority_ms(&self) -> u64 {
        (self.now + self.plan.authority_offset) / 1000
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { replica, core, key } => self.arrive(replica, core, key),
            Event::Pace { replica } => self.pace(replica),
            Event::Retry { request, attempt } => self.retry(request, attempt),
            Event::Pump { replica } => self.pump(replica),
            Event::Sweep { replica } => self.sweep(replica),
            Event::Asked(message) => self.asked(message),
            Event::Answered { message, answer } => self.answered(&message, answer.ok_or(Lost::Unanswered)),
            Event::GiveUp { message } => self.answered(&message, Err(Lost::Unanswered)),
            Event::Notice { replica, is_here } => self.notice(replica, is_here),
            Event::Fault(fault) => self.fail(fault),
            Event::Restart { replica } => self.start(replica),
            Event::Recover => self.is_down = false,
        }
    }

    fn start(&mut self, replica: usize) {
        let (cores, margin) = (self.machine(replica).cores, self.plan.margin);
        let rung = Arc::<AtomicBool>::default();
        let rings = rung.clone();
        let ring = move || rings.store(true, Ordering::Relaxed);
        let ledger = Arc::new(Ledger::with(cores, self.plan.keys_max, 1, margin, ring));
        let cores = (0..cores).map(|core| Balances::new(ledger.clone(), core)).collect();
        let replicas = self.plan.replicas.len() as u64;
        ledger.storage(Storage::Away { replicas }, self.clock(replica));
        let one = &mut self.replicas[replica];
        one.life += 1;
        one.running = Some(Running { ledger, cores, rung, tickets: BTreeMap::new() });
        one.without_since = Some(self.now);
        let is_cut = one.cut_until > self.now;
        self.soon(1000, Event::Sweep { replica });
        if !is_cut {
            self.soon(2000, Event::Notice { replica, is_here: true });
        }
    }

    fn pace(&mut self, replica: usize) {
        let Machine { pause, cores, .. } = *self.machine(replica);
        let next = self.now + self.random.below(2 * pause + 1);
        if next <= self.plan.until {
            self.at(next, Event::Pace { replica });
        }
        if self.replicas[replica].idle_until > self.now {
            return;
        }
        let (core, key) = (self.random.below(cores as u64) as usize, self.random.below(self.plan.keys));
        // The authority's milliseconds are whole: the end of one is where a question is worth most.
        let phase = (self.now + self.plan.authority_offset) % 1000;
        let wait = if self.random.one_in(3) { 999 - phase } else { 0 };
        self.at(self.now + wait, Event::Arrive { replica, core, key });
        // Many at once have a lease grow, and then nobody needs it.
        if self.random.one_in(12) {
            let (count, apart) = (self.random.below(25), self.random.pick(&[20, 200, 1000]));
            self.burst(replica, key, self.now + wait, (count, apart));
        }
    }

    /// So many requests, so far apart.
    fn burst(&mut self, replica: usize, key: u64, from: u64, (count, apart): (u64, u64)) {
        let core = self.random.below(self.machine(replica).cores as u64) as usize;
        (1..=count).for_each(|at| self.at(from + at * apart, Event::Arrive { replica, core, key }));
    }

    fn arrive(&mut self, replica: usize, core: usize, key: u64) {
        let Replica { life, running, .. } = &self.replicas[replica];
        if running.is_none() {
            return;
        }
        let (life, began) = (*life, self.now);
        let (waits_since, waits_until) = (None, 0);
        let request = Request { replica, life, core, key, attempt: 0, began, waits_since, waits_until, is_over: false };
        self.requests.push(request);
        self.spend(self.requests.len() - 1);
    }

    fn retry(&mut self, request: usize, attempt: u32) {
        let Request { attempt: last, is_over, .. } = self.requests[request];
        if !is_over && attempt == last && self.lives(&self.requests[request]) {
            self.spend(request);
        }
    }

    fn lives(&self, request: &Request) -> bool {
        let replica = &self.replicas[request.replica];
        replica.running.is_some() && replica.life == request.life
    }

    fn spend(&mut self, at: usize) {
        let Request { replica, core, key, attempt, waits_since, began, .. } = self.requests[at];
        let now = self.clock(replica);
        let limiter = &self.limiters[self.replicas[replica].version];
        let Some(running) = &self.replicas[replica].running else { return };
        let (rung, attempt) = (self.rung.clone(), attempt + 1);
        let bell = move || {
            let ring = move || rung.lock().expect("one thread").push((at, attempt));
            Some(Box::new(ring) as crate::quota::Wake)
        };
        let before = running.ledger.counts().unanswered;
        let decision = running.cores[core].spend(limiter, &[key as u8], now, waits_since, bell);
        let is_unanswered =
            running.ledger.counts().unanswered > before && self.replicas[replica].without_since.is_none();
        if is_unanswered {
            self.journal.is_without(Without { replica, from: self.now, until: self.now, straddles: true });
        }
        self.requests[at].attempt = attempt;
        self.requests[at].waits_until = 0;
        self.requests[at].is_over = !matches!(decision, Decision::Wait { .. });
        match decision {
            Decision::Admitted(_) => {
                self.seen.admitted += 1;
                self.journal.admits(key, self.now);
            }
            Decision::Refused(standing) => {
                self.seen.refused += 1;
                if standing.remaining > 0 || standing.reset_ms == 0 {
                    self.journal.wrong(format!("refused, and {standing:?}"));
                }
                self.journal.refuses(key, self.now);
            }
            Decision::Unavailable => {
                self.seen.unavailable += 1;
                if self.is_calm() {
                    self.journal.wrong(format!("unavailable at {} with the authority there", self.now));
                }
            }
            Decision::Wait { at_most_us } => {
                let since = waits_since.unwrap_or(now);
                self.requests[at].waits_since = Some(since);
                if now.since(since) + at_most_us > WAIT_MAX_US || at_most_us == 0 {
                    self.journal.wrong(format!("waits for {at_most_us} at {}, since {began}", self.now));
                }
                // Some clients leave.
                if self.random.one_in(20) {
                    self.requests[at].is_over = true;
                }
                let late = self.in_time_of(replica, at_most_us);
                self.requests[at].waits_until = late;
                self.at(late, Event::Retry { request: at, attempt });
            }
        }
    }

    /// What was rung for is scheduled.
    fn ring(&mut self) {
        let woken = std::mem::take(&mut *self.rung.lock().expect("one thread"));
        for (request, attempt) in woken {
            self.soon(20, Event::Retry { request, attempt });
        }
        for replica in 0..self.replicas.len() {
            let running = self.replicas[replica].running.as_ref();
            if running.is_some_and(|running| running.rung.swap(false, Ordering::Relaxed)) {
                let latest = self.random.pick(&[0, 0, 20]);
                self.soon(latest, Event::Pump { replica });
            }
        }
    }

    fn pump(&mut self, replica: usize) {
        let now = self.clock(replica);
        let max = self.random.between(1, 3) as usize;
        let Replica { running, life, .. } = &mut self.replicas[replica];
        let (Some(running), life) = (running, *life) else { return };
        let taken = running.ledger.questions(now, max);
        // There may be more.
        running.rung.store(taken.len() == max, Ordering::Relaxed);
        for (ticket, mut question) in taken {
            self.seen.questions += 1;
            if self.plan.plant == Plant::OpensAhead && question.need == 0 && question.want > 0 {
                (question.need, question.want) = (1, question.want - 1);
            }
            if let Some(running) = &mut self.replicas[replica].running {
                running.tickets.insert(question.sequence, (ticket, now));
            }
            let key = u64::from(*question.key.last().expect("a name"));
            let waits = |request: &&Request| {
                (request.replica, request.life, request.key) == (replica, life, key) && request.waits_until >= self.now
            };
            // Who has left meanwhile counts too.
            let waiting = self.requests.iter().filter(waits).count();
            let message = Message { replica, life, question, waiting };
            self.send(replica, Event::Asked(message.clone()));
            if self.random.below(1000) < self.plan.network.doubled {
                self.send(replica, Event::Asked(message.clone()));
            }
            self.at(self.now + self.plan.network.given_up, Event::GiveUp { message });
        }
    }

    /// Between a replica and the authority, in either direction.
    fn send(&mut self, replica: usize, event: Event) {
        let network = self.plan.network;
        let is_cut = self.replicas[replica].cut_until > self.now;
        if is_cut || self.random.below(1000) < network.lost {
            return;
        }
        let late = if self.random.below(1000) < network.late { self.random.below(network.late_by) } else { 0 };
        let is_slow = self.slow_until > self.now && matches!(event, Event::Answered { .. });
        let slow = if is_slow { self.random.between(self.slow_by / 2, self.slow_by) } else { 0 };
        let delay = self.random.between(network.delay_min, network.delay_max) + late + slow;
        self.at(self.now + delay, event);
    }

    fn asked(&mut self, message: Message) {
        if self.is_down {
            return;
        }
        let now_ms = self.authority_ms();
        // As early as it may.
        self.authority.expire(now_ms);
        if self.random.one_in(4) && self.plan.loses_writes() {
            self.copies.push((self.now, self.authority.clone()));
        }
        let Message { replica, life, question, .. } = &message;
        let who = *replica as u64 + life * 100;
        let mut answer = self.authority.answer(who, question, now_ms);
        if answer.is_none() && self.plan.plant == Plant::CountsTwice {
            // Under another name it is another question.
            answer = self.authority.answer(who + 1_000_000 + self.numbered, question, now_ms);
        }
        if let Some(answer) = &answer {
            self.note(&message, answer);
        }
        let replica = message.replica;
        self.send(replica, Event::Answered { message, answer });
    }

    fn note(&mut self, message: &Message, answer: &Answer) {
        let key = u64::from(*message.question.key.last().expect("a name"));
        let offset = self.plan.authority_offset;
        // What has been returned is there to be had: who wants all of it would get it twice, if it counted twice.
        if message.question.returns.is_some() && self.now < self.plan.until && self.random.one_in(2) {
            let (replica, apart) =
                (self.random.below(self.replicas.len() as u64) as usize, self.random.pick(&[5, 100]));
            self.burst(replica, key, self.now, (40, apart));
        }
        for window in self.journal.answers(key, &message.question, answer, self.now, offset) {
            if message.waiting == 0 {
                self.journal.wrong(format!("nobody waited for {window:?}"));
            }
            // Who comes at its very end is who would be admitted too late.
            for replica in 0..self.replicas.len() {
                if self.random.one_in(2) && window.ends < self.plan.until {
                    let at = window.ends + self.random.between(0, 2) - 1;
                    let core = self.random.below(self.machine(replica).cores as u64) as usize;
                    self.at(at.max(self.now), Event::Arrive { replica, core, key });
                }
            }
        }
    }

    fn answered(&mut self, message: &Message, answer: Result<Answer, Lost>) {
        let now = self.clock(message.replica);
        let replica = &mut self.replicas[message.replica];
        let Some(running) = replica.running.as_mut().filter(|_| replica.life == message.life) else { return };
        if let Some((ticket, sent_at)) = running.tickets.remove(&message.question.sequence) {
            running.ledger.answered(ticket, sent_at, answer, now);
        }
    }

    fn sweep(&mut self, replica: usize) {
        let (now, every) = (self.clock(replica), self.machine(replica).sweep);
        let Some(running) = &self.replicas[replica].running else { return };
        let due = running.ledger.sweep(now);
        let next = if self.random.one_in(2) { self.in_time_of(replica, due.since(now)) } else { self.now + every };
        if next <= self.plan.until + 2 * WAIT_MAX_US {
            self.at(next, Event::Sweep { replica });
        }
    }

    fn notice(&mut self, replica: usize, is_here: bool) {
        let (now, replicas) = (self.clock(replica), self.plan.replicas.len() as u64);
        let is_cut = self.replicas[replica].cut_until > self.now || self.is_down;
        let Some(running) = &self.replicas[replica].running else { return };
        if is_here && is_cut {
            self.at(self.now + 5000, Event::Notice { replica, is_here });
            return;
        }
        running.ledger.storage(if is_here { Storage::Here { replicas } } else { Storage::Away { replicas } }, now);
        match is_here {
            true => self.is_with_again(replica),
            false => self.replicas[replica].without_since = self.replicas[replica].without_since.or(Some(self.now)),
        }
    }

    fn is_with_again(&mut self, replica: usize) {
        if let Some(from) = self.replicas[replica].without_since.take() {
            self.journal.is_without(Without { replica, from, until: self.now, straddles: false });
        }
    }

    fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::Crash { replica, .. } if self.replicas[replica].running.is_none() => {}
            Fault::Crash { replica, down } => {
                self.is_with_again(replica);
                self.journal.crashes(replica, self.now);
                self.replicas[replica].running = None;
                self.at(self.now + down, Event::Restart { replica });
            }
            Fault::Fail { down, back_to } => {
                self.is_down = true;
                self.at(self.now + down, Event::Recover);
                if let Some(ago) = back_to {
                    let kept = self.copies.iter().rev().find(|(at, _)| at + ago <= self.now);
                    self.authority = kept.map(|(_, authority)| authority.clone()).unwrap_or_default();
                    self.copies.clear();
                    self.journal.loses(self.now);
                }
            }
            Fault::Cut { replicas, lasts } => {
                for replica in (0..self.replicas.len()).filter(|replica| replicas >> replica & 1 == 1) {
                    self.replicas[replica].cut_until = self.now + lasts;
                    self.soon(100_000, Event::Notice { replica, is_here: false });
                    let back = self.now + lasts + self.random.below(100_000);
                    self.at(back, Event::Notice { replica, is_here: true });
                }
            }
            Fault::Slow { by, lasts } => (self.slow_until, self.slow_by) = (self.now + lasts, by),
            Fault::Reload { replica } => {
                let one = &mut self.replicas[replica];
                one.version = (one.version + 1).min(self.limiters.len() - 1);
            }
            Fault::Idle { replica, lasts } => self.replicas[replica].idle_until = self.now + lasts,
        }
    }
}

fn ticks(at: u64, drift_ppm: i64) -> u64 {
    at.checked_add_signed((at as i64) * drift_ppm / 1_000_000).expect("a short history")
}
