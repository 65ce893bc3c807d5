//! TLS between a socket and whoever reads and writes it: records in, bytes out, and back.
//!
//! The library does no I/O. What came is decrypted where it lies, what goes is encrypted straight into a pooled buffer, and
//! a connection that waits holds neither. What a context is made of (certificates, trust, tickets) is not known here.

mod handshake;
mod session;

pub(super) use handshake::{Established, handshake};
pub use handshake::{Facts, Failure, HandshakeError};
pub use session::Side;
pub(super) use session::{PEEK, Session, is_at_most_an_alert};

/// The ends of a plain connection that a layer of records does not have.
pub(super) enum Layer {
    Plain,
    Tls(std::rc::Rc<Session>),
}

impl Clone for Layer {
    fn clone(&self) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Tls(session) => Self::Tls(session.clone()),
        }
    }
}
