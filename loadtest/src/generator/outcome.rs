//! What came of a load: histograms, counts and the generator's own cost, all of the measured time only.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Nanoseconds; also the coarsest step at the low end, so well below what a request takes.
const LATENCY_NS_MIN: u64 = 100;
const LATENCY_NS_MAX: u64 = 100_000_000_000;
/// Three digits: one part in a thousand.
const DIGITS: u8 = 3;

pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS).expect("the bounds are constants in order")
}

/// Requests that got no response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errors {
    /// No connection could be made.
    pub connect: u64,
    /// The connection ended before the response did.
    pub closed: u64,
    pub timeout: u64,
    /// The response broke its protocol.
    pub malformed: u64,
    /// The server reset the stream (HTTP/2).
    #[serde(default)]
    pub reset: u64,
    /// The server went away without having looked at the request (HTTP/2).
    #[serde(default)]
    pub refused: u64,
}

impl Errors {
    pub fn sum(&self) -> u64 {
        self.connect + self.closed + self.timeout + self.malformed + self.reset + self.refused
    }
}

/// A part of the measured time, by when responses ended.
#[derive(Clone)]
pub struct Interval {
    pub start_ns: u64,
    pub length_ns: u64,
    pub latency: Histogram<u64>,
    pub failed: u64,
}

pub struct Outcome {
    /// From the intended time to the last byte; in a closed loop from the time it was sent.
    pub latency: Histogram<u64>,
    /// From the time it was sent: what a closed loop would have seen.
    pub service: Histogram<u64>,
    /// How late the generator itself was: from when a request was due and a connection free to when it was sent.
    pub lag: Histogram<u64>,
    pub intervals: Vec<Interval>,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: Errors,
    pub sent: u64,
    /// Responses that ended inside the measured time.
    pub completed: u64,
    /// Requests that were due, and at the end not answered or not even sent. They are in `latency` with the time they
    /// had waited until then.
    pub unfinished: u64,
    pub connections_opened: u64,
    /// Of TLS, and how many of them were short ones.
    pub handshakes: u64,
    pub resumed: u64,
    /// Connections that the server said it will leave (HTTP/2).
    pub goaways: u64,
    /// Why a connection could not be made, the first time that happened.
    pub first_error: Option<String>,
    pub bytes_received: u64,
    pub window_ns: u64,
    /// Of the generator threads, one entry for each.
    pub cpu_ns: Vec<u64>,
}

impl Outcome {
    pub fn new() -> Self {
        Self {
            latency: new_histogram(),
            service: new_histogram(),
            lag: new_histogram(),
            intervals: Vec::new(),
            statuses: BTreeMap::new(),
            errors: Errors::default(),
            sent: 0,
            completed: 0,
            unfinished: 0,
            connections_opened: 0,
            handshakes: 0,
            resumed: 0,
            goaways: 0,
            first_error: None,
            bytes_received: 0,
            window_ns: 0,
            cpu_ns: Vec::new(),
        }
    }

    /// Takes in what another thread saw at the same time.
    pub fn add(&mut self, other: Self) {
        let same = "all histograms have the same bounds";
        self.latency.add(&other.latency).expect(same);
        self.service.add(&other.service).expect(same);
        self.lag.add(&other.lag).expect(same);
        for (mine, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            mine.latency.add(&theirs.latency).expect(same);
            mine.failed += theirs.failed;
        }
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.errors.connect += other.errors.connect;
        self.errors.closed += other.errors.closed;
        self.errors.timeout += other.errors.timeout;
        self.errors.malformed += other.errors.malformed;
        self.errors.reset += other.errors.reset;
        self.errors.refused += other.errors.refused;
        self.sent += other.sent;
        self.completed += other.completed;
        self.unfinished += other.unfinished;
        self.connections_opened += other.connections_opened;
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
        self.goaways += other.goaways;
        self.first_error = self.first_error.take().or(other.first_error);
        self.bytes_received += other.bytes_received;
        self.window_ns = self.window_ns.max(other.window_ns);
        self.cpu_ns.extend(other.cpu_ns);
    }

    pub fn per_second(&self) -> f64 {
        self.completed as f64 * 1e9 / self.window_ns.max(1) as f64
    }

    /// The busiest generator thread's share of its CPU.
    pub fn cpu_share(&self) -> f64 {
        self.cpu_ns.iter().max().map_or(0.0, |&busiest| busiest as f64 / self.window_ns.max(1) as f64)
    }

    /// The generator's own cost of a request.
    pub fn own_us_per_request(&self) -> Option<f64> {
        (self.completed > 0).then(|| self.cpu_ns.iter().sum::<u64>() as f64 / 1e3 / self.completed as f64)
    }

    /// Responses that are no success, and requests without a response.
    pub fn failures(&self) -> u64 {
        let refused: u64 = self.statuses.range(400..).map(|(_, count)| count).sum();
        refused + self.errors.sum() + self.unfinished
    }
}
