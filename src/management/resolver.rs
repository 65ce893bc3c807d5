//! Names of upstream hosts to addresses, each asked for again when its answer runs out.
//!
//! An answer that cannot be had leaves the old addresses in place: a DNS server that is away must not take the upstreams
//! with it. IPv4 is preferred where a host has both, so that `localhost` means the server that listens on 127.0.0.1.

use std::{
    collections::{HashMap, HashSet},
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::Name,
    system_conf,
};
use tokio::time::{Instant, timeout};

use crate::telemetry::fault::Fault;

/// A shorter time to live is not honoured: nobody may make the gateway ask all the time.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
/// After a failure: 1 s, doubling.
const PAUSE_MAX: Duration = Duration::from_secs(30);
const LOOKUP_MAX: Duration = Duration::from_secs(10);
/// How soon a change of the hosts file is seen.
const HOSTS_TTL: Duration = Duration::from_secs(5);
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
pub struct SystemResolver {
    hosts_file: PathBuf,
    /// Who is asked, by the text of the other file.
    servers: fn(&[u8]) -> Result<Servers, NetError>,
    servers_file: PathBuf,
    current: Mutex<Option<(Stamps, Arc<System>)>>,
}

type Stamps = [Option<SystemTime>; 2];
type Servers = (ResolverConfig, ResolverOpts);

struct System {
    hosts: Hosts,
    servers: TokioResolver,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            hosts_file: "/etc/hosts".into(),
            servers: |text| system_conf::parse_resolv_conf(text),
            servers_file: "/etc/resolv.conf".into(),
            current: Mutex::default(),
        }
    }
}

impl SystemResolver {
    fn current(&self) -> Result<Arc<System>, String> {
        let modified = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
        let stamps = [modified(&self.servers_file), modified(&self.hosts_file)];
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((read, system)) if *read == stamps => Ok(system.clone()),
            _ => {
                let hosts = Hosts::parse(&fs::read(&self.hosts_file).unwrap_or_default());
                let system = Arc::new(System { hosts, servers: self.build().map_err(|error| error.to_string())? });
                *current = Some((stamps, system.clone()));
                Ok(system)
            }
        }
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let configured = fs::read(&self.servers_file).map_err(NetError::from).and_then(|text| (self.servers)(&text));
        let (config, mut options) = configured.unwrap_or_else(|error| {
            tracing::warn!(%error, "/etc/resolv.conf is not usable; only names in /etc/hosts can be resolved");
            (ResolverConfig::default(), ResolverOpts::default())
        });
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        // The library reads that file for names of its own taste only.
        options.use_hosts_file = ResolveHosts::Never;
        // `Names` below is the cache: it also keeps what has run out, for when nobody answers.
        options.cache_size = 0;
        Resolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
    }
}

impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> Result<Answer, String> {
        let system = self.current()?;
        if let Some(addresses) = system.hosts.addresses(host) {
            return Ok(Answer { addresses: addresses.to_vec(), ttl: HOSTS_TTL });
        }
        // This host, whatever anybody says (RFC 6761 section 6.3).
        if is_below(host, "localhost") {
            return Ok(Answer { addresses: vec![Ipv4Addr::LOCALHOST.into()], ttl: TTL_MAX });
        }
        if is_below(host, "invalid") {
            return Err("no such name".to_owned()); // RFC 6761 section 6.4
        }
        let lookup = timeout(LOOKUP_MAX, system.servers.lookup_ip(name(host)?)).await;
        let found = lookup.map_err(|_| "no answer in time".to_owned())?.map_err(|error| said(&error))?;
        let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
        Ok(Answer { addresses: found.iter().collect(), ttl })
    }
}

/// A host name as DNS asks for it: bytes, of which none means anything but the dot (RFC 2181 section 11). Names of services
/// have `_`, or begin with `-`, which are no host names of RFC 952, and resolve all the same.
fn name(host: &str) -> Result<Name, String> {
    let (relative, is_absolute) = match host.strip_suffix('.') {
        Some(relative) => (relative, true),
        None => (host, false),
    };
    let labels = relative.split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).map_err(|error| format!("not a name: {error}"))?;
    name.set_fqdn(is_absolute);
    Ok(name)
}

/// Whether a name is this one or ends in it.
fn is_below(host: &str, top: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(top))
}

/// What a resolver's error means to whoever wrote the name.
fn said(error: &NetError) -> String {
    match () {
        () if error.is_nx_domain() => "no such name".to_owned(),
        () if error.is_no_records_found() => "the name has no address".to_owned(),
        () => error.to_string(),
    }
}

/// A hosts file: names in lower case, each with its addresses of IPv4 or, where it has none, of IPv6.
#[derive(Debug, Default)]
struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut all: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                all.entry(key(name)).or_default().push(address);
            }
        }
        for addresses in all.values_mut() {
            if addresses.iter().any(IpAddr::is_ipv4) {
                addresses.retain(IpAddr::is_ipv4);
            }
        }
        Self(all)
    }

    fn addresses(&self, host: &str) -> Option<&[IpAddr]> {
        self.0.get(&key(host)).map(Vec::as_slice)
    }
}

/// Names have no case, and a dot at the end means nothing where there is nothing to be relative to.
fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
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
    /// Why the last question brought nothing.
    failure: Option<String>,
    /// There has been an answer, or the lack of one.
    answered: bool,
}

impl Names {
    /// From now on these names count; others are forgotten.
    pub fn keep(&mut self, wanted: &HashSet<&str>, now: Instant) {
        self.hosts.retain(|host, _| wanted.contains(host.as_str()));
        for &host in wanted {
            if !self.hosts.contains_key(host) {
                let new = Host { addresses: Vec::new(), due: Some(now), failures: 0, failure: None, answered: false };
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

    /// Takes an answer; true where addresses changed, or why there are none.
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
                let was_missing = host.failure.take().is_some();
                host.due = Some(now + ttl.clamp(TTL_MIN, TTL_MAX));
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES_MAX);
                let changed = host.addresses != addresses;
                host.addresses = addresses;
                changed || was_missing
            }
            Err(error) => {
                if host.failures == 0 {
                    tracing::warn!(host = name, error, stale = host.addresses.len(), "cannot resolve; kept as it was");
                }
                let pause = TTL_MIN * 2_u32.saturating_pow(host.failures.min(8));
                host.failures += 1;
                host.due = Some(now + pause.min(PAUSE_MAX));
                let is_news = host.failure.as_ref() != Some(&error);
                host.failure = Some(error);
                is_news
            }
        }
    }

    /// Every name has had its first answer, good or bad.
    pub fn settled(&self) -> bool {
        self.hosts.values().all(|host| host.answered)
    }

    /// Names of which the last question brought nothing, and why.
    pub fn unresolved(&self) -> impl Iterator<Item = (String, Fault)> {
        let fault =
            |(name, host): (&String, &Host)| Some((name.clone(), Fault::new("unresolved", host.failure.clone()?)));
        self.hosts.iter().filter_map(fault)
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
        for (failure, expected_s) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
            assert_eq!(names.answered("a", Err("away".to_owned()), now), failure == 0, "news once");
            assert_eq!(names.next_due(), Some(now + Duration::from_secs(expected_s)));
        }
        assert_eq!(names.addresses("a").len(), 1);
        assert_eq!(names.unresolved().next(), Some(("a".to_owned(), Fault::new("unresolved", "away"))));
        assert!(names.answered("a", answer(&[], 1), now), "an empty answer is a failure of its own");
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
    async fn localhost_is_this_host_whatever_the_files_say() {
        let (_directory, resolver) = system("", None);
        for name in ["localhost", "LocalHost.", "app.localhost"] {
            let answer = resolver.resolve(name).await.expect("an address");
            assert_eq!(answer.addresses, [IpAddr::from([127, 0, 0, 1])], "{name}");
        }
    }

    #[tokio::test]
    async fn names_in_the_hosts_file_may_have_any_bytes_and_any_case() {
        let hosts =
            "\u{feff}127.0.0.9 Billing_API -odd xn--- # orders\n::1 six both\nfe80::1%lo no\n127.0.0.8\tboth.\n";
        let (_directory, resolver) = system(hosts, None);
        for (name, address) in [
            ("billing_api", "127.0.0.9"),
            ("BILLING_API.", "127.0.0.9"),
            ("-odd", "127.0.0.9"),
            ("xn---", "127.0.0.9"),
            ("six", "::1"),
            ("both", "127.0.0.8"),
        ] {
            let answer = resolver.resolve(name).await.expect(name);
            assert_eq!(answer.addresses, [address.parse::<IpAddr>().expect("a literal address")], "{name}");
        }
        assert_eq!(Hosts::parse(hosts.as_bytes()).addresses("orders"), None, "a comment");
    }

    #[tokio::test]
    async fn names_of_services_resolve_by_dns_whatever_bytes_they_have() {
        let (server, asked) = dns(&["my_svc.ns.test.", "-odd.test.", "a.b_c.d.", "xn---.test."]);
        let (_directory, resolver) = system("", Some(server));
        for name in ["my_svc.ns.test", "My_Svc.NS.test.", "-odd.test", "xn---.test", "my_svc.ns", "a.b_c.d."] {
            let answer = resolver.resolve(name).await.expect(name);
            assert_eq!(answer.addresses, [IpAddr::from([192, 0, 2, 7])], "{name}");
        }
        assert_eq!(resolver.resolve("missing.test.").await, Err("no such name".to_owned()));
        assert!(asked.lock().expect("no holder panics").contains("my_svc.ns.test."), "`search test` was applied");
    }

    /// A resolver with these files; without a server nobody answers.
    fn system(hosts: &str, server: Option<std::net::SocketAddr>) -> (tempfile::TempDir, SystemResolver) {
        let directory = tempfile::tempdir().expect("a directory");
        let (hosts_file, servers_file) = (directory.path().join("hosts"), directory.path().join("resolv.conf"));
        fs::write(&hosts_file, hosts).expect("a file");
        let text =
            server.map_or_else(String::new, |server| format!("nameserver 127.0.0.1\nsearch test\n#{}", server.port()));
        fs::write(&servers_file, text).expect("a file");
        (directory, SystemResolver { hosts_file, servers: with_port, servers_file, current: Mutex::default() })
    }

    /// Port 53 is not ours to bind: the last word of the file is another.
    fn with_port(text: &[u8]) -> Result<Servers, NetError> {
        let (config, options) = system_conf::parse_resolv_conf(text)?;
        let port =
            std::str::from_utf8(text).ok().and_then(|text| text.rsplit('#').next()?.parse().ok()).expect("a port");
        let mut servers = config.name_servers().to_vec();
        servers.iter_mut().flat_map(|server| &mut server.connections).for_each(|connection| connection.port = port);
        Ok((ResolverConfig::from_parts(config.domain().cloned(), config.search().to_vec(), servers), options))
    }

    type Asked = Arc<Mutex<HashSet<String>>>;

    /// A DNS server that knows these names, each as 192.0.2.7; and what it was asked for.
    fn dns(known: &[&str]) -> (std::net::SocketAddr, Asked) {
        let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
        let (socket, asked) = (std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port"), Asked::default());
        let (address, told) = (socket.local_addr().expect("a bound address"), asked.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((received, client)) = socket.recv_from(&mut buffer) {
                let query = &buffer[..received];
                let (mut name, mut at) = (String::new(), 12);
                while query[at] > 0 {
                    let label = &query[at + 1..=at + usize::from(query[at])];
                    name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                    name.push('.');
                    at += label.len() + 1;
                }
                let question = &query[12..at + 5];
                let (is_known, is_a) = (known.contains(&name), question[question.len() - 3] == 1);
                told.lock().expect("no holder panics").insert(name);
                let answers = u8::from(is_known && is_a);
                let header =
                    [query[0], query[1], 0x81, if is_known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0];
                let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7];
                let answer = [&header[..], question, if answers > 0 { &record } else { &[] }].concat();
                socket.send_to(&answer, client).expect("the client is there");
            }
        });
        (address, asked)
    }
}
