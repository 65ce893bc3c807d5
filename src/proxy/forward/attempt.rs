//! One try: one connection, one request, one response.

use std::{cell::Cell, pin::pin, rc::Rc, time::Duration};

use super::{
    Failure,
    response::{Download, Instead},
    tries::Tries,
};
use crate::{
    config::snapshot::Service,
    http::{
        h1::body::BodyReader,
        head::{BodyLength, RequestHead, Version},
        websocket,
    },
    net::{
        Buffer,
        buffer::SMALL_ROOM,
        task::{Either, join_until},
    },
    policies::Timeouts,
    proxy::{
        account::Account,
        body::{Held, Scanning},
        client::Client,
        core::Serving,
        exchange::After,
        headers::{self, Line},
        pool::{Carrier, Lease, Own, Wanted},
        pump::{Direction, Framing, PumpError, Sees, Wait, pump, usual_room},
        reject, tunnel,
        watch::{Stalled, Waiting, Watch, shorter},
        wire::{Incoming, Outgoing, Wire},
        workspace::Workspace,
    },
};

pub(super) struct Attempt<'a> {
    pub(super) client: &'a Client,
    pub(super) serving: &'a Rc<Serving>,
    pub(super) service: &'a Service,
    pub(super) held: &'a Held,
    /// The policies that look at the request's body.
    pub(super) scanning: Option<&'a Scanning>,
    pub(super) tries: &'a Tries<'a>,
    pub(super) progress: &'a Progress,
}

/// How far a try has come.
#[derive(Default)]
pub(super) struct Progress {
    /// The whole request was sent.
    pub(super) asked_whole: Cell<bool>,
    /// The client has seen part of a response.
    pub(super) answering: Cell<bool>,
    /// That response ends with its connection, so that only a reset says that it is not whole.
    pub(super) unframed: Cell<bool>,
}

impl Attempt<'_> {
    pub(super) async fn run(
        &self,
        wire: &mut Wire<'_>,
        workspace: &mut Workspace,
        account: &mut Account,
        body: &mut BodyReader,
    ) -> Result<After, Failure> {
        let settings = &self.serving.snapshot.settings;
        // Policies have said what they want by now.
        let (timeouts, Timeouts { response, stream_idle }) = (&settings.timeouts, workspace.timeouts);
        let service_index = account.service.expect("a decided exchange has its Service");
        let upstream = &self.serving.upstreams[service_index];
        let told = self.service.proxy_protocol.map(|version| (version.into(), self.client.told(wire)));
        let own = told.map(|(version, client)| Own { version, client });
        let to_client = wire.outgoing();
        let watch = Watch::new(&self.client.deadline, &to_client, &self.client.listener);

        let response_wait = response_wait(response, stream_idle);
        watch.wait_for(response_wait.0, response_wait.1);
        // Each wait in a block of its own, and what is waited for pinned in it: so they take turns in one place of this
        // future, which would else keep room for all of them, and for the copies of those that are handed on.
        let acquired = {
            let acquired = pin!(upstream.acquire(Wanted {
                balancing: self.service.load_balancing,
                random: self.client.core.random() as u32,
                connect_timeout: timeouts.upstream_connect,
                reuse: self.tries.reuse(&workspace.request, workspace.line().method),
                own,
                websocket: workspace.request.websocket,
            }));
            watch.over(acquired).await
        };
        let mut lease = acquired.map_err(Failure::Stalled)?.map_err(Failure::Unavailable)?;
        self.tries.reused.set(lease.reused);

        let framing = match workspace.request.body {
            BodyLength::Chunked if workspace.request.content_length.is_none() => Framing::Chunked,
            _ => Framing::Plain,
        };
        let (up, out) = self.ask(&mut lease, workspace)?;
        let multiplexes = matches!(up, Outgoing::Http2(_));
        let most = settings.limits.retry_body_bytes;
        if workspace.request.body != BodyLength::None {
            self.held.keep_up_to(self.tries.keeps(multiplexes, workspace.line().method, most));
        }
        let waits_for_client = (Waiting::ClientBody, shorter(timeouts.request_body_idle, stream_idle));
        let sees = Sees { held: Some(self.held), scanning: self.scanning };
        let upload = Direction {
            watch: &watch,
            reading: Cell::new(waits_for_client),
            writing: (Waiting::Upstream, stream_idle),
            begun: &Cell::new(false),
            sees: Some(&sees),
            ends: false,
        };
        let download = Download { attempt: self, to_client: &to_client, watch: &watch, upload: &upload };

        account.upstream_asked();
        // HTTP/1.1 is told all of an empty body in the head, also where HTTP/2 has yet to say that it has ended.
        let told_empty = !multiplexes && workspace.request.content_length == Some(0);
        let is_asked = told_empty || self.is_asked(&workspace.request, body);
        let mut incoming = wire.incoming(body);
        let delivered = if is_asked {
            // The common case: nothing to move at the same time.
            let sent = {
                let whole = pin!(up.post(out));
                watch.over(whole).await.map_err(Failure::Stalled)?
            };
            // A failed send is not the last word: an upstream that closes may have answered first.
            self.progress.asked_whole.set(sent.is_ok());
            watch.wait_for(response_wait.0, response_wait.1);
            let receiving = pin!(download.run(lease.wire(), workspace, account));
            watch.over(receiving).await.map_err(|stalled| self.stalled(stalled))??
        } else {
            let (sent_again, ended) = (self.held.bytes(), self.held.is_ended());
            let moved = {
                let sending = pin!(async {
                    let out = self.held.send(&up, out, framing, &upload).await.map_err(PumpError::Write)?;
                    if let Incoming::Http2(client) = incoming {
                        client.release(self.held.settle(), 0);
                    }
                    let sent = match ended {
                        true => Ok(0),
                        false => pump(&mut incoming, &up, framing, out, &upload).await,
                    };
                    if sent.is_ok() {
                        self.progress.asked_whole.set(true);
                        watch.wait_for(response_wait.0, response_wait.1);
                    }
                    sent
                });
                let receiving = pin!(download.run(lease.wire(), workspace, account));
                let both = pin!(join_until(sending, receiving, |done| match done {
                    // The upstream may have answered what it does not want to read.
                    Either::Left(sent) => matches!(sent, Err(error) if !matches!(error, PumpError::Write(_))),
                    Either::Right(_) => true,
                }));
                watch.over(both).await
            };
            let (sent, received) = moved.map_err(|stalled| self.stalled(stalled))?;
            if let Some(Ok(bytes)) = &sent {
                account.bytes_in = sent_again + bytes;
            }
            match (sent, received) {
                (_, Some(received)) => received?,
                (Some(Err(error)), None) if self.progress.answering.get() => {
                    return Err(Failure::Midway { reason: client_body_reason(&error) });
                }
                (Some(Err(PumpError::Malformed(error))), None) => return Err(Failure::ClientBody(error)),
                (Some(Err(PumpError::Refused(answer))), None) => return Err(Failure::BodyRefused(answer)),
                (_, None) => return Err(Failure::ClientGone),
            }
        };

        if delivered.upgraded {
            // Boxed: most exchanges are none, and need no room for it.
            return Ok(Box::pin(tunnel::run(wire, lease, &watch, stream_idle, account)).await);
        }
        if delivered.reusable && up.is_settled() {
            // Bytes behind an answer that has no body are most likely still on their way.
            let answered = delivered.answered;
            lease.give_back(answered == BodyLength::None, usual_room(answered));
        }
        match delivered.instead {
            Some(Instead::Answer(answer)) => return Err(Failure::Refused(answer)),
            Some(Instead::AnotherTry) => return Err(Failure::AnotherWanted),
            None => {}
        }
        Ok(match delivered.keep_alive {
            true => After::KeepAlive,
            false => ending(&workspace.request, wire, body.is_done()),
        })
    }

    /// Whether the head is all that there is to send. The end of an HTTP/2 stream alone does not say so: it came behind the
    /// head, and still has to be told to the upstream. What follows the head of a WebSocket is no body, and waits for the
    /// upstream's answer.
    fn is_asked(&self, request: &RequestHead, body: &BodyReader) -> bool {
        match request.version {
            Version::Http2 => request.body == BodyLength::None,
            // A body that was replaced by none was taken, and is not sent.
            Version::Http10 | Version::Http11 => {
                body.is_done() && (self.held.is_empty() || request.body == BodyLength::None)
            }
        }
    }

    /// Asks. Over HTTP/1.1 the returned bytes are the head; over HTTP/2 that is on its way already.
    fn ask(&self, lease: &mut Lease, workspace: &mut Workspace) -> Result<(Outgoing, Buffer), Failure> {
        let settings = &self.serving.snapshot.settings;
        let link = match lease.carrier() {
            Carrier::Http1(sender) => {
                if workspace.request.websocket && workspace.request.version == Version::Http2 {
                    websocket::append_key(&mut workspace.request.fields, self.client.core.random());
                }
                let Workspace { request, path, instead, head, .. } = workspace;
                head.clear();
                headers::write_upstream_head(head, request, &Line::of(request, path, instead), self.service, settings);
                let mut out = Buffer::with_room(SMALL_ROOM.max(head.len()));
                out.extend(head);
                return Ok((Outgoing::Http1(sender), out));
            }
            Carrier::Http2(link) => link,
        };
        let Workspace { request, path, instead, scratch, .. } = workspace;
        let end = request.body == BodyLength::None && !request.websocket;
        headers::fill_upstream_fields(scratch, request);
        let asked = headers::upstream_request(request, &Line::of(request, path, instead), self.service, settings);
        let owned = link.ask(&asked, scratch, end).map_err(|_| Failure::Unprocessed)?;
        let up = Outgoing::Http2(owned.stream.clone());
        lease.hold(owned);
        Ok((up, Buffer::none()))
    }

    /// What a stall means depends on whether the client has seen anything.
    fn stalled(&self, stalled: Stalled) -> Failure {
        if self.progress.answering.get() {
            return Failure::Midway { reason: reject::stalled(stalled).reason };
        }
        Failure::Stalled(stalled)
    }
}

/// A client that was still sending when it was told that the connection ends gets time to stop, or the reset would take
/// the answer with it: one whose body was not read, or that has asked for more already.
fn ending(request: &RequestHead, wire: &Wire<'_>, is_read: bool) -> After {
    let asks_on = || match wire {
        Wire::Http1(client) => !client.receiver.buffered().is_empty() || client.sender.peer_has_sent(),
        Wire::Http2(_) => false,
    };
    match request.body != BodyLength::None || !is_read || request.keep_alive && asks_on() {
        true => After::Linger,
        false => After::Close,
    }
}

/// The response time-out, or the stream's idle time-out where that comes first.
fn response_wait(response: Option<Duration>, idle: Option<Duration>) -> Wait {
    match shorter(response, idle) {
        limit if limit == response => (Waiting::Response, limit),
        limit => (Waiting::ResponseIdle, limit),
    }
}

fn client_body_reason(error: &PumpError) -> &'static str {
    match error {
        PumpError::Malformed(error) => error.reason(),
        PumpError::Refused(answer) => answer.reason,
        PumpError::Read(_) | PumpError::Truncated | PumpError::Write(_) => "client_gone",
    }
}
