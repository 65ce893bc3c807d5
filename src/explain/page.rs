//! An explanation over HTTP: the question as a query or as JSON, the answer as text or JSON.
//!
//! Who asks is whoever reaches the management address. So a question names no file, secrets stay hidden, and what the running
//! gateway has fetched is looked at without causing another fetch.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{Question, Secrets, explain, text, time};
use crate::{config::snapshot::Snapshot, policies::wants::Published};

/// Named as the flags of the command line.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Asked {
    method: String,
    url: String,
    #[serde(default)]
    header: Lines,
    data: Option<String>,
    request_target: Option<String>,
    client: Option<IpAddr>,
    at: Option<Time>,
    #[serde(default)]
    format: Format,
}

/// One string or a list of strings.
#[derive(Default)]
struct Lines(Vec<String>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LinesVisitor).map(Self)
    }
}

struct LinesVisitor;

impl<'de> Visitor<'de> for LinesVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header `name: value`, or a list of such")
    }

    fn visit_str<E>(self, line: &str) -> Result<Self::Value, E> {
        Ok(vec![line.to_owned()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut lines = Vec::new();
        while let Some(line) = list.next_element()? {
            lines.push(line);
        }
        Ok(lines)
    }
}

/// As it was written, which a number also is.
struct Time(String);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor).map(Self)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time such as `2026-11-28T21:30:00Z`, or whole seconds since 1970")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E>(self, seconds: u64) -> Result<String, E> {
        Ok(seconds.to_string())
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Human,
    Json,
}

pub struct Page {
    pub content_type: &'static str,
    pub text: String,
}

impl Asked {
    /// The pairs of a query, decoded; `header` may be there several times.
    ///
    /// # Errors
    /// Why it is no question.
    pub fn from_pairs(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let (mut fields, mut header) = (Map::new(), Vec::new());
        for (name, value) in pairs {
            if name == "header" {
                header.push(value.into());
            } else if fields.insert(name.clone(), value.into()).is_some() {
                return Err(format!("`{name}` is written twice"));
            }
        }
        fields.insert("header".to_owned(), Value::Array(header));
        serde_json::from_value(fields.into()).map_err(|error| error.to_string())
    }

    /// A JSON object; `header` is a string or a list of strings.
    ///
    /// # Errors
    /// Why it is no question.
    pub fn from_json(body: &[u8]) -> Result<Self, String> {
        // A list would be taken for the members in their order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err("a question is a JSON object".to_owned());
        }
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// What the running gateway would do.
    ///
    /// # Errors
    /// The question is not one that could be sent.
    pub fn answer(self, snapshot: Arc<Snapshot>, published: Arc<Published>) -> Result<Page, String> {
        let Self { method, url, header, data, request_target, client, at, format } = self;
        let body = data.map(String::into_bytes);
        let client = client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut question = Question::new(&method, &url, request_target.as_deref(), &header.0, body, client)?;
        question.at = at.map(|at| time::parse(&at.0)).transpose()?;
        question.published = Some(published);
        let told = explain(snapshot, &question, Secrets::Hidden)?;
        Ok(match format {
            Format::Human => Page { content_type: "text/plain; charset=utf-8", text: text::write(&told) },
            Format::Json => Page {
                content_type: "application/json",
                text: serde_json::to_string_pretty(&told).expect("names and texts are JSON") + "\n",
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_comes_in_two_forms() {
        let pairs = |pairs: &[(&str, &str)]| {
            Asked::from_pairs(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        let lines = |asked: Asked| asked.header.0;
        let asked = pairs(&[("method", "GET"), ("url", "http://a/"), ("header", "a: 1"), ("header", "b: 2")]);
        assert_eq!(lines(asked.expect("a question")), ["a: 1", "b: 2"]);
        let asked = Asked::from_json(br#"{"method": "GET", "url": "http://a/", "header": "a: 1", "at": "0"}"#);
        assert_eq!(lines(asked.expect("a question")), ["a: 1"]);
        for wrong in [
            &[("method", "GET")][..],
            &[("method", "GET"), ("url", "http://a/"), ("url", "http://b/")],
            &[("method", "GET"), ("url", "http://a/"), ("show-secrets", "true")],
            &[("method", "GET"), ("url", "http://a/"), ("client", "nobody")],
        ] {
            assert!(pairs(wrong).is_err(), "{wrong:?}");
        }
        for at in [r#""100""#, "100"] {
            let asked = Asked::from_json(format!(r#"{{"method": "GET", "url": "http://a/", "at": {at}}}"#).as_bytes());
            assert_eq!(asked.ok().and_then(|asked| asked.at).map(|at| at.0).as_deref(), Some("100"));
        }
    }

    #[test]
    fn what_is_no_question_is_refused_in_plain_words() {
        let why = |json: &str| Asked::from_json(json.as_bytes()).err();
        let member = |json: &str| why(&format!(r#"{{"method": "GET", "url": "http://a/", {json}}}"#));
        let object = "a question is a JSON object";
        let list = r#" ["GET", "http://a/", [], null, null, null, null, "json"]"#;
        let time = "expected a time such as `2026-11-28T21:30:00Z`, or whole seconds since 1970";
        for (told, wanted) in [
            (why(""), object.to_owned()),
            (why("[]"), object.to_owned()),
            (why(list), object.to_owned()),
            (why("{}"), "missing field `method`".to_owned()),
            (why(r#"{"method": 1}"#), "invalid type: integer `1`, expected a string".to_owned()),
            (member(r#""header": 1"#), "expected a header `name: value`, or a list of such".to_owned()),
            (member(r#""header": ["a: 1", 2]"#), "invalid type: integer `2`, expected a string".to_owned()),
            (member(r#""at": -1"#), format!("invalid type: integer `-1`, {time}")),
            (member(r#""at": 1.5"#), format!("invalid type: floating point `1.5`, {time}")),
            (member(r#""url": "http://b/""#), "duplicate field `url`".to_owned()),
        ] {
            let told = told.expect(&wanted);
            assert!(told.contains(&wanted) && !told.contains("struct") && !told.contains("enum"), "{told}");
        }
    }

    #[test]
    fn a_question_that_cannot_be_sent_has_no_answer() {
        let ask = |json: &str| {
            let asked = Asked::from_json(json.as_bytes()).expect("a question");
            asked.answer(Arc::new(Snapshot::empty()), Arc::default()).map(|page| page.text)
        };
        assert!(ask(r#"{"method": "GET", "url": "/x"}"#).is_err());
        assert!(ask(r#"{"method": "GET", "url": "http://a/", "at": "soon"}"#).is_err());
        assert!(ask(r#"{"method": "GET", "url": "http://a/", "header": "a: 1\r\nb: 2"}"#).is_err());
        let nothing = ask(r#"{"method": "GET", "url": "http://a/"}"#).expect("an answer");
        assert!(nothing.ends_with("=>        nothing listens on port 80\n"), "{nothing}");
    }
}
