//! The response cache: what may be stored and served (RFC 9111), and the store that all cores of the replica share.
//!
//! The judgement is pure: fields and times come as arguments, and nothing here knows of policies or of the proxy. A response is
//! immutable once it is stored, so who serves it holds an `Arc` and no lock.

pub mod condition;
pub mod control;
pub mod date;
pub mod entry;
pub mod freshness;
pub mod partition;
pub mod range;
pub mod record;
mod shard;
pub mod shared;
pub mod store;
#[cfg(test)]
mod testing;
pub mod vary;

pub use entry::{Body, Entry};
pub use partition::{Lead, Leading, Partition, Stamp};
pub use shard::Wake;
pub use store::Store;

/// Milliseconds since 1970 by the system's clock: ages are told to others, and outlive the process.
pub type Millis = u64;

/// The largest body that is stored.
pub const BODY_BYTES_MAX: usize = 1_048_576;
