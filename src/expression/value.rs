//! What evaluations work with and give back. It borrows from the expression and the exchange; only new strings are made.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    fmt::{self, Debug, Formatter},
    str,
};

use super::{
    EvaluationError, Fault,
    budget::Budget,
    context::Context,
    data::{self, Datum, Element},
    payload::Payload,
    query,
    tree::{At, Attribute, Identity},
};

/// What an item of a list or an entry of an object costs to keep.
pub(super) const ITEM_BYTES: usize = 64;
/// What a look at one costs, as if it were so many bytes of a string.
const LOOK_BYTES: usize = 8;

/// One value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Boolean(bool),
    /// With its digits, where somebody wrote them.
    Number(f64, Option<&'a str>),
    String(Cow<'a, str>),
    Binary(Vec<u8>),
    List(List<'a>),
    Object(Members<'a>),
    /// Part of an XML document: text, or like an object.
    Element(&'a Element),
    /// A whole body that is a list, an object or a document.
    Payload(&'a Payload),
}

impl<'a> From<&'a Datum> for Value<'a> {
    fn from(datum: &'a Datum) -> Self {
        match datum {
            Datum::Null => Self::Null,
            Datum::Boolean(value) => Self::Boolean(*value),
            Datum::Number(number) => Self::Number(number.value, Some(&number.written)),
            Datum::String(text) => Self::String(Cow::Borrowed(text)),
            Datum::List(items) => Self::List(List::Data(items)),
            Datum::Object(object) => Self::Object(Members::Data(object)),
            Datum::Element(element) => Self::Element(element),
        }
    }
}

impl<'a> From<Option<Cow<'a, str>>> for Value<'a> {
    fn from(text: Option<Cow<'a, str>>) -> Self {
        text.map_or(Self::Null, Self::String)
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map(Cow::Borrowed).into()
    }
}

impl<'a> Value<'a> {
    /// A header value, a key of a rate limit: strings, and numbers and booleans as they are written.
    pub fn into_text(self) -> Result<Cow<'a, str>, EvaluationError> {
        let kind = self.kind();
        self.scalar_text().ok_or(EvaluationError::of_result(Fault::Result("text", kind)))
    }

    /// A condition: booleans, and the strings `true` and `false`.
    pub fn into_boolean(self) -> Result<bool, EvaluationError> {
        self.truth().ok_or_else(|| EvaluationError::of_result(Fault::Result("a condition", self.kind())))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// For messages; says nothing of what the value is.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Number(..) => "a number",
            Self::String(_) => "a string",
            Self::Binary(_) => "binary data",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
            Self::Element(_) => "an XML element",
            Self::Payload(_) => "a structured payload",
        }
    }

    /// Elements and payloads as what they amount to.
    pub(super) fn settle(self) -> Self {
        match self {
            Self::Element(element) if element.is_text() => Self::String(Cow::Borrowed(&element.text)),
            Self::Element(element) => Self::Object(Members::Element(element)),
            Self::Payload(payload) => payload.parsed().settle(),
            other => other,
        }
    }

    /// What `and`, `or`, `not` and `if` take.
    pub(super) fn truth(&self) -> Option<bool> {
        let text: &str = match self {
            Self::Boolean(value) => return Some(*value),
            Self::String(text) => text,
            Self::Element(element) if element.is_text() => &element.text,
            _ => return None,
        };
        match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// As `++` writes it; none where that is not one piece of text.
    pub(super) fn scalar_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Boolean(value) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
            Self::Number(_, Some(written)) => Some(Cow::Borrowed(written)),
            Self::Number(value, None) => Some(Cow::Owned(value.to_string())),
            Self::String(text) => Some(text),
            Self::Binary(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
            Self::Element(element) if element.is_text() => Some(Cow::Borrowed(&element.text)),
            Self::Payload(payload) => Some(Cow::Borrowed(payload.text())),
            Self::Null | Self::List(_) | Self::Object(_) | Self::Element(_) => None,
        }
    }

    /// A copy that borrows from this one, for looking at.
    pub(super) fn view(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Boolean(*value),
            Self::Number(value, written) => Value::Number(*value, *written),
            Self::String(text) => Value::String(Cow::Borrowed(text)),
            Self::Binary(bytes) => match str::from_utf8(bytes) {
                Ok(text) => Value::String(Cow::Borrowed(text)),
                Err(_) => Value::Binary(bytes.clone()),
            },
            Self::List(List::Parts { text, separator }) => {
                Value::List(List::Parts { text: Cow::Borrowed(text), separator: Cow::Borrowed(separator) })
            }
            Self::List(list) => Value::List(list.clone()),
            Self::Object(members) => Value::Object(members.clone()),
            Self::Element(element) => Value::Element(element),
            Self::Payload(payload) => Value::Payload(payload),
        }
    }
}

/// Values in order.
#[derive(Clone, Debug)]
pub enum List<'a> {
    Data(&'a [Datum]),
    Items(Vec<Value<'a>>),
    /// A split string, cut only where somebody looks.
    Parts {
        text: Cow<'a, str>,
        separator: Cow<'a, str>,
    },
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Data(items) => items.len(),
            Self::Items(items) => items.len(),
            Self::Parts { text, separator } => parts(text, separator).count(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What looking at all of it costs, in bytes read.
    pub(super) fn work(&self) -> usize {
        match self {
            Self::Data(items) => items.len() * LOOK_BYTES,
            Self::Items(items) => items.len() * LOOK_BYTES,
            Self::Parts { text, .. } => text.len(),
        }
    }

    /// [`Self::into_items`], paid for.
    pub(super) fn gather(self, at: At, budget: &mut Budget) -> Result<Vec<Value<'a>>, EvaluationError> {
        budget.read(at, self.work())?;
        budget.make(at, self.len() * ITEM_BYTES)?;
        if let Self::Parts { text: Cow::Owned(text), .. } = &self {
            budget.make(at, text.len())?;
        }
        Ok(self.into_items())
    }

    /// Negative ones count from the end.
    pub(super) fn get(self, index: i64) -> Option<Value<'a>> {
        match self {
            Self::Data(items) => items.get(position(index, || items.len())?).map(Value::from),
            Self::Items(mut items) => {
                let at = position(index, || items.len()).filter(|at| *at < items.len())?;
                Some(items.swap_remove(at))
            }
            Self::Parts { text: Cow::Borrowed(text), separator } => {
                let at = position(index, || parts(text, &separator).count())?;
                parts(text, &separator).nth(at).map(|part| Value::String(Cow::Borrowed(part)))
            }
            Self::Parts { text, separator } => {
                let at = position(index, || parts(&text, &separator).count())?;
                parts(&text, &separator).nth(at).map(|part| Value::String(Cow::Owned(part.to_owned())))
            }
        }
    }

    /// Shows each item until one is told to be the last.
    pub(super) fn each<E>(&self, mut visit: impl FnMut(&Value<'_>) -> Result<bool, E>) -> Result<(), E> {
        match self {
            Self::Data(items) => {
                for item in *items {
                    if !visit(&Value::from(item))? {
                        return Ok(());
                    }
                }
            }
            Self::Items(items) => {
                for item in items {
                    if !visit(item)? {
                        return Ok(());
                    }
                }
            }
            Self::Parts { text, separator } => {
                for part in parts(text, separator) {
                    if !visit(&Value::String(Cow::Borrowed(part)))? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    pub fn into_items(self) -> Vec<Value<'a>> {
        match self {
            Self::Data(items) => items.iter().map(Value::from).collect(),
            Self::Items(items) => items,
            Self::Parts { text: Cow::Borrowed(text), separator } => {
                parts(text, &separator).map(|part| Value::String(Cow::Borrowed(part))).collect()
            }
            Self::Parts { text, separator } => {
                parts(&text, &separator).map(|part| Value::String(Cow::Owned(part.to_owned()))).collect()
            }
        }
    }
}

/// The pieces between separators; an empty separator gives characters.
fn parts<'t>(text: &'t str, separator: &str) -> impl Iterator<Item = &'t str> {
    let (characters, whole) = if separator.is_empty() { (text, None) } else { ("", Some(text)) };
    let characters = characters.char_indices().map(move |(at, character)| &text[at..at + character.len_utf8()]);
    characters.chain(whole.into_iter().flat_map(move |whole| whole.split(separator)))
}

/// The index from the start. The length is asked for only where it is needed.
pub(super) fn position(index: i64, length: impl FnOnce() -> usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length().checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

/// Names and values. Those of an exchange are asked for one by one.
#[derive(Clone)]
pub enum Members<'a> {
    Data(&'a data::Object),
    Owned(Vec<(Cow<'a, str>, Value<'a>)>),
    Element(&'a Element),
    Attributes(&'a dyn Context),
    Headers(&'a dyn Context),
    QueryParams(&'a dyn Context),
    Authentication(&'a dyn Context),
    /// With the names that are bound.
    Variables(&'a dyn Context, &'a [Box<str>]),
}

impl Debug for Members<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone().into_entries()).finish()
    }
}

impl<'a> Members<'a> {
    /// Null where there is none of this name.
    pub fn get(self, name: &str) -> Value<'a> {
        match self {
            Self::Data(object) => object.get(name).map_or(Value::Null, Value::from),
            Self::Owned(mut entries) => match entries.iter().position(|(known, _)| *known == name) {
                Some(at) => entries.swap_remove(at).1,
                None => Value::Null,
            },
            Self::Element(element) => {
                element.children.iter().find(|child| child.is_named(name)).map_or(Value::Null, Value::Element)
            }
            Self::Attributes(context) => match name {
                "headers" => Value::Object(Members::Headers(context)),
                "queryParams" => query_params(context),
                _ => Attribute::named(name).map_or(Value::Null, |name| attribute(context, name)),
            },
            Self::Headers(context) if name.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                context.header(&name.to_ascii_lowercase()).into()
            }
            Self::Headers(context) => context.header(name).into(),
            Self::QueryParams(context) => context.query_param(name).into(),
            Self::Authentication(context) => match name {
                "properties" => context.properties(),
                _ => Identity::named(name).map_or(Value::Null, |name| identity(context, name)),
            },
            Self::Variables(context, names) => {
                if names.iter().any(|known| **known == *name) {
                    context.variable(name)
                } else {
                    Value::Null
                }
            }
        }
    }

    /// What looking for one name costs, in bytes read. Those of an exchange are few.
    pub(super) fn work(&self) -> usize {
        match self {
            Self::Owned(entries) => entries.len() * LOOK_BYTES,
            Self::Element(element) => element.children.len() * LOOK_BYTES,
            // A parameter may have two bytes, and each name is decoded.
            Self::QueryParams(context) => context.query_string().map_or(0, str::len) * LOOK_BYTES,
            _ => 0,
        }
    }

    /// At most so many entries.
    fn count(&self) -> usize {
        match self {
            Self::Data(object) => object.entries().len(),
            Self::Owned(entries) => entries.len(),
            Self::Element(element) => element.children.len() + element.attributes.len(),
            Self::Attributes(_) => Attribute::ALL.len() + 2,
            Self::QueryParams(context) => {
                context.query_string().map_or(0, |query| 1 + query.bytes().filter(|byte| *byte == b'&').count())
            }
            Self::Authentication(_) => Identity::ALL.len() + 1,
            Self::Variables(_, names) => names.len(),
            // As many as a head may have.
            Self::Headers(_) => 100,
        }
    }

    /// [`Self::into_entries`], paid for.
    pub(super) fn gather(self, at: At, budget: &mut Budget) -> Result<Vec<(Cow<'a, str>, Value<'a>)>, EvaluationError> {
        budget.read(at, self.work())?;
        budget.make(at, self.count() * ITEM_BYTES)?;
        Ok(self.into_entries())
    }

    /// Everything, each name once.
    pub fn into_entries(self) -> Vec<(Cow<'a, str>, Value<'a>)> {
        match self {
            Self::Data(object) => {
                object.entries().iter().map(|(name, datum)| (Cow::Borrowed(&**name), datum.into())).collect()
            }
            Self::Owned(entries) => entries,
            Self::Element(element) => element_entries(element),
            Self::Attributes(context) => {
                let singles = Attribute::ALL.into_iter().map(|(name, each)| (name, attribute(context, each)));
                let objects =
                    [("headers", Value::Object(Members::Headers(context))), ("queryParams", query_params(context))];
                present(objects.into_iter().chain(singles))
            }
            Self::Headers(context) => {
                let mut entries = Vec::new();
                context.headers(&mut |name, value| entries.push((name, Value::String(value))));
                entries
            }
            Self::QueryParams(context) => parameter_entries(context.query_string().unwrap_or_default()),
            Self::Authentication(context) => {
                let singles = Identity::ALL.into_iter().map(|(name, each)| (name, identity(context, each)));
                present(singles.chain([("properties", context.properties())]))
            }
            Self::Variables(context, names) => present(names.iter().map(|name| (&**name, context.variable(name)))),
        }
    }
}

/// Without those that are null.
fn present<'a>(entries: impl Iterator<Item = (&'a str, Value<'a>)>) -> Vec<(Cow<'a, str>, Value<'a>)> {
    entries.filter(|(_, value)| !value.is_null()).map(|(name, value)| (Cow::Borrowed(name), value)).collect()
}

fn parameter_entries(query: &str) -> Vec<(Cow<'_, str>, Value<'_>)> {
    let mut entries: Vec<(Cow<'_, str>, Value<'_>)> = Vec::new();
    let mut places: HashMap<Cow<'_, str>, usize> = HashMap::new();
    for (name, value) in query::parameters(query) {
        match places.entry(name.clone()) {
            Entry::Occupied(place) => entries[*place.get()].1 = Value::String(value),
            Entry::Vacant(place) => {
                place.insert(entries.len());
                entries.push((name, Value::String(value)));
            }
        }
    }
    entries
}

/// Attributes with an `@`, then children; a repeated name becomes a list.
fn element_entries(element: &Element) -> Vec<(Cow<'_, str>, Value<'_>)> {
    let attributes = element.attributes.iter();
    let mut entries: Vec<(Cow<'_, str>, Value<'_>)> =
        attributes.map(|(name, value)| (Cow::Owned(format!("@{name}")), Value::String(Cow::Borrowed(value)))).collect();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for child in &element.children {
        match places.entry(&child.name) {
            Entry::Occupied(place) => match &mut entries[*place.get()].1 {
                Value::List(List::Items(items)) => items.push(Value::Element(child)),
                single => *single = Value::List(List::Items(vec![single.clone(), Value::Element(child)])),
            },
            Entry::Vacant(place) => {
                place.insert(entries.len());
                entries.push((Cow::Borrowed(&child.name), Value::Element(child)));
            }
        }
    }
    entries
}

/// Responses have none.
pub(super) fn query_params(context: &dyn Context) -> Value<'_> {
    if context.request_path().is_none() && context.query_string().is_none() {
        return Value::Null;
    }
    Value::Object(Members::QueryParams(context))
}

pub(super) fn attribute(context: &dyn Context, attribute: Attribute) -> Value<'_> {
    match attribute {
        Attribute::Method => context.method().into(),
        Attribute::QueryString => context.query_string().into(),
        Attribute::RequestPath => context.request_path().into(),
        Attribute::RequestUri => context.request_uri().into(),
        Attribute::LocalAddress => context.local_address().into(),
        Attribute::RemoteAddress => context.remote_address().into(),
        Attribute::Scheme => context.scheme().into(),
        Attribute::Version => context.version().into(),
        Attribute::StatusCode => context.status_code().map_or(Value::Null, |code| Value::Number(f64::from(code), None)),
    }
}

pub(super) fn identity(context: &dyn Context, identity: Identity) -> Value<'_> {
    match identity {
        Identity::ClientId => context.client_id().into(),
        Identity::ClientName => context.client_name().into(),
        Identity::Principal => context.principal().into(),
        Identity::SlaId => context.sla_id().into(),
        Identity::SlaName => context.sla_name().into(),
    }
}
