//! The black-box runner: a case is parsed, its upstreams and gateway are started, and its steps are played in order.
//!
//! The language is described in `docs/testing.md`.

pub mod case;
pub mod client;
#[allow(dead_code, reason = "cases count nothing")]
pub mod counting;
pub mod gateway;
pub mod h2;
pub mod message;
pub mod play;
pub mod ports;
pub mod protocols;
#[allow(dead_code, reason = "cases have no shared storage")]
pub mod redis;
#[allow(dead_code, reason = "cases have no shared storage")]
pub mod replica;
pub mod script;
pub mod session;
#[allow(dead_code, reason = "cases have no directory")]
pub mod slapd;
pub mod text;
pub mod tls;
pub mod upstream;
