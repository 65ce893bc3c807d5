//! Heads towards the client: of the gateway's own answers and of an upstream's.

use super::{
    account::Account,
    connection::{Connection, Workspace},
    core::{Core, Serving},
    exchange::After,
};
use crate::{
    config::settings::ServerHeader,
    http::{
        h1::{
            body::{BodyLimits, BodyReader, Step},
            emit,
        },
        head::{BodyLength, Known, RequestHead, ResponseHead, Version},
    },
    net::Buffer,
    policies::{self, LocalResponse, chain},
};

const SERVER: &str = "ringway";

/// How the client learns where the response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFraming {
    /// No body; the length, where one was told, is of the body that a GET would have had.
    None(Option<u64>),
    Length(u64),
    Chunked,
    UntilClose,
}

/// The framing for this client of what an upstream sends with `length`.
pub fn client_framing(response: &ResponseHead, request: &RequestHead) -> ClientFraming {
    match response.body {
        BodyLength::None if request.method == b"HEAD" || response.status == 304 => {
            ClientFraming::None(response.content_length)
        }
        BodyLength::None if matches!(response.status, 100..=199 | 204) => ClientFraming::None(None),
        BodyLength::None => ClientFraming::Length(0),
        BodyLength::Length(length) => ClientFraming::Length(length),
        BodyLength::Chunked | BodyLength::UntilClose if request.version == Version::Http10 => ClientFraming::UntilClose,
        BodyLength::Chunked | BodyLength::UntilClose => ClientFraming::Chunked,
    }
}

/// Writes a head that ends with its empty line. `fields` hold nothing hop-by-hop.
pub fn write_head(
    out: &mut Vec<u8>,
    response: &ResponseHead,
    framing: ClientFraming,
    client: Version,
    keep_alive: bool,
    server: &ServerHeader,
) {
    emit::status_line(out, response.status);
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
        emit::field(out, field.name, field.value);
    }
    match server {
        ServerHeader::Name(name) => emit::field(out, b"server", name.as_bytes()),
        ServerHeader::Default if !has_server => emit::field(out, b"server", SERVER.as_bytes()),
        ServerHeader::Default | ServerHeader::None | ServerHeader::Remove => {}
    }
    match framing {
        ClientFraming::Length(length) | ClientFraming::None(Some(length)) => {
            out.extend_from_slice(b"content-length: ");
            emit::decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        ClientFraming::Chunked => emit::field(out, b"transfer-encoding", b"chunked"),
        ClientFraming::None(None) | ClientFraming::UntilClose => {}
    }
    match (keep_alive, client) {
        (false, _) => emit::field(out, b"connection", b"close"),
        // An HTTP/1.0 client closes unless it is told (RFC 9112 section C.2.2).
        (true, Version::Http10) => emit::field(out, b"connection", b"keep-alive"),
        (true, Version::Http11 | Version::Http2) => {}
    }
    emit::end_of_head(out);
}

/// Answers a request on the gateway's own account. Policies that have run see the answer.
pub async fn local(
    connection: &mut Connection,
    workspace: &mut Workspace,
    serving: &Serving,
    account: &mut Account,
    answer: LocalResponse,
) -> After {
    // What was sent along is skipped if it is all here; else the connection cannot be used again.
    let body_skipped =
        !workspace.request.expects_continue && skip_buffered_body(connection, serving, &workspace.request);
    let keep_alive = body_skipped && workspace.request.keep_alive && connection.may_stay();
    account.status = answer.status;
    account.reason = answer.reason;
    fill_response(&mut workspace.response, &answer);
    run_response_chains(connection.peer.ip(), workspace, serving, account);
    let head_only = workspace.request.method == b"HEAD";
    let head = &mut workspace.head;
    head.clear();
    write_answer(&connection.core, head, &workspace.response, &answer, workspace.request.version, keep_alive, serving);
    let mut out = Buffer::with_room(head.len() + answer.body.len());
    out.extend(head);
    if !head_only {
        out.extend(&answer.body);
        account.bytes_out += answer.body.len() as u64;
    }
    account.client_answered();
    connection.deadline.set(serving.snapshot.settings.timeouts.stream_idle);
    let sent = connection.deadline.guard(connection.stream.sender.send(out)).await;
    match (sent, keep_alive) {
        (Ok((Ok(()), _)), true) => After::KeepAlive,
        (Ok((Ok(()), _)), false) => After::Linger,
        _ => After::Close,
    }
}

/// The response direction of both chains: the Service's first, then the API's.
pub fn run_response_chains(client: std::net::IpAddr, workspace: &mut Workspace, serving: &Serving, account: &Account) {
    let Workspace { request, response, authentication, api_ran, service_ran, .. } = workspace;
    let mut exchange = policies::Exchange { request, client, authentication };
    if let Some(service) = account.service {
        let (policies, states) = (&serving.snapshot.services[service].policies, &serving.service_states[service]);
        if !policies.is_empty() {
            chain::run_response(policies, states, &mut exchange, response, service_ran);
        }
    }
    if let Some(api) = account.api {
        let (policies, states) = (&serving.snapshot.apis[api].policies, &serving.api_states[api]);
        if !policies.is_empty() {
            chain::run_response(policies, states, &mut exchange, response, api_ran);
        }
    }
}

/// Answers what never became an exchange, and says that the connection ends.
pub async fn refuse_connection(connection: &mut Connection, request: &RequestHead, answer: LocalResponse) {
    let serving = connection.serving();
    let mut account = Account::begin(&connection.core, serving.clone(), connection.peer, request);
    account.status = answer.status;
    account.reason = answer.reason;
    let mut response = ResponseHead::default();
    fill_response(&mut response, &answer);
    let mut head = Vec::with_capacity(256);
    write_answer(&connection.core, &mut head, &response, &answer, Version::Http11, false, &serving);
    let mut out = Buffer::with_room(head.len() + answer.body.len());
    out.extend(&head);
    if request.method != b"HEAD" {
        out.extend(&answer.body);
    }
    account.bytes_out = answer.body.len() as u64;
    account.client_answered();
    connection.deadline.set(serving.snapshot.settings.timeouts.request_head);
    let _ = connection.deadline.guard(connection.stream.sender.send(out)).await;
}

/// An answer without a core's help: for a connection that is refused before it is one.
pub fn write_minimal(out: &mut Vec<u8>, answer: &LocalResponse) {
    let mut response = ResponseHead::default();
    fill_response(&mut response, answer);
    let framing = ClientFraming::Length(answer.body.len() as u64);
    write_head(out, &response, framing, Version::Http11, false, &ServerHeader::None);
    out.extend_from_slice(&answer.body);
}

fn fill_response(response: &mut ResponseHead, answer: &LocalResponse) {
    response.clear();
    response.status = answer.status;
    if let Some(content_type) = answer.content_type {
        response.fields.append(b"content-type", content_type.as_bytes());
    }
    for (name, value) in &answer.headers {
        response.fields.append(name.as_bytes(), value.as_bytes());
    }
}

fn write_answer(
    core: &Core,
    out: &mut Vec<u8>,
    response: &ResponseHead,
    answer: &LocalResponse,
    client: Version,
    keep_alive: bool,
    serving: &Serving,
) {
    let framing = match answer.status {
        204 | 304 => ClientFraming::None(None),
        _ => ClientFraming::Length(answer.body.len() as u64),
    };
    write_head(out, response, framing, client, keep_alive, &serving.snapshot.settings.server_header);
    // The date goes before the empty line that ends the head.
    out.truncate(out.len() - 2);
    core.with_date(|date| emit::field(out, b"date", date.as_bytes()));
    emit::end_of_head(out);
}

/// Whether the request's body, if it has one, was all received already; then it is gone.
fn skip_buffered_body(connection: &mut Connection, serving: &Serving, request: &RequestHead) -> bool {
    let mut body = BodyReader::new(request.body, &body_limits(serving));
    loop {
        match body.step(connection.stream.receiver.buffered()) {
            Ok(Step::Data { start, len }) => connection.stream.receiver.consume(start + len),
            Ok(Step::Done { consumed }) => {
                connection.stream.receiver.consume(consumed);
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
