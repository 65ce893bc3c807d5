//! A call that a policy makes for one exchange, over this core's own pools: it has a connection, or a stream of one, for itself,
//! with windows of its own. So a server that is slow holds up nobody but the exchanges that wait for it, and one that sends
//! too much is stopped at its window.

use std::{pin::pin, rc::Rc, time::Instant};

use super::{
    core::{Core, Serving},
    h2::{self, Cut, Link},
    pool::{Carrier, Lease, Reuse, Unavailable, Upstream, Wanted},
    respond,
    wire::Wire,
};
use crate::{
    calls::{
        Direct, Whole,
        direct::{MALFORMED_ANSWER, NO_HTTP2, TOO_LARGE},
        outcome,
    },
    config::snapshot::LoadBalancing,
    http::{
        h1::{
            body::{BodyReader, Step},
            emit,
            parse::{HeadLimits, ResponseTo, parse_response},
        },
        h2::{Code, Outgoing},
        head::{Known, ResponseHead},
    },
    net::{
        Buffer, Receiver,
        buffer::SMALL_ROOM,
        task::{self, Either, join_until},
    },
    telemetry::fault::Fault,
};

/// How often a call is made, at the most, that nobody has looked at.
pub(super) const TRIES_MAX: u32 = 3;

/// Interim responses of one call.
const INTERIM_MAX: u32 = 16;

/// Why a try has brought no answer.
pub(super) enum Failure {
    /// Nobody has looked at it, as far as can be known: another connection may have it.
    Unseen(Reuse, Fault),
    Fault(Fault),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The answer, within the call's time and size, or why there is none; counted. Dropped, the call is given up.
pub async fn make(core: &Core, serving: &Serving, call: Direct) -> Result<Whole, Fault> {
    let began = Instant::now();
    let answer = match serving.called(call.server.identity) {
        None => Err(Fault::new("gone", "nobody is to be called there any more")),
        Some(upstream) => {
            let making = Making { core, serving, upstream, call: &call };
            let made = task::timeout(Some(call.time_max), pin!(making.run())).await;
            made.unwrap_or_else(|| Err(Fault::new("timeout", format!("not done in {:?}", call.time_max))))
        }
    };
    if let Err(Fault { reason, text }) = &answer {
        tracing::debug!(reason, policy = call.server.policy, "{call}: {text}");
    }
    core.telemetry.calls.count(
        call.server.policy,
        call.server.origin(),
        outcome(answer.as_ref().map(|answer| answer.status)),
        began.elapsed(),
    );
    answer
}

struct Making<'a> {
    core: &'a Core,
    serving: &'a Serving,
    upstream: &'a Rc<Upstream>,
    call: &'a Direct,
}

impl Making<'_> {
    async fn run(&self) -> Result<Whole, Fault> {
        let (mut reuse, mut left) = (Reuse::Any, TRIES_MAX);
        loop {
            left -= 1;
            match self.attempt(reuse).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Unseen(next, _)) if left > 0 => reuse = next,
                Err(Failure::Unseen(_, fault) | Failure::Fault(fault)) => return Err(fault),
            }
        }
    }

    async fn attempt(&self, reuse: Reuse) -> Result<Whole, Failure> {
        let wanted = Wanted {
            balancing: LoadBalancing::RoundRobin,
            random: self.core.random() as u32,
            connect_timeout: self.serving.snapshot.settings.timeouts.upstream_connect,
            reuse,
            own: None,
            websocket: false,
        };
        let mut lease = self.upstream.acquire(wanted).await.map_err(|error| unavailable(&error))?;
        match lease.carrier() {
            Carrier::Http2(link) => self.over_http2(&mut lease, &link).await,
            Carrier::Http1(_) if self.call.server.multiplexes => {
                Err(Fault::new(NO_HTTP2, "TLS was agreed on, and HTTP/2 was not").into())
            }
            Carrier::Http1(_) => self.over_http1(lease).await,
        }
    }

    async fn over_http2(&self, lease: &mut Lease, link: &Rc<Link>) -> Result<Whole, Failure> {
        let Direct { method, target, body, fields, .. } = self.call;
        let scheme: &[u8] = if self.call.server.destination.address.secure { b"https" } else { b"http" };
        let asked = Outgoing { method, scheme, authority: self.authority(), path: target, query: b"", protocol: None };
        let owned = link.ask(&asked, fields, body.is_empty()).map_err(|_| unseen("it takes no more requests"))?;
        let stream = owned.stream.clone();
        lease.hold(owned);
        let reused = lease.reused;
        let sending = pin!(async {
            match body.is_empty() {
                true => Ok(()),
                false => stream.send(body, true).await,
            }
        });
        let receiving = pin!(self.receive(&stream, reused));
        // It may answer before it has read everything, and where nothing can be sent any more it says why.
        let (_, received) = join_until(sending, receiving, |done| matches!(done, Either::Right(_))).await;
        received.expect("nothing else ends it")
    }

    async fn receive(&self, from: &h2::Stream, reused: bool) -> Result<Whole, Failure> {
        let head = final_head(from, reused).await?;
        let mut body = Vec::new();
        while let Some(piece) = from.data().await.map_err(midway)? {
            self.take(&mut body, piece.bytes())?;
            from.release(piece.len(), self.call.answer_bytes_max - body.len());
        }
        let trailers = from.take_trailers().unwrap_or_default();
        Ok(Whole { status: head.status, headers: head.fields, body, trailers })
    }

    async fn over_http1(&self, mut lease: Lease) -> Result<Whole, Failure> {
        let reused = lease.reused;
        let Wire::Http1(stream) = lease.wire() else { unreachable!("its carrier is HTTP/1.1") };
        let (sent, _) = stream.sender.send(self.message()).await;
        // Who closes may have answered first.
        let read = self.read_answer(&mut stream.receiver).await;
        let (answer, stays) = read.map_err(|(fault, silent)| match silent && reused {
            // It was closed just when it was used.
            true => Failure::Unseen(Reuse::None, fault),
            false => Failure::Fault(fault),
        })?;
        if stays && sent.is_ok() {
            // Bytes behind an answer without a body are most likely still on their way.
            lease.give_back(answer.body.is_empty(), SMALL_ROOM);
        }
        Ok(answer)
    }

    /// The whole request as HTTP/1.1.
    fn message(&self) -> Buffer {
        let Direct { method, target, body, fields, .. } = self.call;
        let mut head = Vec::with_capacity(256 + fields.capacity());
        emit::request_line(&mut head, method, target, b"");
        emit::field(&mut head, b"host", self.authority());
        for field in fields.iter() {
            if !matches!(field.known, Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Connection)
            {
                emit::field(&mut head, field.name, field.value);
            }
        }
        head.extend_from_slice(b"content-length: ");
        emit::decimal(&mut head, body.len() as u64);
        head.extend_from_slice(b"\r\n");
        emit::end_of_head(&mut head);
        let mut out = Buffer::with_room(head.len() + body.len());
        out.extend(&head);
        out.extend(body);
        out
    }

    /// The answer, and whether the connection may carry another. `Err`: and whether nothing of one was seen.
    async fn read_answer(&self, from: &mut Receiver) -> Result<(Whole, bool), (Fault, bool)> {
        let limits = &self.serving.snapshot.settings.limits;
        let limits = HeadLimits { head_bytes: limits.head_bytes, header_count: limits.header_count };
        let to = if self.call.method == b"HEAD" { ResponseTo::Head } else { ResponseTo::Other };
        let (mut head, mut scanned, mut interim, mut silent) = (ResponseHead::default(), 0, 0, true);
        let malformed = |text: String| (Fault::new(MALFORMED_ANSWER, text), false);
        loop {
            let input = from.buffered();
            if !input.is_empty() {
                silent = false;
                let parsed = parse_response(input, &mut scanned, &limits, to, &mut head);
                if let Some(taken) = parsed.map_err(|error| malformed(error.to_string()))? {
                    from.consume(taken);
                    if head.status >= 200 {
                        break;
                    }
                    interim += 1;
                    if interim > INTERIM_MAX {
                        return Err(malformed("no end of interim responses".to_owned()));
                    }
                    scanned = 0;
                    continue;
                }
            }
            match from.fill().await {
                Ok(0) => return Err((Fault::new("closed", "it closed the connection without an answer"), silent)),
                Err(error) => return Err((Fault::new("closed", error.to_string()), silent)),
                Ok(_) => {}
            }
        }
        let mut reader = BodyReader::of_response(head.body, &respond::body_limits(self.serving));
        let body = self.read_body(from, &mut reader).await.map_err(|fault| (fault, false))?;
        let stays = head.keep_alive && from.buffered().is_empty();
        let trailers = reader.take_trailers();
        Ok((Whole { status: head.status, headers: head.fields, body, trailers }, stays))
    }

    async fn read_body(&self, from: &mut Receiver, reader: &mut BodyReader) -> Result<Vec<u8>, Fault> {
        let mut body = Vec::new();
        if reader.remaining().is_some_and(|length| length > self.call.answer_bytes_max as u64) {
            return Err(self.too_large());
        }
        loop {
            let step = reader.step(from.buffered());
            match step.map_err(|error| Fault::new(MALFORMED_ANSWER, error.to_string()))? {
                Step::Data { start, len } => {
                    self.take(&mut body, &from.buffered()[start..start + len])?;
                    from.consume(start + len);
                }
                Step::Done { consumed } => {
                    from.consume(consumed);
                    return Ok(body);
                }
                Step::NeedMore { consumed } => {
                    from.consume(consumed);
                    let truncated = || Fault::new("truncated", "its answer broke off");
                    if from.fill().await.map_err(|_| truncated())? == 0 {
                        reader.finish_on_eof().map_err(|_| truncated())?;
                        return Ok(body);
                    }
                }
            }
        }
    }

    fn take(&self, body: &mut Vec<u8>, piece: &[u8]) -> Result<(), Fault> {
        if body.len() + piece.len() > self.call.answer_bytes_max {
            return Err(self.too_large());
        }
        body.extend_from_slice(piece);
        Ok(())
    }

    fn too_large(&self) -> Fault {
        Fault::new(TOO_LARGE, format!("more than {} bytes", self.call.answer_bytes_max))
    }

    fn authority(&self) -> &[u8] {
        match &self.call.authority {
            Some(authority) => authority,
            None => self.call.server.destination.address.authority.as_bytes(),
        }
    }
}

/// The head of the answer, behind interim ones.
pub(super) async fn final_head(from: &h2::Stream, reused: bool) -> Result<ResponseHead, Failure> {
    let mut head = ResponseHead::default();
    for interim in 0..=INTERIM_MAX {
        from.response(&mut head).await.map_err(|cut| lost(from, cut, interim == 0, reused))?;
        if head.status >= 200 {
            return Ok(head);
        }
    }
    Err(Fault::new(MALFORMED_ANSWER, "no end of interim responses").into())
}

pub(super) fn unseen(text: &str) -> Failure {
    Failure::Unseen(Reuse::Any, Fault::new("closed", text))
}

pub(super) fn unavailable(error: &Unavailable) -> Fault {
    let text = match error {
        Unavailable::Connect(error) => error.to_string(),
        _ => "there is no connection".to_owned(),
    };
    Fault::new(error.reason(), text)
}

/// A stream that ended in the middle of its answer.
pub(super) fn midway(cut: Cut) -> Fault {
    match cut {
        Cut::Malformed => Fault::new(MALFORMED_ANSWER, "it broke the rules of HTTP/2"),
        Cut::Reset(_) | Cut::Lost => Fault::new("truncated", "its answer broke off"),
    }
}

/// A stream that ended before its answer began.
fn lost(from: &h2::Stream, cut: Cut, silent: bool, reused: bool) -> Failure {
    match cut {
        Cut::Reset(Code::REFUSED_STREAM) if silent => unseen("it refused the request"),
        Cut::Reset(code) => Fault::new("reset", format!("it reset the stream: {}", code.name())).into(),
        Cut::Malformed => Fault::new(MALFORMED_ANSWER, "it broke the rules of HTTP/2").into(),
        Cut::Lost => match from.refusal() {
            Some(refusal) => Fault::new(refusal.reason(), "it did not take our certificate, or wants one").into(),
            None if from.speaks_otherwise() => Fault::new(NO_HTTP2, "it speaks no HTTP/2").into(),
            None if silent && reused => Failure::Unseen(Reuse::None, Fault::new("closed", "it closed the connection")),
            None => Fault::new("closed", "it closed the connection without an answer").into(),
        },
    }
}
