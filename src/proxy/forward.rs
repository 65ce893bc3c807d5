//! The way to the upstream and back: a connection, the request, the response; another try where that is safe.
//!
//! Request body and response move at the same time, in one task: an upstream may answer before it has read everything, and
//! may want to be read from before it goes on reading.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use super::{
    account::Account,
    client::Client,
    core::{Core, Serving},
    exchange::After,
    h2::{self, Cut},
    headers,
    pool::{Carrier, Lease, Own, Reuse, Unavailable},
    pump::{Direction, Framing, PumpError, Replay, Wait, pump, usual_room},
    reject,
    respond::{self, ClientFraming},
    tunnel,
    watch::{Stalled, Waiting, Watch},
    wire::{Outgoing, Wire},
    workspace::Workspace,
};
use crate::{
    config::{settings::Timeouts, snapshot::Service},
    http::{
        h1::{
            body::{BodyError, BodyReader},
            hop::strip_response,
            parse::{HeadLimits, ResponseError, ResponseTo, parse_response},
        },
        h2::Code,
        head::{BodyLength, RequestHead, Version},
        websocket,
    },
    net::{
        Buffer, Receiver,
        buffer::SMALL_ROOM,
        task::{Either, join_until},
        tls::HandshakeError,
    },
    policies::LocalResponse,
};

/// Interim responses of one exchange; a server that sends more is not making progress.
const INTERIM_MAX: u32 = 16;

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

/// What a finished exchange leaves.
struct Delivered {
    /// The upstream connection may carry another request.
    reusable: bool,
    /// The client's connection may.
    keep_alive: bool,
    /// The upstream switched protocols.
    upgraded: bool,
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

/// One try: one connection, one request, one response.
struct Attempt<'a> {
    client: &'a Client,
    serving: &'a Rc<Serving>,
    service: &'a Service,
    replay: Option<&'a RefCell<Replay>>,
    tries: &'a Tries<'a>,
}

impl Attempt<'_> {
    async fn run(
        &self,
        wire: &mut Wire<'_>,
        workspace: &mut Workspace,
        account: &mut Account,
        body: &mut BodyReader,
    ) -> Result<After, Failure> {
        let settings = &self.serving.snapshot.settings;
        let timeouts = &settings.timeouts;
        let service_index = account.service.expect("a decided exchange has its Service");
        let upstream = &self.serving.upstreams[service_index];
        let told = self.service.proxy_protocol.map(|version| (version.into(), self.client.told(wire)));
        let own = told.map(|(version, client)| Own { version, client });
        let to_client = wire.outgoing();
        let watch = Watch::new(&self.client.deadline, &to_client, &self.client.listener);

        let response_wait = response_wait(timeouts);
        watch.wait_for(response_wait.0, response_wait.1);
        let random = self.client.core.random() as u32;
        // Each wait in a block of its own, and what is waited for pinned in it: so they take turns in one place of this
        // future, which would else keep room for all of them, and for the copies of those that are handed on.
        let acquired = {
            let acquired = pin!(upstream.acquire(
                self.service.load_balancing,
                random,
                timeouts.upstream_connect,
                self.tries.reuse(&workspace.request),
                own,
                workspace.request.websocket
            ));
            watch.over(acquired).await
        };
        let mut lease = acquired.map_err(Failure::Stalled)?.map_err(Failure::Unavailable)?;
        self.tries.reused.set(lease.reused);

        let framing = match workspace.request.body {
            BodyLength::Chunked if workspace.request.content_length.is_none() => Framing::Chunked,
            _ => Framing::Plain,
        };
        let (up, out) = self.ask(&mut lease, workspace, framing)?;
        let waits_for_client = (Waiting::ClientBody, shorter(timeouts.request_body_idle, timeouts.stream_idle));
        let upload = Direction {
            watch: &watch,
            reading: Cell::new(waits_for_client),
            writing: (Waiting::Upstream, timeouts.stream_idle),
            begun: &Cell::new(false),
            replay: self.replay,
            ends: false,
        };
        let uploaded = Cell::new(false);
        let download =
            Download { attempt: self, to_client: &to_client, watch: &watch, upload: &upload, uploaded: &uploaded };

        account.upstream_asked();
        // HTTP/1.1 is told all of an empty body in the head, also where HTTP/2 has yet to say that it has ended.
        let told_empty = matches!(up, Outgoing::Http1(_)) && workspace.request.content_length == Some(0);
        let is_asked = told_empty || self.is_asked(&workspace.request, body);
        let mut incoming = wire.incoming(body);
        let delivered = if is_asked {
            // The common case: nothing to move at the same time.
            let sent = {
                let whole = pin!(async {
                    self.send_again(&up).await?;
                    up.post(out).await
                });
                watch.over(whole).await.map_err(Failure::Stalled)?
            };
            // A failed send is not the last word: an upstream that closes may have answered first.
            uploaded.set(sent.is_ok());
            watch.wait_for(response_wait.0, response_wait.1);
            let receiving = pin!(download.run(lease.wire(), workspace, account));
            watch.over(receiving).await.map_err(|stalled| self.stalled(stalled))??
        } else {
            let moved = {
                let sending = pin!(async {
                    self.send_again(&up).await.map_err(PumpError::Write)?;
                    let sent = pump(&mut incoming, &up, framing, out, &upload).await;
                    if sent.is_ok() {
                        uploaded.set(true);
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
                account.bytes_in += bytes;
            }
            match (sent, received) {
                (_, Some(received)) => received?,
                (Some(Err(error)), None) if self.tries.answering.get() => {
                    return Err(Failure::Midway { reason: client_body_reason(&error) });
                }
                (Some(Err(PumpError::Malformed(error))), None) => return Err(Failure::ClientBody(error)),
                (_, None) => return Err(Failure::ClientGone),
            }
        };

        if delivered.upgraded {
            // Boxed: most exchanges are none, and need no room for it.
            return Ok(Box::pin(tunnel::run(wire, lease, &watch, timeouts.stream_idle, account)).await);
        }
        if delivered.reusable && up.is_settled() {
            // Bytes behind an answer that has no body are most likely still on their way.
            let answered = workspace.response.body;
            lease.give_back(answered == BodyLength::None, usual_room(answered));
        }
        Ok(match delivered.keep_alive {
            true => After::KeepAlive,
            false => ending(&workspace.request, wire),
        })
    }

    /// Whether nothing of the request is left to read: what an earlier try has read, this one sends again. The end of an
    /// HTTP/2 stream alone does not say so: it came behind the head, and still has to be told to the upstream. What
    /// follows the head of a WebSocket is no body, and waits for the upstream's answer.
    fn is_asked(&self, request: &RequestHead, body: &BodyReader) -> bool {
        match request.version {
            Version::Http2 => {
                request.body == BodyLength::None || self.replay.is_some_and(|replay| replay.borrow().is_whole())
            }
            Version::Http10 | Version::Http11 => body.is_done(),
        }
    }

    /// Asks. Over HTTP/1.1 the returned bytes are the head, and behind it what an earlier try had sent of the body; over
    /// HTTP/2 the head is on its way already, and [`Attempt::send_again`] sends the rest.
    fn ask(
        &self,
        lease: &mut Lease,
        workspace: &mut Workspace,
        framing: Framing,
    ) -> Result<(Outgoing, Buffer), Failure> {
        let settings = &self.serving.snapshot.settings;
        let link = match lease.carrier() {
            Carrier::Http1(sender) => {
                if workspace.request.websocket && workspace.request.version == Version::Http2 {
                    websocket::append_key(&mut workspace.request.fields, self.client.core.random());
                }
                let Workspace { request, path, head, .. } = workspace;
                head.clear();
                headers::write_upstream_head(head, request, path, self.service, settings);
                let mut out = Buffer::with_room(SMALL_ROOM.max(head.len()));
                out.extend(head);
                if let Some(replay) = self.replay {
                    replay.borrow().write(&mut out, framing);
                }
                return Ok((Outgoing::Http1(sender), out));
            }
            Carrier::Http2(link) => link,
        };
        let Workspace { request, path, scratch, .. } = workspace;
        let end = request.body == BodyLength::None && !request.websocket;
        headers::fill_upstream_fields(scratch, request);
        let asked = headers::upstream_request(request, path, self.service, settings);
        let owned = link.ask(&asked, scratch, end).map_err(|_| Failure::Unprocessed)?;
        let up = Outgoing::Http2(owned.stream.clone());
        lease.hold(owned);
        Ok((up, Buffer::none()))
    }

    /// Sends what an earlier try had sent of the body, where that is not behind the head already.
    async fn send_again(&self, up: &Outgoing) -> io::Result<()> {
        match (up, self.replay) {
            (Outgoing::Http2(stream), Some(replay)) => {
                let replay = replay.take();
                let sent = replay.send(stream).await;
                self.replay.expect("it was there").replace(replay);
                sent
            }
            _ => Ok(()),
        }
    }

    /// What a stall means depends on whether the client has seen anything.
    fn stalled(&self, stalled: Stalled) -> Failure {
        if self.tries.answering.get() {
            return Failure::Midway { reason: reject::stalled(stalled).reason };
        }
        Failure::Stalled(stalled)
    }
}

/// A client that was still sending when it was told that the connection ends gets time to stop, or the reset would take
/// the answer with it: one whose body was not read, or that has asked for more already.
fn ending(request: &RequestHead, wire: &Wire<'_>) -> After {
    let asks_on = || match wire {
        Wire::Http1(client) => !client.receiver.buffered().is_empty() || client.sender.peer_has_sent(),
        Wire::Http2(_) => false,
    };
    match request.body != BodyLength::None || request.keep_alive && asks_on() {
        true => After::Linger,
        false => After::Close,
    }
}

/// The response direction of an attempt.
struct Download<'a> {
    attempt: &'a Attempt<'a>,
    to_client: &'a Outgoing,
    watch: &'a Watch<'a>,
    upload: &'a Direction<'a>,
    uploaded: &'a Cell<bool>,
}

impl Download<'_> {
    async fn run(
        &self,
        mut from: Wire<'_>,
        workspace: &mut Workspace,
        account: &mut Account,
    ) -> Result<Delivered, Failure> {
        let Attempt { client, serving, tries, .. } = self.attempt;
        let settings = &serving.snapshot.settings;
        let stream_idle = settings.timeouts.stream_idle;
        match &mut from {
            Wire::Http1(stream) => self.read_head(&mut stream.receiver, workspace).await?,
            Wire::Http2(stream) => self.await_head(stream, workspace).await?,
        }
        account.upstream_answered();
        client.core.telemetry.upstream_strayed(workspace.response.quirks);
        let status = workspace.response.status;
        if matches!(status, 502..=504) && tries.gateway_error_allowed(&workspace.request.method, self.attempt.replay) {
            return Err(Failure::GatewayError);
        }

        account.status = status;
        self.upload.reading.set((Waiting::Upstream, stream_idle));
        let upgraded = status == 101;
        let upstream_keeps = workspace.response.keep_alive;
        let framing = respond::client_framing(&workspace.response, &workspace.request);
        tries.unframed.set(framing == ClientFraming::UntilClose);
        // One that answers before it has the whole request may take the rest of it for the next.
        let asked_whole = self.uploaded.get();
        let keep_alive =
            workspace.request.keep_alive && client.may_stay() && asked_whole && framing != ClientFraming::UntilClose;
        strip_response(&mut workspace.response.fields, status);
        respond::complete(client, &mut workspace.response, settings);
        respond::run_response_chains(client, workspace, serving, account);
        let out = match upgraded {
            true => respond::switch(self.to_client, workspace),
            false => respond::begin(self.to_client, workspace, framing, keep_alive, &settings.server_header),
        };

        let mut body = BodyReader::of_response(workspace.response.body, &respond::body_limits(serving));
        let direction = Direction {
            watch: self.watch,
            reading: Cell::new((Waiting::Upstream, stream_idle)),
            writing: (Waiting::ClientWindow, stream_idle),
            begun: &tries.answering,
            replay: None,
            ends: !keep_alive,
        };
        let pump_framing = if framing == ClientFraming::Chunked { Framing::Chunked } else { Framing::Plain };
        if let Outgoing::Http2(_) = self.to_client {
            // The stream has taken its head, and takes no other.
            tries.answering.set(true);
        }
        account.client_answered();
        // A tunnel's bytes are no body, and what comes behind a 205 is not wanted.
        let unread = status == 205 && workspace.response.body != BodyLength::None;
        let pumped = match upgraded || unread {
            true => {
                tries.answering.set(true);
                self.to_client.send(out).await.map(|()| 0).map_err(PumpError::Write)
            }
            false => pump(&mut from.incoming(&mut body), self.to_client, pump_framing, out, &direction).await,
        };
        client.core.telemetry.upstream_strayed(body.quirks());
        match pumped {
            Ok(bytes) => account.bytes_out += bytes,
            Err(error) => {
                let reason = response_body_reason(&error);
                return Err(match tries.answering.get() {
                    true => Failure::Midway { reason },
                    false => Failure::BadResponseBody { reason },
                });
            }
        }
        Ok(Delivered {
            // Bytes that nobody asked for make the connection's next answer doubtful.
            reusable: upstream_keeps && asked_whole && from.is_quiet() && !upgraded && !unread,
            keep_alive,
            upgraded,
        })
    }

    /// Waits for the final head of a stream; passes interim ones on.
    async fn await_head(&self, from: &h2::Stream, workspace: &mut Workspace) -> Result<(), Failure> {
        for _ in 0..=INTERIM_MAX {
            from.response(&mut workspace.response).await.map_err(|cut| match cut {
                Cut::Reset(Code::REFUSED_STREAM) => Failure::Unprocessed,
                Cut::Reset(_) => Failure::Reset { silent: false },
                Cut::Lost => match from.refusal() {
                    Some(refusal) => Failure::Unavailable(Unavailable::Tls(refusal)),
                    None if from.speaks_otherwise() => Failure::BadResponseBody { reason: "upstream_speaks_no_http2" },
                    None => Failure::Reset { silent: true },
                },
                Cut::Malformed => Failure::BadResponseBody { reason: "bad_upstream_http2" },
            })?;
            match workspace.response.status {
                // RFC 9113 section 8.6: there is no switch of protocols in HTTP/2.
                101 => return Err(Failure::BadResponseBody { reason: "bad_upstream_http2" }),
                100..=199 => self.pass_interim(workspace).await?,
                200..=299 if workspace.request.websocket => {
                    // What HTTP/2 says of a tunnel, in the words of HTTP/1.1 (RFC 8441 section 5).
                    workspace.response.status = 101;
                    websocket::append_accept(&workspace.request.fields, &mut workspace.response.fields);
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        Err(Failure::BadResponse(ResponseError::HeadTooLarge))
    }

    /// Reads up to the final head; passes interim ones on (RFC 9110 section 15.2).
    async fn read_head(&self, from: &mut Receiver, workspace: &mut Workspace) -> Result<(), Failure> {
        let limits = &self.attempt.serving.snapshot.settings.limits;
        let head_limits = HeadLimits { head_bytes: limits.head_bytes, header_count: limits.header_count };
        let to = match &workspace.request {
            request if request.websocket => ResponseTo::Upgrade,
            request if request.method == b"HEAD" => ResponseTo::Head,
            _ => ResponseTo::Other,
        };
        let (mut scanned, mut interim, mut silent) = (0, 0, true);
        loop {
            let input = from.buffered();
            if !input.is_empty() {
                silent = false;
                let parsed = parse_response(input, &mut scanned, &head_limits, to, &mut workspace.response);
                if let Some(taken) = parsed.map_err(Failure::BadResponse)? {
                    from.consume(taken);
                    if !matches!(workspace.response.status, 100 | 102..=199) {
                        return Ok(());
                    }
                    interim += 1;
                    if interim > INTERIM_MAX {
                        return Err(Failure::BadResponse(ResponseError::HeadTooLarge));
                    }
                    scanned = 0;
                    self.pass_interim(workspace).await?;
                    continue;
                }
            }
            if let Outgoing::Http2(client) = self.to_client
                && from.wanted() > SMALL_ROOM
            {
                // What comes behind the head is held until the client's windows let it go.
                from.readable().await;
                from.want(from.wanted().min(client.room_now()).max(SMALL_ROOM));
            }
            match from.fill().await {
                Err(error) if silent && !self.attempt.tries.reused.get() => {
                    return Err(match HandshakeError::late(&error) {
                        Some(refusal) => Failure::Unavailable(Unavailable::Tls(refusal.failure())),
                        None => Failure::Reset { silent },
                    });
                }
                Ok(0) | Err(_) => return Err(Failure::Reset { silent }),
                // The time for the answer is a total: a head that drips in is not in time because some of it is.
                Ok(_) if self.watch.waits_for(Waiting::Response) => {}
                Ok(_) => self.watch.progress(),
            }
        }
    }

    async fn pass_interim(&self, workspace: &mut Workspace) -> Result<(), Failure> {
        self.attempt.client.core.telemetry.upstream_strayed(workspace.response.quirks);
        // HTTP/1.0 has none (RFC 9110 section 15.2).
        if workspace.request.version == Version::Http10 {
            return Ok(());
        }
        strip_response(&mut workspace.response.fields, workspace.response.status);
        let out = respond::interim(self.to_client, workspace);
        // While part of it may be out, nothing else can be said.
        let answering = &self.attempt.tries.answering;
        answering.set(true);
        let sent = self.to_client.send(out).await;
        answering.set(false);
        self.watch.progress();
        sent.map_err(|_| Failure::ClientGone)
    }
}

/// The tries of one exchange, and what they may cost.
struct Tries<'a> {
    core: Rc<Core>,
    service: &'a Service,
    left: Cell<u32>,
    /// A pooled connection turned out stale: the next try dials.
    fresh: Cell<bool>,
    /// Times that an upstream did not take the request.
    unprocessed: Cell<u32>,
    /// The present try's connection had carried a request before.
    reused: Cell<bool>,
    /// The client has seen part of a response.
    answering: Cell<bool>,
    /// That response ends with its connection, so that only a reset says that it is not whole.
    unframed: Cell<bool>,
    /// Counted among the core's retries under way.
    counted: Cell<bool>,
}

/// So often a request that no upstream has looked at is sent again without being counted as a retry.
const UNPROCESSED_MAX: u32 = 3;

/// Retries that a core may always have under way.
const RETRIES_MIN: u64 = 3;

impl<'a> Tries<'a> {
    fn new(core: &Rc<Core>, service: &'a Service) -> Self {
        Self {
            core: core.clone(),
            service,
            left: Cell::new(service.retries.attempts),
            fresh: Cell::new(false),
            unprocessed: Cell::new(0),
            reused: Cell::new(false),
            answering: Cell::new(false),
            unframed: Cell::new(false),
            counted: Cell::new(false),
        }
    }

    /// A request that can simply be sent again takes its chance with any idle connection.
    fn reuse(&self, request: &RequestHead) -> Reuse {
        match self.fresh.get() {
            true => Reuse::None,
            false if request.body == BodyLength::None && is_idempotent(&request.method) => Reuse::Any,
            false => Reuse::Checked,
        }
    }

    /// Whether to try once more after this failure; if so, it is counted.
    fn again(&self, failure: &Failure, method: &[u8]) -> bool {
        let retries = &self.service.retries;
        let wanted = match failure {
            // The upstream closed an idle connection just when it was used: nobody's failure, so no retry is spent.
            Failure::Reset { silent: true } if self.reused.get() && !self.fresh.get() && is_idempotent(method) => {
                self.fresh.set(true);
                return true;
            }
            // Nobody has seen it: another connection may take it.
            Failure::Unprocessed if self.unprocessed.get() < UNPROCESSED_MAX => {
                self.unprocessed.set(self.unprocessed.get() + 1);
                return true;
            }
            Failure::Unavailable(Unavailable::Connect(_) | Unavailable::ConnectTimeout) => retries.connect_failure,
            Failure::Reset { .. } => retries.reset && is_idempotent(method),
            Failure::GatewayError => true,
            _ => false,
        };
        if !wanted || !self.affordable() {
            return false;
        }
        self.left.set(self.left.get() - 1);
        if !self.counted.replace(true) {
            self.core.retries.set(self.core.retries.get() + 1);
        }
        true
    }

    fn gateway_error_allowed(&self, method: &[u8], replay: Option<&RefCell<Replay>>) -> bool {
        self.service.retries.gateway_error
            && is_idempotent(method)
            && replay.is_some_and(|replay| !replay.borrow().overflowed)
            && self.affordable()
    }

    /// Within the attempts of this exchange and the budget of this core.
    fn affordable(&self) -> bool {
        let open = self.core.telemetry.requests_open.value();
        let budget = (open * u64::from(self.service.retries.budget_percent) / 100).max(RETRIES_MIN);
        self.left.get() > 0 && (self.counted.get() || u64::from(self.core.retries.get()) < budget)
    }
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        if self.counted.get() {
            self.core.retries.set(self.core.retries.get() - 1);
        }
    }
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

/// The response time-out, or the stream's idle time-out where that comes first.
fn response_wait(timeouts: &Timeouts) -> Wait {
    let (response, idle) = (timeouts.upstream_response, timeouts.stream_idle);
    match shorter(response, idle) {
        limit if limit == response => (Waiting::Response, limit),
        limit => (Waiting::ResponseIdle, limit),
    }
}

/// A limit of `None` is none.
fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

fn client_body_reason(error: &PumpError) -> &'static str {
    match error {
        PumpError::Malformed(error) => error.reason(),
        PumpError::Read(_) | PumpError::Truncated | PumpError::Write(_) => "client_gone",
    }
}

fn response_body_reason(error: &PumpError) -> &'static str {
    match error {
        PumpError::Malformed(error) => error.reason(),
        PumpError::Read(_) | PumpError::Truncated => "upstream_truncated",
        PumpError::Write(_) => "client_gone",
    }
}
