//! The way to the upstream and back: a connection, the request, the response; another try where that is safe.
//!
//! Request body and response move at the same time, in one task: an upstream may answer before it has read everything, and
//! may want to be read from before it goes on reading.

mod attempt;
mod head;
mod response;
mod tries;

use std::rc::Rc;

use self::{
    attempt::{Attempt, Progress},
    tries::{Again, Tries},
};
use super::{
    account::Account,
    body::{Scanning, Taken},
    client::Client,
    core::Serving,
    exchange::After,
    headers,
    pool::Unavailable,
    reject, respond,
    watch::Stalled,
    wire::Wire,
    workspace::Workspace,
};
use crate::{
    http::{
        h1::{body::BodyError, parse::ResponseError},
        head::BodyLength,
    },
    policies::{LocalResponse, Side},
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
    /// A policy answers in the place of the upstream; its head lies in the workspace.
    Refused(Rc<LocalResponse>),
    /// A policy wants another response of the upstream, to the request as it is now.
    AnotherWanted,
    ClientBody(BodyError),
    /// A policy lets one of the bodies go no further, or wants more of it than may be read; the client has not seen a response.
    BodyRefused(Rc<LocalResponse>),
    ClientGone,
    /// The client has part of the response: nothing can be said any more.
    Midway {
        reason: &'static str,
    },
}

/// `taken`: what was read of the request's body already, if anything was.
pub async fn forward(
    client: &Client,
    wire: &mut Wire<'_>,
    workspace: &mut Workspace,
    serving: &Rc<Serving>,
    account: &mut Account,
    taken: Option<Box<Taken>>,
) -> After {
    let service_index = account.service.expect("a decided exchange has its Service");
    let service = &*serving.snapshot.services[service_index];
    let (mut before, mut anew);
    let Taken { reader, held } = match taken {
        Some(taken) => {
            before = taken;
            &mut *before
        }
        None => {
            anew = Taken::new(client, serving, &workspace.request);
            &mut anew
        }
    };
    let scanning = workspace.take_scans(Side::Request).map(|scans| {
        let left = workspace.request.content_length.map(|length| length.saturating_sub(held.bytes()));
        Scanning::new(scans, Side::Request, left, &client.core, serving)
    });
    if scanning.as_ref().is_some_and(|scanning| scanning.changing().is_some()) {
        headers::frame_changed(&mut workspace.request, held);
    }
    let tries = Tries::new(&client.core, service, &serving.upstreams[service_index]);
    loop {
        let progress = Progress::default();
        let scanning = scanning.as_ref();
        let attempt = Attempt { client, serving, service, held, scanning, tries: &tries, progress: &progress };
        let failure = match attempt.run(wire, workspace, account, reader).await {
            Ok(after) => return after,
            Err(failure) => failure,
        };
        let is_sent_again = match failure {
            Failure::AnotherWanted => workspace.request.body == BodyLength::None,
            _ => held.is_whole(),
        };
        let again = is_sent_again.then(|| {
            let response_time = workspace.timeouts.response;
            tries.again(&failure, workspace.line().method, response_time.is_none_or(|limit| account.age() < limit))
        });
        match again.flatten() {
            Some(Again::Unseen) => {
                client.core.telemetry.resends.increment();
                continue;
            }
            Some(Again::Retry) => {
                account.retries += 1;
                continue;
            }
            Some(Again::Wanted) => continue,
            None => {}
        }
        let answer = match failure {
            Failure::Unavailable(error) => reject::unavailable(&error),
            Failure::Stalled(Stalled::ClientGone) | Failure::ClientGone => {
                account.client_left();
                return After::Close;
            }
            Failure::Stalled(stalled) => reject::stalled(stalled),
            Failure::Unprocessed => reject::unprocessed(),
            Failure::Reset { .. } | Failure::GatewayError | Failure::AnotherWanted => reject::upstream_reset(),
            Failure::BadResponse(error) => reject::bad_response(&error),
            Failure::BadResponseBody { reason } => reject::bad_response_body(reason),
            Failure::ClientBody(error) => reject::bad_body(&error),
            Failure::BodyRefused(answer) => {
                respond::leave_body(wire, workspace, reader);
                return respond::local(client, wire, workspace, serving, account, &answer).await;
            }
            Failure::Refused(answer) => {
                respond::close_unread(workspace);
                return respond::deliver(client, wire, workspace, serving, account, &answer).await;
            }
            Failure::Midway { reason } => {
                account.reason = reason;
                if progress.unframed.get() {
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
    respond::close_unread(workspace);
    respond::local(client, wire, workspace, serving, account, &answer).await
}
