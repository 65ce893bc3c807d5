//! `ringway version`: what this binary is, for people and for scripts.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde::Serialize;

use crate::net::driver::{self, Wanted};

#[derive(Args)]
pub struct VersionArgs {
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_parser = ["text", "json"], conflicts_with = "json")]
    output: Option<String>,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    /// `unknown` where the build saw no repository.
    commit: &'static str,
    driver: Driver,
}

/// What `run` would take here, were it not told otherwise.
#[derive(Serialize)]
struct Driver {
    kind: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    flags: &'static str,
    reason: String,
}

pub fn run(args: &VersionArgs) -> ExitCode {
    let version =
        Version { version: env!("CARGO_PKG_VERSION"), commit: env!("RINGWAY_COMMIT"), driver: this_hosts_driver() };
    let mut out = io::stdout().lock();
    let written = if args.json || args.output.as_deref() == Some("json") {
        serde_json::to_writer_pretty(&mut out, &version).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        let Version { version, commit, driver } = version;
        writeln!(out, "ringway {version}\ncommit  {commit}\ndriver  {} ({})", driver.kind, driver.reason)
    };
    // A reader that closed the pipe has what it wanted.
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn this_hosts_driver() -> Driver {
    match driver::probe(Wanted::Auto, 1) {
        Ok(found) => Driver { kind: found.kind.to_string(), flags: found.kind.flags(), reason: found.reason },
        // Only a demand for io_uring is ever refused, and none was made.
        Err(reason) => Driver { kind: "none".into(), flags: "", reason },
    }
}
