//! JSON Schema (2020-12) of whole files, for editors and pipelines that do not run the gateway.
//!
//! It is made of the types that read files, so it knows the same fields and refuses the same unknown ones. In two things it is
//! stricter than the loader: a key must be spelt as documented, since an editor completes one spelling, and what the loader
//! warns of and ignores, an unknown key, is refused. It cannot know what fields mean together: that is `check`'s business.

use serde_json::{Map, Value, json};

use super::{
    described::described,
    resources::{API_VERSIONS, Kind, envelope},
};
use crate::{
    document::node::{Member, Shape, shape_of},
    matching::rule::RawRule,
    policies::{Described, Field, TABLE, fields::as_json},
};

/// The words that read as booleans (`node/scalar.rs`).
const BOOLEAN: &str = "^(true|True|TRUE|yes|Yes|YES|on|On|ON|false|False|FALSE|no|No|NO|off|Off|OFF)$";
const WHOLE: &str = r"^\s*[+-]?([0-9][0-9_]*(\.0*)?|0[xX][0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)\s*$";
const NUMBER: &str = r"^\s*[+-]?([0-9_]*\.?[0-9_]+|[0-9_]+\.)([eE][+-]?[0-9]+)?\s*$";
/// A value that is exactly this is taken from the environment (`substitute.rs`).
const VARIABLE: &str = "^[$][A-Za-z_][A-Za-z0-9_]*$";

pub fn schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert("resource".into(), resource());
    definitions.insert("rules".into(), Writer::PLAIN.value(&Shape::List(shape_of::<RawRule>().into()), ""));
    for (name, kind) in Kind::NAMES {
        definitions.insert(name.into(), Writer::PLAIN.value(&kind.shape(), ""));
    }
    let policy = policies(&mut definitions);
    definitions.insert("policy".into(), policy);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ringway",
        "description": "One document of a configuration of Ringway or Flex Gateway",
        // One that is empty says nothing, between two `---` or behind the last.
        "type": ["object", "null"],
        "required": ["apiVersion"],
        "properties": { "apiVersion": { "anyOf": [{ "enum": API_VERSIONS }, { "type": "string" }] } },
        // Documents of other systems may stand in the same file.
        "if": { "type": "object", "properties": { "apiVersion": { "enum": API_VERSIONS } } },
        "then": { "$ref": "#/$defs/resource" },
        "$defs": definitions,
    })
}

/// The envelope, and by its kind the specification.
fn resource() -> Value {
    let mut resource = Writer::PLAIN.value(&envelope(), "");
    let names = Kind::NAMES.map(|(name, _)| name);
    resource["properties"]["kind"] = one_of(&names);
    let of_kind = |name: &str| {
        json!({
            "if": { "required": ["kind"], "properties": { "kind": { "type": "string", "pattern": any_case(&[name]) } } },
            "then": { "properties": { "spec": { "$ref": format!("#/$defs/{name}") } } },
        })
    };
    resource["allOf"] = names.iter().map(|name| of_kind(name)).collect();
    resource
}

/// What `policyRef.name` says of `config`; each `config` becomes a definition. Any name may stand there: custom policies have
/// their own.
fn policies(definitions: &mut Map<String, Value>) -> Value {
    let mut by_name = Vec::new();
    let mut names = Vec::new();
    for entry in TABLE {
        let stem = entry.name.strip_suffix("-flex").unwrap_or(entry.name);
        let mut spellings =
            vec![entry.name.to_owned(), if stem == entry.name { format!("{stem}-flex") } else { stem.into() }];
        if entry.name == "tls" {
            spellings.push("tls-inbound".to_owned());
        }
        names.push(entry.name);
        let Some(Described { fields, shape, .. }) = described(entry) else { continue };
        definitions.insert(entry.name.to_owned(), Writer { fields, variables: true }.value(&shape(), ""));
        by_name.push(json!({
            "if": { "required": ["policyRef"], "properties": { "policyRef": {
                "required": ["name"], "properties": { "name": { "enum": spellings } },
            } } },
            "then": { "properties": { "config": { "anyOf": [
                { "$ref": format!("#/$defs/{}", entry.name) },
                { "type": "null" },
            ] } } },
        }));
    }
    let name = json!({ "anyOf": [{ "enum": names }, { "type": "string" }] });
    json!({ "allOf": by_name, "properties": { "policyRef": { "properties": { "name": name } } } })
}

/// Writes what a shape takes.
struct Writer {
    /// What is told of the fields of a policy.
    fields: &'static [Field],
    /// Whether a value may come from the environment.
    variables: bool,
}

impl Writer {
    const PLAIN: Self = Self { fields: &[], variables: false };

    /// `path` is the way to it, as in [`Field::path`].
    fn value(&self, shape: &Shape, path: &str) -> Value {
        match shape {
            Shape::Any => json!(true),
            Shape::Boolean => self.scalar(json!({ "type": "boolean" }), BOOLEAN),
            Shape::Whole { .. } | Shape::Text if !self.values(path).is_empty() => self.one_of_values(shape, path),
            Shape::Whole { min, max } => {
                let (min, max) = self.range(path).map_or((*min, *max), |(least, most)| {
                    (i128::from(least).max(*min), if most == i64::MAX { *max } else { i128::from(most).min(*max) })
                });
                self.scalar(json!({ "type": "integer", "minimum": limit(min), "maximum": limit(max) }), WHOLE)
            }
            Shape::Number => {
                let mut number = json!({ "type": "number" });
                if let Some((least, most)) = self.range(path) {
                    (number["minimum"], number["maximum"]) = (least.into(), most.into());
                }
                self.scalar(number, NUMBER)
            }
            Shape::Text => json!({ "type": ["string", "number", "boolean"] }),
            Shape::OneOf(names) if self.variables => {
                let mut ways = one_of(names);
                ways["anyOf"].as_array_mut().expect("made so").push(json!({ "type": "string", "pattern": VARIABLE }));
                ways
            }
            Shape::OneOf(names) => one_of(names),
            Shape::List(item) => json!({ "type": "array", "items": self.value(item, &format!("{path}[]")) }),
            Shape::Map(value) => json!({ "type": "object", "additionalProperties": self.value(value, path) }),
            Shape::Record(members) => self.record(members, path),
        }
    }

    /// What is told of the field, or of the list whose items these are.
    fn field(&self, path: &str) -> Option<&'static Field> {
        let path = path.strip_suffix("[]").unwrap_or(path);
        self.fields.iter().find(|field| field.path == path)
    }

    fn range(&self, path: &str) -> Option<(i64, i64)> {
        self.field(path)?.range
    }

    fn values(&self, path: &str) -> &'static [&'static str] {
        self.field(path).map_or(&[], |field| field.values)
    }

    /// One of those that alone will do, each as its type is and as a string.
    fn one_of_values(&self, shape: &Shape, path: &str) -> Value {
        let values = self.values(path);
        let own: Vec<_> = values.iter().filter_map(|value| as_json(value, shape)).collect();
        let mut ways = vec![json!({ "enum": own })];
        if !matches!(shape, Shape::Text) {
            ways.push(json!({ "enum": values }));
        }
        if self.variables {
            ways.push(json!({ "type": "string", "pattern": VARIABLE }));
        }
        json!({ "anyOf": ways })
    }

    /// As its own type, or as a string that reads as such.
    fn scalar(&self, own: Value, pattern: &str) -> Value {
        let mut ways = vec![own, json!({ "type": "string", "pattern": pattern })];
        if self.variables {
            ways.push(json!({ "type": "string", "pattern": VARIABLE }));
        }
        json!({ "anyOf": ways })
    }

    fn record(&self, members: &[Member], path: &str) -> Value {
        let mut properties = Map::new();
        for member in members {
            let path = if path.is_empty() { member.name.to_owned() } else { format!("{path}.{}", member.name) };
            properties.insert(member.name.to_owned(), self.member(member, &path));
        }
        let required: Vec<_> = members.iter().filter(|member| member.required).map(|member| member.name).collect();
        let mut record = json!({ "type": "object", "properties": properties, "additionalProperties": false });
        if !required.is_empty() {
            record["required"] = json!(required);
        }
        // Whoever names a policy has its `config`.
        if members.iter().any(|member| member.name == "policyRef") {
            record["allOf"] = json!([{ "$ref": "#/$defs/policy" }]);
        }
        record
    }

    /// A field that may be absent may also stand there without a value.
    fn member(&self, member: &Member, path: &str) -> Value {
        let mut value = match (&member.shape, member.name) {
            (Shape::Any, "rules") => json!({ "$ref": "#/$defs/rules" }),
            // Read as that policy is.
            (Shape::Any, "outboundPolicyCalls") => json!({ "$ref": "#/$defs/tls-outbound" }),
            (shape, _) => self.value(shape, path),
        };
        if !member.required {
            value = or_nothing(value);
        }
        let field = self.fields.iter().find(|field| field.path == path);
        if let (Some(field), Some(value)) = (field, value.as_object_mut()) {
            describe(field, &member.shape, value);
        }
        value
    }
}

/// Or a key without a value.
fn or_nothing(mut value: Value) -> Value {
    if let Some(ways) = value.get_mut("anyOf").and_then(Value::as_array_mut) {
        ways.push(json!({ "type": "null" }));
        return value;
    }
    // What takes anything takes that too.
    if value.is_object() { json!({ "anyOf": [value, { "type": "null" }] }) } else { value }
}

fn describe(field: &Field, shape: &Shape, value: &mut Map<String, Value>) {
    let unit = field.unit.map(|unit| format!(" In {unit}.")).unwrap_or_default();
    let expression = if field.expression { " May be an expression: `#[...]`." } else { "" };
    let condition = field.visible_when.map(|(other, is)| format!(" Where `{other}` is `{is}`.")).unwrap_or_default();
    value.insert("title".into(), field.title.into());
    value.insert("description".into(), format!("{}{unit}{expression}{condition}", field.help).into());
    if let Some(default) = field.default_value(shape) {
        value.insert("default".into(), default);
    }
    if field.sensitive {
        value.insert("writeOnly".into(), true.into());
    }
}

fn one_of(names: &[&str]) -> Value {
    json!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": any_case(names) }] })
}

/// The pattern of one of these words in any case.
fn any_case(names: &[&str]) -> String {
    let letter = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase()),
        false => format!("[{c}]"),
    };
    let words: Vec<String> = names.iter().map(|name| name.chars().map(letter).collect()).collect();
    format!("^({})$", words.join("|"))
}

fn limit(limit: i128) -> Value {
    i64::try_from(limit).map(Value::from).or_else(|_| u64::try_from(limit).map(Value::from)).unwrap_or_default()
}
