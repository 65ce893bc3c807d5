//! What a reader must know of the machine to judge a number.

use std::{fs, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::{driver::Driver, sys};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    /// `unknown` in most virtual machines.
    pub governor: String,
    /// Before the load: what others were doing on the machine.
    pub load_average: String,
    /// Of the generator.
    pub driver: String,
    pub version: String,
    pub file_limit: u64,
}

impl Facts {
    pub fn collect(driver: Driver) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpuinfo = read("/proc/cpuinfo");
        let of_line = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let memory = of_line(&read("/proc/meminfo"), "MemTotal");
        let memory_kib = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: of_line(&cpuinfo, "model name").unwrap_or_else(|| "unknown".into()),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_mib: memory_kib / 1024,
            governor: if governor.is_empty() { "unknown".into() } else { governor },
            load_average: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            driver: driver.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            file_limit: sys::raise_file_limit(),
        }
    }

    /// For a summary, one line.
    pub fn line(&self) -> String {
        format!(
            "{}, {} CPUs, {} MiB, kernel {}, governor {}, load average before {}",
            self.cpu, self.cpus, self.memory_mib, self.kernel, self.governor, self.load_average
        )
    }
}

/// RFC 3339, UTC, in seconds.
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days as i64);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Days since 1970 as a date: Howard Hinnant's algorithm, over eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_dates_of_utc() {
        let at = |seconds| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
