//! HTTP/2 connections in motion: the protocol's state, driven by a task of its own, and the streams that exchanges hold.

pub mod serve;
pub mod upstream;

mod link;
mod stream;

pub use link::{End, Link};
pub use stream::{Cut, Owned, Stream};

/// How the preface of a client begins (RFC 9113 section 3.4): no request of HTTP/1.1.
pub const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";
