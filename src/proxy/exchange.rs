//! One exchange: a request, decided, and its answer. The steps in order, each called once.

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
    config::{rule::RuleInput, snapshot::relative},
    http::{
        bytes,
        head::{BodyLength, RequestHead},
        target,
    },
    net::task,
    policies::{Flow, LocalResponse, chain},
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
    client.tenure.begin_request();
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
        Err(answer) => respond::local(client, wire, workspace, &serving, &mut account, answer).await,
    }
}

/// Answers a request that was refused before it could be looked at.
pub async fn refuse(client: &Client, wire: &mut Wire<'_>, workspace: &mut Workspace, answer: LocalResponse) -> After {
    let serving = client.serving();
    let mut account = Account::begin(client, serving.clone(), &workspace.request);
    respond::local(client, wire, workspace, &serving, &mut account, answer).await
}

/// Everything up to the upstream; waits for nothing. On `Ok`, `account` knows API, route and Service, and
/// `workspace.path` is the path that the upstream sees.
fn decide(
    client: &Client,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
) -> Result<(), LocalResponse> {
    let snapshot = &*serving.snapshot;
    let core = &client.core;
    workspace.authentication.clear();
    workspace.api_ran.clear();
    workspace.service_ran.clear();
    let (peer, scheme) = (client.peer.ip(), client.scheme());
    let certificate = client.certificate().map(|certificate| &*certificate.forwarded);
    headers::arrive(core, &snapshot.settings, peer, &workspace.client, scheme, certificate, &mut workspace.request);
    let request = &mut workspace.request;
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
    if target::normalise(&request.path, &mut workspace.path) {
        std::mem::swap(&mut request.path, &mut workspace.path);
    }
    account.identified(request);

    if !client.secured.as_ref().is_none_or(|secured| secured.may_ask(&request.authority)) {
        return Err(reject::misdirected());
    }
    let listener = snapshot.listeners.get(client.listener.index.get());
    let (api_index, base) = listener
        .and_then(|listener| listener.apis.find(&request.authority, &request.path))
        .ok_or_else(reject::no_api)?;
    let api = &snapshot.apis[api_index];
    account.api = Some(api_index);
    let mut scratch = serving.scratch.borrow_mut();
    if !api.policies.is_empty() {
        let mut exchange = client.exchange(request, &mut workspace.authentication);
        let states = &serving.api_states[api_index];
        let ran = &mut workspace.api_ran;
        if let Flow::Respond(answer) = chain::run_request(&api.policies, states, &mut exchange, base, &mut scratch, ran)
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
    let chosen = route::choose(api, &input, &mut scratch, &mut workspace.captures, random, &mut workspace.path);
    let Chosen { route, service } = chosen.map_err(|_| LocalResponse::pattern_limit())?.ok_or_else(reject::no_route)?;
    account.route = Some(route);
    let service_index = service.ok_or_else(reject::no_service)?;
    account.service = Some(service_index);

    let service = &snapshot.services[service_index];
    if !service.policies.is_empty() {
        let mut exchange = client.exchange(request, &mut workspace.authentication);
        let states = &serving.service_states[service_index];
        let ran = &mut workspace.service_ran;
        if let Flow::Respond(answer) =
            chain::run_request(&service.policies, states, &mut exchange, base, &mut scratch, ran)
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
