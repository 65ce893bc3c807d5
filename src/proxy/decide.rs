//! Deciding an exchange: everything up to the upstream, or to the answer that is the gateway's own.
//!
//! It waits for nothing and knows no socket, so that `explain` takes the very same steps for a request that nobody has sent.
//! Where a policy waits it stops, and goes on when it is given the reply, or the body that the policy wants to read.

use std::time::SystemTime;

use super::{
    core::Serving,
    handshake::Certificates,
    headers, reject,
    route::{self, Chosen},
    workspace::Workspace,
};
use crate::{
    config::{settings::Settings, snapshot::Snapshot},
    http::{
        authority, bytes,
        head::{BodyLength, RequestHead},
        target,
    },
    matching::rule::{PatternLimit, RuleInput, relative},
    policies::{
        At, Exchange, LocalResponse, Peer, Reply, Upstream,
        chain::{self, Next},
    },
};

/// Where a request has come, as far as decisions depend on it.
pub struct Asked<'a> {
    pub peer: Peer<'a>,
    /// Index into `Snapshot::listeners`.
    pub listener: usize,
    /// Those of the port, where it is served with TLS.
    pub certificates: Option<Certificates<'a>>,
    /// Where the question is what would be at another time than now.
    pub now: Option<SystemTime>,
    /// Once it is answered it may go on without its client.
    pub may_go_on_alone: bool,
}

/// Learns what is found on the way, when it is found: also of a request that is refused later.
pub trait Watcher: chain::Watcher {
    /// The path has its one spelling, and the id is decided.
    fn identified(&mut self, request: &RequestHead);
    /// Index into the snapshot, and how many bytes of the path its base takes.
    fn api(&mut self, index: usize, base: usize);
    fn route(&mut self, index: usize);
    fn service(&mut self, index: usize);
}

/// How far a decision has come, where a policy waits: what the steps before have found.
#[derive(Clone, Copy, Debug)]
pub struct Decision {
    /// Index into the snapshot, and how many bytes of the path its base takes.
    api: usize,
    base: usize,
    /// Index into the snapshot, once a route has been chosen.
    service: Option<usize>,
}

impl Decision {
    /// Everything up to the first policy.
    ///
    /// # Errors
    /// The gateway's own answer.
    pub fn begin(
        asked: &Asked<'_>,
        workspace: &mut Workspace,
        serving: &Serving,
        random: impl Fn() -> u64 + Copy,
        watcher: &mut impl Watcher,
    ) -> Result<Self, LocalResponse> {
        let snapshot = &*serving.snapshot;
        workspace.authentication.clear();
        workspace.api_turns.clear();
        workspace.service_turns.clear();
        arrive(&snapshot.settings, &asked.peer, workspace, random)?;
        watcher.identified(&workspace.request);
        if !asked.certificates.as_ref().is_none_or(|own| own.may_ask(&workspace.request.authority)) {
            return Err(reject::misdirected());
        }
        let (api, base) = find_api(snapshot, asked.listener, &workspace.request).ok_or_else(reject::no_api)?;
        watcher.api(api, base);
        Ok(Self { api, base, service: None })
    }

    /// Of a request that goes on without its client, from a policy of this API.
    pub fn within(api: usize, base: usize) -> Self {
        Self { api, base, service: None }
    }

    /// The policies, and between them the choice of a route; from where a policy waits for the `reply`, or from the first.
    /// Nothing is borrowed while one waits. With [`Next::Done`] the watcher knows API, route and Service, and `workspace.path`
    /// is the path that the upstream sees.
    pub fn go_on(
        &mut self,
        asked: &Asked<'_>,
        workspace: &mut Workspace,
        serving: &Serving,
        random: impl Fn() -> u64 + Copy,
        mut reply: Option<Reply>,
        watcher: &mut impl Watcher,
    ) -> Next {
        if self.service.is_none() {
            if !serving.snapshot.apis[self.api].policies.is_empty() {
                match self.run_chain(asked, workspace, serving, random, reply.take(), watcher) {
                    Next::Done => {}
                    other => return other,
                }
            }
            match self.find_service(workspace, serving, random, watcher) {
                Ok(service) => self.service = Some(service),
                Err(answer) => return Next::Respond(answer.into()),
            }
        }
        match self.service.is_none_or(|service| serving.snapshot.services[service].policies.is_empty()) {
            true => Next::Done,
            false => self.run_chain(asked, workspace, serving, random, reply, watcher),
        }
    }

    /// The chain of the API, or of the Service once that is known; it is not empty.
    fn run_chain(
        &self,
        asked: &Asked<'_>,
        workspace: &mut Workspace,
        serving: &Serving,
        random: impl Fn() -> u64,
        reply: Option<Reply>,
        watcher: &mut impl Watcher,
    ) -> Next {
        let snapshot = &*serving.snapshot;
        let api = &*snapshot.apis[self.api];
        let service = self.service.map(|index| &*snapshot.services[index]);
        let Workspace {
            request,
            response,
            authentication,
            timeouts,
            bodies,
            api_turns,
            service_turns,
            path,
            instead,
            ..
        } = workspace;
        let (policies, instances, turns) = match (self.service, service) {
            (Some(index), Some(service)) => (&service.policies, &serving.service_policies[index], service_turns),
            _ => (&api.policies, &serving.api_policies[self.api], api_turns),
        };
        // What is left in it is of the exchange before.
        response.clear();
        let at = At { api: &api.name, base: self.base };
        let settings = &snapshot.settings;
        let upstream = service.map(|service| Upstream {
            scheme: if service.is_secure() { "https" } else { "http" },
            authority: headers::own_authority(request, service),
            path,
            line: instead,
        });
        let exchange = Exchange::new(request, response, authentication, timeouts, asked.peer, at, random());
        let exchange = exchange.with_bodies(bodies, settings.limits.buffered_body_bytes);
        let mut exchange = exchange.with_way_on(asked.may_go_on_alone && self.service.is_none());
        if let Some(upstream) = upstream {
            exchange = exchange.with_upstream(upstream);
        }
        exchange.set_now(asked.now);
        let scratch = &mut serving.scratch.borrow_mut();
        chain::run_request(policies, instances, turns, &mut exchange, scratch, reply, watcher)
    }

    /// The route, and the Service that it leads to.
    fn find_service(
        &self,
        workspace: &mut Workspace,
        serving: &Serving,
        random: impl Fn() -> u64,
        watcher: &mut impl Watcher,
    ) -> Result<usize, LocalResponse> {
        let Workspace { request, captures, path, .. } = workspace;
        let api = &serving.snapshot.apis[self.api];
        let input = rule_input(request, self.base);
        let chosen = route::choose(api, &input, &mut serving.scratch.borrow_mut(), captures, random() as u32, path);
        let chosen = chosen.map_err(|PatternLimit| LocalResponse::pattern_limit())?;
        let Chosen { route, service } = chosen.ok_or_else(reject::no_route)?;
        watcher.route(route);
        let service = service.ok_or_else(reject::no_service)?;
        watcher.service(service);
        Ok(service)
    }
}

/// The request as everything behind here sees it; refused are those that no API could be meant by.
fn arrive(
    settings: &Settings,
    peer: &Peer<'_>,
    workspace: &mut Workspace,
    random: impl Fn() -> u64,
) -> Result<(), LocalResponse> {
    let request = &mut workspace.request;
    headers::arrive(settings, peer, &workspace.client, random, request);
    match &request.method[..] {
        b"CONNECT" => {
            // What follows was meant for somebody else.
            request.keep_alive = false;
            return Err(reject::connect());
        }
        b"PRI" => {
            // The preface of HTTP/2 and nothing else (RFC 9113 section 11.6): what follows is no HTTP/1.
            request.keep_alive = false;
            return Err(reject::reserved_method());
        }
        b"TRACE" if request.body != BodyLength::None => return Err(reject::trace_with_body()),
        b"OPTIONS" | b"TRACE" => go_further(request)?,
        _ => {}
    }
    if target::normalise(&request.path, request.path_is_plain, &mut workspace.path) {
        std::mem::swap(&mut request.path, &mut workspace.path);
    }
    if !request.authority_is_plain {
        authority::normalise(&mut request.authority);
    }
    Ok(())
}

/// Counts `Max-Forwards` down, and answers where this is the last recipient (RFC 9110 section 7.6.2), as for `*`. A value
/// that is no number means nothing and passes.
fn go_further(request: &mut RequestHead) -> Result<(), LocalResponse> {
    const NAME: &[u8] = b"max-forwards";
    let is_trace = request.method == b"TRACE";
    if request.path == b"*" {
        return Err(reject::options());
    }
    let left = {
        let mut values = request.fields.values(NAME);
        let only = values.next().filter(|_| values.next().is_none());
        only.and_then(bytes::decimal)
    };
    match left {
        None => Ok(()),
        Some(0) if is_trace => Err(reject::trace()),
        Some(0) => Err(reject::options()),
        Some(left) => {
            request.fields.set(NAME, (left - 1).to_string().as_bytes());
            Ok(())
        }
    }
}

/// The API that a normalised request means, and how many bytes of its path the base takes.
fn find_api(snapshot: &Snapshot, listener: usize, request: &RequestHead) -> Option<(usize, usize)> {
    snapshot.listeners.get(listener)?.apis.find(&request.authority, &request.path)
}

/// What the rules of routes look at.
fn rule_input(request: &RequestHead, base: usize) -> RuleInput<'_> {
    RuleInput {
        path: relative(&request.path, base),
        authority: &request.authority,
        method: &request.method,
        fields: &request.fields,
    }
}
