//! A request from a command line: a method, a URL and what else a client would say.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use crate::{
    http::target::Scheme,
    policies::{jwt::key_set::KeySet, wants::Published},
};

/// What could be sent. It is not judged here: that is the parser's business.
#[derive(Debug)]
pub struct Question {
    pub method: String,
    pub scheme: Scheme,
    /// As the URL has it; what `Host` says unless a header does.
    pub authority: String,
    pub port: u16,
    /// What stands in the request line.
    pub target: String,
    pub headers: Vec<String>,
    pub body: Option<Vec<u8>>,
    pub client: IpAddr,
    /// When it would be sent, where that is not now.
    pub at: Option<SystemTime>,
    /// What the gateway has fetched, where one is asked that serves.
    pub published: Option<Arc<Published>>,
    /// What it would have fetched otherwise, for every policy that takes tokens by key sets.
    pub key_set: Option<Arc<KeySet>>,
    /// What calls would bring, each with the policy or the binding that makes them.
    pub answers: Arc<Vec<(String, Vec<u8>)>>,
}

impl Question {
    /// `headers` are lines `name: value`, `target` takes the place of the URL's own path and query.
    pub fn new(
        method: &str,
        url: &str,
        target: Option<&str>,
        headers: &[String],
        body: Option<Vec<u8>>,
        client: IpAddr,
    ) -> Result<Self, String> {
        let lines = [method, url, target.unwrap_or_default()];
        if lines.into_iter().chain(headers.iter().map(String::as_str)).any(|text| text.contains(['\r', '\n'])) {
            return Err("a line break: method, URL and headers are one line each".to_owned());
        }
        if let Some(odd) = headers.iter().find(|line| line.is_empty()) {
            return Err(format!("`{odd}` is no header: expected `name: value`"));
        }
        let wrong = || format!("`{url}` is no URL: expected `http://host:port/path`");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(wrong()),
        };
        // A fragment stays with the client.
        let rest = rest.split_once('#').map_or(rest, |(sent, _)| sent);
        let (authority, own) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(wrong());
        }
        let port = match port(authority) {
            None => scheme.default_port(),
            Some(digits) => digits.parse().map_err(|_| wrong())?,
        };
        let target = target.map(str::to_owned);
        let target = target.unwrap_or_else(|| if own.starts_with('/') { own.to_owned() } else { format!("/{own}") });
        let (method, authority, headers) = (method.to_owned(), authority.to_owned(), headers.to_vec());
        let (at, published, key_set, answers) = (None, None, None, Arc::default());
        Ok(Self { method, scheme, authority, port, target, headers, body, client, at, published, key_set, answers })
    }

    /// The bytes of its head.
    pub fn head(&self) -> Vec<u8> {
        let says = |name: &str| {
            let name_of = |line: &String| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            self.headers.iter().any(|line| name_of(line) == name)
        };
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !says("host") {
            head += &format!("host: {}\r\n", self.authority);
        }
        for line in &self.headers {
            head += &format!("{line}\r\n");
        }
        if let Some(body) = self.body.as_ref().filter(|_| !says("content-length") && !says("transfer-encoding")) {
            head += &format!("content-length: {}\r\n", body.len());
        }
        (head + "\r\n").into_bytes()
    }

    /// What a client names in its hello: a host, and no address.
    pub fn server_name(&self) -> Option<&str> {
        let host = self.authority.strip_suffix(port(&self.authority).unwrap_or_default()).unwrap_or(&self.authority);
        let host = host.strip_suffix(':').unwrap_or(host);
        let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
        (!is_address).then_some(host)
    }
}

/// The digits behind the host, where there is a colon.
fn port(authority: &str) -> Option<&str> {
    let behind_host = authority.rfind(']').map_or(0, |end| end + 1);
    authority[behind_host..].split_once(':').map(|(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn question(url: &str) -> Result<Question, String> {
        Question::new("GET", url, None, &[], None, CLIENT)
    }

    #[test]
    fn urls_are_taken_apart_and_not_judged() {
        for (url, authority, port, target, name) in [
            ("http://a.test:8081/x?y=1#z", "a.test:8081", 8081, "/x?y=1", Some("a.test")),
            ("HTTP://a.test", "a.test", 80, "/", Some("a.test")),
            ("https://a.test?x", "a.test", 443, "/?x", Some("a.test")),
            ("https://[::1]:8443/", "[::1]:8443", 8443, "/", None),
            ("http://127.0.0.1:8081/a b/../%zz", "127.0.0.1:8081", 8081, "/a b/../%zz", None),
        ] {
            let asked = question(url).expect(url);
            let seen = (asked.authority.as_str(), asked.port, asked.target.as_str(), asked.server_name());
            assert_eq!(seen, (authority, port, target, name), "{url}");
        }
        for url in
            ["", "/x", "a.test/x", "ftp://a.test/", "http:///x", "http://a:b/", "http://a:99999/", "http://a\r\nb/"]
        {
            assert!(question(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_head_says_once_what_a_client_says_once() {
        let head = |headers: &[&str], body: Option<&[u8]>| {
            let headers: Vec<String> = headers.iter().map(|&line| line.to_owned()).collect();
            let asked =
                Question::new("POST", "http://a:1/x", None, &headers, body.map(<[u8]>::to_vec), CLIENT).expect("valid");
            String::from_utf8(asked.head()).expect("text")
        };
        assert_eq!(head(&[], None), "POST /x HTTP/1.1\r\nhost: a:1\r\n\r\n");
        assert_eq!(head(&["Host: b"], Some(b"abc")), "POST /x HTTP/1.1\r\nHost: b\r\ncontent-length: 3\r\n\r\n");
        let chunked = head(&["transfer-encoding: chunked"], Some(b"abc"));
        assert_eq!(chunked, "POST /x HTTP/1.1\r\nhost: a:1\r\ntransfer-encoding: chunked\r\n\r\n");
    }
}
