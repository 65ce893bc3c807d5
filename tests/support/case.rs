//! A case file as a list of steps. A directive stands at the line's start; what is indented below it belongs to it.

use std::path::Path;

use super::{
    protocols::{Pair, Protocol, Side, translate},
    script::{self, Command, number, pattern},
    text::literal,
};

#[derive(Debug)]
pub struct Case {
    /// `area/name`.
    pub name: String,
    /// The first comment line: what the case proves.
    pub about: String,
    /// The only driver it makes sense under.
    pub driver: Option<String>,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub struct Step {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    /// Write a file, or replace it atomically.
    Config {
        name: String,
        text: String,
    },
    /// Write a file as a mounted ConfigMap does: `name -> ..data/name`, and `..data` swapped.
    ConfigMap {
        name: String,
        text: String,
    },
    Remove(String),
    /// A file takes another's place in one rename.
    Copy(String, String),
    Env(String, String),
    Flags(Vec<String>),
    Upstream {
        index: usize,
        mode: UpstreamMode,
    },
    Start(Begin),
    Client {
        name: String,
        background: bool,
        script: Vec<Command>,
    },
    Signal(String),
    Wait(Event),
    Mark(String),
    /// So many connections were accepted by an upstream until now.
    Connections {
        index: usize,
        count: usize,
    },
    /// A GET on the management address (or the port given), asked again until every line holds.
    Get {
        target: String,
        expectations: Vec<Expectation>,
    },
    /// What the gateway has written so far holds these.
    Output(Vec<Expectation>),
    /// A file below the case's directory is there, and holds this.
    File {
        name: String,
        expectations: Vec<Expectation>,
    },
    /// Another run of the binary.
    Run {
        arguments: Vec<String>,
        expectations: Vec<Expectation>,
    },
    Within(u64),
}

#[derive(Clone, Debug)]
pub enum UpstreamMode {
    Script(Vec<Command>),
    /// The script answers each request of each connection.
    Loop(Vec<Command>),
    /// Nobody may connect.
    Never,
}

#[derive(Clone, Copy, Debug)]
pub enum Begin {
    Ready,
    /// Alive, ready or not.
    Live,
    Exits(i32),
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A newer generation than the last one waited for is running.
    Reload,
    /// The last reload was refused.
    Refused,
    Ready,
    Unready,
    Exit(i32),
    Mark(String),
    Stderr(String),
    Stdout(String),
}

#[derive(Clone, Debug)]
pub struct Expectation {
    pub line: usize,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Exit(i32),
    Status(u16),
    /// Some line of the stream is, matches, or no line matches.
    LineIs(Stream, String),
    LineMatches(Stream, String),
    NoLineMatches(Stream, String),
    /// How many lines match.
    LineCount(Stream, usize, String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stream {
    Stdout,
    Stderr,
    /// Of a `get`.
    Body,
}

impl Case {
    /// The case of a file, or one for each pair of protocols.
    pub fn read(path: &Path, root: &Path) -> Result<Vec<Self>, String> {
        let name = path.strip_prefix(root).unwrap_or(path).with_extension("").display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        match text.lines().find_map(|line| line.strip_prefix("protocols")) {
            None => Ok(vec![Self::parse(name, &text, root, None)?]),
            Some(pairs) => {
                let case = |pair: Pair| {
                    let name = format!("{name} {}", pair.name());
                    Self::parse(name, &pair.addressed(&text), root, Some(pair))
                };
                Pair::parse(pairs)?.into_iter().map(case).collect()
            }
        }
    }

    fn parse(name: String, text: &str, root: &Path, pair: Option<Pair>) -> Result<Self, String> {
        let mut lines = text.lines();
        let about = lines.next().and_then(|first| first.strip_prefix("# ")).unwrap_or_default().to_owned();
        if about.is_empty() {
            return Err("the first line must be a comment that says what the case proves".into());
        }
        let mut case = Self { name, about, driver: None, steps: Vec::new() };
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut at = 0;
        while at < lines.len() {
            let (line, number) = (lines[at].trim_end(), at + 1);
            at += 1;
            if line.is_empty() || line.starts_with('#') || line.starts_with("protocols") {
                continue;
            }
            if line.starts_with(' ') {
                return Err(format!("line {number}: indented, but no directive above takes a block"));
            }
            let taken = lines[at..].iter().take_while(|l| l.is_empty() || l.starts_with(' ')).count();
            let block = &lines[at..at + taken];
            let directive = Directive { words: line, block, first: at + 1, root, pair };
            match directive.parse().map_err(|problem| with_line(number, problem))? {
                Parsed::Driver(driver) => case.driver = Some(driver),
                Parsed::Step(kind) => case.steps.push(Step { line: number, kind }),
            }
            at += taken;
        }
        Ok(case)
    }

    /// Whether a gateway is needed at all, or only runs of the binary.
    pub fn needs_gateway(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(
                step.kind,
                Kind::Start(_) | Kind::Client { .. } | Kind::Signal(_) | Kind::Get { .. } | Kind::Upstream { .. }
            )
        })
    }
}

fn with_line(number: usize, problem: String) -> String {
    if problem.starts_with("line ") { problem } else { format!("line {number}: {problem}") }
}

struct Directive<'a> {
    words: &'a str,
    block: &'a [String],
    first: usize,
    root: &'a Path,
    pair: Option<Pair>,
}

enum Parsed {
    Driver(String),
    Step(Kind),
}

impl Directive<'_> {
    fn parse(&self) -> Result<Parsed, String> {
        let (word, rest) = self.words.split_once(' ').unwrap_or((self.words, ""));
        let rest = rest.trim();
        let kind = match word {
            "driver" => return Ok(Parsed::Driver(rest.to_owned())),
            "use" => self.shared(rest)?,
            "config" => Kind::Config { name: rest.to_owned(), text: self.text() },
            "configmap" => Kind::ConfigMap { name: rest.to_owned(), text: self.text() },
            "remove" => Kind::Remove(rest.to_owned()),
            "env" => {
                let (name, value) = rest.split_once('=').ok_or("env NAME=value")?;
                Kind::Env(name.to_owned(), value.to_owned())
            }
            "flags" => Kind::Flags(rest.split_whitespace().map(str::to_owned).collect()),
            "upstream" | "upstream2" | "upstream3" => {
                Kind::Upstream { index: upstream_index(word), mode: self.upstream(rest)? }
            }
            "start" => Kind::Start(match rest.split_whitespace().collect::<Vec<_>>()[..] {
                [] => Begin::Ready,
                ["live"] => Begin::Live,
                ["exits", code] => Begin::Exits(number(code)? as i32),
                _ => return Err(format!("start {rest}?")),
            }),
            "client" => {
                let background = rest.ends_with("background");
                let rest = rest.trim_end_matches("background").trim();
                let (name, script) = match rest.split_once(" -> ") {
                    Some((request, status)) => self.exchange(request, status)?,
                    None => (rest, self.script(Side::Client)?),
                };
                Kind::Client { name: name.to_owned(), background, script }
            }
            "signal" => Kind::Signal(rest.to_owned()),
            "wait" => Kind::Wait(event(rest)?),
            "mark" => Kind::Mark(rest.to_owned()),
            "connections" => {
                let (name, count) = rest.split_once(' ').ok_or("connections upstream N")?;
                Kind::Connections { index: upstream_index(name), count: number(count)? as usize }
            }
            "copy" => {
                let (from, to) = rest.split_once(' ').ok_or("copy FROM TO")?;
                Kind::Copy(from.to_owned(), to.to_owned())
            }
            "get" => Kind::Get { target: rest.to_owned(), expectations: self.expectations()? },
            "output" => Kind::Output(self.expectations()?),
            "file" => Kind::File { name: rest.to_owned(), expectations: self.expectations()? },
            "run" => Kind::Run { arguments: arguments(rest)?, expectations: self.expectations()? },
            "within" => Kind::Within(number(rest)?),
            other => return Err(format!("unknown directive {other:?}")),
        };
        Ok(Parsed::Step(kind))
    }

    /// The block as commands, where the case is one of a pair of protocols in that side's.
    fn script(&self, side: Side) -> Result<Vec<Command>, String> {
        let Some(protocol) = self.pair.map(|pair| pair.of(side)) else {
            return script::parse(self.block, self.first);
        };
        let mut lines = translate(self.block, protocol).map_err(|problem| format!("line {}: {problem}", self.first))?;
        if (side, protocol) == (Side::Upstream, Protocol::Http2) {
            // On the directive's own line.
            lines.insert(0, "    h2 serve".into());
            return script::parse(&lines, self.first - 1);
        }
        script::parse(&lines, self.first)
    }

    /// `NAME key=value...`: a file of `cases/shared/`, with `{key}` replaced by the value.
    fn shared(&self, rest: &str) -> Result<Kind, String> {
        let (name, values) = rest.split_once(' ').unwrap_or((rest, ""));
        let path = self.root.join("shared").join(name).with_extension("yaml");
        let mut text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for word in values.split_whitespace() {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not key=value"))?;
            text = text.replace(&format!("{{{key}}}"), value);
        }
        if let Some(pair) = self.pair {
            text = pair.addressed(&text);
        }
        Ok(Kind::Config { name: format!("{name}.yaml"), text })
    }

    /// `[NAME] METHOD TARGET -> STATUS`: one bare request, and what its answer must be. Without a name, on a new
    /// connection.
    fn exchange<'b>(&self, request: &'b str, status: &str) -> Result<(&'b str, Vec<Command>), String> {
        let words: Vec<&str> = request.split_whitespace().collect();
        let (name, method, target) = match words[..] {
            [method, target] => ("", method, target),
            [name, method, target] => (name, method, target),
            _ => return Err("client [NAME] METHOD TARGET -> STATUS".into()),
        };
        let to_head = if method == "HEAD" { " HEAD" } else { "" };
        let lines = [
            if name.is_empty() { "connect" } else { "" }.to_owned(),
            format!("> {method} {target} HTTP/1.1"),
            "> Host: a.test".into(),
            ">".into(),
            format!("expect {status}{to_head}"),
        ];
        let mut script = script::parse(&lines, self.first)?;
        script.extend(script::parse(self.block, self.first)?);
        Ok((name, script))
    }

    /// The block as a file: without its own indentation, and without blank lines at its end.
    fn text(&self) -> String {
        let filled = || self.block.iter().filter(|line| !line.trim().is_empty());
        let margin = filled().map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0);
        let lines: Vec<&str> = self.block.iter().map(|line| line.get(margin..).unwrap_or("")).collect();
        let mut text = lines.join("\n").trim_end_matches('\n').to_owned();
        text.push('\n');
        text
    }

    fn upstream(&self, mode: &str) -> Result<UpstreamMode, String> {
        if let Some((request, status)) = mode.split_once("->") {
            return Ok(UpstreamMode::Script(self.answer(request, status.trim())?));
        }
        Ok(match mode {
            "" => UpstreamMode::Script(self.script(Side::Upstream)?),
            "loop" => UpstreamMode::Loop(self.script(Side::Upstream)?),
            "never" => UpstreamMode::Never,
            "ok" => UpstreamMode::Loop(self.answer("", "200")?),
            other => {
                return Err(format!("upstream {other}? One of: a script, METHOD TARGET -> STATUS, loop, never, ok"));
            }
        })
    }

    /// One request, what the block says about it, and an answer with the body `ok`.
    fn answer(&self, request: &str, status: &str) -> Result<Vec<Command>, String> {
        let mut script = script::parse(&[format!("expect {request}")], self.first)?;
        script.extend(script::parse(self.block, self.first)?);
        // Answered only once all was read: an answer ahead of the body is a subject of its own.
        script.extend(script::parse(&["body any".to_owned()], self.first)?);
        let answer = format!("send \"HTTP/1.1 {status} Answer\\r\\ncontent-length: 2\\r\\n\\r\\nok\"");
        script.extend(script::parse(&[answer], self.first)?);
        Ok(script)
    }

    fn expectations(&self) -> Result<Vec<Expectation>, String> {
        let mut expectations = Vec::new();
        for (offset, text) in self.block.iter().enumerate() {
            let (text, line) = (text.trim(), self.first + offset);
            if !text.is_empty() && !text.starts_with('#') {
                let what = expectation(text).map_err(|problem| format!("line {line}: {problem}"))?;
                expectations.push(Expectation { line, what });
            }
        }
        Ok(expectations)
    }
}

fn upstream_index(word: &str) -> usize {
    word.trim_start_matches("upstream").parse::<usize>().map_or(0, |n| n - 1)
}

/// Words, or double-quoted strings where a word holds spaces.
fn arguments(text: &str) -> Result<Vec<String>, String> {
    let mut arguments = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        match index % 2 {
            0 => arguments.extend(part.split_whitespace().map(str::to_owned)),
            _ => arguments.push(part.to_owned()),
        }
    }
    Ok(arguments)
}

fn event(text: &str) -> Result<Event, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match word {
        "reload" => Event::Reload,
        "refused" => Event::Refused,
        "ready" => Event::Ready,
        "unready" => Event::Unready,
        "exit" => Event::Exit(number(rest)? as i32),
        "mark" => Event::Mark(rest.to_owned()),
        "stderr" => Event::Stderr(pattern(rest)?),
        "stdout" => Event::Stdout(pattern(rest)?),
        other => return Err(format!("wait {other}?")),
    })
}

fn expectation(text: &str) -> Result<What, String> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let stream = match word {
        "exit" => return Ok(What::Exit(number(rest)? as i32)),
        "status" => return Ok(What::Status(number(rest)? as u16)),
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        "body" => Stream::Body,
        other => return Err(format!("{other}? One of: exit, status, stdout, stderr, body")),
    };
    let (operator, value) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    Ok(match operator {
        "==" => What::LineIs(stream, String::from_utf8_lossy(&literal(value)?).into_owned()),
        "~" => What::LineMatches(stream, pattern(value)?),
        "!~" => What::NoLineMatches(stream, pattern(value)?),
        "count" => {
            let (count, value) = value.split_once(' ').ok_or("count N PATTERN")?;
            What::LineCount(stream, number(count)? as usize, pattern(value)?)
        }
        other => return Err(format!("{word} {other}? One of: ==, ~, !~, count")),
    })
}
