//! Replica-wide settings: `kind: Configuration`, the environment and the defaults, already merged.

use std::time::Duration;

use ipnet::IpNet;

/// Every limit of the data plane, by its name under `spec.ringway.limits`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Request or response head, start line included; 431 above.
    pub head_bytes: usize,
    pub header_count: usize,
    pub trailer_bytes: usize,
    pub chunk_extension_bytes: usize,
    /// One body that a policy buffers; 413 above.
    pub buffered_body_bytes: usize,
    /// All buffered bodies of one core; 503 above.
    pub buffered_bytes_per_core: usize,
    pub retry_body_bytes: usize,
    /// 0: unlimited.
    pub connections_per_core: usize,
    /// TLS handshakes under way, and those that wait for their turn; more are closed.
    pub tls_handshakes_per_core: usize,
    pub tls_handshakes_waiting_per_core: usize,
    /// Per replica and upstream; shared out over the cores.
    pub connections_per_upstream: usize,
    pub pending_requests_per_upstream: usize,
    /// PROXY protocol version 2; version 1 has a limit of its own.
    pub proxy_header_bytes: usize,
    pub h2: H2Limits,
}

/// What one HTTP/2 connection may cost, by its names under `spec.ringway.limits.h2`.
#[derive(Clone, Debug, PartialEq)]
pub struct H2Limits {
    pub concurrent_streams: usize,
    /// Bytes of one stream that were not taken yet.
    pub stream_window: usize,
    /// Of all its streams together.
    pub connection_window: usize,
    /// Work units that a client earns each second; see `http::h2`.
    pub work_per_second: usize,
    /// Decoded heads of its open streams, and what HPACK remembers.
    pub header_memory_per_connection: usize,
    /// Of all connections of a core.
    pub header_memory_per_core: usize,
    /// How long a client may keep a response without window, and its acknowledgement of our settings.
    pub stall: Option<Duration>,
    /// How long an upstream may be silent while streams wait, before it is asked for a sign of life; and then again.
    pub ping: Option<Duration>,
}

/// Every time limit; `None` is "no limit" (a configured 0).
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    /// From the accept to the end of a PROXY protocol header.
    pub proxy_header: Option<Duration>,
    /// From the first byte of a head to its end, in total.
    pub request_head: Option<Duration>,
    /// From the accepted connection to the end of its handshake.
    pub tls_handshake: Option<Duration>,
    pub request_body_idle: Option<Duration>,
    pub keep_alive: Option<Duration>,
    pub upstream_connect: Option<Duration>,
    /// How long listeners still accept after SIGTERM.
    pub drain_delay: Duration,
    pub drain: Duration,
    /// No byte in either direction of an exchange.
    pub stream_idle: Option<Duration>,
    pub upstream_connection_idle: Option<Duration>,
    /// From the last request byte sent to the response head.
    pub upstream_response: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub h2c: bool,
    pub trusted_proxies: TrustedProxies,
    pub proxy_protocol: ProxyProtocol,
    pub connections: Connections,
    pub server_header: ServerHeader,
    /// The name for this gateway in `via`; without one there is no `via` of ours.
    pub via: Option<String>,
    pub forward_client_cert: ForwardClientCert,
    /// `routing.rewriteHostHeader`: the upstream sees its own authority (default) or the client's.
    pub rewrite_host_header: bool,
    /// `FLEX_PRESERVE_EXTERNAL_REQUEST_ID`.
    pub preserve_request_id: bool,
    /// `Configuration.probe`: a listener of its own for the probes.
    pub probe_port: Option<u16>,
    pub access_log: Option<AccessLog>,
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

/// Client connections: how they spread over the cores, and when they are to be made anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    pub spread: bool,
    /// 0: any number.
    pub max_requests: usize,
    pub max_age: Option<Duration>,
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
        let seconds = |s| Some(Duration::from_secs(s));
        Self {
            limits: Limits {
                head_bytes: 61_440,
                header_count: 200,
                trailer_bytes: 8192,
                chunk_extension_bytes: 1024,
                buffered_body_bytes: 1 << 20,
                buffered_bytes_per_core: 64 << 20,
                retry_body_bytes: 65_536,
                connections_per_core: 0,
                tls_handshakes_per_core: 512,
                tls_handshakes_waiting_per_core: 1024,
                connections_per_upstream: 1024,
                pending_requests_per_upstream: 1024,
                proxy_header_bytes: 4096,
                h2: H2Limits {
                    concurrent_streams: 100,
                    stream_window: 65_536,
                    connection_window: 1 << 20,
                    work_per_second: 20_000,
                    header_memory_per_connection: 1 << 20,
                    header_memory_per_core: 64 << 20,
                    stall: seconds(30),
                    ping: seconds(15),
                },
            },
            timeouts: Timeouts {
                proxy_header: seconds(5),
                request_head: seconds(10),
                tls_handshake: seconds(10),
                request_body_idle: seconds(30),
                keep_alive: seconds(60),
                upstream_connect: seconds(5),
                drain_delay: Duration::from_secs(5),
                drain: Duration::from_secs(25),
                stream_idle: seconds(300),
                upstream_connection_idle: seconds(60),
                upstream_response: seconds(15),
            },
            h2c: true,
            trusted_proxies: TrustedProxies::private(),
            proxy_protocol: ProxyProtocol { enabled: false, from: TrustedProxies::everybody() },
            connections: Connections { spread: true, max_requests: 0, max_age: None },
            server_header: ServerHeader::Default,
            via: None,
            forward_client_cert: ForwardClientCert::Sanitize,
            rewrite_host_header: true,
            preserve_request_id: false,
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
