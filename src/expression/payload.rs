//! A body as expressions see it: JSON and XML as what they say, anything else as text.

use super::{data::Datum, json, value::Value, xml};

/// Values in values of a payload.
pub const DEPTH_MAX: usize = 64;
/// Values of a payload altogether. It costs about 100 bytes for each, however small it is as text.
pub const NODES_MAX: usize = 131_072;

/// What a payload may be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Xml,
}

impl Format {
    /// By the media type alone; `application/problem+json` is JSON. None where there is no content type.
    pub fn of(content_type: Option<&str>) -> Option<Self> {
        let media_type = content_type?.split(';').next().unwrap_or_default().trim();
        let (_, subtype) = media_type.split_once('/').unwrap_or(("", media_type));
        let last = subtype.rsplit('+').next().unwrap_or(subtype);
        Some(if last.eq_ignore_ascii_case("json") {
            Self::Json
        } else if last.eq_ignore_ascii_case("xml") {
            Self::Xml
        } else {
            Self::Text
        })
    }
}

/// A parsed body and its text.
#[derive(Clone, Debug)]
pub struct Payload {
    text: String,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Text,
    Data(Datum),
}

impl Payload {
    /// Reads a body by its content type; without one, as the first of the formats that it is well-formed in.
    ///
    /// It is null where it is empty, malformed, no UTF-8, too deep or too large, or in a format that is not expected.
    pub fn parse(body: Vec<u8>, content_type: Option<&str>, formats: &[Format]) -> Self {
        let nothing = Content::Data(Datum::Null);
        let Ok(text) = String::from_utf8(body) else { return Self { text: String::new(), content: nothing } };
        let content = match Format::of(content_type) {
            _ if text.is_empty() => None,
            Some(format) if formats.contains(&format) => read(&text, format),
            Some(_) => None,
            None => formats.iter().find_map(|format| read(&text, *format)),
        };
        Self { text, content: content.unwrap_or(nothing) }
    }

    /// As it was received.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says. Lists and objects still know the text.
    pub fn value(&self) -> Value<'_> {
        match &self.content {
            Content::Text => Value::String(self.text.as_str().into()),
            Content::Data(Datum::List(_) | Datum::Object(_) | Datum::Element(_)) => Value::Payload(self),
            Content::Data(scalar) => Value::from(scalar),
        }
    }

    /// As [`Self::value`], without the text.
    pub(super) fn parsed(&self) -> Value<'_> {
        match &self.content {
            Content::Text => Value::String(self.text.as_str().into()),
            Content::Data(datum) => Value::from(datum),
        }
    }
}

fn read(text: &str, format: Format) -> Option<Content> {
    match format {
        Format::Text => Some(Content::Text),
        Format::Json => json::parse(text).map(Content::Data),
        Format::Xml => xml::parse(text).map(|document| Content::Data(Datum::Element(Box::new(document)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_follow_the_content_type() {
        for (content_type, expected) in [
            ("application/json", Format::Json),
            ("Application/JSON; charset=utf-8", Format::Json),
            ("application/problem+json", Format::Json),
            ("text/xml", Format::Xml),
            ("application/soap+xml;charset=utf-8", Format::Xml),
            ("text/plain", Format::Text),
            ("application/x-www-form-urlencoded", Format::Text),
            ("application/jsonp", Format::Text),
            ("", Format::Text),
            ("json", Format::Json),
        ] {
            assert_eq!(Format::of(Some(content_type)), Some(expected), "{content_type}");
        }
        assert_eq!(Format::of(None), None);
    }

    #[test]
    fn without_a_content_type_the_first_that_parses() {
        let root = |body: &str, formats: &[Format]| Payload::parse(body.into(), None, formats).content;
        assert!(matches!(root("{}", &[Format::Json, Format::Xml, Format::Text]), Content::Data(Datum::Object(_))));
        assert!(matches!(root("<a/>", &[Format::Json, Format::Xml, Format::Text]), Content::Data(Datum::Element(_))));
        assert!(matches!(root("a", &[Format::Json, Format::Xml, Format::Text]), Content::Text));
        assert!(matches!(root("{}", &[Format::Text, Format::Json]), Content::Text));
        assert!(matches!(root("{", &[Format::Json]), Content::Data(Datum::Null)));
    }
}
