//! What `explain` says of a request, compared with what a gateway makes of it. The upstream answers with the head that it has
//! received, so that what it has seen is compared line by line.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use ringway::explain::{
    Question,
    report::{Explanation, Outcome, Turn},
};

use crate::support::message::{Chunks, find};

pub const LIMIT: Duration = Duration::from_secs(30);
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What an echoed head begins with.
const ECHO: &[u8] = b"ECHO\r\n";
/// What policies answer that cannot do what they were configured to do.
const FAILED_POLICY: &[u8] = br#"{"error":"A policy of this API has failed."}"#;
/// What policies answer that count requests.
const TOO_MANY: &[u8] = br#"{"error":"Too Many Requests"}"#;

/// Serves for as long as the process runs.
pub fn echo() -> SocketAddr {
    let echo = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = echo.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

/// The status and the body of what a new connection is answered.
pub fn ask(port: u16, question: &Question) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut bytes = question.head();
    let body = question.body.as_deref().unwrap_or_default();
    match is_chunked(&text(&bytes)) {
        true if body.is_empty() => bytes.extend_from_slice(b"0\r\n\r\n"),
        true => bytes.extend([format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat()),
        false => bytes.extend_from_slice(body),
    }
    stream.write_all(&bytes)?;
    let mut seen = Vec::new();
    let head = read_head(&mut stream, &mut seen)?;
    let text = String::from_utf8_lossy(&seen[..head]).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    if question.method == "HEAD" {
        return Ok((status, Vec::new()));
    }
    let mut body = seen.split_off(head);
    let length = length(&text);
    let mut rest = vec![0; length.saturating_sub(body.len())];
    stream.read_exact(&mut rest)?;
    body.extend(rest);
    Ok((status, body))
}

pub fn agree(told: &Explanation, (status, body): &(u16, Vec<u8>), method: &str) -> Result<(), String> {
    reasons_fit(told)?;
    let echoed = body.strip_prefix(ECHO);
    // How many requests came before is not explained.
    if *status == 429 && matches!(told.outcome, Outcome::Upstream) && (method == "HEAD" || body == TOO_MANY) {
        return Ok(());
    }
    let sent = match (&told.outcome, &told.upstream) {
        (Outcome::Answered(answer), _) => {
            let same = answer.status == *status && (method == "HEAD" || answer.body.as_bytes() == body);
            return match same && echoed.is_none() {
                true => Ok(()),
                false => Err(format!("explained {} {}, seen {status} {}", answer.status, answer.reason, text(body))),
            };
        }
        (Outcome::Upstream, Some(sent)) => sent,
        (outcome, _) => return Err(format!("explained {outcome:?}, seen {status}")),
    };
    let Some(echoed) = echoed else {
        // The way back is not explained: there a policy may fail behind an upstream that was asked.
        if *status == 500 && (method == "HEAD" || body == FAILED_POLICY) {
            return Ok(());
        }
        // HEAD has no body to see it by.
        let told = format!("explained as sent upstream, seen {status} {}", text(body));
        return if method == "HEAD" && *status == 200 { Ok(()) } else { Err(told) };
    };
    // Which of several destinations it is, is drawn.
    if told.routes.iter().any(|route| route.chosen && route.to.len() > 1) {
        return Ok(());
    }
    let random_id = !told.request.headers.iter().any(|line| line.name.eq_ignore_ascii_case("x-request-id"));
    let shown = |line: &str| match line.strip_prefix("x-request-id: ") {
        Some(id) if random_id || id.len() == 36 => format!("x-request-id: one of {} bytes", id.len()),
        _ => line.to_owned(),
    };
    // Control characters are shown as blanks.
    let seen: Vec<String> = text(echoed).trim_end().replace('\t', " ").split("\r\n").map(shown).collect();
    let mut expected =
        vec![format!("{} {}{} HTTP/1.1", sent.method, sent.path, sent.query), format!("host: {}", sent.host)];
    expected.extend(sent.headers.iter().map(|line| shown(&format!("{}: {}", line.name, line.value))));
    if seen == expected { Ok(()) } else { Err(format!("explained {expected:#?}, seen {seen:#?}")) }
}

/// What is said of rules is asked of them once more, so it could differ from what was decided.
fn reasons_fit(told: &Explanation) -> Result<(), String> {
    let holds = |why: &str| why.contains(" holds") || why.contains("no rules");
    for turn in told.policies.iter().chain(&told.outbound_policies) {
        let applied = !matches!(turn.what, Turn::NotApplied | Turn::NotReached | Turn::PatternLimit);
        if holds(&turn.why) != applied {
            return Err(format!("{turn:?} contradicts itself"));
        }
    }
    let chosen = told.routes.iter().filter(|route| route.chosen).count();
    let fits = told.routes.iter().filter(|route| route.chosen).all(|route| holds(&route.why));
    // A route may be chosen whose Service does not exist.
    let one = chosen == 1 || told.service.is_none() && chosen == 0;
    match fits && one {
        true => Ok(()),
        false => Err(format!("{:?} contradict themselves", told.routes)),
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An upstream's connection: each request is answered with its own head.
fn answer(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    while let Ok(head) = read_head(&mut stream, &mut bytes) {
        let asked: Vec<u8> = bytes.drain(..head).collect();
        if read_body(&mut stream, &mut bytes, &text(&asked)).is_err() {
            return;
        }
        let mut out = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ECHO.len() + asked.len()).into_bytes();
        if !asked.starts_with(b"HEAD ") {
            out.extend_from_slice(ECHO);
            out.extend_from_slice(&asked);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// Reads until a head is whole, and says where it ends.
fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut room = [0; 4096];
    loop {
        if let Some(end) = find(bytes, b"\r\n\r\n") {
            return Ok(end + 4);
        }
        match stream.read(&mut room)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&room[..count]),
        }
    }
}

/// Takes the body of a request away.
fn read_body(stream: &mut TcpStream, bytes: &mut Vec<u8>, head: &str) -> std::io::Result<()> {
    let (mut chunks, mut body) = (Chunks::default(), Vec::new());
    let (is_chunked, length) = (is_chunked(head), length(head));
    let mut room = [0; 4096];
    loop {
        let is_whole = match is_chunked {
            true => chunks.take(bytes, &mut body).map_err(std::io::Error::other)?,
            false => bytes.len() >= length,
        };
        if is_whole {
            bytes.drain(..if is_chunked { 0 } else { length });
            return Ok(());
        }
        match stream.read(&mut room)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&room[..count]),
        }
    }
}

fn is_chunked(head: &str) -> bool {
    head.lines().any(|line| line.to_ascii_lowercase().starts_with("transfer-encoding:"))
}

fn length(head: &str) -> usize {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:"));
    line.and_then(|line| line.split(':').nth(1)?.trim().parse().ok()).unwrap_or(0)
}
