//! Fields that keep more of the file than its value: the node itself, where it stands, or the order of its keys.
//!
//! serde has no channel for positions. The reader recognises these types by the name they ask for and leaves the node in a
//! slot of this thread, from which the visitor takes it in the same call.

use std::{cell::RefCell, fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::{Location, Node, Value};

/// The names that the reader knows.
pub(super) const NODE: &str = "$ringway::Node";
pub(super) const LOCATED: &str = "$ringway::Located";

thread_local! {
    static NODE_SLOT: RefCell<Option<Node>> = const { RefCell::new(None) };
    static LOCATION_SLOT: RefCell<Option<Location>> = const { RefCell::new(None) };
}

pub(super) fn leave_node(node: &Node) {
    NODE_SLOT.set(Some(node.clone()));
}

pub(super) fn leave_location(node: &Node) {
    LOCATION_SLOT.set(Some(node.location().clone()));
}

/// A section left as it is, for its owner to read later.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl Visitor<'_> for Take {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a configuration file")
            }

            fn visit_unit<E: Error>(self) -> Result<Node, E> {
                NODE_SLOT.take().ok_or_else(|| E::custom("not read from a configuration file"))
            }
        }
        deserializer.deserialize_newtype_struct(NODE, Take)
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Located<T> {
    pub value: T,
    pub location: Location,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Take<T> {
            type Value = Located<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a configuration file")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                let location = LOCATION_SLOT.take().unwrap_or_default();
                Ok(Located { value: T::deserialize(deserializer)?, location })
            }
        }
        deserializer.deserialize_newtype_struct(LOCATED, Take(PhantomData))
    }
}

/// A map whose keys are data, in the order written.
#[derive(Clone, Debug)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

impl Value {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a map",
        }
    }
}
