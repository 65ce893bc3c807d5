//! How many cores to run, and on which CPUs.

use std::{fs, path::Path};

use super::allowed_cpus;

/// One entry per core to start: the CPU to pin it to.
///
/// `wanted` is a count, or `None` for as many as the affinity mask and the cgroup's quota give.
pub fn plan(wanted: Option<usize>) -> Vec<Option<usize>> {
    let allowed = allowed_cpus();
    let available = allowed.len().max(1);
    let count = wanted.unwrap_or_else(|| quota().map_or(available, |quota| quota.min(available)));
    (0..count).map(|core| allowed.get(core % available).copied()).collect()
}

/// The cgroup's CPU quota in whole CPUs, rounded up. `None`: there is none.
fn quota() -> Option<usize> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    membership.lines().filter_map(quota_of_line).min()
}

fn quota_of_line(line: &str) -> Option<usize> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let (root, read): (&str, fn(&Path) -> Option<usize>) = match controllers {
        "" => ("/sys/fs/cgroup", quota_v2),
        _ if controllers.split(',').any(|controller| controller == "cpu") => ("/sys/fs/cgroup/cpu", quota_v1),
        _ => return None,
    };
    // A limit on any group above holds too. In a container the group's own path may not be mounted; its root is.
    let group = Path::new(root).join(path);
    group.ancestors().take_while(|group| group.starts_with(root)).filter_map(read).min()
}

fn quota_v2(group: &Path) -> Option<usize> {
    parse_cpu_max(&fs::read_to_string(group.join("cpu.max")).ok()?)
}

fn quota_v1(group: &Path) -> Option<usize> {
    let read = |file| fs::read_to_string(group.join(file)).ok();
    parse_cpu_max(&format!("{} {}", read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim()))
}

/// `max 100000` or `150000 100000`; a quota of -1 is none.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let mut numbers = text.split_whitespace();
    let quota: u64 = numbers.next()?.parse().ok()?;
    let period: u64 = numbers.next()?.parse().ok().filter(|&period| period > 0)?;
    Some((quota.div_ceil(period) as usize).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("50000 100000"), Some(1));
        assert_eq!(parse_cpu_max("-1 100000"), None);
        assert_eq!(parse_cpu_max("1 0"), None);
    }

    #[test]
    fn a_count_is_met_and_auto_is_at_least_one() {
        assert_eq!(plan(Some(3)).len(), 3);
        assert!(!plan(None).is_empty());
    }
}
