//! One version of everything the data plane serves: immutable, shared by all cores.
//!
//! What is here has been checked. A policy that could not be built is `Compiled::Broken` in its chain, so that nothing on a
//! request's way asks whether the configuration was right.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{settings::Settings, shared_storage::SharedStorage};
use crate::{
    calls::ForwardProxy,
    document::{
        address::Endpoint,
        hash::Stable,
        problem::{Location, Problem},
    },
    http::authority::host,
    matching::rule::Rule,
    policies::{chain::BoundPolicy, clients::Contracts, wants::Want},
    telemetry::series::SeriesId,
    tls::{ClientContext, ServerContext},
};

#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with every snapshot this process made.
    pub generation: u64,
    /// Hash of the configuration, the same on every replica with the same files. Lower-case hex.
    pub hash: String,
    pub settings: Settings,
    pub listeners: Vec<Listener>,
    pub apis: Vec<Arc<Api>>,
    pub services: Vec<Arc<Service>>,
    /// Whom policies call, as cores reach it; each once. No route leads there.
    pub called: Vec<Arc<Service>>,
    /// How many regular expressions the rules hold; cores size their scratch space by it.
    pub patterns: usize,
    /// What its policies need from elsewhere; each once.
    pub wants: Vec<Want>,
    /// Who may come. It is published, and no policy is compiled with it.
    pub contracts: Contracts,
    /// Where what replicas share is kept.
    pub storage: SharedStorage,
    /// What `/config` and the log say about this set.
    pub problems: Vec<Problem>,
    /// Files beside the configuration that it was made from: certificates and keys.
    pub files: Vec<PathBuf>,
}

impl Snapshot {
    /// Everybody with an address to connect to: Services, and whom policies call.
    pub fn reached(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().chain(&self.called)
    }

    /// What a core serves before it is told: nothing.
    pub fn empty() -> Self {
        Self {
            generation: 0,
            hash: String::new(),
            settings: Settings::default(),
            listeners: Vec::new(),
            apis: Vec::new(),
            services: Vec::new(),
            called: Vec::new(),
            patterns: 0,
            wants: Vec::new(),
            contracts: Contracts::default(),
            storage: SharedStorage::Memory,
            problems: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// One address to bind, with the APIs that share it.
#[derive(Debug)]
pub struct Listener {
    pub address: SocketAddr,
    /// Every connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    pub apis: ApiIndex,
    /// Where it serves https.
    pub tls: Option<Arc<ServerContext>>,
}

/// Finds the API of an authority and a path: the most exact host first, and what no host takes goes to those that name
/// none. A listener where nobody names one looks at no host.
#[derive(Debug, Default)]
pub struct ApiIndex {
    any: BaseIndex,
    literal: HashMap<String, BaseIndex>,
    /// With their dot, the longest first.
    suffixes: Vec<(String, BaseIndex)>,
}

impl ApiIndex {
    /// Adds an API under each of its hosts. The caller has refused clashes.
    pub fn insert(&mut self, hosts: &[String], base: &str, api: usize) {
        if hosts.is_empty() {
            self.any.insert(base, api);
        }
        for host in hosts {
            let Some(suffix) = host.strip_prefix('*') else {
                self.literal.entry(host.clone()).or_default().insert(base, api);
                continue;
            };
            if !self.suffixes.iter().any(|(known, _)| known == suffix) {
                self.suffixes.push((suffix.to_owned(), BaseIndex::default()));
                self.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
            }
            let index = self.suffixes.iter_mut().find(|(known, _)| known == suffix);
            index.expect("it was just added").1.insert(base, api);
        }
    }

    /// As [`BaseIndex::find`].
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<(usize, usize)> {
        if self.literal.is_empty() && self.suffixes.is_empty() {
            return self.any.find(path);
        }
        let host = host(authority);
        let literal = self.literal.get(&*host).and_then(|index| index.find(path));
        let of_suffix = || {
            let mut holding = self.suffixes.iter().filter(|(suffix, _)| host.ends_with(suffix.as_str()));
            holding.find_map(|(_, index)| index.find(path))
        };
        literal.or_else(of_suffix).or_else(|| self.any.find(path))
    }
}

/// Finds the API of a path. Bases on one listener never clash, so at most one holds, and the cost does not grow with
/// their number: one hash look-up for each distinct depth among them.
#[derive(Debug, Default)]
pub struct BaseIndex {
    /// By base path without its trailing slash (`""` for the root).
    by_base: HashMap<Box<[u8]>, Base, BuildHasherDefault<BaseHasher>>,
    /// The distinct numbers of segments among the bases, ascending.
    depths: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Base {
    /// Index into `Snapshot::apis`.
    api: usize,
    /// Written with a trailing slash: `/foo/` holds `/foo/bar` and not `/foo`.
    needs_slash: bool,
}

impl BaseIndex {
    /// Adds a base path as written (`/api`, `/foo/`, `/` or empty). The caller has refused clashes.
    pub fn insert(&mut self, base: &str, api: usize) {
        let trimmed = base.strip_suffix('/').unwrap_or(base);
        let depth = trimmed.bytes().filter(|&byte| byte == b'/').count();
        if let Err(at) = self.depths.binary_search(&depth) {
            self.depths.insert(at, depth);
        }
        let needs_slash = !trimmed.is_empty() && trimmed.len() < base.len();
        self.by_base.insert(trimmed.as_bytes().into(), Base { api, needs_slash });
    }

    /// The API of a normalised path, and how many bytes its base takes; `matching::rule::relative` gives the rest.
    pub fn find(&self, path: &[u8]) -> Option<(usize, usize)> {
        if path.first() != Some(&b'/') {
            return None;
        }
        // `end` is where the segment number `depth` ends: at a slash or at the end of the path.
        let (mut depth, mut end) = (0, 0);
        for &wanted in &self.depths {
            while depth < wanted {
                if end == path.len() {
                    return None;
                }
                end += 1 + memchr::memchr(b'/', &path[end + 1..]).unwrap_or(path.len() - end - 1);
                depth += 1;
            }
            if let Some(base) = self.by_base.get(&path[..end])
                && !(base.needs_slash && end == path.len())
            {
                return Some((base.api, end));
            }
        }
        None
    }
}

/// The operator wrote the keys, so nobody can crowd a bucket, and a keyed hash would cost more than the look-up.
/// This is the multiply-and-rotate hash of Firefox and rustc.
#[derive(Default)]
struct BaseHasher(u64);

impl Hasher for BaseHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, length: usize) {
        self.write_u64(length as u64);
    }

    fn finish(&self) -> u64 {
        // hashbrown takes its tag from the top bits and its bucket from the low ones: mix them once more.
        self.0 ^ (self.0 >> 32)
    }
}

#[derive(Debug)]
pub struct Api {
    pub namespace: String,
    pub name: String,
    /// Of its address.
    pub location: Location,
    /// As written, for example `/foo/` or `/api` or `/`.
    pub base: String,
    /// Interned for metrics: the same API keeps it over reloads.
    pub series: SeriesId,
    pub policies: Vec<BoundPolicy>,
    /// Sorted by order, then by document order.
    pub routes: Vec<Route>,
}

#[derive(Debug)]
pub struct Route {
    /// `<api>-<serviceKey>-route-<n>` or the binding's name.
    pub name: String,
    pub location: Location,
    pub series: SeriesId,
    /// Empty: matches everything.
    pub rules: Vec<Rule>,
    pub target: Target,
}

#[derive(Debug)]
pub enum Target {
    One(Destination),
    /// Weights as written, and their sum.
    Weighted {
        choices: Vec<(u32, Destination)>,
        sum: u32,
    },
}

#[derive(Debug)]
pub struct Destination {
    /// Index into `Snapshot::services`. `None`: the Service does not exist; such a route answers 503.
    pub service: Option<usize>,
    /// The service address's path joined with `destinationPath`: no trailing slash, `""` for none.
    pub path: String,
}

#[derive(Debug)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Of its address.
    pub location: Location,
    /// Kind, namespace, name and the hash of the address part: pools and health carry over where this is equal.
    pub identity: u64,
    pub series: SeriesId,
    /// The first is the address, then `spec.ringway.endpoints`.
    pub endpoints: Vec<Endpoint>,
    /// What `host` says upstream, for example `orders.internal:8080` (the port left out where it is the default).
    pub authority: String,
    pub load_balancing: LoadBalancing,
    /// Its address says that it speaks HTTP/2 (`h2://`).
    pub multiplexes: bool,
    /// The client's host goes upstream, in the place of `authority`.
    pub keeps_host: bool,
    /// Every connection begins with this header, and is one client connection's own.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    pub retries: Retries,
    pub limits: ServiceLimits,
    pub health_check: Option<HealthCheck>,
    /// How connections to it are secured.
    pub tls: Option<Arc<ClientContext>>,
    /// Where some of its endpoints are reached through a forward proxy. Boxed: most have none, and only dials ask for more.
    pub carried: Option<Box<Carried>>,
    /// Outbound policies; also where what cannot be dialled stands as `Compiled::Broken`.
    pub policies: Vec<BoundPolicy>,
}

impl Service {
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Whom connections are made to: each endpoint itself, or the forward proxy for it, with its place among the endpoints. The
    /// name of an endpoint that is carried is nobody's business but the proxy's.
    pub fn dialled(&self) -> impl Iterator<Item = (&Endpoint, Option<usize>)> {
        self.endpoints.iter().enumerate().filter_map(|(at, endpoint)| match &self.carried {
            Some(carried) if carried.endpoints[at] => {
                let server = carried.proxy.server.as_ref()?;
                Some((&server.address.endpoint, Some(at)))
            }
            _ => Some((endpoint, None)),
        })
    }
}

/// What a forward proxy carries of a Service.
#[derive(Clone, Debug)]
pub struct Carried {
    pub proxy: Arc<ForwardProxy>,
    /// Whether it carries an endpoint, by its place among the Service's.
    pub endpoints: Vec<bool>,
    /// The proxy itself is asked for what the first endpoint has, in absolute form (RFC 9112 section 3.2.2). Everything else
    /// goes through tunnels.
    pub in_absolute_form: bool,
}

impl Carried {
    /// `None`: nothing. `may_be_asked`: requests are such that a proxy can be asked in absolute form, which says once whom to
    /// connect to and whom to ask for.
    pub fn of(proxy: Option<&Arc<ForwardProxy>>, endpoints: &[Endpoint], may_be_asked: bool) -> Option<Box<Self>> {
        let proxy = proxy?;
        let carried: Vec<bool> = endpoints.iter().map(|endpoint| proxy.carries(&endpoint.host)).collect();
        let in_absolute_form = may_be_asked && carried.first() == Some(&true);
        let any = carried.contains(&true);
        any.then(|| Box::new(Self { proxy: proxy.clone(), endpoints: carried, in_absolute_form }))
    }

    /// Of everything that makes connections of one kind another's.
    pub fn identity(&self) -> u64 {
        let said = format!("{:?} {}", self.endpoints, self.in_absolute_form);
        Stable::new().number(self.proxy.identity()).text(&said).finish()
    }
}

impl PartialEq for Carried {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalancing {
    RoundRobin,
    LeastRequests,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Further tries after the first.
    pub attempts: u32,
    pub connect_failure: bool,
    pub reset: bool,
    pub gateway_error: bool,
    pub budget_percent: u32,
}

/// What the replica may have of one Service at a time, and how long a connection may wait for its next request. A change of these
/// leaves connections as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceLimits {
    /// `usize::MAX` is no limit, here and below.
    pub connections: usize,
    /// Requests that wait for a connection.
    pub pending_requests: usize,
    /// Requests that have one, or for which it is being made.
    pub requests: usize,
    /// Requests that are being retried.
    pub retries: usize,
    pub connection_idle: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::rule::relative;

    fn check(bases: &[&str], path: &str, expected: Option<(usize, &str)>) {
        let mut index = BaseIndex::default();
        for (api, base) in bases.iter().enumerate() {
            index.insert(base, api);
        }
        let found = index.find(path.as_bytes());
        let found = found.map(|(api, base)| (api, std::str::from_utf8(relative(path.as_bytes(), base)).expect("text")));
        assert_eq!(found, expected, "{bases:?} {path}");
    }

    #[test]
    fn a_base_ends_at_a_segment() {
        check(&["/api"], "/api", Some((0, "/")));
        check(&["/api"], "/api/", Some((0, "/")));
        check(&["/api"], "/api/x/y", Some((0, "/x/y")));
        check(&["/api"], "/apix", None);
        check(&["/api"], "/ap", None);
        check(&["/api"], "/", None);
        check(&["/api/httpbin/"], "/api/httpbin/get", Some((0, "/get")));
    }

    #[test]
    fn a_trailing_slash_in_the_base_is_asked_of_the_path() {
        check(&["/foo/"], "/foo/", Some((0, "/")));
        check(&["/foo/"], "/foo/bar", Some((0, "/bar")));
        check(&["/foo/"], "/foo", None);
        check(&["/foo/"], "/foobar/", None);
    }

    #[test]
    fn the_root_takes_every_path() {
        for base in ["/", ""] {
            check(&[base], "/", Some((0, "/")));
            check(&[base], "/a//b", Some((0, "/a//b")));
            check(&[base], "*", None);
            check(&[base], "", None);
        }
    }

    #[test]
    fn bases_of_several_depths_share_a_listener() {
        let bases = ["/cats", "/dogs/small", "/dogs/big", "/birds/of/prey"];
        check(&bases, "/cats/1", Some((0, "/1")));
        check(&bases, "/dogs/big/2", Some((2, "/2")));
        check(&bases, "/birds/of/prey", Some((3, "/")));
        check(&bases, "/dogs", None);
        check(&bases, "/birds/of/play", None);
        check(&bases, "/dogs//big", None);
        check(&[], "/x", None);
    }

    #[test]
    fn a_thousand_bases_are_all_found() {
        let bases: Vec<String> = (0..1000).map(|n| format!("/apis/team-{}/service-{n}", n % 7)).collect();
        let bases: Vec<&str> = bases.iter().map(String::as_str).collect();
        let mut index = BaseIndex::default();
        bases.iter().enumerate().for_each(|(api, base)| index.insert(base, api));
        for (api, base) in bases.iter().enumerate() {
            assert_eq!(index.find(format!("{base}/x").as_bytes()), Some((api, base.len())));
        }
        assert_eq!(index.depths, [3]);
    }
}
