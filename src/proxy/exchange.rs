//! One exchange: a request, decided, and its answer. The steps in order, each called once.

use std::rc::Rc;

use super::{
    account::Account,
    client::Client,
    core::Serving,
    forward, grpc, headers, reject, respond,
    route::{self, Chosen},
    wire::Wire,
    workspace::Workspace,
};
use crate::{
    config::{
        rule::{PatternLimit, RuleInput},
        snapshot::relative,
    },
    http::{
        authority, bytes,
        head::{BodyLength, RequestHead},
        target,
    },
    net::task,
    policies::{At, Exchange, Flow, LocalResponse, chain},
};

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    KeepAlive,
    Close,
    /// Close, but let the client finish sending first, or it may lose the answer.
    Linger,
}

pub async fn run(client: &Client, wire: &mut Wire<'_>, workspace: &mut Workspace) -> After {
    let serving = client.serving();
    let mut account = Account::begin(client, serving.clone(), &workspace.request);
    match decide(client, workspace, &serving, &mut account) {
        Ok(()) => match grpc::timeout(&workspace.request) {
            None => forward::forward(client, wire, workspace, &serving, &mut account).await,
            Some(limit) => {
                // Boxed: few are limited, and the others are not to keep room for it beside their own.
                let call = Box::pin(forward::forward(client, wire, workspace, &serving, &mut account));
                match task::timeout(Some(limit), call).await {
                    Some(after) => after,
                    None => respond::end_call(client, wire, workspace, &serving, &mut account).await,
                }
            }
        },
        Err(answer) => respond::local(client, wire, workspace, &serving, &mut account, &answer).await,
    }
}

/// Answers a request that was refused before it could be looked at.
pub async fn refuse(client: &Client, wire: &mut Wire<'_>, workspace: &mut Workspace, answer: LocalResponse) -> After {
    let serving = client.serving();
    let mut account = Account::begin(client, serving.clone(), &workspace.request);
    respond::local(client, wire, workspace, &serving, &mut account, &answer).await
}

/// Everything up to the upstream; waits for nothing. On `Ok`, `account` knows API, route and Service, and
/// `workspace.path` is the path that the upstream sees.
fn decide(
    client: &Client,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
) -> Result<(), Rc<LocalResponse>> {
    let snapshot = &*serving.snapshot;
    let core = &client.core;
    workspace.authentication.clear();
    workspace.api_turns.clear();
    workspace.service_turns.clear();
    let (peer, scheme) = (client.peer.ip(), client.scheme().name());
    let certificate = client.certificate().map(|certificate| &*certificate.forwarded);
    headers::arrive(core, &snapshot.settings, peer, &workspace.client, scheme, certificate, &mut workspace.request);
    let request = &mut workspace.request;
    match &request.method[..] {
        b"CONNECT" => {
            // What follows was meant for somebody else.
            request.keep_alive = false;
            return Err(reject::connect().into());
        }
        b"PRI" => {
            // The preface of HTTP/2 and nothing else (RFC 9113 section 11.6): what follows is no HTTP/1.
            request.keep_alive = false;
            return Err(reject::reserved_method().into());
        }
        b"TRACE" if request.body != BodyLength::None => return Err(reject::trace_with_body().into()),
        b"OPTIONS" | b"TRACE" => go_further(request)?,
        _ => {}
    }
    if target::normalise(&request.path, request.path_is_plain, &mut workspace.path) {
        std::mem::swap(&mut request.path, &mut workspace.path);
    }
    authority::normalise(&mut request.authority);
    account.identified(request);

    if !client.secured.as_ref().is_none_or(|secured| secured.may_ask(&request.authority)) {
        return Err(reject::misdirected().into());
    }
    let listener = snapshot.listeners.get(client.listener.index.get());
    let (api_index, base) = listener
        .and_then(|listener| listener.apis.find(&request.authority, &request.path))
        .ok_or_else(reject::no_api)?;
    let api = &snapshot.apis[api_index];
    account.api = Some(api_index);
    account.base = base;
    let mut scratch = serving.scratch.borrow_mut();
    let at = At { api, base, service: None };
    let Workspace { request, response, authentication, api_turns, service_turns, captures, path, .. } = workspace;
    if !api.policies.is_empty() {
        // What is left in it is of the exchange before.
        response.clear();
        let mut exchange = Exchange::new(request, response, authentication, client.as_peer(), at, core.random());
        let instances = &serving.api_policies[api_index];
        if let Flow::Respond(answer) =
            chain::run_request(&api.policies, instances, api_turns, &mut exchange, &mut scratch)
        {
            return Err(answer);
        }
    }

    let input = RuleInput {
        path: relative(&request.path, base),
        authority: &request.authority,
        method: &request.method,
        fields: &request.fields,
    };
    let random = core.random() as u32;
    let chosen = route::choose(api, &input, &mut scratch, captures, random, path);
    let chosen = chosen.map_err(|PatternLimit| LocalResponse::pattern_limit())?;
    let Chosen { route, service } = chosen.ok_or_else(reject::no_route)?;
    account.route = Some(route);
    let service_index = service.ok_or_else(reject::no_service)?;
    account.service = Some(service_index);

    let service = &snapshot.services[service_index];
    if !service.policies.is_empty() {
        let at = At { service: Some(service), ..at };
        response.clear();
        let mut exchange = Exchange::new(request, response, authentication, client.as_peer(), at, core.random());
        let instances = &serving.service_policies[service_index];
        if let Flow::Respond(answer) =
            chain::run_request(&service.policies, instances, service_turns, &mut exchange, &mut scratch)
        {
            return Err(answer);
        }
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
