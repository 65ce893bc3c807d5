//! One exchange: a request, decided, and its answer. The steps in order, each called once.

use std::{pin::pin, rc::Rc};

use super::{
    account::Account,
    ahead::{Ahead, Reach, Unread},
    body::{Scanning, Taken},
    client::Client,
    core::Serving,
    decide::{Asked, Decision},
    forward, grpc, headers,
    pump::PumpError,
    reject, respond, wait,
    watch::{Stalled, Waiting, Watch, shorter},
    wire::Wire,
    workspace::Workspace,
};
use crate::{
    net::task,
    policies::{Body, LocalResponse, Side, Timeouts, Wanted, chain::Next},
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
        Ok((_, Next::Done)) if !workspace.bodies.request.is_replaced() => Ok(None),
        Ok((_, Next::Respond(answer))) => Err(Stop::Answered(answer)),
        // Boxed: few wait, or read or replace a body, and the others are not to keep room for it.
        Ok((decision, next)) => {
            let (serving, account) = (&serving, &mut account);
            Box::pin(Pending { client, wire, workspace, serving, account, decision, taken: None }.run(next)).await
        }
        Err(answer) => Err(Stop::Answered(answer)),
    };
    let after = match decided {
        Ok(taken) => match grpc::time_left(&workspace.request, || account.age()) {
            None => forward::forward(client, wire, workspace, &serving, &mut account, taken).await,
            Some(limit) => {
                // Boxed: few are limited, and the others are not to keep room for it beside their own.
                let call = Box::pin(forward::forward(client, wire, workspace, &serving, &mut account, taken));
                match task::timeout(Some(limit), call).await {
                    Some(after) => after,
                    None => respond::end_call(client, wire, workspace, &serving, &mut account).await,
                }
            }
        },
        Err(Stop::Answered(answer) | Stop::Unread(answer)) => {
            respond::local(client, wire, workspace, &serving, &mut account, &answer).await
        }
        Err(Stop::ClientGone) => {
            account.client_left();
            After::Close
        }
    };
    respond::run_log_chains(client, workspace, &serving, &mut account);
    after
}

/// Why a request does not go on to its upstream.
enum Stop {
    Answered(Rc<LocalResponse>),
    /// A policy wants more of the body than may be read.
    Unread(Rc<LocalResponse>),
    ClientGone,
}

impl Stop {
    fn answered(answer: LocalResponse) -> Self {
        Self::Answered(answer.into())
    }

    fn of_stalled(stalled: Stalled) -> Self {
        match stalled {
            Stalled::ClientGone => Self::ClientGone,
            stalled => Self::answered(reject::stalled(stalled)),
        }
    }

    fn of_unread(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => Self::Unread(reject::body_too_large().into()),
            Unread::NoMemory => Self::Unread(reject::no_body_memory().into()),
            Unread::Broken(PumpError::Refused(answer)) => Self::Answered(answer),
            Unread::Broken(PumpError::Malformed(error)) => Self::answered(reject::bad_body(&error)),
            Unread::Broken(PumpError::Read(_) | PumpError::Truncated | PumpError::Write(_)) => Self::ClientGone,
        }
    }
}

/// A request whose policies have to wait, or to read or replace its body, before it is decided.
struct Pending<'a, 'w> {
    client: &'a Client,
    wire: &'a mut Wire<'w>,
    workspace: &'a mut Workspace,
    serving: &'a Rc<Serving>,
    account: &'a mut Account,
    decision: Decision,
    /// What was read of the body.
    taken: Option<Box<Taken>>,
}

impl Pending<'_, '_> {
    /// Does what the policies want, one after the other, until all is decided. Returns what was read of the body.
    async fn run(mut self, next: Next) -> Result<Option<Box<Taken>>, Stop> {
        let mut decided = self.steps(next).await;
        let body = std::mem::take(&mut self.workspace.bodies).request;
        if decided.is_ok() && body.is_replaced() {
            decided = self.replace(body);
        } else if let (Ok(()), Some(taken)) = (&decided, &self.taken) {
            taken.held.take_back(body);
        }
        if let (Err(_), Some(taken)) = (&decided, &mut self.taken) {
            respond::leave_body(self.wire, self.workspace, &mut taken.reader);
        }
        decided.map(|()| self.taken)
    }

    /// What goes upstream is not what the client has sent, and is framed by what it is.
    fn replace(&mut self, body: Body) -> Result<(), Stop> {
        let Self { client, wire, workspace, serving, taken, .. } = self;
        let Taken { reader, held } =
            &mut **taken.get_or_insert_with(|| Box::new(Taken::new(client, serving, &workspace.request)));
        let (bytes, is_discarded) = (body.len(), body.is_discarded());
        if !held.replace(body) {
            return Err(Stop::answered(reject::no_body_memory()));
        }
        if is_discarded && !respond::skip_rest(wire, reader) {
            // What is left of it would be taken for the next request.
            workspace.request.keep_alive = false;
        }
        headers::frame_replaced(&mut workspace.request, bytes, held.has_trailers());
        Ok(())
    }

    async fn steps(&mut self, mut next: Next) -> Result<(), Stop> {
        loop {
            let reply = match next {
                Next::Done | Next::AskAgain => return Ok(()),
                Next::Respond(answer) => return Err(Stop::Answered(answer)),
                Next::Wait(question) => {
                    let request = &self.workspace.request;
                    let reply =
                        wait::watched(self.client, self.serving, self.wire, request, self.account, *question).await;
                    Some(reply.map_err(Stop::of_stalled)?)
                }
                Next::Body(wanted) => {
                    let limit = grpc::time_left(&self.workspace.request, || self.account.age());
                    let read = task::timeout(limit, pin!(self.read_ahead(wanted))).await;
                    let read = read.unwrap_or_else(|| Err(Stop::answered(reject::grpc_timeout())));
                    read.inspect_err(|stop| self.unread(stop))?;
                    None
                }
            };
            let random = || self.client.core.random();
            let asked = asked(self.client);
            next = self.decision.go_on(&asked, self.workspace, self.serving, random, reply, self.account);
        }
    }

    fn unread(&mut self, stop: &Stop) {
        let refused = match stop {
            Stop::Unread(answer) => Some(&**answer),
            Stop::Answered(_) | Stop::ClientGone => None,
        };
        respond::run_unread(self.workspace, self.serving, self.account, refused);
    }

    /// Reads as much of the body as a policy wants. Those that look at what passes, and have had their turn, look on.
    async fn read_ahead(&mut self, wanted: Wanted) -> Result<(), Stop> {
        let Self { client, wire, workspace, serving, taken, .. } = self;
        let settings = &serving.snapshot.settings;
        let taken = taken.get_or_insert_with(|| Box::new(Taken::new(client, serving, &workspace.request)));
        let Taken { reader, held } = &mut **taken;
        held.take_back(std::mem::take(&mut workspace.bodies.request));
        let length = workspace.request.content_length;
        let left = length.map(|length| length.saturating_sub(held.bytes()));
        let scans = workspace.take_scans(Side::Request);
        let scanning = scans.map(|scans| Scanning::new(scans, Side::Request, left, &client.core, serving));
        let to_client = wire.outgoing();
        let watch = Watch::new(&client.deadline, &to_client, &client.listener);
        let limit = shorter(settings.timeouts.request_body_idle, workspace.timeouts.stream_idle);
        watch.wait_for(Waiting::ClientBody, limit);
        let bytes_max = settings.limits.buffered_body_bytes;
        let ahead = Ahead { held, scanning: scanning.as_ref(), watch: &watch, bytes_max };
        let read = match ahead.admit(length, wanted) {
            Ok(()) => {
                // Told by whoever reads the body (RFC 9110 section 10.1.1), and not asked for a second time.
                if wanted != Wanted::Received && std::mem::take(&mut workspace.request.expects_continue) {
                    respond::go_ahead(&to_client, workspace).await.map_err(|_| Stop::ClientGone)?;
                }
                let mut from = wire.incoming(reader);
                watch.over(pin!(ahead.read(&mut from, Reach::Wanted(wanted)))).await.map_err(Stop::of_stalled)?
            }
            refused => refused,
        };
        if let Err(Unread::Broken(PumpError::Malformed(error))) = &read {
            // Where it ends nobody knows, and neither does its reader.
            respond::close_unread(workspace);
            self.taken = None;
            return Err(Stop::answered(reject::bad_body(error)));
        }
        read.map_err(Stop::of_unread)?;
        workspace.bodies.request = held.lend(bytes_max);
        workspace.put_scans(Side::Request, scanning.map(Scanning::into_scans).unwrap_or_default());
        Ok(())
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
) -> Result<(Decision, Next), Rc<LocalResponse>> {
    let (asked, random) = (asked(client), || client.core.random());
    let mut decision = Decision::begin(&asked, workspace, serving, random, account).map_err(Rc::new)?;
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
