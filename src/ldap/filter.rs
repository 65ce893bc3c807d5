//! Search filters as text (RFC 4515), with `{0}` where the user's name is to stand.
//!
//! The name is never part of the text: it goes into the message as a value, so that no character of it can mean anything else.

use super::ber::{OCTETS, SEQUENCE, write, write_octets};

/// What nests deeper is nobody's filter.
const DEPTH_MAX: usize = 32;
const USER: &str = "{0}";

const AND: u8 = 0xa0;
const OR: u8 = 0xa1;
const NOT: u8 = 0xa2;
const EQUAL: u8 = 0xa3;
const SUBSTRINGS: u8 = 0xa4;
const GREATER_OR_EQUAL: u8 = 0xa5;
const LESS_OR_EQUAL: u8 = 0xa6;
const PRESENT: u8 = 0x87;
const APPROXIMATE: u8 = 0xa8;
const EXTENSIBLE: u8 = 0xa9;

/// Finds the entry of a user.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter(Node);

#[derive(Debug, PartialEq, Eq)]
enum Node {
    /// AND, OR or NOT.
    Of(u8, Vec<Node>),
    Compare {
        tag: u8,
        attribute: String,
        value: Value,
    },
    /// The parts between asterisks; the first and the last are empty where an asterisk stands there.
    Substrings {
        attribute: String,
        parts: Vec<Value>,
    },
    Present(String),
    Extensible {
        rule: Option<String>,
        attribute: Option<String>,
        of_name: bool,
        value: Value,
    },
}

/// What an attribute is compared with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Value(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Octets(Vec<u8>),
    User,
}

impl Filter {
    /// # Errors
    /// Not a filter, or one in which the user has no part: it would find the same entry for everybody.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.trim();
        let node = filter(&mut rest, 0)?;
        if !rest.is_empty() {
            return Err("something stands behind the filter's end".to_owned());
        }
        match node.names_user() {
            true => Ok(Self(node)),
            false => Err(format!("the user's name has no place in it: `{USER}`, as a value")),
        }
    }

    /// As it stands in a message, with this name in it.
    pub fn encode(&self, user: &[u8], out: &mut Vec<u8>) {
        self.0.encode(user, out);
    }
}

fn filter(rest: &mut &str, depth: usize) -> Result<Node, String> {
    if depth == DEPTH_MAX {
        return Err(format!("nested more than {DEPTH_MAX} deep"));
    }
    take(rest, '(')?;
    let node = match rest.chars().next() {
        Some(sign @ ('&' | '|')) => {
            *rest = rest[1..].trim_start();
            let mut all = Vec::new();
            while rest.starts_with('(') {
                all.push(filter(rest, depth + 1)?);
                *rest = rest.trim_start();
            }
            if all.is_empty() {
                return Err(format!("`{sign}` without a filter in it"));
            }
            Node::Of(if sign == '&' { AND } else { OR }, all)
        }
        Some('!') => {
            *rest = rest[1..].trim_start();
            let one = filter(rest, depth + 1)?;
            *rest = rest.trim_start();
            Node::Of(NOT, vec![one])
        }
        _ => {
            let end = rest.find([')', '(']).filter(|at| rest[*at..].starts_with(')'));
            let end = end.ok_or("`(` without `)`")?;
            let (item, behind) = rest.split_at(end);
            *rest = behind;
            comparison(item)?
        }
    };
    take(rest, ')')?;
    Ok(node)
}

fn take(rest: &mut &str, sign: char) -> Result<(), String> {
    *rest = rest.strip_prefix(sign).ok_or_else(|| format!("`{sign}` is missing"))?;
    Ok(())
}

/// What stands between parentheses: `uid={0}`.
fn comparison(item: &str) -> Result<Node, String> {
    let (left, right) = item.split_once('=').ok_or_else(|| format!("`{item}` compares nothing"))?;
    let compare = |tag, attribute: &str, right: &str| {
        let (attribute, value) = (described(attribute)?, Value::parse(right)?);
        Ok(Node::Compare { tag, attribute, value })
    };
    if let Some(attribute) = left.strip_suffix('>') {
        return compare(GREATER_OR_EQUAL, attribute, right);
    }
    if let Some(attribute) = left.strip_suffix('<') {
        return compare(LESS_OR_EQUAL, attribute, right);
    }
    if let Some(attribute) = left.strip_suffix('~') {
        return compare(APPROXIMATE, attribute, right);
    }
    if let Some(matching) = left.strip_suffix(':') {
        return extensible(matching, right);
    }
    if right == "*" {
        return Ok(Node::Present(described(left)?));
    }
    if !right.contains('*') {
        return compare(EQUAL, left, right);
    }
    let parts: Vec<Value> = right.split('*').map(Value::parse).collect::<Result<_, _>>()?;
    if parts.len() > 2 && parts[1..parts.len() - 1].iter().any(|part| part.0.is_empty()) {
        return Err("two asterisks with nothing between them".to_owned());
    }
    Ok(Node::Substrings { attribute: described(left)?, parts })
}

/// `attribute:dn:rule`, all of them optional, but not all at once.
fn extensible(matching: &str, right: &str) -> Result<Node, String> {
    let mut parts = matching.split(':');
    let attribute = parts.next().filter(|attribute| !attribute.is_empty()).map(described).transpose()?;
    let mut parts = parts.peekable();
    let of_name = parts.next_if(|part| part.eq_ignore_ascii_case("dn")).is_some();
    let rule = parts.next().map(described).transpose()?;
    if parts.next().is_some() || (attribute.is_none() && rule.is_none()) {
        return Err(format!("`{matching}:=` names no matching rule"));
    }
    Ok(Node::Extensible { rule, attribute, of_name, value: Value::parse(right)? })
}

/// An attribute's name or number with its options (RFC 4512, section 2.5).
fn described(text: &str) -> Result<String, String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ';' | '_');
    match !text.is_empty() && text.chars().all(is_legal) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is no name of an attribute")),
    }
}

impl Value {
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        for (at, literal) in text.split(USER).enumerate() {
            if at > 0 {
                pieces.push(Piece::User);
            }
            let octets = unescaped(literal)?;
            if !octets.is_empty() {
                pieces.push(Piece::Octets(octets));
            }
        }
        Ok(Self(pieces))
    }

    fn octets(&self, user: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        for piece in &self.0 {
            octets.extend_from_slice(match piece {
                Piece::Octets(octets) => octets,
                Piece::User => user,
            });
        }
        octets
    }

    fn names_user(&self) -> bool {
        self.0.contains(&Piece::User)
    }
}

/// `\2a` and the like as what they stand for.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || "`\\` without two hexadecimal digits".to_owned();
    let mut octets = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        octets.push(match byte {
            b'\\' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(wrong);
                (digit()? * 16 + digit()?) as u8
            }
            b'*' => return Err("an asterisk in what is compared: `\\2a` stands for one".to_owned()),
            0 => return Err("a NUL: `\\00` stands for one".to_owned()),
            _ => byte,
        });
    }
    Ok(octets)
}

impl Node {
    fn names_user(&self) -> bool {
        match self {
            Self::Of(_, all) => all.iter().any(Self::names_user),
            Self::Compare { value, .. } | Self::Extensible { value, .. } => value.names_user(),
            Self::Substrings { parts, .. } => parts.iter().any(Value::names_user),
            Self::Present(_) => false,
        }
    }

    fn encode(&self, user: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Of(tag, all) => write(out, *tag, |out| all.iter().for_each(|one| one.encode(user, out))),
            Self::Compare { tag, attribute, value } => write(out, *tag, |out| {
                write_octets(out, OCTETS, attribute.as_bytes());
                write_octets(out, OCTETS, &value.octets(user));
            }),
            Self::Substrings { attribute, parts } => write(out, SUBSTRINGS, |out| {
                write_octets(out, OCTETS, attribute.as_bytes());
                write(out, SEQUENCE, |out| {
                    let last = parts.len() - 1;
                    for (at, part) in parts.iter().enumerate().filter(|(_, part)| !part.0.is_empty()) {
                        // initial, final, any
                        let tag = if at == 0 {
                            0x80
                        } else if at == last {
                            0x82
                        } else {
                            0x81
                        };
                        write_octets(out, tag, &part.octets(user));
                    }
                });
            }),
            Self::Present(attribute) => write_octets(out, PRESENT, attribute.as_bytes()),
            Self::Extensible { rule, attribute, of_name, value } => write(out, EXTENSIBLE, |out| {
                if let Some(rule) = rule {
                    write_octets(out, 0x81, rule.as_bytes());
                }
                if let Some(attribute) = attribute {
                    write_octets(out, 0x82, attribute.as_bytes());
                }
                write_octets(out, 0x83, &value.octets(user));
                if *of_name {
                    write_octets(out, 0x84, &[0xff]);
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str, user: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Filter::parse(text).expect(text).encode(user, &mut out);
        out
    }

    #[test]
    fn filters_are_as_the_rfc_has_them() {
        for (text, expected) in [
            ("(uid={0})", &b"\xa3\x0a\x04\x03uid\x04\x03a*b"[..]),
            (" (uid=x{0}\\2a) ", b"\xa3\x0c\x04\x03uid\x04\x05xa*b*"),
            ("(&(o=1)(uid={0}))", b"\xa0\x14\xa3\x06\x04\x01o\x04\x011\xa3\x0a\x04\x03uid\x04\x03a*b"),
            ("(| (uid={0}) (o=*) )", b"\xa1\x0f\xa3\x0a\x04\x03uid\x04\x03a*b\x87\x01o"),
            ("(!(o={0}))", b"\xa2\x0a\xa3\x08\x04\x01o\x04\x03a*b"),
            ("(o=x*{0}*)", b"\xa4\x0d\x04\x01o\x30\x08\x80\x01x\x81\x03a*b"),
            ("(o=*{0})", b"\xa4\x0a\x04\x01o\x30\x05\x82\x03a*b"),
            ("(o>={0})", b"\xa5\x08\x04\x01o\x04\x03a*b"),
            ("(o<={0})", b"\xa6\x08\x04\x01o\x04\x03a*b"),
            ("(o~={0})", b"\xa8\x08\x04\x01o\x04\x03a*b"),
            ("(o:dn:1.2:={0})", b"\xa9\x10\x81\x031.2\x82\x01o\x83\x03a*b\x84\x01\xff"),
            ("(:x:={0})", b"\xa9\x08\x81\x01x\x83\x03a*b"),
            (
                "(memberOf:1.2.840.113556.1.4.1941:={0})",
                b"\xa9\x28\x81\x171.2.840.113556.1.4.1941\x82\x08memberOf\x83\x03a*b",
            ),
            ("(cn;lang-de={0}é)", b"\xa3\x13\x04\x0acn;lang-de\x04\x05a*b\xc3\xa9"),
        ] {
            assert_eq!(encoded(text, b"a*b"), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for (text, why) in [
            ("uid={0}", "`(` is missing"),
            ("", "`(` is missing"),
            ("(uid={0}", "`(` without `)`"),
            ("(uid=(x){0})", "`(` without `)`"),
            ("(uid={0}))", "something stands behind the filter's end"),
            ("(uid={0})(o=1)", "something stands behind the filter's end"),
            ("({0}=uid)", "`{0}` is no name of an attribute"),
            ("(={0})", "`` is no name of an attribute"),
            ("(uid)", "`uid` compares nothing"),
            ("(uid=admin)", "the user's name has no place in it: `{0}`, as a value"),
            ("(uid=*)", "the user's name has no place in it: `{0}`, as a value"),
            ("(uid=\\2{0})", "`\\` without two hexadecimal digits"),
            ("(uid={0}**x)", "two asterisks with nothing between them"),
            ("(uid>={0}*)", "an asterisk in what is compared: `\\2a` stands for one"),
            ("(&)", "`&` without a filter in it"),
            ("(!)", "`(` is missing"),
            ("(a b={0})", "`a b` is no name of an attribute"),
            ("(:={0})", "`:=` names no matching rule"),
        ] {
            assert_eq!(Filter::parse(text).expect_err(text), why, "{text}");
        }
        let nested = |depth: usize| format!("{}(a={{0}}){}", "(!".repeat(depth), ")".repeat(depth));
        assert!(Filter::parse(&nested(DEPTH_MAX - 1)).is_ok());
        assert_eq!(Filter::parse(&nested(100_000)).expect_err("too deep"), "nested more than 32 deep");
    }

    proptest! {
        /// As if every byte of the name had been escaped.
        #[test]
        fn no_name_is_more_than_a_value(user in proptest::collection::vec(any::<u8>(), 1..40)) {
            let escaped: String = user.iter().map(|byte| format!("\\{byte:02x}")).collect();
            let text = "(&(o={0})(|(uid={0})(cn=a*{0}*)))";
            let written = format!("(&{}(o={{0}}))", text.replace("{0}", &escaped));
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            Node::Of(AND, vec![Filter::parse(text).expect("a filter").0, Filter::parse("(o={0})").expect("a filter").0]).encode(&user, &mut ours);
            Filter::parse(&written).expect("a filter").encode(&user, &mut theirs);
            prop_assert_eq!(ours, theirs);
        }
    }
}
