//! An exchange as its policies see it: everything to read, and to change only what cannot split a message.
//!
//! The fields are this module's own, so a policy cannot reach around the setters: framing, target and status stay the proxy's.
//! In shadow nothing changes, and the policy need not know.

use std::{
    cell::Cell,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use super::{
    Authentication, Bodies, Body, Side, Wanted,
    headers::{HeaderName, Refused, is_gateways},
};
use crate::{
    http::{
        bytes::{is_field_value, is_token},
        head::{BodyLength, Fields, RequestHead, ResponseHead, Version},
        target::{check_path, normalise},
    },
    matching::rule::{RuleInput, relative},
    tls::Identity,
};

/// One exchange, from the first policy to the end. The proxy builds it anew for each turn of a chain.
pub struct Exchange<'a> {
    request: &'a mut RequestHead,
    response: &'a mut ResponseHead,
    authentication: &'a mut Authentication,
    timeouts: &'a mut Timeouts,
    /// What was read ahead of them, if anything was.
    bodies: Option<&'a mut Bodies>,
    /// Of a body that a policy puts in the place of another.
    body_bytes_max: usize,
    /// Where it goes, once that is known.
    upstream: Option<Upstream<'a>>,
    pub peer: Peer<'a>,
    pub at: At<'a>,
    /// The policy whose turn it is decides, and changes nothing.
    shadow: bool,
    refusal: Option<Refusal<'a>>,
    /// Where random numbers come from that need not be secret.
    seed: Cell<u64>,
    /// Where somebody asks what would be at another time than now.
    now: Option<SystemTime>,
    may_go_on_alone: bool,
}

/// Whom the request comes from.
#[derive(Clone, Copy)]
pub struct Peer<'a> {
    /// The client's end of the connection, or whom a trusted load balancer speaks for.
    pub address: SocketAddr,
    /// Where the API listens.
    pub local: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Whom the client's certificate names. It was verified: where the port asks for none, or none was shown, nobody.
    pub certificate: Option<&'a Identity>,
}

/// The request as its upstream is to see it: for policies of a Service.
pub struct Upstream<'a> {
    pub scheme: &'static str,
    /// The Service's, where the client's is not kept.
    pub authority: Option<&'a str>,
    /// What the route has made of the client's.
    pub path: &'a [u8],
    /// What a policy has put in the place of it all.
    pub line: &'a mut Option<Box<RequestLine>>,
}

/// What a request asks for, where that is something else than the client has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    pub method: &'static str,
    pub path: Vec<u8>,
    /// With its `?`; empty for none.
    pub query: Vec<u8>,
}

/// Why a body stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReplaced {
    /// More than `limits.bufferedBodyBytes`.
    #[error("the body is too large")]
    TooLarge,
    /// The one that is there has not been read to its end, or it is none: what follows a switch of protocols.
    #[error("the body was not read to its end")]
    Unread,
    /// The answer is the gateway's own: whoever wants another one answers it.
    #[error("the answer is the gateway's own")]
    OwnAnswer,
}

/// What says something of the bytes of a body, and would be wrong of others (RFC 9110 section 8.4, RFC 9530, RFC 1864).
const OF_BODIES: [&[u8]; 7] = [
    b"content-digest",
    b"content-encoding",
    b"content-length",
    b"content-md5",
    b"digest",
    b"repr-digest",
    b"transfer-encoding",
];

/// The answer that a policy gave in the place of an upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// What its `policyRef.name` says.
    pub policy: &'a str,
    pub status: u16,
}

/// Where the request has come to so far.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The ApiInstance's name.
    pub api: &'a str,
    /// How many bytes of the path the API's base takes.
    pub base: usize,
}

impl<'a> Exchange<'a> {
    pub fn new(
        request: &'a mut RequestHead,
        response: &'a mut ResponseHead,
        authentication: &'a mut Authentication,
        timeouts: &'a mut Timeouts,
        peer: Peer<'a>,
        at: At<'a>,
        seed: u64,
    ) -> Self {
        Self {
            request,
            response,
            authentication,
            timeouts,
            bodies: None,
            body_bytes_max: 0,
            upstream: None,
            peer,
            at,
            shadow: false,
            refusal: None,
            seed: Cell::new(seed),
            now: None,
            may_go_on_alone: false,
        }
    }

    /// `bytes_max`: how large one may be that a policy puts in the place of another.
    pub fn with_bodies(self, bodies: &'a mut Bodies, bytes_max: usize) -> Self {
        Self { bodies: Some(bodies), body_bytes_max: bytes_max, ..self }
    }

    pub fn with_upstream(self, upstream: Upstream<'a>) -> Self {
        Self { upstream: Some(upstream), ..self }
    }

    /// A request that is answered may go on without its client.
    pub fn with_way_on(self, may_go_on_alone: bool) -> Self {
        Self { may_go_on_alone, ..self }
    }

    /// Whether a policy may answer the client and have the request go on without it ([`Flow::RespondAndGoOn`](super::Flow)).
    pub fn may_go_on_alone(&self) -> bool {
        self.may_go_on_alone
    }

    /// As if it were another time; `None`: as it is.
    pub fn set_now(&mut self, now: Option<SystemTime>) {
        self.now = now;
    }

    /// What decisions go by that depend on the time.
    pub fn now(&self) -> SystemTime {
        self.now.unwrap_or_else(SystemTime::now)
    }

    /// Random, unique for all one will see, and no secret (splitmix64, twice).
    pub fn random(&self) -> u128 {
        let next = || {
            let seed = self.seed.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.seed.set(seed);
            let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        u128::from(next()) << 64 | u128::from(next())
    }

    pub fn version(&self) -> Version {
        self.request.version
    }

    pub fn method(&self) -> &[u8] {
        &self.request.method
    }

    /// The client's path in its one spelling, the API's base included.
    pub fn path(&self) -> &[u8] {
        &self.request.path
    }

    /// With its `?`, as it came; empty where there is none.
    pub fn query(&self) -> &[u8] {
        &self.request.query
    }

    /// `Host`, or what an absolute target named.
    pub fn authority(&self) -> &[u8] {
        &self.request.authority
    }

    /// The request's header, from the client as the policies before have left it.
    pub fn request_fields(&self) -> &Fields {
        &self.request.fields
    }

    pub fn request_headers(&mut self) -> Headers<'_> {
        Headers { fields: &mut self.request.fields, shadow: self.shadow }
    }

    /// Whether a connection of another protocol is asked for, which a request is no more then.
    pub fn asks_for_upgrade(&self) -> bool {
        self.request.websocket
    }

    /// Whether the answer that has come is the gateway's own: of a policy, or for want of an upstream's.
    pub fn is_own_answer(&self) -> bool {
        self.response.own.is_some()
    }

    /// Why there is an answer of the gateway's own, by its reason code.
    pub fn own_reason(&self) -> Option<&'static str> {
        self.response.own
    }

    /// Of the answer; 0 before there is one.
    pub fn status(&self) -> u16 {
        self.response.status
    }

    pub fn response_fields(&self) -> &Fields {
        &self.response.fields
    }

    pub fn response_headers(&mut self) -> Headers<'_> {
        Headers { fields: &mut self.response.fields, shadow: self.shadow }
    }

    pub fn authentication(&self) -> &Authentication {
        self.authentication
    }

    /// What was read ahead of the body: at least what the policy's [`Needs`](super::Needs) say. None where the message has no
    /// body, and of the gateway's own answers.
    pub fn body(&self, side: Side) -> Option<&Body> {
        self.bodies.as_deref().filter(|_| self.has_body(side)).map(|bodies| bodies.of(side))
    }

    /// What follows the head of a WebSocket is no body.
    pub(super) fn has_body(&self, side: Side) -> bool {
        match side {
            Side::Request => {
                let is_replaced = |bodies: &Bodies| bodies.request.is_replaced();
                let has_own = self.request.body != BodyLength::None;
                (has_own || self.bodies.as_deref().is_some_and(is_replaced)) && !self.request.websocket
            }
            Side::Response => self.response.body != BodyLength::None && !matches!(self.response.status, 101 | 205),
        }
    }

    /// For the chain: whether this much of a body is here, or there is no body.
    pub(super) fn has_read(&self, side: Side, wanted: Wanted) -> bool {
        !self.has_body(side) || self.body(side).is_some_and(|body| body.satisfies(wanted))
    }

    /// How long the request's body is, where that is known before it has come.
    pub fn request_length(&self) -> Option<u64> {
        match self.request.body {
            BodyLength::None => Some(0),
            BodyLength::Length(length) => Some(length),
            BodyLength::Chunked | BodyLength::UntilClose => self.request.content_length,
        }
    }

    /// The request's `content-length`, which is no field here.
    pub fn request_content_length(&self) -> Option<u64> {
        self.request.content_length
    }

    /// Makes the query another one: with its `?`, or empty. The path stays what rules were asked about.
    pub fn set_query(&mut self, query: &[u8]) -> Result<(), Refused> {
        let is_query = |query: &[u8]| query.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
        if !query.is_empty() && !query.strip_prefix(b"?").is_some_and(is_query) {
            return Err(Refused);
        }
        if !self.shadow {
            self.request.query.clear();
            self.request.query.extend_from_slice(query);
        }
        Ok(())
    }

    /// Makes path and query others, as if they had been asked for: the API's own stays in front, and routes are chosen by it.
    ///
    /// # Errors
    /// It is no path, or none of this API's.
    pub fn set_target(&mut self, target: &[u8]) -> Result<(), Refused> {
        let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(end);
        let is_plain = check_path(path).map_err(|_| Refused)?;
        let mut normal = Vec::new();
        if !normalise(path, is_plain, &mut normal) {
            normal.extend_from_slice(path);
        }
        let base = &self.request.path[..self.at.base];
        let is_below = normal.strip_prefix(base).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')));
        if !is_below {
            return Err(Refused);
        }
        self.set_query(query)?;
        if !self.shadow {
            self.request.path = normal;
        }
        Ok(())
    }

    /// Makes the method another one. What has no body in its response, and what asks for one, stays what it is.
    pub fn set_method(&mut self, method: &[u8]) {
        let keeps = |method: &[u8]| matches!(method, b"HEAD" | b"CONNECT" | b"TRACE" | b"PRI");
        let may_be = is_token(method) && !keeps(method) && !keeps(&self.request.method);
        if may_be && !self.shadow && !self.request.websocket {
            self.request.method.clear();
            self.request.method.extend_from_slice(method);
        }
    }

    /// How long the response's body says it is.
    pub fn response_length(&self) -> Option<u64> {
        self.response.content_length
    }

    /// Has the upstream get this body instead of the client's, every time that it is asked. The message is framed anew by it; its
    /// trailers stay. Headers that speak of the old bytes go, `content-encoding` among them: `content-type`, and what speaks of
    /// the new ones, is for the policy to say.
    ///
    /// # Errors
    /// Nothing has changed. A policy that needs the whole body ([`Need::Buffer`](super::Need)) never finds it unread.
    pub fn replace_request_body(&mut self, bytes: &[u8]) -> Result<(), NotReplaced> {
        if self.request.websocket {
            return Err(NotReplaced::Unread);
        }
        self.replace_body(Side::Request, bytes)
    }

    /// The same of the response, towards the client. One that can have no body, by its status or to `HEAD`, is framed as if it
    /// had this one, and has none.
    ///
    /// # Errors
    /// As for the request; and an answer of the gateway's own has no other body, but another answer.
    pub fn replace_response_body(&mut self, bytes: &[u8]) -> Result<(), NotReplaced> {
        if self.is_own_answer() {
            return Err(NotReplaced::OwnAnswer);
        }
        if self.response.status == 101 {
            return Err(NotReplaced::Unread);
        }
        self.replace_body(Side::Response, bytes)?;
        if !self.shadow {
            self.frame_response(bytes.len());
        }
        Ok(())
    }

    fn frame_response(&mut self, bytes: usize) {
        let length = bytes as u64;
        let is_to_head = self.request.method == b"HEAD";
        // What is empty to HEAD says nothing of the length that GET would have (RFC 9110, section 8.6).
        self.response.content_length = Some(length).filter(|length| *length > 0 || !is_to_head);
        self.response.body = match length {
            _ if is_to_head => BodyLength::None,
            0 => BodyLength::None,
            length => BodyLength::Length(length),
        };
    }

    /// Has the other side get this body instead of the message's own, whose bytes go nowhere: it need not have been read, and
    /// what is left of it is not. The message is framed anew by it, and its trailers stay where they are known. Its headers stay,
    /// too, for the policy to say what is right of the new bytes.
    ///
    /// # Errors
    /// Nothing has changed: it is too large, or what follows is no body.
    pub fn replace_message(&mut self, side: Side, bytes: &[u8]) -> Result<(), NotReplaced> {
        let is_none = match side {
            Side::Request => self.request.websocket,
            Side::Response => self.response.own.is_some() || self.response.status == 101,
        };
        let Some(bodies) = self.bodies.as_deref_mut().filter(|_| !is_none) else { return Err(NotReplaced::Unread) };
        if bytes.len() > self.body_bytes_max {
            return Err(NotReplaced::TooLarge);
        }
        if self.shadow {
            return Ok(());
        }
        let body = match side {
            Side::Request => &mut bodies.request,
            Side::Response => &mut bodies.response,
        };
        let trailers = body.take_trailers();
        let has_trailers = trailers.as_ref().is_some_and(|trailers| !trailers.is_empty());
        *body = Body::discarding(bytes).with_trailers(trailers);
        if side == Side::Response {
            self.frame_response(bytes.len());
            if has_trailers && self.request.method != b"HEAD" {
                (self.response.body, self.response.content_length) = (BodyLength::Chunked, None);
            }
        }
        Ok(())
    }

    /// Has the other side get these bytes instead of what was read ahead of a body; the rest follows. How long it all is nobody
    /// knows any more.
    ///
    /// # Errors
    /// Nothing has changed: nothing was read, or they are too many.
    pub fn replace_beginning(&mut self, side: Side, bytes: &[u8]) -> Result<(), NotReplaced> {
        let Some(bodies) = self.bodies.as_deref_mut() else { return Err(NotReplaced::Unread) };
        if bytes.len() > self.body_bytes_max {
            return Err(NotReplaced::TooLarge);
        }
        if self.shadow {
            return Ok(());
        }
        match side {
            Side::Request => {
                bodies.request = Body::rewriting(bytes);
                (self.request.body, self.request.content_length) = (BodyLength::Chunked, None);
            }
            Side::Response => {
                bodies.response = Body::rewriting(bytes);
                (self.response.body, self.response.content_length) = (BodyLength::Chunked, None);
            }
        }
        Ok(())
    }

    /// The body of an answer of the gateway's own, which one who changes bodies may change too.
    pub fn own_body(&self) -> Option<&Body> {
        self.bodies.as_deref().filter(|_| self.response.own.is_some()).map(|bodies| &bodies.response)
    }

    /// Has the client get this body in the place of the own answer's.
    pub fn replace_own_body(&mut self, bytes: &[u8]) {
        if let Some(bodies) = self.bodies.as_deref_mut().filter(|_| self.response.own.is_some() && !self.shadow) {
            bodies.response = Body::replacing(bytes);
        }
    }

    /// For the chain: an answer's body, in the place of what was read of another response.
    pub(super) fn set_own_body(&mut self, body: Body) {
        if let Some(bodies) = self.bodies.as_deref_mut() {
            bodies.response = body;
        }
    }

    /// The trailers of a body that was read to its end, to change them.
    pub fn trailers(&mut self, side: Side) -> Option<Headers<'_>> {
        let shadow = self.shadow;
        let bodies = self.bodies.as_deref_mut()?;
        let body = match side {
            Side::Request => &mut bodies.request,
            Side::Response => &mut bodies.response,
        };
        body.trailers_mut().as_mut().map(|fields| Headers { fields, shadow })
    }

    /// Has the upstream told how long the request's body is, where it was read whole and the client has not said so. Trailers
    /// stay, and leave it chunked.
    pub fn tell_request_length(&mut self) {
        let is_untold = self.request.body == BodyLength::Chunked && self.request.content_length.is_none();
        if let Some(bodies) = self.bodies.as_deref_mut().filter(|_| is_untold && !self.shadow) {
            bodies.request.stand_for_itself();
        }
    }

    fn replace_body(&mut self, side: Side, bytes: &[u8]) -> Result<(), NotReplaced> {
        if self.has_body(side) && !self.body(side).is_some_and(Body::is_whole) {
            return Err(NotReplaced::Unread);
        }
        let Some(bodies) = self.bodies.as_deref_mut() else { return Err(NotReplaced::Unread) };
        if bytes.len() > self.body_bytes_max {
            return Err(NotReplaced::TooLarge);
        }
        if self.shadow {
            return Ok(());
        }
        let (body, fields) = match side {
            Side::Request => (&mut bodies.request, &mut self.request.fields),
            Side::Response => (&mut bodies.response, &mut self.response.fields),
        };
        *body = Body::replacing(bytes);
        fields.retain(|field| !OF_BODIES.iter().any(|name| field.name.eq_ignore_ascii_case(name)));
        Ok(())
    }

    /// Makes the upstream's final response have another status, of 200 to 599. A body that it cannot have is left unread.
    ///
    /// # Errors
    /// It stays: an answer of the gateway's own, or a switch of protocols, or no such status.
    pub fn set_response_status(&mut self, status: u16) -> Result<(), NotReplaced> {
        if self.is_own_answer() {
            return Err(NotReplaced::OwnAnswer);
        }
        if self.response.status < 200 || !(200..600).contains(&status) {
            return Err(NotReplaced::Unread);
        }
        if !self.shadow {
            let is_of_another = self.response.status == 304 && self.response.body == BodyLength::None;
            if is_of_another || status == 304 {
                // It is the length of what the client has already, which nobody knows here (RFC 9110, section 8.6).
                self.response.content_length = None;
            }
            self.response.status = status;
        }
        Ok(())
    }

    /// What the upstream is to be asked for: method, path and query; `None` where nobody knows the upstream yet.
    pub fn upstream_line(&self) -> Option<(&[u8], &[u8], &[u8])> {
        let upstream = self.upstream.as_ref()?;
        Some(match &*upstream.line {
            Some(line) => (line.method.as_bytes(), &line.path, &line.query),
            None => (&self.request.method, upstream.path, &self.request.query),
        })
    }

    /// Has the upstream asked for something else. What is said of the request elsewhere stays the client's: in logs, and whether
    /// its answer has a body.
    pub fn set_upstream_line(&mut self, line: RequestLine) {
        debug_assert!(line.path.first() == Some(&b'/') && matches!(line.query.first(), None | Some(b'?')));
        if let Some(upstream) = self.upstream.as_mut().filter(|_| !self.shadow) {
            *upstream.line = Some(Box::new(line));
        }
    }

    /// The `Host` that the upstream is to see.
    pub fn upstream_authority(&self) -> &[u8] {
        let own = self.upstream.as_ref().and_then(|upstream| upstream.authority);
        own.map_or(&self.request.authority, str::as_bytes)
    }

    /// Lets a policy say who the client is.
    pub fn authenticate(&mut self, say: impl FnOnce(&mut Authentication)) {
        if !self.shadow {
            say(self.authentication);
        }
    }

    /// How long the upstream may take to answer, once it has the whole request; `None`: any time. What is said in the request
    /// direction counts, for every try.
    pub fn set_response_timeout(&mut self, limit: Option<Duration>) {
        if !self.shadow {
            self.timeouts.response = limit;
        }
    }

    /// How long no byte may move in either direction; `None`: any time.
    pub fn set_stream_idle_timeout(&mut self, limit: Option<Duration>) {
        if !self.shadow {
            self.timeouts.stream_idle = limit;
        }
    }

    /// What rules look at, as the request is now.
    pub fn rule_input(&self) -> RuleInput<'_> {
        RuleInput {
            path: relative(&self.request.path, self.at.base),
            authority: &self.request.authority,
            method: &self.request.method,
            fields: &self.request.fields,
        }
    }

    /// Whether a policy has answered so far, in either direction; the last one that did.
    pub fn refusal(&self) -> Option<Refusal<'a>> {
        self.refusal
    }

    /// Whether the policy whose turn it is changes nothing: for what is no change of the exchange.
    pub fn is_in_shadow(&self) -> bool {
        self.shadow
    }

    /// For the chain: whether the policy whose turn comes is in shadow.
    pub(super) fn set_shadow(&mut self, shadow: bool) {
        self.shadow = shadow;
    }

    /// For the chain: a policy has answered.
    pub(super) fn set_refusal(&mut self, refusal: Refusal<'a>) {
        self.refusal = Some(refusal);
    }

    /// For the chain: an answer in the place of the upstream's.
    pub(super) fn response_head(&mut self) -> &mut ResponseHead {
        self.response
    }
}

/// The header of a message. Names are checked when they become a [`HeaderName`], values when they are written.
pub struct Headers<'a> {
    fields: &'a mut Fields,
    shadow: bool,
}

impl<'a> Headers<'a> {
    /// Of no exchange: of trailers, or of an answer that is being made.
    pub(super) fn of(fields: &'a mut Fields) -> Self {
        Self { fields, shadow: false }
    }

    /// The first value of a name, in any case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// Every value of a name, and another one behind them, in one line.
    pub fn joined(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        self.fields.values(name).chain([value]).collect::<Vec<_>>().join(&b',')
    }

    /// Makes the name have this one value.
    pub fn set(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Refused> {
        self.write(value, |fields| fields.set(name.as_bytes(), value))
    }

    /// Adds a line behind the others.
    pub fn append(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Refused> {
        self.write(value, |fields| fields.append(name.as_bytes(), value))
    }

    /// Takes away every line whose name this holds for; the gateway's own stay.
    pub fn remove_if(&mut self, mut goes: impl FnMut(&[u8]) -> bool) {
        if !self.shadow {
            self.fields.retain(|field| is_gateways(field.name) || !goes(field.name));
        }
    }

    fn write(&mut self, value: &[u8], write: impl FnOnce(&mut Fields)) -> Result<(), Refused> {
        if !is_field_value(value) {
            return Err(Refused);
        }
        if !self.shadow {
            write(self.fields);
        }
        Ok(())
    }
}

/// The time limits of one exchange: the replica's, until a policy says otherwise. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    pub response: Option<Duration>,
    pub stream_idle: Option<Duration>,
}

#[cfg(test)]
mod tests;
