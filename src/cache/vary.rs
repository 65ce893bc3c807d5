//! Which requests a stored response answers (RFC 9111 section 4.1): those that say the same in the fields that `Vary` names.

use std::iter;

use super::control::end_of_member;
use crate::http::{
    bytes::{is_token, list, trim},
    head::Fields,
};

/// A response that varies by more is not stored.
pub(super) const NAMES_MAX: usize = 16;
/// It is the request's authority, whatever field says it, or none in HTTP/2.
const HOST: &[u8] = b"host";

/// A request, as far as its response may vary by it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    pub fields: &'r Fields,
    pub authority: &'r [u8],
}

/// What one request said in the fields that its response varies by; empty for a response that answers all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection(Box<[Said]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// In lower case.
    name: Box<[u8]>,
    /// The members of all its lines, as [`said`] spells them; `None`: it has none.
    value: Option<Box<[u8]>>,
}

impl Selection {
    /// `None`: no other request can be answered with this response, or by more than anybody would compare.
    pub fn of(response: &Fields, request: Request<'_>) -> Option<Self> {
        let mut parts: Vec<Said> = Vec::new();
        for name in response.values(b"vary").flat_map(list) {
            let name: Box<[u8]> = name.to_ascii_lowercase().into();
            if !is_name(&name) || parts.len() == NAMES_MAX {
                return None;
            }
            if !parts.iter().any(|known| known.name == name) {
                parts.push(Said { value: said(request, &name), name });
            }
        }
        Some(Self(parts.into()))
    }

    /// `None`: they are none that it has.
    pub fn from_parts(parts: impl Iterator<Item = (Box<[u8]>, Option<Box<[u8]>>)>) -> Option<Self> {
        let parts: Box<[Said]> = parts.map(|(name, value)| Said { name, value }).collect();
        are_names(parts.iter().map(|said| &*said.name)).then_some(Self(parts))
    }

    pub fn parts(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.0.iter().map(|said| (&*said.name, said.value.as_deref()))
    }

    /// Whether a request says the same. How lists are spaced, and over how many lines they go, is no difference.
    pub fn matches(&self, request: Request<'_>) -> bool {
        self.0.iter().all(|said| match &said.value {
            Some(host) if *said.name == *HOST => host.eq_ignore_ascii_case(request.authority),
            None => request.fields.get(&said.name).is_none(),
            Some(value) => {
                let request = request.fields;
                let mut rest = Some(&**value);
                let mut members = members(request, &said.name).peekable();
                let is_there = members.peek().is_some();
                for (index, member) in members.enumerate() {
                    let separator: &[u8] = if index == 0 { b"" } else { b"," };
                    rest = rest.and_then(|rest| rest.strip_prefix(separator)?.strip_prefix(member));
                }
                is_there && rest == Some(b"")
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

/// Whether what is stored may vary by them.
pub fn are_names<'n>(names: impl Iterator<Item = &'n [u8]> + Clone) -> bool {
    names.clone().count() <= NAMES_MAX && names.clone().all(is_name)
}

/// In lower case. `*` is a token too.
fn is_name(name: &[u8]) -> bool {
    name != b"*" && is_token(name) && !name.iter().any(u8::is_ascii_uppercase)
}

/// What a request says in a field, its lists in one spelling; `None`: it has none.
pub fn said(request: Request<'_>, name: &[u8]) -> Option<Box<[u8]>> {
    if name == HOST {
        return Some(request.authority.to_ascii_lowercase().into());
    }
    let mut members = members(request.fields, name).peekable();
    members.peek()?;
    Some(members.collect::<Vec<_>>().join(&b',').into())
}

/// The members of all lines of a field, those that are empty among them. A comma in a quoted string parts nothing, and none does
/// in fields that are no lists.
fn members<'f, 'n>(request: &'f Fields, name: &'n [u8]) -> impl Iterator<Item = &'f [u8]> + use<'f, 'n> {
    const NO_LISTS: [&[u8]; 4] = [b"cookie", b"user-agent", b"authorization", b"referer"];
    let is_list = !NO_LISTS.iter().any(|known| name.eq_ignore_ascii_case(known));
    request.values(name).flat_map(move |line| {
        let mut rest = Some(line);
        iter::from_fn(move || {
            let line = rest?;
            let end = if is_list { end_of_member(line) } else { line.len() };
            rest = line.get(end + 1..);
            Some(trim(&line[..end]))
        })
    })
}

#[cfg(test)]
impl<'r> From<&'r Fields> for Request<'r> {
    fn from(fields: &'r Fields) -> Self {
        Self { fields, authority: b"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::fields;

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
            ("Foo", &[("foo", "")], &[("foo", " ")], true),
            ("Foo", &[("foo", "")], &[("foo", "")], true),
            ("Foo", &[("foo", "1,,2")], &[("foo", "1, , 2")], true),
            ("Foo", &[("foo", "1,,2")], &[("foo", "1,2")], false),
            ("Foo", &[("foo", "1,")], &[("foo", "1")], false),
            ("Foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")], false),
            ("Foo", &[("foo", "\"a, b\" , c")], &[("foo", "\"a, b\""), ("foo", "c")], true),
            ("Foo", &[("foo", "\"a, b")], &[("foo", "\"a,b")], false),
            ("Foo", &[("foo", "1")], &[("foo", "12")], false),
            ("Foo", &[("foo", "12")], &[("foo", "1")], false),
            ("Cookie", &[("cookie", "a=1, 2")], &[("cookie", "a=1,2")], false),
            ("User-Agent", &[("user-agent", "a (b, c)")], &[("user-agent", "a (b,c)")], false),
            ("User-Agent", &[("user-agent", "a (b, c)")], &[("user-agent", "a (b, c)")], true),
        ] {
            let vary = fields(&[("vary", vary)]);
            let selection = Selection::of(&vary, (&fields(first)).into()).expect("it may be stored");
            assert_eq!(selection.matches((&fields(second)).into()), expected, "{vary:?}: {first:?} {second:?}");
        }
    }

    #[test]
    fn the_host_is_the_authority_and_no_field() {
        let (none, other) = (Fields::default(), fields(&[("host", "b.test")]));
        let of = |fields, authority| Request { fields, authority };
        let vary = fields(&[("vary", "accept, Host")]);
        let selection = Selection::of(&vary, of(&none, b"A.test:80")).expect("it may be stored");
        assert!(selection.matches(of(&none, b"a.test:80")) && selection.matches(of(&other, b"a.TEST:80")));
        assert!(!selection.matches(of(&none, b"a.test")) && !selection.matches(of(&other, b"b.test")));
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
            assert_eq!(Selection::of(&fields(lines), (&Fields::default()).into()), None, "{lines:?}");
        }
    }
}
