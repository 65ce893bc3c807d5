//! Names of upstream hosts to addresses, each asked for again when its answer runs out.
//!
//! An answer that cannot be had leaves the old addresses in place: a DNS server that is away must not take the upstreams
//! with it. IPv4 is preferred where a host has both, so that `localhost` means the server that listens on 127.0.0.1.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::time::{Instant, timeout};

/// A shorter time to live is not honoured: nobody may make the gateway ask all the time.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
/// After a failure: 1 s, doubling.
const PAUSE_MAX: Duration = Duration::from_secs(30);
const LOOKUP_MAX: Duration = Duration::from_secs(10);
/// More addresses of one name are ignored.
const ADDRESSES_MAX: usize = 256;

/// What a name means, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    pub ttl: Duration,
}

/// Something that knows names. Tests have their own.
pub trait Resolve: Send + Sync + 'static {
    fn resolve(&self, host: &str) -> impl Future<Output = Result<Answer, String>> + Send;
}

/// `/etc/hosts` and the servers of `/etc/resolv.conf`; both files are read again when they change.
#[derive(Default)]
pub struct SystemResolver {
    current: Mutex<Option<(Stamps, TokioResolver)>>,
}

type Stamps = [Option<SystemTime>; 2];

impl SystemResolver {
    fn current(&self) -> Result<TokioResolver, String> {
        let modified = |path| Path::new(path).metadata().and_then(|metadata| metadata.modified()).ok();
        let stamps = ["/etc/resolv.conf", "/etc/hosts"].map(modified);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((read, resolver)) if *read == stamps => Ok(resolver.clone()),
            _ => {
                let resolver = build().map_err(|error| error.to_string())?;
                *current = Some((stamps, resolver.clone()));
                Ok(resolver)
            }
        }
    }
}

fn build() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
        tracing::warn!(%error, "/etc/resolv.conf is not usable; only names in /etc/hosts can be resolved");
        Resolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
    });
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    // `Names` below is the cache: it also keeps what has run out, for when nobody answers.
    options.cache_size = 0;
    builder.build()
}

impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> Result<Answer, String> {
        let resolver = self.current()?;
        let lookup = timeout(LOOKUP_MAX, resolver.lookup_ip(host)).await;
        let found = lookup.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
        Ok(Answer { addresses: found.iter().collect(), ttl })
    }
}

/// Every name that is wanted, what it means, and when to ask again. Does no I/O.
#[derive(Debug, Default)]
pub struct Names {
    hosts: HashMap<String, Host>,
}

#[derive(Debug)]
struct Host {
    addresses: Vec<IpAddr>,
    /// `None`: a question is under way.
    due: Option<Instant>,
    failures: u32,
    /// There has been an answer, or the lack of one.
    answered: bool,
}

impl Names {
    /// From now on these names count; others are forgotten.
    pub fn keep(&mut self, wanted: &HashSet<&str>, now: Instant) {
        self.hosts.retain(|host, _| wanted.contains(host.as_str()));
        for &host in wanted {
            if !self.hosts.contains_key(host) {
                let new = Host { addresses: Vec::new(), due: Some(now), failures: 0, answered: false };
                self.hosts.insert(host.to_owned(), new);
            }
        }
    }

    /// Names to ask for now, at most `count`; each stays out of the next lists until it is [`Names::answered`].
    pub fn take_due(&mut self, now: Instant, count: usize) -> Vec<String> {
        let due = self.hosts.iter_mut().filter(|(_, host)| host.due.is_some_and(|due| due <= now));
        due.take(count)
            .map(|(name, host)| {
                host.due = None;
                name.clone()
            })
            .collect()
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.hosts.values().filter_map(|host| host.due).min()
    }

    /// Takes an answer; true where addresses changed.
    pub fn answered(&mut self, name: &str, answer: Result<Answer, String>, now: Instant) -> bool {
        let Some(host) = self.hosts.get_mut(name) else {
            return false; // not wanted any more
        };
        host.answered = true;
        let answer = answer.and_then(|answer| match answer.addresses.is_empty() {
            true => Err("no address".to_owned()),
            false => Ok(answer),
        });
        match answer {
            Ok(Answer { mut addresses, ttl }) => {
                if host.failures > 0 {
                    tracing::info!(host = name, "resolved again");
                }
                host.failures = 0;
                host.due = Some(now + ttl.clamp(TTL_MIN, TTL_MAX));
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES_MAX);
                let changed = host.addresses != addresses;
                host.addresses = addresses;
                changed
            }
            Err(error) => {
                if host.failures == 0 {
                    tracing::warn!(host = name, error, stale = host.addresses.len(), "cannot resolve; kept as it was");
                }
                let pause = TTL_MIN * 2_u32.saturating_pow(host.failures.min(8));
                host.failures += 1;
                host.due = Some(now + pause.min(PAUSE_MAX));
                false
            }
        }
    }

    /// Every name has had its first answer, good or bad.
    pub fn settled(&self) -> bool {
        self.hosts.values().all(|host| host.answered)
    }

    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.hosts.get(name).map_or(&[], |host| &host.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str], ttl_s: u64) -> Result<Answer, String> {
        let addresses = addresses.iter().map(|address| address.parse().expect("a literal address")).collect();
        Ok(Answer { addresses, ttl: Duration::from_secs(ttl_s) })
    }

    fn names(now: Instant) -> Names {
        let mut names = Names::default();
        names.keep(&HashSet::from(["a"]), now);
        assert_eq!(names.take_due(now, 10), ["a"]);
        assert_eq!(names.take_due(now, 10), [""; 0], "one question at a time");
        names
    }

    #[test]
    fn the_time_to_live_is_bounded_both_ways() {
        let now = Instant::now();
        for (ttl_s, expected_s) in [(0, 1), (30, 30), (86_400, 300)] {
            let mut names = names(now);
            assert!(names.answered("a", answer(&["192.0.2.1"], ttl_s), now));
            assert_eq!(names.next_due(), Some(now + Duration::from_secs(expected_s)));
        }
    }

    #[test]
    fn a_failure_leaves_the_old_addresses_and_backs_off() {
        let now = Instant::now();
        let mut names = names(now);
        assert!(!names.settled());
        names.answered("a", answer(&["192.0.2.1"], 1), now);
        assert!(names.settled());
        for expected_s in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!names.answered("a", Err("away".to_owned()), now));
            assert_eq!(names.next_due(), Some(now + Duration::from_secs(expected_s)));
        }
        assert_eq!(names.addresses("a").len(), 1);
        assert!(!names.answered("a", answer(&[], 1), now), "an empty answer is a failure");
        assert!(names.answered("a", answer(&["192.0.2.2"], 7), now));
        assert_eq!(names.next_due(), Some(now + Duration::from_secs(7)));
    }

    #[test]
    fn the_order_of_an_answer_is_no_change() {
        let now = Instant::now();
        let mut names = names(now);
        assert!(names.answered("a", answer(&["192.0.2.2", "192.0.2.1", "192.0.2.2"], 1), now));
        assert!(!names.answered("a", answer(&["192.0.2.1", "192.0.2.2"], 1), now));
    }

    #[test]
    fn names_nobody_wants_are_forgotten() {
        let now = Instant::now();
        let mut names = names(now);
        names.keep(&HashSet::new(), now);
        assert!(!names.answered("a", answer(&["192.0.2.1"], 1), now));
        assert_eq!(names.next_due(), None);
    }

    #[tokio::test]
    async fn the_hosts_file_answers_for_localhost() {
        let answer = SystemResolver::default().resolve("localhost").await.expect("localhost has an address");
        assert_eq!(answer.addresses, [IpAddr::from([127, 0, 0, 1])]);
    }
}
