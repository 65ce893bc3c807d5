//! Configuration: text to a checked, immutable snapshot.
//!
//! `text -> Node tree with positions -> raw resources (serde) -> checked model -> Snapshot`. Each section compiles itself;
//! after compilation nothing asks whether a value is legal. Every problem is reported, not only the first.

pub mod endpoints;
pub mod pattern;
pub mod problem;
pub mod rule;
pub mod settings;
pub mod snapshot;
