//! `scale`: what another core of the gateway brings, under both drivers.
//!
//! A point of n cores needs n more for generators and upstreams: below that, their want of CPU would pass for the
//! gateway's. What a machine is too small for is said, not extrapolated.

mod table;

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{
    driver,
    generator::{Limits, Loop},
    measure::{self, Facts},
    peers::{
        self,
        peer::{Found, Peer, Place, Upstream},
        trial::{Bench, Phase, SATURATED},
        workload::{self, Variation, Workload},
    },
    report::{self, Better, Measurement},
    scenario::parse_duration,
    sys,
};

/// Its folder among the peers.
const GATEWAY: &str = "ringway";
/// Connections for each core of the gateway.
const CONNECTIONS_PER_CORE: usize = 64;

#[derive(Args)]
pub struct ScaleArgs {
    /// Cores of the gateway
    #[arg(long, value_delimiter = ',', value_name = "N", default_value = "1,2,4,8")]
    cores: Vec<usize>,

    #[arg(long, value_delimiter = ',', value_name = "DRIVER", default_value = "io_uring,epoll")]
    drivers: Vec<driver::Wanted>,

    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,

    /// Measured time of each point in each round
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    duration: Duration,

    /// Size of every response
    #[arg(long, default_value = "1024")]
    body_bytes: usize,

    /// Folder of the peers, of which the gateway is measured
    #[arg(long, value_name = "DIR", default_value = "loadtest/peers")]
    peers: PathBuf,

    /// Cargo's target folder, where the gateway was built
    #[arg(long, value_name = "DIR", env = "CARGO_TARGET_DIR", default_value = "target")]
    target: PathBuf,

    /// NAME=PATH: another program, such as ringway=/tmp/ringway
    #[arg(long, value_name = "NAME=PATH")]
    program: Vec<String>,

    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the table as Markdown; it is printed in any case
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write the table as one HTML page, with what it says drawn
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The result of `scale`.
#[derive(Serialize, Deserialize)]
struct ScaleReport {
    format: u32,
    kind: String,
    started: String,
    command: String,
    facts: Facts,
    version: String,
    config_hash: String,
    /// Of each CPU: its core, package and NUMA node.
    topology: Vec<String>,
    points: Vec<Point>,
    /// What this machine is too small for.
    not_shown: Vec<String>,
    failed: Vec<String>,
    measurements: Vec<Measurement>,
}

#[derive(Serialize, Deserialize)]
struct Point {
    driver: String,
    cores: usize,
    gateway_cpus: Vec<usize>,
    generator_cpus: Vec<usize>,
    upstream_cpus: Vec<usize>,
    rounds: Vec<Round>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Round {
    phase: Phase,
    /// Of the busiest core's thread over the mean of all: 1 is an equal load.
    imbalance: f64,
}

/// Returns whether every round of every point gave figures.
///
/// # Errors
/// Wrong arguments, or the machine cannot do it.
pub fn run(args: &ScaleArgs) -> Result<bool> {
    ensure!(args.cores.iter().all(|&cores| cores > 0), "a gateway has at least one core");
    let driver = driver::choose(driver::Wanted::Auto)?;
    let program = peers::program(&args.program, GATEWAY);
    let peer = match Peer::read(&args.peers.join(GATEWAY), &args.target, program)? {
        Found::Here(peer) => *peer,
        Found::Missing { name, cure } => anyhow::bail!("{name} is not there: {cure}"),
    };
    let allowed = sys::allowed_cpus();
    let (mut points, not_shown) = plan(&args.cores, &args.drivers, &allowed);
    ensure!(!points.is_empty(), "nothing can be shown here: {}", not_shown.join("; "));
    let mut report = ScaleReport {
        format: report::FORMAT,
        kind: "scale".into(),
        started: measure::timestamp(SystemTime::now()),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        facts: Facts::collect(driver),
        version: peer.version.clone(),
        config_hash: peer.config_hash.clone(),
        topology: allowed.iter().map(|&cpu| topology(cpu)).collect(),
        points: Vec::new(),
        not_shown,
        failed: Vec::new(),
        measurements: Vec::new(),
    };
    let rounds = args.rounds.get();
    for round in 0..rounds {
        let count = points.len();
        for turn in 0..count {
            let point = &mut points[(round + turn) % count];
            eprintln!("round {} of {rounds}: {} cores, {}", round + 1, point.cores, point.driver);
            match measure_point(args, &peer, point, driver) {
                Ok(seen) => point.rounds.push(seen),
                Err(error) => {
                    let failure = format!("round {}, {} cores, {}: {error:#}", round + 1, point.cores, point.driver);
                    eprintln!("{failure}");
                    report.failed.push(failure);
                }
            }
        }
    }
    report.measurements = measurements(&points);
    report.points = points;
    let table = table::markdown(&report);
    let write = |path: &Option<PathBuf>, text: &str| match path {
        Some(path) => fs::write(path, text).with_context(|| format!("cannot write {}", path.display())),
        None => Ok(()),
    };
    write(&args.json, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    write(&args.markdown, &table)?;
    write(&args.html, &table::page(&report))?;
    crate::print(&table)?;
    Ok(report.failed.is_empty())
}

/// Which CPUs each point uses, and which points there are not enough of them for.
fn plan(cores: &[usize], drivers: &[driver::Wanted], allowed: &[usize]) -> (Vec<Point>, Vec<String>) {
    let (mut points, mut not_shown) = (Vec::new(), Vec::new());
    for &cores in cores {
        if 2 * cores > allowed.len() {
            let (needed, there) = (2 * cores, allowed.len());
            not_shown.push(format!("{cores} cores: {needed} CPUs are needed, the load's too, and {there} are there"));
            continue;
        }
        let (gateway, others) = allowed.split_at(cores);
        let others = &others[..cores];
        // A generator costs a request a little more than an upstream does, so it gets the odd CPU; a lone one is shared.
        let generators = others.len().div_ceil(2);
        let upstreams = if others.len() == 1 { others } else { &others[generators..] };
        for &driver in drivers {
            points.push(Point {
                driver: peers::driver_name(driver).to_owned(),
                cores,
                gateway_cpus: gateway.to_vec(),
                generator_cpus: others[..generators].to_vec(),
                upstream_cpus: upstreams.to_vec(),
                rounds: Vec::new(),
            });
        }
    }
    (points, not_shown)
}

fn measure_point(args: &ScaleArgs, peer: &Peer, point: &Point, driver: driver::Driver) -> Result<Round> {
    // What this thread does must not fall on a core of the gateway.
    sys::pin_to(&point.generator_cpus).context("cannot move to the generators' CPUs")?;
    let upstream = Upstream::start(&point.upstream_cpus)?;
    let place = Place {
        cpus: &point.gateway_cpus,
        driver: &point.driver,
        upstream: upstream.address,
        certificates: None,
        policed: None,
    };
    let server = peer.start(&place, peers::FIRST_REQUEST)?;
    let bench = Bench {
        driver,
        generator_cpus: point.generator_cpus.clone(),
        proxy_cpus: point.gateway_cpus.clone(),
        duration: args.duration,
        limits: Limits::default(),
    };
    let workload = keep_alive(args.body_bytes, point.cores);
    let before = server.tree().thread_ticks();
    let (_, phase) = bench.phase(&workload, server.address, server.tree(), Loop::Closed)?;
    let imbalance = imbalance(&before, &server.tree().thread_ticks());
    Ok(Round { phase, imbalance })
}

fn keep_alive(body_bytes: usize, cores: usize) -> Workload {
    let connections = Some(CONNECTIONS_PER_CORE * cores);
    let variation = Variation { connections, body_bytes: Some(body_bytes), ..Variation::default() };
    workload::all(&variation).swap_remove(0)
}

/// Of the threads named `core-N`; 1 for a program that names none so.
fn imbalance(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> f64 {
    let cores = after.iter().filter(|(name, _)| name.starts_with("core-"));
    let used: Vec<f64> =
        cores.map(|(name, &ticks)| ticks.saturating_sub(before.get(name).copied().unwrap_or(0)) as f64).collect();
    let mean = used.iter().sum::<f64>() / used.len().max(1) as f64;
    if mean > 0.0 { used.iter().copied().fold(0.0, f64::max) / mean } else { 1.0 }
}

fn topology(cpu: usize) -> String {
    let read = |path: &str| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/{path}");
        fs::read_to_string(path).map_or("?".into(), |text| text.trim().to_owned())
    };
    let nodes = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")).into_iter().flatten().flatten();
    let node = nodes.filter_map(|entry| entry.file_name().into_string().ok()).find(|name| name.starts_with("node"));
    format!(
        "CPU {cpu}: core {}, package {}, siblings {}, {}",
        read("topology/core_id"),
        read("topology/physical_package_id"),
        read("topology/thread_siblings_list"),
        node.unwrap_or_else(|| "node ?".into())
    )
}

fn costs(point: &Point) -> Vec<f64> {
    point.rounds.iter().map(|round| round.phase.us_per_request).collect()
}

fn measurements(points: &[Point]) -> Vec<Measurement> {
    let mut all = Vec::new();
    for point in points {
        let place = format!("{}/{}", point.driver, point.cores);
        let full = point.rounds.iter().filter(|round| round.phase.core_share > SATURATED);
        let rates: Vec<f64> = full.map(|round| round.phase.per_second).collect();
        let lists = [
            ("cpu", "us/request", Better::Lower, costs(point)),
            ("rate", "requests/s", Better::Higher, rates),
            ("imbalance", "busiest/mean", Better::Lower, point.rounds.iter().map(|r| r.imbalance).collect()),
        ];
        for (what, unit, better, samples) in lists {
            if !samples.is_empty() {
                all.push(Measurement { name: format!("{place}/{what}"), unit: unit.into(), better, samples });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_needs_as_many_cpus_for_its_load() {
        let drivers = [driver::Wanted::IoUring, driver::Wanted::Epoll];
        let (points, not_shown) = plan(&[1, 2, 4], &drivers, &[0, 1, 2, 3, 4, 5]);
        let shown: Vec<_> = points.iter().map(|point| (point.cores, point.driver.as_str())).collect();
        assert_eq!(shown, [(1, "io_uring"), (1, "epoll"), (2, "io_uring"), (2, "epoll")]);
        assert_eq!((&points[0].generator_cpus[..], &points[0].upstream_cpus[..]), (&[1][..], &[1][..]));
        assert_eq!((&points[2].generator_cpus[..], &points[2].upstream_cpus[..]), (&[2][..], &[3][..]));
        assert_eq!(not_shown, ["4 cores: 8 CPUs are needed, the load's too, and 6 are there"]);
    }

    #[test]
    fn the_busiest_core_is_compared_with_the_mean() {
        let ticks =
            |a, b| BTreeMap::from([("core-0".to_owned(), a), ("core-1".to_owned(), b), ("main".to_owned(), 50)]);
        assert_eq!(imbalance(&ticks(0, 10), &ticks(30, 20)), 1.5);
        assert_eq!(imbalance(&BTreeMap::new(), &BTreeMap::new()), 1.0);
    }
}
