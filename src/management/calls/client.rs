//! The client of all calls: HTTP/1.1 over connections that are kept, within a time and a size.
//!
//! Nothing is followed: a redirect would have somebody else say what counts. What went wrong on a connection that had served
//! before is tried once more on a new one, where nothing was sent or asking twice is no harm.

use std::{
    convert::Infallible,
    error::Error,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::{
    Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header,
};
use tokio::time::Instant;

use super::{
    Counts,
    directories::Directories,
    place::{Place, Sender},
    places::Places,
};
use crate::{
    calls::{
        Answer, Call, Destination, LogIn, ProxyServer, Verdict, circuit::is_failure, forward_proxy::unauthenticated,
        outcome,
    },
    http::head::Fields,
    management::{health::lost, resolver::Resolve},
    telemetry::fault::Fault,
};

const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"));

pub struct Client<R> {
    resolver: R,
    places: Places<Place>,
    directories: Directories,
    counts: Arc<Counts>,
}

/// Why there is no answer, and whether it may be asked for again.
struct Failure {
    fault: Fault,
    nothing_sent: bool,
}

impl<R: Resolve> Client<R> {
    pub fn new(resolver: R) -> Self {
        Self { resolver, places: Places::default(), directories: Directories::default(), counts: Arc::default() }
    }

    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Asks a directory; counted as calls are.
    pub async fn log_in(&self, log_in: LogIn) -> Result<Verdict, Fault> {
        let began = Instant::now();
        let verdict = self.directories.log_in(&log_in, &self.resolver).await;
        let outcome = match &verdict {
            Ok(verdict) => verdict.outcome(),
            Err(Fault { reason, text }) => {
                tracing::debug!(reason, policy = log_in.policy, binding = log_in.binding, "{log_in}: {text}");
                reason
            }
        };
        self.counts.count(log_in.policy, log_in.directory.origin(), outcome, began.elapsed());
        verdict
    }

    /// Counted, and told to the destination's circuit.
    pub async fn call(&self, call: Call) -> Result<Answer, Fault> {
        let place = self.places.get(call.destination.identity(), || Place::new(call.destination.clone()));
        let began = Instant::now();
        let is_well = |answer: &Answer| !is_failure(answer.status);
        let answer = place.gate.pass(call.time_max, || self.steps(&place, &call), is_well).await;
        if let Err(fault) = &answer {
            let Fault { reason, text } = fault;
            tracing::debug!(reason, policy = call.policy, binding = call.binding, "{call}: {text}");
        }
        self.counts.count(
            call.policy,
            call.destination.origin(),
            outcome(answer.as_ref().map(|answer| answer.status)),
            began.elapsed(),
        );
        answer
    }

    async fn steps(&self, place: &Place, call: &Call) -> Result<Answer, Fault> {
        if let Some(kept) = place.take_idle() {
            match ask(place, kept, call).await {
                Err(Failure { fault, nothing_sent })
                    if nothing_sent || (call.idempotent && fault.reason == "closed") => {}
                answered => return answered.map_err(|failure| failure.fault),
            }
        }
        // Boxed: it is over when the answer is waited for.
        let fresh = Box::pin(place.connect(&self.resolver)).await?;
        ask(place, fresh, call).await.map_err(|failure| failure.fault)
    }
}

/// One request and its whole answer; the connection is kept afterwards where it may be.
async fn ask(place: &Place, mut sender: Sender, call: &Call) -> Result<Answer, Failure> {
    let own = |fault| Failure { fault, nothing_sent: false };
    let request = request(call).map_err(own)?;
    let response = sender.try_send_request(request).await.map_err(|mut error| {
        let nothing_sent = error.take_message().is_some();
        Failure { fault: said(error.error()), nothing_sent }
    })?;
    let (head, body) = response.into_parts();
    if to_proxy(call).is_some() && head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(own(unauthenticated()));
    }
    // Nobody knows what has become of a body that broke off: only what has not begun is asked for again.
    let body = read(body, call.answer_bytes_max).await.map_err(|fault| match fault.reason {
        "closed" => own(Fault { reason: "truncated", ..fault }),
        _ => own(fault),
    })?;
    let answer = answer(&Response::from_parts(head, ()), body);
    place.keep(sender);
    Ok(answer)
}

/// Whom the request itself is for, where that is the forward proxy.
fn to_proxy(call: &Call) -> Option<&ProxyServer> {
    let Destination { proxy, address, .. } = &*call.destination;
    proxy.as_ref().filter(|_| !address.secure)?.server.as_ref()
}

fn request(call: &Call) -> Result<Request<Full>, Fault> {
    let destination = &call.destination;
    let proxy = to_proxy(call);
    // In absolute form for a proxy (RFC 9112 section 3.2.2).
    let target = match proxy {
        Some(_) => format!("{}{}", destination.origin(), call.target),
        None => call.target.clone(),
    };
    let mut builder = Request::builder()
        .method(call.method)
        .uri(target)
        .header(header::HOST, &*destination.address.authority)
        .header(header::USER_AGENT, USER_AGENT);
    if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.as_deref()) {
        builder = builder.header(header::PROXY_AUTHORIZATION, authorization);
    }
    for field in call.headers.iter() {
        builder = builder.header(field.name, field.value);
    }
    let body = Full(Some(Bytes::copy_from_slice(&call.body)).filter(|body| !body.is_empty()));
    builder.body(body).map_err(|error| Fault::new("cannot_be_sent", error.to_string()))
}

fn answer(head: &Response<()>, body: Vec<u8>) -> Answer {
    let mut headers = Fields::default();
    head.headers().iter().for_each(|(name, value)| headers.append(name.as_str().as_bytes(), value.as_bytes()));
    Answer { status: head.status().as_u16(), headers, body }
}

async fn read(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let too_large = || Fault::new("too_large", format!("more than {bytes_max} bytes"));
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| said(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// What the library says of an answer that did not come.
fn said(error: &hyper::Error) -> Fault {
    if error.is_parse() {
        return Fault::new("malformed_answer", error.to_string());
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return lost(io::Error::new(error.kind(), error.to_string()));
        }
        cause = inner.source();
    }
    Fault::new("closed", error.to_string())
}

/// A body in one piece, or none.
pub struct Full(Option<Bytes>);

impl Body for Full {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}
