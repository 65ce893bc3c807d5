//! Heads towards the client: of the gateway's own answers and of an upstream's.

use std::{io, rc::Rc};

use super::{
    account::Account,
    body::Held,
    client::Client,
    core::Serving,
    exchange::After,
    grpc, headers, reject, wait,
    watch::Stalled,
    wire::{Outgoing, Wire},
    workspace::Workspace,
};
use crate::{
    config::settings::{ServerHeader, Settings},
    http::{
        h1::{
            body::{BodyLimits, BodyReader, Step},
            emit,
        },
        head::{BodyLength, Fields, Known, RequestHead, ResponseHead, Version},
    },
    net::{Buffer, Receiver, Sender, buffer::SMALL_ROOM},
    policies::{
        At, Body, Exchange, LocalResponse, Question, Reply,
        chain::{self, Next},
    },
};

const SERVER: &str = "ringway";

/// How the client learns where the response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFraming {
    /// No body; the length, where one was told, is of the body that a GET would have had.
    None(Option<u64>),
    Length(u64),
    /// HTTP/2: no byte, and then perhaps trailers.
    Empty,
    /// The end is marked: by a last chunk, or in HTTP/2 by a flag.
    Chunked,
    UntilClose,
}

impl ClientFraming {
    /// What `content-length` says.
    fn length(self) -> Option<u64> {
        match self {
            Self::Length(length) | Self::None(Some(length)) => Some(length),
            Self::Empty => Some(0),
            Self::None(None) | Self::Chunked | Self::UntilClose => None,
        }
    }

    fn has_body(self) -> bool {
        !matches!(self, Self::None(_) | Self::Length(0))
    }
}

/// The framing for this client of what an upstream sends with `length`.
pub fn client_framing(response: &ResponseHead, request: &RequestHead) -> ClientFraming {
    match response.body {
        // RFC 9110 section 8.6: these never have the field, whatever was asked.
        _ if matches!(response.status, 100..=199 | 204) => ClientFraming::None(None),
        // Section 15.3.6: no content, and HTTP/1.1 must be told so.
        _ if response.status == 205 => no_content(request),
        _ if response.status == 304 => ClientFraming::None(response.content_length),
        _ if request.method == b"HEAD" => ClientFraming::None(response.content_length),
        // Its end is marked, and no length was said: gRPC's answers that are trailers alone have none.
        BodyLength::None if request.version == Version::Http2 => ClientFraming::None(response.content_length),
        BodyLength::None => ClientFraming::Length(0),
        BodyLength::Length(length) => ClientFraming::Length(length),
        BodyLength::Chunked if response.content_length.is_some() => match request.version {
            Version::Http2 => ClientFraming::Empty,
            Version::Http10 | Version::Http11 => ClientFraming::Length(0),
        },
        BodyLength::Chunked | BodyLength::UntilClose if request.version == Version::Http10 => ClientFraming::UntilClose,
        BodyLength::Chunked | BodyLength::UntilClose => ClientFraming::Chunked,
    }
}

/// Frames a response whose body is changed on its way, or was while it was read ahead: its length is known once it has been read
/// to its end.
pub fn frame_changed(response: &mut ResponseHead, ahead: Option<&Held>) {
    (response.body, response.content_length) = match ahead.filter(|ahead| ahead.is_ended()) {
        Some(ahead) => headers::framed(ahead.bytes() as usize, ahead.has_trailers()),
        None => (BodyLength::Chunked, None),
    };
}

/// Whether the client has no body, whatever the upstream sends: a policy has said another status, or asked by another method.
pub fn has_no_content(response: &ResponseHead, request: &RequestHead) -> bool {
    matches!(response.status, 204 | 205 | 304) || request.method == b"HEAD"
}

fn no_content(request: &RequestHead) -> ClientFraming {
    match request.method == b"HEAD" {
        true => ClientFraming::None(Some(0)),
        false => ClientFraming::Length(0),
    }
}

/// Adds what every response has that is relayed: `date`, where its upstream sent none (RFC 9110 section 6.6.1), and `via`,
/// where it is wanted. Policies see both.
pub fn complete(client: &Client, response: &mut ResponseHead, settings: &Settings) {
    if response.status < 200 {
        return;
    }
    if !response.fields.names().has(Known::Date) {
        append_date(client, response);
    }
    if let Some(name) = &settings.via {
        headers::append_via(&mut response.fields, response.version, name);
    }
}

fn append_date(client: &Client, response: &mut ResponseHead) {
    client.core.with_date(|date| response.fields.append_known(Known::Date, b"date", date.as_bytes()));
}

/// Begins the answer to a client: the returned bytes go before the body. A stream of HTTP/2 has taken its head already.
pub fn begin(
    to: &Outgoing,
    workspace: &mut Workspace,
    framing: ClientFraming,
    keep_alive: bool,
    server: &ServerHeader,
) -> Buffer {
    match to {
        Outgoing::Http1(_) => {
            let head = &mut workspace.head;
            head.clear();
            write_head(head, &workspace.response, framing, workspace.request.version, keep_alive, server);
            holding(head)
        }
        Outgoing::Http2(stream) => {
            let scratch = &mut workspace.scratch;
            scratch.clear();
            // Speaks of a connection of HTTP/1.1 (RFC 9113 section 8.2.2).
            workspace.response.fields.remove_known(Known::Upgrade);
            each_field(&workspace.response, server, |name, value| scratch.append_lower_case(name, value));
            append_length(scratch, framing);
            stream.respond(workspace.response.status, scratch, !framing.has_body());
            Buffer::none()
        }
        Outgoing::Nobody(_) => Buffer::none(),
    }
}

/// Tells the client that its connection, or its stream, is a tunnel from here on (RFC 9113 section 8.5, RFC 8441).
pub fn switch(to: &Outgoing, workspace: &mut Workspace) -> Buffer {
    let fields = &workspace.response.fields;
    match to {
        Outgoing::Http1(_) => {
            let head = &mut workspace.head;
            head.clear();
            emit::status_line(head, 101);
            fields.iter().for_each(|field| emit::field(head, field.name, field.value));
            emit::field(head, b"connection", b"upgrade");
            emit::field(head, b"upgrade", b"websocket");
            emit::end_of_head(head);
            holding(head)
        }
        Outgoing::Http2(stream) => {
            let scratch = &mut workspace.scratch;
            scratch.clear();
            // The key and its answer belong to the handshake of HTTP/1.1 alone (RFC 8441 section 5).
            let passed = fields.iter().filter(|field| !field.name.eq_ignore_ascii_case(b"sec-websocket-accept"));
            passed.for_each(|field| scratch.append_lower_case(field.name, field.value));
            stream.respond(200, scratch, false);
            Buffer::none()
        }
        Outgoing::Nobody(_) => Buffer::none(),
    }
}

/// Tells a client that waits for it to send its body: 100 Continue.
pub async fn go_ahead(to: &Outgoing, workspace: &mut Workspace) -> io::Result<()> {
    workspace.response.clear();
    workspace.response.status = 100;
    let out = interim(to, workspace);
    to.send(out).await
}

/// An interim response (RFC 9110 section 15.2).
pub fn interim(to: &Outgoing, workspace: &mut Workspace) -> Buffer {
    let response = &workspace.response;
    match to {
        Outgoing::Http1(_) => {
            let head = &mut workspace.head;
            head.clear();
            emit::status_line(head, response.status);
            response.fields.iter().for_each(|field| emit::field(head, field.name, field.value));
            emit::end_of_head(head);
            holding(head)
        }
        Outgoing::Http2(stream) => {
            let scratch = &mut workspace.scratch;
            scratch.clear();
            response.fields.iter().for_each(|field| scratch.append_lower_case(field.name, field.value));
            stream.respond(response.status, scratch, false);
            Buffer::none()
        }
        Outgoing::Nobody(_) => Buffer::none(),
    }
}

fn holding(head: &[u8]) -> Buffer {
    let mut out = Buffer::with_room(SMALL_ROOM.max(head.len()));
    out.extend(head);
    out
}

/// Writes a head that ends with its empty line. `fields` hold nothing hop-by-hop.
fn write_head(
    out: &mut Vec<u8>,
    response: &ResponseHead,
    framing: ClientFraming,
    client: Version,
    keep_alive: bool,
    server: &ServerHeader,
) {
    emit::status_line(out, response.status);
    each_field(response, server, |name, value| emit::field(out, name, value));
    if let Some(length) = framing.length() {
        out.extend_from_slice(b"content-length: ");
        emit::decimal(out, length);
        out.extend_from_slice(b"\r\n");
    } else if framing == ClientFraming::Chunked {
        emit::field(out, b"transfer-encoding", b"chunked");
    }
    // What to upgrade to is said to this connection, and `connection` says so (RFC 9110 section 7.8).
    let is_upgrade = response.status == 426 && response.fields.known(Known::Upgrade).is_some();
    match (keep_alive, client) {
        (false, _) if is_upgrade => emit::field(out, b"connection", b"close, upgrade"),
        (true, Version::Http11) if is_upgrade => emit::field(out, b"connection", b"upgrade"),
        (false, _) => emit::field(out, b"connection", b"close"),
        // An HTTP/1.0 client closes unless it is told (RFC 9112 section C.2.2).
        (true, Version::Http10) => emit::field(out, b"connection", b"keep-alive"),
        (true, Version::Http11 | Version::Http2) => {}
    }
    emit::end_of_head(out);
}

/// The fields that a client sees, framing apart.
fn each_field(response: &ResponseHead, server: &ServerHeader, mut write: impl FnMut(&[u8], &[u8])) {
    let mut has_server = false;
    for field in response.fields.iter() {
        match field.known {
            Known::ContentLength | Known::TransferEncoding | Known::Connection => continue,
            Known::Server => match server {
                ServerHeader::Name(_) | ServerHeader::Remove => continue,
                ServerHeader::Default | ServerHeader::None => has_server = true,
            },
            _ => {}
        }
        write(field.name, field.value);
    }
    match server {
        ServerHeader::Name(name) => write(b"server", name.as_bytes()),
        ServerHeader::Default if !has_server => write(b"server", SERVER.as_bytes()),
        ServerHeader::Default | ServerHeader::None | ServerHeader::Remove => {}
    }
}

fn append_length(fields: &mut Fields, framing: ClientFraming) {
    if let Some(length) = framing.length() {
        let mut text = Vec::with_capacity(20);
        emit::decimal(&mut text, length);
        fields.append_known(Known::ContentLength, b"content-length", &text);
    }
}

/// Answers a request on the gateway's own account. Policies that have run see the answer, unless they have seen one before.
pub async fn local(
    client: &Client,
    wire: &mut Wire<'_>,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    answer: &LocalResponse,
) -> After {
    let is_call = grpc::is_call(&workspace.request);
    render(&mut workspace.response, answer, client, is_call);
    let may_change = workspace.api_turns.may_change() || workspace.service_turns.may_change();
    workspace.bodies.response = answer.body_for(may_change && !is_call && workspace.request.method != b"HEAD");
    let other = match run_response_chains(client, workspace, serving, account, None) {
        Next::Done => None,
        Next::Respond(other) => Some(other),
        // Boxed: few wait, and the others are not to keep room for it.
        Next::Wait(question) => match Box::pin(wait(client, wire, workspace, serving, account, question)).await {
            Ok(other) => other,
            Err(ClientGone) => return After::Close,
        },
        Next::Body(_) | Next::AskAgain(_) => unreachable!("{OWN_ANSWER}"),
    };
    deliver(client, wire, workspace, serving, account, other.as_deref().unwrap_or(answer)).await
}

const OWN_ANSWER: &str = "an answer of the gateway's own has no body to read ahead, and no upstream to be asked again";

/// The client left while a policy waited; that is accounted for.
struct ClientGone;

/// What the policies of the response wait for, one after the other, until all have seen it. An exchange whose time is over
/// meanwhile has an answer that says so, and that no policy sees.
async fn wait(
    client: &Client,
    wire: &mut Wire<'_>,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    mut question: Box<Question>,
) -> Result<Option<Rc<LocalResponse>>, ClientGone> {
    loop {
        let reply = match wait::watched(client, serving, wire, &workspace.request, account, *question).await {
            Ok(reply) => reply,
            Err(Stalled::ClientGone) => {
                account.client_left();
                return Err(ClientGone);
            }
            Err(stalled) => {
                let answer = reject::stalled(stalled);
                render(&mut workspace.response, &answer, client, grpc::is_call(&workspace.request));
                return Ok(Some(answer.into()));
            }
        };
        question = match run_response_chains(client, workspace, serving, account, Some(reply)) {
            Next::Done => return Ok(None),
            Next::Respond(other) => return Ok(Some(other)),
            Next::Wait(next) => next,
            Next::Body(_) | Next::AskAgain(_) => unreachable!("{OWN_ANSWER}"),
        };
    }
}

/// The head of an answer of the gateway's own, for a gRPC call or for anybody else.
fn render(response: &mut ResponseHead, answer: &LocalResponse, client: &Client, call: bool) {
    match call {
        true => grpc::fill(response, answer),
        false => fill_response(response, answer),
    }
    if !response.fields.names().has(Known::Date) {
        append_date(client, response);
    }
}

/// Sends an answer of the gateway's own whose head lies in the workspace, as policies have left it.
pub async fn deliver(
    client: &Client,
    wire: &mut Wire<'_>,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    answer: &LocalResponse,
) -> After {
    // What was sent along is skipped if it is all here; else the connection cannot be used again.
    let keep_alive = match wire {
        Wire::Http1(stream) => {
            !workspace.request.expects_continue
                && skip_buffered(
                    &mut stream.receiver,
                    &mut BodyReader::new(workspace.request.body, &body_limits(serving)),
                )
                && workspace.request.keep_alive
                && client.may_stay()
        }
        Wire::Http2(_) | Wire::Nobody(_) => true,
    };
    account.status = answer.status;
    account.reason = answer.reason;
    let changed =
        Some(std::mem::take(&mut workspace.bodies.response)).filter(Body::is_replaced).map(|body| body.to_vec());
    let whole = changed.as_deref().unwrap_or(&answer.body);
    let framing = match answer.status {
        _ if grpc::is_call(&workspace.request) => ClientFraming::None(None),
        204 | 304 => ClientFraming::None(None),
        205 => no_content(&workspace.request),
        _ if workspace.request.method == b"HEAD" => ClientFraming::None(Some(whole.len() as u64)),
        _ => ClientFraming::Length(whole.len() as u64),
    };
    let to = wire.outgoing();
    let out = begin(&to, workspace, framing, keep_alive, &serving.snapshot.settings.server_header);
    account.client_answered();
    let body = if framing.has_body() { whole } else { b"" };
    let idle = workspace.timeouts.stream_idle;
    client.deadline.set(idle);
    let sent = client
        .deadline
        .guard(async {
            match body.len() <= SLICE {
                true => send_whole(&to, out, body, keep_alive).await,
                // Boxed: few are so large, and the others are not to keep room for it.
                false => Box::pin(send_slices(&to, out, body, &|| client.deadline.set(idle))).await,
            }
        })
        .await;
    if framing.has_body() {
        account.bytes_out += whole.len() as u64;
    }
    match (sent, keep_alive) {
        (Ok(Ok(())), true) => After::KeepAlive,
        (Ok(Ok(())), false) => After::Linger,
        _ => After::Close,
    }
}

/// What of a body is sent at a time, so that one that others hold too is never copied as a whole; with its head it fits into a
/// large buffer.
const SLICE: usize = 60 << 10;

/// `out` is the head, where it has not left yet.
async fn send_whole(to: &Outgoing, mut out: Buffer, body: &[u8], keep_alive: bool) -> io::Result<()> {
    match to {
        Outgoing::Http1(sender) => {
            out.extend(body);
            match keep_alive {
                true => sender.post(out).await,
                false => sender.send(out).await.0,
            }
        }
        Outgoing::Http2(stream) if !body.is_empty() => stream.send(body, true).await,
        Outgoing::Http2(_) | Outgoing::Nobody(_) => Ok(()),
    }
}

/// The same, slice by slice: the client's time starts anew with each that it has taken.
async fn send_slices(to: &Outgoing, mut out: Buffer, body: &[u8], progress: &dyn Fn()) -> io::Result<()> {
    let slices = body.chunks(SLICE);
    let last = slices.len() - 1;
    for (index, slice) in slices.enumerate() {
        match to {
            Outgoing::Http1(sender) => {
                if out.is_none() {
                    out = Buffer::with_room(Buffer::LARGE);
                }
                out.extend(slice);
                let (sent, room) = sender.send(out).await;
                sent?;
                out = room;
            }
            Outgoing::Http2(stream) => stream.send(slice, index == last).await?,
            Outgoing::Nobody(_) => return Ok(()),
        }
        progress();
    }
    Ok(())
}

/// Ends a gRPC call whose time is over: with an answer, or with the end of the one that has begun.
pub async fn end_call(
    client: &Client,
    wire: &mut Wire<'_>,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
) -> After {
    match wire {
        Wire::Http2(stream) if stream.is_answered() => {
            account.reason = grpc::TIMEOUT;
            stream.finish(Some(&grpc::timeout_trailers()));
            After::KeepAlive
        }
        _ => local(client, wire, workspace, serving, account, &reject::grpc_timeout()).await,
    }
}

/// The response direction of both chains, the Service's first, then the API's: each policy once in an exchange; from where
/// one of them waits for the `reply`, or from the first. What one of them answers in the place of the answer that has come
/// is returned, with its head in the workspace.
pub fn run_response_chains(
    client: &Client,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    mut reply: Option<Reply>,
) -> Next {
    let snapshot = &serving.snapshot;
    let Some(api_index) = account.api else { return Next::Done };
    let api = &*snapshot.apis[api_index];
    let service = account.service.map(|index| (&*snapshot.services[index], &serving.service_policies[index]));
    if api.policies.is_empty() && service.is_none_or(|(service, _)| service.policies.is_empty()) {
        return Next::Done;
    }
    let call = grpc::is_call(&workspace.request);
    let render = |response: &mut ResponseHead, answer: &LocalResponse| render(response, answer, client, call);
    let Workspace { request, response, authentication, timeouts, bodies, api_turns, service_turns, .. } = workspace;
    let at = At { api: &api.name, base: account.base };
    let (peer, random) = (client.as_peer(), client.core.random());
    let bytes_max = snapshot.settings.limits.buffered_body_bytes;
    let exchange = Exchange::new(request, response, authentication, timeouts, peer, at, random);
    let mut exchange = exchange.with_bodies(bodies, bytes_max);
    if let Some((service, instances)) = service {
        let policies = &service.policies;
        match chain::run_response(policies, instances, service_turns, &mut exchange, &mut reply, &render, account) {
            Next::Done => {}
            Next::Respond(answer) => api_turns.answered_before(answer),
            stop @ (Next::Wait(_) | Next::Body(_) | Next::AskAgain(_)) => return stop,
        }
    }
    let instances = &serving.api_policies[api_index];
    let next = chain::run_response(&api.policies, instances, api_turns, &mut exchange, &mut reply, &render, account);
    if matches!(next, Next::AskAgain(_)) {
        service_turns.sees_another();
    }
    next
}

/// The end of the exchange, to every policy of both chains that has run.
pub fn run_log_chains(client: &Client, workspace: &mut Workspace, serving: &Serving, account: &mut Account) {
    let has_run = !workspace.api_turns.is_empty() || !workspace.service_turns.is_empty();
    let Some(api_index) = account.api.filter(|_| has_run) else { return };
    workspace.forget_replaced();
    let Workspace { request, response, authentication, timeouts, api_turns, service_turns, .. } = workspace;
    if !account.is_answered() {
        // What lies there is of no answer: an interim one, or that of an upstream that was given up.
        response.clear();
    }
    let snapshot = &serving.snapshot;
    let api = &*snapshot.apis[api_index];
    let service = account.service.map(|index| (&*snapshot.services[index], &serving.service_policies[index]));
    let at = At { api: &api.name, base: account.base };
    let (peer, random, end) = (client.as_peer(), client.core.random(), account.end());
    let mut exchange = Exchange::new(request, response, authentication, timeouts, peer, at, random);
    if let Some((service, instances)) = service {
        chain::run_log(&service.policies, instances, service_turns, &mut exchange, &end, account);
    }
    chain::run_log(&api.policies, &serving.api_policies[api_index], api_turns, &mut exchange, &end, account);
}

/// The body that a policy of either chain waits for cannot be read; `refused`: since it is more than may be, which has this
/// answer.
pub fn run_unread(
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    refused: Option<&LocalResponse>,
) {
    let (snapshot, Workspace { api_turns, service_turns, .. }) = (&serving.snapshot, workspace);
    if let Some(index) = account.api {
        let (policies, instances) = (&snapshot.apis[index].policies, &serving.api_policies[index]);
        chain::run_unread(policies, instances, api_turns, refused, account);
    }
    if let Some(index) = account.service {
        let (policies, instances) = (&snapshot.services[index].policies, &serving.service_policies[index]);
        chain::run_unread(policies, instances, service_turns, refused, account);
    }
}

/// Answers what never became an exchange, and says that the connection ends.
pub async fn refuse_connection(client: &Client, sender: &Sender, request: &RequestHead, answer: LocalResponse) {
    let serving = client.serving();
    let mut account = Account::begin(client, serving.clone(), request);
    account.status = answer.status;
    account.reason = answer.reason;
    let settings = &serving.snapshot.settings;
    let out = client.core.with_date(|date| minimal(&answer, date, &settings.server_header, request));
    account.bytes_out = answer.body.len() as u64;
    account.client_answered();
    client.deadline.set(settings.timeouts.request_head);
    let _ = client.deadline.guard(sender.send(out)).await;
}

/// A whole HTTP/1.1 answer that ends its connection.
pub fn minimal(answer: &LocalResponse, date: &str, server: &ServerHeader, request: &RequestHead) -> Buffer {
    let mut response = ResponseHead::default();
    fill_response(&mut response, answer);
    response.fields.append_known(Known::Date, b"date", date.as_bytes());
    let mut head = Vec::with_capacity(256);
    let framing = ClientFraming::Length(answer.body.len() as u64);
    write_head(&mut head, &response, framing, Version::Http11, false, server);
    let mut out = Buffer::with_room(head.len() + answer.body.len());
    out.extend(&head);
    if request.method != b"HEAD" {
        out.extend(&answer.body);
    }
    out
}

fn fill_response(response: &mut ResponseHead, answer: &LocalResponse) {
    response.clear();
    response.own = Some(answer.reason);
    response.status = answer.status;
    if let Some(stored) = &answer.stored {
        response.fields.copy_from(stored);
    }
    if let Some(content_type) = answer.content_type {
        response.fields.append(b"content-type", content_type.as_bytes());
    }
    for (name, value) in &answer.headers {
        response.fields.append(name.as_bytes(), value.as_bytes());
    }
}

/// A request that goes no further has a body that was read to where `reader` is. The connection ends unless the rest has been
/// received already.
pub fn leave_body(wire: &mut Wire<'_>, workspace: &mut Workspace, reader: &mut BodyReader) {
    match skip_rest(wire, reader) {
        true => workspace.request.body = BodyLength::None,
        false => close_unread(workspace),
    }
}

/// Skips what has come of a body that nobody reads. True: that was all of it, or the rest disturbs nobody.
pub fn skip_rest(wire: &mut Wire<'_>, reader: &mut BodyReader) -> bool {
    match wire {
        Wire::Http1(stream) => skip_buffered(&mut stream.receiver, reader),
        Wire::Http2(_) | Wire::Nobody(_) => true,
    }
}

/// The same where nothing is known of how far it was read.
pub fn close_unread(workspace: &mut Workspace) {
    if workspace.request.body != BodyLength::None {
        workspace.request.keep_alive = false;
        // What is left of the body is not framed from its beginning any more; it is read and thrown away.
        workspace.request.body = BodyLength::None;
    }
}

fn skip_buffered(receiver: &mut Receiver, body: &mut BodyReader) -> bool {
    loop {
        match body.step(receiver.buffered()) {
            Ok(Step::Data { start, len }) => receiver.consume(start + len),
            Ok(Step::Done { consumed }) => {
                receiver.consume(consumed);
                return true;
            }
            Ok(Step::NeedMore { .. }) | Err(_) => return false,
        }
    }
}

pub fn body_limits(serving: &Serving) -> BodyLimits {
    let limits = &serving.snapshot.settings.limits;
    BodyLimits {
        trailer_bytes: limits.trailer_bytes,
        chunk_extension_bytes: limits.chunk_extension_bytes,
        header_count: limits.header_count,
    }
}
