//! Cross-origin resource sharing: which pages of other origins may read an API's answers.
//!
//! It decides when the request comes and writes when the answer goes, since policies behind it may change the request. It runs
//! first, so it writes last: of what the upstream says about the same, nothing is left. It protects users of browsers, and
//! refuses nobody: whoever does not ask from a browser can leave `Origin` out.

pub mod origin;

use std::rc::Rc;

use serde::Deserialize;

use self::origin::{Origin, Pattern};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Policy, Site, Turn,
    headers::{HeaderName, Refused},
};
use crate::http::{
    bytes::{is_token, list, trim},
    head::Fields,
};

const PREFLIGHT: Answers =
    Answers { status: 200, reason: "cors_preflight", when: "a preflight asks for what is allowed" };
const DISALLOWED: Answers = Answers {
    status: 200,
    reason: "cors_preflight_disallowed",
    when: "a preflight asks for what is not allowed, or cannot be read: no CORS header is in the answer",
};

/// What a preflight may name as headers, all lines together.
const ASKED_BYTES_MAX: usize = 4096;
const METHOD_BYTES_MAX: usize = 64;

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default = "yes")]
    public_resource: bool,
    #[serde(default)]
    support_credentials: bool,
    #[serde(default)]
    origin_groups: Vec<WrittenGroup>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenGroup {
    /// What a control plane's export calls it.
    #[serde(default, rename = "name")]
    _name: Option<String>,
    #[serde(default)]
    origins: Vec<String>,
    #[serde(default = "half_a_minute")]
    access_control_max_age: i64,
    #[serde(default)]
    allowed_methods: Option<Vec<WrittenMethod>>,
    /// The same in an export: all of them allowed.
    #[serde(default)]
    methods: Option<Vec<String>>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    exposed_headers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMethod {
    method_name: String,
    #[serde(default = "yes")]
    is_allowed: bool,
}

fn yes() -> bool {
    true
}

fn half_a_minute() -> i64 {
    30
}

const METHODS: [&str; 8] = ["CONNECT", "DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

#[derive(Debug)]
pub struct Cors {
    public: bool,
    credentials: bool,
    groups: Box<[Group]>,
}

#[derive(Debug)]
struct Group {
    origins: Box<[Pattern]>,
    /// It has the entry `*`.
    any_origin: bool,
    methods: Box<[String]>,
    headers: Box<[String]>,
    any_header: bool,
    exposed: Box<[u8]>,
    max_age: String,
}

/// What does not change from answer to answer, made once.
pub struct State {
    disallowed: Rc<LocalResponse>,
    allow_origin: HeaderName,
    allow_credentials: HeaderName,
    expose_headers: HeaderName,
    vary: HeaderName,
}

/// What was decided for a request.
#[derive(Default)]
pub enum Kept {
    /// It goes on, and gets no CORS header.
    #[default]
    Nothing,
    Granted(Grant),
    /// The answer to a preflight is whole as it was made.
    Answered,
}

pub struct Grant {
    /// `None`: of a public resource.
    group: Option<u32>,
    exposes: bool,
    origin: Told,
}

/// The origin to name in the answer, kept without an allocation unless it is unusually long.
enum Told {
    Any,
    Short(u8, [u8; 38]),
    Long(Box<[u8]>),
}

impl Told {
    fn this(origin: &[u8]) -> Self {
        let mut bytes = [0; 38];
        match bytes.get_mut(..origin.len()) {
            Some(room) => {
                room.copy_from_slice(origin);
                Self::Short(origin.len() as u8, bytes)
            }
            None => Self::Long(origin.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Any => b"*",
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Policy for Cors {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Compliance);
    const FIELDS: &'static [Field] = &[
        Field::new("publicResource", "Public resource", "Every origin is allowed; `originGroups` mean nothing.")
            .default("true"),
        Field::new("supportCredentials", "Support credentials", "Pages may send cookies and passwords along.")
            .default("false"),
        Field::new("originGroups", "Origin groups", "Who is allowed what, where `publicResource` is false.")
            .when("publicResource", "false"),
        Field::new("originGroups[].name", "Name", "As a control plane exports it."),
        Field::new(
            "originGroups[].origins",
            "Origins",
            "`https://shop.example`, with a port where it is not the scheme's own; `null`; `*` for all.",
        ),
        Field::new(
            "originGroups[].accessControlMaxAge",
            "Access control maximum age",
            "How long browsers may remember the answer to a preflight. `-1`: not at all.",
        )
        .default("30")
        .unit("seconds")
        .at_least(-1),
        Field::new(
            "originGroups[].allowedMethods",
            "Allowed methods",
            "A list replaces the default: what it does not name is not allowed.",
        ),
        Field::new("originGroups[].allowedMethods[].methodName", "Method", "HEAD counts as GET."),
        Field::new("originGroups[].allowedMethods[].isAllowed", "Allowed", "False: as if the method were not named.")
            .default("true"),
        Field::new(
            "originGroups[].methods",
            "Methods",
            "As a control plane exports them: all are allowed, and count where there are no `allowedMethods`.",
        ),
        Field::new(
            "originGroups[].headers",
            "Headers",
            "Which request headers pages may set, in any case; `*` for all.",
        ),
        Field::new("originGroups[].exposedHeaders", "Exposed headers", "Which response headers pages may read."),
    ];
    const ANSWERS: &'static [Answers] = &[PREFLIGHT, DISALLOWED];

    fn remarks(config: &Config) -> Vec<Fault> {
        remarks(config)
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let compiled = config.origin_groups.iter().enumerate();
        let groups = compiled.map(|(at, group)| Group::compile(group, &format!("originGroups[{at}]"), &mut error));
        let groups = groups.collect();
        error.or(Self { public: config.public_resource, credentials: config.support_credentials, groups })
    }

    fn state(&self, _: &Core) -> State {
        let name = |name| HeaderName::new(name).expect("a token, and none of the gateway's own");
        State {
            disallowed: Rc::new(self.answer(DISALLOWED)),
            allow_origin: name("access-control-allow-origin"),
            allow_credentials: name("access-control-allow-credentials"),
            expose_headers: name("access-control-expose-headers"),
            vary: name("vary"),
        }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let fields = exchange.request_fields();
        let mut origins = fields.values(b"origin");
        let Some(written) = origins.next() else { return Flow::Continue };
        // Two of them could be read differently behind us: they allow nothing.
        let origin = if origins.next().is_none() { Origin::parse(written) } else { None };
        if exchange.method() == b"OPTIONS" {
            *turn.kept = Kept::Answered;
            let allowed = origin.and_then(|origin| self.preflight(origin, written, fields));
            return allowed.map_or_else(|| Flow::Respond(turn.state.disallowed.clone()), Flow::respond);
        }
        let granted = origin.and_then(|origin| self.grant(origin, written, exchange.method(), fields));
        *turn.kept = granted.map_or(Kept::Nothing, Kept::Granted);
        Flow::Continue
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let grant = match turn.kept {
            Kept::Answered => return Flow::Continue,
            Kept::Nothing => None,
            Kept::Granted(grant) => Some(&*grant),
        };
        match self.write(turn.state, grant, exchange) {
            Ok(()) => Flow::Continue,
            Err(Refused) => Flow::respond(LocalResponse::failed_policy()),
        }
    }
}

impl Cors {
    /// Whether another origin may get another answer. A public resource without credentials says the same to all.
    fn varies(&self) -> bool {
        !self.public || self.credentials
    }

    /// The group for an origin: of those that name it the first, else of those with `*` the first.
    fn group(&self, origin: Origin<'_>) -> Option<usize> {
        let names = |group: &Group| group.origins.iter().any(|entry| entry.takes(origin));
        self.groups.iter().position(names).or_else(|| self.groups.iter().position(|group| group.any_origin))
    }

    /// What `Access-Control-Allow-Origin` is for one origin; never `*` where cookies are let in.
    fn told(&self, group: Option<&Group>, origin: Origin<'_>, written: &[u8]) -> Told {
        let is_for_all =
            group.is_none_or(|group| group.any_origin && !group.origins.iter().any(|entry| entry.takes(origin)));
        if is_for_all && !self.credentials { Told::Any } else { Told::this(written) }
    }

    /// What an actual request gets.
    fn grant(&self, origin: Origin<'_>, written: &[u8], method: &[u8], fields: &Fields) -> Option<Grant> {
        if self.public {
            return Some(Grant { group: None, exposes: false, origin: self.told(None, origin, written) });
        }
        let at = self.group(origin)?;
        let group = &self.groups[at];
        let exposes = !group.exposed.is_empty() && !group.is_simple(method, fields);
        let grant = Grant { group: Some(at as u32), exposes, origin: self.told(Some(group), origin, written) };
        group.allows_method(method).then_some(grant)
    }

    /// The answer to a preflight that asks for what is allowed.
    fn preflight(&self, origin: Origin<'_>, written: &[u8], fields: &Fields) -> Option<LocalResponse> {
        let mut methods = fields.values(b"access-control-request-method");
        let (method, None) = (trim(methods.next()?), methods.next()) else { return None };
        if !is_token(method) || method.len() > METHOD_BYTES_MAX {
            return None;
        }
        let asked = asked_headers(fields)?;
        let group = if self.public { None } else { Some(&self.groups[self.group(origin)?]) };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let method = match group {
            None => text(method),
            Some(group) => {
                let allowed = group.allows_method(method) && group.allows_headers(&asked);
                allowed.then(|| text(method).to_ascii_uppercase())?
            }
        };
        let told = text(self.told(group, origin, written).as_bytes());
        let mut answer = self.answer(PREFLIGHT).with_header("access-control-allow-origin", told);
        if self.credentials {
            answer = answer.with_header("access-control-allow-credentials", "true");
        }
        answer = answer.with_header("access-control-allow-methods", method);
        if !asked.is_empty() {
            answer = answer.with_header("access-control-allow-headers", text(&asked.join(&b", "[..])));
        }
        Some(match group {
            Some(group) => answer.with_header("access-control-max-age", group.max_age.clone()),
            None => answer,
        })
    }

    fn answer(&self, answer: Answers) -> LocalResponse {
        let Answers { status, reason, .. } = answer;
        let response =
            LocalResponse { status, stored: None, headers: Vec::new(), body: b"".into(), content_type: None, reason };
        if self.varies() { response.with_header("vary", "Origin") } else { response }
    }

    fn write(&self, state: &State, grant: Option<&Grant>, exchange: &mut Exchange<'_>) -> Result<(), Refused> {
        let is_told = |value: &[u8]| list(value).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"));
        let adds_vary = self.varies() && !exchange.response_fields().values(b"vary").any(is_told);
        let mut headers = exchange.response_headers();
        headers.remove_if(is_cors);
        if adds_vary {
            headers.append(&state.vary, b"Origin")?;
        }
        let Some(grant) = grant else { return Ok(()) };
        headers.append(&state.allow_origin, grant.origin.as_bytes())?;
        if self.credentials {
            headers.append(&state.allow_credentials, b"true")?;
        }
        match grant.group.and_then(|at| self.groups.get(at as usize)) {
            Some(group) if grant.exposes => headers.append(&state.expose_headers, &group.exposed),
            _ => Ok(()),
        }
    }
}

fn is_cors(name: &[u8]) -> bool {
    const START: &[u8] = b"access-control-";
    name.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// The names that a preflight asks for; `None` where one is none, or they are too many.
fn asked_headers(fields: &Fields) -> Option<Vec<&[u8]>> {
    const NAME: &[u8] = b"access-control-request-headers";
    if fields.values(NAME).map(<[u8]>::len).sum::<usize>() > ASKED_BYTES_MAX {
        return None;
    }
    let names: Vec<&[u8]> = fields.values(NAME).flat_map(list).collect();
    names.iter().all(|name| is_token(name)).then_some(names)
}

impl Group {
    fn compile(written: &WrittenGroup, path: &str, error: &mut ConfigError) -> Self {
        let any = |texts: &[String]| texts.iter().any(|text| text.trim() == "*");
        let mut names = |texts: &[String], list: &str| {
            let mut names = Vec::with_capacity(texts.len());
            for (at, text) in texts.iter().enumerate() {
                // `*` is a token too.
                match text.trim() {
                    name if is_token(name.as_bytes()) => names.push(name.to_owned()),
                    _ => error.add(Fault::at(format!("{path}.{list}[{at}]"), "not a header name")),
                }
            }
            names
        };
        let headers = names(&written.headers, "headers");
        let exposed = names(&written.exposed_headers, "exposedHeaders").join(", ").into_bytes();
        if written.access_control_max_age < -1 {
            let text = "not a number of seconds; -1 means that browsers ask each time";
            error.add(Fault::at(format!("{path}.accessControlMaxAge"), text));
        }
        let mut methods = Vec::new();
        for (field, name) in written.methods() {
            match name.trim() {
                name if is_token(name.as_bytes()) && name.len() <= METHOD_BYTES_MAX => {
                    methods.push(name.to_ascii_uppercase());
                }
                _ => error.add(Fault::at(format!("{path}.{field}"), "not a method")),
            }
        }
        Self {
            origins: written
                .origins
                .iter()
                .filter(|text| text.trim() != "*")
                .filter_map(|text| Pattern::parse(text))
                .collect(),
            any_origin: any(&written.origins),
            methods: methods.into(),
            headers: headers.into(),
            any_header: any(&written.headers),
            exposed: exposed.into(),
            max_age: written.access_control_max_age.to_string(),
        }
    }

    /// HEAD asks for what GET would.
    fn allows_method(&self, method: &[u8]) -> bool {
        let is = |name: &[u8]| self.methods.iter().any(|allowed| name.eq_ignore_ascii_case(allowed.as_bytes()));
        is(method) || method.eq_ignore_ascii_case(b"HEAD") && is(b"GET")
    }

    fn allows_headers(&self, asked: &[&[u8]]) -> bool {
        self.any_header || asked.iter().all(|name| self.names_header(name))
    }

    fn names_header(&self, name: &[u8]) -> bool {
        self.headers.iter().any(|allowed| name.eq_ignore_ascii_case(allowed.as_bytes()))
    }

    /// What a browser asks for without a preflight, as far as a request shows it: its method, the type of its body, and none of
    /// the headers that this group is there to allow.
    fn is_simple(&self, method: &[u8], fields: &Fields) -> bool {
        const TYPES: [&[u8]; 3] = [b"application/x-www-form-urlencoded", b"multipart/form-data", b"text/plain"];
        matches!(method, b"GET" | b"HEAD" | b"POST")
            && fields.values(b"content-type").all(|value| {
                let essence = trim(value.split(|byte| *byte == b';').next().unwrap_or_default());
                TYPES.iter().any(|simple| simple.eq_ignore_ascii_case(essence))
            })
            && !fields.iter().any(|field| {
                let is_safe = ["accept", "accept-language", "content-language", "content-type"];
                self.names_header(field.name)
                    && !is_safe.iter().any(|safe| field.name.eq_ignore_ascii_case(safe.as_bytes()))
            })
    }
}

impl WrittenGroup {
    /// Those that are allowed, with their place below the group.
    fn methods(&self) -> Vec<(String, &str)> {
        match (&self.allowed_methods, &self.methods) {
            (Some(written), _) => {
                let allowed = written.iter().enumerate().filter(|(_, method)| method.is_allowed);
                allowed.map(|(at, method)| (format!("allowedMethods[{at}].methodName"), &*method.method_name)).collect()
            }
            (None, Some(written)) => {
                written.iter().enumerate().map(|(at, name)| (format!("methods[{at}]"), &**name)).collect()
            }
            (None, None) => METHODS.iter().map(|name| (String::new(), *name)).collect(),
        }
    }
}

fn remarks(config: &Config) -> Vec<Fault> {
    let mut remarks = Vec::new();
    let groups = &config.origin_groups;
    if config.public_resource {
        if !groups.is_empty() {
            let text = "without effect: `publicResource` is true, as it is where it is not written";
            remarks.push(Fault::at("originGroups", text));
        }
        if config.support_credentials {
            let text = "with a public resource any site may use the cookies of whoever visits it";
            remarks.push(Fault::at("supportCredentials", text));
        }
        return remarks;
    }
    if groups.is_empty() {
        remarks.push(Fault::at("originGroups", "empty: no page of another origin is allowed anything"));
    }
    for (at, group) in groups.iter().enumerate() {
        for (entry, text) in group.origins.iter().enumerate() {
            let remark = match (text.trim(), Pattern::parse(text)) {
                ("*", _) => config.support_credentials.then_some("any site may use the cookies of whoever visits it"),
                (_, None) => Some("no browser sends such an origin; expected `scheme://host`, with a port or without"),
                (_, Some(pattern)) => pattern.remark(),
            };
            remarks.extend(remark.map(|text| Fault::at(format!("originGroups[{at}].origins[{entry}]"), text)));
        }
        if group.origins.is_empty() {
            remarks.push(Fault::at(format!("originGroups[{at}].origins"), "empty: the group is for nobody"));
        }
        if group.methods().is_empty() {
            remarks.push(Fault::at(format!("originGroups[{at}].allowedMethods"), "allows no method"));
        }
    }
    remarks
}

#[cfg(test)]
mod tests;
