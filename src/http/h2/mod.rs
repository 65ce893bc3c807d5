//! HTTP/2 (RFC 9113, RFC 7541, RFC 8441) without I/O: bytes in, events out, bytes to send.
//!
//! [`Connection`] is both ends: a gateway is a server to its clients and a client to its upstreams. Whoever owns the
//! socket feeds it what came, asks it for events, and sends what it wrote. It never waits, and everything a peer can make
//! it keep or do has a limit: `budget.rs` says what work costs, `memory.rs` what heads may take.

mod connection;
mod event;
mod limits;

mod receive;

mod block;
mod flow;
mod send;

mod error;
mod frame;
mod hpack;
mod incoming;

mod budget;
mod memory;
mod streams;
mod window;

pub use connection::Connection;
pub use error::{Code, ConnectionError, Refused};
pub use event::{Event, StreamId};
pub use limits::Limits;
pub use memory::HeaderMemory;
pub use send::Outgoing;

#[cfg(test)]
mod tests;
