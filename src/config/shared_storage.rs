//! `spec.sharedStorage`: where replicas keep what they share, and how it is reached.

use std::{fmt, path::PathBuf, sync::Arc};

use super::{
    effective::Sections,
    resources::{self, GatewayRingway, RedisCertificate, RedisTls, Secret as SecretResource},
    setting::Checked,
    tls::{Outbound, Reading, WrittenCertificate, outbound},
};
use crate::document::{
    Resource,
    address::{self, Endpoint},
    node::Located,
    problem::{Location, Problem, Severity},
};

/// Of the databases of one server, far more than anybody has.
const DB_MAX: u32 = 65_535;
/// Servers that may be named.
const ADDRESSES_MAX: usize = 64;
/// Of one gateway.
const REPLICAS_MAX: u64 = 10_000;

/// Where what replicas share is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum SharedStorage {
    /// Nowhere: each replica keeps it for itself.
    #[default]
    Memory,
    Redis(Arc<Redis>),
    /// What is written cannot be used: whatever needs it is without it.
    Unusable,
}

/// Checked; its connections are made anew where anything of it is another.
#[derive(Debug, PartialEq)]
pub struct Redis {
    pub servers: Servers,
    /// Empty: the default user.
    pub username: String,
    pub password: Secret,
    pub db: u32,
    pub tls: Option<Tls>,
    /// How many replicas there are taken to be by one that has not heard of any yet.
    pub replicas: usize,
}

/// Who is asked where the data is.
#[derive(Debug, PartialEq)]
pub enum Servers {
    /// One server, or any nodes of a Cluster: it says itself which it is.
    Redis(Vec<Endpoint>),
    Sentinel {
        addresses: Vec<Endpoint>,
        master_name: String,
        password: Secret,
    },
}

/// How connections are secured: data and sentinels alike.
#[derive(Debug)]
pub struct Tls {
    outbound: Outbound,
    identity: u64,
}

/// Text that is never shown.
#[derive(Clone, Default, PartialEq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { super::dump::REDACTED })
    }
}

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Tls {
    /// # Errors
    /// No certificate can name this host.
    pub fn context(&self, host: &str) -> Result<crate::tls::ClientContext, String> {
        self.outbound.clone().context(host)
    }
}

/// What is written, checked. `is_named`: the gateway has been given a name.
pub fn read(
    sections: &Sections,
    is_named: bool,
    secrets: &[Resource<SecretResource>],
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) -> SharedStorage {
    let (resources::SharedStorage { redis, local }, path) = sections.section("sharedStorage");
    let (GatewayRingway { redis: further, .. }, ours) = sections.section("ringway");
    let section = path.clone();
    let Some(Located { value: redis, location }) = redis else {
        let mut idle = |field: &str, location: &Location| {
            let text = "no effect without `sharedStorage.redis`".to_owned();
            Checked { path: ours.clone(), problems }.warn(field, location.clone(), text);
        };
        further.addresses.first().into_iter().for_each(|first| idle("redis.addresses", &first.location));
        further.replicas.iter().for_each(|replicas| idle("redis.replicas", &replicas.location));
        return if is_wrong(&section, problems) { SharedStorage::Unusable } else { SharedStorage::Memory };
    };
    if let Some(local) = local.and_then(|local| local.enabled).filter(|enabled| enabled.value) {
        let text = "no effect: `redis` is set beside it".to_owned();
        Checked { path: path.clone(), problems }.warn("local.enabled", local.location, text);
    }
    if !is_named {
        let text = "the gateway has no name (`spec.ringway.name`, `--gateway-name`): it shares its keys with every other \
                    gateway on this Redis that has none";
        Checked { path: path.clone(), problems }.warn("redis", location.clone(), text.to_owned());
    }
    let path = format!("{path}.redis");
    let tls = match &redis.tls {
        None => None,
        Some(written) => {
            let path = format!("{path}.tls");
            let reading = Reading { secrets, namespace: "default", path: &path, problems, files };
            tls(written, reading).map(|outbound| Tls { identity: outbound.identity(), outbound })
        }
    };
    let mut replicas = 1;
    Checked { path: ours.clone(), problems }.set("redis.replicas", further.replicas, 1..=REPLICAS_MAX, &mut replicas);
    let further = Further { addresses: further.addresses, replicas, path: ours };
    let read = redis_of(redis, further, tls, &location, &mut Checked { path, problems });
    match read.filter(|_| !is_wrong(&section, problems)) {
        Some(redis) => SharedStorage::Redis(Arc::new(redis)),
        None => SharedStorage::Unusable,
    }
}

/// Whether the section has an error, this one's or one that was told when it was first read.
fn is_wrong(section: &str, problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error && problem.path.starts_with(section))
}

/// `spec.ringway.redis`.
struct Further {
    addresses: Vec<Located<String>>,
    replicas: usize,
    path: String,
}

fn redis_of(
    written: resources::Redis,
    further: Further,
    tls: Option<Tls>,
    location: &Location,
    checked: &mut Checked<'_>,
) -> Option<Redis> {
    let resources::Redis { address, username, password, db, sentinel, .. } = written;
    let replicas = further.replicas;
    let servers = match (sentinel, address) {
        (Some(sentinel), address) => {
            if let Some(address) = address {
                let text = "no effect: the sentinels say where the data is".to_owned();
                checked.warn("address", address.location, text);
            }
            if let Some(first) = further.addresses.first() {
                let text = "no effect: the sentinels say where the data is".to_owned();
                let mut ours = Checked { path: further.path, problems: &mut *checked.problems };
                ours.warn("redis.addresses", first.location.clone(), text);
            }
            sentinels(sentinel, checked)
        }
        (None, Some(address)) => {
            let mut all = endpoint("address", &address, checked).into_iter().collect::<Vec<_>>();
            let mut ours = Checked { path: further.path, problems: &mut *checked.problems };
            for (at, written) in further.addresses.iter().enumerate().take(ADDRESSES_MAX) {
                all.extend(endpoint(&format!("redis.addresses[{at}]"), written, &mut ours));
            }
            Some(Servers::Redis(all))
        }
        (None, None) => {
            checked.error("address", location.clone(), "expected it, or `sentinel`".into());
            None
        }
    };
    let db = match db {
        Some(db) if db.value > DB_MAX => {
            checked.error("db", db.location, format!("expected 0 to {DB_MAX}"));
            0
        }
        db => db.map_or(0, |db| db.value),
    };
    let (username, at) = username.map_or_else(Default::default, |name| (name.value, Some(name.location)));
    let password = Secret(password.unwrap_or_default());
    if let (Some(location), true, false) = (at, password.0.is_empty(), username.is_empty()) {
        checked.warn("username", location, "no effect without `password`".into());
    }
    Some(Redis { servers: servers?, username, password, db, tls, replicas })
}

fn sentinels(written: Located<resources::Sentinel>, checked: &mut Checked<'_>) -> Option<Servers> {
    let Located { value: resources::Sentinel { addresses, master_name, password }, location } = written;
    if addresses.is_empty() {
        checked.error("sentinel.addresses", location, "expected one at least".into());
    }
    let read = |(at, address)| endpoint(&format!("sentinel.addresses[{at}]"), address, checked);
    let addresses: Vec<Endpoint> = addresses.iter().enumerate().take(ADDRESSES_MAX).filter_map(read).collect();
    if master_name.value.is_empty() {
        checked.error("sentinel.masterName", master_name.location, "a name cannot be empty".into());
    }
    let (master_name, password) = (master_name.value, Secret(password.unwrap_or_default()));
    Some(Servers::Sentinel { addresses, master_name, password })
}

fn endpoint(field: &str, written: &Located<String>, checked: &mut Checked<'_>) -> Option<Endpoint> {
    match address::endpoint(&written.value) {
        Ok(endpoint) => Some(endpoint),
        Err(text) => {
            checked.error(field, written.location.clone(), text);
            None
        }
    }
}

/// In the place of a `tls-outbound` policy.
fn tls(written: &Located<RedisTls>, reading: Reading<'_>) -> Option<Outbound> {
    let Located { value: written, location } = written;
    let alpn = written.alpn.iter().map(|name| name.value.clone().into_bytes()).collect();
    let certificate = written.certificate.as_ref().map(|of| Located {
        value: certificate(&of.value, written.key_passphrase.as_deref()),
        location: of.location.clone(),
    });
    let written = outbound::Written {
        skip_validation: written.skip_validation,
        trusted_ca: written.trusted_ca.clone(),
        trusted_ca_file: written.trusted_ca_file.clone(),
        certificate,
        alpn: None,
        min_version: written.min_version.clone(),
        max_version: written.max_version.clone(),
        ciphers: written.ciphers.clone(),
    };
    Some(Outbound::of(&written, location, reading)?.offering(alpn))
}

/// The passphrase may stand beside the key or, as it is printed in places, one level up.
fn certificate(written: &RedisCertificate, passphrase_above: Option<&str>) -> WrittenCertificate {
    WrittenCertificate {
        crt: written.crt.clone(),
        key: written.key.clone(),
        secret_ref: written.secret_ref.clone(),
        crt_file: written.crt_file.clone(),
        key_file: written.key_file.clone(),
        key_passphrase: written.key_passphrase.as_deref().or(passphrase_above).unwrap_or_default().to_owned(),
    }
}
