//! JSON threat protection: a JSON body of a request passes as it is looked at, and no further than the first thing in it that
//! is too deep, too many, too long, or no JSON.
//!
//! Nothing is parsed into values and nothing is held back: what was looked at goes on, also where the rest is refused.

mod limits;
mod scanner;

use std::rc::Rc;

use serde::Deserialize;

use self::{limits::Limits, scanner::Scanner};
use super::{Answers, ConfigError, Core, Exchange, Fault, Flow, LocalResponse, Need, Needs, Piece, Policy, Site, Turn};
use crate::{expression::Format, http::head::Fields};

const REFUSED: Answers = Answers {
    status: 400,
    reason: "json_threat",
    when: "a JSON body of a request breaks a limit, or is not well-formed",
};

/// As the operator writes it. -1 is no limit.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    max_container_depth: i64,
    max_object_entry_count: i64,
    max_object_entry_name_length: i64,
    max_array_element_count: i64,
    max_string_value_length: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_container_depth: -1,
            max_object_entry_count: -1,
            max_object_entry_name_length: -1,
            max_array_element_count: -1,
            max_string_value_length: -1,
        }
    }
}

#[derive(Debug)]
pub struct JsonThreatProtection {
    limits: Limits,
}

/// Where the body of one request stands.
#[derive(Default)]
pub enum Scan {
    /// It is not JSON.
    #[default]
    Unseen,
    /// Nothing has come yet.
    Due,
    Begun(Box<Scanner>),
}

impl Policy for JsonThreatProtection {
    type Config = Config;
    /// The refusal, made once.
    type State = Rc<LocalResponse>;
    type PerExchange = Scan;

    const ANSWERS: &'static [Answers] = &[REFUSED];

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let depth = limit("maxContainerDepth", config.max_container_depth, Limits::NONE.depth, &mut error);
        let most = u32::MAX;
        let entries = limit("maxObjectEntryCount", config.max_object_entry_count, most, &mut error);
        let name = limit("maxObjectEntryNameLength", config.max_object_entry_name_length, most, &mut error);
        let elements = limit("maxArrayElementCount", config.max_array_element_count, most, &mut error);
        let string = limit("maxStringValueLength", config.max_string_value_length, most, &mut error);
        let length = |limit: u32| if limit == most { u64::MAX } else { limit.into() };
        let limits = Limits { depth, entries, elements, name: length(name), string: length(string) };
        error.or(Self { limits })
    }

    fn state(&self, _: &Core) -> Self::State {
        Rc::new(LocalResponse::error_json(REFUSED.status, "JSON threat detected", REFUSED.reason))
    }

    fn needs(&self) -> Needs {
        Needs { request: Need::Scan, ..Needs::NONE }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        if is_json(exchange.request_fields()) {
            *turn.kept = Scan::Due;
        }
        Flow::Continue
    }

    fn on_body(&self, turn: Turn<'_, Self>, piece: &Piece<'_>) -> Flow {
        if matches!(turn.kept, Scan::Due) && !piece.bytes.is_empty() {
            *turn.kept = Scan::Begun(Box::new(Scanner::new(self.limits)));
        }
        let Scan::Begun(scanner) = turn.kept else { return Flow::Continue };
        let seen = scanner.feed(piece.bytes).and_then(|()| if piece.is_last { scanner.finish() } else { Ok(()) });
        seen.map_or_else(|_| Flow::Respond(turn.state.clone()), |()| Flow::Continue)
    }
}

/// `-1` is the most that there can be.
fn limit(field: &str, written: i64, most: u32, error: &mut ConfigError) -> u32 {
    match u32::try_from(written) {
        Ok(limit) => limit.min(most),
        Err(_) if written == -1 || written > 0 => most,
        Err(_) => {
            error.add(Fault::at(field, "must be at least 0, or -1 for no limit"));
            most
        }
    }
}

/// Two `content-type` lines could be read differently behind us: one of them that says so is enough.
fn is_json(fields: &Fields) -> bool {
    let says = |value: &[u8]| Format::of(str::from_utf8(value).ok()) == Some(Format::Json);
    fields.values(b"content-type").any(says)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::{Side, testing};

    /// How many of the pieces pass of a body that is JSON by this content type; the last one is the end.
    fn passes(config: &str, content_type: &str, pieces: &[&str]) -> usize {
        let policy = testing::compile::<JsonThreatProtection>(config).expect("valid");
        let (state, mut kept) = (policy.state(&Core { id: 0 }), Scan::default());
        let mut trial = testing::Trial::new("POST", "/", &[("Content-Type", content_type)]);
        let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut kept }, exchange));
        assert!(matches!(flow, Flow::Continue), "nothing has come yet");
        let last = pieces.len() - 1;
        let pieces = pieces.iter().enumerate().map(|(at, piece)| (piece.as_bytes(), at == last));
        pieces
            .take_while(|&(bytes, is_last)| {
                let piece = Piece { side: Side::Request, bytes, is_last };
                match policy.on_body(Turn { state: &state, kept: &mut kept }, &piece) {
                    Flow::Continue => true,
                    flow => {
                        let Flow::Respond(answer) = flow else { panic!("it waits for nothing") };
                        assert_eq!((answer.status, answer.reason), (400, "json_threat"));
                        assert_eq!(&*answer.body, br#"{"error":"JSON threat detected"}"#);
                        false
                    }
                }
            })
            .count()
    }

    const JSON: &str = "application/json";

    #[test]
    fn a_body_passes_up_to_where_it_breaks_a_limit() {
        assert_eq!(passes("{maxContainerDepth: 2}", JSON, &["[[1]", ",[2]]"]), 2);
        assert_eq!(passes("{maxContainerDepth: 2}", JSON, &["[[1]", ",[[2]]]"]), 1);
        assert_eq!(passes("{maxContainerDepth: 0}", JSON, &["[]"]), 0);
        assert_eq!(passes("{}", JSON, &["[1", "]", ""]), 3);
    }

    #[test]
    fn what_does_not_end_as_json_is_refused_at_its_end() {
        assert_eq!(passes("{}", JSON, &["[1", "", ""]), 2);
        assert_eq!(passes("{}", JSON, &["[1"]), 0);
    }

    #[test]
    fn only_bodies_that_say_so_are_json_and_an_empty_one_is_nothing() {
        assert_eq!(passes("{maxContainerDepth: 0}", "application/problem+json; charset=utf-8", &["[]"]), 0);
        assert_eq!(passes("{maxContainerDepth: 0}", "text/plain", &["[]"]), 1);
        assert_eq!(passes("{maxContainerDepth: 0}", JSON, &["", ""]), 2);
    }

    #[test]
    fn limits_are_counts_or_none() {
        assert_eq!(
            testing::faults::<JsonThreatProtection>("{maxContainerDepth: -2, maxStringValueLength: -9000000000}"),
            [
                "config.maxContainerDepth: must be at least 0, or -1 for no limit",
                "config.maxStringValueLength: must be at least 0, or -1 for no limit",
            ]
        );
        let compiled = |config| testing::compile::<JsonThreatProtection>(config).expect("valid").limits;
        assert_eq!(compiled("{maxContainerDepth: 9000000000, maxArrayElementCount: -1}"), Limits::NONE);
        assert_eq!(compiled("{maxStringValueLength: 3}"), Limits { string: 3, ..Limits::NONE });
    }
}
