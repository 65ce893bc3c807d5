//! The response direction of a try: the head, the policies, and the body as it comes.

use std::{cell::Cell, rc::Rc};

use super::{Failure, attempt::Attempt};
use crate::{
    http::{
        h1::{body::BodyReader, hop::strip_response},
        head::{BodyLength, RequestHead, ResponseHead, Version},
    },
    net::Buffer,
    policies::{LocalResponse, Scans, Side, Wanted, chain::Next},
    proxy::{
        account::Account,
        ahead::{Ahead, Reach, Unread},
        body::{Held, Scanning},
        headers,
        pump::{Direction, Framing, PumpError, Sees, pump},
        reject,
        respond::{self, ClientFraming},
        wait,
        watch::{Waiting, Watch},
        wire::{Incoming, Outgoing, Wire},
        workspace::Workspace,
    },
};

/// What a finished exchange leaves.
pub(super) struct Delivered {
    /// The upstream connection may carry another request.
    pub(super) reusable: bool,
    /// How the upstream has framed its answer.
    pub(super) answered: BodyLength,
    /// The client's connection may.
    pub(super) keep_alive: bool,
    /// The upstream switched protocols.
    pub(super) upgraded: bool,
    /// What stands in the way of the response, of which the client has seen nothing yet.
    pub(super) instead: Option<Instead>,
}

/// What a policy wants in the place of the upstream's response.
pub(super) enum Instead {
    /// An answer of its own; its head lies in the workspace.
    Answer(Rc<LocalResponse>),
    /// Another response.
    AnotherTry,
}

/// The response direction of an attempt.
pub(super) struct Download<'a> {
    pub(super) attempt: &'a Attempt<'a>,
    pub(super) to_client: &'a Outgoing,
    pub(super) watch: &'a Watch<'a>,
    pub(super) upload: &'a Direction<'a>,
}

impl Download<'_> {
    pub(super) async fn run(
        &self,
        mut from: Wire<'_>,
        workspace: &mut Workspace,
        account: &mut Account,
    ) -> Result<Delivered, Failure> {
        let Attempt { client, serving, tries, held, progress, .. } = self.attempt;
        let settings = &serving.snapshot.settings;
        let stream_idle = workspace.timeouts.stream_idle;
        match &mut from {
            Wire::Http1(stream) => self.read_head(&mut stream.receiver, workspace).await?,
            Wire::Http2(stream) => self.await_head(stream, workspace).await?,
        }
        account.upstream_answered();
        client.core.telemetry.upstream_strayed(workspace.response.quirks);
        let status = workspace.response.status;
        let answered = workspace.response.body;
        if is_mistakable(&workspace.request, status, &from) {
            return Err(Failure::BadResponseBody { reason: "not_upgraded" });
        }
        if matches!(status, 502..=504) && tries.gateway_error_allowed(workspace.line().method, held) {
            return Err(Failure::GatewayError);
        }

        held.release();
        self.upload.reading.set((Waiting::Upstream, stream_idle));
        let upgraded = status == 101;
        let upstream_keeps = workspace.response.keep_alive;
        // One that answers before it has the whole request may take the rest of it for the next.
        let asked_whole = progress.asked_whole.get();
        strip_response(&mut workspace.response.fields, status);
        respond::complete(client, &mut workspace.response, settings);
        let mut body = BodyReader::of_response(workspace.response.body, &respond::body_limits(serving));
        let mut ahead = None;
        let seen = match respond::run_response_chains(client, workspace, serving, account, None) {
            // Boxed: few wait, and the others are not to keep room for it.
            next @ (Next::Wait(_) | Next::Body(_)) => {
                Box::pin(self.go_on(&mut from, &mut body, &mut ahead, workspace, account, next)).await?
            }
            seen => seen,
        };
        let instead = match seen {
            Next::Respond(answer) => Some(Instead::Answer(answer)),
            Next::AskAgain => Some(Instead::AnotherTry),
            Next::Done | Next::Wait(_) | Next::Body(_) => None,
        };
        if instead.is_some() {
            // A body that nobody wants ends its connection.
            let reusable = upstream_keeps && asked_whole && body.is_done() && from.is_quiet() && !upgraded;
            return Ok(Delivered { reusable, answered, keep_alive: false, upgraded: false, instead });
        }
        let is_discarded = workspace.bodies.response.is_discarded();
        if workspace.bodies.response.is_replaced() {
            self.replace(workspace, &mut ahead)?;
        }
        let scans = workspace.take_scans(Side::Response).filter(|_| !upgraded);
        if scans.as_ref().is_some_and(Scans::changes) {
            respond::frame_changed(&mut workspace.response, ahead.as_ref());
        }
        // As policies have left it.
        let status = workspace.response.status;
        let framing = respond::client_framing(&workspace.response, &workspace.request);
        progress.unframed.set(framing == ClientFraming::UntilClose);
        let keep_alive =
            workspace.request.keep_alive && client.may_stay() && asked_whole && framing != ClientFraming::UntilClose;
        let scanning = match scans {
            None => None,
            Some(scans) => {
                let response = &workspace.response;
                Some(Box::pin(self.scan_received(&mut from, &mut body, &mut ahead, scans, response)).await?)
            }
        };
        account.status = status;
        let out = match upgraded {
            true => respond::switch(self.to_client, workspace),
            false => respond::begin(self.to_client, workspace, framing, keep_alive, &settings.server_header),
        };

        let sees = scanning.as_ref().map(|scanning| Sees { held: None, scanning: Some(scanning) });
        let direction = Direction {
            watch: self.watch,
            reading: Cell::new((Waiting::Upstream, stream_idle)),
            writing: (Waiting::ClientWindow, stream_idle),
            begun: &progress.answering,
            sees: sees.as_ref(),
            ends: !keep_alive,
        };
        let pump_framing = if framing == ClientFraming::Chunked { Framing::Chunked } else { Framing::Plain };
        if let Outgoing::Http2(_) = self.to_client {
            // The stream has taken its head, and takes no other.
            progress.answering.set(true);
        }
        account.client_answered();
        // A tunnel's bytes are no body, and what comes behind a 205 is not wanted.
        let unread = workspace.response.body != BodyLength::None
            && respond::has_no_content(&workspace.response, &workspace.request);
        let is_left = is_discarded && !body.is_done();
        let pumped = match upgraded || unread {
            true => {
                progress.answering.set(true);
                self.to_client.send(out).await.map(|()| 0).map_err(PumpError::Write)
            }
            false => match &ahead {
                None => pump(&mut from.incoming(&mut body), self.to_client, pump_framing, out, &direction).await,
                // Boxed: few bodies are read ahead, and the others are not to keep room for it.
                Some(held) => {
                    let mut from = from.incoming(&mut body);
                    Box::pin(self.send_ahead(held, &mut from, pump_framing, out, &direction)).await
                }
            },
        };
        client.core.telemetry.upstream_strayed(body.quirks());
        match pumped {
            Ok(bytes) => account.bytes_out += bytes,
            Err(error) if progress.answering.get() => {
                return Err(Failure::Midway { reason: response_body_reason(&error) });
            }
            Err(error) => return Err(bad_body(error)),
        }
        Ok(Delivered {
            // Bytes that nobody asked for make the connection's next answer doubtful.
            reusable: upstream_keeps && asked_whole && from.is_quiet() && !upgraded && !unread && !is_left,
            answered,
            keep_alive,
            upgraded,
            instead: None,
        })
    }

    /// What the policies of the response wait for or want to read, one after the other, until all have seen it; under the watch
    /// of the try.
    async fn go_on(
        &self,
        from: &mut Wire<'_>,
        body: &mut BodyReader,
        ahead: &mut Option<Held>,
        workspace: &mut Workspace,
        account: &mut Account,
        mut next: Next,
    ) -> Result<Next, Failure> {
        let Attempt { client, serving, .. } = self.attempt;
        let settings = &serving.snapshot.settings;
        loop {
            let reply = match next {
                Next::Wait(question) => {
                    self.watch.wait_for(Waiting::Policy, None);
                    Some(wait::reply(client, serving, account, *question).await)
                }
                Next::Body(wanted) => {
                    let held = ahead.get_or_insert_with(|| self.hold());
                    held.take_back(std::mem::take(&mut workspace.bodies.response));
                    if let Err(unread) = self.read_ahead(held, from, body, workspace, wanted).await {
                        let too_much = matches!(unread, Unread::TooLarge | Unread::NoMemory);
                        let failure = unread_failure(unread);
                        if let (true, Failure::BodyRefused(answer)) = (too_much, &failure) {
                            respond::run_unread(workspace, serving, account, Some(answer));
                        }
                        return Err(failure);
                    }
                    workspace.bodies.response = held.lend(settings.limits.buffered_body_bytes);
                    None
                }
                Next::Done | Next::Respond(_) | Next::AskAgain => break,
            };
            next = respond::run_response_chains(client, workspace, serving, account, reply);
        }
        if let Some(held) = ahead.as_ref().filter(|_| !workspace.bodies.response.is_replaced()) {
            held.take_back(std::mem::take(&mut workspace.bodies.response));
        }
        Ok(next)
    }

    /// What the client gets is not what the upstream has sent, which was read to its end, and is framed by what it is.
    fn replace(&self, workspace: &mut Workspace, ahead: &mut Option<Held>) -> Result<(), Failure> {
        let body = std::mem::take(&mut workspace.bodies.response);
        let Workspace { request, response, .. } = workspace;
        if respond::has_no_content(response, request) {
            (*ahead, response.body) = (None, BodyLength::None);
            return Ok(());
        }
        let (held, bytes) = (ahead.get_or_insert_with(|| self.hold()), body.len());
        if !held.replace(body) {
            return Err(Failure::BodyRefused(reject::no_body_memory().into()));
        }
        if held.has_trailers() {
            (response.body, response.content_length) = headers::framed(bytes, true);
        }
        Ok(())
    }

    fn hold(&self) -> Held {
        let Attempt { client, serving, .. } = self.attempt;
        Held::new(&client.core, serving.snapshot.settings.limits.buffered_bytes_per_core)
    }

    /// Reads on as far as a policy wants it. Those whose turn has come look on.
    async fn read_ahead(
        &self,
        held: &Held,
        from: &mut Wire<'_>,
        body: &mut BodyReader,
        workspace: &mut Workspace,
        wanted: Wanted,
    ) -> Result<(), Unread> {
        let length = workspace.response.content_length;
        let left = length.map(|length| length.saturating_sub(held.bytes()));
        let scans = workspace.take_scans(Side::Response);
        let Attempt { client, serving, .. } = self.attempt;
        let scanning = scans.map(|scans| Scanning::new(scans, Side::Response, left, &client.core, serving));
        self.watch.wait_for(Waiting::ReadAhead, workspace.timeouts.stream_idle);
        let ahead = self.ahead(held, scanning.as_ref());
        ahead.admit(length, wanted)?;
        ahead.read(&mut from.incoming(body), Reach::Wanted(wanted)).await?;
        workspace.put_scans(Side::Response, scanning.map(Scanning::into_scans).unwrap_or_default());
        Ok(())
    }

    /// Shows the scans what has come with the head, while the head can still give way to an answer of ours; where all of them
    /// are in shadow none is to come.
    async fn scan_received(
        &self,
        from: &mut Wire<'_>,
        body: &mut BodyReader,
        ahead: &mut Option<Held>,
        scans: Scans,
        response: &ResponseHead,
    ) -> Result<Scanning, Failure> {
        let seen = ahead.as_ref().map_or(0, Held::bytes);
        let left = response.content_length.map(|length| length.saturating_sub(seen));
        let may_refuse = scans.may_refuse();
        let Attempt { client, serving, .. } = self.attempt;
        let scanning = Scanning::new(scans, Side::Response, left, &client.core, serving);
        // What is changed is waited for, and the head is not to wait.
        if may_refuse && scanning.changing().is_none() {
            let ahead = self.ahead(ahead.get_or_insert_with(|| self.hold()), Some(&scanning));
            let read = ahead.read(&mut from.incoming(body), Reach::Received).await;
            read.map_err(|unread| {
                let is_lost = matches!(unread, Unread::NoMemory);
                let failure = unread_failure(unread);
                if let (true, Failure::BodyRefused(answer)) = (is_lost, &failure) {
                    scanning.fail(answer);
                }
                failure
            })?;
        }
        Ok(scanning)
    }

    fn ahead<'a>(&'a self, held: &'a Held, scanning: Option<&'a Scanning>) -> Ahead<'a> {
        let bytes_max = self.attempt.serving.snapshot.settings.limits.buffered_body_bytes;
        Ahead { held, scanning, watch: self.watch, bytes_max }
    }

    /// Sends what was read ahead, and the rest behind it.
    async fn send_ahead(
        &self,
        held: &Held,
        from: &mut Incoming<'_>,
        framing: Framing,
        out: Buffer,
        direction: &Direction<'_>,
    ) -> Result<u64, PumpError> {
        let (sent, ended) = (held.bytes(), held.is_ended());
        let out = held.send(self.to_client, out, framing, direction).await.map_err(PumpError::Write)?;
        held.release();
        match ended {
            true => Ok(sent),
            false => Ok(sent + pump(from, self.to_client, framing, out, direction).await?),
        }
    }
}

/// Whether a client of HTTP/2 that asks for a WebSocket would take this for one (RFC 8441, section 5), and is wrong: over
/// HTTP/1.1 an upstream switches with 101 alone, and its 200 is an answer like any other.
fn is_mistakable(request: &RequestHead, status: u16, from: &Wire<'_>) -> bool {
    request.websocket
        && request.version == Version::Http2
        && matches!(from, Wire::Http1(_))
        && matches!(status, 200..=299)
}

/// Why a body goes no further of which the client has seen nothing.
fn bad_body(error: PumpError) -> Failure {
    match error {
        PumpError::Refused(answer) => Failure::BodyRefused(answer),
        error => Failure::BadResponseBody { reason: response_body_reason(&error) },
    }
}

fn unread_failure(unread: Unread) -> Failure {
    match unread {
        Unread::TooLarge => Failure::BodyRefused(reject::bad_response_body("upstream_body_too_large").into()),
        Unread::NoMemory => Failure::BodyRefused(reject::no_body_memory().into()),
        Unread::Broken(error) => bad_body(error),
    }
}

fn response_body_reason(error: &PumpError) -> &'static str {
    match error {
        PumpError::Refused(answer) => answer.reason,
        PumpError::Malformed(error) => error.reason(),
        PumpError::Read(_) | PumpError::Truncated => "upstream_truncated",
        PumpError::Write(_) => "client_gone",
    }
}
