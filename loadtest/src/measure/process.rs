//! CPU and memory of a process with all its children.
//!
//! The kernel's clock of a process counts nanoseconds; utime and stime in /proc are the same time in ticks of 10 ms, too
//! coarse for a few seconds of a server that is mostly idle. So the clock says how much, and the ticks how it is shared
//! between user and system.

use std::{collections::BTreeMap, fs};

use crate::sys;

/// A process and what it started.
#[derive(Clone, Copy, Debug)]
pub struct ProcessTree(pub u32);

/// CPU used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    pub run_ns: u64,
    pub user_ticks: u64,
    pub system_ticks: u64,
}

impl Cpu {
    pub fn since(self, earlier: Self) -> Self {
        let user_ticks = self.user_ticks.saturating_sub(earlier.user_ticks);
        let system_ticks = self.system_ticks.saturating_sub(earlier.system_ticks);
        Self { run_ns: self.run_ns.saturating_sub(earlier.run_ns), user_ticks, system_ticks }
    }

    pub fn user_share(&self) -> f64 {
        self.user_ticks as f64 / (self.user_ticks + self.system_ticks).max(1) as f64
    }

    fn add(&mut self, other: Self) {
        self.run_ns += other.run_ns;
        self.user_ticks += other.user_ticks;
        self.system_ticks += other.system_ticks;
    }
}

/// Memory in user space, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    /// Proportional set: pages that several processes share are counted once.
    pub proportional: u64,
    /// Heap and stacks: what grows with connections.
    pub anonymous: u64,
}

impl ProcessTree {
    /// `None`: the process is gone.
    pub fn cpu(&self) -> Option<Cpu> {
        let mut sum = Cpu::default();
        for pid in self.pids() {
            match cpu_of(pid) {
                Some(cpu) => sum.add(cpu),
                None if pid == self.0 => return None,
                // A child that ended just now.
                None => {}
            }
        }
        Some(sum)
    }

    pub fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        for pid in self.pids() {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let memory = parse_memory(&text);
            sum.proportional += memory.proportional;
            sum.anonymous += memory.anonymous;
        }
        sum
    }

    /// CPU of each thread by its name, in ticks; those of one name together.
    pub fn thread_ticks(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for task in self.pids().iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task"))).flatten().flatten() {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map(|(name, _)| name);
            if let (Some(name), Some((user, system))) = (name, parse_stat(&stat)) {
                *sums.entry(name.to_owned()).or_default() += user + system;
            }
        }
        sums
    }

    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.0];
        let mut at = 0;
        while at < pids.len() {
            for task in fs::read_dir(format!("/proc/{}/task", pids[at])).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            at += 1;
        }
        pids
    }
}

fn cpu_of(pid: u32) -> Option<Cpu> {
    let (user_ticks, system_ticks) = parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(Cpu { run_ns: sys::process_cpu_ns(pid)?, user_ticks, system_ticks })
}

/// User and system ticks: fields 14 and 15, counted behind the command's name, which may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(11)?.parse().ok()?, fields.get(12)?.parse().ok()?))
}

fn parse_memory(rollup: &str) -> Memory {
    let kilobytes = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    Memory { proportional: kilobytes("Pss:") * 1024, anonymous: kilobytes("Anonymous:") * 1024 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 321 45 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_stat(stat), Some((321, 45)));
    }

    #[test]
    fn memory_is_read_by_name() {
        let rollup = "5560-7ff [rollup]\nRss: 900 kB\nPss:    800 kB\nPss_Anon:  70 kB\nAnonymous:   60 kB\n";
        assert_eq!(parse_memory(rollup), Memory { proportional: 800 * 1024, anonymous: 60 * 1024 });
    }

    #[test]
    fn our_own_process_has_used_some() {
        let tree = ProcessTree(std::process::id());
        let before = tree.cpu().expect("we are running");
        let sum = (0..20_000_000u64).fold(0u64, |sum, number| std::hint::black_box(sum ^ number));
        assert_ne!(sum, 1);
        let used = tree.cpu().expect("we are running").since(before);
        assert!(used.run_ns > 100_000, "{used:?}");
        assert!(tree.memory().anonymous > 0 && !tree.thread_ticks().is_empty());
    }
}
