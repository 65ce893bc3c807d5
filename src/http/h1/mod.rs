//! HTTP/1.0 and 1.1 (RFC 9112): a strict reader and a writer that emits only what was parsed.

pub mod parse;

pub mod body;
pub mod emit;
pub mod hop;
