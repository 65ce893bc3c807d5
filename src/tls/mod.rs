//! TLS without sockets: certificates and who is shown which, whom to trust, tickets.
//!
//! Contexts are immutable and shared by all cores. What the operator wrote is read in `config/`, and what becomes of bytes
//! in `net/tls/`.

pub mod certificate;
pub mod client;
pub mod server;
pub mod verify;

pub mod identity;
pub mod passphrase;
pub mod pem;
pub mod suites;
pub mod tickets;

pub use certificate::{Certificate, Fault, Part, Table};
pub use client::{ClientContext, ClientSettings, Trust};
pub use identity::Identity;
pub use server::{ClientCertificates, ServerContext, ServerSettings};
pub use tickets::TicketKeys;
pub use verify::Anchors;
