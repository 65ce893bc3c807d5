//! What a comparison of peers found: one sample for each round, and what a reader must know beside it.

use std::{collections::BTreeMap, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    PeersArgs,
    peer::Role,
    policies::{self, PolicyReport},
    trial::{IdleMemory, Trial},
    workload::Workload,
};
use crate::{
    driver,
    measure::{self, Facts},
    report::{self, Better, Measurement},
};

/// The result of `peers`.
#[derive(Serialize, Deserialize)]
pub struct PeersReport {
    pub format: u32,
    pub kind: String,
    pub started: String,
    pub command: String,
    pub facts: Facts,
    pub rounds: usize,
    pub duration_s: f64,
    pub proxy_cpu: usize,
    pub load_cpu: usize,
    pub upstream_cpu: usize,
    pub peers: Vec<PeerFacts>,
    /// Names of those that are not installed, with what would install them.
    pub missing: BTreeMap<String, String>,
    pub workloads: Vec<WorkloadReport>,
    #[serde(default)]
    pub policies: Vec<PolicyReport>,
    pub idle: BTreeMap<String, Vec<IdleMemory>>,
    #[serde(default)]
    pub idle_tls: BTreeMap<String, Vec<IdleMemory>>,
    /// Peers that were not asked anything over TLS, with the reason.
    #[serde(default)]
    pub without_tls: BTreeMap<String, String>,
    /// Rounds that failed, with the reason; they are in no figure.
    pub failed: Vec<String>,
    pub measurements: Vec<Measurement>,
}

#[derive(Serialize, Deserialize)]
pub struct PeerFacts {
    pub name: String,
    pub role: Role,
    pub version: String,
    pub config_hash: String,
}

#[derive(Serialize, Deserialize)]
pub struct WorkloadReport {
    pub name: String,
    pub title: String,
    #[serde(default)]
    pub tls: bool,
    pub rate: f64,
    /// Why there is no floor.
    #[serde(default)]
    pub no_floor: Option<String>,
    /// By peer, one for each round.
    pub trials: BTreeMap<String, Vec<Trial>>,
}

impl PeersReport {
    pub fn new(args: &PeersArgs, driver: driver::Driver, upstream_cpu: usize) -> Self {
        Self {
            format: report::FORMAT,
            kind: "peers".into(),
            started: measure::timestamp(SystemTime::now()),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            facts: Facts::collect(driver),
            rounds: args.rounds.get(),
            duration_s: args.duration.as_secs_f64(),
            proxy_cpu: args.proxy_cpu,
            load_cpu: args.load_cpu,
            upstream_cpu,
            peers: Vec::new(),
            missing: BTreeMap::new(),
            workloads: Vec::new(),
            policies: Vec::new(),
            idle: BTreeMap::new(),
            idle_tls: BTreeMap::new(),
            without_tls: BTreeMap::new(),
            failed: Vec::new(),
            measurements: Vec::new(),
        }
    }
}

impl PeersReport {
    /// `round` counts from 0.
    pub fn fail(&mut self, round: usize, peer: &str, reason: &str) {
        let failure = format!("round {}, {peer}: {reason}", round + 1);
        eprintln!("{failure}");
        self.failed.push(failure);
    }

    /// Whether a peer has served TLS before.
    pub fn has_tls_of(&self, peer: &str) -> bool {
        let mut loads = self.workloads.iter().filter(|workload| workload.tls);
        self.idle_tls.contains_key(peer) || loads.any(|load| load.trials.contains_key(peer))
    }
}

impl WorkloadReport {
    pub fn new(workload: &Workload) -> Self {
        let (name, title) = (workload.name.to_owned(), workload.title.clone());
        Self {
            name,
            title,
            tls: workload.tls,
            rate: workload.rate,
            no_floor: workload.no_floor.map(str::to_owned),
            trials: BTreeMap::new(),
        }
    }
}

/// Everything as named samples, for `compare`.
pub fn measurements(report: &PeersReport) -> Vec<Measurement> {
    type Take = fn(&Trial) -> Option<f64>;
    let table: [(&str, &str, Better, Take); 7] = [
        ("cpu", "us/request", Better::Lower, |trial| Some(trial.at_maximum.us_per_request)),
        ("cpu-user", "us/request", Better::Lower, |trial| Some(trial.at_maximum.user_us)),
        ("cpu-at-rate", "us/request", Better::Lower, |trial| Some(trial.at_rate.us_per_request)),
        ("rate", "requests/s", Better::Higher, |trial| trial.saturated.then_some(trial.at_maximum.per_second)),
        ("p50", "us", Better::Lower, |trial| trial.latency_us.map(|latency| latency.p50)),
        ("p99", "us", Better::Lower, |trial| trial.latency_us.map(|latency| latency.p99)),
        ("p99.9", "us", Better::Lower, |trial| trial.latency_us.map(|latency| latency.p99_9)),
    ];
    let mut all = policies::measurements(&report.policies);
    let mut push = |name: String, unit: &str, better, samples: Vec<f64>| {
        if !samples.is_empty() {
            all.push(Measurement { name, unit: unit.into(), better, samples });
        }
    };
    for workload in &report.workloads {
        for (peer, trials) in &workload.trials {
            for (what, unit, better, take) in table {
                let name = format!("{peer}/{}/{what}", workload.name);
                push(name, unit, better, trials.iter().filter_map(take).collect());
            }
        }
    }
    for (what, idle) in [("idle", &report.idle), ("idle-tls", &report.idle_tls)] {
        for (peer, seen) in idle {
            let start = seen.iter().map(|memory| memory.at_start_kib).collect();
            push(format!("{peer}/{what}/memory"), "KiB", Better::Lower, start);
            let each = seen.iter().map(|memory| memory.kib_per_connection).collect();
            push(format!("{peer}/{what}/per-connection"), "KiB", Better::Lower, each);
        }
    }
    all
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Of nobody and nothing.
    pub fn empty_report() -> PeersReport {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: PeersArgs,
        }
        let Cli { args } = clap::Parser::parse_from(["peers"]);
        PeersReport::new(&args, driver::Driver::Epoll, 1)
    }
}
