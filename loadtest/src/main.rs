//! Ringway's load harness: an open-loop generator, and what is needed to measure proxies beside each other with it.

mod compare;
mod driver;
mod generator;
mod hash;
mod http1;
mod http2;
mod measure;
mod peers;
mod protocol;
mod relay;
mod report;
mod run;
mod scale;
mod scenario;
mod schedule;
mod statistics;
mod sys;
mod tls;
mod upstream;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures HTTP servers, and proxies beside each other
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put a load on a server and report latency, throughput and cost
    ///
    /// Exits 1 when a round gave no result, such as when the generator was itself the bottleneck.
    Run(Box<run::RunArgs>),
    /// Compare two results; exits 1 when the second is worse than the threshold allows
    Compare(CompareArgs),
    /// Measure the gateway and other proxies, one at a time on one core, in turns
    ///
    /// Exits 1 when a round of one of them failed.
    Peers(Box<peers::PeersArgs>),
    /// Measure the gateway on 1, 2, 4 and 8 cores, under io_uring and epoll
    Scale(Box<scale::ScaleArgs>),
    /// Serve answers of any size, as the upstream behind a proxy
    Upstream(UpstreamArgs),
    /// Pass bytes to an upstream unseen: the least a proxy can cost
    Relay(RelayArgs),
}

#[derive(clap::Args)]
struct CompareArgs {
    /// The result to compare with
    before: PathBuf,
    /// The result in question
    after: PathBuf,
    /// How much worse a measurement may be, in percent
    #[arg(long, value_name = "PERCENT", default_value = "5")]
    threshold: f64,
    /// Only measurements whose names begin so, such as `ringway/`
    #[arg(long, value_name = "PREFIX", default_value = "")]
    only: String,
}

#[derive(clap::Args)]
struct UpstreamArgs {
    #[arg(long, default_value = "127.0.0.1:28080")]
    address: SocketAddr,
    /// Body of an answer to any path but /bytes/N
    #[arg(long, default_value = "1024")]
    body_bytes: usize,
    /// CPUs to serve on, one thread on each: 1 or 2,3
    #[arg(long, value_delimiter = ',', value_name = "CPU")]
    cpu: Vec<usize>,
    #[arg(long, default_value = "auto")]
    driver: driver::Wanted,
}

#[derive(clap::Args)]
struct RelayArgs {
    #[arg(long, default_value = "127.0.0.1:28081")]
    address: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:28080")]
    upstream: SocketAddr,
    #[arg(long)]
    cpu: Option<usize>,
    #[arg(long, default_value = "auto")]
    driver: driver::Wanted,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether all is well; what is not was said already.
fn dispatch(command: Command) -> Result<bool> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => {
            let comparison = compare::compare(&args.before, &args.after, args.threshold / 100.0, &args.only)?;
            print(&comparison.table)?;
            if !comparison.worse.is_empty() {
                eprintln!("worse by more than {} %: {}", args.threshold, comparison.worse.join(", "));
            }
            Ok(comparison.worse.is_empty())
        }
        Command::Peers(args) => peers::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Upstream(args) => {
            upstream::serve(args.address, args.body_bytes, driver::choose(args.driver)?, &args.cpu).map(|()| true)
        }
        Command::Relay(args) => {
            relay::serve(args.address, args.upstream, driver::choose(args.driver)?, args.cpu).map(|()| true)
        }
    }
}

/// To stdout. A reader that closed the pipe has what it wanted.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
