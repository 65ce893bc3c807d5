//! Texts made at random, whole and broken, against `serde_json`: the same are accepted, but for what it lets pass where no text
//! is meant (halves of surrogate pairs, bytes that are no UTF-8), and what it measures breaks a limit or does not.

use std::fmt;

use proptest::{prelude::*, sample::Index};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::*;

/// A JSON text.
fn text() -> impl Strategy<Value = String> {
    let scalar =
        prop_oneof![Just("true".to_owned()), Just("false".to_owned()), Just("null".to_owned()), number(), string(),];
    scalar.prop_recursive(6, 60, 6, |inner| {
        let item = (space(), inner, space()).prop_map(|(before, item, after)| format!("{before}{item}{after}")).boxed();
        let entry = (space(), string(), space(), item.clone())
            .prop_map(|(before, name, after, item)| format!("{before}{name}{after}:{item}"));
        prop_oneof![
            (space(), prop::collection::vec(item, 0..6))
                .prop_map(|(space, items): (_, Vec<String>)| contained("[", space, &items, "]")),
            (space(), prop::collection::vec(entry, 0..6))
                .prop_map(|(space, items): (_, Vec<String>)| contained("{", space, &items, "}")),
        ]
    })
}

fn contained(open: &str, space: &str, items: &[String], close: &str) -> String {
    if items.is_empty() { format!("{open}{space}{close}") } else { format!("{open}{}{close}", items.join(",")) }
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "", "", " ", "\n", "\t\r\n", "     "])
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,12})([.][0-9]{1,8})?([eE][+-]?[0-9]{1,2})?"
}

fn string() -> impl Strategy<Value = String> {
    let parts = vec![
        "a",
        "bc",
        " ",
        "word",
        "[",
        "{",
        "}",
        "]",
        ":",
        ",",
        "0",
        "true",
        "/",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\uD7FF",
        "é",
        "€",
        "😀",
        "\u{7f}",
        "\u{ffff}",
    ];
    prop::collection::vec(prop::sample::select(parts), 0..12).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// One change of a text.
#[derive(Clone, Debug)]
enum Change {
    Remove(Index),
    Put(Index, u8),
    Insert(Index, u8),
    Cut(Index),
    Repeat(Index, Index),
}

impl Change {
    fn of(self, text: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        match self {
            Self::Remove(at) => drop(text.remove(at.index(text.len()))),
            Self::Put(at, byte) => *at.get_mut(text) = byte,
            Self::Insert(at, byte) => text.insert(at.index(text.len()), byte),
            Self::Cut(at) => text.truncate(at.index(text.len())),
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(text.len()), to.index(text.len()));
                let part = text[from.min(to)..from.max(to)].to_vec();
                text.splice(from..from, part);
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let byte = || prop_oneof![4 => prop::sample::select(&b"[]{},:\"\\ 019-+.eEtrufalsn\xc3\xa9\xe2\xf0\x80"[..]), 1 => any::<u8>()];
    prop_oneof![
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), byte()).prop_map(|(at, byte)| Change::Put(at, byte)),
        (any::<Index>(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

/// Whether a text is right to `serde_json`, and is text.
fn is_right(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok() && str::from_utf8(text).is_ok_and(|text| !has_half_pair(text))
}

/// Whether a text that is JSON has an escape of one surrogate without the other.
fn has_half_pair(text: &str) -> bool {
    let mut escapes = text.replace("\\\\", "  ");
    let surrogate = |text: &str, digits: &str| {
        text.strip_prefix("\\u")
            .filter(|code| {
                code.to_ascii_lowercase().strip_prefix('d').is_some_and(|code| code.starts_with(|c| digits.contains(c)))
            })
            .is_some()
    };
    while let Some(at) = escapes.find("\\u") {
        let rest = escapes.split_off(at);
        let is_high = surrogate(&rest, "89ab");
        if surrogate(&rest, "cdef") || is_high && !surrogate(&rest[6..], "cdef") {
            return true;
        }
        escapes = rest[if is_high { 12 } else { 6 }..].to_owned();
    }
    false
}

/// The most of everything in a text.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    depth: u32,
    entries: u32,
    elements: u32,
    name: u64,
    string: u64,
}

impl Measured {
    fn with(&mut self, inner: Self) {
        self.depth = self.depth.max(inner.depth + 1);
        self.entries = self.entries.max(inner.entries);
        self.elements = self.elements.max(inner.elements);
        self.name = self.name.max(inner.name);
        self.string = self.string.max(inner.string);
    }
}

impl<'de> Deserialize<'de> for Measured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Measuring)
    }
}

struct Measuring;

impl<'de> Visitor<'de> for Measuring {
    type Value = Measured;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Measured, E> {
        Ok(Measured::default())
    }
    fn visit_i64<E>(self, _: i64) -> Result<Measured, E> {
        Ok(Measured::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Measured, E> {
        Ok(Measured::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Measured, E> {
        Ok(Measured::default())
    }
    fn visit_unit<E>(self) -> Result<Measured, E> {
        Ok(Measured::default())
    }
    fn visit_str<E>(self, text: &str) -> Result<Measured, E> {
        Ok(Measured { string: text.chars().count() as u64, ..Measured::default() })
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Measured, A::Error> {
        let (mut all, mut elements) = (Measured { depth: 1, ..Measured::default() }, 0);
        while let Some(inner) = seq.next_element()? {
            all.with(inner);
            elements += 1;
        }
        all.elements = all.elements.max(elements);
        Ok(all)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Measured, A::Error> {
        let (mut all, mut entries) = (Measured { depth: 1, ..Measured::default() }, 0);
        while let Some((name, inner)) = map.next_entry::<String, Measured>()? {
            all.with(inner);
            all.name = all.name.max(name.chars().count() as u64);
            entries += 1;
        }
        all.entries = all.entries.max(entries);
        Ok(all)
    }
}

/// The pieces of a text that is cut at these places.
fn cut<'t>(text: &'t [u8], cuts: &[Index]) -> Vec<&'t [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|place| &text[place[0]..place[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_same_texts_are_right(
        text in text(),
        changes in prop::collection::vec(change(), 0..4),
        before in 0..70_usize,
        cuts in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        let mut text = text.into_bytes();
        changes.into_iter().for_each(|change| change.of(&mut text));
        text.splice(0..0, vec![b' '; before]);
        let expected = if is_right(&text) { Ok(()) } else { Err(Violation::Syntax) };
        prop_assert_eq!(scan_pieces(Limits::NONE, [&text[..]]), expected, "{}", text.escape_ascii());
        prop_assert_eq!(scan_pieces(Limits::NONE, cut(&text, &cuts)), expected, "{}", text.escape_ascii());
    }

    #[test]
    fn limits_are_what_they_are_measured_to_be(
        text in text(),
        before in 0..70_usize,
        cuts in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        let text = " ".repeat(before) + &text;
        let most: Measured = serde_json::from_str(&text).expect("it is JSON");
        let limits = Limits {
            depth: most.depth,
            entries: most.entries,
            elements: most.elements,
            name: most.name,
            string: most.string,
        };
        let found = |limits| scan_pieces(limits, cut(text.as_bytes(), &cuts));
        prop_assert_eq!(found(limits), Ok(()), "{}", text);
        let less = [
            (most.depth > 0, Limits { depth: limits.depth.wrapping_sub(1), ..limits }, Violation::Depth),
            (most.entries > 0, Limits { entries: limits.entries.wrapping_sub(1), ..limits }, Violation::EntryCount),
            (most.elements > 0, Limits { elements: limits.elements.wrapping_sub(1), ..limits }, Violation::ElementCount),
            (most.name > 0, Limits { name: limits.name.wrapping_sub(1), ..limits }, Violation::NameLength),
            (most.string > 0, Limits { string: limits.string.wrapping_sub(1), ..limits }, Violation::StringLength),
        ];
        for (_, limits, violation) in less.into_iter().filter(|(has, ..)| *has) {
            prop_assert_eq!(found(limits), Err(violation), "{:?} {}", limits, text);
        }
    }

    /// Whatever comes, nothing panics, and pieces make no difference.
    #[test]
    fn any_bytes_may_come(
        bytes in prop::collection::vec(prop_oneof![prop::sample::select(&b"[]{},:\"\\ 01-.eu"[..]), any::<u8>()], 0..400),
        cuts in prop::collection::vec(any::<Index>(), 0..9),
    ) {
        let limits = Limits { depth: 5, entries: 2, elements: 3, name: 4, string: 6 };
        let found = scan_pieces(limits, [&bytes[..]]);
        prop_assert_eq!(scan_pieces(limits, cut(&bytes, &cuts)), found, "{}", bytes.escape_ascii());
        prop_assert_eq!(scan_pieces(limits, bytes.chunks(1)), found, "{}", bytes.escape_ascii());
    }
}
