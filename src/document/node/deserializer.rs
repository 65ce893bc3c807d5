//! The serde side of a tree: what a field asks for, made from what was written.

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::{
    Node, Value,
    capture::{self, LOCATED, NODE},
    reader::{Error, Reading, one_of},
    scalar::{Resolved, Scalar},
    stand_in::StandIn,
};

#[derive(Clone, Copy)]
pub(super) struct Reader<'n, 'r> {
    pub node: &'n Node,
    pub reading: &'r Reading<'n>,
}

impl<'n, 'r> Reader<'n, 'r> {
    fn expected<T>(self, what: &str) -> Result<T, Error> {
        Err(Error::custom(format_args!("expected {what}, found {}", self.node.value.describe())).at(self.node))
    }

    fn scalar(self, what: &str) -> Result<&'n Scalar, Error> {
        match &self.node.value {
            Value::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
            _ => self.expected(what),
        }
    }

    /// Reads a part of this node, or a stand-in where the part is known to be wrong.
    fn below<'de, S: DeserializeSeed<'de>>(self, node: &'n Node, seed: S) -> Result<S::Value, Error> {
        if self.reading.is_bad(node) {
            return seed.deserialize(StandIn).map_err(Error::silent);
        }
        seed.deserialize(Self { node, reading: self.reading }).map_err(|error| error.at(node))
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("a whole number")?;
        // `10.0` is written by tools that know only one kind of number.
        let whole = || scalar.as_float().filter(|f| f.fract() == 0.0 && f.abs() < 9e15).map(|f| f as i128);
        let result = match scalar.as_integer().or_else(whole) {
            None => Err(Error::custom("expected a whole number")),
            Some(value) => match (u64::try_from(value), i64::try_from(value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => Err(Error::custom("number out of range")),
            },
        };
        result.map_err(|error| error.at(self.node))
    }

    fn items(self) -> Items<'n, 'r> {
        Items { reader: self, items: self.node.iter() }
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.integer(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = Error;

    integers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128);
    integers!(deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match &self.node.value {
            Value::Sequence(_) => return self.deserialize_seq(visitor),
            Value::Mapping(_) => return self.deserialize_map(visitor),
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Signed(value) => visitor.visit_i64(value),
                Resolved::Unsigned(value) => visitor.visit_u64(value),
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text(text) => visitor.visit_str(text),
            },
        };
        result.map_err(|error: Error| error.at(self.node))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let result = match self.scalar("`true` or `false`")?.as_bool() {
            Some(value) => visitor.visit_bool(value),
            None => Err(Error::custom("expected `true` or `false`")),
        };
        result.map_err(|error| error.at(self.node))
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("a number")?;
        let result = match scalar.as_integer().map(|value| value as f64).or_else(|| scalar.as_float()) {
            Some(value) => visitor.visit_f64(value),
            None => Err(Error::custom("expected a number")),
        };
        result.map_err(|error| error.at(self.node))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("a string")?;
        if let Some((written, read)) = scalar.converted() {
            self.reading.converted(self.node, written, read);
        }
        visitor.visit_str(scalar.text()).map_err(|error: Error| error.at(self.node))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match name {
            NODE => {
                capture::leave_node(self.node);
                return visitor.visit_unit();
            }
            LOCATED => capture::leave_location(self.node),
            _ => {}
        }
        visitor.visit_newtype_struct(self).map_err(|error| error.at(self.node))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() {
            return StandIn.deserialize_seq(visitor);
        }
        if !self.node.is_list() {
            return self.expected("a list");
        }
        visitor.visit_seq(self.items()).map_err(|error| error.at(self.node))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() {
            return StandIn.deserialize_map(visitor);
        }
        if !self.node.is_map() {
            return self.expected("a map");
        }
        let entries = self.node.entries().iter().map(|entry| (entry.key.as_str(), &entry.value)).collect();
        visitor.visit_map(Pairs::new(self, entries, Vec::new())).map_err(|error| error.at(self.node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if !self.node.is_map() {
            return self.expected("a map");
        }
        let mut pairs: Vec<(&str, &Node)> = Vec::new();
        for entry in self.node.entries() {
            let Some(field) = fields.iter().copied().find(|field| field.eq_ignore_ascii_case(&entry.key)) else {
                self.reading.unknown_key(entry, self.node, fields);
                continue;
            };
            if pairs.iter().any(|(taken, _)| *taken == field) {
                self.reading.written_twice(entry, self.node, field);
            } else if !entry.value.is_null() {
                pairs.push((field, &entry.value));
            }
        }
        let missing = self.reading.missing_in(self.node);
        let read = || visitor.visit_map(Pairs::new(self, pairs, missing));
        self.reading.within(fields, read).map_err(|error| error.at(self.node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let written = match &self.node.value {
            Value::Scalar(scalar) if !scalar.is_null() => (scalar.text(), None),
            Value::Mapping(entries) if entries.len() == 1 => (entries[0].key.as_str(), Some(&entries[0].value)),
            _ => return self.expected(&one_of(variants)),
        };
        let variant = variants.iter().copied().find(|variant| variant.eq_ignore_ascii_case(written.0));
        let Some(variant) = variant else {
            return Err(Error::unknown_variant(written.0, variants).at(self.node));
        };
        let content = written.1.map(|node| Self { node, reading: self.reading });
        visitor.visit_enum(Choice { variant, content }).map_err(|error| error.at(self.node))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct Items<'n, 'r> {
    reader: Reader<'n, 'r>,
    items: std::slice::Iter<'n, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.items.next() else { return Ok(None) };
        self.reader.below(item, seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The pairs of a map or struct, then stand-ins for the fields it lacks.
struct Pairs<'n, 'r> {
    reader: Reader<'n, 'r>,
    pairs: std::vec::IntoIter<(&'n str, &'n Node)>,
    missing: std::vec::IntoIter<&'static str>,
    value: Option<&'n Node>,
}

impl<'n, 'r> Pairs<'n, 'r> {
    fn new(reader: Reader<'n, 'r>, pairs: Vec<(&'n str, &'n Node)>, missing: Vec<&'static str>) -> Self {
        Self { reader, pairs: pairs.into_iter(), missing: missing.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Pairs<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let key = match self.pairs.next() {
            Some((key, value)) => {
                self.value = Some(value);
                key
            }
            None => match self.missing.next() {
                Some(field) => field,
                None => return Ok(None),
            },
        };
        let deserializer: de::value::StrDeserializer<'_, Error> = key.into_deserializer();
        seed.deserialize(deserializer).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(node) => self.reader.below(node, seed),
            None => seed.deserialize(StandIn).map_err(Error::silent),
        }
    }
}

/// A variant with what belongs to it.
pub(super) struct Choice<'n, 'r> {
    pub variant: &'static str,
    pub content: Option<Reader<'n, 'r>>,
}

impl<'de> EnumAccess<'de> for Choice<'_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: de::value::StrDeserializer<'_, Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Error::custom("expected a single value")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        match self.content {
            Some(content) => seed.deserialize(content),
            None => Err(Error::custom("expected a map")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        match self.content {
            Some(content) => content.deserialize_seq(visitor),
            None => Err(Error::custom("expected a list")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.content {
            Some(content) => content.deserialize_struct("", fields, visitor),
            None => Err(Error::custom("expected a map")),
        }
    }
}
