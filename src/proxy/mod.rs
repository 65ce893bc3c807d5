//! The life of a request, one file per step, in reading order.

pub mod listener;
pub mod spread;

pub mod arrival;

pub mod client;
mod gate;
pub mod handshake;

pub mod connection;
pub mod h2;
pub mod tenure;
pub mod wire;
pub mod workspace;

pub mod exchange;

mod call;
pub mod decide;
mod talk;
pub mod wait;

pub mod grpc;
pub mod headers;
pub mod route;

mod ahead;
mod body;
pub mod forward;
pub mod pool;
pub mod pump;
pub mod tunnel;

pub mod respond;

pub mod account;
pub mod reject;

pub mod core;
pub mod watch;
