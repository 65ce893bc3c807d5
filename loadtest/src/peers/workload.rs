//! What every peer is asked to carry.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::scenario::{Mix, Request, Target};

/// One way of using a proxy.
#[derive(Clone)]
pub struct Workload {
    pub name: &'static str,
    pub title: String,
    pub request: Request,
    pub headers: BTreeMap<String, String>,
    pub connections: usize,
    pub keep_alive: bool,
    /// Of the open loop, the same for all.
    pub rate: f64,
    /// Whether a relay is the floor of it.
    pub has_floor: bool,
}

/// What may differ from the usual, to see whether the order of the peers holds.
#[derive(Default)]
pub struct Variation {
    pub connections: Option<usize>,
    pub body_bytes: Option<usize>,
    pub headers: BTreeMap<String, String>,
    pub rate: Option<f64>,
}

/// The number of the workload that is not a load: idle connections.
pub const IDLE: usize = 5;

/// Workloads 1 to 4; the fifth, idle connections, is not a load.
pub fn all(variation: &Variation) -> Vec<Workload> {
    let connections = variation.connections.unwrap_or(64);
    let small = variation.body_bytes.unwrap_or(1024);
    let upload = variation.body_bytes.unwrap_or(16 * 1024);
    let large = variation.body_bytes.unwrap_or(1024 * 1024);
    let get = |bytes: usize| Request { path: format!("/bytes/{bytes}"), ..Request::default() };
    let post = Request { method: "POST".into(), body_bytes: Some(upload), ..get(128) };
    let workload = |name, title: String, request, keep_alive, rate, has_floor| Workload {
        name,
        title: format!("{title}, {connections} connections"),
        request,
        headers: variation.headers.clone(),
        connections,
        keep_alive,
        rate: variation.rate.unwrap_or(rate),
        has_floor,
    };
    vec![
        workload("keep-alive", format!("GET, {small} bytes, keep-alive"), get(small), true, 5000.0, true),
        // A relay has to dial for every request; proxies keep connections to the upstream.
        workload("connect", format!("GET, {small} bytes, a connection each"), get(small), false, 2000.0, false),
        workload("post", format!("POST of {upload} bytes, keep-alive"), post, true, 3000.0, true),
        workload("download", format!("GET, {large} bytes, keep-alive"), get(large), true, 200.0, true),
    ]
}

impl Workload {
    /// # Errors
    /// A header that cannot be sent.
    pub fn mix(&self, authority: &str) -> Result<Mix> {
        let target: Target = format!("http://{authority}").parse()?;
        Mix::prepare(&target, std::slice::from_ref(&self.request), &self.headers, self.keep_alive)
            .with_context(|| format!("workload {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variation_reaches_the_requests() {
        let variation = Variation { connections: Some(8), body_bytes: Some(10), ..Variation::default() };
        let all = all(&variation);
        assert_eq!(all.len() + 1, IDLE);
        let text = |index: usize| {
            let mix = all[index].mix("127.0.0.1:80").expect("well formed");
            String::from_utf8_lossy(&mix.request(0).bytes).into_owned()
        };
        assert!(text(0).starts_with("GET /bytes/10 HTTP/1.1\r\n"));
        assert!(text(1).contains("connection: close\r\n"));
        assert!(text(2).starts_with("POST /bytes/128") && text(2).contains("content-length: 10\r\n"));
        assert!(all.iter().all(|workload| workload.connections == 8));
    }
}
