//! Configuration: text to a checked, immutable snapshot.
//!
//! `text -> Node tree with positions -> raw resources (serde) -> expanded model -> Snapshot`. Each section compiles itself;
//! after compilation nothing asks whether a value is legal. Every problem is reported, not only the first.

pub mod forward_proxy;
pub mod identity_management;
pub mod load;

pub mod discovery;
pub mod environment;
pub mod files;
mod told;

mod effective;
pub mod resources;
mod service_settings;
pub mod setting;
pub mod settings;
pub mod shared_storage;

mod expand;
pub mod model;
mod substitute;

mod bypass;
mod caches;
mod compile;
pub mod described;
pub mod endpoints;
mod port;
pub mod schema;
pub mod snapshot;
pub mod tls;

pub mod dump;

pub use compile::Intern;
pub use effective::GATEWAY_NAME;
pub use load::{Loaded, Loader, Outcome};

#[cfg(test)]
mod tests;
