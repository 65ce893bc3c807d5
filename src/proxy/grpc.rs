//! What gRPC adds to HTTP/2: errors that its clients understand, and the time that a call may take.
//!
//! A gRPC client looks for its status in the trailers, so an answer of the gateway's own is a head that is trailers at the same
//! time ("Trailers-Only", `PROTOCOL-HTTP2.md` of gRPC). Its status follows gRPC's mapping of HTTP's
//! (`http-grpc-status-mapping.md`).

use std::time::Duration;

use crate::{
    http::{
        bytes,
        head::{Fields, RequestHead, ResponseHead, Version},
    },
    policies::LocalResponse,
};

const DEADLINE_EXCEEDED: u8 = 4;

/// The reason code of a call that took longer than its client gives it.
pub const TIMEOUT: &str = "grpc_timeout";

/// Whether the answer is for a gRPC client.
pub fn is_call(request: &RequestHead) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    request.version == Version::Http2
        && request.method == b"POST"
        && request.fields.get(b"content-type").is_some_and(|value| {
            value.get(..TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
                && matches!(value.get(TYPE.len()), None | Some(b'+' | b';'))
        })
}

/// How long the call may take: `grpc-timeout`, at most eight digits and a unit. One that cannot be read is none.
fn timeout(request: &RequestHead) -> Option<Duration> {
    if !is_call(request) {
        return None;
    }
    let (unit, digits) = request.fields.get(b"grpc-timeout")?.split_last()?;
    if digits.len() > 8 {
        return None;
    }
    let amount = bytes::decimal(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// What is left of that time; `age` tells how long ago the request's head was complete.
pub fn time_left(request: &RequestHead, age: impl FnOnce() -> Duration) -> Option<Duration> {
    timeout(request).map(|limit| limit.saturating_sub(age()))
}

/// Makes an answer of the gateway's own one that ends a call.
pub fn fill(response: &mut ResponseHead, answer: &LocalResponse) {
    response.clear();
    response.is_own = true;
    response.status = 200;
    response.fields.append(b"content-type", b"application/grpc");
    // What a policy says beside its refusal, such as a challenge, means the same here.
    answer.headers.iter().for_each(|(name, value)| response.fields.append(name.as_bytes(), value.as_bytes()));
    if response.fields.get(b"grpc-status").is_none() {
        append_status(&mut response.fields, code(answer), answer.reason);
    }
}

/// The trailers of a call whose time is over in the middle of its answer.
pub fn timeout_trailers() -> Fields {
    let mut fields = Fields::default();
    append_status(&mut fields, DEADLINE_EXCEEDED, TIMEOUT);
    fields
}

/// `message` is a reason code, which needs no escapes.
fn append_status(fields: &mut Fields, code: u8, message: &str) {
    fields.append(b"grpc-status", code.to_string().as_bytes());
    fields.append(b"grpc-message", message.as_bytes());
}

fn code(answer: &LocalResponse) -> u8 {
    match answer.status {
        _ if answer.reason == TIMEOUT => DEADLINE_EXCEEDED,
        400 => 13,             // INTERNAL
        401 => 16,             // UNAUTHENTICATED
        403 => 7,              // PERMISSION_DENIED
        404 => 12,             // UNIMPLEMENTED
        429 | 502..=504 => 14, // UNAVAILABLE
        _ => 2,                // UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(content_type: &str, timeout: &str) -> RequestHead {
        let mut request = RequestHead { version: Version::Http2, method: b"POST".to_vec(), ..RequestHead::default() };
        request.fields.append(b"content-type", content_type.as_bytes());
        request.fields.append(b"grpc-timeout", timeout.as_bytes());
        request
    }

    #[test]
    fn calls_are_known_by_their_type() {
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=utf-8"] {
            assert!(is_call(&call(kind, "1S")), "{kind}");
        }
        for kind in ["application/grpc-web", "application/json", "application/grp", ""] {
            assert!(!is_call(&call(kind, "1S")), "{kind}");
        }
    }

    #[test]
    fn times_have_units_and_few_digits() {
        let of = |text| timeout(&call("application/grpc", text));
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(of("1M"), Some(Duration::from_secs(60)));
        assert_eq!(of("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("0n"), Some(Duration::ZERO));
        for wrong in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", " 1S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
