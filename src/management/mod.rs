//! management

pub mod status;

pub mod endpoints;
pub mod health;
pub mod resolver;

pub mod supervise;
