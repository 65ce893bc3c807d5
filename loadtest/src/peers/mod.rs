//! `peers`: the gateway beside other proxies, under the same loads, on the same core, in turns.
//!
//! One proxy runs at a time, on a core of its own; generator and upstream share another. Machines change from minute to
//! minute, so a round asks every proxy everything before the next round begins, and each round begins with another one.

mod page;
pub mod peer;
pub mod policies;
mod results;
mod table;
pub mod trial;
pub mod workload;

use std::{
    collections::BTreeMap,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::{
    peer::{Found, Peer, Place, Role, Upstream},
    policies::{Policies, PolicyReport},
    results::{PeerFacts, PeersReport, WorkloadReport},
    trial::Bench,
    workload::{Choice, Choices, HeaderSet, Variation, Workload},
};
use crate::{
    driver,
    generator::Limits,
    scenario::{parse_duration, parse_headers},
    sys, tls,
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

    /// By number or name: 1 keep-alive, 2 connect, 3 post, 4 download, 5 idle, 6 tls, 7 handshake, 8 h2, 12 idle-tls;
    /// policy-* for what each policy adds, or some of them by their names
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD", default_value = "1,2,3,4,5,6,7,8,12")]
    workloads: Vec<Choices>,

    /// NAME=US: what a policy should add at most, in CPU microseconds a request, to be printed beside what it adds
    #[arg(long, value_name = "NAME=US", value_parser = parse_policy_target)]
    policy_target: Vec<(&'static str, f64)>,

    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,

    /// Measured time of each load; there are two for each workload, three for most with a policy
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

    /// Headers as a kind of client sends them, with every request
    #[arg(long, value_name = "SET", default_value = "bare")]
    header_set: HeaderSet,

    /// Streams on each connection of HTTP/2 [default: 8]
    #[arg(long, value_name = "N")]
    streams: Option<usize>,

    /// Common rate instead of each workload's own, per second
    #[arg(short, long)]
    rate: Option<f64>,

    /// Idle connections of workloads 5 and 12
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

    /// Write the tables as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// By which a proxy is seen to be there.
pub const FIRST_REQUEST: &[u8] = b"GET /bytes/16 HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";

/// Returns whether every round of every peer gave figures.
///
/// # Errors
/// Wrong arguments, or the machine cannot do it.
pub fn run(args: &PeersArgs) -> Result<bool> {
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
    let variation = variation(args)?;
    let loads = workload::all(&variation);
    let choices = chosen(&args.workloads);
    let asked = choices.iter().filter_map(|choice| match choice {
        Choice::Load(place) => Some(loads[*place].clone()),
        Choice::Idle | Choice::IdleTls | Choice::Policy(_) => None,
    });
    let bench = Bench {
        driver,
        generator_cpus: vec![args.load_cpu],
        proxy_cpus: vec![args.proxy_cpu],
        duration: args.duration,
        limits: Limits { lag_us: args.lag_limit, ..Limits::default() },
    };
    let session = Session {
        args,
        bench,
        upstream: Upstream::start(&[upstream_cpu])?,
        certificates: Certificates::make()?,
        asked: asked.collect(),
        idle: loads,
        policies: Policies::make(&variation, &policy_names(&choices))?,
        choices,
    };
    report.workloads = session.asked.iter().map(WorkloadReport::new).collect();
    report.policies = session.policy_reports(&peers);
    let rounds = args.rounds.get();
    for round in 0..rounds {
        for turn in 0..peers.len() {
            let peer = &peers[(round + turn) % peers.len()];
            eprintln!("round {} of {rounds}: {}", round + 1, peer.name);
            for tls in [false, true] {
                if let Err(error) = session.round(peer, tls, &mut report) {
                    report.fail(round, &peer.name, &format!("{error:#}"));
                }
            }
            for failure in session.policies(peer, &mut report) {
                report.fail(round, &peer.name, &failure);
            }
        }
    }
    report.policies.iter_mut().for_each(PolicyReport::summarize);
    report.measurements = results::measurements(&report);
    let tables = table::render(&report);
    let write = |path: &Option<PathBuf>, text: &str| match path {
        Some(path) => fs::write(path, text).with_context(|| format!("cannot write {}", path.display())),
        None => Ok(()),
    };
    write(&args.json, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    write(&args.markdown, &tables)?;
    write(&args.html, &page::render(&report))?;
    crate::print(&tables)?;
    Ok(report.failed.is_empty())
}

/// What all rounds share.
struct Session<'a> {
    args: &'a PeersArgs,
    bench: Bench,
    upstream: Upstream,
    certificates: Certificates,
    choices: Vec<Choice>,
    asked: Vec<Workload>,
    /// Of these, idle connections do one request each.
    idle: Vec<Workload>,
    policies: Policies,
}

impl Session<'_> {
    /// Starts a peer, with TLS or without, puts every workload of that kind on it, and ends it. Figures go into the
    /// report as they come.
    fn round(&self, peer: &Peer, tls: bool, report: &mut PeersReport) -> Result<()> {
        let choice = if tls { Choice::IdleTls } else { Choice::Idle };
        // The relay has an upstream connection for each, so it is no floor of memory.
        let idle = self.choices.contains(&choice) && peer.role != Role::Floor;
        let loads: Vec<usize> = (0..self.asked.len()).filter(|&index| self.asked[index].tls == tls).collect();
        if !idle && loads.is_empty() || tls && report.without_tls.contains_key(&peer.name) {
            return Ok(());
        }
        if tls && !peer.knows_tls() {
            report.without_tls.insert(peer.name.clone(), "its folder does not say how".into());
            return Ok(());
        }
        let certificates = tls.then_some(self.certificates.0.as_path());
        let place = Place { certificates, ..self.place() };
        let server = match peer.start(&place, FIRST_REQUEST) {
            // One that cannot, or was built without it, is measured without, and named.
            Err(error) if tls && !report.has_tls_of(&peer.name) => {
                let reason = format!("{error:#}");
                eprintln!("{} serves no TLS, and its workloads are skipped: {reason}", peer.name);
                report.without_tls.insert(peer.name.clone(), reason);
                return Ok(());
            }
            started => started?,
        };
        if idle {
            let workload = self.idle.iter().find(|workload| workload.tls == tls).context("there is one of each")?;
            let memory = self.bench.idle(workload, self.args.idle, server.address, server.tree());
            let memory = memory.context("idle connections")?;
            let seen = if tls { &mut report.idle_tls } else { &mut report.idle };
            seen.entry(peer.name.clone()).or_default().push(memory);
        }
        if loads.is_empty() {
            return Ok(());
        }
        // A process of its own: a load should not find what idle connections left, nor they what its buffers took.
        let server = if idle {
            drop(server);
            peer.start(&place, FIRST_REQUEST)?
        } else {
            server
        };
        for index in loads {
            let workload = &self.asked[index];
            let trial = self.bench.trial(workload, server.address, server.tree());
            let trial = trial.with_context(|| workload.title.clone())?;
            report.workloads[index].trials.entry(peer.name.clone()).or_default().push(trial);
        }
        Ok(())
    }

    /// Without TLS and policies.
    fn place(&self) -> Place<'_> {
        Place {
            cpus: &self.bench.proxy_cpus,
            driver: driver_name(self.args.driver),
            upstream: self.upstream.address,
            certificates: None,
            policed: None,
        }
    }

    /// Puts the policies that were asked for on one peer. Returns what failed.
    fn policies(&self, peer: &Peer, report: &mut PeersReport) -> Vec<String> {
        if peer.role == Role::Floor {
            return Vec::new();
        }
        let round = self.policies.round(&self.bench, peer, &self.place(), &mut report.policies);
        round.unwrap_or_else(|error| vec![format!("{error:#}")])
    }

    /// One for each policy that was asked for, with the peers that it is not measured with.
    fn policy_reports(&self, peers: &[Peer]) -> Vec<PolicyReport> {
        let names = policy_names(&self.choices);
        let mut left_out: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
        for peer in peers.iter().filter(|peer| !names.is_empty() && peer.role != Role::Floor) {
            for (name, reason) in peer.left_out(&names) {
                let name = names.iter().find(|known| **known == name).expect("only these were asked about");
                left_out.entry(name).or_default().insert(peer.name.clone(), reason);
            }
        }
        let target = |name: &str| self.args.policy_target.iter().find(|(named, _)| *named == name).map(|(_, us)| *us);
        let report = |workload: &policies::PolicyWorkload| {
            let left_out = left_out.remove(workload.name).unwrap_or_default();
            PolicyReport::new(workload, target(workload.name), left_out)
        };
        self.policies.workloads().iter().map(report).collect()
    }
}

/// Each once, in the order of the command line.
fn chosen(workloads: &[Choices]) -> Vec<Choice> {
    let mut choices = Vec::new();
    for &choice in workloads.iter().flat_map(|choices| &choices.0) {
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    choices
}

fn policy_names(choices: &[Choice]) -> Vec<&'static str> {
    let name = |choice: &Choice| if let Choice::Policy(name) = choice { Some(*name) } else { None };
    choices.iter().filter_map(name).collect()
}

/// The policy's name in full, and microseconds.
fn parse_policy_target(text: &str) -> Result<(&'static str, f64)> {
    let (name, us) = text.split_once('=').context("not NAME=US")?;
    let name =
        policies::NAMES.into_iter().find(|known| *known == name).with_context(|| format!("{name} is no policy's"))?;
    let us: f64 = us.parse().with_context(|| format!("{us} is no number"))?;
    ensure!(us.is_finite() && us > 0.0, "{us} is no number of microseconds");
    Ok((name, us))
}

/// The folder of the certificate that every peer presents, for as long as this lives.
struct Certificates(PathBuf);

impl Certificates {
    fn make() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("ringway-loadtest-{}-certificates", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let certificates = Self(folder);
        tls::write_certificate(&certificates.0)?;
        Ok(certificates)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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

fn variation(args: &PeersArgs) -> Result<Variation> {
    let mut headers = args.header_set.headers();
    headers.extend(parse_headers(&args.header)?);
    let PeersArgs { connections, body_bytes, rate, streams, .. } = *args;
    Ok(Variation { connections, body_bytes, headers, rate, streams })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_twice_is_measured_once() {
        let choices = |text: &str| text.parse::<Choices>().expect("known");
        let chosen = chosen(&[choices("policy-cors"), choices("1"), choices("policy-c*"), choices("keep-alive")]);
        let names = ["policy-cors", "policy-chain", "policy-client-id"];
        assert_eq!(policy_names(&chosen), names);
        assert_eq!(chosen[1], Choice::Load(0));
        assert_eq!(chosen.len(), 4);
    }

    #[test]
    fn a_policys_target_is_a_number_of_microseconds() {
        assert_eq!(parse_policy_target("policy-basic=1.5").expect("well formed"), ("policy-basic", 1.5));
        let refused = |text: &str| parse_policy_target(text).expect_err("must be refused").to_string();
        assert_eq!(refused("policy-basic"), "not NAME=US");
        assert_eq!(refused("basic=1"), "basic is no policy's");
        assert_eq!(refused("policy-basic=fast"), "fast is no number");
        assert_eq!(refused("policy-basic=-1"), "-1 is no number of microseconds");
    }
}
