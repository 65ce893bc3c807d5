//! `ringway run`: flags and environment become `RunOptions`, once.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{
    Args,
    builder::{FalseyValueParser, PossibleValuesParser, TypedValueParser},
};
use tracing::level_filters::LevelFilter;

use super::logging;
use crate::{
    app::{self, LogFormat, RunOptions, Threads},
    management::socket::Place,
    net::driver::Wanted,
};

#[derive(Args)]
pub struct RunArgs {
    /// A file or a directory of the configuration; may be given several times
    ///
    /// Without it: RINGWAY_CONFIG (colon-separated), FLEX_CONFIG_DIR, /etc/ringway/conf.d, then Flex Gateway's own
    /// directories. In directories `*.yaml` and `*.yml` are read; a file is read whatever its name.
    #[arg(short, long, value_name = "PATH")]
    config: Vec<PathBuf>,

    /// Cores to serve on: `auto`, a count, or a CPU list such as `0-3,6` [default: auto]
    ///
    /// `auto` follows the affinity mask and the cgroup's CPU quota. One CPU as a list is `3-3`. Where neither the flag
    /// nor its variable is set, FLEX_SERVICE_ENVOY_CONCURRENCY counts.
    #[arg(long, value_name = "auto|N|CPULIST", env = "RINGWAY_THREADS")]
    threads: Option<Threads>,

    /// How the cores talk to the kernel
    #[arg(long, value_name = "DRIVER", env = "RINGWAY_IO_DRIVER", default_value = "auto", value_parser = io_driver())]
    io_driver: Wanted,

    /// Where probes, metrics and /config are served
    #[arg(long, value_name = "ADDR", env = "RINGWAY_MANAGEMENT", default_value = "127.0.0.1:9998")]
    management: SocketAddr,

    /// What this gateway's replicas have in common: its keys in a shared storage begin so [default: ringway]
    ///
    /// 1 to 64 letters, digits, `.`, `_` or `-`. `spec.ringway.name` of a Configuration goes before it.
    #[arg(long, value_name = "NAME", env = "RINGWAY_GATEWAY_NAME")]
    gateway_name: Option<String>,

    /// A Unix socket with the same pages, and with what changes something
    ///
    /// Without it: management.sock in RUNTIME_DIRECTORY, or /run/ringway/management.sock, if it can be there.
    #[arg(long, value_name = "PATH", env = "RINGWAY_MANAGEMENT_SOCKET")]
    management_socket: Option<PathBuf>,

    /// Least severe diagnostics to write
    #[arg(long, value_name = "LEVEL", env = "RINGWAY_LOG_LEVEL", default_value = "info", value_parser = log_level())]
    log_level: LevelFilter,

    /// How diagnostics look on stderr
    #[arg(long, value_name = "FORMAT", env = "RINGWAY_LOG_FORMAT", default_value = "text", value_parser = log_format())]
    log_format: LogFormat,

    /// Serve the good documents of a configuration that also has bad ones
    #[arg(long, env = "RINGWAY_ALLOW_PARTIAL", value_parser = FalseyValueParser::new())]
    allow_partial: bool,
}

pub fn run(args: RunArgs) -> ExitCode {
    logging::start(args.log_level, args.log_format);
    let threads = args.threads.or_else(flex_concurrency).unwrap_or(Threads::Auto);
    app::run(RunOptions {
        config: args.config,
        threads,
        io_driver: args.io_driver,
        management: args.management,
        management_socket: Place::of_process(args.management_socket),
        log_level: args.log_level,
        log_format: args.log_format,
        gateway_name: args.gateway_name,
        allow_partial: args.allow_partial,
    })
}

/// The count of Flex's own variable. It was written for another program: a value of no use is no reason to stay down.
fn flex_concurrency() -> Option<Threads> {
    const NAME: &str = "FLEX_SERVICE_ENVOY_CONCURRENCY";
    let text = std::env::var(NAME).ok().filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(threads @ Threads::Count(_)) => Some(threads),
        _ => {
            tracing::warn!("{NAME} is not a count of threads: ignored");
            None
        }
    }
}

fn io_driver() -> impl TypedValueParser<Value = Wanted> {
    PossibleValuesParser::new(["auto", "io_uring", "epoll"]).map(|name| match name.as_str() {
        "io_uring" => Wanted::IoUring,
        "epoll" => Wanted::Epoll,
        _ => Wanted::Auto,
    })
}

fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["trace", "debug", "info", "warn", "error", "off"])
        .map(|name| name.parse().expect("every name listed is a level"))
}

fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"]).map(|name| match name.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn parse(line: &str) -> Result<RunArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("run").chain(line.split_whitespace())).map(|line| line.run)
    }

    #[test]
    fn flags_are_read_and_have_their_defaults() {
        let args = parse("").expect("no flag is required");
        assert_eq!(args.management, "127.0.0.1:9998".parse().expect("an address"));
        assert_eq!((args.io_driver, args.log_format), (Wanted::Auto, LogFormat::Text));
        assert!(args.threads.is_none() && args.config.is_empty() && !args.allow_partial);

        let args = parse("-c a.yaml --config b --threads 0-1 --io-driver epoll --log-level debug --allow-partial");
        let args = args.expect("all of these are flags");
        assert_eq!(args.config, [PathBuf::from("a.yaml"), PathBuf::from("b")]);
        assert_eq!(args.threads, Some(Threads::List(vec![0, 1])));
        assert_eq!((args.io_driver, args.log_level), (Wanted::Epoll, LevelFilter::DEBUG));
        assert!(args.allow_partial);
    }

    #[test]
    fn a_wrong_value_is_wrong_usage() {
        for line in ["--threads 0", "--io-driver uring", "--management 9998", "--log-level loud", "extra"] {
            let Err(error) = parse(line) else { panic!("{line} was taken") };
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
