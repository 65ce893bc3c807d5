//! A YAML document as a tree that knows where each of its keys and values was written.
//!
//! All YAML goes through here. The tree keeps scalars as text: only the field that reads one says which type it is, so `yes`,
//! `8088` and `"443"` each fit a string, a number or a boolean (`scalar.rs`), and keys match in any case (`reader.rs`).

mod build;
mod capture;
mod deserializer;
mod misplaced;
mod reader;
mod scalar;
mod shape;
mod stand_in;

use std::{path::PathBuf, sync::Arc};

use serde::de::DeserializeOwned;

use super::problem::{Location, Problem, Severity};
pub use build::{BYTES_MAX, DEPTH_MAX, Document, NODES_MAX, documents};
pub use capture::{Located, Ordered};
pub use reader::nearest;
use scalar::Scalar;
pub use shape::{Member, Shape, shape_of};

/// One value of a document, with its place.
#[derive(Clone, Debug)]
pub struct Node {
    value: Value,
    location: Location,
}

#[derive(Clone, Debug)]
enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_location: Location,
    pub value: Node,
}

impl Node {
    /// The documents of a file. What is not YAML becomes a problem; the documents around it are still returned.
    pub fn parse(file: &Arc<PathBuf>, text: &str, problems: &mut Vec<Problem>) -> Vec<Node> {
        documents(file, text, problems).into_iter().map(|document| document.node).collect()
    }

    /// What an absent `config` is read as.
    pub fn empty_map(location: Location) -> Self {
        Self { value: Value::Mapping(Vec::new()), location }
    }

    /// Reads a typed section. Every problem found is pushed, with `path` ahead of its own; `None` if one is an error.
    ///
    /// Struct keys match in any case and unknown ones warn, so types need neither aliases for case nor `deny_unknown_fields`;
    /// `flatten` would lose both. A key without a value counts as absent. Problems never repeat a value: it may be secret.
    pub fn deserialize<T: DeserializeOwned>(&self, path: &str, problems: &mut Vec<Problem>) -> Option<T> {
        self.deserialize_as(Severity::Error, path, problems)
    }

    /// As [`Node::deserialize`], with the severity that a misfit has (unknown keys stay warnings).
    pub fn deserialize_as<T: DeserializeOwned>(
        &self,
        severity: Severity,
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let (value, whole) = reader::read(self, severity, path, problems);
        value.filter(|_| whole)
    }

    /// The parts that are right of something whose problems have been reported: an optional field that is wrong is absent. What
    /// cannot be absent has a stand-in without a location, and what is said about one should not be told.
    pub fn deserialize_rest<T: DeserializeOwned>(&self) -> Option<T> {
        reader::read(self, Severity::Error, "", &mut Vec::new()).0
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The value of a key, in any case; `None` also where it was written without a value.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    /// A key with its value, in any case.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.eq_ignore_ascii_case(key))
    }

    /// The entries of a mapping, in the order written; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; none for anything else.
    pub fn iter(&self) -> std::slice::Iter<'_, Node> {
        match &self.value {
            Value::Sequence(items) => items.iter(),
            _ => [].iter(),
        }
    }

    /// The text of a scalar, as a string field would read it.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !scalar.is_null() => Some(scalar.text()),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    pub fn is_map(&self) -> bool {
        matches!(self.value, Value::Mapping(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.value, Value::Sequence(_))
    }

    /// The same tree with every string scalar passed through `change`, which is told where it stands below this node.
    pub fn map_strings(&self, path: &str, change: &mut dyn FnMut(&str, &str, &Location) -> Option<String>) -> Node {
        let value = match &self.value {
            Value::Scalar(scalar) => match change(path, scalar.text(), &self.location) {
                Some(text) => Value::Scalar(Scalar::literal(text)),
                None => self.value.clone(),
            },
            Value::Sequence(items) => Value::Sequence(
                items.iter().enumerate().map(|(at, item)| item.map_strings(&format!("{path}[{at}]"), change)).collect(),
            ),
            Value::Mapping(entries) => Value::Mapping(
                entries
                    .iter()
                    .map(|entry| Entry {
                        key: entry.key.clone(),
                        key_location: entry.key_location.clone(),
                        value: entry.value.map_strings(&format!("{path}.{}", entry.key), change),
                    })
                    .collect(),
            ),
        };
        Node { value, location: self.location.clone() }
    }

    /// The same map, in which keys that have these other names have their own: pairs of the other, in any case, and the own.
    pub fn with_own_keys(&self, names: &[(&str, &str)]) -> Node {
        let mut node = self.clone();
        if let Value::Mapping(entries) = &mut node.value {
            for entry in entries {
                if let Some((_, own)) = names.iter().find(|(other, _)| entry.key.eq_ignore_ascii_case(other)) {
                    entry.key = (*own).to_owned();
                }
            }
        }
        node
    }

    /// The tree as JSON, plain scalars resolved as YAML 1.1 does.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar(scalar) => scalar.to_json(),
            Value::Sequence(items) => items.iter().map(Node::to_json).collect(),
            Value::Mapping(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

#[cfg(test)]
mod tests;
