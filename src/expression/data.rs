//! Values that something else owns: literals, parsed payloads, claims. What an evaluation hands out borrows from them.

use std::mem;

use super::json;

/// A value with everything below it.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Boolean(bool),
    Number(Number),
    String(Box<str>),
    List(Vec<Datum>),
    Object(Object),
    Element(Box<Element>),
}

impl Datum {
    /// Reads JSON. None where it is malformed, or deeper or larger than a payload may be.
    pub fn from_json(text: &str) -> Option<Self> {
        json::parse(text)
    }

    /// The same, and none where an object has a name twice: others may read the other value.
    pub fn from_json_without_repetition(text: &str) -> Option<Self> {
        json::parse_without_repetition(text)
    }
}

/// A number and its digits as somebody wrote them: joined to a string, `1.50` stays `1.50`.
#[derive(Clone, Debug)]
pub struct Number {
    pub(super) value: f64,
    pub(super) written: Box<str>,
}

impl Number {
    /// Reads digits with an optional sign, fraction and exponent, as JSON has them. What does not fit 64 bits is none.
    pub fn parse(written: &str) -> Option<Self> {
        let value = parse_number(written)?;
        Some(Self { value, written: written.into() })
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.written == other.written
    }
}

/// A finite number in decimal digits; `inf`, `NaN` and spaces, which Rust reads or other languages do, are none.
pub(super) fn parse_number(written: &str) -> Option<f64> {
    let is_decimal = written.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if !is_decimal {
        return None;
    }
    written.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Names and values, each name once, in the order of their first mention.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    entries: Vec<(Box<str>, Datum)>,
    /// Indices of `entries` by name, where there are so many that a search pays.
    sorted: Box<[u32]>,
}

/// Up to here a look at each name is as fast as a search.
const ENTRIES_UNSORTED_MAX: usize = 12;

impl Object {
    /// Of a repeated name the last value counts, at the place of the first.
    pub fn new(mut entries: Vec<(Box<str>, Datum)>) -> Self {
        if entries.len() <= ENTRIES_UNSORTED_MAX {
            let mut at = 0;
            while at < entries.len() {
                match entries[..at].iter().position(|(name, _)| *name == entries[at].0) {
                    Some(first) => entries[first].1 = entries.remove(at).1,
                    None => at += 1,
                }
            }
            return Self { entries, sorted: Box::default() };
        }
        // Equal names lie together, in the order they were written.
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.sort_by(|a, b| entries[*a as usize].0.cmp(&entries[*b as usize].0));
        let mut kept: Vec<bool> = vec![true; entries.len()];
        let mut moved = Vec::new();
        for same in order.chunk_by(|a, b| entries[*a as usize].0 == entries[*b as usize].0) {
            if let [first, .., last] = *same {
                moved.push((first as usize, last as usize));
                same[1..].iter().for_each(|repeated| kept[*repeated as usize] = false);
            }
        }
        for (first, last) in moved {
            entries[first].1 = mem::replace(&mut entries[last].1, Datum::Null);
        }
        let mut is_kept = kept.into_iter();
        entries.retain(|_| is_kept.next().unwrap_or(true));
        let mut sorted: Vec<u32> = (0..entries.len() as u32).collect();
        sorted.sort_by(|a, b| entries[*a as usize].0.cmp(&entries[*b as usize].0));
        Self { entries, sorted: sorted.into() }
    }

    pub fn get(&self, name: &str) -> Option<&Datum> {
        if self.sorted.is_empty() {
            return self.entries.iter().find(|(known, _)| **known == *name).map(|(_, datum)| datum);
        }
        let found = self.sorted.binary_search_by(|index| (*self.entries[*index as usize].0).cmp(name)).ok()?;
        Some(&self.entries[self.sorted[found] as usize].1)
    }

    /// What a name holds, where that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Datum::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn entries(&self) -> &[(Box<str>, Datum)] {
        &self.entries
    }
}

impl<'a> FromIterator<(&'a str, Datum)> for Object {
    fn from_iter<I: IntoIterator<Item = (&'a str, Datum)>>(entries: I) -> Self {
        Self::new(entries.into_iter().map(|(name, datum)| (name.into(), datum)).collect())
    }
}

/// An element of an XML document; the document itself is one without a name.
///
/// With no element inside it is its text, otherwise it is like an object of its children, whose names may repeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Element {
    /// As written, with its prefix.
    pub(super) name: Box<str>,
    pub(super) attributes: Vec<(Box<str>, Box<str>)>,
    pub(super) children: Vec<Element>,
    /// All text directly inside.
    pub(super) text: String,
}

impl Element {
    /// With its prefix, or without.
    pub(super) fn is_named(&self, wanted: &str) -> bool {
        is_named(&self.name, wanted)
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| is_named(known, name)).map(|(_, value)| &**value)
    }

    /// Whether it is no more than its text.
    pub(super) fn is_text(&self) -> bool {
        self.children.is_empty()
    }
}

/// `Envelope` finds `soap:Envelope`, `soap:Envelope` finds only what has that prefix.
fn is_named(written: &str, wanted: &str) -> bool {
    written == wanted || written.split_once(':').is_some_and(|(_, local)| local == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few or many names, repeated or not: the last value at the first place, and each name is found.
        #[test]
        fn repeated_names_keep_their_last_value(names in prop::collection::vec("[a-f]{1,2}", 0..60)) {
            let entries = names.iter().enumerate().map(|(at, name)| (name.as_str(), Datum::String(at.to_string().into())));
            let object: Object = entries.collect();
            let mut expected: Vec<(&String, String)> = Vec::new();
            for (at, name) in names.iter().enumerate() {
                match expected.iter_mut().find(|(known, _)| *known == name) {
                    Some(known) => known.1 = at.to_string(),
                    None => expected.push((name, at.to_string())),
                }
            }
            let found: Vec<(&str, &Datum)> = object.entries().iter().map(|(name, datum)| (&**name, datum)).collect();
            prop_assert_eq!(found.len(), expected.len());
            for ((name, value), (found, datum)) in expected.iter().zip(found) {
                let value = Datum::String(value.as_str().into());
                prop_assert_eq!((name.as_str(), &value), (found, datum));
                prop_assert_eq!(object.get(name), Some(&value));
            }
            prop_assert_eq!(object.get("nobody"), None);
        }
    }
}
