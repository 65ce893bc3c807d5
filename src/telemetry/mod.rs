//! What a core records about its own work, and how copies of it are merged.
//!
//! Recording is plain memory of one thread: no lock, no atomic, no allocation once a series has been used. Whoever wants
//! to look asks the core for a copy. Nothing here knows Prometheus; `management::metrics` renders.

pub mod series;

pub mod histogram;

pub mod core;
pub mod cost;
pub mod counts;
pub mod fault;

pub mod lines;

pub mod access_log;
pub mod calls;
pub mod message_log;

pub mod heartbeat;
pub mod policies;
