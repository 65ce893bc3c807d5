//! What every peer is asked to carry.
//!
//! Each has the number that it was first known by and a name; both work on the command line. Those with policies have
//! names only, and stand in [`policies`].

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use super::policies;
use crate::{
    protocol::Protocol,
    scenario::{Mix, Request, Target},
    tls,
};

/// One way of using a proxy.
#[derive(Clone)]
pub struct Workload {
    pub name: &'static str,
    pub title: String,
    /// Sent one after the other, in a circle.
    pub requests: Vec<Request>,
    pub headers: BTreeMap<String, String>,
    pub connections: usize,
    pub keep_alive: bool,
    /// Of the proxy's clients; its upstream is always spoken to without.
    pub tls: bool,
    /// HTTP/2, with so many streams on each connection.
    pub streams: Option<usize>,
    /// Of the open loop, the same for all.
    pub rate: f64,
    /// Why a relay is no floor of it.
    pub no_floor: Option<&'static str>,
}

/// What a reader may ask for: a load, connections that do nothing, or a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Its place in [`all`].
    Load(usize),
    Idle,
    IdleTls,
    /// Its name among [`policies::NAMES`].
    Policy(&'static str),
}

/// A number, a name, or the beginning of names with a `*` behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choices(pub Vec<Choice>);

const LOADS: [(&str, &str); 7] = [
    ("1", "keep-alive"),
    ("2", "connect"),
    ("3", "post"),
    ("4", "download"),
    ("6", "tls"),
    ("7", "handshake"),
    ("8", "h2"),
];

impl FromStr for Choices {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_meant = |number: &str, name: &str| match text.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => text == name || text == number,
        };
        let meant = known().filter(|(number, name, _)| is_meant(number, name));
        let choices: Vec<Choice> = meant.map(|(_, _, choice)| choice).collect();
        ensure!(!choices.is_empty(), "not one of {}", known_names());
        Ok(Self(choices))
    }
}

/// Everything there is: its number, which policies have none of, and its name.
fn known() -> impl Iterator<Item = (&'static str, &'static str, Choice)> {
    let loads = LOADS.iter().enumerate().map(|(place, (number, name))| (*number, *name, Choice::Load(place)));
    let idle = [("5", "idle", Choice::Idle), ("12", "idle-tls", Choice::IdleTls)];
    let policies = policies::NAMES.iter().map(|name| (*name, *name, Choice::Policy(name)));
    loads.chain(idle).chain(policies)
}

fn known_names() -> String {
    let written =
        known().map(|(number, name, _)| if number == name { name.to_owned() } else { format!("{number} {name}") });
    written.collect::<Vec<_>>().join(", ")
}

/// Headers as a kind of client sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HeaderSet {
    /// None but the host.
    Bare,
    /// A dozen, with a cookie: 900 bytes.
    Browser,
    /// A bearer token and a trace context: 900 bytes.
    Api,
}

impl HeaderSet {
    pub fn headers(self) -> BTreeMap<String, String> {
        let cookie = format!("session={}; theme=dark; consent=analytics%3Dfalse", "4f1d9c07".repeat(32));
        let token =
            format!("Bearer {}.{}.{}", "eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJhZGEi".repeat(20), "sIgnAtUr".repeat(43));
        let list: &[(&str, &str)] = match self {
            Self::Bare => &[],
            Self::Browser => &[
                (
                    "user-agent",
                    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                ),
                ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
                ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
                ("accept-encoding", "gzip, deflate, br, zstd"),
                ("cache-control", "max-age=0"),
                ("referer", "https://shop.example/catalogue/summer?page=2"),
                ("sec-ch-ua", "\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\""),
                ("sec-ch-ua-mobile", "?0"),
                ("sec-ch-ua-platform", "\"Linux\""),
                ("sec-fetch-dest", "document"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-site", "same-origin"),
                ("cookie", &cookie),
            ],
            Self::Api => &[
                ("user-agent", "orders-client/3.2"),
                ("accept", "application/json"),
                ("authorization", &token),
                ("x-request-id", "7c9f1d52-0b1e-4c6a-9d52-3f5ad1c7e001"),
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ("tracestate", "vendor=t61rcWkgMzE"),
            ],
        };
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

/// What may differ from the usual, to see whether the order of the peers holds.
#[derive(Default)]
pub struct Variation {
    pub connections: Option<usize>,
    pub body_bytes: Option<usize>,
    pub headers: BTreeMap<String, String>,
    pub rate: Option<f64>,
    /// On each connection of HTTP/2.
    pub streams: Option<usize>,
}

const STREAMS: usize = 8;
/// Connections of HTTP/2: with their streams as many requests under way as elsewhere.
const CONNECTIONS_HTTP2: usize = 8;

/// The loads, in the order of [`LOADS`].
pub fn all(variation: &Variation) -> Vec<Workload> {
    let connections = variation.connections.unwrap_or(64);
    let small = variation.body_bytes.unwrap_or(1024);
    let upload = variation.body_bytes.unwrap_or(16 * 1024);
    let large = variation.body_bytes.unwrap_or(1024 * 1024);
    let streams = variation.streams.unwrap_or(STREAMS);
    let get = |bytes: usize| Request { path: format!("/bytes/{bytes}"), ..Request::default() };
    let post = Request { method: "POST".into(), body_bytes: Some(upload), ..get(128) };
    let workload = |name, title: String, request, rate: f64| Workload {
        name,
        title: format!("{title}, {connections} connections"),
        requests: vec![request],
        headers: variation.headers.clone(),
        connections,
        keep_alive: true,
        tls: false,
        streams: None,
        rate: variation.rate.unwrap_or(rate),
        no_floor: None,
    };
    let tls = |load: Workload| Workload { tls: true, no_floor: Some("The relay knows no TLS: no floor here."), ..load };
    let dials = "The relay dials its upstream for every request, which a proxy with a pool need not: no floor here.";
    let h2 = Workload {
        connections: variation.connections.unwrap_or(CONNECTIONS_HTTP2),
        streams: Some(streams),
        ..tls(workload("h2", String::new(), get(small), 5000.0))
    };
    let h2_title = format!(
        "GET, {small} bytes, HTTP/2 over TLS 1.3 to HTTP/1.1, {} connections of {streams} streams",
        h2.connections
    );
    vec![
        workload("keep-alive", format!("GET, {small} bytes, keep-alive"), get(small), 5000.0),
        Workload {
            keep_alive: false,
            no_floor: Some(dials),
            ..workload("connect", format!("GET, {small} bytes, a connection each"), get(small), 2000.0)
        },
        workload("post", format!("POST of {upload} bytes, keep-alive"), post, 3000.0),
        workload("download", format!("GET, {large} bytes, keep-alive"), get(large), 200.0),
        tls(workload("tls", format!("GET, {small} bytes, keep-alive, TLS 1.3"), get(small), 5000.0)),
        Workload {
            keep_alive: false,
            ..tls(workload(
                "handshake",
                format!("GET, {small} bytes, a full TLS 1.3 handshake each"),
                get(small),
                500.0,
            ))
        },
        Workload { title: h2_title, ..h2 },
    ]
}

impl Workload {
    /// # Errors
    /// A header that cannot be sent.
    pub fn mix(&self, authority: &str) -> Result<Mix> {
        let target: Target = format!("http{}://{authority}", if self.tls { "s" } else { "" }).parse()?;
        let form = self.protocol()?.form(self.keep_alive);
        let mix = Mix::prepare(&target, &self.requests, &self.headers, form);
        Ok(mix.with_context(|| format!("workload {}", self.name))?.in_turn())
    }

    /// # Errors
    /// TLS is not to be had.
    pub fn protocol(&self) -> Result<Protocol> {
        let settings = tls::Settings { version: Some(tls::Version::Tls13), ..tls::Settings::default() };
        Protocol::new(self.tls.then_some(tls::PEER_NAME), self.streams, settings)
    }

    /// A resumed session would be another load.
    pub fn wants_full_handshakes(&self) -> bool {
        self.tls && !self.keep_alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variation_reaches_the_requests() {
        let variation = Variation { connections: Some(3), body_bytes: Some(10), ..Variation::default() };
        let all = all(&variation);
        let text = |index: usize| {
            let mix = all[index].mix("127.0.0.1:80").expect("well formed");
            String::from_utf8_lossy(&mix.request(0).bytes).into_owned()
        };
        assert!(text(0).starts_with("GET /bytes/10 HTTP/1.1\r\n"));
        assert!(text(1).contains("connection: close\r\n"));
        assert!(text(2).starts_with("POST /bytes/128") && text(2).contains("content-length: 10\r\n"));
        assert!(text(6).contains("/bytes/10") && !text(6).contains("HTTP/1.1"));
        assert!(all.iter().all(|workload| workload.connections == 3));
    }

    #[test]
    fn a_load_is_chosen_by_number_or_name() {
        let all = all(&Variation::default());
        for (place, (number, name)) in LOADS.iter().enumerate() {
            assert_eq!(all[place].name, *name);
            for text in [number, name] {
                assert_eq!(chosen(text), [Choice::Load(place)]);
            }
        }
        assert_eq!(chosen("idle-tls"), [Choice::IdleTls]);
        assert_eq!(chosen("policy-cors"), [Choice::Policy("policy-cors")]);
        assert!("9".parse::<Choices>().is_err_and(|error| error.to_string().contains("8 h2, 5 idle")));
    }

    #[test]
    fn a_star_stands_for_the_rest_of_names() {
        assert_eq!(chosen("policy-*"), policies::NAMES.map(Choice::Policy));
        let tokens = ["policy-jwt-rs256", "policy-jwt-cached", "policy-jwt-hs256"];
        assert_eq!(chosen("policy-jwt-*"), tokens.map(Choice::Policy));
        assert_eq!(chosen("idle*"), [Choice::Idle, Choice::IdleTls]);
        assert!("policies-*".parse::<Choices>().is_err());
    }

    fn chosen(text: &str) -> Vec<Choice> {
        text.parse::<Choices>().expect("known").0
    }

    #[test]
    fn header_sets_have_the_size_they_say() {
        for set in [HeaderSet::Browser, HeaderSet::Api] {
            let bytes: usize = set.headers().iter().map(|(name, value)| name.len() + value.len() + 4).sum();
            assert!((800..1_000).contains(&bytes), "{set:?}: {bytes}");
        }
    }
}
