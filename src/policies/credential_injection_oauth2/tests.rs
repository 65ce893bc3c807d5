use std::sync::atomic::{AtomicUsize, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use super::*;
use crate::{
    calls::Look,
    policies::testing::{self, Trial},
};

const CONFIG: &str = "oauthService: 'https://issuer.test/token?x=1', clientId: 'i d', clientSecret: hunter2";

fn config(more: &str) -> String {
    format!("{{{CONFIG}, {more}}}")
}

fn compile(more: &str) -> CredentialInjectionOauth2 {
    testing::compile(&config(more)).expect("valid")
}

/// A policy whose endpoint gives these answers in turn; and how often it was asked.
struct Trying {
    policy: CredentialInjectionOauth2,
    state: State,
    asked: Arc<AtomicUsize>,
}

impl Trying {
    fn new(more: &str, answers: Vec<Result<(u16, &'static str), &'static str>>) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let calls = Calls::told(move |call| {
            assert_eq!(call.to_string(), "POST https://issuer.test/token");
            let answer = answers[count.fetch_add(1, Ordering::Relaxed)];
            let whole = |(status, body): (u16, &str)| Answer { status, headers: Fields::default(), body: body.into() };
            answer.map(whole).map_err(|reason| fault::Fault::new(reason, ""))
        });
        let core = Core { calls: Some(calls), signals: Signals::apart(), ..Core::default() };
        let policy = compile(more);
        Self { state: policy.state(&core), policy, asked }
    }

    /// The headers that go upstream, or the status and reason.
    fn ask(&self, sent: &[(&str, &str)]) -> Result<Vec<(String, String)>, (u16, &'static str)> {
        let mut trial = Trial::new("GET", "/", sent);
        let flow = trial.with(0, |exchange| {
            let mut kept = Kept::default();
            self.policy.on_request(Turn { state: &self.state, kept: &mut kept }, exchange)
        });
        match testing::answer(flow) {
            None => Ok(testing::lines(&trial.request.fields)),
            Some(answer) => Err((answer.status, answer.reason)),
        }
    }

    fn times(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

const TOKEN: Result<(u16, &str), &str> = Ok((200, r#"{"access_token": "t1", "expires_in": "3600"}"#));

fn ours(lines: &[(&str, &str)]) -> Result<Vec<(String, String)>, (u16, &'static str)> {
    Ok(testing::owned(lines))
}

#[test]
fn one_token_serves_all_requests() {
    let trying = Trying::new("", vec![TOKEN]);
    for sent in [&[][..], &[("authorization", "theirs")], &[("AUTHORIZATION", "a"), ("authorization", "b")]] {
        assert_eq!(trying.ask(sent), ours(&[("Authorization", "Bearer t1")]));
    }
    assert_eq!(trying.times(), 1);
    let named = Trying::new("upstreamTokenHeaderName: X-Token, upstreamTokenPrefixName: ''", vec![TOKEN]);
    assert_eq!(named.ask(&[("authorization", "x")]), ours(&[("authorization", "x"), ("X-Token", "t1")]));
    let keeps = Trying::new("overwrite: false", vec![TOKEN]);
    assert_eq!(keeps.ask(&[("authorization", "x")]), ours(&[("authorization", "x")]));
    assert_eq!(keeps.times(), 0, "nobody needs it");
    assert_eq!(keeps.ask(&[]), ours(&[("Authorization", "Bearer t1")]));
}

#[test]
fn a_failure_is_told_and_not_tried_again_at_once() {
    for (answer, expected) in [
        (Err("timeout"), (504, "oauth2_token_timeout")),
        (Err("connect_refused"), (503, "oauth2_token_unavailable")),
        (Err("circuit_open"), (503, "oauth2_token_unavailable")),
        (Err("too_large"), (502, "oauth2_token_malformed")),
        (Ok((401, r#"{"error": "invalid_client"}"#)), (502, "oauth2_token_refused")),
        (Ok((302, "")), (502, "oauth2_token_refused")),
        (Ok((200, "{}")), (502, "oauth2_token_malformed")),
    ] {
        let trying = Trying::new("", vec![answer]);
        assert_eq!((trying.ask(&[]), trying.ask(&[])), (Err(expected), Err(expected)), "{answer:?}");
        assert_eq!(trying.times(), 1);
    }
    let allows = Trying::new("allowRequestWithoutCredential: true", vec![Err("timeout")]);
    assert_eq!(allows.ask(&[("authorization", "theirs"), ("a", "b")]), ours(&[("a", "b")]));
}

#[test]
fn a_token_that_is_good_for_no_time_serves_who_waited_for_it() {
    let spent = Ok((200, r#"{"access_token": "t", "expires_in": 0}"#));
    let trying = Trying::new("", vec![spent, TOKEN]);
    assert_eq!(trying.ask(&[]), ours(&[("Authorization", "Bearer t")]));
    assert_eq!(trying.ask(&[]), ours(&[("Authorization", "Bearer t1")]));
}

#[test]
fn another_token_is_asked_for_while_the_last_is_good() {
    let trying = Trying::new("", vec![TOKEN, Err("timeout"), TOKEN]);
    let source = &trying.policy.source;
    let calls = trying.state.calls.clone().expect("there are some");
    trying.ask(&[]).expect("a token");
    let now = Instant::now();
    let Look::Known(verdict) = source.token.look(now, || None) else { panic!("it is known") };
    source.refresh(&verdict, &calls, now + Duration::from_secs(2870));
    assert_eq!(trying.times(), 1);
    source.refresh(&verdict, &calls, now + Duration::from_secs(2900));
    assert_eq!(trying.times(), 2);
    assert!(matches!(source.token.look(now, || None), Look::Known(Held::Good { .. })), "it is still good");
}

#[test]
fn what_is_asked_is_as_configured() {
    let asked = |more: &str| {
        let request = &compile(more).source.request;
        let lines: Vec<String> = testing::lines(&request.headers).iter().map(|(n, v)| format!("{n}: {v}")).collect();
        (lines.join(", "), String::from_utf8(request.body.clone()).expect("text"))
    };
    let accept = "accept: application/json";
    let form = "content-type: application/x-www-form-urlencoded";
    let own = "grant_type=client_credentials";
    let credentials = "client_id=i+d&client_secret=hunter2";
    assert_eq!(asked("scope: [a, 'b:c']"), (format!("{form}, {accept}"), format!("{own}&{credentials}&scope=a+b%3Ac")));
    let (headers, body) = asked("credentialLocation: header, customRequestHeaders: [{name: Accept, value: 'x/y'}]");
    assert_eq!(headers, format!("authorization: Basic {}, {form}, accept: x/y", BASE64.encode("i+d:hunter2")));
    assert_eq!(body, own);
    let (_, body) = asked("tokenRequestBodyFormat: json, grantType: password, username: u, password: 'p\"'");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "grant_type": "password", "username": "u", "password": "p\"", "client_id": "i d", "client_secret": "hunter2",
    });
    assert_eq!(body, expected);
}

#[test]
fn times_are_seconds_or_milliseconds() {
    for (written, expected) in [("10", 10_000), ("999", 999_000), ("1000", 1000), ("10000", 10_000)] {
        assert_eq!(compile(&format!("tokenFetchTimeout: {written}")).source.endpoint.time_max.as_millis(), expected);
    }
    let lifetime = |more: &str, body: &'static str| {
        let answer = Answer { status: 200, headers: Fields::default(), body: body.into() };
        serves(compile(more).source.endpoint.read(Ok(answer)).expect("a token").1).as_secs()
    };
    let (long, silent) = (r#"{"access_token": "t", "expires_in": 3600}"#, r#"{"access_token": "t"}"#);
    assert_eq!((lifetime("", long), lifetime("", silent)), (3595, 55));
    assert_eq!((lifetime("cachingTtl: 100", long), lifetime("cachingTtl: 100", silent)), (95, 95));
    assert_eq!(lifetime("cachingTtl: 9999", long), 3595);
}

#[test]
fn every_fault_is_reported_and_no_secret_shown() {
    let faults = testing::faults::<CredentialInjectionOauth2>(
        "{oauthService: 'ftp://u:PW@a', clientId: '', clientSecret: '', grantType: password, tokenFetchTimeout: 0, \
         upstreamTokenHeaderName: 'a b', customRequestHeaders: [{name: host, value: x}, {name: a, value: \"b\\nc: d\"}]}",
    );
    let all = faults.join("\n");
    for field in [
        "oauthService: ",
        "clientId: must not be empty",
        "clientSecret: must not be empty",
        "username: ",
        "password: ",
        "tokenFetchTimeout: must be at least 1",
        "upstreamTokenHeaderName: ",
        "customRequestHeaders[0].name: ",
        "customRequestHeaders[1].value: not a header value",
    ] {
        assert!(all.contains(&format!("config.{field}")), "{field} in {all}");
    }
    assert!(!all.contains("PW"), "{all}");
    assert!(!format!("{:?}", compile("")).contains("hunter2"));
}
