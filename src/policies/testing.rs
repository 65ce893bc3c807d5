//! What the tests of policies share: heads, exchanges and configurations from a few words.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde::Deserialize;

use super::{
    At, Authentication, Bodies, Body, ConfigError, Core, Exchange, Flow, LocalResponse, Need, Needs, Options, Peer,
    Piece, Policy, Question, Reply, RequestLine, Side, Site, Timeouts, Turn, Upstream,
    clients::Contracts,
    contract::{Client, ClientSecret, Contract},
    headers::HeaderName,
    introspection::{AuthorizationServer, Place},
    wants::Published,
};
use crate::{
    calls::Destination,
    document::{
        Id, Resource,
        address::WebAddress,
        node::{Located, Node},
        problem::{Location, Problem},
    },
    http::head::{Fields, RequestHead, ResponseHead},
};

pub fn node(text: &str) -> Node {
    let mut problems = Vec::new();
    let nodes = Node::parse(&Arc::new("test.yaml".into()), text, &mut problems);
    assert_eq!(problems, [], "{text}");
    nodes.into_iter().next().expect("one document")
}

/// The policy, or its problems without their place.
pub fn compile<P: Policy>(config: &str) -> Result<P, Vec<String>> {
    let mut problems = Vec::new();
    super::build(&node(config), "config", &mut site(), &mut problems).map_err(|_| texts(&problems))
}

/// With options beside its `config`.
pub fn compile_with_options<P: Policy>(config: &str, options: Options) -> P {
    let mut problems = Vec::new();
    let policy = super::build(&node(config), "config", &mut site().with_options(options), &mut problems);
    policy.unwrap_or_else(|_| panic!("{config}: {:?}", texts(&problems)))
}

/// The policy of an API with these clients, and what is remarked on it.
pub fn compile_with<P: Policy>(config: &str, clients: Vec<Client>) -> Result<(P, Vec<String>), Vec<String>> {
    compile_with_contracts(config, clients.into_iter().map(contract).collect())
}

/// The same with whole contracts.
pub fn compile_with_contracts<P: Policy>(
    config: &str,
    contracts: Vec<Contract>,
) -> Result<(P, Vec<String>), Vec<String>> {
    let (owner, contracts) = (Id::new("default", "api"), published(contracts).contracts);
    let mut problems = Vec::new();
    let policy = super::build(&node(config), "config", &mut Site::new(&owner, &owner, &contracts), &mut problems);
    policy.map(|policy| (policy, texts(&problems))).map_err(|_| texts(&problems))
}

pub fn faults<P: Policy + std::fmt::Debug>(config: &str) -> Vec<String> {
    compile::<P>(config).expect_err("faults")
}

/// What is remarked on a configuration that works.
pub fn remarks<P: Policy>(config: &str) -> Vec<String> {
    let mut problems = Vec::new();
    assert!(super::build::<P>(&node(config), "config", &mut site(), &mut problems).is_ok(), "{config}");
    texts(&problems)
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect()
}

/// What cores are told of the clients of [`site`].
pub fn one_client() -> Published {
    let secret = Some(ClientSecret::Plain("secret".into()));
    let limits = "{limits: [{maximumRequests: 1, timePeriodInMilliseconds: 1000}]}";
    let sla = node(limits).deserialize("sla", &mut Vec::new());
    published(vec![Contract { sla, ..contract(Client { id: "client".into(), secret, name: None }) }])
}

/// An API with one client, of a replica that has an authorization server.
pub fn site() -> Site<'static> {
    static OWNER: LazyLock<Id> = LazyLock::new(|| Id::new("default", "api"));
    static POLICY: LazyLock<Id> = LazyLock::new(|| Id::new("default", "binding"));
    static CONTRACTS: LazyLock<Contracts> = LazyLock::new(|| one_client().contracts);
    static SERVER: LazyLock<AuthorizationServer> = LazyLock::new(|| {
        let address = WebAddress::parse("https://login.test/introspect").expect("an address");
        let place = Place::Endpoint(Arc::new(Destination::new(address, &Arc::default())));
        AuthorizationServer::of_client(place, "gateway", "hunter2")
    });
    Site::new(&OWNER, &POLICY, &CONTRACTS).with_authorization_server(Some(&SERVER))
}

pub fn contract(client: Client) -> Contract {
    Contract { api_id: Located { value: "api".into(), location: Location::default() }, client, sla: None }
}

/// What a core is told where these are the contracts.
pub fn published(contracts: Vec<Contract>) -> Published {
    let resource = |spec: Contract| {
        let (labels, location) = (BTreeMap::new(), Location::default());
        Arc::new(Resource { id: Id::new("default", &spec.client.id), labels, location, position: 0, spec })
    };
    let written: Vec<_> = contracts.into_iter().map(resource).collect();
    Published { contracts: Contracts::of(&written, &Contracts::default()), ..Published::default() }
}

/// One exchange, to try policies on.
pub struct Trial {
    pub request: RequestHead,
    pub response: ResponseHead,
    pub authentication: Authentication,
    /// A minute, until a policy says otherwise.
    pub timeouts: Timeouts,
    pub bodies: Bodies,
}

impl Trial {
    pub fn new(method: &str, path: &str, lines: &[(&str, &str)]) -> Self {
        let request = RequestHead {
            method: method.into(),
            path: path.into(),
            authority: "api.example:8081".into(),
            fields: fields(lines),
            ..RequestHead::default()
        };
        let response = ResponseHead { status: 200, ..ResponseHead::default() };
        let minute = Some(Duration::from_secs(60));
        let timeouts = Timeouts { response: minute, stream_idle: minute };
        let (authentication, bodies) = (Authentication::default(), Bodies::default());
        Self { request, response, authentication, timeouts, bodies }
    }

    pub fn answered(mut self, status: u16, lines: &[(&str, &str)]) -> Self {
        self.response = ResponseHead { status, fields: fields(lines), ..ResponseHead::default() };
        self
    }

    /// `base` is how many bytes of the path the API's base takes.
    pub fn with<'t, R>(&'t mut self, base: usize, run: impl FnOnce(&mut Exchange<'t>) -> R) -> R {
        run(&mut self.exchange(base))
    }

    /// As a policy of a Service sees it. Returns what the upstream is asked for instead, too.
    pub fn with_upstream<'t, R>(
        &'t mut self,
        authority: &'t str,
        path: &'t [u8],
        run: impl FnOnce(&mut Exchange<'_>) -> R,
    ) -> (R, Option<Box<RequestLine>>) {
        let mut instead = None;
        let told = {
            let upstream = Upstream { scheme: "https", authority: Some(authority), path, line: &mut instead };
            run(&mut self.exchange(0).with_upstream(upstream))
        };
        (told, instead)
    }

    fn exchange(&mut self, base: usize) -> Exchange<'_> {
        let peer = Peer {
            address: ([192, 0, 2, 1], 40000).into(),
            local: ([192, 0, 2, 2], 8081).into(),
            scheme: "http",
            certificate: None,
        };
        let at = At { api: "api", base };
        let Self { request, response, authentication, timeouts, bodies, .. } = self;
        Exchange::new(request, response, authentication, timeouts, peer, at, 1).with_bodies(bodies, 1 << 20)
    }

    /// One policy's turn in the request direction, with a state of its own.
    pub fn ask<P: Policy<PerExchange = ()>>(&mut self, policy: &P) -> Flow {
        let state = policy.state(&Core::default());
        self.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut () }, exchange))
    }

    /// And in the response direction.
    pub fn answer<P: Policy<PerExchange = ()>>(&mut self, policy: &P) -> Flow {
        let state = policy.state(&Core::default());
        self.with(0, |exchange| policy.on_response(Turn { state: &state, kept: &mut () }, exchange))
    }
}

/// What a policy that never waits has answered, if it has.
pub fn answer(flow: Flow) -> Option<Rc<LocalResponse>> {
    match flow {
        Flow::Continue => None,
        Flow::Respond(answer) | Flow::RespondAndGoOn(answer) => Some(answer),
        Flow::AskAgain(_) => panic!("it has the upstream asked again"),
        Flow::Wait(question) => panic!("it waits for {question:?}"),
    }
}

/// A policy that waits: so often for the request and for the response, and then lets pass, naming itself, or answers.
#[derive(Debug)]
pub struct Waits(WaitsConfig);

#[derive(Debug, Deserialize)]
pub struct WaitsConfig {
    name: String,
    #[serde(default)]
    request: u64,
    #[serde(default)]
    response: u64,
    /// In the direction in which it has waited last.
    #[serde(default)]
    answers: bool,
}

#[derive(Default)]
pub struct Waited {
    times: u64,
    of_response: bool,
}

impl Policy for Waits {
    type Config = WaitsConfig;
    type State = ();
    type PerExchange = Waited;

    fn compile(config: WaitsConfig, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        Ok(Self(config))
    }

    fn state(&self, _: &Core) {}

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.go_on(turn.kept, exchange)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        *turn.kept = Waited { times: 0, of_response: true };
        self.go_on(turn.kept, exchange)
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, reply: Reply) -> Flow {
        assert!(matches!(reply, Reply::Time));
        self.go_on(turn.kept, exchange)
    }
}

impl Waits {
    fn go_on(&self, waited: &mut Waited, exchange: &mut Exchange<'_>) -> Flow {
        let Self(WaitsConfig { name, request, response, answers }) = self;
        let most = if waited.of_response { *response } else { *request };
        if waited.times < most {
            waited.times += 1;
            return Flow::Wait(Box::new(Question::Time(Duration::from_secs(waited.times))));
        }
        let name = HeaderName::new(name).expect("a header name");
        let mut headers = if waited.of_response { exchange.response_headers() } else { exchange.request_headers() };
        headers.append(&name, b"").expect("a value");
        match *answers && (waited.of_response || *response == 0) {
            true => Flow::respond(LocalResponse::error_json(418, "waited", "waited")),
            false => Flow::Continue,
        }
    }
}

/// A policy that reads or looks at bodies: it names itself and what it has read, and refuses a piece that has a word in it.
#[derive(Debug)]
pub struct Reads(ReadsConfig);

#[derive(Debug, Deserialize)]
pub struct ReadsConfig {
    name: String,
    /// `scan`, `buffer`, or how many bytes.
    #[serde(default)]
    request: String,
    #[serde(default)]
    response: String,
    #[serde(default)]
    refuses: String,
}

/// What it has seen pass, of both bodies; `.` is an end.
#[derive(Default)]
pub struct Seen(String);

impl Policy for Reads {
    type Config = ReadsConfig;
    type State = ();
    type PerExchange = Seen;

    fn compile(config: ReadsConfig, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        Ok(Self(config))
    }

    fn state(&self, _: &Core) {}

    fn needs(&self) -> Needs {
        let need = |written: &str| match written {
            "" => Need::None,
            "scan" => Need::Scan,
            "buffer" => Need::Buffer,
            bytes => Need::Peek(bytes.parse().expect("a number")),
        };
        Needs { request: need(&self.0.request), response: need(&self.0.response) }
    }

    fn on_request(&self, _: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.tell(Side::Request, "", exchange)
    }

    fn on_response(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.tell(Side::Response, &turn.kept.0, exchange)
    }

    fn on_body(&self, turn: Turn<'_, Self>, piece: &Piece<'_>) -> Flow {
        let text = str::from_utf8(piece.bytes).expect("text");
        turn.kept.0 += text;
        turn.kept.0 += if piece.is_last { "." } else { "" };
        match !self.0.refuses.is_empty() && text.contains(&self.0.refuses) {
            true => Flow::respond(LocalResponse::error_json(418, "refused", "refused")),
            false => Flow::Continue,
        }
    }
}

impl Reads {
    /// As the value of a header: what was read ahead, and what was seen before.
    fn tell(&self, side: Side, seen: &str, exchange: &mut Exchange<'_>) -> Flow {
        let read = exchange.body(side).map(Body::to_vec).unwrap_or_default();
        let name = HeaderName::new(&self.0.name).expect("a header name");
        let mut headers = match side {
            Side::Request => exchange.request_headers(),
            Side::Response => exchange.response_headers(),
        };
        headers.append(&name, &[&read, seen.as_bytes()].concat()).expect("a value");
        Flow::Continue
    }
}

pub fn lines(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

pub fn owned(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
    fields
}
