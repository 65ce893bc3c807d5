use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use serde_json::json;

use super::*;
use crate::{
    calls::{Answer, Call, Destination},
    document::address::WebAddress,
    http::head::Fields,
    policies::{
        Policy, Turn,
        oauth2_token_introspection::Oauth2TokenIntrospection,
        openidconnect_access_token_enforcement::OpenidconnectAccessTokenEnforcement,
        testing::{self, Trial},
    },
    telemetry::fault,
};

const CONFIG: &str =
    "introspectionURL: 'https://login.test/introspect?key=hunter1', authorizationValue: Basic hunter2, scopes: 'a b'";
/// The year 2100.
const LATE: u64 = 4_102_444_800;

type Told = Result<(u16, String), &'static str>;

/// A policy whose server answers in turn, the last one from then on; and what it was asked.
struct Trying<P: Policy> {
    policy: P,
    state: P::State,
    asked: Arc<Mutex<Vec<String>>>,
}

impl<P: Policy<State = State, PerExchange = Kept>> Trying<P> {
    fn of(policy: P, answers: Vec<Told>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, at) = (asked.clone(), AtomicUsize::new(0));
        let calls = Calls::told(move |call: &Call| {
            let body = String::from_utf8_lossy(&call.body).into_owned();
            noted.lock().expect("a test").push(format!("{call} {body}").trim_end().to_owned());
            let at = at.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            let whole =
                |(status, body): (u16, String)| Answer { status, headers: Fields::default(), body: body.into() };
            answers[at].clone().map(whole).map_err(|reason| fault::Fault::new(reason, ""))
        });
        let core = Core { calls: Some(calls), signals: Signals::apart(), ..Core::default() };
        Self { state: policy.state(&core), policy, asked }
    }

    fn ask(&self, trial: &mut Trial) -> Result<(), (u16, &'static str, String)> {
        self.ask_at(trial, None)
    }

    fn ask_at(&self, trial: &mut Trial, clock: Option<SystemTime>) -> Result<(), (u16, &'static str, String)> {
        let flow = trial.with(4, |exchange| {
            exchange.set_now(clock);
            let mut kept = Kept::default();
            self.policy.on_request(Turn { state: &self.state, kept: &mut kept }, exchange)
        });
        match testing::answer(flow) {
            None => Ok(()),
            Some(answer) => Err((answer.status, answer.reason, String::from_utf8_lossy(&answer.body).into_owned())),
        }
    }

    fn times(&self) -> usize {
        self.asked.lock().expect("a test").len()
    }
}

fn introspection(more: &str, answers: Vec<Told>) -> Trying<Oauth2TokenIntrospection> {
    let config = format!("{{{CONFIG}, skipClientIdValidation: true{more}}}");
    Trying::of(testing::compile(&config).expect("valid"), answers)
}

fn openid(config: &str, answers: Vec<Told>) -> Trying<OpenidconnectAccessTokenEnforcement> {
    Trying::of(testing::compile(&format!("{{{config}}}")).expect("valid"), answers)
}

fn request(token: &str) -> Trial {
    Trial::new("GET", "/api/x", &[("authorization", &format!("Bearer {token}"))])
}

fn good(more: serde_json::Value) -> Told {
    let mut answer = json!({ "active": true, "scope": "b a", "client_id": "client", "username": "ada", "exp": LATE });
    let (Some(answer_fields), Some(more)) = (answer.as_object_mut(), more.as_object()) else { panic!("objects") };
    answer_fields.extend(more.clone());
    answer_fields.retain(|_, value| !value.is_null());
    Ok((200, answer.to_string()))
}

fn error(text: &str) -> String {
    json!({ "error": text }).to_string()
}

#[test]
fn a_good_token_is_asked_about_once_and_says_who_comes() {
    let trying = introspection("", vec![good(json!({ "mail": "ada@a.test" }))]);
    for _ in 0..3 {
        let mut trial = request("t+1=/~");
        assert_eq!(trying.ask(&mut trial), Ok(()));
        let authentication = &trial.authentication;
        assert_eq!((authentication.principal(), authentication.client_id()), (Some("client"), Some("client")));
        let shown = format!("{:?}", authentication.properties());
        assert!(shown.contains("userProperties") && shown.contains("ada@a.test"), "{shown}");
        assert_eq!(trial.request.fields.len(), 1, "it goes upstream as it came");
    }
    assert_eq!(*trying.asked.lock().unwrap(), ["POST https://login.test/introspect token=t%2B1%3D%2F%7E"]);
    assert_eq!(trying.ask(&mut request("t2")), Ok(()));
    assert_eq!(trying.times(), 2);
}

#[test]
fn what_is_no_token_asks_nobody() {
    let trying = introspection("", vec![good(json!({}))]);
    let missing = Err((401, "token_missing", error("Access token is required.")));
    assert_eq!(trying.ask(&mut Trial::new("GET", "/api/x", &[])), missing);
    let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
    for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer  a", "Bearer a\u{e9}", "Basic YTpi", "a", &long] {
        let told = trying.ask(&mut Trial::new("GET", "/api/x", &[("authorization", value)]));
        assert!(matches!(told, Err((400, "token_malformed", _))), "{value}");
    }
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
    assert!(matches!(trying.ask(&mut Trial::new("GET", "/api/x", &twice)), Err((400, "token_malformed", _))));
    assert_eq!(trying.times(), 0);
}

#[test]
fn every_answer_has_its_refusal() {
    let inactive = (400, "token_invalid", error("Token is inactive."));
    let expired = (400, "token_invalid", error("Token has expired."));
    let revoked = (400, "token_invalid", error("Token has been revoked."));
    let scopes = (403, "token_scopes", error("The required scopes are not authorized"));
    let malformed = (500, "introspection_malformed");
    let unreachable = (401, "introspection_unreachable");
    let ok = |body: &str| Ok((200, body.to_owned()));
    for (answer, expected) in [
        (ok(r#"{"active": false}"#), inactive.clone()),
        (ok(r#"{"active": false, "exp": 1}"#), expired.clone()),
        (ok(r#"{"active": false, "exp": 4102444800}"#), revoked),
        (good(json!({ "exp": 1 })), expired),
        (good(json!({ "nbf": LATE })), inactive),
        (good(json!({ "scope": "a" })), scopes.clone()),
        (good(json!({ "scope": null })), scopes.clone()),
        (good(json!({ "scope": "a,b" })), scopes),
    ] {
        let trying = introspection("", vec![answer.clone()]);
        for _ in 0..3 {
            assert_eq!(trying.ask(&mut request("t")), Err(expected.clone()), "{answer:?}");
        }
        assert_eq!(trying.times(), 1, "one question for each token: {answer:?}");
    }
    for (answer, expected) in [
        (ok("{}"), malformed),
        (ok(""), malformed),
        (Ok((204, String::new())), malformed),
        (Ok((401, r#"{"active": true}"#.to_owned())), malformed),
        (Ok((302, String::new())), malformed),
        (Ok((503, String::new())), malformed),
        (Err("too_large"), malformed),
        (Err("truncated"), malformed),
        (Err("malformed_answer"), malformed),
        (Err("timeout"), unreachable),
        (Err("connect_refused"), unreachable),
        (Err("closed"), unreachable),
        (Err("circuit_open"), unreachable),
        (Err("full"), (503, "introspection_busy")),
    ] {
        let trying = introspection("", vec![answer.clone(), good(json!({}))]);
        let told = trying.ask(&mut request("t")).expect_err("refused");
        assert_eq!((told.0, told.1), expected, "{answer:?}");
        assert_eq!(trying.ask(&mut request("t")), Ok(()), "it is not held against the token: {answer:?}");
    }
}

#[test]
fn a_known_token_is_good_up_to_its_end() {
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 100;
    let trying = introspection("", vec![good(json!({ "exp": exp }))]);
    let at = |seconds: u64| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(trying.ask(&mut request("t")), Ok(()));
    assert_eq!(trying.ask_at(&mut request("t"), at(exp - 1)), Ok(()));
    assert!(matches!(trying.ask_at(&mut request("t"), at(exp)), Err((400, "token_invalid", _))));
    assert_eq!(trying.times(), 1);
}

/// The flow of a request at this moment.
fn at(trying: &Trying<Oauth2TokenIntrospection>, token: &str, now: Instant) -> bool {
    let introspection = trying.policy.introspection();
    let flow =
        request(token).with(4, |exchange| introspection.decide(&trying.state, &mut Kept::default(), exchange, now));
    testing::answer(flow).is_none()
}

#[test]
fn what_is_known_is_forgotten_in_time() {
    let seconds = Duration::from_secs;
    for (more, answer, known) in [
        ("", good(json!({ "exp": null })), 600),
        (", validatedTokenTTL: 5", good(json!({})), 5),
        (", validatedTokenTTL: 5", Ok((200, r#"{"active": false}"#.to_owned())), 60),
    ] {
        let trying = introspection(more, vec![answer]);
        let now = Instant::now();
        let is_good = at(&trying, "t", now);
        assert_eq!(at(&trying, "t", now + seconds(known) - seconds(1)), is_good);
        assert_eq!(trying.times(), 1, "{more}");
        assert_eq!(at(&trying, "t", now + seconds(known) + seconds(1)), is_good);
        assert_eq!(trying.times(), 2, "{more}");
    }
    let trying = introspection(", validatedTokenTTL: 0", vec![good(json!({}))]);
    (0..3).for_each(|_| assert!(at(&trying, "t", Instant::now())));
    assert_eq!(trying.times(), 3);
}

#[test]
fn so_many_tokens_are_known_and_refused_ones_push_none_out() {
    let trying = introspection(", maxCacheEntries: 2", vec![good(json!({}))]);
    for token in ["a", "b", "a", "b", "c", "b", "c"] {
        assert_eq!(trying.ask(&mut request(token)), Ok(()));
    }
    assert_eq!(trying.times(), 3);
    assert_eq!(trying.ask(&mut request("a")), Ok(()));
    assert_eq!(trying.times(), 4);
    let none = introspection(", maxCacheEntries: 0", vec![good(json!({}))]);
    (0..3).for_each(|_| assert_eq!(none.ask(&mut request("a")), Ok(())));
    assert_eq!(none.times(), 3);

    let flooded =
        introspection(", maxCacheEntries: 1", vec![good(json!({})), Ok((200, r#"{"active": false}"#.to_owned()))]);
    assert_eq!(flooded.ask(&mut request("good")), Ok(()));
    for token in (0..500).flat_map(|token| [token, token]) {
        assert!(flooded.ask(&mut request(&format!("bad{token}"))).is_err());
    }
    assert_eq!(flooded.ask(&mut request("good")), Ok(()));
    assert_eq!(flooded.times(), 501, "one question for each token");
}

#[test]
fn an_openid_token_is_known_up_to_its_exp_alone() {
    let asked = |config: &str, answer: Told| {
        let trying = openid(config, vec![answer]);
        (0..3).for_each(|_| assert_eq!(trying.ask(&mut request("t")), Ok(())));
        trying.times()
    };
    assert_eq!(asked("", good(json!({}))), 1);
    assert_eq!(asked("", good(json!({ "exp": null }))), 3);
    assert_eq!(asked("maxCacheSize: 0", good(json!({}))), 3);
    assert_eq!(asked("maxFederationExpirationTime: 0", good(json!({}))), 3);
    assert_eq!(asked("maxFederationExpirationTime: 60", good(json!({}))), 1);
    let trying = openid("", vec![good(json!({}))]);
    assert_eq!(trying.ask(&mut request("t")), Ok(()));
    assert_eq!(*trying.asked.lock().unwrap(), ["POST https://login.test/introspect token=t"]);
}

#[test]
fn fields_go_upstream_and_a_clients_own_do_not() {
    let trying = introspection(", exposeHeaders: true", vec![good(json!({ "mail": "ada@a.test", "roles": ["x"] }))]);
    for _ in 0..2 {
        let lines =
            [("x-agw-mail", "eve@e.test"), ("X_AGW_admin", "true"), ("authorization", "Bearer t"), ("x-agw", "stays")];
        let mut trial = Trial::new("GET", "/api/x", &lines);
        assert_eq!(trying.ask(&mut trial), Ok(()));
        let mut seen = testing::lines(&trial.request.fields);
        seen.sort();
        let expected = [
            ("X-AGW-active", "true"),
            ("X-AGW-client_id", "client"),
            ("X-AGW-mail", "ada@a.test"),
            ("X-AGW-username", "ada"),
            ("authorization", "Bearer t"),
            ("x-agw", "stays"),
        ];
        assert_eq!(seen, testing::owned(&expected));
    }
}

#[test]
fn clients_need_a_contract_where_that_counts() {
    let client = (403, "token_client", error("Invalid Client"));
    for (more, answer, expected) in [
        ("", good(json!({})), Ok("client")),
        ("", good(json!({ "client_id": "other" })), Err(client.clone())),
        ("", good(json!({ "client_id": null })), Err(client.clone())),
        ("consumerBy: username", good(json!({})), Err(client.clone())),
        ("consumerBy: username", good(json!({ "username": "client" })), Ok("client")),
    ] {
        let policy = testing::compile::<Oauth2TokenIntrospection>(&format!("{{{CONFIG}, {more}}}")).expect("valid");
        let trying = Trying::of(policy, vec![answer]);
        trying.policy.publish(&trying.state, &testing::one_client());
        for _ in 0..2 {
            let mut trial = request("t");
            let told = trying.ask(&mut trial).map(|()| trial.authentication.client_id().expect("a client"));
            assert_eq!(told, expected, "{more}");
        }
        assert_eq!(trying.times(), 1);
    }
    let (policy, remarks) =
        testing::compile_with::<Oauth2TokenIntrospection>(&format!("{{{CONFIG}}}"), Vec::new()).expect("valid");
    assert_eq!(remarks, ["config: this API has no contract: every request is refused with 503"]);
    let trying = Trying::of(policy, vec![good(json!({}))]);
    assert!(matches!(trying.ask(&mut request("t")), Err((503, "contracts_missing", _))));
}

#[test]
fn both_spellings_of_the_fields_are_read() {
    let policy = testing::compile::<Oauth2TokenIntrospection>(
        "{introspection_url: 'https://a.test/i', authorization_value: x, validated_token_ttl: 5, authentication_timeout: 7, \
         skip_client_id_validation: true, consumer_by: username, expose_headers: true, scopes: s, \
         scope_validation_criteria: or, max_cache_entries: 9}",
    );
    let shown = format!("{:?}", policy.expect("valid").introspection());
    for part in [
        "a.test/i",
        "7ms",
        "UpTo(5s)",
        "clients: None",
        "\"username\"",
        "exposes: true",
        "[\"s\"]",
        "Or",
        "cache_max: 9",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let twice = testing::compile::<Oauth2TokenIntrospection>(
        "{introspection_url: 'https://a.test/', introspectionURL: 'https://b.test/', authorizationValue: x}",
    );
    assert!(twice.is_err() || format!("{:?}", twice.unwrap()).contains("a.test"), "the first counts");
}

#[test]
fn every_fault_is_reported_and_no_secret_shown() {
    let faults = testing::faults::<Oauth2TokenIntrospection>(
        "{introspectionURL: 'ftp://u:PW@a', authorizationValue: \"a\\nb: c\", authenticationTimeout: 0, scopes: 'a\"b', \
         ringway: {resourceMetadata: {resource: 'x', authorizationServers: ['ftp://b'], scopesSupported: ['a b']}}}",
    );
    let all = faults.join("\n");
    for field in
        ["introspectionURL: ", "authorizationValue: not a header value", "authenticationTimeout: must", "scopes: "]
    {
        assert!(all.contains(&format!("config.{field}")), "{field} in {all}");
    }
    assert!(!all.contains("PW"), "{all}");
    let faults = testing::faults::<Oauth2TokenIntrospection>(&format!(
        "{{{CONFIG}, ringway: {{resourceMetadata: {{resource: 'x', scopesSupported: ['a b']}}}}}}"
    ));
    let all = faults.join("\n");
    for field in ["resource: ", "authorizationServers: must not be empty", "scopesSupported[0]: "] {
        assert!(all.contains(&format!("config.ringway.resourceMetadata.{field}")), "{field} in {all}");
    }
    let faults = testing::faults::<OpenidconnectAccessTokenEnforcement>(
        "{authenticationTimeout: 0, maxFederationExpirationTime: -2}",
    );
    assert_eq!(faults.len(), 2, "{faults:?}");
    let trying = introspection("", vec![good(json!({}))]);
    let shown = format!("{:?} {:?}", trying.policy, openid("", vec![good(json!({}))]).policy);
    assert!(!shown.contains("hunter") && !shown.contains("Basic"), "{shown}");
}

/// An issuer at `https://login.test/realm`, and a policy that asks it.
fn of_issuer(answers: Vec<Told>) -> (Arc<Issuer>, Trying<OpenidconnectAccessTokenEnforcement>) {
    let issuer = Arc::new(Issuer::new("https://login.test/realm/", &Arc::default()).expect("an issuer"));
    let server = AuthorizationServer::of_client(Place::Issuer(issuer.clone()), "gateway", "hunter2");
    let mut site = testing::site().with_authorization_server(Some(&server));
    let config = testing::node("{}");
    let policy = crate::policies::build(&config, "config", &mut site, &mut Vec::new()).expect("valid");
    (issuer, Trying::of(policy, answers))
}

fn metadata(issuer: &str, endpoint: &str) -> Told {
    Ok((200, json!({ "issuer": issuer, "introspection_endpoint": endpoint }).to_string()))
}

const OAUTH_DOCUMENT: &str = "GET https://login.test/.well-known/oauth-authorization-server/realm";
const OPENID_DOCUMENT: &str = "GET https://login.test/realm/.well-known/openid-configuration";
const ISSUER: &str = "https://login.test/realm";

#[test]
fn an_issuer_says_once_where_it_is_asked() {
    let found = metadata(ISSUER, "https://login.test/realm/introspect");
    let (_, trying) = of_issuer(vec![found.clone(), good(json!({ "iss": ISSUER }))]);
    (0..3).for_each(|_| assert_eq!(trying.ask(&mut request("t")), Ok(())));
    assert_eq!(trying.ask(&mut request("u")), Ok(()));
    let asks = |token: &str| format!("POST https://login.test/realm/introspect token={token}");
    assert_eq!(*trying.asked.lock().unwrap(), [OAUTH_DOCUMENT.to_owned(), asks("t"), asks("u")]);

    let (_, trying) = of_issuer(vec![Ok((404, String::new())), found, good(json!({}))]);
    assert_eq!(trying.ask(&mut request("t")), Ok(()));
    assert_eq!(*trying.asked.lock().unwrap(), [OAUTH_DOCUMENT.to_owned(), OPENID_DOCUMENT.to_owned(), asks("t")]);
}

#[test]
fn a_token_of_another_issuer_is_none() {
    let found = metadata(ISSUER, "https://login.test/realm/introspect");
    let (_, trying) = of_issuer(vec![found, good(json!({ "iss": "https://evil.test" }))]);
    let told = trying.ask(&mut request("t"));
    assert_eq!(told, Err((400, "token_invalid", error("Token is inactive."))));
}

#[test]
fn metadata_that_is_not_the_issuers_does_not_count() {
    for bad in [
        metadata("https://evil.test/realm", "https://login.test/i"),
        metadata("", "https://login.test/i"),
        metadata(ISSUER, "http://login.test/i"),
        metadata(ISSUER, "ftp://login.test/i"),
        metadata(ISSUER, ""),
        Ok((200, json!({ "issuer": ISSUER }).to_string())),
        Ok((
            200,
            format!(
                r#"{{"issuer": "{ISSUER}", "issuer": "{ISSUER}", "introspection_endpoint": "https://login.test/i"}}"#
            ),
        )),
        Ok((200, "<html>".to_owned())),
        Ok((200, "[".repeat(10_000))),
        Ok((302, String::new())),
    ] {
        let (_, trying) = of_issuer(vec![bad.clone()]);
        let told = trying.ask(&mut request("t")).expect_err("refused");
        assert_eq!((told.0, told.1), (500, "introspection_malformed"), "{bad:?}");
        trying.ask(&mut request("u")).expect_err("it is left alone for a while");
        assert_eq!(*trying.asked.lock().unwrap(), [OAUTH_DOCUMENT, OPENID_DOCUMENT], "{bad:?}");
    }
    let (_, trying) = of_issuer(vec![Err("timeout")]);
    let told = trying.ask(&mut request("t")).expect_err("refused");
    assert_eq!((told.0, told.1, trying.times()), (401, "introspection_unreachable", 1));
}

fn with_resource(more: &str) -> Trying<Oauth2TokenIntrospection> {
    let more = format!(
        ", ringway: {{resourceMetadata: {{authorizationServers: ['https://login.test'], resourceName: Orders{more}}}}}"
    );
    introspection(&more, vec![Ok((200, r#"{"active": false}"#.to_owned()))])
}

/// Status, challenge and body of the answer to a request without a policy's leave.
fn answer(trying: &Trying<Oauth2TokenIntrospection>, trial: &mut Trial) -> (u16, Option<String>, String) {
    let flow = trial.with(4, |exchange| {
        let mut kept = Kept::default();
        trying.policy.on_request(Turn { state: &trying.state, kept: &mut kept }, exchange)
    });
    let answer = testing::answer(flow).expect("an answer");
    let challenge = answer.headers.iter().find(|(name, _)| name == "www-authenticate");
    (answer.status, challenge.map(|(_, value)| value.to_string()), String::from_utf8_lossy(&answer.body).into_owned())
}

#[test]
fn a_protected_resource_says_whom_to_ask_for_a_token() {
    let url = "http://api.example:8081/api/.well-known/oauth-protected-resource";
    let trying = with_resource("");
    for method in ["GET", "HEAD"] {
        let mut trial = Trial::new(method, "/api/.well-known/oauth-protected-resource", &[]);
        let (status, _, body) = answer(&trying, &mut trial);
        let document: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let expected = json!({
            "resource": "http://api.example:8081/api",
            "authorization_servers": ["https://login.test"],
            "scopes_supported": ["a", "b"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Orders",
        });
        assert_eq!((status, document), (200, expected));
    }
    let (status, challenge, _) =
        answer(&trying, &mut Trial::new("POST", "/api/.well-known/oauth-protected-resource", &[]));
    assert_eq!((status, challenge), (401, Some(format!("Bearer resource_metadata=\"{url}\""))));
    let (status, challenge, _) = answer(&trying, &mut request("t"));
    let expected = format!("Bearer error=\"invalid_token\", resource_metadata=\"{url}\"");
    assert_eq!((status, challenge), (401, Some(expected)), "clients begin anew at a 401");
    for authority in ["", "a\"b", "a b", "a\\b"] {
        let mut trial = Trial::new("GET", "/api/x", &[]);
        trial.request.authority = authority.into();
        assert_eq!(answer(&trying, &mut trial).1, Some("Bearer".to_owned()), "{authority}");
    }

    let named = with_resource(", resource: 'https://shop.test/public/'");
    let url = "https://shop.test/public/.well-known/oauth-protected-resource";
    assert_eq!(
        answer(&named, &mut Trial::new("GET", "/api/x", &[])).1,
        Some(format!("Bearer resource_metadata=\"{url}\""))
    );
    for path in ["/api/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/public"] {
        let (status, _, body) = answer(&named, &mut Trial::new("GET", path, &[]));
        assert!(status == 200 && body.contains("\"resource\":\"https://shop.test/public/\""), "{path} {body}");
    }
}

#[test]
fn without_metadata_challenges_say_what_is_wrong() {
    let trying = introspection(
        "",
        vec![
            Ok((200, r#"{"active": false}"#.to_owned())),
            good(json!({ "scope": "a" })),
            Err("timeout"),
            Ok((200, String::new())),
        ],
    );
    let challenge = |trial: &mut Trial| answer(&trying, trial).1;
    assert_eq!(challenge(&mut Trial::new("GET", "/api/x", &[])).as_deref(), Some("Bearer"));
    assert_eq!(challenge(&mut request("1")).as_deref(), Some("Bearer error=\"invalid_token\""));
    assert_eq!(challenge(&mut request("2")).as_deref(), Some("Bearer error=\"insufficient_scope\", scope=\"a b\""));
    assert_eq!(challenge(&mut request("3")).as_deref(), Some("Bearer"));
    assert_eq!(challenge(&mut request("4")), None);
    let path = "/api/.well-known/oauth-protected-resource";
    assert_eq!(answer(&trying, &mut Trial::new("GET", path, &[])).0, 401, "there is no such document");
}

#[test]
fn a_policy_is_another_one_where_its_server_is() {
    let identity = |url: &str, secret: &str| {
        let address = WebAddress::parse(url).expect("an address");
        let place = Place::Endpoint(Arc::new(Destination::new(address, &Arc::default())));
        AuthorizationServer::of_client(place, "gateway", secret).identity()
    };
    let one = identity("https://a.test/i", "s");
    assert_eq!(one, identity("https://a.test/i", "s"));
    assert!(one != identity("https://a.test/j", "s") && one != identity("https://a.test/i", "t"));
}
