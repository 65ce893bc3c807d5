//! HTTP as a protocol: heads, bodies, HTTP/1, HTTP/2. Knows nothing of routes or policies.

pub mod head;
pub mod target;

pub mod authority;
pub mod bytes;
pub mod h1;
pub mod h2;
pub mod method;
pub mod quirks;
pub mod websocket;
