//! `ringway probe`: asks a running gateway's management address, for health checks of containers and scripts.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};

/// Connecting and waiting, in total; the gateway answers within milliseconds or not at all.
const TIME_MAX: Duration = Duration::from_secs(3);
const ANSWER_MAX: u64 = 1 << 20;

#[derive(Args)]
pub struct ProbeArgs {
    /// What to ask for
    #[arg(long, value_enum)]
    check: Check,

    /// Be ready although documents of the configuration could not be used
    #[arg(long)]
    allow_api_errors: bool,

    /// Be ready although an address could not be bound (the name is Flex Gateway's)
    #[arg(long)]
    allow_envoy_errors: bool,

    /// Be ready although policies could not be built; their requests get 503
    #[arg(long)]
    allow_policy_errors: bool,

    /// The management address of the gateway
    #[arg(long, value_name = "ADDR", env = "RINGWAY_MANAGEMENT", default_value = "127.0.0.1:9998")]
    management: SocketAddr,

    /// `json`: one object with `ok` and `lines`
    #[arg(short, long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// Every core answers
    Liveness,
    /// Ready for traffic
    Readiness,
}

/// Prints what the gateway says; 0 where it is well, 1 where it is not or cannot be asked.
pub fn run(args: &ProbeArgs) -> ExitCode {
    match ask(args.management, &target(args)) {
        Ok((status, body)) => {
            let printed = if args.output == "json" { as_json(status, &body) } else { body };
            // Whoever closed the pipe still gets the exit code.
            let _ = io::stdout().lock().write_all(&printed);
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("ringway probe: {}: {error}", args.management);
            ExitCode::FAILURE
        }
    }
}

fn as_json(status: u16, body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    format!("{:#}\n", serde_json::json!({ "ok": status == 200, "lines": lines })).into_bytes()
}

fn target(args: &ProbeArgs) -> String {
    match args.check {
        Check::Liveness => "/probes/liveness".to_owned(),
        Check::Readiness => format!(
            "/probes/readiness?allowAPIErrors={}&allowEnvoyErrors={}&allowPolicyErrors={}&verbose=true",
            args.allow_api_errors, args.allow_envoy_errors, args.allow_policy_errors
        ),
    }
}

fn ask(address: SocketAddr, target: &str) -> io::Result<(u16, Vec<u8>)> {
    let deadline = Instant::now() + TIME_MAX;
    let mut stream = TcpStream::connect_timeout(&address, TIME_MAX)?;
    stream.set_write_timeout(Some(TIME_MAX))?;
    let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while answer.len() as u64 <= ANSWER_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => break,
            count => answer.extend_from_slice(&chunk[..count]),
        }
    }
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a gateway's answer"))
}

/// Status and body. The gateway's own pages are short and never chunked.
pub(super) fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let head = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let status = std::str::from_utf8(answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()?;
    Some((status, answer[head + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ProbeArgs,
    }

    fn parsed(line: &str) -> ProbeArgs {
        Line::try_parse_from(std::iter::once("probe").chain(line.split_whitespace())).expect("a valid line").args
    }

    #[test]
    fn flags_become_the_query() {
        assert_eq!(target(&parsed("--check=liveness")), "/probes/liveness");
        assert_eq!(
            target(&parsed("--check=readiness --allow-api-errors --allow-policy-errors")),
            "/probes/readiness?allowAPIErrors=true&allowEnvoyErrors=false&allowPolicyErrors=true&verbose=true"
        );
    }

    #[test]
    fn json_says_whether_it_is_well_and_why_not() {
        assert_eq!(parsed("--check=liveness -o json").output, "json");
        let json: serde_json::Value = serde_json::from_slice(&as_json(503, b"draining\n")).expect("JSON");
        assert_eq!(json, serde_json::json!({ "ok": false, "lines": ["draining"] }));
    }

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = [0; 1024];
            let count = stream.read(&mut request).expect("a request");
            stream.write_all(b"HTTP/1.1 503 x\r\ncontent-length: 5\r\n\r\nwhy?\n").expect("room");
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        assert_eq!(ask(address, "/livez").expect("an answer"), (503, b"why?\n".to_vec()));
        assert!(server.join().expect("no panic").starts_with("GET /livez HTTP/1.1\r\nhost: 127.0.0.1:"));
        assert!(ask(address, "/livez").is_err(), "nobody listens any more");
    }

    #[test]
    fn other_servers_are_not_gateways() {
        for answer in [&b"SSH-2.0-x\r\n\r\n"[..], b"HTTP/1.1 2", b"HTTP/1.1 abc\r\n\r\n", b""] {
            assert_eq!(parse(answer), None);
        }
    }
}
