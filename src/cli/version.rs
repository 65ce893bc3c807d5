//! `ringway version`: what this binary is, for people and for scripts.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde::Serialize;

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
}

pub fn run(args: &VersionArgs) -> ExitCode {
    let version = Version { version: env!("CARGO_PKG_VERSION"), commit: env!("RINGWAY_COMMIT") };
    let mut out = io::stdout().lock();
    let written = if args.json || args.output.as_deref() == Some("json") {
        serde_json::to_writer_pretty(&mut out, &version).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        writeln!(out, "ringway {}\ncommit  {}", version.version, version.commit)
    };
    // A reader that closed the pipe has what it wanted.
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
