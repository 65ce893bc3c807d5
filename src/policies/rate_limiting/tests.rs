//! What is counted under which key, what clients are told, and what `check` says. How exact it is, `quota`'s tests say.

use std::rc::Rc;

use super::*;
use crate::{
    document::Id,
    policies::{
        Body, LocalResponse, Options,
        clients::Contracts,
        contract::Contract,
        testing::{self, Trial},
    },
};

/// One policy and its core.
struct Bench<P: Policy> {
    policy: P,
    state: P::State,
}

impl<P: Policy> Bench<P> {
    fn of(policy: P) -> Self {
        Self { state: policy.state(&Core::default()), policy }
    }

    fn with_contracts(self, contracts: Vec<Contract>) -> Self {
        self.policy.publish(&self.state, &testing::published(contracts));
        self
    }

    /// What becomes of a request with these lines: `admitted`, or status and reason; then what the response has.
    fn ask(&self, trial: &mut Trial) -> (String, Vec<(String, String)>) {
        let mut kept = P::PerExchange::default();
        let flow =
            trial.with(0, |exchange| self.policy.on_request(Turn { state: &self.state, kept: &mut kept }, exchange));
        let decided = match testing::answer(flow) {
            None => "admitted".to_owned(),
            Some(answer) => format!("{} {}", answer.status, answer.reason),
        };
        trial.with(0, |exchange| self.policy.on_response(Turn { state: &self.state, kept: &mut kept }, exchange));
        (decided, testing::lines(&trial.response.fields))
    }

    fn decides(&self, lines: &[(&str, &str)]) -> String {
        self.ask(&mut Trial::new("GET", "/", lines)).0
    }
}

const DAY: &str = "timePeriodInMilliseconds: 86400000";

fn limited(more: &str) -> Bench<RateLimiting> {
    let config = format!("{{rateLimits: [{{maximumRequests: 1, {DAY}}}], {more}}}");
    Bench::of(testing::compile(&config).unwrap_or_else(|faults| panic!("{config}: {faults:?}")))
}

const REFUSAL: &str = "429 rate_limit";

#[test]
fn without_a_key_all_requests_are_one_group() {
    let bench = limited("");
    assert_eq!([bench.decides(&[("x-id", "a")]), bench.decides(&[("x-id", "b")])], ["admitted", REFUSAL]);
}

#[test]
fn each_key_is_counted_by_itself_and_what_has_none_under_the_empty_one() {
    let bench = limited("keySelector: \"#[attributes.headers['x-id']]\"");
    let decided = ["a", "b", "A", "a", "", "true", "1", "1.0"].map(|id| bench.decides(&[("x-id", id)]));
    let admitted = "admitted".to_owned();
    let expected = [&admitted, &admitted, &admitted, &REFUSAL.to_owned(), &admitted, &admitted, &admitted, &admitted];
    assert_eq!(decided.each_ref(), expected);
    assert_eq!(bench.decides(&[]), REFUSAL, "as the empty value");
    assert_eq!(bench.decides(&[("x-id", "a"), ("x-id", "b")]), "admitted", "the lines joined");
    assert_eq!(bench.decides(&[("x-id", "a, b")]), REFUSAL);
}

#[test]
fn a_key_that_fails_or_is_no_text_is_the_empty_one() {
    for key in ["['a'] ++ attributes.headers['x']", "'a' ++ null", "attributes.headers", "[1, 2]", "null"] {
        let bench = limited(&format!("keySelector: \"#[{key}]\""));
        let plain = limited("");
        assert_eq!(bench.decides(&[("x-id", "a")]), "admitted", "{key}");
        assert_eq!(bench.decides(&[("x-id", "b")]), REFUSAL, "{key}");
        assert_eq!(plain.decides(&[]), "admitted");
    }
}

#[test]
fn booleans_and_numbers_are_keys_as_they_are_written() {
    let key = "if (attributes.headers.kind == 'flag') attributes.headers.x == '1' else \
               (if (attributes.headers.kind == 'number') 1 else attributes.headers.x)";
    let bench = limited(&format!("keySelector: \"#[{key}]\""));
    let ask = |kind, x| bench.decides(&[("kind", kind), ("x", x)]);
    assert_eq!([ask("flag", "1"), ask("number", "")], ["admitted", "admitted"]);
    assert_eq!([ask("text", "true"), ask("text", "1"), ask("text", "2")], [REFUSAL, REFUSAL, "admitted"]);
}

#[test]
fn a_key_may_be_read_from_the_body() {
    let bench = limited("keySelector: '#[payload.id]'");
    assert_eq!(bench.policy.needs().request, crate::policies::Need::Buffer);
    assert_eq!(limited("keySelector: '#[attributes.method]'").policy.needs().request, crate::policies::Need::None);
    let ask = |body: &str| {
        let mut trial = Trial::new("POST", "/", &[("content-type", "application/json")]);
        trial.request.body = crate::http::head::BodyLength::Chunked;
        trial.bodies.request = Body::whole(body.as_bytes());
        bench.ask(&mut trial).0
    };
    assert_eq!(
        [ask("{\"id\": 7}"), ask("{\"id\": \"7\"}"), ask("{"), ask("{}")],
        ["admitted", REFUSAL, "admitted", REFUSAL]
    );
}

#[test]
fn several_limits_are_spent_together_or_not_at_all() {
    let limits = format!("[{{maximumRequests: 3, {DAY}}}, {{maximumRequests: 2, timePeriodInMilliseconds: 3600000}}]");
    let bench: Bench<RateLimiting> =
        Bench::of(testing::compile(&format!("{{rateLimits: {limits}, exposeHeaders: true}}")).expect("valid"));
    let told = [(); 3].map(|()| {
        let (decided, lines) = bench.ask(&mut Trial::new("GET", "/", &[]).answered(200, &[]));
        let [limit, remaining, _] = &lines[..] else { panic!("{lines:?}") };
        format!("{decided} {} of {}", remaining.1, limit.1)
    });
    assert_eq!(told, ["admitted 1 of 2", "admitted 0 of 2", "429 rate_limit 0 of 2"]);
}

#[test]
fn the_answers_are_exactly_these() {
    let spending = Spending::new(&Core::default());
    let shown = |answer: &Rc<LocalResponse>| {
        let LocalResponse { status, headers, body, content_type, .. } = &**answer;
        (*status, headers.len(), String::from_utf8_lossy(body).into_owned(), *content_type)
    };
    let json = Some("application/json; charset=UTF-8");
    let [refused, unavailable] = spending.answers();
    assert_eq!(shown(refused), (429, 0, "{\"error\":\"Too Many Requests\"}".to_owned(), json));
    assert_eq!(shown(unavailable), (503, 0, "{\"error\":\"Service Unavailable\"}".to_owned(), json));
}

#[test]
fn headers_are_said_only_where_they_are_asked_for() {
    let bench = limited("");
    assert_eq!(bench.ask(&mut Trial::new("GET", "/", &[]).answered(200, &[])).1, []);
    let bench = limited("exposeHeaders: true");
    for (decided, remaining) in [("admitted", "0"), (REFUSAL, "0")] {
        let (found, lines) = bench.ask(&mut Trial::new("GET", "/", &[]).answered(200, &[("x-ratelimit-limit", "7")]));
        assert_eq!(found, decided);
        let [limit, left, reset] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!([&*limit.1, &*left.1], ["1", remaining]);
        assert!((86_390_000..=86_400_000).contains(&reset.1.parse::<u64>().expect("a number")), "{reset:?}");
    }
}

#[test]
fn the_standards_fields_call_a_limit_by_its_place() {
    let config = format!("{{rateLimits: [{{maximumRequests: 5, {DAY}}}, {{maximumRequests: 1, {DAY}}}]}}");
    let options = Options { standard_headers: Some(true), retry_after: Some(true), ..Options::default() };
    let bench: Bench<RateLimiting> = Bench::of(testing::compile_with_options(&config, options));
    let lines = [(); 2].map(|()| bench.ask(&mut Trial::new("GET", "/", &[]).answered(200, &[])).1);
    let names: Vec<Vec<&str>> = lines.iter().map(|lines| lines.iter().map(|(name, _)| &**name).collect()).collect();
    assert_eq!(names, [vec!["ratelimit-policy", "ratelimit"], vec!["ratelimit-policy", "ratelimit", "retry-after"]]);
    assert_eq!(lines[0][0].1, "\"binding\";q=5;w=86400, \"binding-2\";q=1;w=86400");
    assert_eq!(lines[0][1].1, "\"binding-2\";r=0;t=86400");
    assert_eq!(lines[1][2].1, "86400");
}

/// The limiter's identity in a chain of which these come before.
fn identity_of(config: &str, rules: &str, before: Vec<u64>) -> (u64, Vec<u64>) {
    let mut site = testing::site().with_limiters(rules.to_owned(), before);
    let policy: RateLimiting =
        crate::policies::build(&testing::node(config), "config", &mut site, &mut Vec::new()).expect("valid");
    (policy.rate.identity(), site.take_limiters())
}

#[test]
fn a_count_belongs_to_all_that_is_configured_but_the_limits() {
    let config = |limit: u64, more: &str| format!("{{rateLimits: [{{maximumRequests: {limit}, {DAY}}}]{more}}}");
    let (first, taken) = identity_of(&config(1, ""), "", Vec::new());
    let of = |config: &str, rules: &str| identity_of(config, rules, Vec::new()).0;
    assert_eq!(of(&config(2, ", exposeHeaders: true, clusterizable: false"), ""), first);
    let by_id = of(&config(1, ", keySelector: '#[attributes.headers.id]'"), "");
    assert_eq!(of(&config(1, ", keySelector: '#[ attributes.headers[\"id\"] ]'"), ""), by_id, "the same expression");
    let others = [
        by_id,
        of(&config(1, ", keySelector: 'attributes.headers.id'"), ""),
        of(&config(1, ", keySelector: '#[attributes.headers.ip]'"), ""),
        of(&config(1, ""), "[{\"methods\":\"GET\"}]"),
        identity_of(&config(1, ""), "", taken).0,
    ];
    for (at, other) in others.iter().enumerate() {
        assert!(*other != first && !others[..at].contains(other), "{at}");
    }
    let here = Id::new("default", "api");
    let elsewhere = Id::new("other", "api");
    let nobody = Contracts::default();
    let of_owner = |owner: &Id| Site::new(owner, &here, &nobody).limiter(NAME, "");
    assert!(
        of_owner(&here) != of_owner(&elsewhere) && of_owner(&here) != Site::new(&here, &here, &nobody).limiter("a", "")
    );
}

#[test]
fn every_fault_is_reported() {
    let faults = |config: &str| testing::faults::<RateLimiting>(config);
    assert_eq!(faults("{}"), ["config.rateLimits: required, but missing"]);
    assert_eq!(faults("{rateLimits: []}"), ["config.rateLimits: must have one limit at least"]);
    assert_eq!(
        faults("{rateLimits: [{maximumRequests: 0}], keySelector: '#[attributes.]'}"),
        [
            "config.rateLimits[0].timePeriodInMilliseconds: required, but missing",
            "config.rateLimits[0].maximumRequests: expected 1 to 1000000000000",
            "config.keySelector: a name is expected before the end, at byte 14",
        ]
    );
}

#[test]
fn what_will_surprise_is_said() {
    let remarks = |more: &str| {
        testing::remarks::<RateLimiting>(&format!("{{rateLimits: [{{maximumRequests: 1, {DAY}}}], {more}}}"))
    };
    assert_eq!(remarks("keySelector: \"#[attributes.headers['x-id']]\""), <[String; 0]>::default());
    assert_eq!(
        remarks("keySelector: x"),
        ["config.keySelector: no expression in `#[` and `]`: all requests have this one key"]
    );
    assert!(remarks("keySelector: '#[attributes.remoteAddress]'")[0].contains("each connection counts for itself"));
    assert!(remarks("keySelector: '#[attributes.clientAddress]'")[0].contains("always null"));
    assert!(remarks("keySelector: '#[attributes.method'")[0].contains("no `]` at its end"));
    assert_eq!(
        testing::remarks::<RateLimiting>(&format!(
            "{{rateLimits: [{{maximumRequests: 1, {DAY}, keySelector: '#[attributes.method]', exposeHeaders: true}}]}}"
        )),
        [
            "config.rateLimits[0].keySelector: ignored: belongs one level up",
            "config.rateLimits[0].exposeHeaders: ignored: belongs one level up"
        ]
    );
}

/// An API with clients of these ids and limits.
fn by_contract(config: &str, clients: &[(&str, Option<&str>)]) -> (Bench<SlaRateLimiting>, Vec<String>) {
    let contract = |(id, limits): &(&str, Option<&str>)| -> Contract {
        let sla = limits.map(|limits| format!(", sla: {{id: '7', name: gold, limits: {limits}}}")).unwrap_or_default();
        let text = format!("{{apiId: api, client: {{id: {id}, name: N{id}, secret: s{id}}}{sla}}}");
        testing::node(&text).deserialize("spec", &mut Vec::new()).unwrap_or_else(|| panic!("{text}"))
    };
    let contracts: Vec<_> = clients.iter().map(contract).collect();
    let (policy, remarks) = testing::compile_with_contracts(config, contracts.clone()).expect("valid");
    (Bench::of(policy).with_contracts(contracts), remarks)
}

const TWO_A_DAY: Option<&str> = Some("[{maximumRequests: 2, timePeriodInMilliseconds: 86400000}]");
const SECRETS: &str = "{clientSecretExpression: \"#[attributes.headers['client_secret']]\"}";

#[test]
fn each_client_has_the_limits_of_its_tier() {
    let one = Some("[{maximumRequests: 1, timePeriodInMilliseconds: 86400000}]");
    let (bench, _) = by_contract("{}", &[("a", TWO_A_DAY), ("b", one), ("c", TWO_A_DAY)]);
    let ask = |id| bench.decides(&[("client_id", id)]);
    assert_eq!([ask("a"), ask("a"), ask("a")], ["admitted", "admitted", REFUSAL]);
    assert_eq!([ask("b"), ask("b"), ask("c")], ["admitted", REFUSAL, "admitted"]);
}

#[test]
fn who_is_not_a_client_is_refused_and_spends_nothing() {
    let one = Some("[{maximumRequests: 1, timePeriodInMilliseconds: 86400000}]");
    let (bench, remarks) = by_contract(SECRETS, &[("a", one), ("bare", None), ("empty", Some("[]"))]);
    let no_limits = |id| format!("config: the contract of client `{id}` has no limits: it is refused");
    assert_eq!(remarks, [no_limits("bare"), no_limits("empty")]);
    let ask = |id, secret| bench.decides(&[("client_id", id), ("client_secret", secret)]);
    let (missing, invalid, no_tier) = ("401 client_id_missing", "401 client_invalid", "401 sla_missing");
    assert_eq!(bench.decides(&[]), missing);
    assert_eq!([ask("", "sa"), ask("b", "sa"), ask("a", "sb"), ask("a", "")], [missing, invalid, invalid, invalid]);
    assert_eq!([ask("bare", "sbare"), ask("empty", "sempty")], [no_tier, no_tier]);
    assert_eq!([ask("a", "sa"), ask("a", "sa"), ask("a", "sb")], ["admitted", REFUSAL, invalid]);
    let (nobody, remarks) = by_contract(SECRETS, &[]);
    assert_eq!(remarks, ["config: this API has no contract: every request is refused with 503"]);
    assert_eq!(nobody.decides(&[("client_id", "a")]), "503 contracts_missing");
}

#[test]
fn later_policies_read_the_client_and_its_tier() {
    let (bench, remarks) = by_contract("{}", &[("a", TWO_A_DAY)]);
    assert!(remarks[0].contains("no secret is checked"), "{remarks:?}");
    let mut trial = Trial::new("GET", "/", &[("client_id", "a")]);
    bench.ask(&mut trial);
    let found = &trial.authentication;
    let read = [found.client_id(), found.client_name(), found.sla_id(), found.sla_name()];
    assert_eq!(read, ["a", "Na", "7", "gold"].map(Some));
}

#[test]
fn a_client_that_another_policy_has_found_may_be_the_one() {
    let config = "{clientIdExpression: '#[authentication.principal]'}";
    let (bench, remarks) = by_contract(config, &[("a", TWO_A_DAY)]);
    assert_eq!(remarks, <[String; 0]>::default(), "that policy has looked at a secret");
    let mut trial = Trial::new("GET", "/", &[("client_id", "b")]);
    trial.authentication.set_principal("a");
    assert_eq!(bench.ask(&mut trial).0, "admitted");
    assert_eq!(
        testing::faults::<SlaRateLimiting>("{clientIdExpression: a, clientSecretExpression: '#[payload]'}"),
        ["config.clientIdExpression: must be an expression in `#[` and `]`"]
    );
}

#[test]
fn each_client_is_told_of_its_own_limits() {
    let other = Some("[{maximumRequests: 9, timePeriodInMilliseconds: 60000}]");
    let (bench, _) = by_contract("{exposeHeaders: true}", &[("a", TWO_A_DAY), ("b", other)]);
    let told = ["a", "b"].map(|id| bench.ask(&mut Trial::new("GET", "/", &[("client_id", id)]).answered(200, &[])).1);
    assert_eq!([&told[0][0].1, &told[0][1].1, &told[1][0].1, &told[1][1].1], ["2", "1", "9", "8"]);
    let nobody = bench.ask(&mut Trial::new("GET", "/", &[]).answered(401, &[]));
    assert_eq!(nobody.1, [], "nothing was counted");
}

#[test]
fn limits_of_a_contract_are_checked_with_it() {
    let mut problems = Vec::new();
    let text = "{apiId: api, client: {id: a}, sla: {limits: [{maximumRequests: 0, timePeriodInMilliseconds: 1}]}}";
    assert!(testing::node(text).deserialize::<Contract>("spec", &mut problems).is_none());
    let texts: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect();
    assert_eq!(texts, ["spec.sla.limits: [0].maximumRequests: expected 1 to 1000000000000"]);
}

#[test]
fn neither_ids_nor_secrets_are_shown() {
    let (bench, _) = by_contract(SECRETS, &[("hunter2", TWO_A_DAY)]);
    assert!(!format!("{:?}", bench.policy).contains("hunter2"));
}
