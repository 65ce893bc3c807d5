//! Patterns: the regular expressions of rules, matched whole and over bytes.
//!
//! Nearly every pattern in real files is a literal, `/orders/.*` or `/orders(/.*)`. Those are recognised in the parsed form,
//! not in the text, and never reach a regex engine. The rest runs in linear time; only a pattern that needs `(?!` backtracks,
//! and then so far and no further.

mod dialect;
mod spelling;

use std::{fmt, ops::Range};

use regex_automata::{
    Anchored, Input,
    meta::{self, Regex},
    util::primitives::NonMaxUsize,
};
use regex_syntax::hir::{Class, Dot, Hir, HirKind, Look};

/// One pattern as written.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Brackets within brackets.
const NEST_MAX: u32 = 100;
/// One compiled program.
pub const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// What a core keeps for one pattern's lazily built automaton; it starts over when this is full.
const CACHE_BYTES_MAX: usize = 1 << 18;
/// Steps back that a pattern with `(?!` may take for one subject.
pub const BACKTRACKS_MAX: usize = 10_000;

/// How often an example repeats a part that a pattern wants more often: it is then none, and not used.
const EXAMPLE_REPEATS_MAX: u32 = 16;

/// A compiled pattern; shared by all cores, which bring their own [`Scratch`].
#[derive(Debug)]
pub struct Pattern {
    shape: Shape,
    ignore_case: bool,
}

#[derive(Debug)]
enum Shape {
    Plain(Plain),
    OneOf {
        literals: Box<[Box<[u8]>]>,
        grouped: bool,
    },
    Linear {
        id: usize,
        /// What every match begins with; most subjects are refused by it, at a tenth of what the engine costs.
        prefix: Box<[u8]>,
        regex: Regex,
    },
    /// Its engine keeps shared scratch space inside, so each core compiles its own from the text.
    Backtracking {
        id: usize,
        text: Box<str>,
        ignore_case: bool,
        grouped: bool,
    },
}

/// A literal, what may follow it, and at most one group that lasts to the end: `/a`, `/a/.*`, `/a(/.*)`, `(/a.*)`, `.+`.
#[derive(Debug, Default)]
struct Plain {
    literal: Vec<u8>,
    tail: Tail,
    group_at: Option<usize>,
    /// The tail, the group or `$` has ended it: nothing may follow.
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tail {
    #[default]
    Nothing,
    /// `.*`
    Any,
    /// `.+`
    Some,
}

/// A pattern with `(?!` reached its limit of steps: nobody knows whether it matches. The request is refused with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern reached its limit of steps")]
pub struct PatternLimit;

/// What the groups of a path pattern took, as ranges into that path; reused from request to request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    /// The pattern has groups at all; a group that took no part has no range.
    pub grouped: bool,
    pub ranges: Vec<Range<usize>>,
}

/// One core's room to run one snapshot's patterns: never shared, and never used with another snapshot's.
pub struct Scratch {
    /// By pattern id, made when first used.
    engines: Vec<Option<Engine>>,
    slots: Vec<Option<NonMaxUsize>>,
    joined: Vec<u8>,
}

enum Engine {
    Linear(Box<meta::Cache>),
    Backtracking(fancy_regex::Regex),
}

impl Captures {
    pub fn clear(&mut self) {
        self.grouped = false;
        self.ranges.clear();
    }
}

impl Scratch {
    pub fn new(patterns: usize) -> Self {
        Self { engines: (0..patterns).map(|_| None).collect(), slots: Vec::new(), joined: Vec::new() }
    }

    /// An empty buffer to join values in; give it back, so that the next one need not allocate.
    pub(super) fn take_joined(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.joined)
    }

    pub(super) fn give_joined(&mut self, mut joined: Vec<u8>) {
        joined.clear();
        self.joined = joined;
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("patterns", &self.engines.len()).finish_non_exhaustive()
    }
}

impl Pattern {
    /// Matches everything.
    pub fn any() -> Self {
        let plain = Plain { tail: Tail::Any, ..Plain::default() };
        Self { shape: Shape::Plain(plain), ignore_case: false }
    }

    /// Matches these texts, literally.
    pub fn one_of(literals: &[&str]) -> Self {
        let literals = literals.iter().map(|literal| literal.as_bytes().into()).collect();
        Self { shape: Shape::OneOf { literals, grouped: false }, ignore_case: false }
    }

    /// `patterns` counts up one id if this needs an engine.
    pub fn compile(text: &str, patterns: &mut usize) -> Result<Self, String> {
        Self::build(text, false, patterns)
    }

    /// For paths, which have one spelling: what the pattern says literally is brought to it.
    pub fn compile_path(text: &str, patterns: &mut usize) -> Result<Self, String> {
        limit(text)?;
        let spelt = spelling::of_path(text).text;
        // What is wrong is said of what was written.
        Self::build(&spelt, false, patterns).map_err(|problem| match Self::build(text, false, &mut 0) {
            Err(written) => written,
            Ok(_) => problem,
        })
    }

    /// For header names, and for hosts.
    pub fn compile_ignoring_case(text: &str, patterns: &mut usize) -> Result<Self, String> {
        Self::build(text, true, patterns)
    }

    pub fn is_match(&self, subject: &[u8], scratch: &mut Scratch) -> Result<bool, PatternLimit> {
        match &self.shape {
            Shape::Plain(plain) => Ok(plain.is_match(subject, self.ignore_case)),
            Shape::OneOf { literals, .. } => Ok(literals.iter().any(|literal| self.equals(subject, literal))),
            Shape::Linear { prefix, .. } if !subject.starts_with(prefix) => Ok(false),
            Shape::Linear { id, regex, .. } => {
                let input = Input::new(subject).anchored(Anchored::Yes).earliest(true);
                Ok(regex.search_half_with(scratch.cache(*id, regex), &input).is_some())
            }
            Shape::Backtracking { id, text, ignore_case, .. } => {
                scratch.backtracking(*id, text, *ignore_case).is_match(subject).map_err(|_| PatternLimit)
            }
        }
    }

    /// As `is_match`, and says what the groups took; `captures` is meaningful only where it matched.
    pub fn captures(
        &self,
        subject: &[u8],
        scratch: &mut Scratch,
        captures: &mut Captures,
    ) -> Result<bool, PatternLimit> {
        captures.clear();
        captures.grouped = self.grouped();
        if !captures.grouped {
            return self.is_match(subject, scratch);
        }
        match &self.shape {
            Shape::Plain(plain) => {
                let matches = plain.is_match(subject, self.ignore_case);
                if matches {
                    captures.ranges.extend(plain.group_at.map(|at| at..subject.len()));
                }
                Ok(matches)
            }
            Shape::OneOf { .. } => {
                captures.ranges.push(0..subject.len());
                self.is_match(subject, scratch)
            }
            Shape::Linear { prefix, .. } if !subject.starts_with(prefix) => Ok(false),
            Shape::Linear { id, regex, .. } => Ok(scratch.linear_captures(*id, regex, subject, captures)),
            Shape::Backtracking { id, text, ignore_case, .. } => {
                let regex = scratch.backtracking(*id, text, *ignore_case);
                let Some(found) = regex.captures(subject).map_err(|_| PatternLimit)? else { return Ok(false) };
                let groups = found.iter().skip(1).flatten();
                captures.ranges.extend(groups.map(|group| group.start()..group.end()));
                Ok(true)
            }
        }
    }

    fn build(text: &str, ignore_case: bool, patterns: &mut usize) -> Result<Self, String> {
        limit(text)?;
        let shape = match parse(text, false) {
            Ok(hir) => match recognise(&hir) {
                Some(shape) => shape,
                None => linear(text, ignore_case, patterns)?,
            },
            Err(_) if text.contains("(?!") => {
                let regex = backtracking(text, ignore_case)?;
                let grouped = regex.captures_len() > 1;
                Shape::Backtracking { id: next(patterns), text: text.into(), ignore_case, grouped }
            }
            Err(problem) => return Err(problem),
        };
        Ok(Self { shape, ignore_case })
    }

    fn grouped(&self) -> bool {
        match &self.shape {
            Shape::Plain(plain) => plain.group_at.is_some(),
            Shape::OneOf { grouped, .. } | Shape::Backtracking { grouped, .. } => *grouped,
            Shape::Linear { regex, .. } => regex.captures_len() > 1,
        }
    }

    fn equals(&self, subject: &[u8], literal: &[u8]) -> bool {
        equals(subject, literal, self.ignore_case)
    }
}

impl Scratch {
    fn cache(&mut self, id: usize, regex: &Regex) -> &mut meta::Cache {
        match self.engines[id].get_or_insert_with(|| Engine::Linear(Box::new(regex.create_cache()))) {
            Engine::Linear(cache) => cache,
            Engine::Backtracking(_) => unreachable!("an id belongs to one pattern of one snapshot"),
        }
    }

    fn backtracking(&mut self, id: usize, text: &str, ignore_case: bool) -> &fancy_regex::Regex {
        let made = || Engine::Backtracking(backtracking(text, ignore_case).expect("it compiled when it was checked"));
        match self.engines[id].get_or_insert_with(made) {
            Engine::Backtracking(regex) => regex,
            Engine::Linear(_) => unreachable!("an id belongs to one pattern of one snapshot"),
        }
    }

    fn linear_captures(&mut self, id: usize, regex: &Regex, subject: &[u8], captures: &mut Captures) -> bool {
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        slots.resize(2 * regex.captures_len(), None);
        let input = Input::new(subject).anchored(Anchored::Yes);
        let found = regex.search_slots_with(self.cache(id, regex), &input, &mut slots).is_some();
        if found {
            let groups = slots[2..].chunks_exact(2).filter_map(|pair| Some(pair[0]?.get()..pair[1]?.get()));
            captures.ranges.extend(groups);
        }
        self.slots = slots;
        found
    }
}

impl Plain {
    fn is_match(&self, subject: &[u8], ignore_case: bool) -> bool {
        let Some((head, rest)) = subject.split_at_checked(self.literal.len()) else { return false };
        let rest_fits = match self.tail {
            Tail::Nothing => rest.is_empty(),
            Tail::Any => true,
            Tail::Some => !rest.is_empty(),
        };
        rest_fits && equals(head, &self.literal, ignore_case)
    }

    /// Extends the shape by what the expression says next; false where the two together are no longer this shape.
    fn take(&mut self, hir: &Hir) -> bool {
        match hir.kind() {
            HirKind::Empty => true,
            HirKind::Look(Look::End) => {
                self.closed = true;
                true
            }
            _ if self.closed => false,
            HirKind::Look(Look::Start) => self.literal.is_empty(),
            HirKind::Literal(literal) => {
                self.literal.extend_from_slice(&literal.0);
                true
            }
            HirKind::Repetition(repetition) if is_dot(&repetition.sub) && repetition.max.is_none() => {
                self.tail = match repetition.min {
                    0 => Tail::Any,
                    1 => Tail::Some,
                    _ => return false,
                };
                self.closed = true;
                true
            }
            HirKind::Capture(capture) if self.group_at.is_none() => {
                self.group_at = Some(self.literal.len());
                let taken = self.take(&capture.sub);
                self.closed = true;
                taken
            }
            HirKind::Concat(parts) => parts.iter().all(|part| self.take(part)),
            _ => false,
        }
    }
}

/// What a pattern of paths says that no path can be, so that it would wait for it in vain.
pub fn oddity_of_path(text: &str) -> Option<&'static str> {
    spelling::of_path(text).odd
}

/// A path that the pattern takes, where that is easily found: with what is optional, or without.
pub fn example_of_path(text: &str, longest: bool) -> Option<Vec<u8>> {
    let mut example = Vec::new();
    let hir = parse(&spelling::of_path(text).text, false).ok()?;
    write_example(&hir, longest, &mut example);
    Some(example)
}

fn write_example(hir: &Hir, longest: bool, out: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(Class::Bytes(class)) => {
            let has = |byte: u8| class.iter().any(|range| (range.start()..=range.end()).contains(&byte));
            out.extend(
                [b'x', b'0', b'X'].into_iter().find(|&byte| has(byte)).or(class.iter().next().map(|r| r.start())),
            );
        }
        HirKind::Class(Class::Unicode(_)) => out.push(b'x'),
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min.max(u32::from(longest)).min(EXAMPLE_REPEATS_MAX) {
                write_example(&repetition.sub, longest, out);
            }
        }
        HirKind::Capture(capture) => write_example(&capture.sub, longest, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write_example(part, longest, out)),
        HirKind::Alternation(choices) => {
            let choice = if longest { choices.last() } else { choices.first() };
            choice.into_iter().for_each(|choice| write_example(choice, longest, out));
        }
    }
}

fn limit(text: &str) -> Result<(), String> {
    match text.len() > TEXT_BYTES_MAX {
        true => Err(format!("a pattern of {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len())),
        false => Ok(()),
    }
}

fn equals(subject: &[u8], literal: &[u8], ignore_case: bool) -> bool {
    if ignore_case { subject.eq_ignore_ascii_case(literal) } else { subject == literal }
}

fn next(patterns: &mut usize) -> usize {
    *patterns += 1;
    *patterns - 1
}

fn recognise(hir: &Hir) -> Option<Shape> {
    let mut plain = Plain::default();
    if plain.take(hir) {
        return Some(Shape::Plain(plain));
    }
    let (inner, grouped) = match hir.kind() {
        HirKind::Capture(capture) => (&*capture.sub, true),
        _ => (hir, false),
    };
    let HirKind::Alternation(choices) = inner.kind() else { return None };
    let literals = choices.iter().map(|choice| match choice.kind() {
        HirKind::Literal(literal) => Some(literal.0.clone()),
        _ => None,
    });
    Some(Shape::OneOf { literals: literals.collect::<Option<_>>()?, grouped })
}

/// A dot as [`parse`] reads it.
fn is_dot(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Bytes(_)) => *hir == Hir::dot(Dot::AnyByte),
        _ => false,
    }
}

fn linear(text: &str, ignore_case: bool, patterns: &mut usize) -> Result<Shape, String> {
    let parsed = parse(text, ignore_case)?;
    let mut prefix = Vec::new();
    leading_literal(&parsed, &mut prefix);
    let hir = Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]);
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(PROGRAM_BYTES_MAX))
        .onepass_size_limit(Some(CACHE_BYTES_MAX))
        .hybrid_cache_capacity(CACHE_BYTES_MAX);
    let regex = Regex::builder().configure(config).build_from_hir(&hir).map_err(|error| match error.size_limit() {
        Some(limit) => format!("the pattern compiles to more than {limit} bytes"),
        None => format!("not a regular expression: {error}"),
    })?;
    Ok(Shape::Linear { id: next(patterns), prefix: prefix.into(), regex })
}

/// The bytes that every match begins with; false where something else may follow them. Letters whose case is ignored are
/// classes in the parsed form, and end it.
fn leading_literal(hir: &Hir, prefix: &mut Vec<u8>) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(Look::Start) => true,
        HirKind::Literal(literal) => {
            prefix.extend_from_slice(&literal.0);
            true
        }
        HirKind::Capture(capture) => leading_literal(&capture.sub, prefix),
        HirKind::Concat(parts) => parts.iter().all(|part| leading_literal(part, prefix)),
        _ => false,
    }
}

/// Bytes, not characters: a header value need not be UTF-8, and `\d`, `\w` and `\b` are ASCII as in RE2. A dot takes any
/// byte; no path and no header holds a line break. A pattern that asks for Unicode by name (`\pL`, `[é]`) gets it.
fn parse(text: &str, ignore_case: bool) -> Result<Hir, String> {
    let mut parser = regex_syntax::ParserBuilder::new();
    parser.utf8(false).dot_matches_new_line(true).case_insensitive(ignore_case).nest_limit(NEST_MAX);
    let text = dialect::from_re2(text);
    let parsed = match parser.unicode(false).build().parse(&text) {
        Err(regex_syntax::Error::Translate(_)) => parser.unicode(true).build().parse(&text),
        parsed => parsed,
    };
    parsed.map_err(|error| match &error {
        regex_syntax::Error::Parse(error) => at(error.kind(), error.span().start.column),
        regex_syntax::Error::Translate(error) => at(error.kind(), error.span().start.column),
        _ => format!("not a regular expression: {error}"),
    })
}

fn at(kind: impl fmt::Display, column: usize) -> String {
    format!("not a regular expression: {kind}, at character {column}")
}

fn backtracking(text: &str, ignore_case: bool) -> Result<fancy_regex::Regex, String> {
    let build = |pattern: &str| {
        fancy_regex::RegexBuilder::new(pattern)
            .bytes_mode(fancy_regex::BytesMode::Ascii)
            .case_insensitive(ignore_case)
            .dot_matches_new_line(true)
            .backtrack_limit(BACKTRACKS_MAX)
            .delegate_size_limit(PROGRAM_BYTES_MAX)
            .delegate_dfa_size_limit(CACHE_BYTES_MAX)
            .max_prog_size(PROGRAM_BYTES_MAX / 64)
            .build()
            .map_err(|error| format!("not a regular expression: {error}"))
    };
    // Alone first: anchoring is by text here, and must not be what balances a bracket.
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}

#[cfg(test)]
mod tests;
