//! An entry as bytes, for a storage that replicas share.
//!
//! ```text
//! 1 | status u16 | answered u64 | initial age u64 | lifetime u64, MAX: none | ttl u64
//!   | method | selection: count; name, 1 or 0, value | fields: count; name, value | body
//! ```
//! Numbers are big-endian; counts and the lengths that stand ahead of texts have 32 bits. A field that a request did not have has
//! 0 and no value.
//!
//! The storage is not trusted: what does not hold of every entry that is put there makes the value none.

use std::sync::Arc;

use super::{
    BODY_BYTES_MAX, Millis,
    control::Control,
    entry::{Entry, Life, Rules, is_kept},
    vary::{NAMES_MAX, Selection, are_names},
};
use crate::http::{
    bytes::{is_field_value, is_token},
    head::Fields,
};

/// Another layout has another number, and is no entry to who knows this one alone.
const LAYOUT: u8 = 1;
/// Ahead of the names that a key's responses vary by.
const INDEX: u8 = 2;

/// So far the clocks of replicas may be apart.
const AHEAD_MAX: Millis = 10_000;
/// No time is longer, in milliseconds: sums of them fit.
const TIME_MAX: Millis = 1 << 50;
/// Of method, selection and fields, names and values.
const TEXT_BYTES_MAX: usize = 256 << 10;

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

/// `None`: it is none, not whole, or none that a replica with these rules has put there.
pub fn decode(bytes: &[u8], rules: Rules, now: Millis) -> Option<Record> {
    let mut rest = Reader(bytes);
    match rest.bytes(1)? {
        [INDEX] => {
            let mut names: Vec<Box<[u8]>> = Vec::new();
            while !rest.0.is_empty() {
                names.push(rest.text()?.into());
            }
            are_names(names.iter().map(|name| &**name)).then_some(Record::Index(names))
        }
        [LAYOUT] => {
            decode_entry(&mut rest, rules, now).filter(|_| rest.0.is_empty()).map(|e| Record::Entry(Box::new(e)))
        }
        _ => None,
    }
}

fn decode_entry(rest: &mut Reader<'_>, rules: Rules, now: Millis) -> Option<Entry> {
    let status = u16::from_be_bytes(rest.bytes(2)?.try_into().ok()?);
    let life = decode_life(rest).filter(|life| is_possible(life, rules, now))?;
    let begin = rest.0.len();
    let method = Box::<[u8]>::from(rest.text()?);
    let mut parts = Vec::new();
    let names = rest.count().filter(|count| *count <= NAMES_MAX)?;
    for _ in 0..names {
        let name = Box::<[u8]>::from(rest.text()?);
        let is_there = rest.bytes(1)? == [1];
        let value = rest.text()?;
        parts.push((name, is_there.then(|| Box::<[u8]>::from(value))));
    }
    let mut fields = Fields::default();
    for _ in 0..rest.count()? {
        let (name, value) = (rest.text()?, rest.text()?);
        if !is_token(name) || !is_field_value(value) || begin - rest.0.len() > TEXT_BYTES_MAX {
            return None;
        }
        fields.append(name, value);
    }
    let is_bounded = begin - rest.0.len() <= TEXT_BYTES_MAX;
    let body = rest.text()?;
    let has_body = !matches!(status, 204 | 205);
    let is_possible = is_bounded
        && matches!(status, 200..=599)
        // Parts are not shared, and a 304 is of something else.
        && !matches!(status, 206 | 304)
        && is_token(&method)
        && fields.iter().all(|field| is_kept(&field))
        && body.len() <= BODY_BYTES_MAX
        && (has_body || body.is_empty());
    let control = if rules.heeds { Control::parse(fields.values(b"cache-control")) } else { Control::default() };
    if !is_possible || control.keeps_out() {
        return None;
    }
    Some(Entry {
        method,
        status,
        fields: Arc::new(fields),
        body: Arc::new(body.to_vec()),
        selection: Selection::from_parts(parts.into_iter())?,
        range: None,
        control,
        life,
    })
}

fn decode_life(rest: &mut Reader<'_>) -> Option<Life> {
    let mut number = || Some(u64::from_be_bytes(rest.bytes(8)?.try_into().ok()?));
    let (answered, initial_age, lifetime, ttl) = (number()?, number()?, number()?, number()?);
    Some(Life { answered, initial_age, lifetime: (lifetime != u64::MAX).then_some(lifetime), ttl })
}

fn is_possible(life: &Life, rules: Rules, now: Millis) -> bool {
    life.answered <= now.saturating_add(AHEAD_MAX)
        && life.initial_age <= TIME_MAX
        && life.lifetime.is_none_or(|lifetime| lifetime <= TIME_MAX)
        && life.ttl <= rules.ttl
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
        entry::Asked,
        freshness::{Exchanged, Unsaid},
    };

    const RULES: Rules = Rules { ttl: 5000, heeds: true, unsaid: Unsaid::Ttl };
    const NOW: Millis = 3000;

    fn entry(vary: bool) -> Entry {
        let (mut request, mut response) = (Fields::default(), Fields::default());
        request.append(b"a", b"1, 2");
        response.append(b"Cache-Control", b"max-age=60, must-revalidate");
        response.append(b"x", b"");
        if vary {
            response.append(b"vary", b"a, b");
        }
        let at = Exchanged { asked: 1000, answered: 2000 };
        let asked = Asked { method: b"GET", fields: &request, forwarded: &request, authority: b"", at };
        let mut entry = Entry::begin(&asked, 404, &response, RULES).expect("it may be stored");
        entry.body = Arc::new(b"a\0body".to_vec());
        entry
    }

    fn decoded(bytes: &[u8], heeds: bool) -> Option<Entry> {
        match decode(bytes, Rules { heeds, ..RULES }, NOW)? {
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
        assert!(decode(b"\x03", RULES, NOW).is_none());
        assert!(decode(&[1, 0, 200, 255, 255, 255, 255], RULES, NOW).is_none());
    }

    #[test]
    fn what_varies_says_by_what() {
        assert!(encode_index(&entry(false)).is_none());
        let index = encode_index(&entry(true)).expect("it varies");
        let Some(Record::Index(names)) = decode(&index, RULES, NOW) else { panic!("an index") };
        assert_eq!(names, [Box::from(&b"a"[..]), Box::from(&b"b"[..])]);
        assert!(decode(&index[..index.len() - 1], RULES, NOW).is_none());
    }

    #[test]
    fn what_no_replica_would_have_put_there_is_none() {
        let bears = |change: &dyn Fn(&mut Entry)| {
            let mut entry = entry(true);
            change(&mut entry);
            decoded(&encode(&entry), true).is_some()
        };
        let with = |name: &str, value: &str| {
            let mut fields = Fields::default();
            fields.append(name.as_bytes(), value.as_bytes());
            bears(&|entry| entry.fields = Arc::new(fields.clone()))
        };
        for status in [0, 100, 101, 199, 206, 304, 600, 65535] {
            assert!(!bears(&|entry| entry.status = status), "{status}");
        }
        assert!(bears(&|entry| entry.status = 200) && !bears(&|entry| entry.status = 204));
        assert!(with("x", "a b"));
        for (name, value) in [
            ("", "a"),
            ("a b", "a"),
            (":status", "200"),
            ("x", "a\r\nb: c"),
            ("x", " a"),
            ("content-length", "3"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "x"),
            ("age", "1"),
            ("cache-control", "private"),
        ] {
            assert!(!with(name, value), "{name}: {value}");
        }
        assert!(!with("x", &"a".repeat(TEXT_BYTES_MAX)));
        assert!(!bears(&|entry| entry.method = b"A B"[..].into()));
        assert!(bears(&|entry| entry.body = Arc::new(vec![0; BODY_BYTES_MAX])));
        assert!(!bears(&|entry| entry.body = Arc::new(vec![0; BODY_BYTES_MAX + 1])));
        assert!(bears(&|entry| entry.life.answered = NOW + AHEAD_MAX));
        assert!(!bears(&|entry| entry.life.answered = NOW + AHEAD_MAX + 1));
        assert!(!bears(&|entry| entry.life.ttl = RULES.ttl + 1));
        assert!(!bears(&|entry| entry.life.initial_age = TIME_MAX + 1));
        assert!(!bears(&|entry| entry.life.lifetime = Some(TIME_MAX + 1)));
        for name in ["*", "A", "a b", ""] {
            let index = [&[INDEX, 0, 0, 0, name.len() as u8], name.as_bytes()].concat();
            assert!(decode(&index, RULES, NOW).is_none(), "{name}");
        }
    }

    #[test]
    fn no_bytes_are_more_than_none() {
        let whole = encode(&entry(true));
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            if let Some(entry) = decoded(&bytes, true) {
                for now in [0, NOW, Millis::MAX] {
                    entry.use_for(&Control::default(), now);
                    entry.stands_in(&Control { stale_if_error: Some(u64::MAX), ..Control::default() }, now);
                }
                encode(&entry);
            }
        }
    }
}
