//! One core: its thread, its ring, how a new snapshot reaches it, how it drains.

pub mod deadline;
