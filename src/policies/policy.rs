//! What a policy is, what it sees of an exchange, and what it may answer.

use std::{borrow::Cow, net::IpAddr};

use serde::de::DeserializeOwned;

use crate::{
    http::head::{RequestHead, ResponseHead},
    tls::Identity,
};

/// One policy, in three lifetimes: as written, compiled and shared by all cores, and one core's own state.
pub trait Policy: Sized {
    /// As the operator writes it.
    type Config: DeserializeOwned;
    /// One core's own; it never leaves its thread.
    type State;

    /// What an operator should know about a configuration that works all the same.
    fn remarks(_config: &Self::Config) -> Vec<Fault> {
        Vec::new()
    }
    /// After this nothing asks whether a value is legal. Reports every fault, not only the first.
    fn compile(config: Self::Config) -> Result<Self, ConfigError>;
    fn state(&self, core: &Core) -> Self::State;

    fn on_request(&self, _state: &Self::State, _exchange: &mut Exchange) -> Flow {
        Flow::Continue
    }
    /// Runs for every policy that has run for the request, whoever answered it.
    fn on_response(&self, _state: &Self::State, _exchange: &mut Exchange, _response: &mut ResponseHead) {}
}

/// The core that a state is made for.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    pub id: usize,
}

/// What a policy sees and may change of one exchange. Framing is not among it: the proxy sends `content-length` and
/// `transfer-encoding` from what it parsed, and `host` and `connection` from its own decisions.
pub struct Exchange<'a> {
    /// Its path is normalised.
    pub request: &'a mut RequestHead,
    /// Where the connection comes from.
    pub client: IpAddr,
    /// Whom the client's certificate names. It was verified: where the port asks for none, or none was shown, nobody.
    pub certificate: Option<&'a Identity>,
    pub authentication: &'a mut Authentication,
}

/// Who the client is, as far as policies have found out. Lives with a connection, so that its buffers are reused.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    principal: String,
}

impl Authentication {
    /// Forgets the previous request's client.
    pub fn clear(&mut self) {
        self.principal.clear();
    }

    pub fn set_principal(&mut self, name: &str) {
        self.principal.clear();
        self.principal.push_str(name);
    }

    pub fn principal(&self) -> Option<&str> {
        (!self.principal.is_empty()).then_some(&self.principal)
    }
}

/// What happens next in the request direction.
#[derive(Debug)]
pub enum Flow {
    Continue,
    /// The chain turns round here.
    Respond(LocalResponse),
}

/// An answer of the gateway's own. The proxy adds `server`, `date`, `content-length` and `connection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalResponse {
    pub status: u16,
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub body: Cow<'static, [u8]>,
    pub content_type: Option<&'static str>,
    /// The log's flag, the metric's label and the documentation's anchor.
    pub reason: &'static str,
}

impl LocalResponse {
    /// `{"error":"<text>"}`, the form that clients of these policies know.
    pub fn error_json(status: u16, text: &str, reason: &'static str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: serde_json::json!({ "error": text }).to_string().into_bytes().into(),
            content_type: Some("application/json; charset=UTF-8"),
            reason,
        }
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The client learns that it is not to blame; which policy and why is for the log.
    pub fn broken_policy() -> Self {
        Self::error_json(503, "A policy of this API is not available.", "policy_broken")
    }

    pub fn pattern_limit() -> Self {
        Self::error_json(503, "The request could not be matched.", "pattern_limit")
    }
}

/// Why a policy cannot be built: every fault of its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigError {
    pub faults: Vec<Fault>,
}

/// One fault, and where below `config` it is: `inboundHeaders[0].key`, or empty for the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub text: String,
    /// The file is right; it is we who cannot do this yet.
    pub not_implemented: bool,
}

impl Fault {
    pub fn at(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self { field: field.into(), text: text.into(), not_implemented: false }
    }

    pub fn not_implemented(field: impl Into<String>, what: &str) -> Self {
        Self { field: field.into(), text: format!("{what}: not implemented yet"), not_implemented: true }
    }
}

impl ConfigError {
    pub fn at(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self { faults: vec![Fault::at(field, text)] }
    }

    pub fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// `value`, unless there is a fault.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.faults.is_empty() { Ok(value) } else { Err(self) }
    }
}
