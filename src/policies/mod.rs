//! Policies: one file each, one table here.
//!
//! The set is closed, so a chain is a list of `enum`s: no `dyn`, nothing boxed. What a policy sees of an exchange is
//! [`Exchange`], which the proxy builds; policies know nothing of the proxy.

pub mod chain;
pub mod policy;

pub mod basic_authentication;
pub mod header_injection;
mod header_names;

pub mod header_removal;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use policy::{Authentication, ConfigError, Core, Exchange, Fault, Flow, LocalResponse, Policy};

use crate::{
    config::{
        node::{Node, nearest},
        problem::{Location, Problem, Severity},
    },
    http::head::ResponseHead,
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
}

/// Makes the closed `enum`s, the table of names and everything that asks which policy it has. A line is
/// `"name" Role file::Type;` for a policy that works, and `"name" Role;` for a name to come.
macro_rules! policies {
    (
        works { $($name:literal $role:ident $file:ident::$policy:ident;)* }
        works_elsewhere { $($elsewhere:literal $elsewhere_role:ident;)* }
        to_come { $($missing:literal $missing_role:ident;)* }
    ) => {
        /// Every name of the reference, in the order of this table.
        pub static TABLE: &[Entry] = &[
            $(Entry { name: $name, role: Role::$role, implemented: true },)*
            $(Entry { name: $elsewhere, role: Role::$elsewhere_role, implemented: true },)*
            $(Entry { name: $missing, role: Role::$missing_role, implemented: false },)*
        ];

        /// A policy as the chain runs it; shared by all cores.
        #[derive(Debug)]
        pub enum Compiled {
            /// Could not be built, for this reason: every request it would have governed is refused with 503.
            Broken(String),
            $($policy($file::$policy),)*
        }

        /// What one core owns of a policy.
        #[derive(Debug)]
        pub enum State {
            Broken,
            $($policy(<$file::$policy as Policy>::State),)*
        }

        impl Compiled {
            /// `None` for a name that no chain can run yet.
            fn build(name: &str, config: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Self> {
                match name {
                    $($name => Some(build(config, path, problems).map_or_else(Self::Broken, Self::$policy)),)*
                    _ => None,
                }
            }

            pub fn state(&self, core: &Core) -> State {
                match self {
                    Self::Broken(_) => State::Broken,
                    $(Self::$policy(policy) => State::$policy(policy.state(core)),)*
                }
            }

            pub fn on_request(&self, state: &State, exchange: &mut Exchange) -> Flow {
                match (self, state) {
                    (Self::Broken(_), _) => Flow::Respond(LocalResponse::broken_policy()),
                    $((Self::$policy(policy), State::$policy(state)) => policy.on_request(state, exchange),)*
                    _ => unreachable!("a core makes its states from the chain it runs"),
                }
            }

            pub fn on_response(&self, state: &State, exchange: &mut Exchange, response: &mut ResponseHead) {
                match (self, state) {
                    (Self::Broken(_), _) => {}
                    $((Self::$policy(policy), State::$policy(state)) => policy.on_response(state, exchange, response),)*
                    _ => unreachable!("a core makes its states from the chain it runs"),
                }
            }
        }
    };
}

policies! {
    works {
        "http-basic-authentication-flex" Inbound basic_authentication::BasicAuthentication;
        "header-injection-flex" Inbound header_injection::HeaderInjection;
        "header-removal-flex" Inbound header_removal::HeaderRemoval;
    }
    works_elsewhere {
        "route" Routing;
        "route-weighted" Routing;
        "tls" Transport;
        "tls-outbound" Transport;
    }
    to_come {
        "ldap-authentication-flex" Inbound;
        "client-id-enforcement-flex" Inbound;
        "cors-flex" Inbound;
        "native-ext-authz-flex" Inbound;
        "native-ext-proc-flex" Inbound;
        "health-check-flex" Inbound;
        "http-caching-flex" Inbound;
        "ip-allowlist-flex" Inbound;
        "ip-blocklist-flex" Inbound;
        "json-threat-protection-flex" Inbound;
        "jwt-validation-flex" Inbound;
        "message-logging-flex" Inbound;
        "oauth2-token-introspection-flex" Inbound;
        "openidconnect-access-token-enforcement-flex" Inbound;
        "rate-limiting-flex" Inbound;
        "rate-limiting-sla-based-flex" Inbound;
        "spike-control-flex" Inbound;
        "spec-validation-flex" Inbound;
        "soap-validation" Inbound;
        "xml-threat-protection-flex" Inbound;
        "injection-protection-flex" Inbound;
        "stream-idle-timeout-flex" Inbound;
        "response-timeout-flex" Inbound;
        "tracing-flex" Inbound;
        "dataweave-body-transformation-flex" Inbound;
        "dataweave-headers-transformation-flex" Inbound;
        "dataweave-request-filter-flex" Inbound;
        "graphql-schema-validation-flex" Inbound;
        "graphql-operation-limits-flex" Inbound;
        "graphql-static-query-complexity-flex" Inbound;
        "graphql-introspection-control-flex" Inbound;
        "access-block" Inbound;
        "access-log" Inbound;
        "sse-logging" Inbound;
        "script-evaluation-transformation" Inbound;
        "body-transformation" Inbound;
        "header-transformation" Inbound;
        "circuit-breaker-flex" Outbound;
        "idle-timeout-flex" Outbound;
        "credential-injection-basic-auth-flex" Outbound;
        "credential-injection-oauth2-flex" Outbound;
        "credential-injection-api-key-flex" Outbound;
        "jwt-generation-flex" Outbound;
        "native-aws-lambda" Outbound;
        "native-aws-signature-flex" Outbound;
        "message-logging-outbound-flex" Outbound;
        "credential-injection-oauth2-obo" Outbound;
    }
}

/// Finds a name as written in a file: the table's own, the same with or without `-flex`, or `tls-inbound` for `tls`.
pub fn lookup(name: &str) -> Option<&'static Entry> {
    let name = if name == "tls-inbound" { "tls" } else { name };
    let stem = |name: &'static str| name.strip_suffix("-flex").unwrap_or(name);
    let wanted = name.strip_suffix("-flex").unwrap_or(name);
    TABLE.iter().find(|entry| stem(entry.name) == wanted)
}

/// Makes a policy of a chain from its `config`, which stands at `path`. Whatever is wrong becomes a problem and a policy that
/// refuses its requests, never a failure.
pub fn compile(name: &str, config: &Node, path: &str, problems: &mut Vec<Problem>) -> Compiled {
    let Some(entry) = lookup(name) else {
        let hint = nearest(name, TABLE.iter().map(|entry| entry.name));
        let hint = hint.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
        return broken(Severity::Policy, config, path, format!("`{name}`: extension not found{hint}"), problems);
    };
    if entry.role == Role::Routing {
        let text = format!("`{name}` is a route, not a policy of a chain; bind it with a PolicyBinding");
        return broken(Severity::Policy, config, path, text, problems);
    }
    Compiled::build(entry.name, config, path, problems)
        .unwrap_or_else(|| broken(Severity::Warning, config, path, format!("`{name}`: not implemented yet"), problems))
}

fn broken(severity: Severity, config: &Node, path: &str, text: String, problems: &mut Vec<Problem>) -> Compiled {
    problems.push(Problem { severity, location: config.location().clone(), path: path.to_owned(), text: text.clone() });
    Compiled::Broken(format!("{path}: {text}"))
}

/// The policy, or why there is none.
fn build<P: Policy>(config: &Node, path: &str, problems: &mut Vec<Problem>) -> Result<P, String> {
    let found = problems.len();
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
    let policy = P::compile(written).map_err(|error| {
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
