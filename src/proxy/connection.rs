//! One client connection: heads one after the other, each an exchange; keep-alive, idle and head time-outs.
//!
//! What an exchange needs (heads, buffers, its future) is made when bytes come and given up after a second of silence, or
//! at once where many wait already: an idle connection is its socket, its deadline and where it came from.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use super::{
    arrival::{self, Arrival},
    client::{Client, Open},
    core::{Core, Occupant},
    exchange::{self, After, Suspended},
    h2::{self, End},
    handshake::{self, Secured},
    listener::OpenListener,
    pump::usual_room,
    reject, respond,
    wire::Wire,
    workspace::Lent,
};
use crate::{
    config::settings::ServerHeader,
    http::{
        h1::parse::{HeadLimits, RequestError, parse_request},
        head::RequestHead,
    },
    net::{Buffer, Receiver, Stream, buffer::SMALL_ROOM, deadline::Expired, task},
    policies::LocalResponse,
};

/// After this an idle connection gives up what it keeps for the next exchange.
const DOZE_AFTER: Duration = Duration::from_secs(1);

/// So many connections of a core may keep it until then; making it anew costs some 0.2 us, and 16 KiB each is much for
/// thousands of clients that ask now and then.
const WARM_MAX: usize = 256;

/// How long and how much is read and thrown away behind an answer that ends the connection, so that a client still sending
/// gets the answer and not a reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;

struct Connection {
    client: Client,
    stream: Stream,
    /// No request has come yet.
    is_new: bool,
    /// How much the next request may bring at once, by what the last one brought.
    room: usize,
}

/// `open` was made when the connection was accepted, so that nobody takes the core for idle in between.
pub fn serve(
    open: Open,
    core: Rc<Core>,
    listener: Rc<OpenListener>,
    stream: Stream,
    peer: SocketAddr,
) -> impl Future<Output = ()> {
    let client = Client::new(core, listener, peer);
    let mut connection = Connection { client, stream, is_new: true, room: SMALL_ROOM };
    // Not an `async fn`, whose arguments would be kept beside the connection that they have become part of.
    async move {
        let _open = open;
        let Client { core, listener, .. } = &connection.client;
        // Boxed, both, so that the connection does not keep room for them.
        if listener.expects_proxy_header(core) && !Box::pin(identified(&mut connection)).await {
            return;
        }
        let Connection { client, stream, .. } = &mut connection;
        if let Some(context) = client.listener.context(&client.core) {
            match Box::pin(handshake::secure(client, stream, context)).await {
                None => return,
                secured => client.secured = secured,
            }
        }
        let speaks_http2 = |secured: &Rc<Secured>| secured.facts.speaks_http2();
        let mut next = match connection.client.secured.as_ref().is_some_and(speaks_http2) {
            true => Next::Http2,
            false => Next::Idle { waited: Duration::ZERO },
        };
        loop {
            next = match next {
                Next::Idle { waited } => {
                    // A first request may have come with the end of the handshake.
                    if connection.stream.receiver.buffered().is_empty() && !connection.wait_for_bytes(waited).await {
                        break;
                    }
                    let busy = connection.client.core.busy.enter();
                    // Boxed, so that an idle connection does not keep room for an exchange.
                    Box::pin(active(&mut connection, busy)).await
                }
                Next::Waits(waiting) => {
                    let busy = connection.client.core.busy.enter();
                    Box::pin(resumed(&mut connection, busy, *waiting)).await
                }
                Next::Http2 | Next::Close => break,
            };
        }
        if let Next::Http2 = next {
            Box::pin(http2(&mut connection)).await;
        }
        connection.settle().await;
    }
}

async fn http2(connection: &mut Connection) {
    let Connection { client, stream, .. } = &mut *connection;
    if !matches!(h2::serve::serve(client, stream).await, End::Lost(_)) {
        linger(connection).await;
    }
}

/// Takes over what a PROXY protocol header says. False: there was none that counts.
async fn identified(connection: &mut Connection) -> bool {
    let Connection { client, stream, .. } = connection;
    match arrival::identify(client, stream).await {
        Arrival::Named(addresses) => {
            client.peer = addresses.source;
            client.tenure.tell(addresses);
            true
        }
        Arrival::Unnamed => true,
        Arrival::Refused => false,
    }
}

/// Answers a connection that is one too many, in the protocol that its port is served with.
pub async fn refuse(core: Rc<Core>, mut stream: Stream, is_tls: bool) {
    let answer = reject::too_many_connections();
    let out = match is_tls {
        true => alert(INTERNAL_ERROR),
        false => core.with_date(|date| respond::minimal(&answer, date, &ServerHeader::None, &RequestHead::default())),
    };
    let _ = task::timeout(Some(LINGER), async {
        if stream.sender.send(out).await.0.is_ok() {
            stream.sender.finish();
            read_on(&mut stream.receiver).await;
        }
    })
    .await;
}

enum Next {
    /// It has waited for its next request for so long already.
    Idle {
        waited: Duration,
    },
    /// The client speaks HTTP/2.
    Http2,
    /// A policy of its request waits for something.
    Waits(Box<(Lent, Box<Suspended>)>),
    Close,
}

/// From the first byte of a request until none has come for a while. `_busy` is for as long as this is in memory.
async fn active(connection: &mut Connection, _busy: Occupant) -> Next {
    let mut workspace = connection.client.core.workspaces.lend(connection.client.peer.ip());
    loop {
        match read_head(connection, &mut workspace.request).await {
            Head::Complete => connection.is_new = false,
            Head::Http2 => return Next::Http2,
            Head::Idle { waited } => return Next::Idle { waited },
            Head::Closed => return Next::Close,
            Head::TimedOut => {
                connection.refuse(&workspace.request, reject::head_timeout()).await;
                linger(connection).await;
                return Next::Close;
            }
            Head::Refused(_) if begins_with_tls(connection.stream.receiver.buffered()) => {
                refuse_tls(connection).await;
                return Next::Close;
            }
            Head::Refused(error) => {
                connection.refuse(&workspace.request, reject::bad_request(&error)).await;
                linger(connection).await;
                return Next::Close;
            }
        }
        let Connection { client, stream, room, .. } = &mut *connection;
        let usual = usual_room(workspace.request.body);
        client.tenure.begin_request();
        match exchange::run(client, &mut Wire::Http1(stream), &mut workspace).await {
            Ok(After::KeepAlive) => *room = usual,
            Ok(after) => return ended(connection, after).await,
            Err(suspended) => return Next::Waits(Box::new((workspace, suspended))),
        }
    }
}

/// The rest of an exchange that was waiting; as [`active`].
async fn resumed(
    connection: &mut Connection,
    _busy: Occupant,
    (mut workspace, suspended): (Lent, Box<Suspended>),
) -> Next {
    let Connection { client, stream, room, .. } = &mut *connection;
    let usual = usual_room(workspace.request.body);
    match suspended.run(client, &mut Wire::Http1(stream), &mut workspace).await {
        After::KeepAlive => {
            *room = usual;
            Next::Idle { waited: Duration::ZERO }
        }
        after => ended(connection, after).await,
    }
}

async fn ended(connection: &mut Connection, after: After) -> Next {
    if after == After::Linger {
        linger(connection).await;
    }
    Next::Close
}

enum Head {
    Complete,
    /// Instead of a request, the preface of HTTP/2 (RFC 9113 section 3.4).
    Http2,
    /// Nothing came, and what an exchange needs is to be given up.
    Idle {
        waited: Duration,
    },
    /// The client closed.
    Closed,
    TimedOut,
    Refused(RequestError),
}

async fn read_head(connection: &mut Connection, request: &mut RequestHead) -> Head {
    let serving = connection.client.serving();
    let settings = &serving.snapshot.settings;
    let limits = &settings.limits;
    let head_limits = HeadLimits { head_bytes: limits.head_bytes, header_count: limits.header_count };
    let mut scanned = 0;
    let mut begun = false;
    let scheme = connection.client.scheme();
    // With TLS the handshake has decided.
    let takes_preface = settings.h2c && connection.client.secured.is_none();
    connection.stream.receiver.want(connection.room);
    loop {
        let input = connection.stream.receiver.buffered();
        if !input.is_empty() {
            if connection.is_new
                && takes_preface
                && (input.starts_with(h2::PREFACE_LINE) || h2::is_failed_preface(input))
            {
                return Head::Http2;
            }
            match parse_request(input, &mut scanned, &head_limits, scheme, request) {
                Ok(Some(taken)) => {
                    connection.stream.receiver.consume(taken);
                    return Head::Complete;
                }
                Ok(None) => {}
                Err(error) => return Head::Refused(error),
            }
            if !begun {
                begun = true;
                connection.client.deadline.set(settings.timeouts.request_head);
            }
        }
        let received = if begun {
            connection.client.deadline.guard(connection.stream.receiver.fill()).await
        } else {
            if connection.client.core.warm.now() >= WARM_MAX {
                return Head::Idle { waited: Duration::ZERO };
            }
            let _warm = connection.client.core.warm.enter();
            connection.client.deadline.set(Some(DOZE_AFTER));
            connection.client.deadline.guard(connection.stream.receiver.fill()).await
        };
        match received {
            Ok(Ok(0)) | Ok(Err(_)) => return Head::Closed,
            Ok(Ok(_)) => {}
            Err(Expired) if begun => {
                request.clear();
                return Head::TimedOut;
            }
            Err(Expired) => return Head::Idle { waited: DOZE_AFTER },
        }
    }
}

impl Connection {
    async fn refuse(&self, request: &RequestHead, answer: LocalResponse) {
        respond::refuse_connection(&self.client, &self.stream.sender, request, answer).await;
    }

    /// Waits until the last answer has left. False: it will not.
    async fn settle(&self) -> bool {
        let sender = &self.stream.sender;
        if !sender.has_posted() {
            return true;
        }
        self.client.deadline.set(self.client.serving().snapshot.settings.timeouts.stream_idle);
        matches!(self.client.deadline.guard(sender.settle()).await, Ok(Ok(())))
    }

    /// Waits, holding nothing, for the next request. False: there will be none.
    async fn wait_for_bytes(&mut self, waited: Duration) -> bool {
        if !self.stream.receiver.buffered().is_empty() {
            // It came with what is said ahead of a first request.
            return true;
        }
        self.stream.receiver.want(self.room);
        let deadline = &self.client.deadline;
        if waited < DOZE_AFTER {
            // Also where no request is wanted any more: a client that was accepted or answered a moment ago, and not told
            // to close, may be asking already.
            deadline.set(Some(DOZE_AFTER));
            if let Ok(received) = deadline.guard(self.stream.receiver.fill()).await {
                return received.is_ok_and(|bytes| bytes > 0);
            }
        }
        if !self.settle().await {
            return false;
        }
        let deadline = &self.client.deadline;
        let keep_alive = self.client.serving().snapshot.settings.timeouts.keep_alive;
        deadline.set(keep_alive.map(|limit| limit.saturating_sub(DOZE_AFTER)));
        loop {
            if !self.client.is_wanted() {
                // What has come already is served yet.
                return self.stream.sender.peer_has_sent();
            }
            match deadline.guard_idle(self.stream.receiver.fill()).await {
                Ok(received) => return received.is_ok_and(|bytes| bytes > 0),
                Err(Expired) if deadline.has_passed() => return false,
                // Something changed on this core; what this connection waits for may still be there.
                Err(Expired) => {}
            }
        }
    }
}

/// The header of a handshake record: what a client sends that takes a plain port for one with TLS.
fn begins_with_tls(received: &[u8]) -> bool {
    received.starts_with(&[22, 3])
}

const HANDSHAKE_FAILURE: u8 = 40;
const INTERNAL_ERROR: u8 = 80;

/// A record of one fatal alert.
fn alert(description: u8) -> Buffer {
    let record = [21, 3, 3, 0, 2, 2, description];
    let mut out = Buffer::with_room(record.len());
    out.extend(&record);
    out
}

/// Tells such a client in its own protocol that there is no handshake to be had (RFC 8446 section 6.2).
async fn refuse_tls(connection: &mut Connection) {
    let out = alert(HANDSHAKE_FAILURE);
    connection.client.deadline.set(Some(LINGER));
    let _ = connection.client.deadline.guard(connection.stream.sender.send(out)).await;
    linger(connection).await;
}

/// Ends a connection whose client may still be sending: says that no more comes, and reads on for a while.
async fn linger(connection: &mut Connection) {
    connection.settle().await;
    connection.stream.sender.finish();
    connection.client.deadline.set(Some(LINGER));
    let _ = connection.client.deadline.guard(read_on(&mut connection.stream.receiver)).await;
}

/// Reads and throws away, up to a limit.
pub(super) async fn read_on(receiver: &mut Receiver) {
    let mut left = LINGER_BYTES_MAX;
    loop {
        let held = receiver.buffered().len();
        receiver.consume(held);
        match receiver.fill().await {
            Ok(bytes @ 1..) if bytes <= left => left -= bytes,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what such a function returns.
    fn size_of_returned<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_has_no_room_for_an_exchange() {
        // Ten thousand of them are to cost less than 10 MiB, with what the driver and the allocator add. Where TLS may be,
        // three pointers say that there is none.
        let idle = size_of_returned(serve);
        assert!(idle <= 560, "the task of a connection takes {idle} bytes");
    }

    #[test]
    fn an_exchange_is_small_enough_to_be_begun_for_each_connection() {
        // It is made on the stack and moved into its box: 32 KiB cost a connection with one request more than parsing it.
        let active = size_of_returned_by_two(active);
        assert!(active <= 6 * 1024, "an active connection takes {active} bytes");
    }

    fn size_of_returned_by_two<'a, F>(_: impl Fn(&'a mut Connection, Occupant) -> F) -> usize {
        size_of::<F>()
    }
}
