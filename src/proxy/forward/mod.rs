//! The way to the upstream and back: a connection, the request, the response; another try where that is safe.
//!
//! Request body and response move at the same time, in one task: an upstream may answer before it has read everything, and
//! may want to be read from before it goes on reading.

mod attempt;
mod head;
mod response;
mod tries;

use std::{cell::RefCell, rc::Rc};

use self::{attempt::Attempt, tries::Tries};
use super::{
    account::Account, client::Client, core::Serving, exchange::After, pool::Unavailable, pump::Replay, reject, respond,
    watch::Stalled, wire::Wire, workspace::Workspace,
};
use crate::{
    http::{
        h1::{
            body::{BodyError, BodyReader},
            parse::ResponseError,
        },
        head::BodyLength,
    },
    policies::LocalResponse,
};

/// Why an exchange did not come to its end.
enum Failure {
    Unavailable(Unavailable),
    Stalled(Stalled),
    /// The upstream closed or reset before its head was complete; nothing of it was seen if `silent`.
    Reset {
        silent: bool,
    },
    /// The upstream says that it has not looked at the request, or takes no more on this connection (RFC 9113 section 8.7).
    Unprocessed,
    BadResponse(ResponseError),
    /// As `BadResponse`, of the body, or of anything that came as HTTP/2.
    BadResponseBody {
        reason: &'static str,
    },
    /// The upstream answered 502, 503 or 504, and another try is allowed.
    GatewayError,
    ClientBody(BodyError),
    ClientGone,
    /// The client has part of the response: nothing can be said any more.
    Midway {
        reason: &'static str,
    },
}

pub async fn forward(
    client: &Client,
    wire: &mut Wire<'_>,
    workspace: &mut Workspace,
    serving: &Rc<Serving>,
    account: &mut Account,
) -> After {
    let service_index = account.service.expect("a decided exchange has its Service");
    let service = &*serving.snapshot.services[service_index];
    let limits = respond::body_limits(serving);
    let mut body = BodyReader::new(workspace.request.body, &limits);
    let replay = (service.retries.attempts > 0).then(|| {
        let bytes_max = serving.snapshot.settings.limits.retry_body_bytes;
        RefCell::new(Replay::new(bytes_max))
    });
    let tries = Tries::new(&client.core, service);
    loop {
        let attempt = Attempt { client, serving, service, replay: replay.as_ref(), tries: &tries };
        let failure = match attempt.run(wire, workspace, account, &mut body).await {
            Ok(after) => return after,
            Err(failure) => failure,
        };
        let untouched = match &replay {
            Some(replay) => !replay.borrow().overflowed,
            None => workspace.request.body == BodyLength::None,
        };
        if untouched && tries.again(&failure, &workspace.request.method) {
            account.retries += 1;
            continue;
        }
        let answer = match failure {
            Failure::Unavailable(error) => reject::unavailable(&error),
            Failure::Stalled(Stalled::ClientGone) | Failure::ClientGone => {
                let answer = reject::stalled(Stalled::ClientGone);
                (account.status, account.reason) = (answer.status, answer.reason);
                return After::Close;
            }
            Failure::Stalled(stalled) => reject::stalled(stalled),
            Failure::Reset { .. } | Failure::Unprocessed | Failure::GatewayError => reject::upstream_reset(),
            Failure::BadResponse(error) => reject::bad_response(&error),
            Failure::BadResponseBody { reason } => reject::bad_response_body(reason),
            Failure::ClientBody(error) => reject::bad_body(&error),
            Failure::Midway { reason } => {
                account.reason = reason;
                if tries.unframed.get() {
                    wire.outgoing().cut();
                }
                return After::Close;
            }
        };
        return respond_unread(client, wire, workspace, serving, account, answer).await;
    }
}

/// Answers when the request's body may have been read in part: the connection ends unless there was none.
async fn respond_unread(
    client: &Client,
    wire: &mut Wire<'_>,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    answer: LocalResponse,
) -> After {
    if workspace.request.body != BodyLength::None {
        workspace.request.keep_alive = false;
        // What is left of the body is not framed from its beginning any more; it is read and thrown away.
        workspace.request.body = BodyLength::None;
    }
    respond::local(client, wire, workspace, serving, account, answer).await
}
