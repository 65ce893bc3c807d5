//! Messages of the processor's, as they come.

use prost::Message;

use super::messages::{ImmediateResponse, Processed, ProcessedTrailers, ProcessingResponse};
use crate::{
    calls::{
        direct::MALFORMED_ANSWER,
        talk::{Sort, Speaker},
    },
    policies::Side,
    telemetry::fault::Fault,
};

pub const TARGET: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

pub fn decode(message: &[u8]) -> Result<ProcessingResponse, Fault> {
    ProcessingResponse::decode(message).map_err(|error| Fault::new(MALFORMED_ANSWER, error.to_string()))
}

/// What a message is: it says one thing, or that more time is wanted.
pub fn sort(message: &[u8]) -> Result<Sort, Fault> {
    let said = decode(message)?;
    if let Some(time) = said.override_message_timeout {
        return Ok(Sort::MoreTime(time.duration()));
    }
    let count = |kinds: [bool; 3]| kinds.into_iter().filter(|is_said| *is_said).count();
    let request = count([said.request_headers.is_some(), said.request_body.is_some(), said.request_trailers.is_some()]);
    let response =
        count([said.response_headers.is_some(), said.response_body.is_some(), said.response_trailers.is_some()]);
    match (request, response, said.immediate_response) {
        (1, 0, None) => Ok(Sort::Reply(Speaker::Request)),
        (0, 1, None) => Ok(Sort::Reply(Speaker::Response)),
        (0, 0, Some(ImmediateResponse { .. })) => Ok(Sort::Last),
        _ => Err(Fault::new(MALFORMED_ANSWER, "a message that says nothing, or several things")),
    }
}

/// `ProcessingResponse` as JSON, or a list of them.
pub fn told(written: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let said: Vec<ProcessingResponse> = match written.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(written),
        _ => serde_json::from_slice(written).map(|one| vec![one]),
    }
    .map_err(|error| error.to_string())?;
    Ok(said.iter().map(Message::encode_to_vec).collect())
}

/// What a reply says of a message's header, if it is one to that.
pub fn headers(side: Side, said: ProcessingResponse) -> Option<Processed> {
    match side {
        Side::Request => said.request_headers,
        Side::Response => said.response_headers,
    }
}

pub fn body(side: Side, said: ProcessingResponse) -> Option<Processed> {
    match side {
        Side::Request => said.request_body,
        Side::Response => said.response_body,
    }
}

pub fn trailers(side: Side, said: ProcessingResponse) -> Option<ProcessedTrailers> {
    match side {
        Side::Request => said.request_trailers,
        Side::Response => said.response_trailers,
    }
}
