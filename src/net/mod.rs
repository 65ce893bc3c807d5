//! Sockets and bytes: the facade behind which the I/O driver stands.
//!
//! No type of the runtime crosses it, so another driver can take its place without a change above. `unsafe` lives here (and
//! in `worker/`) only.

pub mod buffer;
pub mod driver;
pub mod listen;
pub mod mailbox;
pub mod stream;
pub mod task;

pub use buffer::Buffer;
pub use stream::{Receiver, Sender, Stream};
