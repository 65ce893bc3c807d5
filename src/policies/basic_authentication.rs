//! HTTP Basic authentication (RFC 7617) against one user name and password.
//!
//! Strict Base64 has one text for each value, so credentials are compared as they come, without decoding. The comparison
//! takes as long as what the client sent, wherever the two differ.

use std::{hint::black_box, rc::Rc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use super::{Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Site, Turn};
use crate::http::head::{Fields, Known};

pub(super) const MISSING: Answers =
    Answers { status: 401, reason: "authentication_missing", when: "no usable `authorization` header came" };
pub(super) const FAILED: Answers =
    Answers { status: 401, reason: "authentication_failed", when: "the user name or the password is wrong" };
pub(super) const MISSING_TEXT: &str =
    "Registered authentication is set to HTTP basic authentication but there was no security context on the session.";
pub(super) const FAILED_TEXT: &str = "Authentication Attempt Failed";

/// As the operator writes it. Both are plain text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    username: String,
    password: String,
}

pub struct BasicAuthentication {
    username: String,
    /// Base64 of `username:password`.
    expected: Box<[u8]>,
}

/// The two refusals, made once: who guesses passwords costs no allocation.
pub struct State {
    missing: Rc<LocalResponse>,
    failed: Rc<LocalResponse>,
}

/// Neither the log nor a dump shows the password.
impl std::fmt::Debug for BasicAuthentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuthentication").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Policy for BasicAuthentication {
    type Config = Config;
    type State = State;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "username",
            "User name",
            "Plain text. Not empty, and without a colon, which ends the user name on the wire.",
        ),
        Field::new("password", "Password", "Plain text. `$NAME` takes the value of an environment variable.")
            .sensitive(),
    ];
    const ANSWERS: &'static [Answers] = &[MISSING, FAILED];

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        if config.username.is_empty() {
            error.add(Fault::at("username", "must not be empty"));
        }
        if config.username.contains(':') {
            error
                .add(Fault::at("username", "holds a colon, which ends the user name on the wire: nobody could log in"));
        }
        let expected = BASE64.encode(format!("{}:{}", config.username, config.password)).into_bytes().into();
        error.or(Self { username: config.username, expected })
    }

    fn state(&self, _: &Core) -> State {
        State { missing: Rc::new(refusal(MISSING_TEXT, MISSING)), failed: Rc::new(refusal(FAILED_TEXT, FAILED)) }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        match sole_credentials(exchange.request_fields()) {
            Some(sent) if equal_in_constant_time(sent, &self.expected) => {
                exchange.authenticate(|authentication| authentication.set_principal(&self.username));
                Flow::Continue
            }
            Some(sent) if is_user_and_password(sent) => Flow::Respond(turn.state.failed.clone()),
            _ => Flow::Respond(turn.state.missing.clone()),
        }
    }
}

/// What follows `Basic `. Two `authorization` lines could be read differently behind us: they count as none.
pub(super) fn sole_credentials(fields: &Fields) -> Option<&[u8]> {
    let mut values = fields.known_values(Known::Authorization);
    let (value, None) = (values.next()?, values.next()) else { return None };
    credentials_of(value)
}

/// What follows `Basic ` in one value.
pub(super) fn credentials_of(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(5)?;
    let sent = rest.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"basic") && sent.len() < rest.len()).then_some(sent)
}

/// Only asked of what was not accepted, to say which of the two refusals it gets.
fn is_user_and_password(sent: &[u8]) -> bool {
    BASE64.decode(sent).is_ok_and(|decoded| decoded.contains(&b':'))
}

fn equal_in_constant_time(sent: &[u8], expected: &[u8]) -> bool {
    let mut difference = sent.len() ^ expected.len();
    for (byte, expected) in sent.iter().zip(expected.iter().cycle()) {
        difference = black_box(difference | usize::from(byte ^ expected));
    }
    difference == 0
}

pub(super) fn refusal(text: &str, answer: Answers) -> LocalResponse {
    let response = LocalResponse::error_json(answer.status, text, answer.reason);
    response.with_header("www-authenticate", "Basic realm=\"mule-realm\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    const MISSING: &str = r#"{"error":"Registered authentication is set to HTTP basic authentication but there was no security context on the session."}"#;
    const FAILED: &str = r#"{"error":"Authentication Attempt Failed"}"#;

    /// `refusal` is the body of the 401, or empty where the request passes.
    fn check(sent: &[&str], refusal: &str) {
        let policy = testing::compile::<BasicAuthentication>("{username: user, password: 'pass:word'}").expect("valid");
        let lines: Vec<_> = sent.iter().map(|value| ("Authorization", *value)).collect();
        let mut trial = testing::Trial::new("GET", "/", &lines);
        let state = policy.state(&Core::default());
        let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut () }, exchange));
        match testing::answer(flow) {
            None => {
                assert_eq!(refusal, "", "{sent:?} passed");
                assert_eq!(trial.authentication.principal(), Some("user"));
            }
            Some(response) => {
                assert_eq!(String::from_utf8_lossy(&response.body), refusal, "{sent:?}");
                assert_eq!(response.status, 401);
                assert_eq!(response.content_type, Some("application/json; charset=UTF-8"));
                assert_eq!(response.headers, [("www-authenticate".into(), "Basic realm=\"mule-realm\"".into())]);
                assert_eq!(trial.authentication.principal(), None);
            }
        }
        assert_eq!(trial.request.fields.len(), sent.len(), "the upstream still sees what the client sent");
    }

    #[test]
    fn the_right_credentials_pass() {
        check(&["Basic dXNlcjpwYXNzOndvcmQ="], "");
        check(&["bAsIc dXNlcjpwYXNzOndvcmQ="], "");
        check(&["Basic   dXNlcjpwYXNzOndvcmQ="], "");
    }

    #[test]
    fn wrong_credentials_fail() {
        check(&["Basic dXNlcjp3cm9uZw=="], FAILED);
        check(&["Basic VXNlcjpwYXNzOndvcmQ="], FAILED);
        // One byte short, one byte long, twice over, and empty.
        check(&["Basic dXNlcjpwYXNzOndvcg=="], FAILED);
        check(&["Basic dXNlcjpwYXNzOndvcmQh"], FAILED);
        check(&["Basic dXNlcjpwYXNzOndvcmR1c2VyOnBhc3M6d29yZA=="], FAILED);
        check(&["Basic Og=="], FAILED);
    }

    #[test]
    fn what_is_not_basic_credentials_is_none_at_all() {
        check(&[], MISSING);
        check(&[""], MISSING);
        check(&["Basic"], MISSING);
        check(&["Basic "], MISSING);
        check(&["BasicdXNlcjpwYXNzOndvcmQ="], MISSING);
        check(&["Bearer dXNlcjpwYXNzOndvcmQ="], MISSING);
        check(&["Basic user:pass:word"], MISSING);
        check(&["Basic dXNlcg=="], MISSING);
        check(&["Basic \u{fc}"], MISSING);
    }

    #[test]
    fn base64_is_strict() {
        check(&["Basic dXNlcjpwYXNzOndvcmQ"], MISSING);
        check(&["Basic dXNlcjpwYXNzOndvcmR="], MISSING);
        check(&["Basic dXNlcjpw YXNzOndvcmQ="], MISSING);
        check(&["Basic dXNlcjpwYXNzOndvcmQ=="], MISSING);
    }

    #[test]
    fn several_authorization_headers_are_refused() {
        check(&["Basic dXNlcjpwYXNzOndvcmQ=", "Basic dXNlcjpwYXNzOndvcmQ="], MISSING);
        check(&["Basic dXNlcjpwYXNzOndvcmQ=", "Bearer x"], MISSING);
    }

    #[test]
    fn a_configuration_that_nobody_could_use_is_refused() {
        let faults = |text| testing::faults::<BasicAuthentication>(text);
        assert_eq!(faults("{username: 'a:b', password: p}").len(), 1);
        assert_eq!(faults("{username: '', password: p}"), ["config.username: must not be empty"]);
        assert!(testing::compile::<BasicAuthentication>("{username: u, password: ''}").is_ok());
    }

    #[test]
    fn the_password_is_not_shown() {
        let policy = testing::compile::<BasicAuthentication>("{username: user, password: secret}").expect("valid");
        assert_eq!(format!("{policy:?}"), "BasicAuthentication { username: \"user\", .. }");
    }
}
