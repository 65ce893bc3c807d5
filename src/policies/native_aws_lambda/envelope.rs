//! A request as a function is told of it, and what it answers: JSON in the form that Envoy's filter has for both.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use crate::{
    http::head::Fields,
    policies::{Exchange, Side, asking::object, headers::is_gateways},
};

#[derive(Serialize)]
struct Told {
    raw_path: String,
    method: String,
    headers: BTreeMap<String, String>,
    query_string_parameters: BTreeMap<String, String>,
    body: String,
    is_base64_encoded: bool,
}

/// What the function is told of this request. Of headers that come more than once the values are joined, of parameters the last
/// counts; both are as they were sent.
pub fn told(exchange: &Exchange<'_>) -> Vec<u8> {
    let (_, path, query) = exchange.upstream_line().unwrap_or((b"", exchange.path(), exchange.query()));
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for field in exchange.request_fields().iter().filter(|field| !is_gateways(field.name)) {
        let value = text(field.value);
        let name = text(field.name).to_ascii_lowercase();
        headers.entry(name).and_modify(|values| *values = format!("{values},{value}")).or_insert(value);
    }
    let pairs = query.strip_prefix(b"?").unwrap_or(query).split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let pair = |pair: &[u8]| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=').map(text);
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    };
    let bytes = exchange.body(Side::Request).map(crate::policies::Body::to_vec).unwrap_or_default();
    let (body, is_base64_encoded) = match String::from_utf8(bytes) {
        Ok(body) if body.is_empty() || is_text(exchange.request_fields()) => (body, false),
        Ok(body) => (BASE64.encode(body), true),
        Err(error) => (BASE64.encode(error.into_bytes()), true),
    };
    let told = Told {
        raw_path: text(path) + &text(query),
        method: text(exchange.method()),
        headers,
        query_string_parameters: pairs.map(pair).collect(),
        body,
        is_base64_encoded,
    };
    serde_json::to_vec(&told).expect("names of maps are texts")
}

/// A body of no type counts as text.
fn is_text(fields: &Fields) -> bool {
    let Some(value) = fields.get(b"content-type") else { return true };
    let media = text(value.split(|byte| *byte == b';').next().unwrap_or_default()).trim().to_ascii_lowercase();
    media.starts_with("text/") || matches!(&*media, "application/json" | "application/xml" | "application/javascript")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the client is answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answered {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub cookies: Vec<String>,
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default, alias = "statusCode")]
    status_code: Option<u16>,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default, alias = "isBase64Encoded")]
    is_base64_encoded: Option<bool>,
}

/// `None`: it is no answer.
pub fn answered(json: &[u8]) -> Option<Answered> {
    let Written { status_code, headers, cookies, body, is_base64_encoded } = object(json)?;
    let body = body.unwrap_or_default();
    Some(Answered {
        status: status_code.filter(|status| *status != 0).unwrap_or(200),
        headers: headers.unwrap_or_default(),
        cookies: cookies.unwrap_or_default(),
        body: match is_base64_encoded.unwrap_or_default() {
            true => BASE64.decode(body).ok()?,
            false => body.into_bytes(),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        http::head::BodyLength,
        policies::{Body, testing::Trial},
    };

    fn told(lines: &[(&str, &str)], query: &str, body: &[u8]) -> Value {
        let mut trial = Trial::new("PUT", "/theirs", lines);
        trial.request.query = query.into();
        if !body.is_empty() {
            trial.request.body = BodyLength::Length(body.len() as u64);
            trial.bodies.request = Body::whole(body);
        }
        let (json, _) = trial.with_upstream("a.test", b"/p%20q", |exchange| super::told(exchange));
        serde_json::from_slice(&json).expect("JSON")
    }

    #[test]
    fn a_request_is_told_with_all_that_it_says() {
        let lines = [("Accept", "a"), ("host", "x"), ("content-length", "3"), ("accept", "b"), ("X-Raw", "é")];
        let expected = json!({
            "raw_path": "/p%20q?a=1&b&a=2%20&c=d=e", "method": "PUT", "headers": {"accept": "a,b", "x-raw": "é"},
            "query_string_parameters": {"a": "2%20", "b": "", "c": "d=e"}, "body": "b\"ö", "is_base64_encoded": false,
        });
        assert_eq!(told(&lines, "?a=1&b&a=2%20&c=d=e", "b\"ö".as_bytes()), expected);
    }

    #[test]
    fn what_is_no_text_is_encoded() {
        let body = |content_type: &str, body: &[u8]| {
            let lines = [("content-type", content_type)];
            let told = told(&lines[..usize::from(!content_type.is_empty())], "", body);
            (told["body"].as_str().expect("text").to_owned(), told["is_base64_encoded"] == true)
        };
        for text in ["", "text/csv", "TEXT/plain; charset=utf-8", "application/json", "application/xml ; a=b"] {
            assert_eq!(body(text, b"hi"), ("hi".to_owned(), false), "{text}");
            assert_eq!(body(text, b"\xff"), ("/w==".to_owned(), true), "{text}");
        }
        for other in ["application/octet-stream", "image/png", "application/json+x"] {
            assert_eq!(body(other, b"hi"), ("aGk=".to_owned(), true), "{other}");
        }
        assert_eq!(body("image/png", b""), (String::new(), false));
    }

    #[test]
    fn an_answer_is_read_in_either_spelling_and_nothing_else_is_one() {
        let read = |json: &str| {
            answered(json.as_bytes()).map(|answered| {
                (
                    answered.status,
                    answered.headers.len(),
                    answered.cookies,
                    String::from_utf8_lossy(&answered.body).into_owned(),
                )
            })
        };
        let answer = |status, headers, cookies: &[&str], body: &str| {
            Some((
                status,
                headers,
                cookies.iter().map(|cookie| (*cookie).to_owned()).collect::<Vec<_>>(),
                body.to_owned(),
            ))
        };
        for (json, expected) in [
            ("{}", answer(200, 0, &[], "")),
            (r#"{"status_code": 201, "body": "a", "other": [[]]}"#, answer(201, 0, &[], "a")),
            (r#"{"statusCode": 204, "headers": {"a": "b"}, "cookies": ["c=d"]}"#, answer(204, 1, &["c=d"], "")),
            (r#"{"status_code": 0, "headers": null, "cookies": null, "body": null}"#, answer(200, 0, &[], "")),
            (r#"{"body": "aGk=", "is_base64_encoded": true}"#, answer(200, 0, &[], "hi")),
            (r#"{"body": "aGk=", "isBase64Encoded": true}"#, answer(200, 0, &[], "hi")),
            (r#"{"body": "!", "is_base64_encoded": true}"#, None),
            (r#"{"status_code": "200"}"#, None),
            (r#"{"status_code": 70000}"#, None),
            (r#"{"status_code": 200, "statusCode": 500}"#, None),
            (r#"{"headers": {"a": 1}}"#, None),
            (r#"[200]"#, None),
            (r#""text""#, None),
            ("", None),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
        assert_eq!(answered(format!(r#"{{"headers": {}1"#, r#"{"a":"#.repeat(10_000)).as_bytes()), None);
    }
}
