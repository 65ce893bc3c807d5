//! management

pub mod status;

pub mod admin;
pub mod metrics;
pub mod purge;
pub mod socket;

pub mod exposition;
pub mod process;

pub mod calls;
pub mod endpoints;
pub mod fetch;
pub mod health;
pub mod monitors;
pub mod published;
pub mod resolver;
pub mod storage;

pub mod log_sink;
pub mod watch;

pub mod service_manager;
pub mod supervise;
pub mod within;
