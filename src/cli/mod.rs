//! The command line: one file per verb.
//!
//! Results go to stdout, diagnostics to stderr. Exit codes: 0 done, 1 a check or a probe failed, 2 wrong usage, 78 the
//! configuration cannot be used (so that systemd does not restart in a loop).

pub mod cache;
pub mod check;
pub mod completions;
pub mod dump;
pub mod explain;
pub mod logging;
pub mod policies;
pub mod probe;
mod render;
pub mod run;
pub mod schema;
pub mod version;

use std::{ffi::OsStr, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "ringway", version, about, propagate_version = false)]
struct Ringway {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve the configuration until told to stop
    Run(run::RunArgs),
    /// Read a configuration as `run` would and report everything that is wrong with it
    Check(check::CheckArgs),
    /// Print the configuration in its expanded form, secrets redacted
    Dump(dump::DumpArgs),
    /// Say what would become of a request, step by step, and why
    Explain(explain::ExplainArgs),
    /// List the policies there are, which of them work, their fields, and what they answer
    Policies(policies::PoliciesArgs),
    /// Print the JSON Schema of configuration files, for editors
    Schema(schema::SchemaArgs),
    /// Ask a running gateway whether it is alive or ready
    Probe(probe::ProbeArgs),
    /// Have a running gateway forget what it has stored
    Cache(cache::CacheArgs),
    /// Print version, commit and the I/O driver that this host gives
    Version(version::VersionArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// The verbs that Flex documents, under the name that Flex gives them.
#[derive(Parser)]
#[command(name = "flexctl", version, about = "Ringway under the name that Flex Gateway's scripts call")]
struct Flexctl {
    #[command(subcommand)]
    verb: FlexctlVerb,
}

#[derive(Subcommand)]
enum FlexctlVerb {
    /// Ask a running gateway whether it is alive or ready
    Probe(probe::ProbeArgs),
    /// Print the configuration in its expanded form, secrets redacted
    Dump(dump::DumpArgs),
    /// Print version, commit and the I/O driver that this host gives
    Version(version::VersionArgs),
}

pub fn main() -> ExitCode {
    let invoked_as = std::env::args_os().next();
    let invoked_as = invoked_as.as_deref().and_then(|path| Path::new(path).file_name());
    if invoked_as == Some(OsStr::new("flexctl")) {
        return match Flexctl::parse().verb {
            FlexctlVerb::Probe(args) => probe::run(&args),
            FlexctlVerb::Dump(args) => dump::run(&args),
            FlexctlVerb::Version(args) => version::run(&args),
        };
    }
    match Ringway::parse().verb {
        Verb::Run(args) => run::run(args),
        Verb::Check(args) => check::run(&args),
        Verb::Dump(args) => dump::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Policies(args) => policies::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Probe(args) => probe::run(&args),
        Verb::Cache(args) => cache::run(args),
        Verb::Version(args) => version::run(&args),
        Verb::Completions(args) => completions::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn both_command_lines_are_sound() {
        super::Ringway::command().debug_assert();
        super::Flexctl::command().debug_assert();
    }
}
