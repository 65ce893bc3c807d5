//! What each function does with its arguments. Null, where a function bears it, gives null; `contains` gives false.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    EvaluationError, Fault,
    evaluate::{Evaluator, Leaves, equal},
    function::Function,
    tree::{At, Node},
    value::{List, Members, Value},
};

type Outcome<T> = Result<T, EvaluationError>;

/// Padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn call<'a>(
    evaluator: &mut Evaluator<'a, '_>,
    function: Function,
    arguments: &'a [Node],
    at: At,
) -> Outcome<Value<'a>> {
    let mut next = arguments.iter();
    let mut argument =
        |evaluator: &mut Evaluator<'a, '_>| next.next().map_or(Ok(Value::Null), |node| evaluator.value(node));
    let call = Call { function, at };
    let first = argument(evaluator)?;
    match function {
        Function::Uuid => {
            evaluator.budget.make(at, 36)?;
            Ok(Value::String(uuid(evaluator.context.random()).into()))
        }
        Function::IsEmpty => Ok(Value::Boolean(call.is_empty(evaluator, first)?)),
        Function::SizeOf => call.size(evaluator, first),
        Function::Contains => {
            let second = argument(evaluator)?;
            call.contains(evaluator, first, second)
        }
        Function::Lower | Function::Upper | Function::Trim => match call.text(first)? {
            Some(text) => call.changed(evaluator, text),
            None => Ok(Value::Null),
        },
        Function::ToBase64 => {
            let bytes = call.bytes(first)?;
            evaluator.budget.make(at, bytes.len() / 3 * 4 + 4)?;
            Ok(Value::String(BASE64.encode(bytes).into()))
        }
        Function::FromBase64 => {
            let bytes = call.bytes(first)?;
            evaluator.budget.make(at, bytes.len())?;
            BASE64.decode(bytes).map(Value::Binary).map_err(|_| EvaluationError::new(at, Fault::Base64))
        }
        Function::ToBinary => {
            call.encoding(argument(evaluator)?)?;
            let bytes = call.bytes(first)?;
            evaluator.budget.make(at, bytes.len())?;
            Ok(Value::Binary(bytes.into_owned()))
        }
        Function::ToString => {
            call.encoding(argument(evaluator)?)?;
            let kind = first.kind();
            let text = call.text(first)?.ok_or(call.refused(kind))?;
            evaluator.budget.read(at, text.len())?;
            Ok(Value::String(text))
        }
        Function::SplitBy => match (call.text(first)?, call.text(argument(evaluator)?)?) {
            (Some(text), Some(separator)) => Ok(Value::List(List::Parts { text, separator })),
            _ => Ok(Value::Null),
        },
        Function::SubstringAfter
        | Function::SubstringAfterLast
        | Function::SubstringBefore
        | Function::SubstringBeforeLast => match (call.text(first)?, call.text(argument(evaluator)?)?) {
            (Some(text), Some(separator)) => call.substring(evaluator, text, &separator),
            _ => Ok(Value::Null),
        },
    }
}

struct Call {
    function: Function,
    at: At,
}

impl Call {
    fn refused(&self, kind: &'static str) -> EvaluationError {
        EvaluationError::new(self.at, Fault::Argument(self.function.name(), kind))
    }

    /// Strings, and binary data as UTF-8. None is null.
    fn text<'a>(&self, value: Value<'a>) -> Outcome<Option<Cow<'a, str>>> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            Value::Binary(bytes) => {
                let text = String::from_utf8(bytes).map_err(|_| EvaluationError::new(self.at, Fault::Encoding))?;
                Ok(Some(Cow::Owned(text)))
            }
            Value::Element(element) if element.is_text() => Ok(Some(Cow::Borrowed(&element.text))),
            other => Err(self.refused(other.kind())),
        }
    }

    fn bytes<'a>(&self, value: Value<'a>) -> Outcome<Cow<'a, [u8]>> {
        match value {
            Value::Binary(bytes) => Ok(Cow::Owned(bytes)),
            value => {
                let kind = value.kind();
                Ok(match self.text(value)?.ok_or(self.refused(kind))? {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                })
            }
        }
    }

    fn encoding(&self, value: Value<'_>) -> Outcome<()> {
        let kind = value.kind();
        let name = self.text(value)?.ok_or(self.refused(kind))?;
        if name.eq_ignore_ascii_case("UTF-8") {
            return Ok(());
        }
        Err(EvaluationError::new(self.at, Fault::UnknownEncoding))
    }

    fn size<'a>(&self, evaluator: &mut Evaluator<'a, '_>, value: Value<'a>) -> Outcome<Value<'a>> {
        let size = match value.settle() {
            Value::String(text) => text.len(),
            Value::Binary(bytes) => bytes.len(),
            Value::List(list) => {
                evaluator.budget.read(self.at, list.work())?;
                list.len()
            }
            Value::Object(Members::Data(object)) => object.entries().len(),
            Value::Object(members) => members.gather(self.at, evaluator.budget)?.len(),
            other => return Err(self.refused(other.kind())),
        };
        Ok(Value::Number(size as f64, None))
    }

    fn is_empty<'a>(&self, evaluator: &mut Evaluator<'a, '_>, value: Value<'a>) -> Outcome<bool> {
        Ok(match value.settle() {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Binary(bytes) => bytes.is_empty(),
            Value::List(List::Parts { text, separator }) => text.is_empty() && separator.is_empty(),
            Value::List(list) => list.is_empty(),
            Value::Object(Members::Data(object)) => object.entries().is_empty(),
            // One with no element inside is its text.
            Value::Object(Members::Element(_)) => false,
            Value::Object(members) => members.gather(self.at, evaluator.budget)?.is_empty(),
            Value::Boolean(_) | Value::Number(..) | Value::Element(_) | Value::Payload(_) => false,
        })
    }

    fn contains<'a>(
        &self,
        evaluator: &mut Evaluator<'a, '_>,
        first: Value<'a>,
        second: Value<'a>,
    ) -> Outcome<Value<'a>> {
        let first = first.settle();
        if let Value::List(list) = first {
            let mut is_there = false;
            list.each(|item| {
                is_there = equal(item, &second, Leaves::AsTheyAre, self.at, evaluator.budget)?;
                Ok(!is_there)
            })?;
            return Ok(Value::Boolean(is_there));
        }
        let (Some(text), Some(part)) = (self.text(first)?, self.text(second)?) else {
            return Ok(Value::Boolean(false));
        };
        evaluator.budget.read(self.at, text.len())?;
        Ok(Value::Boolean(text.contains(&*part)))
    }

    /// `lower`, `upper`, `trim`: a new string only where something changes.
    fn changed<'a>(&self, evaluator: &mut Evaluator<'a, '_>, text: Cow<'a, str>) -> Outcome<Value<'a>> {
        evaluator.budget.read(self.at, text.len())?;
        let is_same = match self.function {
            Function::Lower => text.chars().all(|c| c.to_lowercase().eq([c])),
            Function::Upper => text.chars().all(|c| c.to_uppercase().eq([c])),
            _ => text.trim().len() == text.len(),
        };
        if is_same {
            return Ok(Value::String(text));
        }
        if self.function == Function::Trim {
            return self.part(evaluator, text, |text| text.trim());
        }
        // One character becomes at most three.
        evaluator.budget.make(self.at, text.len())?;
        let text = if self.function == Function::Lower { text.to_lowercase() } else { text.to_uppercase() };
        Ok(Value::String(Cow::Owned(text)))
    }

    fn substring<'a>(
        &self,
        evaluator: &mut Evaluator<'a, '_>,
        text: Cow<'a, str>,
        separator: &str,
    ) -> Outcome<Value<'a>> {
        self.part(evaluator, text, |text| {
            let found = match self.function {
                Function::SubstringAfter => text.split_once(separator).map(|(_, after)| after),
                Function::SubstringAfterLast => text.rsplit_once(separator).map(|(_, after)| after),
                Function::SubstringBefore => text.split_once(separator).map(|(before, _)| before),
                _ => text.rsplit_once(separator).map(|(before, _)| before),
            };
            found.unwrap_or("")
        })
    }

    /// A part of a string: borrowed where the string is.
    fn part<'a>(
        &self,
        evaluator: &mut Evaluator<'a, '_>,
        text: Cow<'a, str>,
        cut: impl for<'t> Fn(&'t str) -> &'t str,
    ) -> Outcome<Value<'a>> {
        evaluator.budget.read(self.at, text.len())?;
        Ok(Value::String(match text {
            Cow::Borrowed(text) => Cow::Borrowed(cut(text)),
            Cow::Owned(text) => {
                let part = cut(&text);
                evaluator.budget.make(self.at, part.len())?;
                Cow::Owned(part.to_owned())
            }
        }))
    }
}

/// Version 4, from random bits.
fn uuid(random: u128) -> String {
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
