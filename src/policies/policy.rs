//! What a policy is, what it sees of an exchange, and what it may answer.

use std::{
    borrow::Cow,
    ops::{Deref, Range},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{
    Body, Category, Exchange, Field, Needs, Options, Passing, Piece, Side, Wanted,
    clients::Contracts,
    introspection::AuthorizationServer,
    wants::{KeySetWant, Published, Want},
};
use crate::{
    cache::Store,
    calls::{Calls, Destination, Direct, ForwardProxy, Hear, Heard, Server, Ways, Whole},
    document::{
        Id,
        address::{Scheme, ServiceAddress, WebAddress},
        hash::Stable,
    },
    http::head::Fields,
    net::signal::{Signal, Signals},
    quota::{Balances, Clock, Ledger},
    storage::Storage,
    telemetry::{fault, message_log::Messages},
    tls::ClientContext,
};

/// One policy, in four lifetimes: as written, compiled and shared by all cores, one core's own state, and what it keeps of
/// one exchange. A policy never waits: its functions are plain ones, and what it has to wait for it says ([`Flow::Wait`]).
pub trait Policy: Sized {
    /// As the operator writes it.
    type Config: DeserializeOwned;
    /// One core's own; it never leaves its thread, and outlives reloads that do not change the policy.
    type State;
    /// From the request to its end: at most [`KEPT_BYTES_MAX`] bytes, `()` for most.
    type PerExchange: Default;

    /// What it is for. One that works says so: a test asks.
    const CATEGORY: Option<Category> = None;
    /// What people are told of `Config`; a test compares the two.
    const FIELDS: &'static [Field] = &[];
    /// Other names that fields of `config` have had, each with the one of today.
    const OTHER_NAMES: &'static [(&'static str, &'static str)] = &[];
    /// What people are told of the [`Options`] that it reads.
    const OPTIONS: &'static [Field] = &[];
    /// What it may answer itself; its page lists the same.
    const ANSWERS: &'static [Answers] = &[];

    /// What an operator should know about a configuration that works all the same.
    fn remarks(_config: &Self::Config) -> Vec<Fault> {
        Vec::new()
    }
    /// After this nothing asks whether a value is legal. Reports every fault, not only the first.
    fn compile(config: Self::Config, site: &mut Site<'_>) -> Result<Self, ConfigError>;
    fn state(&self, core: &Core) -> Self::State;
    /// What the policy wants ([`Site::want`]) has come, or is another now. Called for a new state too, before its first request.
    fn publish(&self, _state: &Self::State, _published: &Published) {}
    /// What of the bodies it has to see. Bodies that no policy needs stream as if there were none.
    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn on_request(&self, _turn: Turn<'_, Self>, _exchange: &mut Exchange<'_>) -> Flow {
        Flow::Continue
    }
    /// Runs once for every policy that has run for the request, whoever answered it. An answer takes the place of the one that
    /// has come, and those that ran before this policy see it.
    fn on_response(&self, _turn: Turn<'_, Self>, _exchange: &mut Exchange<'_>) -> Flow {
        Flow::Continue
    }
    /// What it has waited for has come: its turn goes on where [`Flow::Wait`] has left it, in the same direction. It may wait
    /// again, and says how often at the most. The exchange may also end meanwhile, as the client leaves or its time is over;
    /// then there is no reply, and what the policy keeps is dropped.
    fn on_reply(&self, _turn: Turn<'_, Self>, _exchange: &mut Exchange<'_>, _reply: Reply) -> Flow {
        Flow::Continue
    }
    /// Looks at a piece of a body that it scans, before anything of it is sent on. An answer is the client's if it has not seen
    /// part of another; else that one is cut. There is no exchange: the heads may have gone.
    fn on_body(&self, _turn: Turn<'_, Self>, _piece: &Piece<'_>) -> Flow {
        Flow::Continue
    }
    /// Whether it changes the body that is to come, which goes through [`Policy::on_passing`] then. Asked when its turn of that
    /// direction has ended, where it needs [`Need::Change`](super::Need).
    fn changes(&self, _kept: &Self::PerExchange, _side: Side) -> bool {
        false
    }
    /// A piece is on its way, and goes on as it is left here. It may wait for what it hears ([`Question::Hear`]), and nothing
    /// else: then it is called again, with the reply. An answer is as in [`Policy::on_body`].
    fn on_passing(&self, _turn: Turn<'_, Self>, _passing: &mut Passing, _reply: Option<Reply>) -> Flow {
        Flow::Continue
    }
    /// The end of the exchange, once for every policy that has run for the request: also where the client left and no answer
    /// ever came, and there is no [`Policy::on_response`] then. And for one that the request's body could not be read for: it
    /// has had no turn before.
    fn on_log(&self, _turn: Turn<'_, Self>, _exchange: &Exchange<'_>, _end: &End) {}
}

/// How an exchange has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// What the client was answered, or would have been; 0 where it left before anybody knew.
    pub status: u16,
    /// Reason code of an answer that the gateway made, or of a failure; empty where the upstream's response passed.
    pub reason: &'static str,
    /// Of the bodies.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// From the end of the request's head to the last byte of the response.
    pub total: Duration,
    /// From the request sent to the response's head received; none where no upstream answered.
    pub upstream: Option<Duration>,
}

/// One answer of a policy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    pub status: u16,
    /// The log's flag, the metric's label and the documentation's anchor.
    pub reason: &'static str,
    /// When it is given, in words that stand behind "where".
    pub when: &'static str,
}

/// What a policy may keep of one exchange.
pub const KEPT_BYTES_MAX: usize = 64;

/// What is the policy's own while it has its turn.
pub struct Turn<'t, P: Policy> {
    pub state: &'t P::State,
    pub kept: &'t mut P::PerExchange,
}

/// What variables of the environment hold, by name.
pub type Variables<'s> = &'s dyn Fn(&str) -> Option<String>;

/// Where a policy is bound, while it is compiled, and what of the rest of the configuration it may use.
pub struct Site<'s> {
    /// The ApiInstance or the Service.
    pub owner: &'s Id,
    policy: &'s Id,
    contracts: &'s Contracts,
    options: Options,
    ways: Arc<Ways>,
    variables: Option<Variables<'s>>,
    /// The replica's own, where a Configuration names it.
    authorization_server: Option<&'s AuthorizationServer>,
    /// As they are written; empty where there are none.
    rules: String,
    /// Those of the policies ahead of this one in its chain.
    limiters: Vec<u64>,
    identity: Stable,
    remarks: Vec<Fault>,
    wants: Vec<Want>,
    servers: Vec<Arc<Server>>,
}

impl<'s> Site<'s> {
    pub fn new(owner: &'s Id, policy: &'s Id, contracts: &'s Contracts) -> Self {
        Self {
            owner,
            policy,
            contracts,
            options: Options::default(),
            ways: Arc::default(),
            variables: None,
            authorization_server: None,
            rules: String::new(),
            limiters: Vec::new(),
            identity: Stable::new(),
            remarks: Vec::new(),
            wants: Vec::new(),
            servers: Vec::new(),
        }
    }

    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// How calls leave the replica.
    pub fn with_ways(self, ways: &Arc<Ways>) -> Self {
        Self { ways: ways.clone(), ..self }
    }

    /// The variables of the environment.
    pub fn with_variables(self, variables: Variables<'s>) -> Self {
        Self { variables: Some(variables), ..self }
    }

    /// Whom the Configuration has the gateway ask about tokens.
    pub fn with_authorization_server(self, server: Option<&'s AuthorizationServer>) -> Self {
        Self { authorization_server: server, ..self }
    }

    /// What limits count by besides the policy itself: its rules, and the limiters of the policies ahead of it.
    pub fn with_limiters(self, rules: String, limiters: Vec<u64>) -> Self {
        Self { rules, limiters, ..self }
    }

    /// The binding's name, or the one that a policy of a list is given. A policy that reads it is another one when it changes.
    pub fn policy(&mut self) -> &'s Id {
        self.identity = std::mem::take(&mut self.identity).text(&self.policy.to_string());
        self.policy
    }

    /// Who may come now, to remark on. A policy keeps nothing of it: what it goes by is published.
    pub fn contracts(&self) -> &'s Contracts {
        self.contracts
    }

    /// What was written beside `config`. A policy that reads it is another one when it changes.
    pub fn options(&mut self) -> Options {
        self.identity = std::mem::take(&mut self.identity).text(&format!("{:?}", self.options));
        self.options
    }

    /// What requests are counted under, apart from their key: the same over reloads and on all replicas, whatever the limits
    /// are. A second policy that differs in nothing else counts by itself.
    pub fn limiter(&mut self, policy: &str, key: &str) -> u64 {
        let Self { owner, rules, limiters, identity, .. } = self;
        let equal = Stable::new().text(&owner.to_string()).text(policy).text(key).text(rules).finish();
        let nth = limiters.iter().filter(|other| **other == equal).count();
        limiters.push(equal);
        let limiter = Stable::new().number(equal).number(nth as u64).finish();
        *identity = std::mem::take(identity).number(limiter);
        limiter
    }

    pub fn take_limiters(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.limiters)
    }

    /// Has the management thread fetch something and keep it fresh; see [`Policy::publish`]. A policy that wants something else
    /// is another one.
    pub fn want(&mut self, want: Want) {
        let Want::KeySet(KeySetWant { destination, .. }) = &want;
        let identity = std::mem::take(&mut self.identity).text("key set").text(&destination.origin());
        self.identity = identity.text(&destination.address.target);
        self.wants.push(want);
    }

    /// How calls of an address are made: secured and carried as the Configuration says. A policy that calls in another way is
    /// another one.
    pub fn destination(&mut self, address: WebAddress) -> Arc<Destination> {
        let destination = Destination::new(address, &self.ways);
        let identity = std::mem::take(&mut self.identity).text("destination").text(&destination.address.target);
        self.identity = identity.number(destination.identity());
        Arc::new(destination)
    }

    /// How a host is dialled over TLS, for what is no HTTP. A policy that is secured in another way is another one.
    ///
    /// # Errors
    /// It cannot be, for this reason where it is the host's own: nothing must be sent.
    pub fn secured(&mut self, host: &str) -> Result<Arc<ClientContext>, Option<String>> {
        let context = self.ways.secure.as_ref().ok_or(None)?(host)?;
        self.identity = std::mem::take(&mut self.identity).text("secured").number(context.identity);
        Ok(Arc::new(context))
    }

    /// Who carries what is sent to a host, where somebody does. A policy that is carried in another way is another one.
    pub fn forward_proxy(&mut self, host: &str) -> Option<Arc<ForwardProxy>> {
        let proxy = self.ways.proxy.as_ref().filter(|proxy| proxy.carries(host))?;
        self.identity = std::mem::take(&mut self.identity).text("carried").number(proxy.identity());
        Some(proxy.clone())
    }

    /// A variable of the environment, where it is filled. A policy that reads it is another one when it changes.
    pub fn variable(&mut self, name: &str) -> Option<String> {
        let value = self.variables.and_then(|variables| variables(name));
        self.read(value.as_deref().unwrap_or_default());
        value
    }

    /// A policy was made with this, which stands elsewhere than in its configuration: with another it is another one.
    pub fn read(&mut self, text: &str) {
        self.identity = std::mem::take(&mut self.identity).text("read").text(text);
    }

    /// The replica's own, where a Configuration names it. A policy that reads it is another one when it changes.
    pub fn authorization_server(&mut self) -> Option<&'s AuthorizationServer> {
        let server = self.authorization_server?;
        self.identity = std::mem::take(&mut self.identity).text("authorization server").number(server.identity());
        Some(server)
    }

    /// Somebody whom this policy's requests ask, over connections of each core's own ([`Question::Call`]). `multiplexes`: by
    /// HTTP/2, whatever the address says.
    pub fn server(&mut self, policy: &'static str, address: ServiceAddress, multiplexes: bool) -> Arc<Server> {
        let multiplexes = multiplexes || address.scheme == Scheme::H2;
        let server = Arc::new(Server::new(policy, self.destination(address.web()), multiplexes));
        self.identity = std::mem::take(&mut self.identity).number(server.identity);
        self.servers.push(server.clone());
        server
    }

    pub fn take_servers(&mut self) -> Vec<Arc<Server>> {
        std::mem::take(&mut self.servers)
    }

    /// Whether headers of requests are told as bytes too, which text may not be (`FLEX_HEADER_RAW_VALUE_ENABLE`).
    pub fn raw_header_values(&mut self) -> bool {
        let raw = !self.ways.text_header_values;
        self.identity = std::mem::take(&mut self.identity).number(u64::from(raw));
        raw
    }

    /// As [`Policy::remarks`], where only the rest of the configuration tells.
    pub fn remark(&mut self, remark: Fault) {
        self.remarks.push(remark);
    }

    pub(super) fn take_remarks(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.remarks)
    }

    pub fn take_wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants)
    }

    /// A hash of what was handed out.
    pub fn identity(self) -> u64 {
        self.identity.finish()
    }
}

/// The core that a state is made for.
#[derive(Clone, Debug)]
pub struct Core {
    pub id: usize,
    /// Where its lines of message logging go.
    pub messages: Rc<Messages>,
    /// What policies wait with for another thread, or for another request of any core.
    pub signals: Signals,
    /// The replica's.
    pub cache: Store,
    /// What replicas share; `None` where nothing runs.
    pub storage: Option<Arc<Storage>>,
    /// Who asks others outside; `None` where nothing runs.
    pub calls: Option<Arc<Calls>>,
    /// What the policy is known by that a state is made for: the same on all cores, and over reloads that do not change it.
    pub policy: u64,
    /// What it may spend of limits that all cores share.
    pub balances: Rc<Balances>,
    /// By which they are counted.
    pub clock: Clock,
}

/// A core of no gateway, whose limits nobody shares.
impl Default for Core {
    fn default() -> Self {
        let ledger = Ledger::new(1, usize::MAX, || {});
        Self {
            id: 0,
            messages: Rc::default(),
            signals: Signals::default(),
            cache: Store::default(),
            storage: None,
            calls: None,
            policy: 0,
            balances: Rc::new(Balances::new(Arc::new(ledger), 0)),
            clock: Clock::start(),
        }
    }
}

/// What happens next.
#[derive(Debug)]
pub enum Flow {
    Continue,
    /// The chain turns round here. An answer that is always the same is made once, in the policy's state.
    Respond(Rc<LocalResponse>),
    /// The client has this answer, and the request goes on without it: from this turn on, which begins anew with what the policy
    /// keeps; those ahead of it see nothing of it. Only of a request without a body, where [`Exchange::may_go_on_alone`].
    RespondAndGoOn(Rc<LocalResponse>),
    /// The exchange waits, and goes on in [`Policy::on_reply`]. A policy in shadow holds up nobody: its turn ends here, what it
    /// keeps is dropped, and it sees no response.
    Wait(Box<Question>),
    /// The upstream is asked once more, by the request as it is now, and its next response is seen by all that have seen this
    /// one. In the response direction alone, of an upstream's answer, for a request without a body, and once in an exchange:
    /// where that is over, this is the answer.
    AskAgain(Rc<LocalResponse>),
}

/// What a policy waits for. It does not know who answers.
#[derive(Debug)]
pub enum Question {
    /// So much time: the reply is [`Reply::Time`].
    Time(Duration),
    /// That it may look again, which another thread or another request says: the reply is [`Reply::Signal`], or
    /// [`Reply::Time`] where nobody has said so in the time.
    Signal { signal: Signal, at_most: Duration },
    /// What a server answers, over this core's own connections: the reply is [`Reply::Called`].
    Call(Direct),
    /// The reply to a message that the policy has said in a conversation of this exchange: [`Reply::Heard`].
    Hear(Hear),
    /// That so much of the message's body is read ahead, in the middle of a turn: the reply is [`Reply::Read`]. A body that
    /// cannot be read has the answer that says so, and the policy's turn is over.
    Body(Wanted),
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Reply {
    /// The time is over.
    Time,
    /// The signal has come.
    Signal,
    /// The whole answer, of any status, or why there is none.
    Called(Box<Result<Whole, fault::Fault>>),
    /// A message, or why there is none.
    Heard(Result<Heard, fault::Fault>),
    /// It was read, as [`Exchange::body`](super::Exchange::body) has it.
    Read,
}

impl Flow {
    pub fn respond(answer: LocalResponse) -> Self {
        Self::Respond(Rc::new(answer))
    }
}

// Each policy of a chain returns one.
const _: () = assert!(size_of::<Flow>() <= 16);

/// An answer of the gateway's own. The proxy adds `server`, `date` where there is none, `content-length` and `connection`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalResponse {
    pub status: u16,
    /// Lines in front of the others, of an answer that was stored.
    pub stored: Option<Arc<Fields>>,
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub body: Content,
    pub content_type: Option<&'static str>,
    /// The log's flag, the metric's label and the documentation's anchor.
    pub reason: &'static str,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Own(Cow<'static, [u8]>),
    /// A part of what others hold too.
    Shared(Arc<Vec<u8>>, Range<usize>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes, part) => &bytes[part.clone()],
        }
    }
}

impl<T: Into<Cow<'static, [u8]>>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Own(bytes.into())
    }
}

impl LocalResponse {
    /// Its body, where one of those who see the answer may change it.
    pub fn body_for(&self, may_change: bool) -> Body {
        match may_change {
            true => Body::whole(&self.body),
            false => Body::default(),
        }
    }

    /// `{"error":"<text>"}`, the form that clients of these policies know.
    pub fn error_json(status: u16, text: &str, reason: &'static str) -> Self {
        Self {
            status,
            stored: None,
            headers: Vec::new(),
            body: serde_json::json!({ "error": text }).to_string().into_bytes().into(),
            content_type: Some("application/json; charset=UTF-8"),
            reason,
        }
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The client learns that it is not to blame; which policy and why is for the log.
    pub fn broken_policy() -> Self {
        Self::error_json(503, "A policy of this API is not available.", "policy_broken")
    }

    /// A policy could not do for this request what it was configured to do.
    pub fn failed_policy() -> Self {
        Self::error_json(500, "A policy of this API has failed.", "policy_failed")
    }

    pub fn pattern_limit() -> Self {
        Self::error_json(503, "The request could not be matched.", "pattern_limit")
    }
}

/// Why a policy cannot be built: every fault of its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigError {
    pub faults: Vec<Fault>,
}

/// One fault, and where below `config` it is: `inboundHeaders[0].key`, or empty for the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub text: String,
    /// The file is right; it is we who cannot do this yet.
    pub not_implemented: bool,
}

impl Fault {
    pub fn at(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self { field: field.into(), text: text.into(), not_implemented: false }
    }

    pub fn not_implemented(field: impl Into<String>, what: &str) -> Self {
        Self { field: field.into(), text: format!("{what}: not implemented yet"), not_implemented: true }
    }
}

impl ConfigError {
    pub fn at(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self { faults: vec![Fault::at(field, text)] }
    }

    pub fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// `value`, unless there is a fault.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.faults.is_empty() { Ok(value) } else { Err(self) }
    }
}
