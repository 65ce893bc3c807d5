//! What `ringway run` was asked to do.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, str::FromStr};

use tracing::level_filters::LevelFilter;

use crate::{management::socket::Place, net::driver::Wanted};

/// What `ringway run` was asked to do: flags and environment, already checked.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Files and directories, in order. Empty: the places that `config::discovery` knows.
    pub config: Vec<PathBuf>,
    pub threads: Threads,
    pub io_driver: Wanted,
    pub management: SocketAddr,
    pub management_socket: Place,
    pub log_level: LevelFilter,
    pub log_format: LogFormat,
    /// What this gateway's replicas have in common, where no Configuration says.
    pub gateway_name: Option<String>,
    /// Serve the good documents of a set that also has bad ones.
    pub allow_partial: bool,
}

/// How many cores, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The affinity mask, cut down to the cgroup's CPU quota.
    Auto,
    Count(usize),
    /// These CPUs, ascending, one thread each.
    List(Vec<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// As many as a `cpu_set_t` holds.
const CPUS_MAX: usize = 1024;

impl FromStr for Threads {
    type Err = String;

    /// `auto`, a count, or a CPU list as `taskset -c` takes it: `0-3,6`. One CPU as a list is `3-3`: `3` is a count.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if !text.contains(['-', ',']) {
            return match text.parse::<usize>() {
                Ok(count @ 1..=CPUS_MAX) => Ok(Self::Count(count)),
                Ok(_) => Err(format!("a count is 1 to {CPUS_MAX} (CPU 0 alone is `0-0`)")),
                Err(_) => Err("neither `auto`, a count nor a CPU list such as `0-3,6`".into()),
            };
        }
        let cpu = |text: &str| match text.parse::<usize>() {
            Ok(cpu) if cpu < CPUS_MAX => Ok(cpu),
            Ok(_) => Err(format!("`{text}`: CPUs are numbered below {CPUS_MAX}")),
            Err(_) => Err(format!("`{text}` is not a CPU number")),
        };
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (cpu(first)?, cpu(last)?);
            if first > last {
                return Err(format!("`{part}` runs backwards"));
            }
            cpus.extend(first..=last);
        }
        Ok(Self::List(cpus.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_auto_a_count_or_a_cpu_list() {
        assert_eq!("auto".parse(), Ok(Threads::Auto));
        assert_eq!("4".parse(), Ok(Threads::Count(4)));
        assert_eq!("0-3,6".parse(), Ok(Threads::List(vec![0, 1, 2, 3, 6])));
        assert_eq!("3-3".parse(), Ok(Threads::List(vec![3])));
        assert_eq!("6,0-1,1".parse(), Ok(Threads::List(vec![0, 1, 6])));
    }

    #[test]
    fn threads_refuse_what_is_none_of_these() {
        for text in ["", "0", "1025", "all", "-1", "1-", "3-1", "0,,1", "0,x", "1024-1024", "0-99999999999999999999"] {
            assert!(text.parse::<Threads>().is_err(), "{text:?} was taken");
        }
    }
}
