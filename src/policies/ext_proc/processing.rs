//! One exchange with its processor, message by message.
//!
//! Of each message of HTTP its header is asked about first, then its body, then its trailers, each where the modes say so. What
//! was read ahead of a body is asked about in the policy's turn; what passes later, piece by piece as it does.

use std::mem::take;

use super::{
    ExtProc, State, immediate,
    messages::{BodyMutation, CONTINUE_AND_REPLACE, CommonResponse, ProcessingRequest, ProcessingResponse},
    modes::{BodyMode, Modes},
    mutation, said,
    wire::{self, TARGET},
};
use crate::{
    calls::{Heard, Talk, Talking, direct::MALFORMED_ANSWER, talk::Speaker},
    policies::{Body, Exchange, Flow, Headers, Passing, Question, Reply, Side, Wanted, grpc},
    telemetry::fault::Fault,
};

pub struct Processing {
    /// Once something was said, and while there is something to say.
    talk: Option<Talking>,
    is_over: bool,
    is_told_modes: bool,
    /// It is a call of gRPC.
    is_call: bool,
    modes: Modes,
    request: Message,
    response: Message,
    /// Of the processor's own answer.
    raw: immediate::Raw,
}

/// One message of HTTP.
#[derive(Default)]
struct Message {
    phase: Phase,
    /// What its `content-length` says, as the processor has left it.
    length: Option<u64>,
    /// Its body, or what follows it, is asked about as it passes.
    passes: bool,
    is_done: bool,
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Headers,
    /// Its body is read.
    Reading,
    Body,
    Trailers,
}

/// Why nothing can be made of a reply.
enum Unusable {
    /// There is none, or one that is no reply to this.
    Fault(Fault),
    /// It says what cannot be done.
    Refused(Fault),
    /// The processor wants to hear no more.
    Closed,
    /// It answers itself.
    Answered(Box<super::messages::ImmediateResponse>),
}

impl From<Fault> for Unusable {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Processing {
    pub fn new(modes: Modes, is_call: bool) -> Self {
        Self {
            talk: None,
            is_over: false,
            is_told_modes: false,
            is_call,
            modes,
            request: Message::default(),
            response: Message::default(),
            raw: Vec::new(),
        }
    }

    /// Nothing more is asked.
    pub fn end(&mut self) {
        self.is_over = true;
        self.talk = None;
    }

    /// The same, in the middle of it.
    pub fn give_up(&mut self, fault: &Fault) {
        if let Some(talk) = &self.talk {
            talk.fail(fault);
        }
        self.end();
    }

    /// Whether what passes of this body is asked about.
    pub fn passes(&self, side: Side) -> bool {
        let message = match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        };
        message.passes && !self.is_over
    }

    fn message(&mut self, side: Side) -> &mut Message {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Nothing more is asked about this message.
    fn done(&mut self, side: Side) {
        self.message(side).is_done = true;
        let is_response_done = self.response.is_done || self.modes.response.is_silent();
        if self.request.is_done && is_response_done {
            self.talk = None;
            self.is_told_modes = false;
        }
    }
}

impl ExtProc {
    /// The turn of a message begins.
    pub(super) fn begin(&self, processing: &mut Processing, side: Side, exchange: &mut Exchange<'_>) -> Flow {
        if processing.is_over {
            immediate::tell(&take(&mut processing.raw), &mut exchange.response_headers());
            return Flow::Continue;
        }
        let sends_headers = processing.modes.of(side).headers;
        let length = match side {
            Side::Request => exchange.request_content_length(),
            Side::Response => exchange.response_length(),
        };
        *processing.message(side) = Message { length: length.filter(|_| sends_headers), ..Message::default() };
        match sends_headers {
            true => {
                let said = said::headers(side, !has_body(side, exchange), self.raw_headers, exchange);
                self.say(processing, side, Phase::Headers, said)
            }
            false => self.ask_body(processing, side, exchange),
        }
    }

    /// What has been waited for is there.
    pub(super) fn go_on(
        &self,
        processing: &mut Processing,
        state: &State,
        exchange: &mut Exchange<'_>,
        reply: Reply,
    ) -> Flow {
        // A turn is of the response once there is one.
        let side = if exchange.status() == 0 { Side::Request } else { Side::Response };
        let done = match (take(&mut processing.message(side).phase), reply) {
            (Phase::Reading, Reply::Read) => return self.say_body(processing, side, exchange),
            (phase, reply) => self.heard(processing, side, phase, exchange, reply),
        };
        let fault = processing.talk.as_ref().and_then(|talk| talk.fault());
        match (done, fault) {
            (Ok(Flow::Continue), Some(fault)) => self.unusable(processing, state, Unusable::Fault(fault)),
            (Ok(flow), _) => flow,
            (Err(unusable), _) => self.give_way(processing, state, unusable),
        }
    }

    /// There is no reply to go on with.
    fn give_way(&self, processing: &mut Processing, state: &State, unusable: Unusable) -> Flow {
        match unusable {
            Unusable::Answered(said) => {
                processing.end();
                let (answer, raw) = immediate::answer(*said, processing.is_call);
                processing.raw = raw;
                Flow::respond(answer)
            }
            unusable => self.unusable(processing, state, unusable),
        }
    }

    /// A piece of a body passes, or has waited for the reply.
    pub(super) fn pass(
        &self,
        processing: &mut Processing,
        state: &State,
        passing: &mut Passing,
        reply: Option<Reply>,
    ) -> Flow {
        if processing.is_over {
            return Flow::Continue;
        }
        let side = passing.side;
        let modes = *processing.modes.of(side);
        let phase = take(&mut processing.message(side).phase);
        match reply {
            None => {
                let is_all = passing.is_last && passing.trailers.is_empty();
                if modes.body == BodyMode::Streamed && (is_all || !passing.bytes.is_empty()) {
                    let said = said::body(side, passing.bytes.clone(), is_all);
                    return self.say(processing, side, Phase::Body, said);
                }
            }
            Some(reply) => match self.passed(side, phase, passing, reply) {
                Ok(()) => {}
                Err(unusable) => return self.give_way(processing, state, unusable),
            },
        }
        if passing.is_last {
            if modes.trailers && phase != Phase::Trailers && !passing.trailers.is_empty() {
                let said = said::trailers(side, &passing.trailers, self.raw_headers);
                return self.say(processing, side, Phase::Trailers, said);
            }
            processing.done(side);
        }
        Flow::Continue
    }

    /// Does what the reply to a piece says.
    fn passed(&self, side: Side, phase: Phase, passing: &mut Passing, reply: Reply) -> Result<(), Unusable> {
        let said = message(reply)?;
        match phase {
            Phase::Trailers => {
                let mutation = wire::trailers(side, said).ok_or_else(odd)?.header_mutation.unwrap_or_default();
                mutation::write(&mutation, &mut Headers::of(&mut passing.trailers)).map_err(Unusable::Refused)
            }
            // Its headers have gone.
            Phase::Body => {
                let reply = wire::body(side, said).ok_or_else(odd)?.response.unwrap_or_default();
                if let Some(bytes) = reply.body_mutation.and_then(BodyMutation::bytes) {
                    passing.bytes = bytes;
                }
                Ok(())
            }
            Phase::Idle | Phase::Headers | Phase::Reading => Err(odd()),
        }
    }

    /// Does what the reply in a turn says, and asks what is next.
    fn heard(
        &self,
        processing: &mut Processing,
        side: Side,
        phase: Phase,
        exchange: &mut Exchange<'_>,
        reply: Reply,
    ) -> Result<Flow, Unusable> {
        let said = message(reply)?;
        match phase {
            Phase::Headers => {
                if let Some(by) = said.mode_override.as_ref().filter(|_| self.allows_override) {
                    processing.modes = self.modes.overridden(by);
                }
                let reply = wire::headers(side, said).ok_or_else(odd)?.response.unwrap_or_default();
                self.change_headers(processing, side, &reply, exchange)?;
                if reply.status != CONTINUE_AND_REPLACE {
                    return Ok(self.ask_body(processing, side, exchange));
                }
                if let Some(mutation) = reply.body_mutation {
                    let bytes = mutation.bytes().unwrap_or_default();
                    match side == Side::Response && exchange.is_own_answer() {
                        true => exchange.replace_own_body(&bytes),
                        false => exchange.replace_message(side, &bytes).map_err(|why| refused(&why))?,
                    }
                }
                processing.done(side);
                Ok(Flow::Continue)
            }
            Phase::Body => {
                let reply = wire::body(side, said).ok_or_else(odd)?.response.unwrap_or_default();
                self.change_headers(processing, side, &reply, exchange)?;
                if let Some(bytes) = reply.body_mutation.and_then(BodyMutation::bytes) {
                    self.change_body(processing, side, &bytes, exchange)?;
                }
                Ok(self.ask_trailers(processing, side, exchange))
            }
            Phase::Trailers => {
                let mutation = wire::trailers(side, said).ok_or_else(odd)?.header_mutation.unwrap_or_default();
                if let Some(mut trailers) = exchange.trailers(side) {
                    mutation::write(&mutation, &mut trailers).map_err(Unusable::Refused)?;
                }
                processing.done(side);
                Ok(Flow::Continue)
            }
            Phase::Idle | Phase::Reading => Err(odd()),
        }
    }

    fn change_headers(
        &self,
        processing: &mut Processing,
        side: Side,
        reply: &CommonResponse,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Unusable> {
        let Some(mutation) = &reply.header_mutation else { return Ok(()) };
        let replaces = reply.status == CONTINUE_AND_REPLACE;
        let of = mutation::Of { side, replaces, length: &mut processing.message(side).length };
        mutation::apply(mutation, of, exchange).map_err(Unusable::Refused)
    }

    /// Of what was read ahead.
    fn change_body(
        &self,
        processing: &mut Processing,
        side: Side,
        bytes: &[u8],
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Unusable> {
        let told = processing.message(side).length.filter(|_| processing.modes.of(side).body == BodyMode::Buffered);
        if told.is_some_and(|told| told != bytes.len() as u64) {
            return Err(refused(&"a body that is not as long as the content-length that it has left"));
        }
        if side == Side::Response && exchange.is_own_answer() {
            exchange.replace_own_body(bytes);
            return Ok(());
        }
        let is_whole = exchange.body(side).is_some_and(|body| body.is_whole());
        let replaced = match is_whole {
            true => exchange.replace_message(side, bytes),
            false => exchange.replace_beginning(side, bytes),
        };
        replaced.map_err(|why| refused(&why))
    }

    /// The header may go on: what of the body is asked about, and when.
    fn ask_body(&self, processing: &mut Processing, side: Side, exchange: &mut Exchange<'_>) -> Flow {
        if !has_body(side, exchange) {
            processing.done(side);
            return Flow::Continue;
        }
        let is_own = side == Side::Response && exchange.is_own_answer();
        let is_read = read(side, exchange).is_some_and(|body| body.is_whole() || !body.is_empty());
        let wanted = match processing.modes.of(side).body {
            BodyMode::None => return self.ask_trailers(processing, side, exchange),
            BodyMode::Streamed | BodyMode::Buffered | BodyMode::BufferedPartial if is_own => {
                return self.say_body(processing, side, exchange);
            }
            BodyMode::Streamed if is_read => return self.say_body(processing, side, exchange),
            BodyMode::Streamed => Wanted::Received,
            BodyMode::Buffered => Wanted::Whole,
            BodyMode::BufferedPartial => Wanted::First(usize::MAX),
        };
        processing.message(side).phase = Phase::Reading;
        Flow::Wait(Box::new(Question::Body(wanted)))
    }

    /// Asks about what was read ahead.
    fn say_body(&self, processing: &mut Processing, side: Side, exchange: &mut Exchange<'_>) -> Flow {
        let Some(body) = read(side, exchange) else { return self.ask_trailers(processing, side, exchange) };
        let has_trailers = body.trailers().is_some_and(|trailers| !trailers.is_empty());
        if body.is_empty() && (has_trailers || !body.is_whole()) {
            return self.ask_trailers(processing, side, exchange);
        }
        let said = said::body(side, body.to_vec(), body.is_whole() && !has_trailers);
        self.say(processing, side, Phase::Body, said)
    }

    /// What is behind what was read ahead: trailers that are here, or what passes later.
    fn ask_trailers(&self, processing: &mut Processing, side: Side, exchange: &mut Exchange<'_>) -> Flow {
        let modes = *processing.modes.of(side);
        let body = read(side, exchange).filter(|body| body.is_whole());
        match body.map(|body| body.trailers().filter(|trailers| !trailers.is_empty())) {
            Some(Some(trailers)) if modes.trailers => {
                let said = said::trailers(side, trailers, self.raw_headers);
                return self.say(processing, side, Phase::Trailers, said);
            }
            None if modes.trailers || modes.body == BodyMode::Streamed => processing.message(side).passes = true,
            Some(_) | None => processing.done(side),
        }
        Flow::Continue
    }

    /// Says something of a message, and waits for the reply.
    fn say(&self, processing: &mut Processing, side: Side, phase: Phase, mut said: ProcessingRequest) -> Flow {
        if !std::mem::replace(&mut processing.is_told_modes, true) {
            said.protocol_config = Some(processing.modes.told());
        }
        processing.message(side).phase = phase;
        let talk = processing.talk.get_or_insert_with(|| {
            Talking::new(Talk::new(self.server.clone(), TARGET, wire::sort, wire::told, self.more_time_max))
        });
        let speaker = match side {
            Side::Request => Speaker::Request,
            Side::Response => Speaker::Response,
        };
        let hear = talk.say(speaker, grpc::framed(&said), self.time_max);
        Flow::Wait(Box::new(Question::Hear(hear)))
    }

    /// There is no reply that could be used: the rest of the exchange goes on without, or no further.
    fn unusable(&self, processing: &mut Processing, state: &State, unusable: Unusable) -> Flow {
        let (fault, passes) = match unusable {
            Unusable::Closed | Unusable::Answered(_) => {
                processing.end();
                return Flow::Continue;
            }
            Unusable::Fault(fault) => (fault, self.passes_on_failure),
            // As Envoy: what it has said cannot be ignored.
            Unusable::Refused(fault) => (fault, false),
        };
        let Fault { reason, text } = &fault;
        tracing::debug!(reason, policy = super::NAME, "no reply of {}: {text}", self.server.origin());
        processing.give_up(&fault);
        match passes {
            true => Flow::Continue,
            false => Flow::Respond(state.failed.clone()),
        }
    }
}

/// Whether there is a body to ask about: also of an answer of the gateway's own, such as one that was stored.
fn has_body(side: Side, exchange: &Exchange<'_>) -> bool {
    let is_own = side == Side::Response && exchange.own_body().is_some_and(|body| !body.is_empty());
    is_own || exchange.has_body(side)
}

/// What was read of it.
fn read<'x>(side: Side, exchange: &'x Exchange<'_>) -> Option<&'x Body> {
    match side {
        Side::Response if exchange.is_own_answer() => exchange.own_body(),
        side => exchange.body(side),
    }
}

/// What was heard.
fn message(reply: Reply) -> Result<ProcessingResponse, Unusable> {
    let said = match reply {
        Reply::Heard(Ok(Heard::Message(message))) => wire::decode(&message)?,
        Reply::Heard(Ok(Heard::Closed)) => return Err(Unusable::Closed),
        Reply::Heard(Err(fault)) => return Err(fault.into()),
        Reply::Time | Reply::Signal | Reply::Called(_) | Reply::Read => {
            return Err(Fault::new("timeout", "there is no reply").into());
        }
    };
    match said.immediate_response {
        Some(immediate) => Err(Unusable::Answered(Box::new(immediate))),
        None => Ok(said),
    }
}

fn odd() -> Unusable {
    Unusable::Fault(Fault::new(MALFORMED_ANSWER, "it is a reply to something else"))
}

fn refused(why: &impl std::fmt::Display) -> Unusable {
    Unusable::Refused(Fault::new(MALFORMED_ANSWER, format!("it says another body: {why}")))
}
