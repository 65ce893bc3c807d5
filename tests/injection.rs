//! What HTTP/2 may bring into HTTP/1.1, and what not: one line of a table for each case, in both directions.
//!
//! `tests/injection/requests.txt` has what a client sends and what reaches the upstream, `responses.txt` what an upstream
//! sends and what reaches the client. Both are compared byte by byte, without the fields that the gateway adds.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use support::{
    gateway::{Gateway, Launch, drivers},
    h2::hpack::{Decoder, Field, encode},
    message::{Chunks, Framing, Head},
    ports,
    text::{show, unescape},
};

const LIMIT: Duration = Duration::from_secs(10);
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `FIELD... [; data "..."] [; FIELD...] => WHAT IS SEEN`. A field is `name=value`, in quotes as a whole where it has spaces;
/// one of a default's name takes its place. `+name=value` stands behind the others in any case, `-name` leaves a default out.
struct Row {
    number: usize,
    head: Vec<Field>,
    data: Option<Vec<u8>>,
    trailers: Option<Vec<Field>>,
    seen: String,
}

#[test]
fn requests() {
    let rows = rows("requests", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")]);
    for driver in drivers() {
        let received = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let upstream = serve_http1(received.clone());
        let (_gateway, address) = start(&driver, "requests", &format!("http://{upstream}"));
        compare(&driver, &rows, |row| {
            let status = ask(address, row)?;
            let received = std::mem::take(&mut *received.lock().expect("no holder panics"));
            Ok(match (received.as_slice(), status) {
                ([request], Some(200)) => {
                    without(request, &["x-forwarded-", "x-request-id:", &format!("host: {upstream}")])
                }
                ([], None | Some(400..=499)) => "refused".to_owned(),
                ([], Some(status)) => status.to_string(),
                _ => format!("{status:?}, and the upstream has seen {received:?}"),
            })
        });
    }
}

#[test]
fn responses() {
    let rows = rows("responses", &[(":status", "200")]);
    for driver in drivers() {
        let current = Arc::<Mutex<Vec<u8>>>::default();
        let upstream = serve_http2(current.clone());
        let (_gateway, address) = start(&driver, "responses", &format!("h2://{upstream}"));
        compare(&driver, &rows, |row| {
            *current.lock().expect("no holder panics") = frames(row);
            let mut stream = connect(address)?;
            let method = if row.head.iter().any(|(name, _)| name == b"x-to-head") { "HEAD" } else { "GET" };
            write!(stream, "{method} / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")?;
            let mut bytes = Vec::new();
            // One that is cut off ends with a reset where that is all that says so.
            let reset = stream.read_to_end(&mut bytes).is_err();
            Ok(match bytes.starts_with(b"HTTP/1.1 502 ") {
                true => "refused".to_owned(),
                false => without(&bytes, &["date:", "server:", "connection:"]) + if reset { " reset" } else { "" },
            })
        });
    }
}

fn compare(driver: &str, rows: &[Row], see: impl Fn(&Row) -> io::Result<String>) {
    let mut wrong = Vec::new();
    for row in rows {
        let seen = see(row).unwrap_or_else(|error| error.to_string());
        if seen != row.seen {
            wrong.push(format!("line {}: {}, not {}", row.number, seen, row.seen));
        }
    }
    assert!(wrong.is_empty(), "{driver}: {} of {} rows\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn rows(name: &str, defaults: &[(&str, &str)]) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/injection/{name}.txt"));
    let text = fs::read_to_string(path).expect("the table is there");
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let row = |(at, line): (usize, &str)| {
        row(at + 1, line, defaults).unwrap_or_else(|problem| panic!("{name}.txt:{}: {problem}", at + 1))
    };
    lines.map(row).collect()
}

fn row(number: usize, line: &str, defaults: &[(&str, &str)]) -> Result<Row, String> {
    let (sent, seen) = line.rsplit_once(" => ").ok_or("no arrow")?;
    let sent = format!(" {sent}");
    let mut parts = sent.split(" ; ");
    let bytes = |text: &str| text.as_bytes().to_vec();
    let defaults = defaults.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
    let mut row = Row { number, head: Vec::new(), data: None, trailers: None, seen: seen.to_owned() };
    row.head = fields(parts.next().unwrap_or_default(), defaults)?;
    for part in parts {
        match part.strip_prefix("data ") {
            Some(data) => row.data = Some(unescape(data.trim_matches('"'))?),
            None => row.trailers = Some(fields(part, Vec::new())?),
        }
    }
    Ok(row)
}

fn fields(text: &str, mut fields: Vec<Field>) -> Result<Vec<Field>, String> {
    let defaults = fields.len();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote that does not end")?,
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        rest = after.trim_start();
        if let Some(name) = word.strip_prefix('-') {
            fields.retain(|field| field.0 != name.as_bytes());
            continue;
        }
        let (appended, word) = word.strip_prefix('+').map_or((false, word), |word| (true, word));
        // A value may hold the sign, a name may not.
        let (name, value) = word.split_once('=').ok_or_else(|| format!("no field: {word}"))?;
        let field = (unescape(name)?, unescape(value)?);
        let known = fields.iter().take(defaults).position(|(name, _)| *name == field.0);
        match known {
            Some(at) if !appended => fields[at] = field,
            _ => fields.push(field),
        }
    }
    Ok(fields)
}

/// The message as text, without the lines that begin like this.
fn without(message: &[u8], added: &[&str]) -> String {
    let lines = message.split_inclusive(|&byte| byte == b'\n');
    let kept = lines.filter(|line| {
        let line = line.to_ascii_lowercase();
        !added.iter().any(|added| line.starts_with(added.as_bytes()))
    });
    show(&kept.flatten().copied().collect::<Vec<u8>>())
}

fn start(driver: &str, name: &str, service: &str) -> (Gateway, SocketAddr) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("injection-{name}-{driver}"));
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("the target directory is writable");
    let address = SocketAddr::from(([127, 0, 0, 1], ports::reserve()));
    let text = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: api}}\n\
         spec: {{address: 'http://{address}', services: {{upstream: {{address: '{service}'}}}}}}\n"
    );
    fs::write(directory.join("gateway.yaml"), text).expect("the directory is writable");
    let launch = Launch { directory: &directory, driver, management: ports::reserve(), flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, LIMIT) {
        panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
    }
    (gateway, address)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let stream = u32::from(kind != SETTINGS).to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// The row's message, on stream 1.
fn frames(row: &Row) -> Vec<u8> {
    let end = |last: bool| if last { END_STREAM } else { 0 };
    let (data, trailers) = (&row.data, &row.trailers);
    let mut out = frame(HEADERS, END_HEADERS | end(data.is_none() && trailers.is_none()), &encode(&row.head));
    if let Some(data) = data {
        out.extend(frame(DATA, end(trailers.is_none()), data));
    }
    if let Some(trailers) = trailers {
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, &encode(trailers)));
    }
    out
}

/// The status of the answer; none where the stream or the connection was ended instead.
fn ask(address: SocketAddr, row: &Row) -> io::Result<Option<u16>> {
    let mut stream = connect(address)?;
    let begin =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, b"")[..], &frame(SETTINGS, ACK, b"")].concat();
    stream.write_all(&[begin, frames(row)].concat())?;
    let (mut decoder, mut status) = (Decoder::default(), None);
    loop {
        let (kind, flags, _, payload) = match next_frame(&mut stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // Ended, whichever way.
            Err(_) => return Ok(status),
            Ok(frame) => frame,
        };
        match kind {
            HEADERS => {
                let fields = decoder.decode(&payload).map_err(io::Error::other)?;
                let value = fields.iter().find(|(name, _)| name == b":status").map(|(_, value)| value.clone());
                let value = value.and_then(|value| String::from_utf8(value).ok()?.parse().ok());
                status = value.or(status);
            }
            RST_STREAM | GOAWAY => return Ok(None),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            return Ok(status);
        }
    }
}

/// Type, flags, stream and payload.
fn next_frame(stream: &mut TcpStream) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
    stream.read_exact(&mut payload)?;
    Ok((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload))
}

/// Keeps what comes, request by request; what is none, too.
fn serve_http1(received: Arc<Mutex<Vec<Vec<u8>>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let received = received.clone();
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let mut piece = [0; 65_536];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    bytes.extend_from_slice(&piece[..count]);
                    if is_whole(&bytes) {
                        received.lock().expect("no holder panics").push(std::mem::take(&mut bytes));
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
                    }
                }
                if !bytes.is_empty() {
                    received.lock().expect("no holder panics").push(bytes);
                }
            });
        }
    });
    address
}

/// One request, and nothing behind it.
fn is_whole(bytes: &[u8]) -> bool {
    let Ok(Some((head, length))) = Head::parse(bytes) else { return false };
    let mut rest = bytes[length..].to_vec();
    match head.request_framing() {
        Framing::Length(length) => rest.len() as u64 == length,
        Framing::Chunked => Chunks::default().take(&mut rest, &mut Vec::new()) == Ok(true) && rest.is_empty(),
        _ => rest.is_empty(),
    }
}

/// Answers every request with the frames of the current row, on a connection of its own.
fn serve_http2(current: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let current = current.clone();
            thread::spawn(move || -> io::Result<()> {
                stream.read_exact(&mut [0; 24])?;
                stream.write_all(&[frame(SETTINGS, 0, b""), frame(SETTINGS, ACK, b"")].concat())?;
                while next_frame(&mut stream)?.0 != HEADERS {}
                let answer = current.lock().expect("no holder panics").clone();
                // The last stream of this connection: the next row gets another one.
                let goaway = [&[0, 0, 8, GOAWAY, 0, 0, 0, 0, 0][..], &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
                stream.write_all(&[goaway, answer].concat())?;
                while next_frame(&mut stream).is_ok() {}
                Ok(())
            });
        }
    });
    address
}
