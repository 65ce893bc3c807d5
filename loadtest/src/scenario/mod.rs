//! What is sent: a file, an access log or the command line becomes a list of requests, written out once, with weights.
//!
//! Nothing is formatted while the load runs. A generator only picks one of the prepared texts.

mod access_log;
mod file;

use std::{
    collections::BTreeMap,
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

pub use self::{
    access_log::from_access_log,
    file::{Scenario, parse_duration, read},
};
use crate::{hash::Hash, http2, schedule::Random};

/// A body is kept once for each request of the mix.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests of a mix; they are all in memory, written out.
pub const REQUESTS_MAX: usize = 10_000;

/// Where to.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub is_https: bool,
    /// As in the URL, for the Host header.
    pub authority: String,
    /// In front of every path of a scenario; a lone `/` is nothing.
    pub path: String,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> Result<Self> {
        let (is_https, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => bail!("{url}: {scheme} is not spoken, only http and https"),
            None => (false, url),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        ensure!(!authority.is_empty() && !authority.contains('@'), "{url}: not http[s]://HOST[:PORT][/PATH]");
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let usual = if is_https { 443 } else { 80 };
        let with_port = if has_port { authority.to_owned() } else { format!("{authority}:{usual}") };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("{url}: cannot resolve {authority}"))?
            .next()
            .with_context(|| format!("{url}: {authority} has no address"))?;
        Ok(Self { address, is_https, authority: authority.to_owned(), path: path.to_owned() })
    }
}

impl Target {
    pub fn host(&self) -> &str {
        match self.authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => &self.authority,
        }
    }
}

/// How requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Http1 { keep_alive: bool },
    Http2,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}{}", if self.is_https { "s" } else { "" }, self.authority, self.path)
    }
}

/// One request of a mix, as written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// How often, beside the others.
    #[serde(default = "one")]
    pub weight: f64,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default)]
    pub path: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    /// A body of so many `x`, instead of `body`.
    pub body_bytes: Option<usize>,
}

fn one() -> f64 {
    1.0
}

fn get() -> String {
    "GET".to_owned()
}

impl Default for Request {
    fn default() -> Self {
        let headers = BTreeMap::new();
        Self { weight: 1.0, method: get(), path: String::new(), headers, body: None, body_bytes: None }
    }
}

/// The requests as bytes, and how often each is picked.
pub struct Mix {
    prepared: Vec<Prepared>,
    /// Sums of the weights up to each request; empty for a single one, and where they take turns.
    sums: Vec<f64>,
}

pub struct Prepared {
    /// All of it; of HTTP/2 the header block.
    pub bytes: Vec<u8>,
    /// Of HTTP/2 only.
    pub body: Arc<[u8]>,
    pub is_head: bool,
}

impl Mix {
    /// # Errors
    /// A request that cannot be written, with its place in the list.
    pub fn prepare(
        target: &Target,
        requests: &[Request],
        common: &BTreeMap<String, String>,
        form: Form,
    ) -> Result<Self> {
        ensure!(!requests.is_empty(), "there is no request to send");
        ensure!(requests.len() <= REQUESTS_MAX, "{} requests are more than {REQUESTS_MAX}", requests.len());
        let mut sum = 0.0;
        let mut mix = Self { prepared: Vec::new(), sums: Vec::new() };
        for (index, request) in requests.iter().enumerate() {
            let place = || format!("requests[{index}]");
            ensure!(request.weight.is_finite() && request.weight > 0.0, "{}.weight: must be above 0", place());
            sum += request.weight;
            mix.sums.push(sum);
            mix.prepared.push(request.render(target, common, form).with_context(place)?);
        }
        if mix.prepared.len() == 1 {
            mix.sums.clear();
        }
        Ok(mix)
    }

    /// The same requests one after the other in a circle, whatever their weights: each comes again only when all others
    /// have been sent.
    pub fn in_turn(mut self) -> Self {
        self.sums.clear();
        self
    }

    /// `sent`: how many were picked before.
    pub fn pick(&self, random: &mut Random, sent: usize) -> usize {
        let Some(&sum) = self.sums.last() else { return sent % self.prepared.len() };
        let at = random.fraction() * sum;
        self.sums.partition_point(|&upper| upper <= at).min(self.prepared.len() - 1)
    }

    pub fn request(&self, index: usize) -> &Prepared {
        &self.prepared[index]
    }

    pub fn len(&self) -> usize {
        self.prepared.len()
    }

    /// The same for the same requests and weights: two results with one hash are of one load.
    pub fn hash(&self) -> String {
        let weights = self.sums.iter().map(|sum| sum.to_bits().to_be_bytes().to_vec());
        let texts = self.prepared.iter().map(|prepared| [&prepared.bytes[..], &prepared.body].concat());
        texts.chain(weights).fold(Hash::new(), |hash, part| hash.part(&part)).text()
    }
}

impl Request {
    fn render(&self, target: &Target, common: &BTreeMap<String, String>, form: Form) -> Result<Prepared> {
        ensure!(is_token(&self.method), "method: not a token");
        let path = format!("{}{}", target.path.trim_end_matches('/'), self.path);
        let path = if self.path.is_empty() { target.path.as_str() } else { &path };
        let path = if path.is_empty() { "/" } else { path };
        ensure!(path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()), "path: {path:?} is no path");
        ensure!(self.body.is_none() || self.body_bytes.is_none(), "body and bodyBytes: only one of them");
        let bytes = self.body_bytes.unwrap_or(0);
        ensure!(bytes <= BODY_BYTES_MAX, "bodyBytes: at most {BODY_BYTES_MAX}");
        let body = self.body.clone().unwrap_or_else(|| "x".repeat(bytes));

        let length = body.len().to_string();
        let mut headers: BTreeMap<String, &str> = BTreeMap::new();
        for (name, value) in common.iter().chain(&self.headers) {
            let lower = name.to_ascii_lowercase();
            ensure!(is_token(name), "headers: {name:?} is not a header name");
            ensure!(value.bytes().all(|b| b == b'\t' || b >= b' ' && b != 127), "headers.{name}: a control character");
            let ours = ["content-length", "transfer-encoding", "connection"].contains(&lower.as_str());
            ensure!(!ours, "headers.{name}: written by the generator itself");
            headers.insert(lower, value);
        }
        let host = headers.remove("host").unwrap_or(&target.authority);
        if !body.is_empty() || ["POST", "PUT", "PATCH"].contains(&self.method.as_str()) {
            headers.insert("content-length".into(), &length);
        }
        let is_head = self.method == "HEAD";
        let Form::Http1 { keep_alive } = form else {
            let fields = headers.iter().map(|(name, value)| (name.as_str(), *value));
            let bytes = http2::request_block(&self.method, target.is_https, host, path, fields);
            return Ok(Prepared { bytes, body: body.into_bytes().into(), is_head });
        };
        let mut text = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", self.method);
        if !keep_alive {
            headers.insert("connection".into(), "close");
        }
        for (name, value) in &headers {
            text += &format!("{name}: {value}\r\n");
        }
        Ok(Prepared { bytes: (text + "\r\n" + &body).into_bytes(), body: Arc::default(), is_head })
    }
}

/// Headers of the command line, `Name: value`.
///
/// # Errors
/// One has no colon.
pub fn parse_headers(headers: &[String]) -> Result<BTreeMap<String, String>> {
    let parse = |header: &String| {
        let (name, value) =
            header.split_once(':').with_context(|| format!("--header {header:?}: not `Name: value`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    headers.iter().map(parse).collect()
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        "http://127.0.0.1:8081/shop".parse().expect("a URL")
    }

    fn text(request: &Request, keep_alive: bool) -> Result<String> {
        let common = BTreeMap::from([("Accept".to_owned(), "*/*".to_owned())]);
        let mix = Mix::prepare(&target(), std::slice::from_ref(request), &common, Form::Http1 { keep_alive })?;
        Ok(String::from_utf8(mix.request(0).bytes.clone())?)
    }

    #[test]
    fn a_request_is_written_once_as_it_will_be_sent() {
        let get = Request { path: "/a?b=c".into(), ..Request::default() };
        let expected = "GET /shop/a?b=c HTTP/1.1\r\nhost: 127.0.0.1:8081\r\naccept: */*\r\n\r\n";
        assert_eq!(text(&get, true).expect("well formed"), expected);
        let headers = BTreeMap::from([("Host".to_owned(), "x".to_owned())]);
        let post = Request { method: "POST".into(), headers, body_bytes: Some(3), ..Request::default() };
        let expected =
            "POST /shop HTTP/1.1\r\nhost: x\r\naccept: */*\r\nconnection: close\r\ncontent-length: 3\r\n\r\nxxx";
        assert_eq!(text(&post, false).expect("well formed"), expected);
    }

    #[test]
    fn what_would_break_the_message_is_refused_with_its_place() {
        let refused = |request: Request| format!("{:#}", text(&request, true).expect_err("must be refused"));
        assert_eq!(refused(Request { method: "G T".into(), ..Request::default() }), "requests[0]: method: not a token");
        assert!(refused(Request { path: "/a b".into(), ..Request::default() }).contains("is no path"));
        assert_eq!(refused(Request { weight: 0.0, ..Request::default() }), "requests[0].weight: must be above 0");
        let headers = BTreeMap::from([("x".to_owned(), "1\r\ny: 2".to_owned())]);
        assert!(refused(Request { headers, ..Request::default() }).ends_with("a control character"));
        let headers = BTreeMap::from([("Connection".to_owned(), "close".to_owned())]);
        assert!(refused(Request { headers, ..Request::default() }).ends_with("written by the generator itself"));
    }

    #[test]
    fn requests_are_picked_by_weight() {
        let weighted = |weight| Request { weight, ..Request::default() };
        let mix =
            Mix::prepare(&target(), &[weighted(3.0), weighted(1.0)], &BTreeMap::new(), Form::Http2).expect("a mix");
        let mut random = Random::new(3);
        let first = (0..10_000).filter(|&sent| mix.pick(&mut random, sent) == 0).count();
        assert!((7_300..7_700).contains(&first), "{first}");
        let mix = mix.in_turn();
        assert_eq!([0, 1, 2, 3].map(|sent| mix.pick(&mut random, sent)), [0, 1, 0, 1]);
    }

    #[test]
    fn a_scheme_decides_about_tls_and_the_port() {
        let target = |url: &str| url.parse::<Target>().expect("a URL");
        let (plain, tls) = (target("http://127.0.0.1/x"), target("https://127.0.0.1/x"));
        assert_eq!((plain.address.port(), plain.is_https, plain.host()), (80, false, "127.0.0.1"));
        assert_eq!((tls.address.port(), tls.is_https, tls.to_string().as_str()), (443, true, "https://127.0.0.1/x"));
        assert_eq!(target("[::1]:8443").host(), "[::1]");
        let refused = "gopher://x".parse::<Target>().expect_err("must be refused").to_string();
        assert_eq!(refused, "gopher://x: gopher is not spoken, only http and https");
    }

    #[test]
    fn a_request_of_http2_has_its_body_apart() {
        let post = Request { method: "POST".into(), body_bytes: Some(3), ..Request::default() };
        let mix = Mix::prepare(&target(), &[post], &BTreeMap::new(), Form::Http2).expect("a mix");
        let request = mix.request(0);
        assert_eq!(&request.body[..], b"xxx");
        assert!(request.bytes.starts_with(&[0x83, 0x86, 1]) && request.bytes.ends_with(b"content-length\x013"));
    }
}
