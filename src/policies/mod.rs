//! Policies: one file each, one table here.
//!
//! The set is closed, so a chain is a list of `enum`s: no `dyn`, nothing boxed. What a policy sees of an exchange is
//! [`Exchange`], which the proxy builds; policies know nothing of the proxy.

pub mod access_tokens;
pub mod asking;
pub mod authentication;
pub mod aws;
pub mod bearer;
pub mod body;
pub mod chain;
pub mod clients;
pub mod contract;
pub mod credentials;
mod envoy;
pub mod exchange;
pub mod fields;
pub mod form;
pub mod grpc;
pub mod headers;
pub mod introspection;
pub mod options;
pub mod policy;
pub mod rate_headers;
pub mod reading;
pub mod scan;
pub mod wants;

pub mod access_block;
pub mod basic_authentication;
pub mod circuit_breaker;
pub mod client_id_enforcement;
pub mod cors;
pub mod credential_injection_api_key;
pub mod credential_injection_basic_auth;
pub mod credential_injection_oauth2;
pub mod credential_injection_oauth2_obo;
pub mod ext_authz;
pub mod ext_proc;
pub mod header_injection;
pub mod header_removal;
pub mod health_check;
pub mod http_caching;
pub mod idle_timeout;
pub mod ip_lists;
pub mod json_threat_protection;
pub mod jwt;
pub mod jwt_generation;
pub mod ldap_authentication;
pub mod message_logging;
pub mod native_aws_lambda;
pub mod native_aws_signature;
pub mod oauth2_token_introspection;
pub mod openidconnect_access_token_enforcement;
pub mod rate_limiting;
pub mod response_timeout;
pub mod seconds;
pub mod spike_control;
pub mod stream_idle_timeout;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use authentication::Authentication;
pub use body::{Bodies, Body, Need, Needs, Passing, Piece, Side, Wanted};
pub use exchange::{At, Exchange, Headers, NotReplaced, Peer, Refusal, RequestLine, Timeouts, Upstream};
pub use fields::{Category, Described, Field};
pub use options::{AssumedLifetime, Options};
pub use policy::{Answers, ConfigError, Core, End, Fault, Flow, LocalResponse, Policy, Question, Reply, Site, Turn};
pub use scan::{Passed, Scan, Scans};

use std::{rc::Rc, sync::Arc};

use self::wants::Published;
use crate::document::{
    node::{Node, nearest},
    problem::{Location, Problem, Severity},
};

/// What a name of the table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Bound to an ApiInstance: runs before routing.
    Inbound,
    /// Bound to a Service: runs after routing.
    Outbound,
    /// Part of a listener or of a Service's connections, not of a chain.
    Transport,
    /// Bound to a Service: what is true of all its connections and requests, not of a chain.
    Setting,
    /// Part of an ApiInstance's routes, not of a chain.
    Routing,
}

/// A name that `policyRef.name` may have.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    pub role: Role,
    /// It works today; otherwise a file that uses it loads and its requests get 503.
    pub implemented: bool,
    /// Its `config`, where it works and is read by a policy; `config::described` knows all of them.
    pub described: Option<Described>,
    /// One list, of a policy of a chain: what it may answer itself.
    pub answers: &'static [&'static [Answers]],
    /// What of `ringway` beside `config` it reads besides the mode.
    pub options: &'static [Field],
}

/// Makes the closed `enum`s, the table of names and everything that asks which policy it has. One line for each name:
/// `"name" Role => file::Type;` for a policy of a chain, `"name" Role elsewhere DESCRIBED;` for what is read outside of chains,
/// and `"name" Role;` for a name to come. `, cfg(test)` behind a type: it is there in unit tests alone.
macro_rules! policies {
    ($($name:literal $role:ident $(=> $file:ident::$policy:ident $(, $when:meta)?)? $(elsewhere $elsewhere:expr)?;)*) => {
        /// Every name of the reference, in alphabetical order.
        pub static TABLE: &[Entry] = &[
            $($($(#[$when])?)? Entry {
                name: $name,
                role: Role::$role,
                implemented: !concat!($(stringify!($policy),)? $(stringify!($elsewhere),)?).is_empty(),
                described: [$(Some(Described::of::<$file::$policy>()),)? $($elsewhere,)? None][0],
                answers: &[$(<$file::$policy as Policy>::ANSWERS)?],
                options: [$(<$file::$policy as Policy>::OPTIONS,)? &[]][0],
            },)*
        ];

        /// A policy as it was compiled; shared by all cores.
        #[derive(Debug)]
        pub enum Compiled {
            /// Could not be built, for this reason: every request it would have governed is refused with 503.
            Broken(String),
            $($($(#[$when])? $policy(Arc<$file::$policy>),)?)*
        }

        /// A policy with what one core owns of it. It outlives reloads that change nothing for it.
        pub enum Instance {
            Broken,
            $($($(#[$when])? $policy { policy: Arc<$file::$policy>, state: <$file::$policy as Policy>::State },)?)*
        }

        /// What a policy keeps of one exchange.
        #[derive(Default)]
        pub enum Kept {
            #[default]
            Nothing,
            $($($(#[$when])? $policy(<$file::$policy as Policy>::PerExchange),)?)*
        }

        impl Compiled {
            /// `None` for a name that no chain can run yet.
            fn build(
                name: &str,
                config: &Node,
                path: &str,
                site: &mut Site<'_>,
                problems: &mut Vec<Problem>,
            ) -> Option<Self> {
                match name {
                    $($($(#[$when])? $name => Some(
                        build(config, path, site, problems)
                            .map_or_else(Self::Broken, |policy| Self::$policy(Arc::new(policy))),
                    ),)?)*
                    _ => None,
                }
            }

            pub fn needs(&self) -> Needs {
                match self {
                    Self::Broken(_) => Needs::NONE,
                    $($($(#[$when])? Self::$policy(policy) => policy.needs(),)?)*
                }
            }

            pub fn instance(&self, core: &Core) -> Rc<Instance> {
                Rc::new(match self {
                    Self::Broken(_) => Instance::Broken,
                    $($($(#[$when])? Self::$policy(policy) => {
                        Instance::$policy { state: policy.state(core), policy: policy.clone() }
                    })?)*
                })
            }
        }

        impl Instance {
            /// What it begins an exchange with.
            pub fn begin(&self) -> Kept {
                match self {
                    Self::Broken => Kept::Nothing,
                    $($($(#[$when])? Self::$policy { .. } => Kept::$policy(Default::default()),)?)*
                }
            }

            /// What its policy wants from elsewhere has come.
            pub fn publish(&self, published: &Published) {
                match self {
                    Self::Broken => {}
                    $($($(#[$when])? Self::$policy { policy, state } => policy.publish(state, published),)?)*
                }
            }

            pub fn on_request(&self, kept: &mut Kept, exchange: &mut Exchange<'_>) -> Flow {
                match (self, kept) {
                    (Self::Broken, _) => Flow::respond(LocalResponse::broken_policy()),
                    $($($(#[$when])? (Self::$policy { policy, state }, Kept::$policy(kept)) => {
                        policy.on_request(Turn { state, kept }, exchange)
                    })?)*
                    _ => unreachable!("a turn keeps what its own instance began with"),
                }
            }

            pub fn on_response(&self, kept: &mut Kept, exchange: &mut Exchange<'_>) -> Flow {
                match (self, kept) {
                    (Self::Broken, _) => Flow::Continue,
                    $($($(#[$when])? (Self::$policy { policy, state }, Kept::$policy(kept)) => {
                        policy.on_response(Turn { state, kept }, exchange)
                    })?)*
                    _ => unreachable!("a turn keeps what its own instance began with"),
                }
            }

            pub fn on_reply(&self, kept: &mut Kept, exchange: &mut Exchange<'_>, reply: Reply) -> Flow {
                match (self, kept) {
                    (Self::Broken, _) => Flow::Continue,
                    $($($(#[$when])? (Self::$policy { policy, state }, Kept::$policy(kept)) => {
                        policy.on_reply(Turn { state, kept }, exchange, reply)
                    })?)*
                    _ => unreachable!("a turn keeps what its own instance began with"),
                }
            }

            pub fn on_body(&self, kept: &mut Kept, piece: &Piece<'_>) -> Flow {
                match (self, kept) {
                    (Self::Broken, _) => Flow::Continue,
                    $($($(#[$when])? (Self::$policy { policy, state }, Kept::$policy(kept)) => {
                        policy.on_body(Turn { state, kept }, piece)
                    })?)*
                    _ => unreachable!("a turn keeps what its own instance began with"),
                }
            }

            pub fn changes(&self, kept: &Kept, side: Side) -> bool {
                match (self, kept) {
                    (Self::Broken, _) => false,
                    $($($(#[$when])? (Self::$policy { policy, .. }, Kept::$policy(kept)) => policy.changes(kept, side),)?)*
                    _ => unreachable!("a turn keeps what its own instance began with"),
                }
            }

            pub fn on_passing(&self, kept: &mut Kept, passing: &mut Passing, reply: Option<Reply>) -> Flow {
                match (self, kept) {
                    (Self::Broken, _) => Flow::Continue,
                    $($($(#[$when])? (Self::$policy { policy, state }, Kept::$policy(kept)) => {
                        policy.on_passing(Turn { state, kept }, passing, reply)
                    })?)*
                    _ => unreachable!("a turn keeps what its own instance began with"),
                }
            }

            pub fn on_log(&self, kept: &mut Kept, exchange: &Exchange<'_>, end: &End) {
                match (self, kept) {
                    (Self::Broken, _) => {}
                    $($($(#[$when])? (Self::$policy { policy, state }, Kept::$policy(kept)) => {
                        policy.on_log(Turn { state, kept }, exchange, end);
                    })?)*
                    _ => unreachable!("a turn keeps what its own instance began with"),
                }
            }
        }

        $($($(#[$when])? const _: () = assert!(size_of::<<$file::$policy as Policy>::PerExchange>() <= policy::KEPT_BYTES_MAX);)?)*
    };
}

policies! {
    "access-block" Inbound => access_block::AccessBlock;
    "access-log" Inbound;
    "body-transformation" Inbound;
    "circuit-breaker-flex" Setting elsewhere Some(Described::of::<circuit_breaker::CircuitBreaker>());
    "client-id-enforcement-flex" Inbound => client_id_enforcement::ClientIdEnforcement;
    "cors-flex" Inbound => cors::Cors;
    "credential-injection-api-key-flex" Outbound => credential_injection_api_key::CredentialInjectionApiKey;
    "credential-injection-basic-auth-flex" Outbound => credential_injection_basic_auth::CredentialInjectionBasicAuth;
    "credential-injection-oauth2-flex" Outbound => credential_injection_oauth2::CredentialInjectionOauth2;
    "credential-injection-oauth2-obo" Outbound => credential_injection_oauth2_obo::CredentialInjectionOauth2Obo;
    "dataweave-body-transformation-flex" Inbound;
    "dataweave-headers-transformation-flex" Inbound;
    "dataweave-request-filter-flex" Inbound;
    "graphql-introspection-control-flex" Inbound;
    "graphql-operation-limits-flex" Inbound;
    "graphql-schema-validation-flex" Inbound;
    "graphql-static-query-complexity-flex" Inbound;
    "header-injection-flex" Inbound => header_injection::HeaderInjection;
    "header-removal-flex" Inbound => header_removal::HeaderRemoval;
    "header-transformation" Inbound;
    "health-check-flex" Inbound => health_check::HealthCheck;
    "http-basic-authentication-flex" Inbound => basic_authentication::BasicAuthentication;
    "http-caching-flex" Inbound => http_caching::HttpCaching;
    "idle-timeout-flex" Setting elsewhere Some(Described::of::<idle_timeout::IdleTimeout>());
    "injection-protection-flex" Inbound;
    "ip-allowlist-flex" Inbound => ip_lists::IpAllowlist;
    "ip-blocklist-flex" Inbound => ip_lists::IpBlocklist;
    "json-threat-protection-flex" Inbound => json_threat_protection::JsonThreatProtection;
    "jwt-generation-flex" Outbound => jwt_generation::JwtGeneration;
    "jwt-validation-flex" Inbound => jwt::JwtValidation;
    "ldap-authentication-flex" Inbound => ldap_authentication::LdapAuthentication;
    "message-logging-flex" Inbound => message_logging::MessageLogging;
    "message-logging-outbound-flex" Outbound => message_logging::OutboundMessageLogging;
    "native-aws-lambda" Outbound => native_aws_lambda::NativeAwsLambda;
    "native-aws-signature-flex" Outbound => native_aws_signature::NativeAwsSignature;
    "native-ext-authz-flex" Inbound => ext_authz::ExtAuthz;
    "native-ext-proc-flex" Inbound => ext_proc::ExtProc;
    "oauth2-token-introspection-flex" Inbound => oauth2_token_introspection::Oauth2TokenIntrospection;
    "openidconnect-access-token-enforcement-flex" Inbound
        => openidconnect_access_token_enforcement::OpenidconnectAccessTokenEnforcement;
    "rate-limiting-flex" Inbound => rate_limiting::RateLimiting;
    "rate-limiting-sla-based-flex" Inbound => rate_limiting::SlaRateLimiting;
    "response-timeout-flex" Inbound => response_timeout::ResponseTimeout;
    "route" Routing elsewhere None;
    "route-weighted" Routing elsewhere None;
    "script-evaluation-transformation" Inbound;
    "soap-validation" Inbound;
    "spec-validation-flex" Inbound;
    "spike-control-flex" Inbound => spike_control::SpikeControl;
    "sse-logging" Inbound;
    "stream-idle-timeout-flex" Inbound => stream_idle_timeout::StreamIdleTimeout;
    "test-reads" Inbound => testing::Reads, cfg(test);
    "test-waits" Outbound => testing::Waits, cfg(test);
    "tls" Transport elsewhere None;
    "tls-outbound" Transport elsewhere None;
    "tracing-flex" Inbound;
    "xml-threat-protection-flex" Inbound;
}

impl Entry {
    /// Some requests get no further than to it: what it may answer itself is an error of the client's. One to come refuses all.
    pub fn refuses(&self) -> bool {
        let is_refusal = |answers: &Answers| (400..500).contains(&answers.status);
        !self.implemented || self.answers.iter().copied().flatten().any(is_refusal)
    }

    /// The end of an exchange that it is for: what it is bound to.
    pub fn is_of_service(&self) -> bool {
        match self.role {
            Role::Inbound | Role::Routing => false,
            Role::Outbound | Role::Setting => true,
            Role::Transport => self.name == "tls-outbound",
        }
    }
}

/// Finds a name as written in a file: the table's own, the same with or without `-flex`, or `tls-inbound` for `tls`.
pub fn lookup(name: &str) -> Option<&'static Entry> {
    let name = if name == "tls-inbound" { "tls" } else { name };
    let stem = |name: &'static str| name.strip_suffix("-flex").unwrap_or(name);
    let wanted = name.strip_suffix("-flex").unwrap_or(name);
    TABLE.iter().find(|entry| stem(entry.name) == wanted)
}

/// The policy that was probably meant by a name that is none, by its name in the table.
pub fn meant(name: &str) -> Option<&'static str> {
    // What many names end in says nothing of which one was meant.
    let stem = |name| str::strip_suffix(name, "-flex").unwrap_or(name);
    let meant = nearest(stem(name), TABLE.iter().map(|entry| stem(entry.name)));
    meant.and_then(lookup).map(|entry| entry.name)
}

/// Makes a policy of a chain from its `config`, which stands at `path`. Whatever is wrong becomes a problem and a policy that
/// refuses its requests, never a failure.
pub fn compile(name: &str, config: &Node, path: &str, site: &mut Site<'_>, problems: &mut Vec<Problem>) -> Compiled {
    let Some(entry) = lookup(name) else {
        let hint = meant(name);
        let hint = hint.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        return broken(Severity::Policy, config, path, format!("`{name}`: extension not found{hint}"), problems);
    };
    if entry.role == Role::Routing {
        let text = format!("`{name}` is a route, not a policy of a chain; bind it with a PolicyBinding");
        return broken(Severity::Policy, config, path, text, problems);
    }
    Compiled::build(entry.name, config, path, site, problems)
        .unwrap_or_else(|| broken(Severity::Warning, config, path, format!("`{name}`: not implemented yet"), problems))
}

fn broken(severity: Severity, config: &Node, path: &str, text: String, problems: &mut Vec<Problem>) -> Compiled {
    problems.push(Problem { severity, location: config.location().clone(), path: path.to_owned(), text: text.clone() });
    Compiled::Broken(format!("{path}: {text}"))
}

/// The policy, or why there is none.
pub fn build<P: Policy>(
    config: &Node,
    path: &str,
    site: &mut Site<'_>,
    problems: &mut Vec<Problem>,
) -> Result<P, String> {
    let found = problems.len();
    let own;
    let config = match P::OTHER_NAMES {
        [] => config,
        names => {
            own = config.with_own_keys(names);
            &own
        }
    };
    let written = config.deserialize_as::<P::Config>(Severity::Policy, path, problems);
    let whole = written.is_some();
    let misfits: Vec<String> = problems[found..]
        .iter()
        .filter(|problem| problem.severity == Severity::Policy)
        .map(|problem| problem.path.clone())
        .collect();
    // A field of the wrong type does not hide a bad value in another; what stands in for it is not complained of.
    let Some(written) = written.or_else(|| config.deserialize_rest()) else { return Err(reasons(&problems[found..])) };
    let mut push = |severity, fault: Fault| {
        let location = location(config, &fault.field);
        let path = if fault.field.is_empty() { path.to_owned() } else { format!("{path}.{}", fault.field) };
        if !misfits.iter().any(|misfit| misfit.starts_with(&path) || path.starts_with(misfit)) {
            problems.push(Problem { severity, location, path, text: fault.text });
        }
    };
    for remark in P::remarks(&written) {
        push(Severity::Warning, remark);
    }
    let compiled = P::compile(written, site);
    for remark in site.take_remarks() {
        push(Severity::Warning, remark);
    }
    let policy = compiled.map_err(|error| {
        for fault in error.faults {
            push(if fault.not_implemented { Severity::Warning } else { Severity::Policy }, fault);
        }
    });
    policy.ok().filter(|_| whole).ok_or_else(|| reasons(&problems[found..]))
}

fn reasons(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect::<Vec<_>>().join("; ")
}

/// Where a field such as `inboundHeaders[0].key` was written, or what was written of the way to it.
fn location(config: &Node, field: &str) -> Location {
    let mut node = config;
    for step in field.split(['.', '[']).map(|step| step.trim_end_matches(']')).filter(|step| !step.is_empty()) {
        let next = match step.parse::<usize>() {
            Ok(index) if node.is_list() => node.iter().nth(index),
            _ => node.get(step),
        };
        let Some(next) = next else { break };
        node = next;
    }
    node.location().clone()
}
