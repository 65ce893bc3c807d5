//! `run`: a load on a server that is already there.

use std::{
    fs,
    io::{IsTerminal, Write},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    driver,
    generator::{self, Limits, Loop, Outcome, Plan, Verdict},
    hash::Hash,
    measure::{self, Facts, Look, ProcessTree},
    protocol::{Protocol, ProtocolArgs},
    report::{self, Load, Report, Round, ServerCost},
    scenario::{self, Form, Mix, Request, Scenario, Target, parse_duration},
    schedule::Shape,
    sys,
};

/// What a run does where nobody says otherwise.
const CONNECTIONS: usize = 64;
const DURATION: Duration = Duration::from_secs(10);
const WARMUP: Duration = Duration::from_secs(1);
const CONNECTIONS_MAX: usize = 100_000;

#[derive(Args)]
pub struct RunArgs {
    /// Where to: `http[s]://HOST[:PORT][/PATH]`; a scenario may name it instead
    url: Option<String>,

    /// Requests per second, on a schedule that waits for nobody
    #[arg(short, long, value_name = "PER_SECOND", conflicts_with = "closed")]
    rate: Option<f64>,

    /// A closed loop instead: the next request when the last is answered, on every connection
    #[arg(long)]
    closed: bool,

    /// How the gaps of the schedule are spread [default: constant]
    #[arg(long, value_name = "SHAPE")]
    schedule: Option<Shape>,

    /// Connections, over all generator threads [default: 64]
    #[arg(short, long)]
    connections: Option<usize>,

    /// A connection for each request
    #[arg(long)]
    no_keep_alive: bool,

    #[command(flatten)]
    protocol: ProtocolArgs,

    /// Measured time: 500ms, 10s, 2m [default: 10s]
    #[arg(short, long, value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Load before that, which is not measured [default: 1s]
    #[arg(long, value_parser = parse_duration)]
    warmup: Option<Duration>,

    /// Times to measure; `compare` needs several to know the spread
    #[arg(long, default_value = "1")]
    rounds: NonZeroUsize,

    /// Requests unanswered for longer are given up, and count as that slow
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    timeout: Duration,

    /// A mix of requests, headers and settings in YAML
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,

    /// A mix derived from an access log of ringway in JSON
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    access_log: Option<PathBuf>,

    /// Of the single request, without a scenario
    #[arg(short = 'X', long, default_value = "GET")]
    method: String,

    /// `Name: value`, sent with every request; repeatable
    #[arg(short = 'H', long, value_name = "HEADER")]
    header: Vec<String>,

    /// Body of the single request
    #[arg(long, conflicts_with = "body_bytes")]
    body: Option<String>,

    /// A body of so many bytes
    #[arg(long, value_name = "N")]
    body_bytes: Option<usize>,

    /// CPUs of the generator, one thread on each: 1 or 2,3
    #[arg(long, value_delimiter = ',', value_name = "CPU")]
    cpu: Vec<usize>,

    /// How the generator talks to the kernel
    #[arg(long, default_value = "auto")]
    driver: driver::Wanted,

    /// The server's process: its CPU per request is measured, with its children
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// The server's configuration: its hash is recorded
    #[arg(long, value_name = "FILE")]
    server_config: Option<PathBuf>,

    /// Seed of every random choice
    #[arg(long, default_value = "1")]
    seed: u64,

    /// Refuse results when the generator's own 99th percentile of lateness is above this
    #[arg(long, value_name = "US", default_value = "1000")]
    lag_limit: f64,

    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write the result as one HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write an HdrHistogram log, version 2
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
}

/// Everything decided: command line over scenario over defaults.
struct Settled {
    target: Target,
    pace: Loop,
    connections: usize,
    keep_alive: bool,
    protocol: Protocol,
    warmup: Duration,
    duration: Duration,
    mix: Arc<Mix>,
}

/// Returns whether every round gave a result.
///
/// # Errors
/// Wrong arguments, or a file that cannot be read or written.
pub fn run(args: &RunArgs) -> Result<bool> {
    let settled = settle(args)?;
    let driver = driver::choose(args.driver).context("io_uring is not available here")?;
    let facts = Facts::collect(driver);
    let started = SystemTime::now();
    let server = args.server_pid.map(ProcessTree);
    if let Some(server) = &server {
        ensure!(server.cpu().is_some(), "there is no process {}", server.0);
    }
    let limits = Limits { lag_us: args.lag_limit, ..Limits::default() };

    let (mut rounds, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..args.rounds.get() {
        let running = generator::launch(plans(args, &settled, driver, number as u64))?;
        let interval = Duration::from_secs((settled.duration.as_secs() / 600).max(1));
        let label = format!("round {} of {}", number + 1, args.rounds);
        let looks = measure::watch(&running, server.as_ref(), interval, |looks| progress(&label, &running, looks));
        let outcome = running.finish()?;
        end_of_progress();
        let refused = match generator::judge(&outcome, settled.pace, limits) {
            Verdict::Valid => None,
            Verdict::Refused(reason) => Some(reason),
        };
        rounds.push(round(&outcome, refused, &looks));
        outcomes.push(outcome);
    }
    let report = Report {
        format: report::FORMAT,
        kind: "run".into(),
        started: measure::timestamp(started),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        facts,
        load: load(args, &settled)?,
        measurements: report::measurements(&rounds),
        rounds,
    };
    write_files(args, &report, started, &outcomes)?;
    crate::print(&report::summary::render(&report))?;
    Ok(report.rounds.iter().all(|round| round.refused.is_none()))
}

fn settle(args: &RunArgs) -> Result<Settled> {
    let file = args.scenario.as_deref().map(scenario::read).transpose()?.unwrap_or_default();
    let url =
        args.url.as_ref().or(file.target.as_ref()).context("no URL: name one, or a scenario that has a target")?;
    let target: Target = url.parse()?;
    let pace = match (args.closed, args.rate.or(file.rate)) {
        (true, _) => Loop::Closed,
        (false, Some(per_second)) => {
            ensure!(per_second.is_finite() && per_second > 0.0, "the rate must be above 0");
            let shape = args.schedule.or(file.schedule).unwrap_or(Shape::Constant);
            Loop::Open { per_second, shape }
        }
        (false, None) => anyhow::bail!("say how fast: --rate PER_SECOND, or --closed for a closed loop"),
    };
    let connections = args.connections.or(file.connections).unwrap_or(CONNECTIONS);
    let threads = args.cpu.len().max(1);
    ensure!((threads..=CONNECTIONS_MAX).contains(&connections), "connections: {threads} to {CONNECTIONS_MAX}");
    let duration = args.duration.or(file.duration).unwrap_or(DURATION);
    ensure!(!duration.is_zero(), "the duration must be above 0");
    let keep_alive = if args.no_keep_alive { false } else { file.keep_alive.unwrap_or(true) };
    let protocol = args.protocol.settle(&target, keep_alive)?;
    let mix = Arc::new(mix(args, file_requests(args, &file)?, &file, &target, protocol.form(keep_alive))?);
    let warmup = args.warmup.or(file.warmup).unwrap_or(WARMUP);
    Ok(Settled { target, pace, connections, keep_alive, protocol, warmup, duration, mix })
}

fn file_requests(args: &RunArgs, file: &Scenario) -> Result<Vec<Request>> {
    if let Some(path) = &args.access_log {
        let log = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let derived = scenario::from_access_log(std::io::BufReader::new(log))
            .with_context(|| format!("{} gives no mix", path.display()))?;
        if derived.skipped + derived.rare > 0 {
            let (skipped, rare) = (derived.skipped, derived.rare);
            eprintln!("{}: {skipped} lines hold no request, {rare} are of rare requests left out", path.display());
        }
        return Ok(derived.requests);
    }
    Ok(file.requests.clone())
}

fn mix(args: &RunArgs, requests: Vec<Request>, file: &Scenario, target: &Target, form: Form) -> Result<Mix> {
    let mut headers = file.headers.clone();
    headers.extend(scenario::parse_headers(&args.header)?);
    let requests = if requests.is_empty() {
        let (body, body_bytes) = (args.body.clone(), args.body_bytes);
        vec![Request { method: args.method.clone(), body, body_bytes, ..Request::default() }]
    } else {
        requests
    };
    Mix::prepare(target, &requests, &headers, form)
}

/// The load shared out over the threads.
fn plans(args: &RunArgs, settled: &Settled, driver: driver::Driver, round: u64) -> Vec<Plan> {
    let cpus: Vec<Option<usize>> =
        if args.cpu.is_empty() { vec![None] } else { args.cpu.iter().copied().map(Some).collect() };
    let threads = cpus.len();
    let pace = match settled.pace {
        Loop::Open { per_second, shape } => Loop::Open { per_second: per_second / threads as f64, shape },
        Loop::Closed => Loop::Closed,
    };
    let plan = |(index, cpu)| Plan {
        target: settled.target.address,
        mix: settled.mix.clone(),
        pace,
        connections: settled.connections / threads + usize::from(index < settled.connections % threads),
        keep_alive: settled.keep_alive,
        tls: settled.protocol.tls.clone(),
        streams: settled.protocol.streams,
        warmup: settled.warmup,
        duration: settled.duration,
        timeout: args.timeout,
        seed: args.seed.wrapping_add(round << 32).wrapping_add(index as u64),
        driver,
        cpu,
    };
    cpus.into_iter().enumerate().map(plan).collect()
}

/// A round of a report from what was seen from inside and from outside.
pub fn round(outcome: &Outcome, refused: Option<String>, looks: &[Look]) -> Round {
    let cost = |later: &Look, earlier: &Look| later.cost_since(earlier);
    let costs: Vec<Option<f64>> =
        looks.windows(2).map(|pair| cost(&pair[1], &pair[0]).map(|cost| cost.us_per_request)).collect();
    let whole = looks.first().zip(looks.last()).and_then(|(first, last)| cost(last, first));
    Round::new(outcome, refused, whole.map(ServerCost::from), &costs)
}

fn load(args: &RunArgs, settled: &Settled) -> Result<Load> {
    let hash = |path: &PathBuf| -> Result<String> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Hash::new().part(&bytes).text())
    };
    let (pace, rate) = match settled.pace {
        Loop::Open { per_second, shape: Shape::Constant } => ("open, constant", Some(per_second)),
        Loop::Open { per_second, shape: Shape::Poisson } => ("open, poisson", Some(per_second)),
        Loop::Closed => ("closed", None),
    };
    Ok(Load {
        target: settled.target.to_string(),
        pace: pace.into(),
        rate,
        connections: settled.connections,
        keep_alive: settled.keep_alive,
        protocol: settled.protocol.name(),
        warmup_s: settled.warmup.as_secs_f64(),
        duration_s: settled.duration.as_secs_f64(),
        timeout_s: args.timeout.as_secs_f64(),
        requests: settled.mix.len(),
        scenario_hash: settled.mix.hash(),
        server_config_hash: args.server_config.as_ref().map(hash).transpose()?,
        generator_cpus: if args.cpu.is_empty() { sys::allowed_cpus() } else { args.cpu.clone() },
    })
}

fn write_files(args: &RunArgs, report: &Report, started: SystemTime, outcomes: &[Outcome]) -> Result<()> {
    let cannot = |path: &PathBuf| format!("cannot write {}", path.display());
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(report)? + "\n").with_context(|| cannot(path))?;
    }
    if let Some(path) = &args.html {
        fs::write(path, report::html::render(report)).with_context(|| cannot(path))?;
    }
    if let Some(path) = &args.hdr {
        let mut file = fs::File::create(path).with_context(|| cannot(path))?;
        report::hdr_log::write(&mut file, started, outcomes).with_context(|| cannot(path))?;
    }
    Ok(())
}

/// One line that is written over, if somebody is looking.
fn progress(label: &str, running: &generator::Running, looks: &[Look]) {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return };
    if !std::io::stderr().is_terminal() {
        return;
    }
    let earlier = looks.len().checked_sub(2).map_or(first, |index| &looks[index]);
    let seconds = (last.at_ns - earlier.at_ns) as f64 / 1e9;
    let rate = if seconds > 0.0 { (last.completed - earlier.completed) as f64 / seconds } else { 0.0 };
    let (at, failed) = ((last.at_ns - first.at_ns) as f64 / 1e9, running.failed());
    let cost = last.cost_since(earlier).map_or(String::new(), |cost| format!(", server {:.2} us", cost.us_per_request));
    eprint!("\r{label}: {at:.0} s, {rate:.0} responses/s, {failed} failed{cost}\x1b[K");
    let _ = std::io::stderr().flush();
}

fn end_of_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}
