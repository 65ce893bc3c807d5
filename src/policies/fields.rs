//! What people are told of a policy's configuration: one list, beside the type that reads it.
//!
//! `ringway policies`, the schema for editors and the tables of `docs/policies/` are made from it or compared with it. Types
//! and what is required are not said again: the type itself tells (`document::node::shape_of`), and a test compares the names.

use serde_json::Value;

use super::Policy;
use crate::document::node::{Shape, shape_of};

/// One field of a `config`.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The way to it below `config`: `originGroups[].origins`.
    pub path: &'static str,
    /// What it is called on a form.
    pub title: &'static str,
    /// What its page says of it, without links.
    pub help: &'static str,
    /// What it is where it is not written, as it would be written in YAML. `None`: it is required, or means nothing then.
    pub default: Option<&'static str>,
    pub unit: Option<&'static str>,
    /// Its value must not be shown.
    pub sensitive: bool,
    /// `#[...]` in it is evaluated for each message.
    pub expression: bool,
    /// It means something only where another field has this value.
    pub visible_when: Option<(&'static str, &'static str)>,
    /// Of a number, where the type takes more: the least and the greatest.
    pub range: Option<(i64, i64)>,
    /// Of a number, or of the items of a list: the only ones that will do, where the type takes others. Empty: any.
    pub values: &'static [&'static str],
}

impl Field {
    pub const fn new(path: &'static str, title: &'static str, help: &'static str) -> Self {
        Self {
            path,
            title,
            help,
            default: None,
            unit: None,
            sensitive: false,
            expression: false,
            visible_when: None,
            range: None,
            values: &[],
        }
    }

    pub const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    pub const fn unit(self, unit: &'static str) -> Self {
        Self { unit: Some(unit), ..self }
    }

    pub const fn sensitive(self) -> Self {
        Self { sensitive: true, ..self }
    }

    pub const fn expression(self) -> Self {
        Self { expression: true, ..self }
    }

    pub const fn when(self, field: &'static str, value: &'static str) -> Self {
        Self { visible_when: Some((field, value)), ..self }
    }

    pub const fn range(self, least: i64, most: i64) -> Self {
        Self { range: Some((least, most)), ..self }
    }

    pub const fn at_least(self, least: i64) -> Self {
        self.range(least, i64::MAX)
    }

    pub const fn values(self, values: &'static [&'static str]) -> Self {
        Self { values, ..self }
    }

    /// The range in words, where there is one.
    pub fn range_in_words(&self) -> Option<String> {
        self.range.map(|(least, most)| match most {
            i64::MAX => format!("at least {least}"),
            most => format!("{least} to {most}"),
        })
    }

    /// The default as JSON, of the type that the field has.
    pub fn default_value(&self, shape: &Shape) -> Option<Value> {
        self.default.and_then(|text| as_json(text, shape))
    }
}

/// A value that stands in a description, of the type that its field has.
pub fn as_json(text: &str, shape: &Shape) -> Option<Value> {
    match shape {
        Shape::Boolean | Shape::Whole { .. } | Shape::Number => serde_json::from_str(text).ok(),
        _ => Some(text.into()),
    }
}

/// What a policy is for, as catalogues sort them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    Security,
    QualityOfService,
    Compliance,
    Transformation,
    Troubleshooting,
    Routing,
}

impl Category {
    pub fn name(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::QualityOfService => "quality of service",
            Self::Compliance => "compliance",
            Self::Transformation => "transformation",
            Self::Troubleshooting => "troubleshooting",
            Self::Routing => "routing",
        }
    }
}

/// A `config`: what people are told, and what reads it.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub category: Option<Category>,
    pub fields: &'static [Field],
    pub shape: fn() -> Shape,
}

impl Described {
    pub const fn of<P: Policy>() -> Self {
        Self { category: P::CATEGORY, fields: P::FIELDS, shape: shape_of::<P::Config> }
    }
}

/// The fields of a shape, each with the way to it; a record within a record is its fields alone.
pub fn leaves(shape: &Shape) -> Vec<(String, Shape, bool)> {
    let Shape::Record(members) = shape else { return Vec::new() };
    let mut found = Vec::new();
    for member in members {
        let below = |inner: &Shape, step: &str| {
            let inner = leaves(inner).into_iter();
            inner.map(|(path, shape, required)| (format!("{}{step}.{path}", member.name), shape, required)).collect()
        };
        let inner: Vec<_> = match &member.shape {
            Shape::List(item) => below(item, "[]"),
            shape => below(shape, ""),
        };
        if !matches!(member.shape, Shape::Record(_)) {
            found.push((member.name.to_owned(), member.shape.clone(), member.required));
        }
        found.extend(inner);
    }
    found
}

/// A shape in the words of the documentation.
pub fn words(shape: &Shape) -> String {
    match shape {
        Shape::Any => "any".to_owned(),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Whole { .. } => "whole number".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Text => "string".to_owned(),
        Shape::OneOf(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        Shape::List(item) => match &**item {
            Shape::Text => "list of strings".to_owned(),
            Shape::Record(members) => {
                let names: Vec<_> = members.iter().map(|member| member.name).collect();
                format!("list of `{{{}}}`", names.join(", "))
            }
            item => format!("list of {}", words(item)),
        },
        Shape::Map(_) | Shape::Record(_) => "map".to_owned(),
    }
}
