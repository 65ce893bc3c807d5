//! The messages of `envoy.service.ext_proc.v3`: the fields that are used, with their numbers.

use std::time::Duration;

use prost::Message;
use serde::{Deserialize, Deserializer};

use crate::policies::envoy::{Flag, HeaderMap, HeaderOption, HttpStatus, text};

/// One of them is said.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessingRequest {
    #[prost(message, optional, tag = "2")]
    pub request_headers: Option<HttpHeaders>,
    #[prost(message, optional, tag = "3")]
    pub response_headers: Option<HttpHeaders>,
    #[prost(message, optional, tag = "4")]
    pub request_body: Option<HttpBody>,
    #[prost(message, optional, tag = "5")]
    pub response_body: Option<HttpBody>,
    #[prost(message, optional, tag = "6")]
    pub request_trailers: Option<HttpTrailers>,
    #[prost(message, optional, tag = "7")]
    pub response_trailers: Option<HttpTrailers>,
    /// In the first message alone.
    #[prost(message, optional, tag = "11")]
    pub protocol_config: Option<ProtocolConfiguration>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HttpHeaders {
    #[prost(message, optional, tag = "1")]
    pub headers: Option<HeaderMap>,
    #[prost(bool, tag = "3")]
    pub end_of_stream: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct HttpBody {
    #[prost(bytes = "vec", tag = "1")]
    pub body: Vec<u8>,
    #[prost(bool, tag = "2")]
    pub end_of_stream: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct HttpTrailers {
    #[prost(message, optional, tag = "1")]
    pub trailers: Option<HeaderMap>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProtocolConfiguration {
    #[prost(int32, tag = "1")]
    pub request_body_mode: i32,
    #[prost(int32, tag = "2")]
    pub response_body_mode: i32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessingResponse {
    #[prost(message, optional, tag = "1")]
    pub request_headers: Option<Processed>,
    #[prost(message, optional, tag = "2")]
    pub response_headers: Option<Processed>,
    #[prost(message, optional, tag = "3")]
    pub request_body: Option<Processed>,
    #[prost(message, optional, tag = "4")]
    pub response_body: Option<Processed>,
    #[prost(message, optional, tag = "5")]
    pub request_trailers: Option<ProcessedTrailers>,
    #[prost(message, optional, tag = "6")]
    pub response_trailers: Option<ProcessedTrailers>,
    #[prost(message, optional, tag = "7")]
    pub immediate_response: Option<ImmediateResponse>,
    #[prost(message, optional, tag = "9")]
    pub mode_override: Option<ProcessingMode>,
    #[prost(message, optional, tag = "10")]
    #[serde(skip)]
    pub override_message_timeout: Option<Time>,
}

/// `HeadersResponse` and `BodyResponse`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Processed {
    #[prost(message, optional, tag = "1")]
    pub response: Option<CommonResponse>,
}

/// `TrailersResponse`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessedTrailers {
    #[prost(message, optional, tag = "1")]
    pub header_mutation: Option<HeaderMutation>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CommonResponse {
    #[prost(int32, tag = "1")]
    #[serde(deserialize_with = "status")]
    pub status: i32,
    #[prost(message, optional, tag = "2")]
    pub header_mutation: Option<HeaderMutation>,
    #[prost(message, optional, tag = "3")]
    pub body_mutation: Option<BodyMutation>,
    /// Means nothing: requests are routed behind the policy.
    #[prost(bool, tag = "5")]
    pub clear_route_cache: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderMutation {
    #[prost(message, repeated, tag = "1")]
    pub set_headers: Vec<HeaderOption>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    #[serde(deserialize_with = "texts")]
    pub remove_headers: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct BodyMutation {
    #[prost(bytes = "vec", optional, tag = "1")]
    #[serde(deserialize_with = "some_text")]
    pub body: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "2")]
    pub clear_body: Option<bool>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ImmediateResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<HttpStatus>,
    #[prost(message, optional, tag = "2")]
    pub headers: Option<HeaderMutation>,
    #[prost(bytes = "vec", tag = "3")]
    #[serde(deserialize_with = "text")]
    pub body: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub grpc_status: Option<GrpcStatus>,
    #[prost(bytes = "vec", tag = "5")]
    #[serde(deserialize_with = "text")]
    pub details: Vec<u8>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcStatus {
    #[prost(uint32, tag = "1")]
    pub status: u32,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessingMode {
    #[prost(int32, tag = "1")]
    #[serde(deserialize_with = "sends")]
    pub request_header_mode: i32,
    #[prost(int32, tag = "2")]
    #[serde(deserialize_with = "sends")]
    pub response_header_mode: i32,
    #[prost(int32, tag = "3")]
    #[serde(deserialize_with = "body_mode")]
    pub request_body_mode: i32,
    #[prost(int32, tag = "4")]
    #[serde(deserialize_with = "body_mode")]
    pub response_body_mode: i32,
    #[prost(int32, tag = "5")]
    #[serde(deserialize_with = "sends")]
    pub request_trailer_mode: i32,
    #[prost(int32, tag = "6")]
    #[serde(deserialize_with = "sends")]
    pub response_trailer_mode: i32,
}

/// `google.protobuf.Duration`
#[derive(Clone, PartialEq, Message)]
pub struct Time {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `ResponseStatus`
pub const CONTINUE_AND_REPLACE: i32 = 1;

/// `HeaderSendMode`
pub const SEND: i32 = 1;
pub const SKIP: i32 = 2;

/// `BodySendMode`
pub const NONE: i32 = 0;
pub const STREAMED: i32 = 1;
pub const BUFFERED: i32 = 2;
pub const BUFFERED_PARTIAL: i32 = 3;

impl Time {
    /// Whole milliseconds of it; zero of what is no time.
    pub fn duration(&self) -> Duration {
        let millis = u64::try_from(self.seconds).unwrap_or(0).saturating_mul(1000);
        let more = u64::try_from(self.nanos).unwrap_or(0) / 1_000_000;
        Duration::from_millis(millis.saturating_add(more))
    }
}

impl BodyMutation {
    /// Another body, where it says one.
    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self { body: Some(body), .. } => Some(body),
            Self { clear_body: Some(true), .. } => Some(Vec::new()),
            Self { .. } => None,
        }
    }
}

impl HeaderOption {
    /// What `append` says, where it says anything.
    pub fn appends(&self) -> Option<bool> {
        self.append.as_ref().map(|Flag { value }| *value)
    }
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    Vec::<String>::deserialize(deserializer).map(|texts| texts.into_iter().map(String::into_bytes).collect())
}

fn some_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    text(deserializer).map(Some)
}

/// A name in the place of a number.
fn named<'de, D: Deserializer<'de>>(deserializer: D, names: &[(&str, i32)]) -> Result<i32, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = names.iter().find(|(known, _)| *known == name);
    known.map(|(_, number)| *number).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(known, _)| *known).collect();
        serde::de::Error::custom(format!("`{name}`: expected one of {}", names.join(", ")))
    })
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    named(deserializer, &[("CONTINUE", 0), ("CONTINUE_AND_REPLACE", CONTINUE_AND_REPLACE)])
}

fn sends<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    named(deserializer, &[("DEFAULT", 0), ("SEND", SEND), ("SKIP", SKIP)])
}

fn body_mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let names =
        [("NONE", NONE), ("STREAMED", STREAMED), ("BUFFERED", BUFFERED), ("BUFFERED_PARTIAL", BUFFERED_PARTIAL)];
    named(deserializer, &names)
}
