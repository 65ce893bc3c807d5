//! `peers`: the gateway beside other proxies, under the same loads, on the same core, in turns.
//!
//! One proxy runs at a time, on a core of its own; generator and upstream share another. Machines change from minute to
//! minute, so a round asks every proxy everything before the next round begins, and each round begins with another one.

pub mod peer;
mod table;
pub mod trial;
pub mod workload;

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::{
    peer::{Found, Peer, Place, Role, Upstream},
    trial::{Bench, IdleMemory, Trial},
    workload::{IDLE, Variation, Workload},
};
use crate::{
    driver,
    generator::Limits,
    measure::{self, Facts},
    report::{self, Better, Measurement},
    scenario::{parse_duration, parse_headers},
    sys,
};

#[derive(Args)]
pub struct PeersArgs {
    /// Folder of the peers
    #[arg(long, value_name = "DIR", default_value = "loadtest/peers")]
    peers: PathBuf,

    /// Cargo's target folder, where gateway and peers were built
    #[arg(long, value_name = "DIR", env = "CARGO_TARGET_DIR", default_value = "target")]
    target: PathBuf,

    /// Only these, by the names of their folders
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,

    /// NAME=PATH: another program for a peer, such as ringway=/tmp/ringway
    #[arg(long, value_name = "NAME=PATH")]
    program: Vec<String>,

    /// 1 keep-alive, 2 a connection each, 3 POST, 4 download, 5 idle connections
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,2,3,4,5")]
    workloads: Vec<usize>,

    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,

    /// Measured time of each load; there are two for each workload
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    duration: Duration,

    /// CPU of the proxy
    #[arg(long, default_value = "0")]
    proxy_cpu: usize,

    /// CPU of the generator
    #[arg(long, default_value = "1")]
    load_cpu: usize,

    /// CPU of the upstream [default: that of the generator]
    #[arg(long)]
    upstream_cpu: Option<usize>,

    /// Connections instead of each workload's own
    #[arg(short, long)]
    connections: Option<usize>,

    /// Size of every body instead of each workload's own
    #[arg(long)]
    body_bytes: Option<usize>,

    /// `Name: value`, sent with every request; repeatable
    #[arg(short = 'H', long, value_name = "HEADER")]
    header: Vec<String>,

    /// Common rate instead of each workload's own, per second
    #[arg(short, long)]
    rate: Option<f64>,

    /// Idle connections of workload 5
    #[arg(long, default_value = "10000")]
    idle: usize,

    /// How gateway and generator talk to the kernel
    #[arg(long, default_value = "auto")]
    driver: driver::Wanted,

    /// No latency when the generator's own 99th percentile of lateness is above this
    #[arg(long, value_name = "US", default_value = "1000")]
    lag_limit: f64,

    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the tables as Markdown; they are printed in any case
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

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
    pub idle: BTreeMap<String, Vec<IdleMemory>>,
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
    pub rate: f64,
    pub has_floor: bool,
    /// By peer, one for each round.
    pub trials: BTreeMap<String, Vec<Trial>>,
}

/// By which a proxy is seen to be there.
pub const FIRST_REQUEST: &[u8] = b"GET /bytes/16 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";

/// Returns whether every round of every peer gave figures.
///
/// # Errors
/// Wrong arguments, or the machine cannot do it.
pub fn run(args: &PeersArgs) -> Result<bool> {
    let known = 1..=IDLE;
    ensure!(args.workloads.iter().all(|number| known.contains(number)), "workloads are numbered 1 to {IDLE}");
    ensure!(args.proxy_cpu != args.load_cpu, "the proxy needs a CPU of its own");
    let upstream_cpu = args.upstream_cpu.unwrap_or(args.load_cpu);
    let allowed = sys::allowed_cpus();
    for cpu in [args.proxy_cpu, args.load_cpu, upstream_cpu] {
        ensure!(allowed.contains(&cpu), "CPU {cpu} is not there for us; these are: {allowed:?}");
    }
    let driver = driver::choose(args.driver).context("io_uring is not available here")?;
    let mut report = PeersReport::new(args, driver, upstream_cpu);
    let files = report.facts.file_limit;
    ensure!(args.idle as u64 + 1000 < files, "--idle {}: only {files} files may be open (ulimit -n)", args.idle);
    let peers = find_peers(args, &mut report)?;
    ensure!(!peers.is_empty(), "no peer is installed");
    for (name, cure) in &report.missing {
        eprintln!("{name} is not installed, and skipped: {cure}");
    }

    // What this thread does in between must not fall on the proxy's core.
    sys::pin(args.load_cpu).context("cannot move to the generator's CPU")?;
    let upstream = Upstream::start(&[upstream_cpu])?;
    let all = workload::all(&variation(args)?);
    let asked: Vec<&Workload> = args.workloads.iter().filter_map(|&number| all.get(number - 1)).collect();
    let idle = args.workloads.contains(&IDLE).then_some(&all[0]);
    let bench = Bench {
        driver,
        generator_cpus: vec![args.load_cpu],
        proxy_cpus: vec![args.proxy_cpu],
        duration: args.duration,
        limits: Limits { lag_us: args.lag_limit, ..Limits::default() },
    };
    report.workloads = asked.iter().map(|workload| WorkloadReport::new(workload)).collect();
    let rounds = args.rounds.get();
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let peer = &peers[(round + turn) % peers.len()];
            eprintln!("round {} of {rounds}: {}", round + 1, peer.name);
            let place = Place { cpus: &bench.proxy_cpus, driver: driver_name(args.driver), upstream: upstream.address };
            if let Err(error) = one_round(peer, &place, &bench, &asked, idle, args.idle, &mut report) {
                let failure = format!("round {}, {}: {error:#}", round + 1, peer.name);
                eprintln!("{failure}");
                report.failed.push(failure);
            }
        }
    }
    report.measurements = measurements(&report);
    let tables = table::render(&report);
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.markdown {
        fs::write(path, &tables).with_context(|| format!("cannot write {}", path.display()))?;
    }
    crate::print(&tables)?;
    Ok(report.failed.is_empty())
}

pub fn driver_name(wanted: driver::Wanted) -> &'static str {
    match wanted {
        driver::Wanted::Auto => "auto",
        driver::Wanted::IoUring => "io_uring",
        driver::Wanted::Epoll => "epoll",
    }
}

/// The program that `--program NAME=PATH` names for a peer.
pub fn program<'a>(programs: &'a [String], name: &str) -> Option<&'a Path> {
    programs
        .iter()
        .find_map(|entry| entry.split_once('=').filter(|(named, _)| *named == name))
        .map(|(_, path)| path.as_ref())
}

fn find_peers(args: &PeersArgs, report: &mut PeersReport) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for folder in peer::folders(&args.peers, &args.only)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        match Peer::read(&folder, &args.target, program(&args.program, &name))? {
            Found::Missing { name, cure } => {
                report.missing.insert(name, cure);
            }
            Found::Here(peer) => {
                let (name, version) = (peer.name.clone(), peer.version.clone());
                report.peers.push(PeerFacts { name, role: peer.role, version, config_hash: peer.config_hash.clone() });
                peers.push(*peer);
            }
        }
    }
    Ok(peers)
}

/// Starts a peer, puts every workload on it, and ends it. Figures go into the report as they come.
fn one_round(
    peer: &Peer,
    place: &Place<'_>,
    bench: &Bench,
    workloads: &[&Workload],
    idle: Option<&Workload>,
    idle_connections: usize,
    report: &mut PeersReport,
) -> Result<()> {
    // A process of its own: neither should a load's buffers pass for a connection's, nor a load find what these left.
    // The relay has an upstream connection for each, so it is no floor here.
    if let Some(workload) = idle.filter(|_| peer.role != Role::Floor) {
        let server = peer.start(place, FIRST_REQUEST)?;
        let memory =
            bench.idle(workload, idle_connections, server.address, server.tree()).context("idle connections")?;
        report.idle.entry(peer.name.clone()).or_default().push(memory);
    }
    if workloads.is_empty() {
        return Ok(());
    }
    let server = peer.start(place, FIRST_REQUEST)?;
    for (index, workload) in workloads.iter().enumerate() {
        let trial = bench.trial(workload, server.address, server.tree()).with_context(|| workload.title.clone())?;
        report.workloads[index].trials.entry(peer.name.clone()).or_default().push(trial);
    }
    Ok(())
}

fn variation(args: &PeersArgs) -> Result<Variation> {
    let headers = parse_headers(&args.header)?;
    Ok(Variation { connections: args.connections, body_bytes: args.body_bytes, headers, rate: args.rate })
}

impl PeersReport {
    fn new(args: &PeersArgs, driver: driver::Driver, upstream_cpu: usize) -> Self {
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
            idle: BTreeMap::new(),
            failed: Vec::new(),
            measurements: Vec::new(),
        }
    }
}

impl WorkloadReport {
    fn new(workload: &Workload) -> Self {
        let (name, title) = (workload.name.to_owned(), workload.title.clone());
        Self { name, title, rate: workload.rate, has_floor: workload.has_floor, trials: BTreeMap::new() }
    }
}

/// Everything as named samples, for `compare`.
fn measurements(report: &PeersReport) -> Vec<Measurement> {
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
    let mut all = Vec::new();
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
    for (peer, seen) in &report.idle {
        let start = seen.iter().map(|memory| memory.at_start_kib).collect();
        push(format!("{peer}/idle/memory"), "KiB", Better::Lower, start);
        let each = seen.iter().map(|memory| memory.kib_per_connection).collect();
        push(format!("{peer}/idle/per-connection"), "KiB", Better::Lower, each);
    }
    all
}
