//! `ringway cache purge`: has a running gateway forget what it has stored, through its management socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};

use super::probe::parse;
use crate::management::socket::Place;

/// For each read; the gateway answers within milliseconds or not at all.
const TIME_MAX: Duration = Duration::from_secs(3);
const ANSWER_MAX: u64 = 1 << 20;

#[derive(Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Forget stored responses: all, or those of an API, of a policy, of a key
    Purge(PurgeArgs),
}

#[derive(Args)]
struct PurgeArgs {
    /// The ApiInstance's name
    #[arg(long, value_name = "NAME")]
    api: Option<String>,

    /// The binding's name, or the policy's
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,

    /// What `httpCachingKey` gives
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// The management socket of the gateway
    ///
    /// Without it: management.sock in RUNTIME_DIRECTORY, or /run/ringway/management.sock.
    #[arg(long, value_name = "PATH", env = "RINGWAY_MANAGEMENT_SOCKET")]
    management_socket: Option<PathBuf>,
}

/// Prints what the gateway says; 0 where it has done it.
pub fn run(args: CacheArgs) -> ExitCode {
    let Verb::Purge(args) = args.verb;
    let path = Place::of_process(args.management_socket.clone()).path;
    match ask(&path, &body(&args)) {
        Ok((status, body)) => {
            // Whoever closed the pipe still gets the exit code.
            let _ = io::stdout().lock().write_all(&body);
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("ringway cache purge: {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn body(args: &PurgeArgs) -> String {
    let named = [("api", &args.api), ("policy", &args.policy), ("key", &args.key)];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())));
    serde_json::Value::Object(named.collect()).to_string()
}

fn ask(path: &Path, body: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    let head = format!(
        "POST /cache/purge HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a gateway's answer"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CacheArgs,
    }

    #[test]
    fn flags_become_what_is_asked_for() {
        let body_of = |line: &str| {
            let line = Line::try_parse_from(["cache", "purge"].into_iter().chain(line.split_whitespace()));
            let Verb::Purge(args) = line.expect("a valid line").args.verb;
            body(&args)
        };
        assert_eq!(body_of(""), "{}");
        assert_eq!(body_of("--api a --policy p --key /x"), r#"{"api":"a","key":"/x","policy":"p"}"#);
    }
}
