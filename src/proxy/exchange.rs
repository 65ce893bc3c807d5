//! One exchange: a request, decided, and its answer. The steps in order, each called once.

use std::rc::Rc;

use super::{
    account::Account,
    client::Client,
    core::Serving,
    decide::{Asked, Decision},
    forward, grpc, reject, respond, wait,
    watch::Stalled,
    wire::Wire,
    workspace::Workspace,
};
use crate::{
    net::task,
    policies::{LocalResponse, Question, Timeouts, chain::Next},
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
    let decided = match decide(client, workspace, &serving, &mut account) {
        Ok((_, Next::Done)) => Ok(()),
        Ok((_, Next::Respond(answer))) => Err(Stop::Answered(answer)),
        // Boxed: few wait, and the others are not to keep room for it.
        Ok((decision, Next::Wait(question))) => {
            Box::pin(wait(client, wire, workspace, &serving, &mut account, decision, question)).await
        }
        Err(answer) => Err(Stop::Answered(answer.into())),
    };
    let after = match decided {
        Ok(()) => match grpc::time_left(&workspace.request, account.age()) {
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
        Err(Stop::Answered(answer)) => respond::local(client, wire, workspace, &serving, &mut account, &answer).await,
        Err(Stop::ClientGone) => {
            account.client_left();
            After::Close
        }
    };
    respond::run_log_chains(client, workspace, &serving, &account);
    after
}

/// Why a request does not go on to its upstream.
enum Stop {
    Answered(Rc<LocalResponse>),
    ClientGone,
}

/// What the policies of the request wait for, one after the other, until all is decided.
async fn wait(
    client: &Client,
    wire: &Wire<'_>,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    mut decision: Decision,
    mut question: Box<Question>,
) -> Result<(), Stop> {
    loop {
        let reply = match wait::watched(client, wire, &workspace.request, account, *question).await {
            Ok(reply) => reply,
            Err(Stalled::ClientGone) => return Err(Stop::ClientGone),
            Err(stalled) => return Err(Stop::Answered(reject::stalled(stalled).into())),
        };
        let random = || client.core.random();
        question = match decision.go_on(&asked(client), workspace, serving, random, Some(reply), account) {
            Next::Done => return Ok(()),
            Next::Respond(answer) => return Err(Stop::Answered(answer)),
            Next::Wait(next) => next,
        };
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

/// Decides the request, or as much of it as needs no waiting.
fn decide(
    client: &Client,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
) -> Result<(Decision, Next), LocalResponse> {
    let (asked, random) = (asked(client), || client.core.random());
    let mut decision = Decision::begin(&asked, workspace, serving, random, account)?;
    let next = decision.go_on(&asked, workspace, serving, random, None, account);
    Ok((decision, next))
}

/// What the connection tells of the request, to those who decide.
fn asked(client: &Client) -> Asked<'_> {
    Asked {
        peer: client.as_peer(),
        listener: client.listener.index.get(),
        certificates: client.secured.as_ref().map(|secured| secured.certificates()),
        now: None,
    }
}
