//! HTTP/2 connections in motion: the protocol's state, driven by a task of its own, and the streams that exchanges hold.

pub mod serve;
pub mod upstream;

use std::time::Duration;

use crate::{config::settings::Settings, http::h2::Limits};

mod link;
mod stream;

pub use link::{End, Link};
pub use stream::{Cut, Owned, Stream};

/// How the preface of a client begins (RFC 9113 section 3.4): no request of HTTP/1.1.
pub const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Whether a first line is none of HTTP/1 at all: three words, of which neither the second could be a target nor the third a
/// version. What speaks like this was to be HTTP/2, and is told in HTTP/2 that it is not.
pub fn is_failed_preface(received: &[u8]) -> bool {
    let Some(line) = memchr::memchr(b'\n', received).map(|end| received[..end].trim_ascii_end()) else { return false };
    // A handshake record of TLS may have everything in it.
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return false;
    }
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(_), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return false;
    };
    !target.is_empty()
        && !target.iter().any(|byte| b"/:*?#".contains(byte))
        && !version.get(..4).is_none_or(|start| start.eq_ignore_ascii_case(b"HTTP"))
}

/// What a client may ask of one connection.
pub fn limits(settings: &Settings) -> Limits {
    let (limits, h2) = (&settings.limits, &settings.limits.h2);
    Limits {
        concurrent_streams: h2.concurrent_streams as u32,
        stream_window: h2.stream_window as u32,
        connection_window: h2.connection_window as u32,
        work_per_second: h2.work_per_second as u32,
        header_memory_per_connection: h2.header_memory_per_connection,
        head_bytes: limits.head_bytes,
        header_count: limits.header_count,
        trailer_bytes: limits.trailer_bytes,
        extended_connect: true,
        stall_timeout: h2.stall.unwrap_or(Duration::MAX),
        head_timeout: settings.timeouts.request_head.unwrap_or(Duration::MAX),
        ping_after: None,
    }
}

/// The same for an upstream. One that takes a request slowly may have its reasons, so it has the time of every stream.
pub fn upstream_limits(settings: &Settings) -> Limits {
    let stall_timeout = settings.timeouts.stream_idle.unwrap_or(Duration::MAX);
    // Its answer's time is counted by whoever waits for it.
    Limits { stall_timeout, head_timeout: Duration::MAX, ping_after: settings.limits.h2.ping, ..limits(settings) }
}
