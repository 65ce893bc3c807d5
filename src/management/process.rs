//! What the kernel says about this process, under the names that every Prometheus client uses.

use std::{fs, time::SystemTime};

use super::{exposition::Page, metrics::unix_seconds};
use crate::telemetry::counts::Kind;

/// `/proc` counts CPU time in these, on every architecture we run on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What cannot be read is left out.
pub fn render(page: &mut Page, started_at: SystemTime) {
    let start = unix_seconds(started_at);
    page.single(Kind::Gauge, "process_start_time_seconds", "When the process started.", start);
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
        page.single(Kind::Counter, "process_cpu_seconds_total", "User and system time.", seconds);
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)) {
        page.single(Kind::Gauge, "process_resident_memory_bytes", "Memory in RAM.", bytes);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the listing's own.
        let open = entries.count().saturating_sub(1);
        page.single(Kind::Gauge, "process_open_fds", "Open file descriptors.", open);
    }
    if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().and_then(|limits| descriptor_limit(&limits)) {
        page.single(Kind::Gauge, "process_max_fds", "The limit on open file descriptors.", limit);
    }
}

/// `utime` and `stime` of `/proc/self/stat`: the 12th and 13th field behind the name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The soft limit; `unlimited` is no number.
fn descriptor_limit(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7"), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax open files   1024   524288   files\n";
        assert_eq!(descriptor_limit(limits), Some(1024));
    }
}
