//! Ringway, an API gateway: one pinned io_uring event loop per core, one tokio thread beside them for everything slow.
//!
//! The modules in reading order. `app.rs` is the only file that knows everyone; `docs/architecture.md` says who may
//! import whom, and `tests/tidy.rs` checks it.

pub mod app;
pub mod cache;
pub mod calls;
pub mod cli;
pub mod config;
pub mod document;
pub mod explain;
pub mod expression;
pub mod http;
pub mod ldap;
pub mod management;
pub mod matching;
pub mod net;
pub mod policies;
pub mod proxy;
pub mod quota;
pub mod storage;
pub mod telemetry;
pub mod tls;
pub mod worker;
