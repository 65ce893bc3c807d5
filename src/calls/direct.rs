//! Calls that a core makes itself, for one request each: over its own connections, so that a server that is slow holds up
//! nobody but the requests that wait for it.

use std::{fmt, sync::Arc, time::Duration};

use super::Destination;
use crate::{
    document::{address::Scheme, hash::Stable},
    http::head::Fields,
};

/// Why there is no answer, where the policies' own reasons have no word for it.
pub const MALFORMED_ANSWER: &str = "malformed_answer";
pub const TOO_LARGE: &str = "too_large";
pub const NO_HTTP2: &str = "no_http2";
/// Whoever waited for it has gone.
pub const CLIENT_LEFT: &str = "client_left";

/// Somebody whom a policy asks, as cores reach it. Those of two policies share no connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// The policy by the name that its table has for it.
    pub policy: &'static str,
    pub destination: Arc<Destination>,
    /// HTTP/2 from the first byte, or agreed on by TLS and nothing else.
    pub multiplexes: bool,
    /// Of its connections.
    pub identity: u64,
}

impl Server {
    pub fn new(policy: &'static str, destination: Arc<Destination>, multiplexes: bool) -> Self {
        let identity = Stable::new().text("server").text(policy).number(destination.identity());
        let identity = identity.number(u64::from(multiplexes)).finish();
        Self { policy, destination, multiplexes, identity }
    }

    /// `h2://host:port`: no path.
    pub fn origin(&self) -> String {
        match self.multiplexes && !self.destination.address.secure {
            true => format!("{}://{}", Scheme::H2, self.destination.address.authority),
            false => self.destination.origin(),
        }
    }
}

/// One request, and what it may cost.
pub struct Direct {
    pub server: Arc<Server>,
    pub method: Vec<u8>,
    /// Path and query, checked as those of a request are.
    pub target: Vec<u8>,
    /// What is asked for, where that is not the server's own.
    pub authority: Option<Vec<u8>>,
    /// Besides `host`, `content-length` and what belongs to the connection.
    pub fields: Fields,
    pub body: Vec<u8>,
    /// Of everything together: a connection, its turn on it and the whole answer.
    pub time_max: Duration,
    pub answer_bytes_max: usize,
    /// What an answer is that somebody has written down, for `explain`.
    pub told: fn(&[u8]) -> Result<Whole, String>,
}

/// Its whole answer, of any status.
#[derive(Default)]
pub struct Whole {
    pub status: u16,
    pub headers: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

/// Without its query, headers and body: there are credentials in them.
impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let (method, path) = (String::from_utf8_lossy(&self.method), String::from_utf8_lossy(path));
        write!(f, "{method} {}{path}", self.server.origin())
    }
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Whole({}, {} bytes)", self.status, self.body.len())
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direct({self})")
    }
}
