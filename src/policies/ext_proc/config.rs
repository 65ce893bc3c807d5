//! The configuration, as the operator writes it.

use std::time::Duration;

use serde::Deserialize;

use super::{
    ExtProc, NAME,
    modes::{BodyMode, Modes, Of},
};
use crate::{
    document::address::ServiceAddress,
    policies::{ConfigError, Fault, Field, Site},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    uri: String,
    #[serde(default = "default_timeout")]
    message_timeout: u64,
    #[serde(default)]
    max_message_timeout: u64,
    #[serde(default)]
    failure_mode_allow: bool,
    #[serde(default = "default_override")]
    allow_mode_override: bool,
    #[serde(default = "Sends::send")]
    request_header_mode: Sends,
    #[serde(default = "Sends::send")]
    response_header_mode: Sends,
    #[serde(default)]
    request_body_mode: BodyMode,
    #[serde(default)]
    response_body_mode: BodyMode,
    #[serde(default)]
    request_trailer_mode: Sends,
    #[serde(default)]
    response_trailer_mode: Sends,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum Sends {
    Send,
    #[default]
    Skip,
}

impl Sends {
    fn send() -> Self {
        Self::Send
    }
}

fn default_timeout() -> u64 {
    1000
}

fn default_override() -> bool {
    true
}

pub const FIELDS: &[Field] = &[
    Field::new("uri", "Processor", "Where the processor is: `h2://host:port`, or `https://` over TLS."),
    Field::new("messageTimeout", "Time for a reply", "From a message to its reply.")
        .default("1000")
        .unit("ms")
        .at_least(1),
    Field::new(
        "maxMessageTimeout",
        "Most time for a reply",
        "The most time that the processor may ask for, once for each message; with 0 it gets none.",
    )
    .default("0")
    .unit("ms"),
    Field::new(
        "failureModeAllow",
        "Pass where it fails",
        "Whether what the processor has not processed passes as it is, where it cannot be asked or does not reply as it should.",
    )
    .default("false"),
    Field::new(
        "allowModeOverride",
        "Other modes by reply",
        "Whether a reply to headers may say other modes for the rest of the exchange.",
    )
    .default("true"),
    Field::new("requestHeaderMode", "Request headers", "Whether it is sent the request's headers: `send` or `skip`.")
        .default("send"),
    Field::new("responseHeaderMode", "Response headers", "The same of the response.").default("send"),
    Field::new(
        "requestBodyMode",
        "Request body",
        "How it is sent the request's body: `none` of it, `streamed` piece by piece, `buffered` as a whole, or \
         `bufferedPartial`, as much of it as may be read ahead.",
    )
    .default("none"),
    Field::new("responseBodyMode", "Response body", "The same of the response.").default("none"),
    Field::new("requestTrailerMode", "Request trailers", "Whether it is sent the request's trailers: `send` or `skip`.")
        .default("skip"),
    Field::new("responseTrailerMode", "Response trailers", "The same of the response.").default("skip"),
];

impl Config {
    pub fn compile(self, site: &mut Site<'_>) -> Result<ExtProc, ConfigError> {
        let mut error = ConfigError::default();
        let address = ServiceAddress::parse(&self.uri).map_err(|text| error.add(Fault::at("uri", text))).ok();
        if self.message_timeout == 0 {
            error.add(Fault::at("messageTimeout", "must be at least 1"));
        }
        let Some(address) = address else { return Err(error) };
        if !address.path.is_empty() {
            site.remark(Fault::at("uri", "the path has no effect: a gRPC service is called by its name"));
        }
        let server = site.server(NAME, address, true);
        if let Some(why) = &server.destination.insecure {
            site.remark(Fault::at("uri", format!("it cannot be called: {why}")));
        }
        if server.destination.proxy.is_some() {
            site.remark(Fault::at("uri", "it is called directly, not through the forward proxy"));
        }
        let of =
            |headers, body, trailers| Of { headers: headers == Sends::Send, body, trailers: trailers == Sends::Send };
        error.or(ExtProc {
            server,
            time_max: Duration::from_millis(self.message_timeout),
            more_time_max: Duration::from_millis(self.max_message_timeout),
            passes_on_failure: self.failure_mode_allow,
            allows_override: self.allow_mode_override,
            modes: Modes {
                request: of(self.request_header_mode, self.request_body_mode, self.request_trailer_mode),
                response: of(self.response_header_mode, self.response_body_mode, self.response_trailer_mode),
            },
            raw_headers: site.raw_header_values(),
        })
    }
}
