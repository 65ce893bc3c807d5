//! Results: the JSON that everything else is made from, and its other forms.
//!
//! Every kind of result carries a list of named measurements with one sample a round. `compare` needs no more than that,
//! so it compares whatever two results have in common.

pub mod hdr_log;
pub mod html;
pub mod page;
pub mod summary;

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    generator::{Errors, Outcome},
    measure::{Cost, Facts},
};

pub const FORMAT: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Lower,
    Higher,
}

/// One number, measured once a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Such as `ringway/keep-alive/cpu`.
    pub name: String,
    pub unit: String,
    pub better: Better,
    pub samples: Vec<f64>,
}

/// The result of `run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    pub kind: String,
    pub started: String,
    pub command: String,
    pub facts: Facts,
    pub load: Load,
    pub rounds: Vec<Round>,
    pub measurements: Vec<Measurement>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub target: String,
    /// `open, constant`, `open, poisson` or `closed`.
    #[serde(rename = "loop")]
    pub pace: String,
    /// Requests per second, in an open loop.
    pub rate: Option<f64>,
    pub connections: usize,
    pub keep_alive: bool,
    /// Such as `HTTP/2 over TLS, 8 streams a connection`.
    #[serde(default)]
    pub protocol: String,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub timeout_s: f64,
    pub requests: usize,
    /// Of the requests as sent, with their weights.
    pub scenario_hash: String,
    /// Of the server's configuration, if it was named.
    pub server_config_hash: Option<String>,
    pub generator_cpus: Vec<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Why there is no number: the generator was in the way, or nothing was answered. Then the fields that would speak
    /// of the server are empty.
    pub refused: Option<String>,
    /// Responses per second.
    pub rate: Option<f64>,
    pub latency_us: Option<Percentiles>,
    /// From sending instead of from the intended time: what a closed loop would have shown.
    pub service_us: Option<Percentiles>,
    pub sent: u64,
    pub completed: u64,
    pub unfinished: u64,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: Errors,
    pub connections_opened: u64,
    /// Of TLS, and how many of them were resumed.
    #[serde(default)]
    pub handshakes: u64,
    #[serde(default)]
    pub resumed: u64,
    /// GOAWAY frames of the server.
    #[serde(default)]
    pub goaways: u64,
    /// Why a connection could not be made, the first time.
    #[serde(default)]
    pub first_error: Option<String>,
    pub bytes_received: u64,
    pub generator: OwnCost,
    pub server: Option<ServerCost>,
    pub timeline: Vec<Point>,
    /// Percentile and microseconds, for drawing.
    pub curve: Vec<(f64, f64)>,
}

/// The generator itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnCost {
    /// Of the busiest thread.
    pub cpu_share: f64,
    pub us_per_request: Option<f64>,
    pub lag_us: Percentiles,
}

/// What the server's processes used, all threads, during the measured time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ServerCost {
    pub us_per_request: f64,
    pub user_us: f64,
    pub cores: f64,
}

impl From<Cost> for ServerCost {
    fn from(cost: Cost) -> Self {
        Self { us_per_request: cost.us_per_request, user_us: cost.user_us, cores: cost.cores }
    }
}

/// A part of a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    pub at_s: f64,
    pub rate: f64,
    pub failed: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    pub server_us_per_request: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of nanoseconds, in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            min: us(histogram.min()),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: us(histogram.max()),
        }
    }
}

fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

impl Round {
    /// `costs`: the server's, for the whole round and for each interval.
    pub fn new(outcome: &Outcome, refused: Option<String>, cost: Option<ServerCost>, costs: &[Option<f64>]) -> Self {
        let believed = refused.is_none();
        let timeline = outcome.intervals.iter().enumerate().map(|(index, interval)| Point {
            at_s: interval.start_ns as f64 / 1e9,
            rate: interval.latency.len() as f64 * 1e9 / interval.length_ns.max(1) as f64,
            failed: interval.failed,
            p50_us: us(interval.latency.value_at_quantile(0.5)),
            p99_us: us(interval.latency.value_at_quantile(0.99)),
            max_us: us(interval.latency.max()),
            server_us_per_request: costs.get(index).copied().flatten(),
        });
        Self {
            rate: believed.then(|| outcome.per_second()),
            latency_us: believed.then(|| Percentiles::of(&outcome.latency)),
            service_us: believed.then(|| Percentiles::of(&outcome.service)),
            sent: outcome.sent,
            completed: outcome.completed,
            unfinished: outcome.unfinished,
            statuses: outcome.statuses.clone(),
            errors: outcome.errors,
            connections_opened: outcome.connections_opened,
            handshakes: outcome.handshakes,
            resumed: outcome.resumed,
            goaways: outcome.goaways,
            first_error: outcome.first_error.clone(),
            bytes_received: outcome.bytes_received,
            generator: OwnCost {
                cpu_share: outcome.cpu_share(),
                us_per_request: outcome.own_us_per_request(),
                lag_us: Percentiles::of(&outcome.lag),
            },
            // What a request cost the server stays true when the generator was too slow to ask for more.
            server: cost,
            timeline: if believed { timeline.collect() } else { Vec::new() },
            curve: if believed { curve(&outcome.latency) } else { Vec::new() },
            refused,
        }
    }
}

/// As many points as a drawing of percentiles needs: twenty for each nine.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    for nines in 0..6 {
        for step in 0..20 {
            let quantile = 1.0 - 0.1f64.powf(f64::from(nines) + f64::from(step) / 20.0);
            // Beyond this there is less than one sample behind the point.
            if (1.0 - quantile) * histogram.len() as f64 >= 1.0 {
                points.push((quantile * 100.0, us(histogram.value_at_quantile(quantile))));
            }
        }
    }
    if !histogram.is_empty() {
        points.push((100.0, us(histogram.max())));
    }
    points
}

/// The measurements of a run, one sample for each round that may be believed.
pub fn measurements(rounds: &[Round]) -> Vec<Measurement> {
    type Take = fn(&Round) -> Option<f64>;
    let table: [(&str, &str, Better, Take); 8] = [
        ("rate", "requests/s", Better::Higher, |round| round.rate),
        ("latency/p50", "us", Better::Lower, |round| round.latency_us.map(|latency| latency.p50)),
        ("latency/p99", "us", Better::Lower, |round| round.latency_us.map(|latency| latency.p99)),
        ("latency/p99.9", "us", Better::Lower, |round| round.latency_us.map(|latency| latency.p99_9)),
        ("latency/max", "us", Better::Lower, |round| round.latency_us.map(|latency| latency.max)),
        ("service/p99", "us", Better::Lower, |round| round.service_us.map(|service| service.p99)),
        ("server/cpu", "us/request", Better::Lower, |round| round.server.map(|server| server.us_per_request)),
        ("generator/cpu", "us/request", Better::Lower, |round| round.generator.us_per_request),
    ];
    table
        .into_iter()
        .map(|(name, unit, better, take)| {
            let samples: Vec<f64> = rounds.iter().filter_map(take).collect();
            Measurement { name: name.into(), unit: unit.into(), better, samples }
        })
        .filter(|measurement| !measurement.samples.is_empty())
        .collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::generator::{Interval, new_histogram};

    /// A thousand responses of 1 to 1,000 us.
    pub fn outcome() -> Outcome {
        let mut outcome = Outcome::new();
        let mut latency = new_histogram();
        (1..=1000u64).for_each(|us| latency.saturating_record(us * 1000));
        outcome.lag.saturating_record(20_000);
        outcome.service = latency.clone();
        outcome.intervals =
            vec![Interval { start_ns: 0, length_ns: 2_000_000_000, latency: latency.clone(), failed: 0 }];
        outcome.latency = latency;
        outcome.statuses = BTreeMap::from([(200, 1000)]);
        (outcome.sent, outcome.completed, outcome.window_ns) = (1000, 1000, 2_000_000_000);
        outcome.cpu_ns = vec![10_000_000];
        outcome
    }

    #[test]
    fn a_round_holds_its_percentiles() {
        let round = Round::new(&outcome(), None, None, &[]);
        let latency = round.latency_us.expect("not refused");
        assert!((latency.p99 - 990.0).abs() < 1.0 && (latency.p50 - 500.0).abs() < 1.0, "{latency:?}");
        assert_eq!(round.rate, Some(500.0));
        assert_eq!(round.timeline[0].rate, 500.0);
        assert_eq!(round.generator.us_per_request, Some(10.0));
        // Ascending, and no further than there are samples.
        assert!(round.curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(round.curve.last().map(|point| point.0), Some(100.0));
    }

    #[test]
    fn a_refused_round_has_no_number_of_the_server() {
        let round = Round::new(&outcome(), Some("busy".into()), None, &[]);
        let json = serde_json::to_value(&round).expect("a round is JSON");
        assert!(json["rate"].is_null() && json["latency_us"].is_null());
        assert_eq!(json["timeline"].as_array().map(Vec::len), Some(0));
        let names: Vec<String> = measurements(&[round]).into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["generator/cpu"]);
    }
}
