//! External processing: another service sees each request and its response, header, body and trailers, and may change them, by
//! Envoy's protocol.
//!
//! There is one stream of gRPC for each exchange, and one message of each direction under way on it. What the processor has
//! not replied to goes no further. Whatever goes wrong ends the conversation for the rest of the exchange.

mod config;
mod immediate;
mod messages;
mod modes;
mod mutation;
mod processing;
mod said;
#[cfg(test)]
mod tests;
mod wire;

use std::{rc::Rc, sync::Arc, time::Duration};

use self::{
    config::Config,
    modes::{BodyMode, Modes, Of},
    processing::Processing,
};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Field, Flow, LocalResponse, Need, Needs, Passing, Policy, Reply,
    Side, Site, Turn, grpc,
};
use crate::calls::Server;

const NAME: &str = "native-ext-proc-flex";
const ANSWERED: &str = "ext_proc_answered";
const FAILED: &str = "ext_proc_failed";

/// Who is asked about what, and how.
#[derive(Debug)]
pub struct ExtProc {
    server: Arc<Server>,
    /// For a reply; and the most that the processor may ask for.
    time_max: Duration,
    more_time_max: Duration,
    passes_on_failure: bool,
    allows_override: bool,
    modes: Modes,
    /// Headers are told as bytes, which text may not be.
    raw_headers: bool,
}

pub struct State {
    failed: Rc<LocalResponse>,
}

/// What is known of one exchange, once it has begun.
#[derive(Default)]
pub struct Kept(Option<Box<Processing>>);

impl Policy for ExtProc {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Transformation);
    const FIELDS: &'static [Field] = config::FIELDS;
    const ANSWERS: &'static [Answers] = &[
        Answers { status: 200, reason: ANSWERED, when: "the processor answers itself; the status is what it says" },
        Answers {
            status: 500,
            reason: FAILED,
            when: "the processor cannot be reached, does not reply in `messageTimeout`, or not as it should",
        },
    ];

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        config.compile(site)
    }

    fn state(&self, _: &Core) -> State {
        let answer = LocalResponse {
            status: 500,
            stored: None,
            headers: Vec::new(),
            body: b"".into(),
            content_type: None,
            reason: FAILED,
        };
        State { failed: Rc::new(answer) }
    }

    /// Whether it changes a body may be said by a reply.
    fn needs(&self) -> Needs {
        let need = |modes: &Of| match self.allows_override || modes.body != BodyMode::None || modes.trailers {
            true => Need::Change,
            false => Need::None,
        };
        Needs { request: need(&self.modes.request), response: need(&self.modes.response) }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let is_call = grpc::is_call(exchange);
        let processing = turn.kept.0.insert(Box::new(Processing::new(self.modes, is_call)));
        if exchange.is_in_shadow() && !self.modes.request.headers {
            // It would be asked later, of what it must not change.
            processing.end();
        }
        self.begin(processing, Side::Request, exchange)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        match &mut turn.kept.0 {
            Some(processing) => self.begin(processing, Side::Response, exchange),
            None => Flow::Continue,
        }
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, reply: Reply) -> Flow {
        let Some(processing) = &mut turn.kept.0 else { return Flow::Continue };
        self.go_on(processing, turn.state, exchange, reply)
    }

    fn changes(&self, kept: &Kept, side: Side) -> bool {
        kept.0.as_ref().is_some_and(|processing| processing.passes(side))
    }

    fn on_passing(&self, turn: Turn<'_, Self>, passing: &mut Passing, reply: Option<Reply>) -> Flow {
        match &mut turn.kept.0 {
            Some(processing) => self.pass(processing, turn.state, passing, reply),
            None => Flow::Continue,
        }
    }
}
