//! What a peer may ask of one connection.

use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that a client may have open at a time; announced.
    pub concurrent_streams: u32,
    /// Payload that one stream's peer may send before it is taken; announced.
    pub stream_window: u32,
    /// The same for all streams together. At least 65,535, which no setting can lower.
    pub connection_window: u32,
    /// Units of work, as `budget.rs` counts them, that a connection earns per second.
    pub work_per_second: u32,
    /// Heads of all open streams of the connection together, in bytes as RFC 9113 section 10.5.1 counts them.
    pub header_memory_per_connection: usize,
    /// One head, counted the same way; announced.
    pub head_bytes: usize,
    /// Field lines in a head or in trailers; each cookie crumb is one.
    pub header_count: usize,
    pub trailer_bytes: usize,
    /// A server that takes WebSockets (RFC 8441); announced.
    pub extended_connect: bool,
    /// How long a peer may keep a sender without window, and how long it may take to acknowledge SETTINGS.
    pub stall_timeout: Duration,
    /// How long a header block may take to come to its end, once it was seen to be incomplete.
    pub head_timeout: Duration,
    /// How long a peer may be silent while streams wait, before it is asked for a sign of life; and then again.
    pub ping_after: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_streams: 100,
            stream_window: 65_535,
            connection_window: 1 << 20,
            work_per_second: 10_000,
            header_memory_per_connection: 512 << 10,
            head_bytes: 60 << 10,
            header_count: 200,
            trailer_bytes: 8 << 10,
            extended_connect: true,
            stall_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            ping_after: None,
        }
    }
}
