//! What a policy waits for, carried out: the only place where an exchange waits for one.
//!
//! A policy names a [`Question`] and returns; nothing of it is borrowed until the reply is there.

use std::{pin::pin, time::Duration};

use super::{
    account::Account,
    call,
    client::Client,
    core::Serving,
    grpc, talk,
    watch::{Stalled, Waiting, Watch},
    wire::Wire,
};
use crate::{
    http::head::RequestHead,
    net::task,
    policies::{Question, Reply},
};

/// Waits for the reply, at most until the client leaves, the drain is over, or the time of a gRPC call is.
pub async fn watched(
    client: &Client,
    serving: &Serving,
    wire: &Wire<'_>,
    request: &RequestHead,
    account: &mut Account,
    question: Question,
) -> Result<Reply, Stalled> {
    let to_client = wire.outgoing();
    let watch = Watch::new(&client.deadline, &to_client, &client.listener);
    let left = grpc::time_left(request, || account.age());
    if left == Some(Duration::ZERO) {
        return Err(Stalled::TimedOut(Waiting::Policy));
    }
    watch.wait_for(Waiting::Policy, None);
    // By a clock of its own: the watch looks at its limits ten times a second, and a call is not to end before its time.
    let replied = task::timeout(left, watch.over(pin!(reply(client, serving, account, question)))).await;
    let reply = replied.unwrap_or(Err(Stalled::TimedOut(Waiting::Policy)))?;
    // Many short waits would never look, and the last one be for nobody.
    watch.look()?;
    Ok(reply)
}

/// Waits for the reply, under a watch that runs already.
pub async fn reply(client: &Client, serving: &Serving, account: &mut Account, question: Question) -> Reply {
    account.policy_waits();
    let reply = match question {
        Question::Time(time) => {
            task::sleep(time).await;
            Reply::Time
        }
        Question::Signal { signal, at_most } => match task::timeout(Some(at_most), signal).await {
            Some(()) => Reply::Signal,
            None => Reply::Time,
        },
        // Boxed: few call, and the others are not to keep room for it.
        Question::Call(made) => Reply::Called(Box::new(Box::pin(call::make(&client.core, serving, made)).await)),
        // A chain asks for it by itself.
        Question::Body(_) => Reply::Read,
        Question::Hear(hear) => Reply::Heard(Box::pin(talk::hear(&client.core, serving, &hear)).await),
    };
    account.policy_goes_on();
    reply
}
