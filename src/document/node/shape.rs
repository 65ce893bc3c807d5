//! What a type asks of a file, learnt from the type itself: its fields, their types, and which of them must be there.
//!
//! serde tells a deserializer what it expects before it gets anything. [`shape_of`] answers with values that mean nothing and
//! writes down what was asked for, so what is said about a configuration cannot differ from what reads it. A type is read many
//! times: what is optional or a list is entered once and left out from then on, and each field is left out once to see whether
//! it is missed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::{
    Location, Node,
    capture::{self, LOCATED, NODE},
};

/// What may stand in one place of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Whatever its owner reads later.
    Any,
    Boolean,
    Whole {
        min: i128,
        max: i128,
    },
    Number,
    Text,
    OneOf(&'static [&'static str]),
    List(Box<Shape>),
    /// Its keys are data.
    Map(Box<Shape>),
    Record(Vec<Member>),
}

/// One field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub name: &'static str,
    pub shape: Shape,
    /// Its absence is an error, and so is a key without a value.
    pub required: bool,
}

/// The shape of whatever `T` is read from.
pub fn shape_of<T: DeserializeOwned>() -> Shape {
    let tracing = Tracing::default();
    let read = || {
        let _ = T::deserialize(Tracer { path: String::new(), tracing: &tracing });
    };
    let mut known = None;
    while known != Some(tracing.found.borrow().len()) {
        known = Some(tracing.found.borrow().len());
        read();
    }
    for (record, field) in tracing.fields() {
        tracing.omitted.replace(Some((record, field)));
        read();
    }
    tracing.shape("")
}

#[derive(Default)]
struct Tracing {
    /// By path: the steps below the root, each behind a `/`.
    found: RefCell<BTreeMap<String, Found>>,
    /// Optional parts and lists that hold nothing new.
    done: RefCell<BTreeSet<String>>,
    /// What is left out of which record, to see whether it is missed.
    omitted: RefCell<Option<(String, &'static str)>>,
    required: RefCell<BTreeSet<(String, &'static str)>>,
}

#[derive(Clone)]
enum Found {
    Simple(Shape),
    List,
    Map,
    Record(&'static [&'static str]),
}

impl Tracing {
    fn note(&self, path: &str, found: Found) {
        self.found.borrow_mut().entry(path.to_owned()).or_insert(found);
    }

    fn fields(&self) -> Vec<(String, &'static str)> {
        let found = self.found.borrow();
        let of_record = |(path, found): (&String, &Found)| match found {
            Found::Record(fields) => fields.iter().map(|field| (path.clone(), *field)).collect(),
            _ => Vec::new(),
        };
        found.iter().flat_map(of_record).collect()
    }

    /// Whether a part that may be left out is to be read all the same.
    fn enters(&self, path: &str) -> bool {
        match &*self.omitted.borrow() {
            Some((record, _)) => record.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            None => !self.done.borrow().contains(path),
        }
    }

    /// Reads such a part. One that fails is read again, as long as something new turns up.
    fn enter<T, E>(&self, path: &str, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let before = self.found.borrow().len();
        let result = read();
        if result.is_ok() || self.found.borrow().len() == before {
            self.done.borrow_mut().insert(path.to_owned());
        }
        result
    }

    fn shape(&self, path: &str) -> Shape {
        let below = |step: &str| Box::new(self.shape(&format!("{path}/{step}")));
        let found = self.found.borrow().get(path).cloned();
        match found {
            None => Shape::Any,
            Some(Found::Simple(shape)) => shape,
            Some(Found::List) => Shape::List(below("[]")),
            Some(Found::Map) => Shape::Map(below("*")),
            Some(Found::Record(fields)) => {
                let required = |name| self.required.borrow().contains(&(path.to_owned(), name));
                let member = |&name: &&'static str| Member { name, shape: *below(name), required: required(name) };
                Shape::Record(fields.iter().map(member).collect())
            }
        }
    }
}

struct Tracer<'t> {
    path: String,
    tracing: &'t Tracing,
}

impl<'t> Tracer<'t> {
    fn simple(&self, shape: Shape) {
        self.tracing.note(&self.path, Found::Simple(shape));
    }

    fn below(&self, step: &str) -> Tracer<'t> {
        Tracer { path: format!("{}/{step}", self.path), tracing: self.tracing }
    }
}

macro_rules! whole {
    ($($method:ident $type:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
            self.simple(Shape::Whole { min: $type::MIN.into(), max: $type::MAX.into() });
            visitor.visit_u64(1)
        }
    )*};
}

macro_rules! text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
            self.simple(Shape::Text);
            visitor.visit_str("x")
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Untold;

    whole!(deserialize_i8 i8 deserialize_i16 i16 deserialize_i32 i32 deserialize_i64 i64);
    whole!(deserialize_u8 u8 deserialize_u16 u16 deserialize_u32 u32 deserialize_u64 u64);
    text!(deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        self.simple(Shape::Boolean);
        visitor.visit_bool(false)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        self.simple(Shape::Number);
        visitor.visit_f64(1.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        let (path, tracing) = (self.path.clone(), self.tracing);
        match tracing.enters(&path) {
            true => tracing.enter(&path, || visitor.visit_some(self)),
            false => visitor.visit_none(),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Untold> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Untold> {
        let nowhere = Node::empty_map(Location::default());
        match name {
            NODE => {
                self.simple(Shape::Any);
                capture::leave_node(&nowhere);
                return visitor.visit_unit();
            }
            LOCATED => capture::leave_location(&nowhere),
            _ => {}
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        self.tracing.note(&self.path, Found::List);
        let (item, tracing) = (self.below("[]"), self.tracing);
        let path = item.path.clone();
        match tracing.enters(&path) {
            true => tracing.enter(&path, || visitor.visit_seq(Items(Some(item)))),
            false => visitor.visit_seq(Items(None)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Untold> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Untold> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        self.tracing.note(&self.path, Found::Map);
        let path = self.below("*").path;
        let pairs = |names| Pairs { record: &self, names, value: None };
        match self.tracing.enters(&path) {
            true => self.tracing.enter(&path, || visitor.visit_map(pairs(vec!["*"].into_iter()))),
            false => visitor.visit_map(pairs(Vec::new().into_iter())),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untold> {
        self.tracing.note(&self.path, Found::Record(fields));
        let omitted = self.tracing.omitted.borrow().clone();
        let omitted = omitted.filter(|(record, _)| *record == self.path).map(|(_, field)| field);
        let names: Vec<_> = fields.iter().copied().filter(|field| Some(*field) != omitted).collect();
        let result = visitor.visit_map(Pairs { record: &self, names: names.into_iter(), value: None });
        if let (Err(Untold { missing: Some(missing) }), Some(field)) = (&result, omitted)
            && *missing == field
        {
            self.tracing.required.borrow_mut().insert((self.path, field));
        }
        result
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untold> {
        self.simple(Shape::OneOf(variants));
        let first: de::value::StrDeserializer<'_, Untold> = variants.first().copied().unwrap_or("").into_deserializer();
        visitor.visit_enum(first)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untold> {
        visitor.visit_unit()
    }
}

/// At most one.
struct Items<'t>(Option<Tracer<'t>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Untold;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Untold> {
        self.0.take().map(|item| seed.deserialize(item)).transpose()
    }
}

/// Of a record, or of a map with one key.
struct Pairs<'t, 'r> {
    record: &'r Tracer<'t>,
    names: std::vec::IntoIter<&'static str>,
    value: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Pairs<'_, '_> {
    type Error = Untold;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Untold> {
        self.value = self.names.next();
        let Some(name) = self.value else { return Ok(None) };
        let key: de::value::StrDeserializer<'_, Untold> = name.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Untold> {
        let name = self.value.ok_or_else(|| Untold::custom("a key comes before its value"))?;
        seed.deserialize(self.record.below(name))
    }
}

/// Why a type could not be made of values that mean nothing; nobody is told.
#[derive(Debug)]
struct Untold {
    missing: Option<&'static str>,
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that means nothing")
    }
}

impl std::error::Error for Untold {}

impl de::Error for Untold {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self { missing: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(dead_code, reason = "only their shapes are of interest")]

    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::document::node::{Located, Ordered};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Whole {
        a_name: Located<String>,
        port: Option<Located<u16>>,
        #[serde(default)]
        parts: Ordered<Part>,
        labels: Option<BTreeMap<String, String>>,
        choice: Option<Choice>,
        section: Node,
        way: Way,
    }

    #[derive(Deserialize)]
    struct Part {
        seconds: f64,
        #[serde(default)]
        on: bool,
        inner: Option<Vec<Inner>>,
    }

    #[derive(Deserialize)]
    struct Inner {
        id: i8,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        One,
        Two,
    }

    /// At most one of the two: with both it cannot be made.
    #[derive(Deserialize)]
    #[serde(try_from = "Written")]
    struct Way;

    #[derive(Deserialize)]
    struct Written {
        left: Option<String>,
        right: Option<Inner>,
    }

    impl TryFrom<Written> for Way {
        type Error = &'static str;

        fn try_from(Written { left, right }: Written) -> Result<Self, Self::Error> {
            if left.is_some() && right.is_some() { Err("one of the two") } else { Ok(Self) }
        }
    }

    fn member(name: &'static str, shape: Shape, required: bool) -> Member {
        Member { name, shape, required }
    }

    #[test]
    fn a_type_tells_its_fields_their_types_and_what_must_be_there() {
        let id = member("id", Shape::Whole { min: -128, max: 127 }, true);
        let inner = Shape::Record(vec![id]);
        let part = Shape::Record(vec![
            member("seconds", Shape::Number, true),
            member("on", Shape::Boolean, false),
            member("inner", Shape::List(inner.clone().into()), false),
        ]);
        let way = Shape::Record(vec![member("left", Shape::Text, false), member("right", inner, false)]);
        let expected = [
            member("aName", Shape::Text, true),
            member("port", Shape::Whole { min: 0, max: 65_535 }, false),
            member("parts", Shape::Map(part.into()), false),
            member("labels", Shape::Map(Shape::Text.into()), false),
            member("choice", Shape::OneOf(&["one", "two"]), false),
            member("section", Shape::Any, true),
            member("way", way, true),
        ];
        assert_eq!(shape_of::<Whole>(), Shape::Record(expected.into()));
    }
}
