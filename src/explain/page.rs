//! An explanation over HTTP: the question as a query or as JSON, the answer as text or JSON.
//!
//! Who asks is whoever reaches the management address. So a question names no file, secrets stay hidden, and what the running
//! gateway has fetched is looked at without causing another fetch.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::Deserialize;
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
    /// Its length is what counts.
    data: Option<String>,
    request_target: Option<String>,
    client: Option<IpAddr>,
    at: Option<String>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lines {
    One(String),
    Several(Vec<String>),
}

impl Default for Lines {
    fn default() -> Self {
        Self::Several(Vec::new())
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
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// What the running gateway would do.
    ///
    /// # Errors
    /// The question is not one that could be sent.
    pub fn answer(self, snapshot: Arc<Snapshot>, published: Arc<Published>) -> Result<Page, String> {
        let Self { method, url, header, data, request_target, client, at, format } = self;
        let headers = match header {
            Lines::One(line) => vec![line],
            Lines::Several(lines) => lines,
        };
        let body_bytes = data.map(|data| data.len() as u64);
        let client = client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut question = Question::new(&method, &url, request_target.as_deref(), &headers, body_bytes, client)?;
        question.at = at.as_deref().map(time::parse).transpose()?;
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
        let lines = |asked: Asked| match asked.header {
            Lines::One(line) => vec![line],
            Lines::Several(lines) => lines,
        };
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
        for wrong in ["", "[]", "{}", r#"{"method": 1, "url": "http://a/"}"#] {
            assert!(Asked::from_json(wrong.as_bytes()).is_err(), "{wrong}");
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
