//! The compiled form: names resolved, selectors folded into what they read, and the text that means the same.
//!
//! Printing takes parentheses wherever a reader could hesitate. What it prints compiles to the same tree; positions, which
//! serve messages, are not compared.

use std::fmt::{self, Display, Formatter, Write};

use super::{data::Datum, function::Function, lexer::is_name};

/// Where in the text something is that may fail. All positions are equal, so that trees compare by their meaning.
#[derive(Clone, Copy, Debug)]
pub(super) struct At(pub(super) usize);

impl At {
    /// For what has no place of its own.
    pub(super) const NOWHERE: Self = Self(usize::MAX);
}

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Constant(Datum),
    /// At least one item is no constant, else the whole is.
    List(Vec<Node>),
    Read(Input),
    Select(Box<Node>, Vec<Step>),
    Call(Function, Vec<Node>, At),
    /// Two or more operands: a chain is one node, so its length costs no depth and one allocation.
    /// With the place of each.
    Join(Vec<(Node, At)>),
    And(Vec<(Node, At)>),
    Or(Vec<(Node, At)>),
    Remove(Box<[Node; 2]>, At),
    Default(Box<[Node; 2]>),
    Equal(Box<[Node; 2]>, bool),
    Order(Order, Box<[Node; 2]>, At),
    Not(Box<Node>, At),
    /// Condition, then, else.
    If(Box<[Node; 3]>, At),
}

/// One selector behind a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// `.name`, `['name']`
    Name(Box<str>),
    /// `[0]`, `[-1]`
    Index(i64, At),
    /// `[expression]`
    Computed(Box<Node>, At),
    /// `.*name`
    All(Box<str>),
    /// `.@name`
    Attribute(Box<str>),
}

/// What is read from the exchange.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Attributes,
    /// `attributes.method` and the like.
    Attribute(Attribute),
    Headers,
    /// Its name in lower case.
    Header(Box<str>),
    QueryParams,
    QueryParam(Box<str>),
    Authentication,
    Identity(Identity),
    Properties,
    Payload,
    Variables,
    Variable(Box<str>),
}

/// An attribute that is a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Method,
    QueryString,
    RequestPath,
    RequestUri,
    LocalAddress,
    RemoteAddress,
    Scheme,
    Version,
    StatusCode,
}

impl Attribute {
    pub(super) const ALL: [(&str, Self); 9] = [
        ("method", Self::Method),
        ("queryString", Self::QueryString),
        ("requestPath", Self::RequestPath),
        ("requestUri", Self::RequestUri),
        ("localAddress", Self::LocalAddress),
        ("remoteAddress", Self::RemoteAddress),
        ("scheme", Self::Scheme),
        ("version", Self::Version),
        ("statusCode", Self::StatusCode),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, attribute)| attribute)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, attribute)| *attribute == self).map_or("", |(name, _)| name)
    }
}

/// A field of `authentication` that is a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    ClientId,
    ClientName,
    Principal,
    SlaId,
    SlaName,
}

impl Identity {
    pub(super) const ALL: [(&str, Self); 5] = [
        ("clientId", Self::ClientId),
        ("clientName", Self::ClientName),
        ("principal", Self::Principal),
        ("slaId", Self::SlaId),
        ("slaName", Self::SlaName),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, identity)| identity)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, identity)| *identity == self).map_or("", |(name, _)| name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(datum) => constant(f, datum),
            Self::List(items) => {
                f.write_char('[')?;
                separated(f, items, |f, item| write!(f, "{item}"), ", ")?;
                f.write_char(']')
            }
            Self::Read(input) => write!(f, "{input}"),
            Self::Select(base, steps) => {
                operand(f, base)?;
                steps.iter().try_for_each(|step| write!(f, "{step}"))
            }
            Self::Call(function, arguments, _) => {
                write!(f, "{}(", function.path())?;
                separated(f, arguments, |f, argument| write!(f, "{argument}"), ", ")?;
                f.write_char(')')
            }
            Self::Join(operands) => separated(f, operands, |f, (node, _)| operand(f, node), " ++ "),
            Self::And(operands) => separated(f, operands, |f, (node, _)| operand(f, node), " and "),
            Self::Or(operands) => separated(f, operands, |f, (node, _)| operand(f, node), " or "),
            Self::Remove(operands, _) => separated(f, &operands[..], operand, " -- "),
            Self::Default(operands) => separated(f, &operands[..], operand, " default "),
            Self::Equal(operands, negated) => {
                separated(f, &operands[..], operand, if *negated { " != " } else { " == " })
            }
            Self::Order(order, operands, _) => {
                operand(f, &operands[0])?;
                write!(f, " {} ", order.symbol())?;
                operand(f, &operands[1])
            }
            Self::Not(inner, _) => {
                f.write_str("not ")?;
                operand(f, inner)
            }
            Self::If(parts, _) => {
                write!(f, "if ({}) ", parts[0])?;
                operand(f, &parts[1])?;
                f.write_str(" else ")?;
                operand(f, &parts[2])
            }
        }
    }
}

/// A part of something larger: in parentheses unless it is one word.
fn operand(f: &mut Formatter<'_>, node: &Node) -> fmt::Result {
    match node {
        Node::Constant(_) | Node::List(_) | Node::Read(_) | Node::Select(..) | Node::Call(..) => write!(f, "{node}"),
        _ => write!(f, "({node})"),
    }
}

fn separated<T>(
    f: &mut Formatter<'_>,
    parts: &[T],
    print: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
    separator: &str,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        print(f, part)?;
    }
    Ok(())
}

fn constant(f: &mut Formatter<'_>, datum: &Datum) -> fmt::Result {
    match datum {
        Datum::Boolean(value) => write!(f, "{value}"),
        Datum::Number(number) => f.write_str(&number.written),
        Datum::String(text) => quoted(f, text),
        Datum::List(items) => {
            f.write_char('[')?;
            separated(f, items, constant, ", ")?;
            f.write_char(']')
        }
        // Objects and elements have no literals: no tree has them.
        Datum::Null | Datum::Object(_) | Datum::Element(_) => f.write_str("null"),
    }
}

/// A string literal.
pub(super) fn quoted(f: &mut impl Write, text: &str) -> fmt::Result {
    f.write_char('\'')?;
    for character in text.chars() {
        match character {
            '\'' | '\\' | '$' => write!(f, "\\{character}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_control() => write!(f, "\\u{:04x}", u32::from(control))?,
            _ => f.write_char(character)?,
        }
    }
    f.write_char('\'')
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => bracketed(f, name),
            Self::Index(index, _) => write!(f, "[{index}]"),
            Self::Computed(node, _) => write!(f, "[{node}]"),
            Self::All(name) => dotted(f, ".*", name),
            Self::Attribute(name) => dotted(f, ".@", name),
        }
    }
}

/// `.name`, or `['any other']`.
fn bracketed(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_name(name) {
        return write!(f, ".{name}");
    }
    f.write_char('[')?;
    quoted(f, name)?;
    f.write_char(']')
}

fn dotted(f: &mut Formatter<'_>, selector: &str, name: &str) -> fmt::Result {
    f.write_str(selector)?;
    if is_name(name) { f.write_str(name) } else { quoted(f, name) }
}

impl Display for Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (root, name) = match self {
            Self::Attributes => ("attributes", None),
            Self::Attribute(attribute) => return write!(f, "attributes.{}", attribute.name()),
            Self::Headers => ("attributes.headers", None),
            Self::Header(name) => ("attributes.headers", Some(name)),
            Self::QueryParams => ("attributes.queryParams", None),
            Self::QueryParam(name) => ("attributes.queryParams", Some(name)),
            Self::Authentication => ("authentication", None),
            Self::Identity(identity) => return write!(f, "authentication.{}", identity.name()),
            Self::Properties => ("authentication.properties", None),
            Self::Payload => ("payload", None),
            Self::Variables => ("vars", None),
            Self::Variable(name) => ("vars", Some(name)),
        };
        f.write_str(root)?;
        name.map_or(Ok(()), |name| bracketed(f, name))
    }
}
