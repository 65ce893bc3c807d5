//! JSON threat protection: a JSON body of a request passes as it is looked at, and no further than the first thing in it that
//! is too deep, too many, too long, or no JSON.
//!
//! Nothing is parsed into values and nothing is held back: what was looked at goes on, also where the rest is refused.

pub mod scanner;

pub mod limits;

mod bits;
mod classes;
mod lengths;
mod members;
mod scalars;
mod strings;
#[cfg(test)]
mod tests;
mod tokens;

use std::rc::Rc;

use serde::Deserialize;

use self::{limits::Limits, scanner::Scanner};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Need, Needs, Piece, Policy,
    Site, Turn,
};
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

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "maxContainerDepth",
            "Depth",
            "Objects and arrays in each other; an array of objects inside an object has depth 3.",
        )
        .default("-1")
        .at_least(-1),
        Field::new("maxObjectEntryCount", "Entries", "Entries of one object.").default("-1").at_least(-1),
        Field::new("maxObjectEntryNameLength", "Length of names", "Characters of the name of an entry.")
            .default("-1")
            .at_least(-1),
        Field::new("maxArrayElementCount", "Elements", "Elements of one array.").default("-1").at_least(-1),
        Field::new("maxStringValueLength", "Length of strings", "Characters of a string that is a value.")
            .default("-1")
            .at_least(-1),
    ];
    const ANSWERS: &'static [Answers] = &[REFUSED];

    fn remarks(config: &Config) -> Vec<Fault> {
        let most = Limits::NONE.depth;
        let text = format!("more than is ever read: {most} counts, as without it");
        let is_more = config.max_container_depth > most.into();
        is_more.then(|| Fault::at("maxContainerDepth", text)).into_iter().collect()
    }

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
