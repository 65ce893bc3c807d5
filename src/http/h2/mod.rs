//! HTTP/2 (RFC 9113, RFC 7541, RFC 8441) without I/O: bytes in, events out, bytes to send.
//!
//! [`Connection`] is both ends: a gateway is a server to its clients and a client to its upstreams. Whoever owns the
//! socket feeds it what came, asks it for events, and sends what it wrote. It never waits, and everything a peer can make
//! it keep or do has a limit: `budget.rs` says what work costs, `memory.rs` what heads may take.

mod connection;
mod error;
mod event;
mod limits;

mod memory;

pub use connection::{Connection, Outgoing};
pub use error::{Code, ConnectionError, Refused};
pub use event::{Event, StreamId};
pub use limits::Limits;
pub use memory::HeaderMemory;
