//! Replica-wide settings: `kind: Configuration`, the environment and the defaults, already merged.

use crate::policies::circuit_breaker::Thresholds;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::setting::{Checked, Setting};
use crate::document::node::Located;

/// Makes of each declaration a field of the settings, the field that it is read from, its default, its check, and what a dump and
/// the documentation say of it. A group is read from one section of a file or from several, each with the name of the section
/// in the documentation; `+` puts one group into another.
macro_rules! settings {
    ($($(#[$about:meta])* $settings:ident {
        $($written:ident $section:literal {
            $($(#[$doc:meta])* $field:ident $name:literal: $type:ty = $default:expr $(, $range:expr)?;)*
        } $(+ $inner:ident: $inner_type:ident)?)*
    })*) => {
        $(
            $(#[$about])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $settings {
                $($($(#[$doc])* pub $field: $type,)* $(pub $inner: $inner_type,)?)*
            }

            impl Default for $settings {
                fn default() -> Self {
                    Self { $($($field: $default,)* $($inner: Default::default(),)?)* }
                }
            }

            impl $settings {
                /// As they stand in a file.
                pub fn to_json(&self) -> Map<String, Value> {
                    let mut json = Map::new();
                    $($(json.insert($name.to_owned(), self.$field.to_json());)*
                    $(json.insert(stringify!($inner).to_owned(), self.$inner.to_json().into());)?)*
                    json
                }

                /// Each by the name that the documentation has for it.
                pub fn documented(&self) -> Vec<(&'static str, Value)> {
                    let settings = vec![$($((concat!($section, $name), self.$field.to_json()),)*)*];
                    $($(let settings = [settings, self.$inner.documented()].concat();)?)*
                    settings
                }
            }
        )*

        /// What is read from files: what is absent keeps its default.
        pub mod written {
            use super::*;

            $($(
                #[derive(Clone, Debug, Default, Deserialize)]
                #[serde(default)]
                pub struct $written {
                    $(#[serde(rename = $name)] pub $field: Option<Located<<$type as Setting>::Written>>,)*
                    $(pub $inner: $inner_type,)?
                }

                impl $written {
                    /// Takes over what is in range; what is not is reported.
                    pub fn read(self, settings: &mut super::$settings, checked: &mut Checked<'_>) {
                        $(checked.set(concat!($section, $name), self.$field, ($($range)?), &mut settings.$field);)*
                        $(self.$inner.read(&mut settings.$inner, checked);)?
                    }
                }
            )*)*
        }
    };
}

/// A name or value range in a head is counted in 16 bits (`http/head.rs`).
const HEAD_BYTES_MAX: u64 = 65_535;
/// Bounds of a PROXY protocol header of version 2: the longest addresses without anything behind them, and what its length
/// field can tell.
const HEADER_BYTES_MIN: u64 = 232;
const HEADER_BYTES_MAX: u64 = 65_551;
/// A window has 31 bits, and starts with 65,535 on the connection (RFC 9113 section 6.9).
const WINDOW_MAX: u64 = (1 << 31) - 1;
const MANY: u64 = 10_000_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

settings! {
    /// Every limit of the data plane.
    Limits {
        Limits "limits." {
            /// Request or response head, start line included; 431 above.
            head_bytes "headBytes": usize = 61_440, 256..=HEAD_BYTES_MAX;
            header_count "headerCount": usize = 200, 1..=10_000;
            trailer_bytes "trailerBytes": usize = 8192, 0..=HEAD_BYTES_MAX;
            chunk_extension_bytes "chunkExtensionBytes": usize = 1024, 0..=HEAD_BYTES_MAX;
            /// One body that a policy buffers; 413 above.
            buffered_body_bytes "bufferedBodyBytes": usize = 1 << 20, 0..=GIB;
            /// All buffered bodies of one core; 503 above.
            buffered_bytes_per_core "bufferedBytesPerCore": usize = 64 << 20, 0..=64 * GIB;
            retry_body_bytes "retryBodyBytes": usize = 65_536, 0..=GIB;
            /// 0: unlimited.
            connections_per_core "connectionsPerCore": usize = 0, 0..=MANY;
            /// TLS handshakes under way, and those that wait for their turn; more are closed.
            tls_handshakes_per_core "tlsHandshakesPerCore": usize = 512, 1..=MANY;
            tls_handshakes_waiting_per_core "tlsHandshakesWaitingPerCore": usize = 1024, 0..=MANY;
            /// Per replica and upstream; shared out over the cores.
            connections_per_upstream "connectionsPerUpstream": usize = 1024, 1..=MANY;
            pending_requests_per_upstream "pendingRequestsPerUpstream": usize = 1024, 0..=MANY;
            /// Keys of all rate limits whose windows are open; further ones share a window for each limit.
            rate_limit_keys "rateLimitKeys": usize = 100_000, 1..=MANY;
            /// PROXY protocol version 2; version 1 has a limit of its own.
            proxy_header_bytes "proxyHeaderBytes": usize = 4096, HEADER_BYTES_MIN..=HEADER_BYTES_MAX;
        } + h2: H2Limits
    }

    /// What one HTTP/2 connection may cost.
    H2Limits {
        H2Limits "limits.h2." {
            concurrent_streams "concurrentStreams": usize = 100, 1..=65_535;
            /// Bytes of one stream that were not taken yet.
            stream_window "streamWindow": usize = 65_536, 1024..=WINDOW_MAX;
            /// Of all its streams together.
            connection_window "connectionWindow": usize = 1 << 20, 65_535..=WINDOW_MAX;
            /// Work units that a client earns each second; see `http::h2`.
            work_per_second "workPerSecond": usize = 20_000, 1..=GIB;
            /// Decoded heads of its open streams, and what HPACK remembers.
            header_memory_per_connection "headerMemoryPerConnection": usize = 1 << 20, 16_384..=GIB;
            /// Of all connections of a core.
            header_memory_per_core "headerMemoryPerCore": usize = 64 << 20, MIB..=64 * GIB;
            /// How long a client may keep a response without window, and its acknowledgement of our settings.
            stall "stallSeconds": Option<Duration> = seconds(30);
            /// How long an upstream may be silent while streams wait, before it is asked for a sign of life; and then again.
            ping "pingSeconds": Option<Duration> = seconds(15);
        }
    }

    /// Every time limit; `None` is "no limit" (a configured 0).
    Timeouts {
        OwnTimeouts "timeouts." {
            /// From the accept to the end of a PROXY protocol header.
            proxy_header "proxyHeaderSeconds": Option<Duration> = seconds(5);
            /// From the first byte of a head to its end, in total.
            request_head "requestHeadSeconds": Option<Duration> = seconds(10);
            /// From the accepted connection to the end of its handshake.
            tls_handshake "tlsHandshakeSeconds": Option<Duration> = seconds(10);
            request_body_idle "requestBodyIdleSeconds": Option<Duration> = seconds(30);
            keep_alive "keepAliveSeconds": Option<Duration> = seconds(60);
            upstream_connect "upstreamConnectSeconds": Option<Duration> = seconds(5);
            /// How long listeners still accept after SIGTERM.
            drain_delay "drainDelaySeconds": Duration = Duration::from_secs(5);
            drain "drainSeconds": Duration = Duration::from_secs(25);
        }
        // Flex's own section beside `ringway`.
        Timeouts "" {
            /// No byte in either direction of an exchange.
            stream_idle "streamIdleSeconds": Option<Duration> = seconds(300);
            upstream_connection_idle "upstreamConnectionIdleSeconds": Option<Duration> = seconds(60);
            /// From the last request byte sent to the response head.
            upstream_response "upstreamResponseSeconds": Option<Duration> = seconds(15);
        }
    }

    /// What policies store of responses.
    Cache {
        Cache "cache." {
            /// Of all policies of the replica.
            max_bytes "maxBytes": usize = 256 << 20, 0..=1024 * GIB;
            /// Requests that renew on each core what is stored, without a client.
            revalidations_per_core "revalidationsPerCore": usize = 64, 0..=10_000;
        }
    }

    /// Client connections: how they spread over the cores, and when they are to be made anew.
    Connections {
        Connections "connections." {
            spread "spread": bool = true;
            /// 0: any number.
            max_requests "maxRequests": usize = 0, 0..=MANY;
            max_age "maxAgeSeconds": Option<Duration> = None;
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub name: GatewayName,
    /// `FLEX_NAME`: of this replica, for people.
    pub replica: Option<String>,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// `Configuration.circuitBreaker`: of each Service whose policy does not say.
    pub circuit_breaker: Thresholds,
    pub h2c: bool,
    pub trusted_proxies: TrustedProxies,
    pub proxy_protocol: ProxyProtocol,
    pub connections: Connections,
    pub cache: Cache,
    pub server_header: ServerHeader,
    /// The name for this gateway in `via`; without one there is no `via` of ours.
    pub via: Option<String>,
    pub forward_client_cert: ForwardClientCert,
    /// `routing.rewriteHostHeader`: the upstream sees its own authority (default) or the client's.
    pub rewrite_host_header: bool,
    /// `FLEX_PRESERVE_EXTERNAL_REQUEST_ID`.
    pub preserve_request_id: bool,
    /// `FLEX_HEADER_RAW_VALUE_ENABLE`: authorization services are told headers as bytes too.
    pub raw_header_values: bool,
    /// `Configuration.probe`: a listener of its own for the probes.
    pub probe_port: Option<u16>,
    pub access_log: Option<AccessLog>,
}

/// What a gateway's replicas have in common: each of their keys in a shared storage begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayName {
    pub text: String,
    /// False: nobody has given it one.
    pub is_given: bool,
}

/// Whose `x-forwarded-*` headers are believed, or whose PROXY protocol headers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrustedProxies(pub Vec<IpNet>);

#[derive(Clone, Debug, PartialEq)]
pub struct ProxyProtocol {
    /// `Configuration.proxyProtocol.enabled`: of every listener whose APIs do not say.
    pub enabled: bool,
    /// Peers that may say who the client is. Where a header is expected, others are closed.
    pub from: TrustedProxies,
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ForwardClientCert {
    /// Removed.
    #[default]
    Sanitize,
    /// Kept from a client that showed a certificate, else removed.
    ForwardOnly,
    /// As `ForwardOnly`, with the client's own behind it.
    AppendForward,
    /// The client's own, and nothing else.
    SanitizeSet,
    /// Kept, whoever says it.
    AlwaysForwardOnly,
}

/// What `server` says on a response.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerHeader {
    /// Nobody set a name: an upstream's own is kept, the gateway's answers say `ringway`.
    Default,
    /// A name was set: on every response.
    Name(String),
    /// An empty name was set: an upstream's own is kept, the gateway adds none.
    None,
    /// `FLEX_REMOVE_SERVER_HEADER`: no response carries the header.
    Remove,
}

/// The operational access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    pub json: bool,
    /// `None`: standard output.
    pub path: Option<std::path::PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: GatewayName { text: "ringway".into(), is_given: false },
            replica: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            circuit_breaker: Thresholds::default(),
            h2c: true,
            trusted_proxies: TrustedProxies::private(),
            proxy_protocol: ProxyProtocol { enabled: false, from: TrustedProxies::everybody() },
            connections: Connections::default(),
            cache: Cache::default(),
            server_header: ServerHeader::Default,
            via: None,
            forward_client_cert: ForwardClientCert::Sanitize,
            rewrite_host_header: true,
            preserve_request_id: false,
            raw_header_values: true,
            probe_port: None,
            access_log: None,
        }
    }
}

impl TrustedProxies {
    /// `private`: loopback, RFC 1918, link-local and unique local addresses.
    pub fn private() -> Self {
        const NETS: [&str; 8] = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "::1/128",
            "fe80::/10",
            "fc00::/7",
        ];
        Self(NETS.iter().map(|net| net.parse().expect("a literal network")).collect())
    }

    pub fn everybody() -> Self {
        Self(["0.0.0.0/0", "::/0"].iter().map(|net| net.parse().expect("a literal network")).collect())
    }

    /// IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}
