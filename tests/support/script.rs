//! The commands of client and upstream scripts, parsed before anything runs.

use super::{
    h2::script as h2,
    text::{literal, regex, unescape},
    tls::Options,
};

/// One command with the line of the case it stands on.
#[derive(Clone, Debug)]
pub struct Command {
    pub line: usize,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// Client: a new connection to this port. Upstream: the next connection.
    Connect(Option<String>),
    Accept,
    /// A frame of HTTP/2, or what is expected of one.
    H2(h2::Action),
    /// A handshake, from the side whose script it is, and what it must come to. Where it is TLS already: nothing.
    Tls(Options, Agreed),
    /// New traffic keys, on both sides.
    UpdateKeys,
    Send(Vec<u8>),
    /// The same bytes, this many per write.
    SendPieces(usize, Vec<u8>),
    /// On the socket itself, whatever layer is above it.
    SendBeneath(Vec<u8>),
    /// One byte every so many milliseconds, until all are sent or the peer answers.
    Drip(u64, Vec<u8>),
    /// Filler bytes.
    Fill(u64),
    /// Filler bytes up to this total.
    FillTo(u64),
    /// Filler until the peer stops taking it; a failure if it takes this many.
    Stall(u64),
    /// Client: a response head with this status. Upstream: a request head with this method and target.
    Expect(Start),
    Header(String, Check),
    Trailer(String, Check),
    Body(BodyCheck),
    /// Exactly these bytes come next.
    Raw(Vec<u8>),
    /// Nothing comes for so many milliseconds.
    Quiet(u64),
    Closed(Ending),
    /// The connection ends, whatever comes before that.
    Ends,
    Close,
    Reset,
    Shutdown,
    Mark(String),
    Wait(String),
    Within(u64),
    Repeat(usize, Vec<Command>),
}

#[derive(Clone, Debug)]
pub enum Agreed {
    /// Each of these words.
    On(Vec<String>),
    /// There is none, for a reason that matches.
    Fails(String),
}

#[derive(Clone, Debug)]
pub enum Start {
    Status { status: u16, to_head: bool },
    Request { method: String, target: String },
    AnyRequest,
}

#[derive(Clone, Debug)]
pub enum Check {
    Absent,
    Present,
    /// One line, with this value.
    Is(Vec<u8>),
    /// One of the lines has this value.
    Has(Vec<u8>),
    Matches(String),
    Count(usize),
}

#[derive(Clone, Debug)]
pub enum BodyCheck {
    /// Whole, whatever it is.
    Any,
    None,
    Is(Vec<u8>),
    Length(u64),
    Fill(u64),
    Matches(String),
    /// The framing's end never comes: the connection goes first.
    Truncated,
}

#[derive(Clone, Copy, Debug)]
pub enum Ending {
    Any,
    Cleanly,
    Abruptly,
}

/// The indented lines below a directive. `first` is the line number of the first one.
pub fn parse(lines: &[String], first: usize) -> Result<Vec<Command>, String> {
    let mut commands: Vec<Command> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (text, line) = (&lines[at], first + at);
        at += 1;
        let depth = indentation(text);
        let text = text.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let below = lines[at..].iter().take_while(|l| l.trim().is_empty() || indentation(l) > depth);
        // Blank lines belong to a block only if more of it follows.
        let nested = below.enumerate().filter(|(_, l)| !l.trim().is_empty()).last().map_or(0, |(last, _)| last + 1);
        let fail = |problem: String| format!("line {line}: {problem}");
        let action = if let Some(times) = text.strip_prefix("repeat ") {
            Action::Repeat(number(times).map_err(fail)? as usize, parse(&lines[at..at + nested], first + at)?)
        } else if nested > 0 {
            return Err(fail("indented lines below a command that takes none".into()));
        } else {
            action(text).map_err(fail)?
        };
        at += nested;
        // Neighbouring `>` lines are one write.
        if let (Some(Command { action: Action::Send(before), .. }), Action::Send(bytes)) =
            (commands.last_mut(), &action)
            && text.starts_with('>')
        {
            before.extend_from_slice(bytes);
            continue;
        }
        commands.push(Command { line, action });
    }
    Ok(commands)
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn action(text: &str) -> Result<Action, String> {
    if let Some(line) = text.strip_prefix('>') {
        let mut bytes = unescape(line.strip_prefix(' ').unwrap_or(line))?;
        bytes.extend_from_slice(b"\r\n");
        return Ok(Action::Send(bytes));
    }
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    Ok(match word {
        "connect" => Action::Connect((!rest.is_empty()).then(|| rest.to_owned())),
        "accept" => Action::Accept,
        "h2" => Action::H2(h2::parse(rest)?),
        "tls" => {
            let (options, agreed) = rest.split_once("->").unwrap_or((rest, ""));
            let agreed = match agreed.trim().strip_prefix("fails") {
                Some(why) => Agreed::Fails(pattern(why)?),
                None => Agreed::On(agreed.split_whitespace().map(str::to_owned).collect()),
            };
            Action::Tls(Options::parse(options)?, agreed)
        }
        "update-keys" => Action::UpdateKeys,
        "send" => Action::Send(literal(rest)?),
        "send-beneath" => Action::SendBeneath(literal(rest)?),
        "send-pieces" => {
            let (size, bytes) = counted(rest)?;
            Action::SendPieces(size as usize, bytes)
        }
        "drip" => {
            let (pause, bytes) = counted(rest)?;
            Action::Drip(pause, bytes)
        }
        "fill" => Action::Fill(number(rest)?),
        "fill-to" => Action::FillTo(number(rest)?),
        "stall" => Action::Stall(number(rest)?),
        "expect" => Action::Expect(start(rest)?),
        "header" => {
            let (name, check) = check(rest)?;
            Action::Header(name, check)
        }
        "trailer" => {
            let (name, check) = check(rest)?;
            Action::Trailer(name, check)
        }
        "body" => Action::Body(body(rest)?),
        "raw" => Action::Raw(literal(rest)?),
        "quiet" => Action::Quiet(number(rest)?),
        "closed" => Action::Closed(match rest {
            "" => Ending::Any,
            "cleanly" => Ending::Cleanly,
            "abruptly" => Ending::Abruptly,
            other => return Err(format!("closed {other}?")),
        }),
        "ends" => Action::Ends,
        "close" => Action::Close,
        "reset" => Action::Reset,
        "shutdown" => Action::Shutdown,
        "mark" => Action::Mark(rest.to_owned()),
        "wait" => Action::Wait(rest.to_owned()),
        "within" => Action::Within(number(rest)?),
        other => return Err(format!("unknown command {other:?}")),
    })
}

fn start(text: &str) -> Result<Start, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [] => Ok(Start::AnyRequest),
        [status] => Ok(Start::Status { status: number(status)? as u16, to_head: false }),
        [status, "HEAD"] => Ok(Start::Status { status: number(status)? as u16, to_head: true }),
        [method, target] => Ok(Start::Request { method: method.to_owned(), target: target.to_owned() }),
        _ => Err(format!("expect {text}? It takes a status, or a method and a target")),
    }
}

fn check(text: &str) -> Result<(String, Check), String> {
    let (name, rest) = text.split_once(' ').ok_or("a header name and what is expected of it")?;
    let (word, value) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    let check = match word {
        "absent" => Check::Absent,
        "present" => Check::Present,
        "==" => Check::Is(literal(value)?),
        "has" => Check::Has(literal(value)?),
        "~" => Check::Matches(pattern(value)?),
        "count" => Check::Count(number(value)? as usize),
        other => return Err(format!("header {name} {other}? One of: absent, present, ==, has, ~, count")),
    };
    Ok((name.to_owned(), check))
}

pub fn body(text: &str) -> Result<BodyCheck, String> {
    let (word, value) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match word {
        "any" => BodyCheck::Any,
        "none" => BodyCheck::None,
        "truncated" => BodyCheck::Truncated,
        "length" => BodyCheck::Length(number(value)?),
        "fill" => BodyCheck::Fill(number(value)?),
        "~" => BodyCheck::Matches(pattern(value)?),
        _ if text.starts_with('"') => BodyCheck::Is(literal(text)?),
        other => return Err(format!("body {other}? One of: any, none, \"text\", length, fill, ~, truncated")),
    })
}

pub fn pattern(text: &str) -> Result<String, String> {
    regex(text.trim()).map(|_| text.trim().to_owned())
}

fn counted(text: &str) -> Result<(u64, Vec<u8>), String> {
    let (count, bytes) = text.split_once(' ').ok_or("a number and a string")?;
    Ok((number(count)?, literal(bytes)?))
}

pub fn number(text: &str) -> Result<u64, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a number"))
}
