//! TLS with bytes that no library sends, as scanners and attackers try them: each is answered with an alert or with the end of
//! the connection, at once, and whoever comes next is served. And that no client waits for an acknowledgement of ours.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, HandshakeKind, pki_types::ServerName};
use support::{
    gateway::{Gateway, Launch, drivers},
    ports,
    tls::{self, Options},
};

const LIMIT: Duration = Duration::from_secs(30);

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

const UNEXPECTED_MESSAGE: u8 = 10;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const INAPPROPRIATE_FALLBACK: u8 = 86;

const ECDSA_AES_128: u16 = 0xc02b;
const FALLBACK_SCSV: u16 = 0x5600;
const SUPPORTED_VERSIONS: u16 = 43;

/// What a client that is not well gets.
#[derive(Debug)]
enum Expected {
    /// Our first flight: it was understood.
    Served,
    /// A fatal alert, any of these.
    Alert(&'static [u8]),
    /// The connection's end, with an alert or without.
    Closed,
}

use Expected::{Alert, Closed, Served};

#[test]
fn hellos_that_no_library_sends() {
    let grease = [0x0a0a, ECDSA_AES_128, 0xdada];
    let cases: Vec<(&str, Vec<u8>, Expected)> = vec![
        ("as a TLS 1.2 client has it", record(HANDSHAKE, &hello(0x0303, &[ECDSA_AES_128], &[0], &[])), Served),
        ("of SSL 2", [&[0x80, 0x2e, 1, 0, 2, 0, 21, 0, 0, 0, 16][..], &[7; 37]].concat(), Closed),
        ("of SSL 3", record(HANDSHAKE, &hello(0x0300, &[ECDSA_AES_128], &[0], &[])), Alert(&[PROTOCOL_VERSION])),
        ("of TLS 1.0", record(HANDSHAKE, &hello(0x0301, &[ECDSA_AES_128], &[0], &[])), Alert(&[PROTOCOL_VERSION])),
        ("of TLS 1.1", record(HANDSHAKE, &hello(0x0302, &[ECDSA_AES_128], &[0], &[])), Alert(&[PROTOCOL_VERSION])),
        ("of a version to come", record(HANDSHAKE, &hello(0x03ff, &[ECDSA_AES_128], &[0], &[])), Served),
        (
            "of versions that are none of ours",
            record(
                HANDSHAKE,
                &hello(0x0303, &[ECDSA_AES_128], &[0], &[(SUPPORTED_VERSIONS, vec![4, 0x0a, 0x0a, 3, 9])]),
            ),
            Alert(&[PROTOCOL_VERSION]),
        ),
        (
            "with unknown ciphers and extensions (RFC 8701)",
            record(HANDSHAKE, &hello(0x0303, &grease, &[0], &[(0x1a1a, vec![]), (0xeaea, vec![0])])),
            Served,
        ),
        (
            "with an extension of 16 KiB, in records of 1 KiB",
            hello(0x0303, &[ECDSA_AES_128], &[0], &[(0x1a1a, vec![0; 16_000])])
                .chunks(1024)
                .flat_map(|piece| record(HANDSHAKE, piece))
                .collect(),
            Served,
        ),
        (
            "in records of one byte",
            hello(0x0303, &[ECDSA_AES_128], &[0], &[]).chunks(1).flat_map(|piece| record(HANDSHAKE, piece)).collect(),
            Served,
        ),
        (
            "with one extension twice",
            record(HANDSHAKE, &hello(0x0303, &[ECDSA_AES_128], &[0], &[(0x1a1a, vec![]), (0x1a1a, vec![])])),
            Alert(&[DECODE_ERROR, ILLEGAL_PARAMETER]),
        ),
        (
            "that wants compression alone",
            record(HANDSHAKE, &hello(0x0303, &[ECDSA_AES_128], &[1], &[])),
            Alert(&[ILLEGAL_PARAMETER, DECODE_ERROR, 40]),
        ),
        (
            "without ciphers of ours",
            record(HANDSHAKE, &hello(0x0303, &[0x002f, 0x000a, 0x0005], &[0], &[])),
            Alert(&[40]),
        ),
        (
            "that falls back",
            record(HANDSHAKE, &hello(0x0303, &[ECDSA_AES_128, FALLBACK_SCSV], &[0], &[])),
            Alert(&[INAPPROPRIATE_FALLBACK]),
        ),
        ("that is 16 MiB long", record(HANDSHAKE, &[1, 0xff, 0xff, 0xff, 3, 3]), Closed),
        ("that is cut short", record(HANDSHAKE, &[1, 0, 0, 4, 3, 3, 0, 0]), Alert(&[DECODE_ERROR])),
        ("that is another message", record(HANDSHAKE, &[20, 0, 0, 0]), Alert(&[UNEXPECTED_MESSAGE])),
        ("in an empty record", record(HANDSHAKE, &[]), Alert(&[DECODE_ERROR, UNEXPECTED_MESSAGE])),
        (
            "in a record above the limit",
            [&[HANDSHAKE, 3, 1, 0x48, 1][..], &[1; 0x4801]].concat(),
            Alert(&[22, DECODE_ERROR]),
        ),
        ("behind data", record(23, b"GET / HTTP/1.1\r\n\r\n"), Closed),
        ("behind an alert", record(ALERT, &[2, 40]), Closed),
    ];
    for driver in drivers() {
        let edge = Edge::start(&driver, "hellos", "", "");
        for (name, bytes, expected) in &cases {
            edge.probe(&driver, name, bytes, expected);
        }
        edge.serves();
        // Who is spoken to in TLS 1.2 anyway has not fallen back.
        let edge = Edge::start(&driver, "older", ", maxversion: '1.2'", "");
        let fallback = record(HANDSHAKE, &hello(0x0303, &[ECDSA_AES_128, FALLBACK_SCSV], &[0], &[]));
        edge.probe(&driver, "that falls back to the newest", &fallback, &Served);
    }
}

/// Behind a hello that was answered: records that must not be there before the keys are (CVE-2014-0224), heartbeats
/// (CVE-2014-0160), and alerts without end, after which nothing is said.
#[test]
fn records_that_do_not_belong_there() {
    let hello = record(HANDSHAKE, &hello(0x0303, &[ECDSA_AES_128], &[0], &[]));
    let heartbeat = record(24, &[1, 0x40, 0]);
    for driver in drivers() {
        let edge = Edge::start(&driver, "records", "", "");
        for (name, injected, alerts) in [
            ("a change of keys", record(20, &[1]), &[UNEXPECTED_MESSAGE][..]),
            ("a heartbeat", heartbeat.clone(), &[UNEXPECTED_MESSAGE, DECODE_ERROR]),
            ("data", record(23, b"GET / HTTP/1.1\r\n\r\n"), &[UNEXPECTED_MESSAGE]),
            ("another hello", hello.clone(), &[UNEXPECTED_MESSAGE]),
            ("an empty message", record(HANDSHAKE, &[]), &[DECODE_ERROR, UNEXPECTED_MESSAGE]),
            ("warnings without end", record(ALERT, &[1, 90]).repeat(100), &[]),
        ] {
            let mut stream = edge.connect();
            stream.write_all(&hello).expect("it reads");
            // ServerHello to ServerHelloDone.
            let mut flight = Vec::new();
            while !flight.ends_with(&[14, 0, 0, 0]) {
                let (kind, content) = next_record(&mut stream).expect("our flight").expect("more of it");
                assert_eq!(kind, HANDSHAKE, "{driver}, {name}");
                flight.extend(content);
            }
            // It may be refused before it is sent.
            stream.write_all(&injected).ok();
            let answer = next_record(&mut stream).unwrap_or_else(|error| panic!("{driver}, {name}: {error}"));
            let right = match &answer {
                Some((kind, content)) => *kind == ALERT && content[0] == 2 && alerts.contains(&content[1]),
                None => alerts.is_empty(),
            };
            assert!(right, "{driver}, {name}: {answer:?}");
        }
        edge.serves();
    }
}

/// Nagle's algorithm keeps a client's request back until the end of its handshake is acknowledged. An acknowledgement that
/// the kernel puts off comes after 40 ms and more, every time, so one that comes before says that it was not put off.
#[test]
fn nobody_waits_for_an_acknowledgement() {
    const PUT_OFF: Duration = Duration::from_millis(38);
    for driver in drivers() {
        let without = Edge::start(&driver, "no-tickets", "", "tls: {tickets: false}");
        let with = Edge::start(&driver, "tickets", "", "");
        for (edge, options, resumed) in [
            (&without, "sni=a.test min=1.3", false),
            (&without, "sni=a.test max=1.2", false),
            (&with, "sni=a.test min=1.3", false),
            (&with, "sni=a.test min=1.3", true),
            // Here the last word is the client's.
            (&with, "sni=a.test max=1.2", true),
        ] {
            let config = Options::parse(options).and_then(|options| options.client()).expect("options");
            if resumed {
                edge.first_answer(&config);
            }
            let tries: Vec<_> = (0..6).map(|_| edge.first_answer(&config)).collect();
            let kind = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
            if resumed {
                assert!(tries.iter().all(|(seen, _)| *seen == kind), "{driver}, {options}: {tries:?}");
            }
            let fastest = tries.iter().map(|(_, took)| *took).min().expect("some");
            assert!(fastest < PUT_OFF, "{driver}, {options}, resumed: {resumed}: {tries:?}");
        }
    }
}

/// A gateway that serves one API on https, without a route: everything is answered 404.
struct Edge {
    gateway: Gateway,
    port: u16,
}

impl Edge {
    fn start(driver: &str, name: &str, policy: &str, settings: &str) -> Self {
        let directory = folder(&format!("{name}-{driver}"));
        tls::write(&directory).expect("the directory is writable");
        let port = ports::reserve();
        let envelope =
            |kind: &str| format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}");
        let configuration = format!(
            "{}\nspec: {{address: 'https://127.0.0.1:{port}', policies: [{{policyRef: {{name: tls}}, \
             config: {{certificate: {{crtFile: certs/a.crt, keyFile: certs/a.key}}{policy}}}}}]}}\n---\n\
             {}\nspec: {{ringway: {{{settings}}}}}\n",
            envelope("ApiInstance"),
            envelope("Configuration"),
        );
        fs::write(directory.join("gateway.yaml"), configuration).expect("the directory is writable");
        let launch =
            Launch { directory: &directory, driver, management: ports::reserve(), flags: &[], environment: &[] };
        let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
        if let Err(problem) = gateway.wait_live(true, LIMIT) {
            panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
        }
        Self { gateway, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it accepts");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time above zero");
        stream
    }

    fn probe(&self, driver: &str, name: &str, bytes: &[u8], expected: &Expected) {
        let mut stream = self.connect();
        // What it does not want to read it need not.
        stream.write_all(bytes).ok();
        let answer = next_record(&mut stream).unwrap_or_else(|error| panic!("{driver}, a hello {name}: {error}"));
        let right = match (expected, &answer) {
            (Served, Some((HANDSHAKE, content))) => content[0] == 2,
            (Alert(any), Some((ALERT, content))) => content[0] == 2 && any.contains(&content[1]),
            (Closed, None | Some((ALERT, _))) => true,
            _ => false,
        };
        let seen = answer.map(|(kind, content)| (kind, content[..content.len().min(2)].to_vec()));
        assert!(right, "{driver}, a hello {name}: {expected:?} was expected, and {seen:?} came");
    }

    fn serves(&self) {
        let config = Options::parse("sni=a.test").and_then(|options| options.client()).expect("options");
        self.first_answer(&config);
        let log = self.gateway.stderr.all().join("\n");
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Shakes hands, and only then asks, in a write of its own and with Nagle's algorithm: until the answer begins.
    fn first_answer(&self, config: &Arc<ClientConfig>) -> (HandshakeKind, Duration) {
        let name = ServerName::try_from("a.test").expect("a name");
        let mut connection = ClientConnection::new(config.clone(), name).expect("a client");
        let mut stream = self.connect();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).expect("a handshake");
        }
        while connection.wants_write() {
            connection.write_tls(&mut stream).expect("it reads");
        }
        let began = Instant::now();
        let mut secured = rustls::Stream::new(&mut connection, &mut stream);
        secured.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("it reads");
        let mut begin = [0; 12];
        secured.read_exact(&mut begin).expect("an answer");
        let took = began.elapsed();
        assert_eq!(&begin, b"HTTP/1.1 404");
        // Tickets come before the answer.
        (connection.handshake_kind().expect("it is through"), took)
    }
}

/// `None`: the connection has ended.
fn next_record(stream: &mut TcpStream) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; 5];
    match stream.read_exact(&mut header) {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            return Ok(None);
        }
        done => done?,
    }
    let mut content = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut content)?;
    Ok(Some((header[0], content)))
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("a record has less");
    [&[kind, 3, 1][..], &len.to_be_bytes(), content].concat()
}

/// A ClientHello, with what ours needs to answer it and these extensions besides.
fn hello(version: u16, ciphers: &[u16], compression: &[u8], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let fixed = [
        (10, vec![0, 4, 0, 0x1d, 0, 0x17]),              // supported_groups: x25519, secp256r1
        (13, vec![0, 4, 4, 3, 8, 4]), // signature_algorithms: ecdsa_secp256r1_sha256, rsa_pss_rsae_sha256
        (11, vec![1, 0]),             // ec_point_formats: uncompressed
        (0, [&[0, 9, 0, 0, 6][..], b"a.test"].concat()), // server_name
    ];
    let two = |value: usize| u16::try_from(value).expect("it is below 64 KiB").to_be_bytes();
    let mut listed = Vec::new();
    for (kind, value) in fixed.iter().chain(extensions) {
        listed.extend([&kind.to_be_bytes()[..], &two(value.len()), value].concat());
    }
    let mut body = version.to_be_bytes().to_vec();
    body.extend([9; 32]);
    body.push(0);
    body.extend(two(2 * ciphers.len()));
    body.extend(ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()));
    body.push(u8::try_from(compression.len()).expect("few"));
    body.extend(compression);
    body.extend(two(listed.len()));
    body.extend(listed);
    let len = u32::try_from(body.len()).expect("it is below 64 KiB").to_be_bytes();
    [&[1][..], &len[1..], &body].concat()
}

fn folder(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-edges-{name}"));
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}
