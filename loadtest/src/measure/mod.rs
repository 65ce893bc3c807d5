//! What a load does to the machine, read from /proc: CPU of a server's threads, memory, how busy a core is.

mod facts;
mod process;

use std::{fs, thread, time::Duration};

pub use self::{
    facts::{Facts, timestamp},
    process::{Cpu, ProcessTree},
};
use crate::{generator::Running, sys};

/// How busy a CPU was since boot, all processes together, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CoreTicks {
    pub busy: u64,
    /// Time that the host gave to others.
    pub stolen: u64,
    pub all: u64,
}

impl CoreTicks {
    pub fn of(cpu: usize) -> Self {
        fs::read_to_string("/proc/stat").ok().and_then(|stat| Self::parse(&stat, cpu)).unwrap_or_default()
    }

    fn parse(stat: &str, cpu: usize) -> Option<Self> {
        let name = format!("cpu{cpu}");
        let line = stat.lines().find(|line| line.split(' ').next() == Some(&name))?;
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        let [_, _, _, idle, waiting, _, _, stolen] = ticks[..] else { return None };
        let all = ticks.iter().sum();
        Some(Self { busy: all - idle - waiting - stolen, stolen, all })
    }

    /// Shares of the time since an earlier look: busy, and stolen.
    pub fn since(self, earlier: Self) -> (f64, f64) {
        let all = self.all.saturating_sub(earlier.all).max(1) as f64;
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / all;
        (share(self.busy, earlier.busy), share(self.stolen, earlier.stolen))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cores_ticks_are_busy_idle_or_stolen() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 10 0 20 60 5 1 2 2 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        let ticks = CoreTicks::parse(stat, 1).expect("a CPU of that name");
        assert_eq!(ticks, CoreTicks { busy: 33, stolen: 2, all: 100 });
        assert_eq!(ticks.since(CoreTicks::default()), (0.33, 0.02));
        assert_eq!(CoreTicks::parse(stat, 2), None);
    }
}
