//! HTTP caching: answers from what was stored, and stores what passes (RFC 9111).
//!
//! The cores of a replica share what is stored. A response is looked at as it passes and never held up for it; of requests that
//! miss the same entry at the same time one goes on, and the others wait for what it brings.

mod answer;
mod config;
mod fill;
mod keys;
mod share;

use std::{
    cell::RefCell,
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use self::{
    answer::{How, Whom},
    config::{Config, ENTRIES_MAX, TTL_MAX},
    fill::Filling,
    share::{Fetching, Others},
};
use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, LocalResponse, Need, Needs, Piece, Policy,
    Question, Reply, Side, Site, Turn,
    headers::HeaderName,
    options::{ASSUMED_LIFETIME, CACHE_STATUS},
    reading::Reading,
};
use crate::{
    cache::{
        Entry, Lead, Leading, Millis, Partition, Stamp, Wake, condition,
        control::Control,
        entry::{Rules, Use},
        shared::Shared,
        vary::Request,
    },
    expression::{Expression, Template, Value},
    http::head::{Fields, Known},
    net::signal::{Signal, Signals},
};

/// So long a request waits for another one that asks for the same.
const WAIT_MS_MAX: Millis = 5000;
/// So often it looks meanwhile whether that one's client is too slow to be waited for.
const LOOK_MS: Millis = 250;

const ONLY_IF_CACHED: Answers = Answers {
    status: 504,
    reason: "cache_only",
    when: "the request says `only-if-cached`, and nothing that is stored answers it",
};

const NOT_VALIDATED: Answers = Answers {
    status: 502,
    reason: "cache_validation",
    when: "the upstream says with 304 that another response (`ETag`) than the stored one is good still, and 304 again where it is \
           asked without conditions",
};

/// Of an answer that was stored.
const REASON_HIT: &str = "cache_hit";

/// Where a request went that was not answered here, for `Cache-Status` (RFC 9211 section 2.2).
const BYPASS: &str = "bypass";
const METHOD: &str = "method";
const MISS: &str = "miss";
const REQUEST: &str = "request";
const STALE: &str = "stale";

pub struct HttpCaching {
    entries_max: usize,
    rules: Rules,
    key: Template,
    /// Of which requests and responses it takes notice; `None`: of all.
    request: Option<Expression>,
    response: Option<Expression>,
    /// The header that says what is to be forgotten.
    invalidation: Option<String>,
    /// In `Cache-Status`.
    tells: bool,
    /// With other replicas and processes, who wait for each other if so.
    shares: Option<bool>,
}

impl fmt::Debug for HttpCaching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCaching").field("rules", &self.rules).field("key", &self.key).finish_non_exhaustive()
    }
}

/// One core's hold on what all cores share.
pub struct State {
    partition: Arc<Partition>,
    core: usize,
    signals: Signals,
    /// The key of the request at hand.
    key: RefCell<Vec<u8>>,
    not_stored: Rc<LocalResponse>,
    not_validated: Rc<LocalResponse>,
    names: Names,
}

/// Of the headers that it writes.
struct Names {
    if_none_match: HeaderName,
    if_modified_since: HeaderName,
    cache_status: HeaderName,
}

/// What it keeps of one exchange.
#[derive(Default)]
pub enum Kept {
    /// Nothing: the exchange is none of its business, or is done with.
    #[default]
    Aside,
    /// Why the request goes on without it.
    Passed(&'static str),
    /// What it succeeds in changing is stale.
    Unsafe,
    Waiting(Box<Waiting>),
    /// The client has what is stale, and the request goes on without it.
    Renewing(Box<Ahead>),
    Fetching(Box<Fetching>),
    Asked(Box<Asked>),
    Filling(Box<Filling>),
}

/// Another request asks for the same.
pub struct Waiting {
    key: Arc<[u8]>,
    since: Millis,
}

/// The request goes on to the upstream.
pub struct Asked {
    key: Arc<[u8]>,
    /// As the client sent them.
    fields: Fields,
    at: Millis,
    stamp: Stamp,
    control: Control,
    /// What comes may be stored.
    stores: bool,
    /// What is stored, too old to be the answer.
    old: Option<Arc<Entry>>,
    /// The upstream is asked whether that is good still.
    validates: bool,
    /// It was, has answered of another, and is asked for the whole of that.
    again: bool,
    lead: Option<Lead>,
    others: Others,
    /// For `Cache-Status`.
    why: &'static str,
}

impl Policy for HttpCaching {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = &[
        Field::new("httpCachingKey", "Key", "What requests have one entry that share it.")
            .default("#[attributes.requestPath]")
            .expression(),
        Field::new(
            "maxCacheEntries",
            "Entries",
            "How many are kept; the oldest goes first. Each variant of a response (`Vary`) is one.",
        )
        .default("10000")
        .range(1, ENTRIES_MAX as i64),
        Field::new("ttl", "Time to live", "How long an entry is an answer.")
            .unit("seconds")
            .default("600")
            .range(0, TTL_MAX as i64),
        Field::new("useHttpCacheHeaders", "Use HTTP cache headers", "What messages say of caching counts (RFC 9111).")
            .default("true"),
        Field::new(
            "invalidationHeader",
            "Invalidation header",
            "A request header that has entries forgotten: `invalidate` its own, `invalidate-all` all. Empty: none.",
        )
        .default(""),
        Field::new("requestExpression", "Requests", "Of which requests it takes notice. Empty: of all.")
            .default("#[attributes.method == 'GET' or attributes.method == 'HEAD']")
            .expression(),
        Field::new("responseExpression", "Responses", "Which responses are stored. Empty: all.")
            .default("#[[200, 203, 204, 206, 300, 301, 404, 405, 410, 414, 501] contains attributes.statusCode]")
            .expression(),
        Field::new("distributed", "Distributed", "Replicas share what is stored, by the shared storage.")
            .default("false"),
        Field::new("persistCache", "Persist", "What is stored outlives the process, in the shared storage.")
            .default("false"),
    ];
    const OPTIONS: &'static [Field] = &[CACHE_STATUS, ASSUMED_LIFETIME];
    const ANSWERS: &'static [Answers] = &[ONLY_IF_CACHED, NOT_VALIDATED];

    fn remarks(config: &Config) -> Vec<Fault> {
        config.remarks()
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        config.compile(site.options())
    }

    fn state(&self, core: &Core) -> State {
        let answer = |Answers { status, reason, .. }, text, status_member: &str| {
            let answer = LocalResponse::error_json(status, text, reason);
            Rc::new(match self.tells {
                true => answer.with_header("cache-status", format!("ringway; {status_member}detail={reason}")),
                false => answer,
            })
        };
        let partition = core.cache.partition(core.policy, self.entries_max);
        if let (Some(locks), Some(storage)) = (self.shares, &core.storage) {
            let ttl = Duration::from_millis(self.rules.ttl);
            partition.share(|| Shared::new(storage.clone(), core.policy, ttl, locks));
        }
        State {
            partition,
            core: core.id,
            signals: core.signals.clone(),
            key: RefCell::default(),
            // Neither found nor asked for.
            not_stored: answer(ONLY_IF_CACHED, "Not in the cache.", ""),
            not_validated: answer(
                NOT_VALIDATED,
                "The upstream's answer does not fit what it was asked.",
                "fwd=stale; fwd-status=304; ",
            ),
            names: Names::new(),
        }
    }

    fn needs(&self) -> Needs {
        Needs { request: Need::None, response: Need::Scan }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        if let Kept::Renewing(ahead) = std::mem::take(turn.kept) {
            return self.renew(turn, exchange, *ahead);
        }
        if exchange.asks_for_upgrade() || is_grpc(exchange.request_fields()) {
            return Flow::Continue;
        }
        if !self.takes(exchange) {
            *turn.kept = match self.rules.heeds && is_unsafe(exchange.method()) {
                true => Kept::Unsafe,
                false => Kept::Passed(METHOD),
            };
            return Flow::Continue;
        }
        let mut key = turn.state.key.borrow_mut();
        if self.key(exchange, &mut key).is_err() {
            *turn.kept = Kept::Passed(BYPASS);
            return Flow::Continue;
        }
        let is_forgotten = self.forget(turn.state, exchange, &key);
        let control = self.control(exchange.request_fields());
        let now = millis(exchange);
        let skips = is_forgotten
            || control.no_cache
            || self.rules.heeds && condition::is_for_the_origin(exchange.request_fields());
        if !skips {
            match self.look(turn.state, exchange, &key, &control, now, How::Hit) {
                Found::Answer(answer) => return Flow::Respond(answer),
                Found::Stale(stale) => {
                    let ahead = Ahead::new(turn.state, &key, control, Some(stale), now);
                    return self.ask(turn, exchange, ahead);
                }
                Found::Nothing => {
                    let ahead = Ahead::new(turn.state, &key, control, None, now);
                    return self.ask(turn, exchange, ahead);
                }
            }
        }
        let why = if control.no_cache || is_forgotten { REQUEST } else { BYPASS };
        let ahead = Ahead { why, skips: true, ..Ahead::new(turn.state, &key, control, None, now) };
        self.go_on(turn, exchange, ahead)
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, reply: Reply) -> Flow {
        let Waiting { key, since } = match std::mem::take(turn.kept) {
            Kept::Waiting(waiting) => *waiting,
            Kept::Fetching(fetching) => return self.fetched(turn, exchange, *fetching),
            _ => return Flow::Continue,
        };
        let control = self.control(exchange.request_fields());
        let now = millis(exchange);
        let stale = match self.look(turn.state, exchange, &key, &control, now, How::Collapsed) {
            Found::Answer(answer) => return Flow::Respond(answer),
            Found::Stale(stale) if stale.use_for(&control, now) == Use::WhileRevalidated => {
                return Flow::Respond(self.stale(turn.state, exchange, &stale, now, How::Collapsed));
            }
            Found::Stale(stale) => Some(stale),
            Found::Nothing => None,
        };
        let mut ahead = Ahead::new(turn.state, &key, control, stale, now);
        if now.saturating_sub(since) >= WAIT_MS_MAX {
            // Whoever asks takes too long for others to wait for.
            turn.state.partition.set_fruitless(&key, now);
        } else if matches!(reply, Reply::Time) {
            match self.lead(turn.state, &key, now) {
                Led::Leads(lead) => ahead.lead = Some(lead),
                Led::Follows(signal) => return self.wait(turn, key, since, now, signal),
                Led::Alone => {}
            }
        }
        // Else it has waited once, and for nothing. Were it to wait for the next that asks, all would be served one by one.
        self.go_on(turn, exchange, ahead)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        match std::mem::take(turn.kept) {
            Kept::Asked(asked) => self.take_response(turn, exchange, *asked),
            Kept::Unsafe => {
                if matches!(exchange.status(), 200..=399) && !exchange.is_own_answer() && !exchange.is_in_shadow() {
                    self.changed(exchange).iter().for_each(|key| {
                        turn.state.partition.invalidate(key);
                    });
                }
                self.tell(turn.state, exchange, METHOD, false);
                Flow::Continue
            }
            Kept::Passed(why) => {
                self.tell(turn.state, exchange, why, false);
                Flow::Continue
            }
            Kept::Aside | Kept::Waiting(_) | Kept::Renewing(_) | Kept::Fetching(_) | Kept::Filling(_) => Flow::Continue,
        }
    }

    fn on_body(&self, turn: Turn<'_, Self>, piece: &Piece<'_>) -> Flow {
        if piece.side == Side::Response
            && let Kept::Filling(filling) = turn.kept
            && filling.takes(turn.state, piece)
        {
            *turn.kept = Kept::Aside;
        }
        Flow::Continue
    }
}

/// What is stored for a request.
enum Found {
    Answer(Rc<LocalResponse>),
    /// It answers the request, and is too old to.
    Stale(Arc<Entry>),
    Nothing,
}

/// Whether a request is the one that asks for its entry.
enum Led {
    Leads(Lead),
    /// Another does, and says when it knows.
    Follows(Signal),
    Alone,
}

/// A request that goes on to the upstream.
pub struct Ahead {
    key: Arc<[u8]>,
    control: Control,
    stale: Option<Arc<Entry>>,
    lead: Option<Lead>,
    why: &'static str,
    now: Millis,
    stamp: Stamp,
    /// What is stored is not looked at.
    skips: bool,
    /// Its client has been answered.
    is_alone: bool,
    others: Others,
}

impl Ahead {
    fn new(state: &State, key: &[u8], control: Control, stale: Option<Arc<Entry>>, now: Millis) -> Self {
        Self {
            stamp: state.partition.stamp(key),
            key: key.into(),
            control,
            why: if stale.is_some() { STALE } else { MISS },
            stale,
            lead: None,
            now,
            skips: false,
            is_alone: false,
            others: Others::default(),
        }
    }
}

impl HttpCaching {
    /// The field that asks for a shared storage.
    pub fn shared_by(&self) -> Option<&'static str> {
        self.shares.map(|is_distributed| if is_distributed { "distributed" } else { "persistCache" })
    }

    /// What has no value, or one that is no truth, does not hold.
    fn takes(&self, exchange: &Exchange<'_>) -> bool {
        let reading = Reading::request(exchange);
        self.request.as_ref().is_none_or(|holds| matches!(holds.evaluate(&reading), Ok(Value::Boolean(true))))
    }

    fn control(&self, request: &Fields) -> Control {
        match self.rules.heeds {
            true => Control::parse(request.values(b"cache-control")),
            false => Control::default(),
        }
    }

    /// Does what the invalidation header says. True: it has said something.
    fn forget(&self, state: &State, exchange: &Exchange<'_>, key: &[u8]) -> bool {
        let Some(header) = &self.invalidation else { return false };
        let says = |what: &str| {
            let mut values = exchange.request_fields().values(header.as_bytes());
            values.any(|value| value.eq_ignore_ascii_case(what.as_bytes()))
        };
        if exchange.is_in_shadow() {
            return false;
        }
        if says("invalidate-all") {
            state.partition.clear();
            return true;
        }
        let forgets = says("invalidate");
        if forgets {
            state.partition.invalidate(key);
        }
        forgets
    }

    fn look(
        &self,
        state: &State,
        exchange: &Exchange<'_>,
        key: &[u8],
        control: &Control,
        now: Millis,
        how: How,
    ) -> Found {
        let request = exchange.request_fields();
        let method = stored_method(exchange.method());
        let asked = varying(exchange);
        let found = state.partition.find(key, |entry| entry.answers(method, asked, self.rules.heeds));
        let Some(entry) = found else { return Found::Nothing };
        match entry.use_for(control, now) {
            Use::Fresh | Use::Stale => {
                state.partition.counts(state.core).hit();
                let whom = Whom { method: exchange.method(), fields: request, now };
                Found::Answer(self.answer(&entry, &whom, how))
            }
            Use::WhileRevalidated | Use::Revalidate => Found::Stale(entry),
        }
    }

    /// The first that wants an entry asks for it, and the others wait. Where what is stale will do nobody waits: the first goes
    /// on without its client (RFC 5861 section 3).
    fn ask(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, mut ahead: Ahead) -> Flow {
        let Ahead { key, control, stale, now, .. } = &ahead;
        if control.only_if_cached {
            return Flow::Respond(turn.state.not_stored.clone());
        }
        let will_do = |stale: &&Arc<Entry>| stale.use_for(control, *now) == Use::WhileRevalidated;
        if let Some(stale) = stale.as_ref().filter(will_do).filter(|_| may_renew(exchange, control)) {
            let answer = || self.stale(turn.state, exchange, stale, *now, How::Hit);
            match self.lead(turn.state, key, *now) {
                Led::Leads(lead) if exchange.may_go_on_alone() => {
                    let answer = answer();
                    *turn.kept = Kept::Renewing(Box::new(Ahead { lead: Some(lead), is_alone: true, ..ahead }));
                    return Flow::RespondAndGoOn(answer);
                }
                // As many go on alone as may.
                Led::Leads(lead) => ahead.lead = Some(lead),
                // Somebody asks, or has asked a moment ago and in vain.
                Led::Follows(_) | Led::Alone => return Flow::Respond(answer()),
            }
        } else if may_lead(exchange, control) {
            match self.lead(turn.state, key, *now) {
                Led::Leads(lead) => ahead.lead = Some(lead),
                Led::Follows(signal) => return self.wait(turn, key.clone(), *now, *now, signal),
                Led::Alone => {}
            }
        }
        self.go_on(turn, exchange, ahead)
    }

    /// Asks for the whole of what the client wanted a part of, or wanted where it is another than it had.
    fn renew(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, ahead: Ahead) -> Flow {
        let is_partial = |name: &[u8]| PARTIAL.iter().any(|known| name.eq_ignore_ascii_case(known));
        exchange.request_headers().remove_if(is_partial);
        self.go_on(turn, exchange, ahead)
    }

    fn lead(&self, state: &State, key: &Arc<[u8]>, now: Millis) -> Led {
        let mut signal = None;
        let wake = || -> Option<Wake> {
            let (waits, bell) = state.signals.new_signal()?;
            signal = Some(waits);
            Some(Box::new(move || bell.ring()))
        };
        match (state.partition.lead(key, now, wake), signal) {
            (Leading::Leads(lead), _) => Led::Leads(lead),
            (Leading::Follows, Some(signal)) => Led::Follows(signal),
            (Leading::Follows | Leading::Alone, _) => Led::Alone,
        }
    }

    /// For the other that asks, and looks now and then whether it is to be waited for still.
    fn wait(&self, turn: Turn<'_, Self>, key: Arc<[u8]>, since: Millis, now: Millis, signal: Signal) -> Flow {
        let left = (since + WAIT_MS_MAX).saturating_sub(now).min(LOOK_MS);
        *turn.kept = Kept::Waiting(Box::new(Waiting { key, since }));
        Flow::Wait(Box::new(Question::Signal { signal, at_most: Duration::from_millis(left) }))
    }

    /// What is stale is the answer while another asks.
    fn stale(&self, state: &State, exchange: &Exchange<'_>, stale: &Entry, now: Millis, how: How) -> Rc<LocalResponse> {
        state.partition.counts(state.core).hit();
        let whom = Whom { method: exchange.method(), fields: exchange.request_fields(), now };
        self.answer(stale, &whom, how)
    }

    fn go_on(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, ahead: Ahead) -> Flow {
        if !ahead.others.asked && self.shared(turn.state, exchange).is_some() {
            return self.fetch(turn, exchange, ahead);
        }
        let Ahead { key, control, stale, lead, why, now, stamp, is_alone, others, .. } = ahead;
        let State { partition, core, names, .. } = turn.state;
        if !is_alone {
            partition.counts(*core).missed();
        }
        let fields = exchange.request_fields().clone();
        // In shadow the upstream is not asked what it would be asked.
        let asks = !exchange.is_in_shadow() && exchange.method() != b"HEAD";
        let mut validates = asks && self.rules.heeds && stale.as_ref().is_some_and(|stale| stale.has_validator());
        if let Some(stale) = stale.as_ref().filter(|_| validates) {
            let (etag, modified) = (stale.fields.get(b"etag"), stale.fields.get(b"last-modified"));
            let headers = &mut exchange.request_headers();
            for (name, value) in [(&names.if_none_match, etag), (&names.if_modified_since, modified)] {
                let written = match value {
                    Some(value) => headers.set(name, value),
                    None => {
                        headers.remove_if(|known| known.eq_ignore_ascii_case(name.as_bytes()));
                        Ok(())
                    }
                };
                validates &= written.is_ok();
            }
        }
        let stores = may_store(exchange, &control);
        *turn.kept = Kept::Asked(Box::new(Asked {
            key,
            fields,
            at: now,
            stamp,
            control,
            stores,
            old: stale,
            validates,
            again: false,
            lead,
            others,
            why,
        }));
        Flow::Continue
    }

    /// Says in `Cache-Status` that a request went on, and why.
    fn tell(&self, state: &State, exchange: &mut Exchange<'_>, why: &str, stored: bool) {
        if !self.tells {
            return;
        }
        let status = exchange.status();
        let stored = if stored { "; stored" } else { "" };
        let text = format!("ringway; fwd={why}; fwd-status={status}{stored}");
        let written = exchange.response_headers().append(&state.names.cache_status, text.as_bytes());
        debug_assert!(written.is_ok());
    }
}

impl Names {
    fn new() -> Self {
        let name = |name| HeaderName::new(name).expect("a token, and not one of the gateway's");
        Self {
            if_none_match: name("if-none-match"),
            if_modified_since: name("if-modified-since"),
            cache_status: name("cache-status"),
        }
    }
}

/// What has a response be of a part, or of nothing.
const PARTIAL: [&[u8]; 4] = [b"range", b"if-range", b"if-none-match", b"if-modified-since"];

/// What it brings can be an answer to others: a whole response that may be stored.
fn may_lead(exchange: &Exchange<'_>, control: &Control) -> bool {
    let request = exchange.request_fields();
    may_renew(exchange, control) && !PARTIAL.iter().any(|name| request.get(name).is_some())
}

/// The same, where it asks for the whole.
fn may_renew(exchange: &Exchange<'_>, control: &Control) -> bool {
    !exchange.is_in_shadow()
        && may_store(exchange, control)
        && exchange.request_fields().known(Known::Authorization).is_none()
}

/// What comes is for others too. What answers a request with a body may be of that body, which no key tells apart.
fn may_store(exchange: &Exchange<'_>, control: &Control) -> bool {
    exchange.method() != b"HEAD" && !control.no_store && !exchange.has_body(Side::Request)
}

fn varying<'a>(exchange: &'a Exchange<'_>) -> Request<'a> {
    Request { fields: exchange.request_fields(), authority: exchange.authority() }
}

/// HEAD is answered with what a GET has brought.
fn stored_method(method: &[u8]) -> &[u8] {
    if method == b"HEAD" { b"GET" } else { method }
}

/// RFC 9110 section 9.2.1.
fn is_unsafe(method: &[u8]) -> bool {
    !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

/// The end of a call is told in trailers, which are not stored.
fn is_grpc(request: &Fields) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    request.get(b"content-type").and_then(|value| value.get(..TYPE.len())).is_some_and(|t| t.eq_ignore_ascii_case(TYPE))
}

fn millis(exchange: &Exchange<'_>) -> Millis {
    exchange.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as Millis
}

#[cfg(test)]
mod tests;
