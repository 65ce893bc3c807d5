//! LDAP as a client that checks passwords speaks it (RFC 4511): a few messages as bytes, and nothing of sockets.
//!
//! What a directory sends is read one level at a time and never by recursion: however deep it is nested, it costs its length.

mod ber;
mod filter;
mod message;

pub use self::{
    ber::{Frame, Malformed, frame},
    filter::Filter,
    message::{Request, Response, ResultCode, decode},
};
