//! TLS and HTTP/2 against servers in the test, well-behaved and not: what was counted, and what was refused.
//!
//! The servers share no code with the client: TLS is rustls' server, HTTP/2 is written by hand, so that it can misbehave.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;

mod support;

use support::{run, text};

/// How a server of the test answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// `hello`.
    Prompt,
    /// HTTP/1.1: a body without a length, and an end that TLS does not announce. HTTP/2: a head, and the end.
    CutsOff,
    /// HTTP/2: every second stream is reset.
    Resets,
    /// HTTP/2: less than its head says.
    Short,
    /// HTTP/2: goes away after so many answers on a connection, and leaves the others.
    GoesAway(u32),
    /// HTTP/2: the tenth stream of a connection is never answered, and announced as its last.
    Hangs,
}

struct Server {
    port: u16,
    body_bytes: Arc<AtomicU64>,
    folder: tempfile::TempDir,
}

impl Server {
    /// `alpn`: with TLS, and these protocols. `serve`: one connection.
    fn start(
        alpn: Option<&[&str]>,
        manner: Manner,
        serve: fn(&mut dyn Stream, Manner, &AtomicU64) -> Option<()>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = alpn.map(|alpn| Arc::new(server_config(&folder, alpn)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let body_bytes = Arc::new(AtomicU64::new(0));
        let counter = body_bytes.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, counter) = (tls.clone(), counter.clone());
                thread::spawn(move || {
                    stream.set_nodelay(true).ok()?;
                    match tls {
                        None => serve(&mut Plain(stream), manner, &counter),
                        Some(tls) => {
                            let session = ServerConnection::new(tls).ok()?;
                            let mut stream = Tls(StreamOwned::new(session, stream));
                            serve(&mut stream, manner, &counter)?;
                            stream.0.conn.send_close_notify();
                            stream.0.flush().ok()
                        }
                    }
                });
            }
        });
        Self { port, body_bytes, folder }
    }

    fn https(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn certificate(&self) -> String {
        self.folder.path().join("certificate.pem").to_string_lossy().into_owned()
    }
}

trait Stream: Read + Write {}

struct Plain(TcpStream);
struct Tls(StreamOwned<ServerConnection, TcpStream>);

macro_rules! stream {
    ($name:ty) => {
        impl Read for $name {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                self.0.read(into)
            }
        }
        impl Write for $name {
            fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
                self.0.write(from)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                self.0.flush()
            }
        }
        impl Stream for $name {}
    };
}
stream!(Plain);
stream!(Tls);

fn server_config(folder: &tempfile::TempDir, alpn: &[&str]) -> ServerConfig {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.path().join("certificate.pem"), &certificate).expect("a file of ours");
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("our own")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("our own");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).expect("our own");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Ends with the connection, or with nothing when it was cut off on purpose.
fn http1(stream: &mut dyn Stream, manner: Manner, _: &AtomicU64) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        if manner == Manner::CutsOff {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf").ok()?;
            return None;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").ok()?;
        if head.windows(5).any(|word| word == b"close") {
            return Some(());
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn http2(stream: &mut dyn Stream, manner: Manner, body_bytes: &AtomicU64) -> Option<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).ok()?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    stream.write_all(&frame(4, 0, 0, &[])).ok()?;
    let mut answered = 0;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).ok()?;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if kind == 4 && flags & 1 == 0 {
            stream.write_all(&frame(4, 1, 0, &[])).ok()?;
        }
        if kind == 0 && !payload.is_empty() {
            body_bytes.fetch_add(payload.len() as u64, SeqCst);
            let update = (payload.len() as u32).to_be_bytes();
            stream.write_all(&[frame(8, 0, 0, &update), frame(8, 0, id, &update)].concat()).ok()?;
        }
        if kind > 1 || flags & 1 == 0 {
            continue;
        }
        answered += 1;
        let ok = [frame(1, 4, id, b"\x88\x0f\x0d\x015"), frame(0, 1, id, b"hello")].concat();
        let answer = match manner {
            Manner::Resets if answered % 2 == 0 => frame(3, 0, id, &[0, 0, 0, 2]),
            Manner::Short => [frame(1, 4, id, b"\x88\x0f\x0d\x019"), frame(0, 1, id, b"hello")].concat(),
            Manner::CutsOff => {
                stream.write_all(&frame(1, 4, id, b"\x88")).ok()?;
                return None;
            }
            Manner::Hangs if answered == 10 => frame(7, 0, 0, &[id.to_be_bytes(), [0; 4]].concat()),
            Manner::Hangs if answered > 10 => Vec::new(),
            Manner::GoesAway(most) if answered == most => {
                let last = [id.to_be_bytes(), [0; 4]].concat();
                [ok, frame(7, 0, 0, &last)].concat()
            }
            // What comes behind a GOAWAY is not looked at.
            Manner::GoesAway(most) if answered > most => Vec::new(),
            _ => ok,
        };
        stream.write_all(&answer).ok()?;
    }
}

fn round(result: &Value) -> &Value {
    &result["rounds"][0]
}

/// A hundred requests in half a second.
fn hundred(url: &str, more: &[&str]) -> (std::process::Output, Value) {
    run(&[&[url, "--rate", "200", "-d", "500ms", "-c", "4"], more].concat())
}

#[test]
fn a_server_is_trusted_by_its_certificate_or_not_at_all() {
    let (server, other) =
        (Server::start(Some(&[]), Manner::Prompt, http1), Server::start(Some(&[]), Manner::Prompt, http1));
    let url = server.https();
    let (output, result) = hundred(&url, &["--cacert", &server.certificate()]);
    assert!(output.status.success(), "{}", text(&output));
    let seen = round(&result);
    assert_eq!((&seen["statuses"]["200"], &seen["connections_opened"]), (&100.into(), &4.into()), "{seen}");
    assert_eq!((&seen["handshakes"], &seen["resumed"]), (&4.into(), &0.into()));
    assert_eq!(result["load"]["protocol"], "HTTP/1.1 over TLS");
    assert!(hundred(&url, &["--tls-version", "1.2"]).0.status.success());

    for wrong in [
        ["--cacert", &other.certificate()[..]].as_slice(),
        &["--cacert", &server.certificate(), "--tls-name", "x.example"],
    ] {
        let (output, result) = hundred(&url, &[wrong, &["--timeout", "3s"]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("invalid peer certificate"), "{}", text(&output));
        let seen = round(&result);
        assert!(seen["errors"]["connect"].as_u64() > Some(0) && seen["completed"] == 0, "{seen}");
    }
}

#[test]
fn handshakes_are_full_ones_unless_resuming_is_asked_for() {
    let server = Server::start(Some(&["http/1.1"]), Manner::Prompt, http1);
    let (output, result) = hundred(&server.https(), &["--no-keep-alive"]);
    assert!(output.status.success(), "{}", text(&output));
    let seen = round(&result);
    assert_eq!(
        (&seen["statuses"]["200"], &seen["handshakes"], &seen["resumed"]),
        (&100.into(), &100.into(), &0.into())
    );
    let (_, result) = hundred(&server.https(), &["--no-keep-alive", "--tls-resume"]);
    let seen = round(&result);
    assert_eq!(seen["statuses"]["200"], 100);
    assert!(seen["resumed"].as_u64() > Some(50), "{seen}");
}

#[test]
fn a_body_that_tls_does_not_end_is_cut_off() {
    let server = Server::start(Some(&[]), Manner::CutsOff, http1);
    let (output, result) = hundred(&server.https(), &["--no-keep-alive"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(round(&result)["errors"]["closed"], 100, "{}", round(&result));
}

#[test]
fn http2_carries_many_requests_on_a_connection() {
    let tls = Server::start(Some(&["h2"]), Manner::Prompt, http2);
    let plain = Server::start(None, Manner::Prompt, http2);
    for (url, name) in [(tls.https(), "HTTP/2 over TLS"), (format!("http://localhost:{}", plain.port), "HTTP/2")] {
        let (output, result) = hundred(&url, &["--http2", "--streams", "3"]);
        assert!(output.status.success(), "{}", text(&output));
        let seen = round(&result);
        assert_eq!((&seen["statuses"]["200"], &seen["connections_opened"]), (&100.into(), &4.into()), "{seen}");
        assert_eq!(seen["errors"].as_object().map(|all| all.values().all(|count| count == 0)), Some(true), "{seen}");
        assert_eq!(result["load"]["protocol"], format!("{name}, 3 streams a connection"));
        assert!(run(&[&url, "--closed", "-d", "200ms", "-c", "2", "--http2"]).0.status.success());
    }
    // Larger than the windows: each piece waits for the server's leave.
    let url = format!("http://localhost:{}", plain.port);
    let (output, result) =
        run(&[&url, "--rate", "20", "-d", "500ms", "-c", "1", "--http2", "-X", "PUT", "--body-bytes", "200000"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(round(&result)["statuses"]["200"], 10);
    assert_eq!(plain.body_bytes.load(SeqCst), 2_000_000);
}

#[test]
fn a_server_that_does_not_agree_to_http2_is_not_spoken_to() {
    let without = Server::start(Some(&[]), Manner::Prompt, http1);
    let other = Server::start(Some(&["http/1.1"]), Manner::Prompt, http1);
    let plain = Server::start(None, Manner::Prompt, http1);
    let plain = format!("http://localhost:{}", plain.port);
    let cases = [
        (without.https(), &[][..], "chose nothing by ALPN, not h2"),
        (other.https(), &["--alpn", "http/1.1"], "chose http/1.1 by ALPN, not h2"),
        (other.https(), &[], "NoApplicationProtocol"),
        (plain, &[], "cannot connect"),
    ];
    for (url, more, expected) in cases {
        let (output, result) = hundred(&url, &[&["--http2", "--timeout", "3s"], more].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("no response came to its end"), "{}", text(&output));
        let said = format!("{} {}", text(&output), round(&result));
        assert!(expected == "cannot connect" || said.contains(expected), "{expected}: {said}");
        assert_eq!(round(&result)["completed"], 0);
    }
}

#[test]
fn what_http2_does_not_answer_is_counted_by_its_reason() {
    let count = |manner, reason: &str| {
        let server = Server::start(None, manner, http2);
        let url = format!("http://localhost:{}", server.port);
        let (_, result) =
            run(&[&url, "--rate", "200", "-d", "500ms", "-c", "1", "--streams", "4", "--http2", "--timeout", "2s"]);
        let seen = round(&result).clone();
        let (ok, failed) =
            (seen["statuses"]["200"].as_u64().unwrap_or(0), seen["errors"][reason].as_u64().unwrap_or(0));
        let errors: u64 =
            seen["errors"].as_object().into_iter().flat_map(|all| all.values()).filter_map(Value::as_u64).sum();
        assert_eq!(ok + errors + seen["unfinished"].as_u64().unwrap_or(0), 100, "{reason}: {seen}");
        (ok, failed, seen)
    };
    let (ok, failed, _) = count(Manner::Resets, "reset");
    assert_eq!((ok, failed), (50, 50));
    let (ok, failed, _) = count(Manner::Short, "malformed");
    assert_eq!((ok, failed), (0, 100));
    let (ok, failed, _) = count(Manner::CutsOff, "closed");
    assert_eq!((ok, failed), (0, 100));
    let (ok, failed, seen) = count(Manner::Hangs, "timeout");
    assert!(ok > 0 && failed > 0 && seen["connections_opened"].as_u64() > Some(1), "{seen}");
    // Each connection ends well with its tenth answer, unless more was under way by then.
    let (ok, failed, seen) = count(Manner::GoesAway(10), "refused");
    assert!(ok >= 70 && failed <= 30, "{seen}");
    let left = seen["goaways"].as_u64().unwrap_or(0);
    assert!((ok / 10).abs_diff(left) <= 1 && seen["connections_opened"].as_u64() >= Some(left), "{seen}");
}

#[test]
fn nginx_is_measured_over_tls_and_http2() {
    let nginx = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"].into_iter().map(PathBuf::from);
    let allowed = fs::read_to_string("/proc/self/status").expect("a process has one");
    let list = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("CPUs to run on").trim();
    if !nginx.into_iter().any(|path| path.is_file()) || !list.contains([',', '-']) {
        eprintln!("skipped: nginx and two CPUs are needed");
        return;
    }
    let cpus: Vec<&str> = list.split([',', '-']).take(2).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (json, html) = (path("peers.json"), path("peers.html"));
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"))
        .args(["peers", "--only", "relay,nginx", "--rounds", "1", "--workloads", "tls,handshake,8,idle-tls"])
        .args(["--duration", "300ms", "--rate", "50", "-c", "4", "--lag-limit", "10000000", "--idle", "20"])
        .args(["--proxy-cpu", cpus[0], "--load-cpu", cpus[1], "--json", &json, "--html", &html])
        .args(["--header-set", "browser", "--peers", concat!(env!("CARGO_MANIFEST_DIR"), "/peers")])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", text(&output));
    let result: Value = serde_json::from_str(&fs::read_to_string(&json).expect("written")).expect("JSON");
    let names: Vec<&str> =
        result["measurements"].as_array().into_iter().flatten().filter_map(|m| m["name"].as_str()).collect();
    for name in ["nginx/tls/cpu", "nginx/handshake/cpu-at-rate", "nginx/h2/p99", "nginx/idle-tls/per-connection"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(names.iter().all(|name| name.starts_with("nginx/")), "{names:?}");
    let page = fs::read_to_string(html).expect("written");
    assert!(page.contains("<svg") && page.contains("HTTP/2 over TLS 1.3 to HTTP/1.1"));
    for fetched in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(fetched), "the page has {fetched}");
    }
    let same = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"));
    let compared = { same }.args(["compare", &json, &json]).output().expect("the binary runs");
    assert!(compared.status.success() && text(&compared).contains("nginx/h2/cpu"), "{}", text(&compared));
}

#[test]
fn a_server_that_is_not_there_is_no_address_to_measure() {
    let free: SocketAddr = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let (output, result) = hundred(&format!("https://{free}"), &["--http2", "--timeout", "200ms"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(round(&result)["first_error"].as_str().is_some_and(|reason| reason.contains("cannot connect")));
}
