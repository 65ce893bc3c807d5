//! AWS Lambda: the request becomes one that invokes a function, and what the function gives the client's answer.
//!
//! The Service is the regional endpoint of Lambda; what is asked of it is put in the place of what the client asked. Everything
//! else, such as connections and time-outs, is the Service's as for any other.

mod arn;
mod envelope;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use serde::Deserialize;

use self::arn::Arn;
use super::{
    Answers, Body, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Need, Needs, NotReplaced,
    Policy, Reply, RequestLine, Side, Site, Turn,
    aws::{
        self, Signer, Who,
        credentials::{Held, Inline, Mode, Provider, Written},
        signing::{self, Algorithm, Service},
    },
    headers::HeaderName,
};
use crate::calls::Waits;

const NAME: &str = "native-aws-lambda";
const FUNCTION_ERROR: &[u8] = b"x-amz-function-error";

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    arn: String,
    #[serde(default)]
    payload_passthrough: bool,
    #[serde(default)]
    invocation_mode: InvocationMode,
    #[serde(default)]
    authentication_mode: Mode,
    credential_profile: Option<String>,
    credentials: Option<Inline>,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum InvocationMode {
    #[default]
    Sync,
    Async,
    Synchronous,
    Asynchronous,
}

#[derive(Debug)]
pub struct NativeAwsLambda {
    signer: Signer,
    path: Vec<u8>,
    passes: bool,
    /// The function's answer is waited for.
    is_sync: bool,
}

#[derive(Clone, Copy)]
enum Refusal {
    NoCredentials,
    TooLarge,
    Malformed,
}

const ANSWERS: [Answers; 3] = [
    Answers {
        status: 502,
        reason: "aws_no_credentials",
        when: "the container that the credentials are asked of gives none",
    },
    Answers {
        status: 413,
        reason: "lambda_request_too_large",
        when: "the request in its wrapping is larger than `limits.bufferedBodyBytes`",
    },
    Answers {
        status: 502,
        reason: "lambda_malformed_answer",
        when: "what the function gives is no answer, or cannot be sent",
    },
];

pub struct State {
    aws: aws::State,
    refusals: [Rc<LocalResponse>; 3],
    failed: Rc<LocalResponse>,
}

/// How far it has come with a request.
#[derive(Default)]
pub enum Kept {
    #[default]
    Nothing,
    Waits(Waits<Held>),
    Invoked,
}

impl Policy for NativeAwsLambda {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Transformation);
    const ANSWERS: &'static [Answers] = &ANSWERS;
    const FIELDS: &'static [Field] = &[
        Field::new("arn", "Function", "`arn:<partition>:lambda:<region>:<account>:function:<name>`, with a version or alias or without."),
        Field::new("payloadPassthrough", "Body as it is", "The function gets the body alone, and the client what it gives.")
            .default("false"),
        Field::new(
            "invocationMode",
            "Invocation",
            "`sync` (or `synchronous`): the client is answered by the function; `async` (or `asynchronous`): by Lambda, 202.",
        )
        .default("sync"),
        Field::new(
            "authenticationMode",
            "Credentials",
            "`static`: those of `credentials`; `profile`: of a file; `default`: of the environment, a file or the container, \
             whichever has some.",
        )
        .default("default"),
        Field::new("credentialProfile", "Profile", "Its name in the file. `default` where it is not written.")
            .when("authenticationMode", "profile"),
        Field::new("credentials.accessKeyId", "Access key id", "Of the key.").when("authenticationMode", "static"),
        Field::new("credentials.secretAccessKey", "Secret access key", "The key.")
            .sensitive()
            .when("authenticationMode", "static"),
        Field::new("credentials.sessionToken", "Session token", "Of credentials that run out.")
            .sensitive()
            .when("authenticationMode", "static"),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let profile = ("credentialProfile", config.credential_profile.is_some());
        config.authentication_mode.remarks(profile, ("credentials", config.credentials.is_some()))
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let arn = Arn::parse(&config.arn);
        if arn.is_none() {
            let text = "not `arn:<partition>:lambda:<region>:<account>:function:<name>`";
            error.add(Fault::at("arn", text));
        }
        let written = Written {
            mode: config.authentication_mode,
            inline: config.credentials,
            inline_field: "credentials",
            file: None,
            file_field: "",
            profile: config.credential_profile.as_deref(),
            profile_field: "credentialProfile",
        };
        let provider = Provider::compile(written, NAME, site, &mut error);
        let (Some(arn), Some(provider)) = (arn, provider) else { return Err(error) };
        let service = Service { algorithm: Algorithm::SigV4, region: arn.region.clone(), name: "lambda".to_owned() };
        error.or(Self {
            signer: Signer { provider, service },
            path: arn.path(),
            passes: config.payload_passthrough,
            is_sync: matches!(config.invocation_mode, InvocationMode::Sync | InvocationMode::Synchronous),
        })
    }

    fn state(&self, core: &Core) -> State {
        let refusals = ANSWERS.map(|Answers { status, reason, .. }| {
            let text = if status == 413 { "Content Too Large" } else { "Bad Gateway" };
            LocalResponse::error_json(status, text, reason).into()
        });
        State { aws: aws::State::new(core), refusals, failed: LocalResponse::failed_policy().into() }
    }

    fn needs(&self) -> Needs {
        let response = if self.is_sync && !self.passes { Need::Buffer } else { Need::None };
        Needs { request: Need::Buffer, response }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let who = self.signer.who(&turn.state.aws);
        self.invoke(turn, who, exchange)
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        let who = match std::mem::take(turn.kept) {
            Kept::Waits(waits) => aws::told(waits.stands()),
            Kept::Nothing | Kept::Invoked => Who::None,
        };
        self.invoke(turn, who, exchange)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        // In shadow somebody else has answered.
        let is_invoked = matches!(turn.kept, Kept::Invoked) && !exchange.is_in_shadow();
        if let Some(reason) = exchange.own_reason().filter(|reason| is_invoked && is_unreached(reason)) {
            return match exchange.status() {
                503 => Flow::respond(LocalResponse::error_json(502, "Bad Gateway", reason)),
                _ => Flow::Continue,
            };
        }
        if !is_invoked || exchange.is_own_answer() || !(200..300).contains(&exchange.status()) {
            return Flow::Continue;
        }
        let refuse = |refusal| Flow::Respond(turn.state.refusals[refusal as usize].clone());
        if exchange.response_fields().get(FUNCTION_ERROR).is_some() {
            // What it says of its error passes, and is no success.
            return exchange.set_response_status(502).map_or_else(|_| refuse(Refusal::Malformed), |()| Flow::Continue);
        }
        match !self.is_sync || self.passes || answer(exchange).is_some() {
            true => Flow::Continue,
            false => refuse(Refusal::Malformed),
        }
    }
}

impl NativeAwsLambda {
    fn invoke(&self, turn: Turn<'_, Self>, who: Who, exchange: &mut Exchange<'_>) -> Flow {
        let refuse = |refusal| Flow::Respond(turn.state.refusals[refusal as usize].clone());
        let known = match who {
            Who::Known(known) => known,
            Who::None => return refuse(Refusal::NoCredentials),
            Who::Waits(waits, question) => {
                *turn.kept = Kept::Waits(waits);
                return Flow::Wait(question);
            }
        };
        exchange.tell_request_length();
        let payload = match self.passes {
            true => signing::sha256_hex_of(exchange.body(Side::Request).into_iter().flat_map(Body::pieces)),
            false => {
                let told = envelope::told(exchange);
                match exchange.replace_request_body(&told) {
                    Ok(()) => {}
                    Err(NotReplaced::TooLarge) => return refuse(Refusal::TooLarge),
                    Err(NotReplaced::Unread | NotReplaced::OwnAnswer) => {
                        return Flow::Respond(turn.state.failed.clone());
                    }
                }
                signing::sha256_hex(&told)
            }
        };
        let mode: &[u8] = if self.is_sync { b"RequestResponse" } else { b"Event" };
        let mut headers = exchange.request_headers();
        // What Lambda takes orders by is for us to say.
        headers.remove_if(|name| name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"x-amz-")));
        let mut is_said = headers.set(&header("x-amz-invocation-type"), mode).is_ok();
        if !self.passes {
            is_said &= headers.set(&header("content-type"), b"application/json").is_ok();
        }
        exchange.set_upstream_line(RequestLine { method: "POST", path: self.path.clone(), query: Vec::new() });
        // The rest of the client's headers passes, and is nothing that the invocation hangs on.
        let signs = |name: &[u8]| {
            name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"x-amz-invocation-type")
        };
        match self.signer.sign(&turn.state.aws, &known, exchange, &payload, signs) {
            Ok(()) if is_said => {
                *turn.kept = Kept::Invoked;
                Flow::Continue
            }
            _ => Flow::Respond(turn.state.failed.clone()),
        }
    }
}

/// Whether this is why Lambda has not answered. What the Service's own thresholds keep back was never to reach it.
fn is_unreached(reason: &str) -> bool {
    reason.starts_with("upstream_") && !matches!(reason, "upstream_overflow" | "upstream_request_limit")
}

/// Makes what the function gives the client's answer; `None`: it cannot be one.
fn answer(exchange: &mut Exchange<'_>) -> Option<()> {
    let given = exchange.body(Side::Response).map(Body::to_vec).unwrap_or_default();
    let answered = envelope::answered(&given)?;
    exchange.replace_response_body(&answered.body).ok()?;
    exchange.set_response_status(answered.status).ok()?;
    let mut headers = exchange.response_headers();
    for (name, value) in &answered.headers {
        match HeaderName::new(name) {
            Ok(name) => headers.set(&name, value.trim().as_bytes()).ok()?,
            // It may say how long its body is, and does not frame it.
            Err(super::headers::BadName::Gateways) => {}
            Err(_) => return None,
        }
    }
    for cookie in &answered.cookies {
        headers.append(&header("set-cookie"), cookie.trim().as_bytes()).ok()?;
    }
    Some(())
}

fn header(name: &str) -> HeaderName {
    HeaderName::new(name).expect("a header that policies may write")
}
