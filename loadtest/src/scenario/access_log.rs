//! A mix from what was really asked: the gateway's access log, as JSON.
//!
//! Method, path and the size of the body are in the log; headers, query strings and the bodies themselves are not, since
//! they may hold secrets. So the mix has the shape of the traffic, not its content.

use std::{collections::HashMap, io::BufRead};

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{REQUESTS_MAX, Request};

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "http.request.method")]
    method: String,
    #[serde(rename = "url.path")]
    path: String,
    #[serde(default)]
    bytes_in: u64,
}

#[derive(Default)]
struct Seen {
    count: u64,
    bytes: u64,
}

/// What a log gave.
pub struct Derived {
    pub requests: Vec<Request>,
    /// Lines that are no JSON of the access log.
    pub skipped: u64,
    /// Lines of requests beyond the limit of distinct ones; the most frequent are kept.
    pub rare: u64,
}

/// # Errors
/// The log cannot be read, or holds no request.
pub fn from_access_log(log: impl BufRead) -> Result<Derived> {
    let mut seen: HashMap<(String, String), Seen> = HashMap::new();
    let mut skipped = 0;
    for line in log.lines() {
        match serde_json::from_str::<Line>(&line?) {
            Ok(line) if can_be_sent(&line) => {
                let seen = seen.entry((line.method, line.path)).or_default();
                seen.count += 1;
                seen.bytes += line.bytes_in;
            }
            _ => skipped += 1,
        }
    }
    ensure!(!seen.is_empty(), "the access log holds no request: is it in JSON?");
    let mut requests: Vec<Request> = seen
        .into_iter()
        .map(|((method, path), seen)| {
            let body_bytes = Some((seen.bytes / seen.count) as usize).filter(|&bytes| bytes > 0);
            Request { weight: seen.count as f64, method, path, body_bytes, ..Request::default() }
        })
        .collect();
    // The order of a hash map is random, and two runs over one log should send the same.
    requests
        .sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| (&a.path, &a.method).cmp(&(&b.path, &b.method))));
    let rare = requests.iter().skip(REQUESTS_MAX).map(|request| request.weight as u64).sum();
    requests.truncate(REQUESTS_MAX);
    Ok(Derived { requests, skipped, rare })
}

/// An absolute or asterisk form has no place behind a path of ours; a refused request may hold anything.
fn can_be_sent(line: &Line) -> bool {
    let is_method = !line.method.is_empty() && line.method.bytes().all(|b| b.is_ascii_uppercase());
    is_method && line.path.starts_with('/') && line.path.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_weights_and_mean_bodies() {
        let log = r#"{"http.request.method":"GET","url.path":"/a","bytes_in":0,"core":1}
not json
{"http.request.method":"POST","url.path":"/b","bytes_in":10}
{"http.request.method":"POST","url.path":"/b","bytes_in":30}
{"http.request.method":"OPTIONS","url.path":"*","bytes_in":0}
"#;
        let derived = from_access_log(log.as_bytes()).expect("two requests");
        assert_eq!((derived.skipped, derived.rare), (2, 0));
        let found: Vec<_> =
            derived.requests.iter().map(|r| (r.method.as_str(), r.path.as_str(), r.weight, r.body_bytes)).collect();
        assert_eq!(found, [("POST", "/b", 2.0, Some(20)), ("GET", "/a", 1.0, None)]);
        assert!(from_access_log(&b"text"[..]).is_err());
    }
}
