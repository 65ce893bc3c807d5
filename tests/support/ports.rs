//! Free TCP ports for gateways.
//!
//! They come from below the ephemeral range: between the moment a port is chosen here and the moment the gateway binds
//! it, an outgoing connection of a case that runs beside this one could otherwise be given the same number.

use std::{
    collections::HashSet,
    net::TcpListener,
    sync::{Mutex, atomic::AtomicU32, atomic::Ordering},
};

static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
static NEXT: AtomicU32 = AtomicU32::new(0);

const LOWEST: u32 = 10_000;

/// A port that nobody listens on. No other caller in this process gets it again.
pub fn reserve() -> u16 {
    let span = ephemeral_start().saturating_sub(LOWEST).max(1000);
    // Two test processes on one machine begin at different places.
    let base = std::process::id().wrapping_mul(7919);
    for _ in 0..span {
        let port = (LOWEST + base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span) as u16;
        let mut taken = TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if TcpListener::bind(("0.0.0.0", port)).is_ok() && taken.get_or_insert_default().insert(port) {
            return port;
        }
    }
    panic!("no free port below the ephemeral range");
}

fn ephemeral_start() -> u32 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768)
}
