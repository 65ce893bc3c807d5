//! The loop: hands requests that are due to connections, or streams of them, that are free.
//!
//! A connection that becomes free takes the next due request by itself; one that finds none is queued, and the pacer
//! wakes for the next intended time. A request that finds no free connection waits with its intended time, so a server
//! that stalls pays for every request it kept waiting.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    ops::Range,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Waker,
    time::Duration,
};

use monoio::task::JoinHandle;

use super::{Gate, Interval, Loop, Outcome, Plan, Progress, connection, link::Link, new_histogram};
use crate::{
    schedule::{Random, Schedule},
    sys,
};

/// How often deadlines are looked at, and the pacer looks again while no connection is free.
const TICK: Duration = Duration::from_millis(50);
/// At most this many intervals, whatever the duration: each holds a histogram.
const INTERVALS_MAX: u64 = 600;

pub(super) struct Engine {
    pub(super) plan: Plan,
    pub(super) slots: Vec<Slot>,
    /// One for each slot, or for as many as it has streams.
    pub(super) links: Vec<Rc<Link>>,
    schedule: RefCell<Option<Schedule>>,
    /// Free connections, longest idle first, so that all of them are used.
    free: RefCell<VecDeque<usize>>,
    timer: sys::Timer,
    random: RefCell<Random>,
    /// Requests that were handed to slots.
    picked: Cell<usize>,
    results: RefCell<Outcome>,
    progress: Arc<Progress>,
    /// Of the load; before it is known, the end of time.
    start_ns: Cell<u64>,
    /// What is measured of it.
    window: Cell<(u64, u64)>,
    pub(super) stopping: Cell<bool>,
    /// Of the connections, and what watches them. A task that still waits for its socket when the loop ends is never dropped: the
    /// loop's driver and it hold each other, and its descriptor stays open.
    pub(super) tasks: RefCell<Vec<JoinHandle<()>>>,
    in_flight: Cell<u64>,
}

/// What can carry one request at a time: a connection, or a stream of one.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) busy: Cell<bool>,
    pub(super) timed_out: Cell<bool>,
    pub(super) request: Cell<usize>,
    /// A slot without a connection that waits for a request to connect for.
    pub(super) waiting: RefCell<Option<Waker>>,
    intended_ns: Cell<u64>,
    sent_ns: Cell<u64>,
    free_ns: Cell<u64>,
}

/// How a request ended without a response.
#[derive(Clone, Copy)]
pub(super) enum Failure {
    Connect,
    Closed,
    Malformed,
    /// The server reset the stream.
    Reset,
    /// The server went away without having looked at it.
    Refused,
}

pub(super) async fn run(plan: Plan, gate: &Gate, progress: Arc<Progress>) -> io::Result<Outcome> {
    let timer = match sys::Timer::new() {
        Ok(timer) => timer,
        Err(error) => {
            gate.pass();
            return Err(error);
        }
    };
    let engine = Rc::new(Engine {
        slots: (0..plan.connections * plan.slots_per_connection()).map(|_| Slot::default()).collect(),
        links: (0..plan.connections).map(|_| Rc::default()).collect(),
        schedule: RefCell::new(None),
        free: RefCell::default(),
        timer,
        random: RefCell::new(Random::new(plan.seed ^ 0x5eed)),
        picked: Cell::new(0),
        results: RefCell::new(Outcome::new()),
        progress,
        start_ns: Cell::new(u64::MAX),
        window: Cell::new((u64::MAX, u64::MAX)),
        stopping: Cell::new(false),
        tasks: RefCell::default(),
        in_flight: Cell::new(0),
        plan,
    });
    connection::open_all(&engine).await;
    let start_ns = gate.pass();
    engine.begin(start_ns);
    engine.tasks.borrow_mut().push(monoio::spawn(watch_deadlines(engine.clone())));
    let watched = monoio::spawn(watch_self(engine.clone()));
    engine.pace().await;
    let cpu_ns = watched.await;
    engine.settle().await;
    let outcome = engine.end(cpu_ns);
    engine.leave().await;
    Ok(outcome)
}

impl Engine {
    fn begin(&self, start_ns: u64) {
        let window_start = start_ns + self.plan.warmup.as_nanos() as u64;
        let length = self.plan.duration.as_nanos() as u64;
        self.start_ns.set(start_ns);
        self.window.set((window_start, window_start + length));
        let interval_ns = (length / INTERVALS_MAX).max(1_000_000_000);
        let mut results = self.results.borrow_mut();
        results.window_ns = length;
        results.intervals = (0..length.div_ceil(interval_ns).max(1))
            .map(|index| Interval {
                start_ns: index * interval_ns,
                length_ns: interval_ns.min(length - index * interval_ns),
                latency: new_histogram(),
                failed: 0,
            })
            .collect();
        if let Loop::Open { per_second, shape } = self.plan.pace {
            let end_ns = window_start + length;
            *self.schedule.borrow_mut() = Some(Schedule::new(shape, per_second, start_ns, end_ns, self.plan.seed));
        }
    }

    /// Until nothing more is to be sent.
    async fn pace(&self) {
        let end_ns = self.window.get().1;
        if self.plan.pace == Loop::Closed {
            self.sleep_until(self.start_ns.get()).await;
            while let Some(slot) = self.pop_free() {
                self.assign(slot, sys::now_ns());
            }
            self.sleep_until(end_ns).await;
            return;
        }
        loop {
            let now = sys::now_ns();
            while let Some(due) = self.due(now) {
                let Some(slot) = self.pop_free() else { break };
                self.advance();
                self.assign(slot, due);
            }
            match self.next_ns() {
                None => return self.sleep_until(end_ns).await,
                // Connections that become free take what is left by themselves.
                Some(_) if now >= end_ns => return,
                // None is free. One that becomes free takes what is due, or arms the timer again for what is not.
                Some(next) if next <= sys::now_ns() => self.timer.arm(sys::now_ns() + TICK.as_nanos() as u64),
                Some(next) => self.timer.arm(next),
            }
            self.timer.wait().await;
        }
    }

    async fn sleep_until(&self, when_ns: u64) {
        while sys::now_ns() < when_ns {
            self.timer.arm(when_ns);
            self.timer.wait().await;
        }
    }

    /// Waits for answers that are still to come; a closed loop has none that count.
    async fn settle(&self) {
        let deadline = sys::now_ns() + self.plan.timeout.as_nanos() as u64;
        let is_open = matches!(self.plan.pace, Loop::Open { .. });
        while is_open && sys::now_ns() < deadline && (self.in_flight.get() > 0 || self.next_ns().is_some()) {
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        self.stopping.set(true);
    }

    fn end(&self, cpu_ns: u64) -> Outcome {
        let now = sys::now_ns();
        let is_open = matches!(self.plan.pace, Loop::Open { .. });
        let (from, to) = self.window.get();
        if is_open {
            // What is not answered has waited so long at least: leaving it out would hide the worst of a stall.
            let in_flight = self.slots.iter().filter(|slot| slot.busy.get()).map(|slot| slot.intended_ns.get());
            let mut waiting: Vec<u64> = in_flight.collect();
            while let Some(due) = self.next_ns() {
                waiting.push(due);
                self.advance();
            }
            let mut results = self.results.borrow_mut();
            for intended in waiting.into_iter().filter(|intended| (from..to).contains(intended)) {
                results.unfinished += 1;
                results.latency.saturating_record(now - intended);
            }
        }
        let mut outcome = self.results.replace(Outcome::new());
        outcome.cpu_ns = vec![cpu_ns];
        outcome
    }

    /// Ends every task, so that nothing is left open.
    async fn leave(&self) {
        self.links.iter().for_each(|link| link.shut_down());
        self.slots.iter().filter_map(|slot| slot.waiting.take()).for_each(Waker::wake);
        let tasks = self.tasks.take();
        let all_end = async {
            for task in tasks {
                task.await;
            }
            // What was sent when its connection ended has a task of its own.
            while self.links.iter().any(|link| Rc::strong_count(link) > 1) {
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // One that connects with nobody waits for that.
        let _ = monoio::time::timeout(self.plan.timeout + TICK, all_end).await;
        // The ring closes descriptors when it is asked for the next time.
        monoio::time::sleep(Duration::from_millis(1)).await;
    }

    fn pop_free(&self) -> Option<usize> {
        self.free.borrow_mut().pop_front()
    }

    fn next_ns(&self) -> Option<u64> {
        self.schedule.borrow().as_ref().and_then(Schedule::next_ns)
    }

    fn due(&self, now: u64) -> Option<u64> {
        self.next_ns().filter(|&next| next <= now)
    }

    fn advance(&self) {
        if let Some(schedule) = self.schedule.borrow_mut().as_mut() {
            schedule.advance();
        }
    }

    /// The slot can take a request. True: it has one now.
    pub(super) fn became_free(&self, index: usize) -> bool {
        let now = sys::now_ns();
        let slot = &self.slots[index];
        slot.free_ns.set(now);
        let next = match self.plan.pace {
            _ if self.stopping.get() => None,
            // The first ones are handed out by the pacer.
            Loop::Closed => Some(now).filter(|now| (self.start_ns.get()..self.window.get().1).contains(now)),
            Loop::Open { .. } => self.due(now),
        };
        match next {
            Some(intended) => {
                self.advance();
                self.assign(index, intended);
                true
            }
            None => {
                self.free.borrow_mut().push_back(index);
                if let Some(next) = self.next_ns() {
                    self.timer.arm(next);
                }
                false
            }
        }
    }

    /// A free slot has lost its connection, and will come back when it has another.
    pub(super) fn withdraw(&self, index: usize) {
        self.free.borrow_mut().retain(|&free| free != index);
    }

    fn assign(&self, index: usize, intended_ns: u64) {
        let slot = &self.slots[index];
        let picked = self.picked.replace(self.picked.get() + 1);
        let request = self.plan.mix.pick(&mut self.random.borrow_mut(), picked);
        let now = sys::now_ns();
        slot.request.set(request);
        slot.intended_ns.set(intended_ns);
        slot.sent_ns.set(now);
        slot.busy.set(true);
        self.in_flight.set(self.in_flight.get() + 1);
        if self.is_measured(intended_ns) {
            let mut results = self.results.borrow_mut();
            results.sent += 1;
            results.lag.saturating_record(now - intended_ns.max(slot.free_ns.get()).min(now));
        }
        let link = self.link_of(index);
        if link.is_open() {
            link.send_request(index % self.plan.slots_per_connection(), self.plan.mix.request(request));
        } else if let Some(waker) = slot.waiting.take() {
            waker.wake();
        }
    }

    fn link_of(&self, slot: usize) -> &Rc<Link> {
        &self.links[slot / self.plan.slots_per_connection()]
    }

    pub(super) fn slots_of(&self, link: usize) -> Range<usize> {
        let count = self.plan.slots_per_connection();
        link * count..(link + 1) * count
    }

    /// `is_resumed`: of a connection with TLS, whether its handshake was a short one.
    pub(super) fn opened_a_connection(&self, is_resumed: Option<bool>) {
        let mut results = self.results.borrow_mut();
        results.connections_opened += 1;
        results.handshakes += u64::from(is_resumed.is_some());
        results.resumed += u64::from(is_resumed == Some(true));
    }

    /// The server said that it will take no more requests on a connection.
    pub(super) fn is_left(&self) {
        self.results.borrow_mut().goaways += 1;
    }

    /// The first reason is kept: the others are mostly the same.
    pub(super) fn remember(&self, error: &anyhow::Error) {
        self.results.borrow_mut().first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    /// A connection that is to be kept could not be opened; there is no request yet that failed by it.
    pub(super) fn cannot_connect(&self, error: &anyhow::Error) {
        self.remember(error);
        if self.is_measured(sys::now_ns()) {
            self.results.borrow_mut().errors.connect += 1;
        }
    }

    fn is_measured(&self, intended_ns: u64) -> bool {
        let (from, to) = self.window.get();
        (from..to).contains(&intended_ns)
    }

    pub(super) fn completed(&self, index: usize, status: u16, bytes: u64) {
        let now = sys::now_ns();
        let slot = &self.slots[index];
        self.no_more_in_flight(slot);
        self.progress.completed.store(self.progress.completed.load(Relaxed) + 1, Relaxed);
        let mut results = self.results.borrow_mut();
        let (from, to) = self.window.get();
        if (from..to).contains(&now) {
            results.completed += 1;
            results.bytes_received += bytes;
        }
        // A closed loop measures what ended in time; an open one everything that was due in time, however late it ended.
        let counts = match self.plan.pace {
            Loop::Closed => (from..to).contains(&now),
            Loop::Open { .. } => self.is_measured(slot.intended_ns.get()),
        };
        if counts {
            let latency = now - slot.intended_ns.get();
            *results.statuses.entry(status).or_default() += 1;
            results.latency.saturating_record(latency);
            results.service.saturating_record(now - slot.sent_ns.get());
            if let Some(interval) = interval_of(&mut results.intervals, now.saturating_sub(from)) {
                interval.latency.saturating_record(latency);
            }
        }
    }

    /// A request that was under way will not be answered.
    pub(super) fn failed(&self, index: usize, failure: Failure) {
        let slot = &self.slots[index];
        if !slot.busy.get() || self.stopping.get() {
            return;
        }
        self.no_more_in_flight(slot);
        self.progress.failed.store(self.progress.failed.load(Relaxed) + 1, Relaxed);
        if !self.is_measured(slot.intended_ns.get()) {
            return;
        }
        let now = sys::now_ns();
        let mut results = self.results.borrow_mut();
        let timed_out = slot.timed_out.get();
        match failure {
            _ if timed_out => results.errors.timeout += 1,
            Failure::Connect => results.errors.connect += 1,
            Failure::Closed => results.errors.closed += 1,
            Failure::Malformed => results.errors.malformed += 1,
            Failure::Reset => results.errors.reset += 1,
            Failure::Refused => results.errors.refused += 1,
        }
        if timed_out {
            results.latency.saturating_record(now - slot.intended_ns.get());
        }
        let from = self.window.get().0;
        if let Some(interval) = interval_of(&mut results.intervals, now.saturating_sub(from)) {
            interval.failed += 1;
        }
    }

    fn no_more_in_flight(&self, slot: &Slot) {
        slot.busy.set(false);
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }
}

/// What ends behind the window, while the last requests are waited for, belongs to no interval.
fn interval_of(intervals: &mut [Interval], offset_ns: u64) -> Option<&mut Interval> {
    let length = intervals.first()?.length_ns.max(1);
    intervals.get_mut((offset_ns / length) as usize)
}

/// Cuts connections off whose request took too long.
async fn watch_deadlines(engine: Rc<Engine>) {
    let timeout_ns = engine.plan.timeout.as_nanos() as u64;
    while !engine.stopping.get() {
        monoio::time::sleep(TICK).await;
        let now = sys::now_ns();
        for (index, slot) in engine.slots.iter().enumerate() {
            let link = engine.link_of(index);
            if !slot.busy.get() || !link.is_open() || now.saturating_sub(slot.sent_ns.get()) <= timeout_ns {
                continue;
            }
            slot.timed_out.set(true);
            if engine.plan.streams.is_none() {
                link.shut_down();
            } else {
                // The connection's other streams go on, and so does this slot.
                link.cancel(index % engine.plan.slots_per_connection());
                engine.failed(index, Failure::Closed);
                slot.timed_out.set(false);
                if !link.is_going_away() {
                    engine.became_free(index);
                }
            }
        }
    }
}

/// What this thread costs during the measured time.
async fn watch_self(engine: Rc<Engine>) -> u64 {
    let (from, to) = engine.window.get();
    let sleep_until = async |when: u64| {
        monoio::time::sleep(Duration::from_nanos(when.saturating_sub(sys::now_ns()))).await;
    };
    sleep_until(from).await;
    let (cpu, at) = (sys::thread_cpu_ns(), sys::now_ns());
    sleep_until(to).await;
    let (cpu, took) = (sys::thread_cpu_ns() - cpu, (sys::now_ns() - at).max(1));
    // The runtime's timers have milliseconds, so the time between is not quite the window.
    (cpu as f64 * (to - from) as f64 / took as f64) as u64
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    #[test]
    fn responses_belong_to_the_interval_they_end_in() {
        let interval = |start_ns, length_ns| Interval { start_ns, length_ns, latency: new_histogram(), failed: 0 };
        let mut intervals = vec![interval(0, 100), interval(100, 50)];
        assert_eq!(interval_of(&mut intervals, 99).map(|i| i.start_ns), Some(0));
        assert_eq!(interval_of(&mut intervals, 100).map(|i| i.start_ns), Some(100));
        assert!(interval_of(&mut intervals, 200).is_none());
    }

    #[test]
    fn a_histogram_holds_what_a_run_can_see() {
        let mut histogram: Histogram<u64> = new_histogram();
        for value in [500, 123_456, 90_000_000_000, u64::MAX] {
            histogram.saturating_record(value);
        }
        assert_eq!(histogram.len(), 4);
        let median = histogram.value_at_quantile(0.5) as f64;
        assert!((median / 123_456.0 - 1.0).abs() < 0.001, "{median}");
    }
}
