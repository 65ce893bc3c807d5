//! What the services that Envoy asks have in common: how headers are told, and what is said of them.
//!
//! What a header says is bytes here, where the descriptions say text, which is the same on the wire: values pass as they are.

use prost::Message;
use serde::{Deserialize, Deserializer};

#[derive(Clone, PartialEq, Message)]
pub struct HeaderMap {
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<HeaderValue>,
}

/// A line of a head; and an entry of a map from text to text, which is the same without the raw value.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderValue {
    #[prost(bytes = "vec", tag = "1")]
    #[serde(deserialize_with = "text")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    #[serde(deserialize_with = "text")]
    pub value: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    #[serde(skip)]
    pub raw_value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
}

/// `HeaderValueOption`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    pub header: Option<HeaderValue>,
    #[prost(message, optional, tag = "2")]
    pub append: Option<Flag>,
    #[prost(int32, tag = "3")]
    pub append_action: i32,
}

/// `google.protobuf.BoolValue`
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(transparent)]
pub struct Flag {
    #[prost(bool, tag = "1")]
    pub value: bool,
}

/// With a `!` for what is no UTF-8: a message that says it has text must have text.
pub fn as_text(value: &[u8]) -> Vec<u8> {
    if value.is_ascii() {
        return value.to_vec();
    }
    let mut text = Vec::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.resize(text.len() + chunk.invalid().len(), b'!');
    }
    text
}

/// Bytes, as somebody writes them down.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    String::deserialize(deserializer).map(String::into_bytes)
}
