//! Which requests a stored response answers (RFC 9111 section 4.1): those that say the same in the fields that `Vary` names.

use crate::http::{
    bytes::{is_token, list},
    head::Fields,
};

/// A response that varies by more is not stored.
const NAMES_MAX: usize = 16;

/// What one request said in the fields that its response varies by; empty for a response that answers all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection(Box<[Said]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// In lower case.
    name: Box<[u8]>,
    /// The members of all its lines, with a comma between them; `None`: it has none.
    value: Option<Box<[u8]>>,
}

impl Selection {
    /// `None`: no other request can be answered with this response, or by more than anybody would compare.
    pub fn of(response: &Fields, request: &Fields) -> Option<Self> {
        let mut parts: Vec<Said> = Vec::new();
        for name in response.values(b"vary").flat_map(list) {
            // `*` is a token too.
            if name == b"*" || !is_token(name) || parts.len() == NAMES_MAX {
                return None;
            }
            let name: Box<[u8]> = name.to_ascii_lowercase().into();
            if !parts.iter().any(|known| known.name == name) {
                parts.push(Said { value: said(request, &name), name });
            }
        }
        Some(Self(parts.into()))
    }

    pub fn from_parts(parts: impl Iterator<Item = (Box<[u8]>, Option<Box<[u8]>>)>) -> Self {
        Self(parts.map(|(name, value)| Said { name, value }).collect())
    }

    pub fn parts(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.0.iter().map(|said| (&*said.name, said.value.as_deref()))
    }

    /// Whether a request says the same. How lists are spaced, and over how many lines they go, is no difference.
    pub fn matches(&self, request: &Fields) -> bool {
        self.0.iter().all(|said| {
            let mut sent = request.values(&said.name).peekable();
            match &said.value {
                None => sent.peek().is_none(),
                Some(value) => sent.peek().is_some() && sent.flat_map(list).eq(list(value)),
            }
        })
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|said| said.name.len() + said.value.as_ref().map_or(0, |value| value.len()) + size_of::<Said>())
            .sum()
    }
}

/// What a request says in a field, its lists in one spelling; `None`: it has none.
pub fn said(request: &Fields, name: &[u8]) -> Option<Box<[u8]>> {
    let mut values = request.values(name).peekable();
    values.peek()?;
    Some(values.flat_map(list).collect::<Vec<_>>().join(&b',').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
        fields
    }

    #[test]
    fn requests_match_that_say_the_same() {
        for (vary, first, second, expected) in [
            ("", &[("foo", "1")][..], &[("foo", "2")][..], true),
            ("Foo", &[("foo", "1")], &[("FOO", "1"), ("other", "2")], true),
            ("Foo", &[("foo", "1")], &[("foo", "2")], false),
            ("Foo", &[("foo", "1")], &[], false),
            ("Foo", &[], &[("foo", "1")], false),
            ("Foo", &[], &[], true),
            ("Foo", &[("foo", "")], &[], false),
            ("Foo, Bar", &[("foo", "1"), ("bar", "abc")], &[("foo", "1"), ("bar", "abc4")], false),
            ("Foo, Bar", &[("foo", "1"), ("bar", "abc")], &[("bar", "abc"), ("foo", "1")], true),
            ("Foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
            ("Foo", &[("foo", "1,2")], &[("foo", " 1 ,  2 ")], true),
            ("Foo", &[("foo", "1 2")], &[("foo", "12")], false),
            ("Foo", &[("foo", "A")], &[("foo", "a")], false),
        ] {
            let selection = Selection::of(&fields(&[("vary", vary)]), &fields(first)).expect("it may be stored");
            assert_eq!(selection.matches(&fields(second)), expected, "{vary}: {first:?} {second:?}");
        }
    }

    #[test]
    fn what_varies_by_everything_is_not_stored() {
        for lines in [
            &[("vary", "*")][..],
            &[("vary", ", *")],
            &[("vary", "*, Foo")],
            &[("vary", "Foo, *")],
            &[("vary", ""), ("Vary", "*")],
            &[("vary", "a b")],
            &[("vary", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q")],
        ] {
            assert_eq!(Selection::of(&fields(lines), &Fields::default()), None, "{lines:?}");
        }
    }
}
