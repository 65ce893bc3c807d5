//! Configuration: text to a checked, immutable snapshot.
//!
//! `text -> Node tree with positions -> raw resources (serde) -> expanded model -> Snapshot`. Each section compiles itself;
//! after compilation nothing asks whether a value is legal. Every problem is reported, not only the first.

pub mod load;

pub mod discovery;
pub mod environment;

pub mod node;
pub mod problem;

mod effective;
pub mod resources;
mod service_settings;
pub mod settings;

mod expand;
pub mod model;
mod substitute;

pub mod address;
mod bypass;
mod compile;
pub mod endpoints;
pub mod hash;
pub mod pattern;
mod port;
pub mod rule;
pub mod schema;
pub mod snapshot;
pub mod tls;

pub mod dump;

pub use compile::Intern;
pub use effective::duration as seconds;
pub use load::{Loaded, Loader, Outcome};

#[cfg(test)]
mod tests;
