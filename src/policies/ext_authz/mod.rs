//! External authorization: another service decides on each request, by Envoy's protocol, over gRPC or HTTP.
//!
//! It is asked over this core's own connections, once for each request and with nothing kept: so it may decide by anything.
//! Whoever cannot be asked allows nothing.

mod check;
mod config;
mod http;
mod messages;
mod names;
mod verdict;

#[cfg(test)]
mod tests;

use std::{rc::Rc, sync::Arc, time::Duration};

use prost::Message;

use self::{
    check::Told,
    config::Config,
    http::ByHttp,
    messages::CheckResponse,
    names::Names,
    verdict::{Change, DENIED, Verdict},
};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Question, Reply, Site,
    Turn, grpc,
};
use crate::{
    calls::{Direct, Server, Whole},
    telemetry::fault,
};

const NAME: &str = "native-ext-authz-flex";
const FAILED: &str = "ext_authz_failed";

/// What a service may say.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Who is asked, and how.
#[derive(Debug)]
pub struct ExtAuthz {
    server: Arc<Server>,
    speaks: Speaks,
    time_max: Duration,
    /// Of the client's headers, where they are listed.
    allowed: Option<Names>,
    certificate: bool,
}

#[derive(Debug)]
enum Speaks {
    Grpc { target: &'static str, raw_headers: bool },
    Http(ByHttp),
}

pub struct State {
    failed: Rc<LocalResponse>,
}

/// What the client's response is to have.
#[derive(Default)]
pub struct Kept(Vec<Change>);

impl Policy for ExtAuthz {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = config::FIELDS;
    const ANSWERS: &'static [Answers] = &[
        Answers { status: 403, reason: DENIED, when: "the service denies the request; the status is what it says" },
        Answers {
            status: 403,
            reason: FAILED,
            when: "the service cannot be reached, does not answer in `requestTimeout`, or not as it should",
        },
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        config.remarks()
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        config.compile(site)
    }

    fn state(&self, _: &Core) -> State {
        let answer = LocalResponse {
            status: 403,
            stored: None,
            headers: Vec::new(),
            body: b"".into(),
            content_type: None,
            reason: FAILED,
        };
        State { failed: Rc::new(answer) }
    }

    fn on_request(&self, _: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        Flow::Wait(Box::new(Question::Call(self.question(exchange))))
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, reply: Reply) -> Flow {
        let verdict = match reply {
            Reply::Called(answer) => answer.and_then(|answer| self.verdict(answer)),
            Reply::Time | Reply::Signal | Reply::Heard(_) | Reply::Read => {
                Err(fault::Fault::new("timeout", "there is no answer"))
            }
        };
        match verdict {
            Ok(Verdict::Allowed(allowed)) => match allowed.apply(exchange) {
                Ok(client) => {
                    turn.kept.0 = client;
                    Flow::Continue
                }
                Err(refused) => self.fail(turn.state, &fault::Fault::new("malformed_answer", refused.to_string())),
            },
            Ok(Verdict::Denied(denied)) => {
                let (answer, others) = denied.answer();
                turn.kept.0 = others;
                Flow::respond(answer)
            }
            Err(fault) => self.fail(turn.state, &fault),
        }
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        verdict::tell_client(&turn.kept.0, exchange);
        Flow::Continue
    }
}

impl ExtAuthz {
    fn question(&self, exchange: &Exchange<'_>) -> Direct {
        let (server, time_max) = (self.server.clone(), self.time_max);
        match &self.speaks {
            Speaks::Grpc { target, raw_headers } => {
                let allowed = self.allowed.as_ref();
                let told = Told { allowed, certificate: self.certificate, raw_headers: *raw_headers };
                Direct {
                    server,
                    method: b"POST".to_vec(),
                    target: target.as_bytes().to_vec(),
                    authority: None,
                    fields: grpc::fields(Some(time_max)),
                    body: grpc::framed(&check::request(&told, exchange)),
                    time_max,
                    answer_bytes_max: ANSWER_BYTES_MAX,
                    told: told_by_grpc,
                }
            }
            Speaks::Http(by_http) => Direct {
                server,
                method: exchange.method().to_vec(),
                target: by_http.target(exchange),
                authority: Some(exchange.authority().to_vec()).filter(|authority| !authority.is_empty()),
                fields: by_http.fields(self.allowed.as_ref(), exchange),
                body: Vec::new(),
                time_max,
                answer_bytes_max: ANSWER_BYTES_MAX,
                told: http::told,
            },
        }
    }

    fn verdict(&self, answer: Whole) -> Result<Verdict, fault::Fault> {
        match &self.speaks {
            Speaks::Http(by_http) => by_http.verdict(answer),
            Speaks::Grpc { .. } => {
                let said = CheckResponse::decode(grpc::message(&answer)?);
                said.map(Verdict::of).map_err(|error| fault::Fault::new("malformed_answer", error.to_string()))
            }
        }
    }

    fn fail(&self, state: &State, fault: &fault::Fault) -> Flow {
        let fault::Fault { reason, text } = fault;
        tracing::debug!(reason, policy = NAME, "no verdict of {}: {text}", self.server.origin());
        Flow::Respond(state.failed.clone())
    }
}

/// A `CheckResponse` as JSON.
fn told_by_grpc(written: &[u8]) -> Result<Whole, String> {
    let said: CheckResponse = serde_json::from_slice(written).map_err(|error| error.to_string())?;
    Ok(grpc::told(&said))
}
