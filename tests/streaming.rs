//! Bodies that are too large to keep: they pass whole, and readers that stop reading cost little and hold up nobody.
//!
//! The gateway is its own upstream of HTTP/2: one port leads to the test's server over HTTP/1.1, another to the first port
//! over HTTP/2.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{self, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::OnceLock,
    thread,
    time::Duration,
};

use support::{
    gateway::{Gateway, Launch, drivers},
    message::Head,
    ports,
};

const LIMIT: Duration = Duration::from_secs(60);
const BODY: usize = 32 << 20;
/// Of each kind, on each port.
const STALLED: usize = 40;
/// For 240 of them, half of which are two connections and two exchanges each. Half of it is what those take idle, and the kernel
/// counts in pages of 2 MiB.
const GROWTH_KIB_MAX: usize = 28 << 10;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Http1,
    /// Gives no window back.
    Http2Window,
    /// Gives all the window there can be, and does not read.
    Http2Socket,
}

#[test]
fn large_bodies_pass_whole_beside_readers_that_have_stalled() {
    for driver in drivers() {
        let upstream = serve();
        let (gateway, plain, over_http2) = start(&driver, upstream);
        for address in [plain, over_http2] {
            download_http1(address, "/few");
            download_http2(address, "/few");
        }
        let before = resident_kib(&gateway);
        let mut stalled = Vec::new();
        for _ in 0..STALLED {
            for kind in [Kind::Http1, Kind::Http2Window, Kind::Http2Socket] {
                for address in [plain, over_http2] {
                    stalled.push(stall(address, kind));
                }
            }
        }
        for address in [plain, over_http2] {
            assert_eq!(download_http1(address, "/many"), BODY, "{driver}");
            assert_eq!(download_http2(address, "/many"), BODY, "{driver}");
        }
        let grown = resident_kib(&gateway).saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "{driver}: {} readers that stall cost {grown} KiB", stalled.len());
    }
}

fn start(driver: &str, upstream: SocketAddr) -> (Gateway, SocketAddr, SocketAddr) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("streaming-{driver}"));
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let [plain, over_http2] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], ports::reserve())));
    let api = |name: &str, address: SocketAddr, service: String| {
        format!(
            "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: {name}}}\n\
             spec: {{address: 'http://{address}', services: {{upstream: {{address: '{service}'}}}}}}\n---\n"
        )
    };
    let text = api("plain", plain, format!("http://{upstream}")) + &api("over", over_http2, format!("h2://{plain}"));
    fs::write(directory.join("gateway.yaml"), text).expect("the directory is writable");
    let launch = Launch { directory: &directory, driver, management: ports::reserve(), flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, LIMIT) {
        panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
    }
    (gateway, plain, over_http2)
}

fn resident_kib(gateway: &Gateway) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What lies at this place of every body: nowhere the same as one or 16,384 bytes further on.
fn byte_at(at: usize) -> u8 {
    (at % 251) as u8 ^ (at >> 16) as u8
}

fn whole() -> &'static [u8] {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| (0..BODY).map(byte_at).collect())
}

/// Answers every request with a body: `/few` of one byte, others of `BODY`.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // An end is that of the client's connection, or of the test.
            thread::spawn(move || answer_all(stream).ok());
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let (head, length) = loop {
            if let Some(parsed) = Head::parse(&bytes).map_err(io::Error::other)? {
                break parsed;
            }
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(&piece[..count]);
        };
        bytes.drain(..length);
        let body = if head.start.contains("/few") { 1 } else { BODY };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {body}\r\n\r\n")?;
        stream.write_all(&whole()[..body])?;
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket can be made so");
    stream.set_nodelay(true).expect("a socket can be made so");
    stream
}

/// Asks, and reads nothing.
fn stall(address: SocketAddr, kind: Kind) -> TcpStream {
    let mut stream = connect(address);
    let request = match kind {
        Kind::Http1 => b"GET /many HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        Kind::Http2Window => http2_request("/many", 65_535),
        Kind::Http2Socket => http2_request("/many", WINDOW_MAX),
    };
    stream.write_all(&request).expect("the gateway reads");
    stream
}

/// How many bytes came, each at its place.
fn download_http1(address: SocketAddr, path: &str) -> usize {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").expect("the gateway reads");
    let (mut head, mut at) = (Vec::new(), 0);
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(0);
        stream.read_exact(head.last_mut().map(std::slice::from_mut).expect("just pushed")).expect("a head comes");
    }
    let mut piece = vec![0; 1 << 16];
    loop {
        let count = stream.read(&mut piece).expect("a body comes");
        if count == 0 {
            return at;
        }
        check(&piece[..count], &mut at);
    }
}

fn check(piece: &[u8], at: &mut usize) {
    assert!(whole().get(*at..*at + piece.len()) == Some(piece), "another body than was sent, from {at} on");
    *at += piece.len();
}

const WINDOW_MAX: u32 = (1 << 31) - 1;
const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Preface, settings and one GET on stream 1, with windows of this size.
fn http2_request(path: &str, window: u32) -> Vec<u8> {
    let settings = [&4u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
    // `:method GET`, `:scheme http`, `:path`, `:authority`: two by their number, two as literals (RFC 7541).
    let head = [b"\x82\x86\x04", &[path.len() as u8][..], path.as_bytes(), b"\x01\x06a.test"].concat();
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend(frame(SETTINGS, 0, 0, &settings));
    out.extend(frame(SETTINGS, 1, 0, b""));
    if let Some(more @ 1..) = window.checked_sub(65_535) {
        out.extend(frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));
    }
    out.extend(frame(HEADERS, 5, 1, &head));
    out
}

/// As over HTTP/1.1, giving each window back as it is used.
fn download_http2(address: SocketAddr, path: &str) -> usize {
    let mut stream = connect(address);
    stream.write_all(&http2_request(path, 65_535)).expect("the gateway reads");
    let mut received = BufReader::with_capacity(1 << 16, stream.try_clone().expect("a socket has two ends"));
    let (mut at, mut taken) = (0, 0);
    loop {
        let mut header = [0; HEADER_BYTES];
        received.read_exact(&mut header).expect("a frame comes");
        let [l0, l1, l2, kind, flags, ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        received.read_exact(&mut payload).expect("all of it");
        match kind {
            DATA => {
                check(&payload, &mut at);
                taken += payload.len() as u32;
                if flags & END_STREAM != 0 {
                    return at;
                }
                if taken > 16 << 10 {
                    let updates = [0, 1].map(|of| frame(WINDOW_UPDATE, 0, of, &taken.to_be_bytes()));
                    stream.write_all(&updates.concat()).expect("the gateway reads");
                    taken = 0;
                }
            }
            RST_STREAM | GOAWAY => panic!("frame {kind} at {at}: {payload:?}"),
            _ => {}
        }
    }
}
