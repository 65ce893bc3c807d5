//! One case for each pair of protocols: what client and upstream say, in words that both protocols have.
//!
//! A case with the directive `protocols` is read once for each pair, and its neutral commands become those of HTTP/1.1 or of
//! HTTP/2, line for line, so that numbers of lines stay right.

use super::{
    h2::script::split,
    text::{show, unescape},
};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// The client's protocol, then the upstream's.
#[derive(Clone, Copy, Debug)]
pub struct Pair(pub Protocol, pub Protocol);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    Client,
    Upstream,
}

impl Pair {
    /// `h1-h2 h2-h2`; all four where there is nothing.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        use Protocol::{Http1, Http2};
        const ALL: [(&str, Pair); 4] = [
            ("h1-h1", Pair(Http1, Http1)),
            ("h2-h1", Pair(Http2, Http1)),
            ("h1-h2", Pair(Http1, Http2)),
            ("h2-h2", Pair(Http2, Http2)),
        ];
        if text.trim().is_empty() {
            return Ok(ALL.map(|(_, pair)| pair).into());
        }
        let pair = |word| ALL.iter().find(|(name, _)| *name == word).map(|&(_, pair)| pair).ok_or(word);
        text.split_whitespace().map(pair).collect::<Result<_, _>>().map_err(|word| format!("{word}? One of h1-h1, ..."))
    }

    pub fn name(self) -> String {
        let name = |protocol| if protocol == Protocol::Http1 { "h1" } else { "h2" };
        format!("{}-{}", name(self.0), name(self.1))
    }

    /// A configuration whose upstreams are addressed in their protocol.
    pub fn addressed(self, text: &str) -> String {
        if self.1 == Protocol::Http1 { text.to_owned() } else { text.replace("http://{upstream", "h2://{upstream") }
    }

    pub fn of(self, side: Side) -> Protocol {
        if side == Side::Client { self.0 } else { self.1 }
    }
}

/// A block with its neutral commands in the words of one protocol. Others stay as they are.
pub fn translate(block: &[String], protocol: Protocol) -> Result<Vec<String>, String> {
    let mut messages = Messages::default();
    let line = |line: &String| {
        let (margin, text) = line.split_at(line.len() - line.trim_start().len());
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let translated = match protocol {
            Protocol::Http1 => messages.http1(word, rest)?,
            Protocol::Http2 => http2(word, rest),
        };
        Ok(translated.map_or_else(|| line.clone(), |text| format!("{margin}{text}")))
    };
    block.iter().map(line).collect()
}

fn http2(word: &str, rest: &str) -> Option<String> {
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(match word {
        "ask" => format!("h2 {rest}"),
        "interim" => format!("h2 headers :status={rest}"),
        "answer" => {
            let (end, fields) = match more.strip_prefix("more") {
                Some(fields) => ("", fields),
                None => ("end ", more),
            };
            format!("h2 headers {end}:status={first} {fields}")
        }
        "data" => format!("h2 data {rest}"),
        "trailers" => format!("h2 headers end {rest}"),
        "filler" => format!("h2 data end fill={rest}"),
        "asked-of" => format!("header :authority == {rest}"),
        "cut" => "h2 rst INTERNAL_ERROR".into(),
        "again" => "h2 serve".into(),
        "sees" if rest == "cut" => "h2 expect cut".into(),
        "sees" => format!("h2 expect {rest}"),
        "body" if rest == "cut" => "h2 expect cut".into(),
        "body" => format!("h2 body {rest}"),
        _ => return None,
    })
}

/// What HTTP/1.1 has to remember from one line to the next.
#[derive(Default)]
struct Messages {
    /// The message that is being sent goes in chunks.
    chunked: bool,
    /// The answer that comes next has no body whatever it says.
    to_head: bool,
}

impl Messages {
    fn http1(&mut self, word: &str, rest: &str) -> Result<Option<String>, String> {
        let mut words = split(rest)?;
        let text = match word {
            "ask" => {
                if words.len() < 2 {
                    return Err("ask METHOD /path".into());
                }
                self.to_head = words[0] == "HEAD";
                let start = format!("{} {} HTTP/1.1\\r\\nhost: a.test", words[0], words[1]);
                let more = words.get(2).is_some_and(|word| word == "more");
                self.head(&start, &words[if more { 3 } else { 2 }..], more, None)
            }
            "interim" => self.head(&format!("HTTP/1.1 {} Interim", words[0]), &words[1..], false, None),
            "answer" => {
                let status = words.remove(0);
                let more = words.first().is_some_and(|word| word == "more");
                let empty = (!matches!(status.as_str(), "204" | "304")).then_some("content-length: 0\\r\\n");
                let start = format!("HTTP/1.1 {status} Answer");
                self.head(&start, &words[usize::from(more)..], more, empty)
            }
            "data" => {
                let end = words.first().is_some_and(|word| word == "end");
                let piece = words.get(usize::from(end)).ok_or("data [end] \"...\"")?;
                let piece = piece.strip_prefix('"').and_then(|piece| piece.strip_suffix('"')).ok_or("a string")?;
                let bytes = unescape(piece)?;
                let shown = show(&bytes).replace('"', "\\\"");
                match (self.chunked, end) {
                    (false, _) => format!("send \"{shown}\""),
                    // An empty chunk would be the last one.
                    (true, false) => format!("send \"{:x}\\r\\n{shown}\\r\\n\"", bytes.len()),
                    (true, true) if bytes.is_empty() => "send \"0\\r\\n\\r\\n\"".into(),
                    (true, true) => format!("send \"{:x}\\r\\n{shown}\\r\\n0\\r\\n\\r\\n\"", bytes.len()),
                }
            }
            "trailers" => format!("send \"0\\r\\n{}\\r\\n\"", fields(&words)),
            "filler" if self.chunked => return Err("filler has a length".into()),
            "filler" => format!("fill {rest}"),
            "asked-of" => format!("header host == {rest}"),
            "cut" => "reset".into(),
            "again" => "accept".into(),
            "body" if rest == "cut" => "body truncated".into(),
            "sees" if rest == "cut" => "ends".into(),
            "sees" if self.to_head && words.len() == 1 && !rest.starts_with('1') => format!("expect {rest} HEAD"),
            "sees" => format!("expect {rest}"),
            _ => return Ok(None),
        };
        Ok(Some(text))
    }

    fn head(&mut self, start: &str, words: &[String], more: bool, empty: Option<&str>) -> String {
        let has_length = words.iter().any(|word| word.starts_with("content-length="));
        self.chunked = more && !has_length;
        let framing = match (self.chunked, has_length) {
            (true, _) => "transfer-encoding: chunked\\r\\n",
            (false, false) => empty.unwrap_or_default(),
            (false, true) => "",
        };
        format!("send \"{start}\\r\\n{}{framing}\\r\\n\"", fields(words))
    }
}

fn fields(words: &[String]) -> String {
    let field = |word: &String| match word.split_once('=') {
        Some((name, value)) => format!("{name}: {}\\r\\n", value.replace('"', "")),
        None => format!("{word}\\r\\n"),
    };
    words.iter().map(field).collect()
}
