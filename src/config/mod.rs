//! Configuration: text to a checked, immutable snapshot.
//!
//! `text -> Node tree with positions -> raw resources (serde) -> checked model -> Snapshot`. Each section compiles itself;
//! after compilation nothing asks whether a value is legal. Every problem is reported, not only the first.

pub mod address;
pub mod discovery;
pub mod effective;
pub mod endpoints;
pub mod environment;
pub mod node;
pub mod pattern;
pub mod problem;
pub mod resources;
pub mod rule;
pub mod settings;
pub mod snapshot;
