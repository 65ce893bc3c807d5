//! One exchange: a request, decided, and its answer. The steps in order, each called once.

use std::rc::Rc;

use super::{
    account::Account,
    client::Client,
    core::Serving,
    decide::{self, Asked},
    forward, grpc, respond,
    wire::Wire,
    workspace::Workspace,
};
use crate::{
    net::task,
    policies::{LocalResponse, Timeouts},
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
    workspace.timeouts = usual_timeouts(&serving);
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
    workspace.timeouts = usual_timeouts(&serving);
    let mut account = Account::begin(client, serving.clone(), &workspace.request);
    respond::local(client, wire, workspace, &serving, &mut account, &answer).await
}

/// Those of the replica.
fn usual_timeouts(serving: &Serving) -> Timeouts {
    let timeouts = &serving.snapshot.settings.timeouts;
    Timeouts { response: timeouts.upstream_response, stream_idle: timeouts.stream_idle }
}

/// What the connection tells of the request, to those who decide.
fn decide(
    client: &Client,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
) -> Result<(), Rc<LocalResponse>> {
    let asked = Asked {
        peer: client.as_peer(),
        listener: client.listener.index.get(),
        certificates: client.secured.as_ref().map(|secured| secured.certificates()),
    };
    decide::decide(&asked, workspace, serving, || client.core.random(), account)
}
