//! Values as text for a log line: strings as they are, everything else as JSON.

use std::{borrow::Cow, fmt::Write};

use super::{EvaluationError, Fault, budget::Budget, tree::At, value::Value};

impl<'a> Value<'a> {
    /// A log line. A body is what was received.
    pub fn into_line(self, budget: &mut Budget) -> Result<Cow<'a, str>, EvaluationError> {
        match self {
            Value::String(text) => Ok(text),
            Value::Payload(payload) => Ok(Cow::Borrowed(payload.text())),
            Value::Element(element) if element.is_text() => Ok(Cow::Borrowed(&element.text)),
            other => other.into_json(budget).map(Cow::Owned),
        }
    }

    /// Compact JSON. XML becomes objects, its attributes with an `@`; binary data is text where it is UTF-8.
    pub fn into_json(self, budget: &mut Budget) -> Result<String, EvaluationError> {
        let mut out = String::new();
        write_json(self, &mut out, budget)?;
        Ok(out)
    }
}

/// As deep as values are: literals, payloads and claims have bounds.
fn write_json(value: Value<'_>, out: &mut String, budget: &mut Budget) -> Result<(), EvaluationError> {
    /// Separators and quotes.
    const PUNCTUATION: usize = 4;
    budget.make(At::NOWHERE, PUNCTUATION)?;
    match value.settle() {
        Value::Null | Value::Element(_) | Value::Payload(_) => out.push_str("null"),
        Value::Boolean(value) => out.push_str(if value { "true" } else { "false" }),
        number @ Value::Number(..) => out.push_str(&number.scalar_text().unwrap_or_default()),
        Value::String(text) => quoted(&text, out, budget)?,
        Value::Binary(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| EvaluationError::new(At::NOWHERE, Fault::Encoding))?;
            quoted(&text, out, budget)?;
        }
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.gather(At::NOWHERE, budget)?.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out, budget)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.gather(At::NOWHERE, budget)?.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quoted(&name, out, budget)?;
                out.push(':');
                write_json(value, out, budget)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn quoted(text: &str, out: &mut String, budget: &mut Budget) -> Result<(), EvaluationError> {
    budget.make(At::NOWHERE, text.len())?;
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // A log line must not be cut or coloured by what a client sent.
            control if control.is_control() => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(control));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    Ok(())
}
