//! What a load does to the machine, read from /proc: CPU of a server's threads, memory.

mod facts;
mod process;

use std::{thread, time::Duration};

pub use self::{
    facts::{Facts, timestamp},
    process::{Cpu, ProcessTree},
};
use crate::{generator::Running, sys};

/// One look at a server and the generators, while a load runs.
#[derive(Clone, Copy)]
pub struct Look {
    pub at_ns: u64,
    pub completed: u64,
    pub cpu: Option<Cpu>,
}

/// What a server cost between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub us_per_request: f64,
    /// The part of it that is user time.
    pub user_us: f64,
    /// Cores' worth of CPU.
    pub cores: f64,
}

impl Look {
    pub fn take(running: &Running, server: Option<&ProcessTree>) -> Self {
        let cpu = server.and_then(ProcessTree::cpu);
        Self { at_ns: sys::now_ns(), completed: running.completed(), cpu }
    }

    /// `None` without a server to look at, or when nothing was completed.
    pub fn cost_since(&self, earlier: &Self) -> Option<Cost> {
        let used = self.cpu?.since(earlier.cpu?);
        let requests = self.completed.checked_sub(earlier.completed).filter(|&requests| requests > 0)?;
        Some(Cost {
            us_per_request: used.run_ns as f64 / 1e3 / requests as f64,
            user_us: used.run_ns as f64 * used.user_share() / 1e3 / requests as f64,
            cores: used.run_ns as f64 / self.at_ns.saturating_sub(earlier.at_ns).max(1) as f64,
        })
    }
}

/// Looks at the beginning of the measured time, every `interval`, and at its end. `seen` is told of each.
pub fn watch(
    running: &Running,
    server: Option<&ProcessTree>,
    interval: Duration,
    mut seen: impl FnMut(&[Look]),
) -> Vec<Look> {
    let interval_ns = interval.as_nanos().max(1) as u64;
    let mut looks: Vec<Look> = Vec::new();
    let mut next_ns = running.window.start;
    loop {
        thread::sleep(Duration::from_nanos(next_ns.saturating_sub(sys::now_ns())));
        looks.push(Look::take(running, server));
        seen(&looks);
        if next_ns >= running.window.end {
            return looks;
        }
        next_ns = (next_ns + interval_ns).min(running.window.end);
    }
}
