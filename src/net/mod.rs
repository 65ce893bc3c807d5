//! Sockets and bytes: the facade behind which the I/O driver stands.
//!
//! No type of a driver crosses it, so there can be two, and nothing above knows which one runs. `unsafe` lives here (and
//! in `worker/`) only.

pub mod buffer;
mod calls;
pub mod deadline;
pub mod driver;
mod epoll;
mod executor;
pub mod faults;
pub mod listen;
pub mod mailbox;
pub mod pace;
pub mod proxy_protocol;
mod reactor;
mod ring;
pub mod signal;
pub mod stream;
pub mod task;
pub mod tls;

pub use buffer::Buffer;
pub use stream::{Receiver, Sender, Stream};
