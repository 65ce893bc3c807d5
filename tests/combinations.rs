//! `explain` and a running gateway say the same of random requests to random chains of policies: what is answered, why, and what
//! the upstream sees. What a policy does alone its own tests say; here they meet.
//!
//! Everything follows from one seed, which `RINGWAY_TEST_SEED` replaces: another one looks elsewhere.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

mod compare;

use std::{fmt::Write as _, fs, path::Path, sync::Arc};

use compare::{CLIENT, LIMIT, agree, ask, echo};
use ringway::{
    config::{Loader, environment::Environment},
    explain::{
        Question, Secrets, explain,
        report::{Explanation, Outcome, Turn},
    },
    telemetry::series::SeriesId,
};
use support::{
    gateway::{Gateway, Launch, drivers},
    ports,
};

const SEED: u64 = 20_261_129;
/// APIs, each with a chain of its own, and requests to each.
const APIS: usize = 80;
const REQUESTS: usize = 20;

#[test]
fn random_chains_do_to_random_requests_what_explain_says() {
    let seed = std::env::var("RINGWAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let mut random = Random(seed);
    let (port, management) = (ports::reserve(), ports::reserve());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("combinations").join(port.to_string());
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("a directory");
    let upstream = echo().to_string();
    let apis: Vec<String> = (0..APIS).map(|number| random.api(number, port, &upstream)).collect();
    fs::write(directory.join("api.yaml"), SETTINGS.to_owned() + &apis.concat()).expect("a file");

    let loaded = Loader::new(vec![directory.clone()], Environment::default()).load();
    let outcome = loaded.compile(0, &mut |_| SeriesId::default()).accept(false);
    let snapshot = Arc::new(outcome.unwrap_or_else(|problems| panic!("{problems:#?}")));
    let driver = drivers().pop().expect("epoll at least");
    let launch = Launch { directory: &directory, driver: &driver, management, flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("it starts");
    gateway.wait_live(false, LIMIT).expect("it serves");

    let (mut told, mut differences) = (Vec::new(), Vec::new());
    for (number, api) in apis.iter().enumerate() {
        for request in 0..REQUESTS {
            let path = format!("/a{number}/{}/{request}", random.one(&["p", "q", "r"]));
            let question = random.question(port, &path);
            let explained = explain(snapshot.clone(), &question, Secrets::Shown).expect("it can be sent");
            let seen = ask(port, &question).unwrap_or_else(|error| panic!("{path}: {error}\n{api}"));
            let mut difference = |what: String| {
                let body = question.body.as_deref().map(String::from_utf8_lossy);
                let head = String::from_utf8_lossy(&question.head()).into_owned();
                differences.push(format!("{what}\n{head}{body:?}\n{api}"));
            };
            agree(&explained, &seen, &question.method).unwrap_or_else(&mut difference);
            // A policy that fails on the way back is not explained.
            let is_replaced =
                seen.0 == 500 && !matches!(&explained.outcome, Outcome::Answered(answer) if answer.status == 500);
            told.push((path, explained, is_replaced));
        }
    }
    let last = &told.last().expect("there is one").0;
    assert!(gateway.stdout.wait(LIMIT, |line| line.contains(&format!(" path={last} "))), "no line for {last}");
    let lines = gateway.stdout.all();
    for (path, explained, is_replaced) in &told {
        let line = lines.iter().find(|line| line.contains(&format!(" path={path} "))).expect("one for each");
        if let Err(what) = is_logged(line, explained, *is_replaced) {
            differences.push(format!("{what}\n{line}\n{:#?} {:#?}", explained.policies, explained.outbound_policies));
        }
    }
    fs::remove_dir_all(&directory).ok();
    differences.iter().take(5).for_each(|difference| println!("{difference}\n"));
    assert_eq!(differences.len(), 0, "differences in {} comparisons, seed {seed}", told.len());
    let reasons = told.iter().filter(|(_, told, _)| matches!(told.outcome, Outcome::Answered(_))).count();
    assert!(reasons > told.len() / 10 && reasons < told.len() * 9 / 10, "{reasons} of {} are answered", told.len());
}

/// Whether the access log says what was explained: the reason, and what a policy in shadow would have refused with.
fn is_logged(line: &str, told: &Explanation, is_replaced: bool) -> Result<(), String> {
    let value = |name: &str| {
        let behind = line.split(&format!(" {name}=")).nth(1).unwrap_or_default();
        behind.split(' ').next().unwrap_or_default().trim_matches('"').to_owned()
    };
    let reason = match &told.outcome {
        Outcome::Answered(answer) => answer.reason,
        _ => "",
    };
    let (flags, shadow_deny) = (value("flags"), value("shadow_deny"));
    if flags != reason && !is_replaced {
        return Err(format!("explained `{reason}`, logged `{flags}`"));
    }
    let turns = told.policies.iter().chain(&told.outbound_policies);
    let would = turns.filter(|turn| turn.shadow && matches!(turn.what, Turn::WouldAnswer | Turn::Broken));
    let would: Vec<&str> = would.map(|turn| turn.why.as_str()).collect();
    let mut denied = would.iter().filter(|why| why.contains("would answer 4") || why.contains("would answer 5"));
    let fits = match shadow_deny.is_empty() {
        true => denied.next().is_none(),
        false => denied.any(|why| why.contains(&shadow_deny)),
    };
    if fits { Ok(()) } else { Err(format!("explained {would:?} in shadow, logged `{shadow_deny}`")) }
}

const SETTINGS: &str = "
apiVersion: gateway.mulesoft.com/v1alpha1
kind: Configuration
metadata: {name: settings}
spec: {ringway: {accessLog: {format: text}, limits: {bufferedBodyBytes: 4000}}}
";

const SECRET: &str = "only-for-tests-0123456789abcdefg";
/// By that secret: `sub` is `ada`, `client_id` is `c1`, and it expires in 2100.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEiLCJjbGllbnRfaWQiOiJjMSIsImV4cCI6NDEwMjQ0NDgwMCwiYXVkIjoib3JkZXJzIiwi\
                     cm9sZXMiOlsicmVhZGVyIl19.DeQkQYdjoM3tlUU6HdQi0T0G6EJ1wVmKs9pznPXsnVc";

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn in_so_many(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len() as u64) as usize]
    }

    /// An ApiInstance with its chain, and mostly a client.
    fn api(&mut self, number: usize, port: u16, upstream: &str) -> String {
        let prefix = self.one(&["", "", "/v2"]);
        let policies = (0..self.below(6)).map(|_| self.inbound()).collect::<Vec<_>>().concat();
        let outbound = (0..self.below(3)).map(|_| self.outbound()).collect::<Vec<_>>().concat();
        let routes = self.one(&["", "", "routes: [{rules: [{path: '/p/.*'}]}, {rules: [{methods: POST}]}], "]);
        let mut text = format!(
            "---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a{number}}}\nspec:\n  \
             address: http://127.0.0.1:{port}/a{number}\n  policies:{}\n{policies}  services:\n    s: {{address: \
             'http://{upstream}{prefix}', {routes}policies: [{outbound}]}}\n",
            if policies.is_empty() { " []" } else { "" }
        );
        if !self.in_so_many(4) {
            let client = "{id: c1, name: One, secret: lovelace}";
            write!(
                text,
                "---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: Contract\nmetadata: {{name: c{number}}}\nspec: \
                 {{apiId: a{number}, client: {client}}}\n"
            )
            .expect("a String takes everything");
        }
        text
    }

    fn inbound(&mut self) -> String {
        let (name, config) = self.policy();
        let rules = match self.below(3) {
            0 => String::new(),
            _ => {
                format!("\n      rules: [{}]", (0..=self.below(2)).map(|_| self.rule()).collect::<Vec<_>>().join(", "))
            }
        };
        let shadow = if self.in_so_many(5) { "\n      ringway: {mode: shadow}" } else { "" };
        format!("    - policyRef: {{name: {name}}}\n      config: {config}{rules}{shadow}\n")
    }

    fn rule(&mut self) -> &'static str {
        self.one(&[
            "{path: '/p/.*'}",
            "{path: '/(q|r)/.*', methods: 'GET|POST'}",
            "{methods: 'POST|PUT'}",
            "{headers: {x-kind: a}}",
            "{path: '/p/.*', headers: {x-kind: 'a|b'}}",
        ])
    }

    fn policy(&mut self) -> (&'static str, String) {
        let value = self.value();
        match self.below(17) {
            0 => ("access-block", "{}".to_owned()),
            1 | 2 => (
                "header-injection-flex",
                format!("{{inboundHeaders: [{{key: {}, value: \"{value}\"}}]}}", self.header()),
            ),
            3 => (
                "header-injection-flex",
                format!(
                    "{{outboundHeaders: [{{key: x-out, value: out}}], inboundHeaders: [{{key: x-in, value: \"{value}\"}}]}}"
                ),
            ),
            4 => ("header-removal-flex", format!("{{inboundHeaders: [{}, x-none]}}", self.header())),
            5 => ("cors-flex", self.cors()),
            6 => ("http-basic-authentication-flex", "{username: ada, password: lovelace}".to_owned()),
            7 => ("client-id-enforcement-flex", self.client_id()),
            8 | 9 => ("jwt-validation-flex", self.jwt()),
            10 => (
                "ip-allowlist-flex",
                format!("{{ips: [{}]}}", self.one(&["192.0.2.0/24", "10.0.0.0/8, 192.0.2.9", "not-an-address"])),
            ),
            11 => (
                "ip-blocklist-flex",
                format!(
                    "{{ips: [192.0.2.9], ipExpression: \"#[attributes.{}]\"}}",
                    self.one(&["remoteAddress", "headers['x-forwarded-for']"])
                ),
            ),
            12 | 13 => (
                "json-threat-protection-flex",
                format!(
                    "{{maxContainerDepth: {}, maxStringValueLength: {}}}",
                    self.below(5) as i64 - 1,
                    self.below(9) as i64 - 1
                ),
            ),
            14 => ("message-logging-flex", self.logging()),
            15 => (
                "spike-control-flex",
                "{maximumRequests: 100000, timePeriodInMilliseconds: 1000, delayTimeInMillis: 0, delayAttempts: 0}"
                    .to_owned(),
            ),
            _ => (
                self.one(&["response-timeout-flex", "stream-idle-timeout-flex", "rate-limiting-flex"]),
                "{timeout: 20}".to_owned(),
            ),
        }
    }

    fn outbound(&mut self) -> String {
        let (name, config) = match self.below(5) {
            0 => ("credential-injection-basic-auth-flex", "{username: gw, password: pw}".to_owned()),
            1 => (
                "credential-injection-api-key-flex",
                format!(
                    "{{apiKey: k, customHeader: {}, overwrite: {}}}",
                    self.one(&["x-kind", "x-key"]),
                    self.one(&["true", "false"])
                ),
            ),
            2 => (
                "credential-injection-api-key-flex",
                "{authType: clientCredentials, clientId: i, clientSecret: s}".to_owned(),
            ),
            3 => ("message-logging-outbound-flex", self.logging()),
            _ => ("idle-timeout-flex", "{timeout: 20}".to_owned()),
        };
        format!("{{policyRef: {{name: {name}}}, config: {config}}}, ")
    }

    fn header(&mut self) -> &'static str {
        self.one(&["x-kind", "x-in", "authorization", "client_id", "x-forwarded-for", "content-type", "Accept"])
    }

    /// Some have no value for most requests.
    fn value(&mut self) -> &'static str {
        self.one(&[
            "a",
            "Basic YWRhOmxvdmVsYWNl",
            "#[attributes.method]",
            "#[attributes.requestPath ++ (attributes.queryString default '')]",
            "#[attributes.headers['x-kind'] default 'none']",
            "#[attributes.headers['x-kind'] ++ '!']",
            "#[payload.a default 'none']",
            "#[payload.a.b.c default payload[0] default 'none']",
            "#[authentication.clientId default 'nobody']",
            "#[authentication.principal default 'nobody']",
            "#[authentication.properties.claims.sub default 'nobody']",
            "#[attributes.queryParams.q default '-']",
        ])
    }

    fn cors(&mut self) -> String {
        match self.below(3) {
            0 => "{publicResource: true}".to_owned(),
            credentials => format!(
                "{{publicResource: false, supportCredentials: {}, originGroups: [{{originGroupName: g, origins: \
                 ['https://shop.example'], allowedMethods: [{{methodName: PUT, allowed: true}}, {{methodName: GET, allowed: \
                 true}}], headers: [x-kind], exposedHeaders: []}}]}}",
                credentials == 1
            ),
        }
    }

    fn client_id(&mut self) -> String {
        match self.below(4) {
            0 => "{credentialsOriginHasHttpBasicAuthenticationHeader: httpBasicAuthenticationHeader}".to_owned(),
            1 => "{clientIdExpression: \"#[payload.client]\"}".to_owned(),
            2 => "{clientIdExpression: \"#[authentication.properties.claims.client_id]\"}".to_owned(),
            _ => "{clientSecretExpression: \"#[attributes.headers['client_secret']]\"}".to_owned(),
        }
    }

    fn jwt(&mut self) -> String {
        let key = match self.below(3) {
            0 => "signingMethod: none".to_owned(),
            1 => "signingMethod: hmac, jwtKeyOrigin: customExpression, customKeyExpression: \"#[attributes.headers['x-key']]\""
                .to_owned(),
            _ => format!("signingMethod: hmac, textKey: {SECRET}"),
        };
        let rest = self.one(&[
            "",
            ", mandatoryExpClaim: true, mandatoryNbfClaim: true",
            ", validateAudClaim: true, supportedAudiences: 'orders, others'",
            ", skipClientIdValidation: false",
            ", validateCustomClaim: true, mandatoryCustomClaims: [{key: sub, value: \"#[payload.a == 1]\"}]",
            ", validateCustomClaim: true, mandatoryCustomClaims: [{key: sub, value: ada}]",
            ", jwtOrigin: customExpression, jwtExpression: \"#[attributes.queryParams.q]\"",
        ]);
        format!("{{{key}{rest}}}")
    }

    fn logging(&mut self) -> String {
        let message = self.one(&["#[attributes.headers]", "#[payload]", "#[vars.violation default 'none']", "text"]);
        let sections =
            self.one(&["firstSection: true", "secondSection: true", "firstSection: true, secondSection: true"]);
        format!(
            "{{loggingConfiguration: [{{itemName: i, itemData: {{message: \"{message}\", level: INFO, {sections}}}}}]}}"
        )
    }

    fn question(&mut self, port: u16, path: &str) -> Question {
        let method = self.one(&["GET", "GET", "POST", "POST", "POST", "PUT", "OPTIONS", "HEAD", "DELETE"]);
        let query = match self.below(4) {
            0 => "?q=1".to_owned(),
            1 => format!("?q={TOKEN}"),
            _ => String::new(),
        };
        let mut headers: Vec<String> = (0..self.below(5)).map(|_| self.line()).collect();
        let has_body = matches!(method, "POST" | "PUT") || self.in_so_many(8);
        let body = has_body.then(|| self.body());
        if has_body {
            headers
                .push(format!("content-type: {}", self.one(&["application/json", "application/json", "text/plain"])));
            if self.in_so_many(3) {
                headers.push("transfer-encoding: chunked".to_owned());
            }
        }
        let url = format!("http://127.0.0.1:{port}{path}{query}");
        Question::new(method, &url, None, &headers, body, CLIENT).expect("a request")
    }

    fn line(&mut self) -> String {
        match self.below(12) {
            0 => format!("authorization: Bearer {TOKEN}"),
            1 => format!("x-key: {SECRET}"),
            at => [
                "authorization: Basic YWRhOmxvdmVsYWNl",
                "authorization: Basic YzE6bG92ZWxhY2U=",
                "authorization: Bearer a.b.c",
                "x-forwarded-for: 192.0.2.9",
                "x-forwarded-for: 10.1.2.3, 192.0.2.9",
                "client_id: c1",
                "client_secret: lovelace",
                "x-kind: a",
                "x-kind: b",
                "origin: https://shop.example",
            ][at as usize - 2]
                .to_owned(),
        }
    }

    fn body(&mut self) -> Vec<u8> {
        let text = match self.below(10) {
            0 => String::new(),
            1 => format!("[\"{}\"]", "x".repeat(5000)),
            2 => "{\"a\": ".to_owned(),
            3 => "[[[[[[1]]]]]]".to_owned(),
            4 => "{\"client\": \"c1\", \"a\": 1}".to_owned(),
            _ => self.json(3),
        };
        text.into_bytes()
    }

    fn json(&mut self, depth: u64) -> String {
        match self.below(if depth == 0 { 3 } else { 5 }) {
            0 => self.below(100).to_string(),
            1 => format!("\"{}\"", "s".repeat(self.below(8) as usize)),
            2 => self.one(&["true", "null", "1e3"]).to_owned(),
            3 => format!("[{}]", (0..self.below(4)).map(|_| self.json(depth - 1)).collect::<Vec<_>>().join(",")),
            _ => {
                let entry = |random: &mut Self, at| format!("\"{}\":{}", ["a", "b", "c"][at], random.json(depth - 1));
                let count = self.below(4) as usize;
                format!("{{{}}}", (0..count).map(|at| entry(self, at)).collect::<Vec<_>>().join(","))
            }
        }
    }
}
