//! Calls of gRPC, as policies make them: one message there and one back, in its framing (`PROTOCOL-HTTP2.md` of gRPC).
//!
//! ```text
//! 0      compressed: 0 or 1     1..5   length, big-endian     5..    the message
//! ```

use std::time::Duration;

use prost::Message;

use crate::{
    calls::{
        Whole,
        direct::{MALFORMED_ANSWER, TOO_LARGE},
    },
    http::{
        bytes,
        head::{Fields, Version},
    },
    policies::Exchange,
    telemetry::fault::Fault,
};

const PREFIX: usize = 5;
const CONTENT_TYPE: &[u8] = b"application/grpc";

/// Whether this is a call of gRPC, which has its status in trailers.
pub fn is_call(exchange: &Exchange<'_>) -> bool {
    exchange.version() == Version::Http2
        && exchange.method() == b"POST"
        && exchange.request_fields().get(b"content-type").is_some_and(is_type)
}

/// A text as `grpc-message` has it: what is no printable ASCII escaped, and `%`.
pub fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

/// A message with its prefix.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut out = Vec::with_capacity(PREFIX + length);
    out.push(0);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    message.encode(&mut out).expect("a vector grows");
    out
}

/// The fields of a call's head; without a time, of one that lasts as long as the exchange.
pub fn fields(time_max: Option<Duration>) -> Fields {
    let mut fields = Fields::default();
    fields.append(b"content-type", CONTENT_TYPE);
    fields.append(b"te", b"trailers");
    if let Some(time_max) = time_max {
        // At most eight digits: more than a day is none that anybody waits for.
        let timeout = format!("{}m", time_max.as_millis().min(99_999_999));
        fields.append(b"grpc-timeout", timeout.as_bytes());
    }
    fields.append(b"user-agent", concat!("ringway/", env!("CARGO_PKG_VERSION")).as_bytes());
    fields
}

/// The one message of an answer whose call went well.
pub fn message(answer: &Whole) -> Result<&[u8], Fault> {
    is_of_grpc(answer.status, &answer.headers)?;
    // A call that failed at once has its status in the head.
    let is_alone = answer.trailers.is_empty() && answer.body.is_empty();
    went_well(if is_alone { &answer.headers } else { &answer.trailers })?;
    match prefix(&answer.body)? {
        None => Err(malformed("there is no message in it")),
        Some(length) if length != answer.body.len() - PREFIX => Err(malformed("it is not one whole message")),
        Some(_) => Ok(&answer.body[PREFIX..]),
    }
}

/// Whether an answer with this head is one of gRPC.
pub fn is_of_grpc(status: u16, headers: &Fields) -> Result<(), Fault> {
    if status != 200 {
        return Err(Fault::new("unexpected_status", format!("status {status}")));
    }
    match headers.get(b"content-type").is_some_and(is_type) {
        true => Ok(()),
        false => Err(malformed("its content type is not that of gRPC")),
    }
}

fn is_type(content_type: &[u8]) -> bool {
    content_type.get(..CONTENT_TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(CONTENT_TYPE))
        && matches!(content_type.get(CONTENT_TYPE.len()), None | Some(b'+' | b';'))
}

/// Whether the fields with which a call ends say that it went well.
pub fn went_well(end: &Fields) -> Result<(), Fault> {
    match end.get(b"grpc-status").and_then(bytes::decimal) {
        Some(0) => Ok(()),
        Some(status) => Err(Fault::new("grpc_status", format!("grpc-status {status}"))),
        None => Err(malformed("it has no grpc-status")),
    }
}

/// Takes the next whole message of a stream from what has come; `None`: more has to come. One of more bytes than `most` is
/// refused at its prefix.
pub fn take_message(come: &mut Vec<u8>, most: usize) -> Result<Option<Vec<u8>>, Fault> {
    let Some(length) = prefix(come)? else { return Ok(None) };
    if length > most {
        return Err(Fault::new(TOO_LARGE, format!("a message of more than {most} bytes")));
    }
    if come.len() - PREFIX < length {
        return Ok(None);
    }
    let behind = come.split_off(PREFIX + length);
    let mut message = std::mem::replace(come, behind);
    message.drain(..PREFIX);
    Ok(Some(message))
}

/// How long the message is that begins here; `None`: its prefix is not here.
fn prefix(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    match bytes.first_chunk::<PREFIX>() {
        None => Ok(None),
        Some([0, length @ ..]) => Ok(Some(u32::from_be_bytes(*length) as usize)),
        Some(_) => Err(malformed("its message is compressed, which nobody has asked for")),
    }
}

fn malformed(text: &str) -> Fault {
    Fault::new(MALFORMED_ANSWER, text)
}

/// An answer as a server would give it, for whoever is told one.
pub fn told(message: &impl Message) -> Whole {
    let (mut headers, mut trailers) = (Fields::default(), Fields::default());
    headers.append(b"content-type", CONTENT_TYPE);
    trailers.append(b"grpc-status", b"0");
    Whole { status: 200, headers, body: framed(message), trailers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, head: &[(&str, &str)], body: &[u8], trailers: &[(&str, &str)]) -> Whole {
        let fields = |lines: &[(&str, &str)]| {
            let mut fields = Fields::default();
            lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
            fields
        };
        Whole { status, headers: fields(head), body: body.to_vec(), trailers: fields(trailers) }
    }

    const TYPE: (&str, &str) = ("content-type", "application/grpc");
    const OK: (&str, &str) = ("grpc-status", "0");
    const WHOLE: &[u8] = b"\0\0\0\0\x02ab";

    #[test]
    fn one_whole_message_of_a_call_that_went_well_is_one() {
        for head in [TYPE, ("content-type", "application/grpc+proto"), ("content-type", "Application/gRPC;x=y")] {
            assert_eq!(message(&answer(200, &[head], WHOLE, &[OK])), Ok(&b"ab"[..]), "{head:?}");
        }
        assert_eq!(message(&answer(200, &[TYPE], b"\0\0\0\0\0", &[OK])), Ok(&b""[..]));
    }

    #[test]
    fn all_else_is_none() {
        let check = |answer: &Whole, expected: &str| {
            let fault = message(answer).expect_err(expected);
            assert_eq!(format!("{}: {}", fault.reason, fault.text), expected);
        };
        check(&answer(503, &[TYPE], WHOLE, &[OK]), "unexpected_status: status 503");
        for odd in ["application/grpcx", "application/json", ""] {
            let odd = answer(200, &[("content-type", odd)], WHOLE, &[OK]);
            check(&odd, "malformed_answer: its content type is not that of gRPC");
        }
        check(&answer(200, &[TYPE, ("grpc-status", "14")], b"", &[]), "grpc_status: grpc-status 14");
        check(&answer(200, &[TYPE], WHOLE, &[("grpc-status", "7")]), "grpc_status: grpc-status 7");
        for odd in [&[("grpc-status", "zero")][..], &[]] {
            check(&answer(200, &[TYPE], WHOLE, odd), "malformed_answer: it has no grpc-status");
        }
        // A status ahead of a message says nothing of how the call ends.
        check(&answer(200, &[TYPE, OK], WHOLE, &[]), "malformed_answer: it has no grpc-status");
        for odd in [&b""[..], b"\0\0\0\0"] {
            check(&answer(200, &[TYPE], odd, &[OK]), "malformed_answer: there is no message in it");
        }
        let compressed = answer(200, &[TYPE], b"\x01\0\0\0\x02ab", &[OK]);
        check(&compressed, "malformed_answer: its message is compressed, which nobody has asked for");
        for odd in [&b"\0\0\0\0\x03ab"[..], b"\0\0\0\0\x01ab", b"\0\xff\xff\xff\xffab"] {
            check(&answer(200, &[TYPE], odd, &[OK]), "malformed_answer: it is not one whole message");
        }
    }
}
