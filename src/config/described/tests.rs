//! What is told of fields, compared with what reads them.

use std::collections::BTreeSet;

use crate::{
    config::{dump::is_sensitive, resources::PolicyRingway},
    document::node::{Shape, shape_of},
    policies::{
        Described, Field, TABLE,
        fields::{leaves, words},
    },
};

/// Every name that works with what is said of its `config`.
fn described() -> impl Iterator<Item = (&'static str, Described)> {
    let works = TABLE.iter().filter(|entry| entry.implemented && !entry.name.starts_with("test-"));
    works.map(|entry| (entry.name, super::described(entry).expect("it has a `config`")))
}

#[test]
fn the_fields_that_are_told_of_are_those_that_are_read() {
    for (name, Described { category, fields, shape }) in described() {
        assert!(category.is_some(), "{name} has no CATEGORY");
        let told: Vec<&str> = fields.iter().map(|field| field.path).collect();
        let read: Vec<String> = leaves(&shape()).into_iter().map(|(path, ..)| path).collect();
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len(), "{name}: a field twice in FIELDS");
        let told: BTreeSet<&str> = told.into_iter().collect();
        assert_eq!(told, read.iter().map(String::as_str).collect(), "{name}: FIELDS (left), Config (right)");
    }
}

/// What is told, and what reads it: the fields of each `config`, and the options beside it.
fn told() -> impl Iterator<Item = (&'static str, &'static [Field], Shape)> {
    let fields = described().map(|(name, Described { fields, shape, .. })| (name, fields, shape()));
    fields.chain(TABLE.iter().map(|entry| (entry.name, entry.options, shape_of::<PolicyRingway>())))
}

#[test]
fn what_is_told_of_a_field_fits_its_type() {
    for (name, fields, shape) in told() {
        let read = leaves(&shape);
        let shape_of = |path: &str| read.iter().find(|(known, ..)| known == path);
        for field in fields {
            let at = format!("{name}: {}", field.path);
            let (_, shape, required) = shape_of(field.path).expect("the test above");
            assert!(
                !field.title.is_empty() && field.help.ends_with('.'),
                "{at}: a title, and help that ends with a dot"
            );
            if let Some(default) = field.default {
                assert!(!required, "{at} is required, and has a default");
                let value =
                    field.default_value(shape).unwrap_or_else(|| panic!("{at}: {default} is no {}", words(shape)));
                assert!(takes(shape, &value), "{at}: {default} is no {}", words(shape));
            }
            if let Some((other, is)) = field.visible_when {
                let (_, shape, _) = shape_of(other).unwrap_or_else(|| panic!("{at}: there is no {other}"));
                let is = if *shape == Shape::Boolean {
                    is.parse().map(serde_json::Value::Bool).expect("a boolean")
                } else {
                    is.into()
                };
                assert!(takes(shape, &is), "{at}: {other} is never {is}");
            }
            let last = field.path.rsplit('.').next().expect("a name");
            assert!(!field.sensitive || is_sensitive(last), "{at} is secret, and dumps would show it");
        }
    }
}

fn takes(shape: &Shape, value: &serde_json::Value) -> bool {
    match shape {
        Shape::Boolean => value.is_boolean(),
        Shape::Whole { min, max } => value.as_i64().is_some_and(|value| (*min..=*max).contains(&value.into())),
        Shape::Number => value.is_number(),
        Shape::OneOf(names) => value.as_str().is_some_and(|value| names.contains(&value)),
        _ => value.is_string(),
    }
}
