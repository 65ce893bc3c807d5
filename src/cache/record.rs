//! An entry as bytes, for a storage that replicas share.
//!
//! ```text
//! 1 | status u16 | answered u64 | initial age u64 | lifetime u64, MAX: none | ttl u64
//!   | method | selection: count; name, 1 or 0, value | fields: count; name, value | body
//! ```
//! Numbers are big-endian; counts and the lengths that stand ahead of texts have 32 bits. A field that a request did not have has
//! 0 and no value.

use std::sync::Arc;

use super::{
    control::Control,
    entry::{Entry, Life},
    vary::Selection,
};
use crate::http::head::Fields;

/// Another layout has another number, and is no entry to who knows this one alone.
const LAYOUT: u8 = 1;
/// Ahead of the names that a key's responses vary by.
const INDEX: u8 = 2;

/// What lies under a key.
#[derive(Debug)]
pub enum Record {
    Entry(Box<Entry>),
    /// The entries lie under keys of their own, by what requests say in these fields.
    Index(Vec<Box<[u8]>>),
}

pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.bytes() + 256);
    out.push(LAYOUT);
    out.extend_from_slice(&entry.status.to_be_bytes());
    let Life { answered, initial_age, lifetime, ttl } = entry.life;
    for number in [answered, initial_age, lifetime.unwrap_or(u64::MAX), ttl] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    text(&mut out, &entry.method);
    count(&mut out, entry.selection.parts().count());
    for (name, value) in entry.selection.parts() {
        text(&mut out, name);
        out.push(u8::from(value.is_some()));
        text(&mut out, value.unwrap_or_default());
    }
    count(&mut out, entry.fields.len());
    for field in entry.fields.iter() {
        text(&mut out, field.name);
        text(&mut out, field.value);
    }
    text(&mut out, &entry.body);
    out
}

/// The names of what the entry varies by; `None`: by nothing.
pub fn encode_index(entry: &Entry) -> Option<Vec<u8>> {
    let mut names = entry.selection.parts().map(|(name, _)| name).peekable();
    names.peek()?;
    let mut out = vec![INDEX];
    names.for_each(|name| text(&mut out, name));
    Some(out)
}

/// `None`: it is none, or not whole. `heeds`: as the policy's rules say.
pub fn decode(bytes: &[u8], heeds: bool) -> Option<Record> {
    let mut rest = Reader(bytes);
    match rest.bytes(1)? {
        [INDEX] => {
            let mut names = Vec::new();
            while !rest.0.is_empty() {
                names.push(rest.text()?.into());
            }
            Some(Record::Index(names))
        }
        [LAYOUT] => decode_entry(&mut rest, heeds).filter(|_| rest.0.is_empty()).map(|e| Record::Entry(Box::new(e))),
        _ => None,
    }
}

fn decode_entry(rest: &mut Reader<'_>, heeds: bool) -> Option<Entry> {
    let status = u16::from_be_bytes(rest.bytes(2)?.try_into().ok()?);
    let mut number = || Some(u64::from_be_bytes(rest.bytes(8)?.try_into().ok()?));
    let (answered, initial_age, lifetime, ttl) = (number()?, number()?, number()?, number()?);
    let method = rest.text()?.into();
    let mut parts = Vec::new();
    for _ in 0..rest.count()? {
        let name = Box::<[u8]>::from(rest.text()?);
        let is_there = rest.bytes(1)? == [1];
        let value = rest.text()?;
        parts.push((name, is_there.then(|| Box::<[u8]>::from(value))));
    }
    let mut fields = Fields::default();
    for _ in 0..rest.count()? {
        let (name, value) = (rest.text()?, rest.text()?);
        fields.append(name, value);
    }
    let body = rest.text()?.to_vec();
    let control = if heeds { Control::parse(fields.values(b"cache-control")) } else { Control::default() };
    Some(Entry {
        method,
        status,
        fields: Arc::new(fields),
        body: Arc::new(body),
        selection: Selection::from_parts(parts.into_iter()),
        range: None,
        control,
        life: Life { answered, initial_age, lifetime: (lifetime != u64::MAX).then_some(lifetime), ttl },
    })
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    count(out, text.len());
    out.extend_from_slice(text);
}

/// What is still to be read.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn count(&mut self) -> Option<usize> {
        Some(u32::from_be_bytes(self.bytes(4)?.try_into().ok()?) as usize)
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = self.count()?;
        self.bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{
        entry::{Asked, Rules},
        freshness::{Exchanged, Unsaid},
    };

    fn entry(vary: bool) -> Entry {
        let (mut request, mut response) = (Fields::default(), Fields::default());
        request.append(b"a", b"1, 2");
        response.append(b"Cache-Control", b"max-age=60, must-revalidate");
        response.append(b"x", b"");
        if vary {
            response.append(b"vary", b"a, b");
        }
        let at = Exchanged { asked: 1000, answered: 2000 };
        let asked = Asked { method: b"GET", fields: &request, forwarded: &request, at };
        let rules = Rules { ttl: 5000, heeds: true, unsaid: Unsaid::Ttl };
        let mut entry = Entry::begin(&asked, 404, &response, rules).expect("it may be stored");
        entry.body = Arc::new(b"a\0body".to_vec());
        entry
    }

    fn decoded(bytes: &[u8], heeds: bool) -> Option<Entry> {
        match decode(bytes, heeds)? {
            Record::Entry(entry) => Some(*entry),
            Record::Index(_) => None,
        }
    }

    #[test]
    fn an_entry_is_the_same_afterwards() {
        for vary in [false, true] {
            let entry = entry(vary);
            let again = decoded(&encode(&entry), true).expect("it is whole");
            assert_eq!((again.status, again.life, again.control), (entry.status, entry.life, entry.control));
            assert_eq!((&again.method, &again.fields, &again.body), (&entry.method, &entry.fields, &entry.body));
            assert_eq!(again.selection, entry.selection);
        }
        assert_eq!(decoded(&encode(&entry(false)), false).expect("whole").control, Control::default());
    }

    #[test]
    fn what_is_cut_or_longer_or_of_another_layout_is_none() {
        let whole = encode(&entry(true));
        for length in 0..whole.len() {
            assert!(decoded(&whole[..length], true).is_none(), "{length}");
        }
        assert!(decoded(&[&whole[..], b"x"].concat(), true).is_none());
        assert!(decode(b"\x03", true).is_none());
        assert!(decode(&[1, 0, 200, 255, 255, 255, 255], true).is_none());
    }

    #[test]
    fn what_varies_says_by_what() {
        assert!(encode_index(&entry(false)).is_none());
        let index = encode_index(&entry(true)).expect("it varies");
        let Some(Record::Index(names)) = decode(&index, true) else { panic!("an index") };
        assert_eq!(names, [Box::from(&b"a"[..]), Box::from(&b"b"[..])]);
        assert!(decode(&index[..index.len() - 1], true).is_none());
    }
}
