//! Text to trees: YAML events, put together with their places.
//!
//! A file is someone else's bytes. Size, number of values and nesting are bounded, and a copy made for an alias counts like
//! text, so ten lines of aliases cannot fill the memory. A syntax error costs its own document, not those behind it.

use std::{borrow::Cow, collections::HashMap, path::PathBuf, sync::Arc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::{Entry, Location, Node, Problem, Scalar, Severity, Value};

/// Bytes of one file. Custom policies carry their code in the file, hence so many.
pub const BYTES_MAX: usize = 16 << 20;
/// Values in one file, copies for aliases included.
pub const NODES_MAX: usize = 1_000_000;
/// Lists and maps within one another.
pub const DEPTH_MAX: usize = 64;

/// Bytes of all values, copies for aliases included.
const VALUE_BYTES_MAX: usize = 2 * BYTES_MAX;
/// Bytes that may be read again for the sake of tabs behind a colon.
const AGAIN_BYTES_MAX: usize = 64 << 20;
/// Documents that are not YAML; behind the last of them the file is not read.
const SYNTAX_ERRORS_MAX: usize = 100;

/// One document of a file.
#[derive(Debug)]
pub struct Document {
    pub node: Node,
    /// Nothing in it was an error of YAML (a duplicate key is, though the rest can be read and checked).
    pub sound: bool,
}

/// The documents of a file; what is not YAML becomes a problem.
pub fn documents(file: &Arc<PathBuf>, text: &str, problems: &mut Vec<Problem>) -> Vec<Document> {
    let mut builder = Builder::new(file, problems);
    if text.len() > BYTES_MAX {
        builder.problem(Marker::new(0, 0, 0), format!("the file has more than {BYTES_MAX} bytes"));
        return builder.documents;
    }
    let text = without_invisible(text);
    let mut rest: &str = &text;
    for _ in 0..SYNTAX_ERRORS_MAX {
        let Err(Stop { marker, text }) = builder.read_with_tabs(rest) else { break };
        builder.problem(marker, text);
        builder.abandon();
        if builder.nodes > NODES_MAX || builder.bytes > VALUE_BYTES_MAX {
            break;
        }
        let Some((skipped, behind)) = next_document(rest, marker.line()) else { break };
        builder.lines_before += skipped;
        rest = behind;
    }
    builder.documents
}

/// Where reading stopped, and why.
struct Stop {
    marker: Marker,
    text: String,
}

/// A list or map that is still open.
struct Open {
    kind: OpenKind,
    location: Location,
    anchor: usize,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping(OpenMapping),
}

#[derive(Default)]
struct OpenMapping {
    entries: Vec<Entry>,
    /// Keys seen, with their lines.
    seen: HashMap<String, u32>,
    key: Option<Key>,
    merges: Vec<Node>,
}

struct Key {
    text: String,
    location: Location,
    merge: bool,
}

struct Builder<'p> {
    file: &'p Arc<PathBuf>,
    problems: &'p mut Vec<Problem>,
    documents: Vec<Document>,
    /// Lines in front of the text given to the parser, after a restart behind an error.
    lines_before: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    sound: bool,
    nodes: usize,
    bytes: usize,
}

impl<'p> Builder<'p> {
    fn new(file: &'p Arc<PathBuf>, problems: &'p mut Vec<Problem>) -> Self {
        Self {
            file,
            problems,
            documents: Vec::new(),
            lines_before: 0,
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            sound: true,
            nodes: 0,
            bytes: 0,
        }
    }

    /// The parser takes no tab between a colon and a word, which is YAML all the same (production 80, `s-separate-in-line`).
    /// Where one stops it, it reads again with a space in its place. Where what follows is a list or a map of its own the space
    /// is as wrong as the tab was.
    fn read_with_tabs(&mut self, text: &str) -> Result<(), Stop> {
        let mut text = Cow::Borrowed(text);
        let (documents, problems, nodes, bytes) = (self.documents.len(), self.problems.len(), self.nodes, self.bytes);
        let mut budget = AGAIN_BYTES_MAX;
        loop {
            let stop = match self.read(&text) {
                Err(stop) if stop.text.ends_with(TAB_BEHIND_COLON) => stop,
                result => return result,
            };
            let Some(better) = without_tabs_before(&text, stop.marker.index()) else { return Err(stop) };
            if budget < better.len() {
                return Err(stop);
            }
            budget -= better.len();
            text = Cow::Owned(better);
            self.abandon();
            self.documents.truncate(documents);
            self.problems.truncate(problems);
            (self.nodes, self.bytes) = (nodes, bytes);
        }
    }

    fn read(&mut self, text: &str) -> Result<(), Stop> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) =
                event.map_err(|error| Stop { marker: *error.marker(), text: format!("not YAML: {}", error.info()) })?;
            self.event(event, span)?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let marker = span.start;
        match event {
            Event::DocumentStart(_) => self.abandon(),
            Event::DocumentEnd => {
                // A document of nothing (`---` at the end, comments alone) is none.
                if let Some(node) = self.root.take().filter(|node| !node.is_null()) {
                    self.documents.push(Document { node, sound: self.sound });
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.charge(marker, 1, text.len())?;
                let location = self.location(marker);
                let plain = style == ScalarStyle::Plain && !is_string_tag(tag.as_deref());
                let scalar = if plain { Scalar::plain(text.into_owned()) } else { Scalar::literal(text.into_owned()) };
                self.finish(Node { value: Value::Scalar(scalar), location }, anchor, marker)?;
            }
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(Stop { marker, text: "an alias inside the value it stands for".into() });
                };
                self.charge_tree(marker, &node)?;
                if self.open.len() + depth(&node) > DEPTH_MAX {
                    return Err(too_deep(marker));
                }
                self.finish(node, 0, marker)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.charge(marker, 1, 0)?;
                self.open(marker, anchor, OpenKind::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, _) => {
                self.charge(marker, 1, 0)?;
                self.open(marker, anchor, OpenKind::Mapping(OpenMapping::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let value = match open.kind {
                        OpenKind::Sequence(items) => Value::Sequence(items),
                        OpenKind::Mapping(mapping) => Value::Mapping(mapping.merged()),
                    };
                    self.finish(Node { value, location: open.location }, open.anchor, marker)?;
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, marker: Marker, anchor: usize, kind: OpenKind) -> Result<(), Stop> {
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(marker));
        }
        self.open.push(Open { kind, location: self.location(marker), anchor });
        Ok(())
    }

    /// Puts a complete value where it belongs: into the innermost open list or map, or as the document.
    fn finish(&mut self, node: Node, anchor: usize, marker: Marker) -> Result<(), Stop> {
        if anchor != 0 {
            self.charge_tree(marker, &node)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::Sequence(items) => items.push(node),
            OpenKind::Mapping(mapping) => match mapping.key.take() {
                None => match node.value {
                    Value::Scalar(scalar) => {
                        let merge = scalar.is_merge();
                        mapping.key = Some(Key { text: scalar.into_written(), location: node.location, merge });
                    }
                    _ => return Err(Stop { marker, text: "a key must be a single value".into() }),
                },
                Some(key) if key.merge => match node.value {
                    Value::Sequence(items) => mapping.merges.extend(items),
                    _ => mapping.merges.push(node),
                },
                Some(key) => match mapping.seen.get(&key.text) {
                    Some(first) => {
                        let text = format!("duplicate key `{}`, first on line {first}", key.text);
                        let (severity, path) = (Severity::Error, "document".into());
                        self.problems.push(Problem { severity, location: key.location, path, text });
                        self.sound = false;
                    }
                    None => {
                        mapping.seen.insert(key.text.clone(), key.location.line);
                        mapping.entries.push(Entry { key: key.text, key_location: key.location, value: node });
                    }
                },
            },
        }
        Ok(())
    }

    fn charge(&mut self, marker: Marker, nodes: usize, bytes: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > NODES_MAX {
            return Err(Stop { marker, text: format!("more than {NODES_MAX} values, those of aliases included") });
        }
        if self.bytes > VALUE_BYTES_MAX {
            let text = format!("more than {VALUE_BYTES_MAX} bytes of values, those of aliases included");
            return Err(Stop { marker, text });
        }
        Ok(())
    }

    fn charge_tree(&mut self, marker: Marker, node: &Node) -> Result<(), Stop> {
        let (nodes, bytes) = size(node);
        self.charge(marker, nodes, bytes)
    }

    fn location(&self, marker: Marker) -> Location {
        let line = self.lines_before + marker.line();
        Location { file: self.file.clone(), line: line as u32, column: marker.col() as u32 + 1 }
    }

    fn problem(&mut self, marker: Marker, text: String) {
        let mut location = self.location(marker);
        if marker.line() == 0 {
            location.column = 0;
        }
        self.problems.push(Problem { severity: Severity::Error, location, path: "document".into(), text });
    }

    /// Forgets what a broken document left open.
    fn abandon(&mut self) {
        self.open.clear();
        self.anchors.clear();
        self.root = None;
        self.sound = true;
    }
}

/// What the parser says of it.
const TAB_BEHIND_COLON: &str = "':' must be followed by a valid YAML whitespace";

/// The text with spaces for the tabs that end at this character. `None`: there are none.
fn without_tabs_before(text: &str, index: usize) -> Option<String> {
    let end = text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    let begin = text[..end].trim_end_matches([' ', '\t']).len();
    if !text[begin..end].contains('\t') {
        return None;
    }
    let spaces = " ".repeat(end - begin);
    Some([&text[..begin], &spaces, &text[end..]].concat())
}

/// What lies behind a broken document: from the first `---` after its error on, with the number of lines passed.
fn next_document(text: &str, error_line: usize) -> Option<(usize, &str)> {
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marks =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        // The error may be the marker itself, which ends what was left open. The first line must go, or nothing would.
        if marks && index > 0 && index + 1 >= error_line {
            return Some((index, &text[at..]));
        }
        at += line.len();
    }
    None
}

/// A line of zero-width spaces is blank: one published example needs this. Files put together from several have a byte order
/// mark ahead of any document.
fn without_invisible(text: &str) -> Cow<'_, str> {
    const ZERO_WIDTH: char = '\u{200b}';
    const BYTE_ORDER: char = '\u{feff}';
    if !text.contains([ZERO_WIDTH, BYTE_ORDER]) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let line = line.strip_prefix(BYTE_ORDER).unwrap_or(line);
        if line.contains(ZERO_WIDTH) && line.chars().all(|c| c == ZERO_WIDTH || c.is_whitespace()) {
            out.push('\n');
        } else {
            out.push_str(line);
        }
    }
    Cow::Owned(out)
}

impl OpenMapping {
    /// `<<`: the keys of the other maps, where this one has none of its own; earlier maps win.
    fn merged(mut self) -> Vec<Entry> {
        for node in self.merges {
            let Value::Mapping(others) = node.value else { continue };
            for other in others {
                if !self.seen.contains_key(&other.key) {
                    self.seen.insert(other.key.clone(), other.key_location.line);
                    self.entries.push(other);
                }
            }
        }
        self.entries
    }
}

fn too_deep(marker: Marker) -> Stop {
    Stop { marker, text: format!("nested more than {DEPTH_MAX} levels deep") }
}

fn is_string_tag(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str")
}

/// Values and bytes of a tree. Trees are at most [`DEPTH_MAX`] deep, so recursion is bounded.
fn size(node: &Node) -> (usize, usize) {
    let sum = |(nodes, bytes), (more, longer)| (nodes + more, bytes + longer);
    match &node.value {
        Value::Scalar(scalar) => (1, scalar.len()),
        Value::Sequence(items) => items.iter().map(size).fold((1, 0), sum),
        Value::Mapping(entries) => {
            entries.iter().map(|entry| sum((1, entry.key.len()), size(&entry.value))).fold((1, 0), sum)
        }
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 0,
        Value::Sequence(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Mapping(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
    }
}
