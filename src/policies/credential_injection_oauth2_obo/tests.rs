use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use super::*;
use crate::policies::testing::{self, Trial};

const CONFIG: &str = "tokenEndpoint: 'https://issuer.test/token?x=1', clientId: 'i d', clientSecret: hunter2";
const TARGET: &str = "targetValue: orders, scope: 'a b'";

fn config(more: &str) -> String {
    format!("{{{CONFIG}, {more}}}")
}

type Answered = Result<(u16, String), &'static str>;

/// A policy whose endpoint gives these answers in turn, and what it was asked.
struct Trying {
    policy: CredentialInjectionOauth2Obo,
    state: State,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Trying {
    fn new(more: &str, answers: Vec<Answered>) -> Self {
        let (asked, times) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
        let told = asked.clone();
        let calls = Calls::told(move |call| {
            assert_eq!(call.to_string(), "POST https://issuer.test/token");
            told.lock().expect("nobody panics").push(String::from_utf8(call.body.clone()).expect("text"));
            let answer = answers[times.fetch_add(1, Ordering::Relaxed)].clone();
            let whole =
                |(status, body): (u16, String)| Answer { status, headers: Fields::default(), body: body.into() };
            answer.map(whole).map_err(|reason| fault::Fault::new(reason, ""))
        });
        let core = Core { calls: Some(calls), signals: Signals::apart(), ..Core::default() };
        let policy: CredentialInjectionOauth2Obo = testing::compile(&config(more)).expect("valid");
        Self { state: policy.state(&core), policy, asked }
    }

    /// What goes upstream in the place of this, or the status and reason.
    fn ask(&self, sent: &[&str]) -> Result<String, (u16, &'static str)> {
        let lines: Vec<_> = sent.iter().map(|value| ("Authorization", *value)).collect();
        let mut trial = Trial::new("GET", "/", &lines);
        let flow = trial.with(0, |exchange| {
            let mut kept = Kept::default();
            self.policy.on_request(Turn { state: &self.state, kept: &mut kept }, exchange)
        });
        match testing::answer(flow) {
            None => {
                let values = trial.request.fields.values(b"authorization");
                Ok(values.map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>().join(", "))
            }
            Some(answer) => Err((answer.status, answer.reason)),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics").clone()
    }
}

fn token(name: &str, seconds: u64) -> Answered {
    Ok((200, json!({"access_token": name, "expires_in": seconds, "issued_token_type": "x"}).to_string()))
}

fn error(status: u16, error: &str) -> Answered {
    Ok((status, json!({"error": error}).to_string()))
}

#[test]
fn each_token_is_exchanged_once_for_one_of_its_own() {
    let trying = Trying::new(TARGET, vec![token("a2", 60), token("b2", 60), token("c2", 0), token("c3", 60)]);
    assert_eq!(trying.ask(&["Bearer a"]), Ok("Bearer a2".to_owned()));
    assert_eq!(trying.ask(&["bearer b"]), Ok("Bearer b2".to_owned()));
    assert_eq!(trying.ask(&["Bearer a"]), Ok("Bearer a2".to_owned()));
    assert_eq!(trying.ask(&["Bearer b"]), Ok("Bearer b2".to_owned()));
    assert_eq!(trying.asked().len(), 2);
    // What is good for no time serves who waited for it.
    assert_eq!(trying.ask(&["Bearer c"]), Ok("Bearer c2".to_owned()));
    assert_eq!(trying.ask(&["Bearer c"]), Ok("Bearer c3".to_owned()));
}

#[test]
fn without_one_token_nobody_is_asked() {
    let trying = Trying::new(TARGET, Vec::new());
    let long = format!("Bearer {}", "x".repeat(SUBJECT_BYTES_MAX + 1));
    for sent in
        [&[][..], &["Basic YQ=="], &["Bearer"], &["Bearer "], &["Bearer a b"], &["Bearer a", "Bearer a"], &[&long]]
    {
        assert_eq!(trying.ask(sent), Err((401, "oauth2_obo_no_token")), "{sent:?}");
    }
    assert_eq!(trying.asked(), [""; 0]);
}

#[test]
fn a_failure_has_its_answer_and_is_not_tried_again_at_once() {
    let token_refused = Err((401, "oauth2_obo_token_refused"));
    let refused = Err((502, "oauth2_token_refused"));
    let malformed = Err((502, "oauth2_token_malformed"));
    for (answer, expected) in [
        (Err("timeout"), Err((504, "oauth2_token_timeout"))),
        (Err("connect_refused"), Err((503, "oauth2_token_unavailable"))),
        (Err("too_large"), malformed.clone()),
        (error(400, "invalid_grant"), token_refused.clone()),
        (error(400, "invalid_request"), token_refused),
        (error(400, "invalid_target"), refused.clone()),
        (error(401, "invalid_client"), refused.clone()),
        (error(401, "invalid_grant"), refused.clone()),
        (Ok((400, r#"["invalid_grant"]"#.to_owned())), refused.clone()),
        (Ok((400, format!("{}1", "[".repeat(10_000)))), refused.clone()),
        (Ok((302, String::new())), refused),
        (Ok((200, "{}".to_owned())), malformed.clone()),
        (Ok((200, format!(r#"{{"a": {}1"#, "[".repeat(10_000)))), malformed),
    ] {
        let trying = Trying::new(TARGET, vec![answer.clone()]);
        assert_eq!((trying.ask(&["Bearer a"]), trying.ask(&["Bearer a"])), (expected.clone(), expected), "{answer:?}");
        assert_eq!(trying.asked().len(), 1);
    }
}

#[test]
fn what_is_asked_is_as_each_flow_wants_it() {
    let asked = |more: &str| {
        let trying = Trying::new(more, vec![token("t", 1)]);
        trying.ask(&["Bearer s+t"]).expect("a token");
        trying.asked().remove(0)
    };
    let exchange = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token_type=\
                    urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&requested_token_type=\
                    urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token";
    let client = "client_id=i+d&client_secret=hunter2";
    assert_eq!(asked(TARGET), format!("{exchange}&audience=orders&{client}&scope=a+b&subject_token=s%2Bt"));
    let resource = "targetType: resource, targetValue: 'https://a.test/x'";
    assert_eq!(asked(resource), format!("{exchange}&resource=https%3A%2F%2Fa.test%2Fx&{client}&subject_token=s%2Bt"));
    let entra = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&requested_token_use=on_behalf_of";
    let of_entra = asked("flow: microsoft-entra-obo, scope: 'api://x/.default'");
    assert_eq!(of_entra, format!("{entra}&{client}&scope=api%3A%2F%2Fx%2F.default&assertion=s%2Bt"));
}

#[test]
fn what_is_made_of_a_token_lasts_no_longer_than_it() {
    let now = UNIX_EPOCH + Duration::from_secs(1_000);
    let left = |claims: &str| life_left(&format!("e30.{}.x", BASE64URL.encode(claims)), now);
    assert_eq!(left(r#"{"exp": 1060}"#), Some(Duration::from_secs(60)));
    assert_eq!(left(r#"{"exp": 1060.5}"#), Some(Duration::from_millis(60_500)));
    assert_eq!(left(r#"{"exp": 900}"#), Some(Duration::ZERO));
    assert_eq!(left(r#"{"exp": -1}"#), Some(Duration::ZERO));
    for claims in ["{}", r#"{"exp": "1"}"#, r#"{"exp": 1e300}"#, "[1]", "no JSON"] {
        assert_eq!(left(claims), None, "{claims}");
    }
    assert_eq!((life_left("opaque", now), life_left("a.*.c", now)), (None, None));
    let spent = format!("Bearer e30.{}.x", BASE64URL.encode(r#"{"exp": 1}"#));
    let trying = Trying::new(TARGET, vec![token("a", 60), token("b", 60)]);
    assert_eq!((trying.ask(&[&spent]), trying.ask(&[&spent])), (Ok("Bearer a".to_owned()), Ok("Bearer b".to_owned())));
}

#[test]
fn every_fault_is_reported_and_no_secret_shown() {
    let faults = testing::faults::<CredentialInjectionOauth2Obo>(
        "{tokenEndpoint: 'ftp://u:PW@a', clientId: '', clientSecret: '', timeout: 0, cibaEnabled: true}",
    );
    let all = faults.join("\n");
    for text in [
        "tokenEndpoint: ",
        "clientId: must not be empty",
        "clientSecret: must not be empty",
        "timeout: must be at least 1",
        "targetValue: must not be empty",
        "cibaEnabled: backchannel authentication (CIBA): not implemented yet",
    ] {
        assert!(all.contains(&format!("config.{text}")), "{text} in {all}");
    }
    assert!(!all.contains("PW"), "{all}");
    let faults = |more: &str| testing::faults::<CredentialInjectionOauth2Obo>(&config(more)).join("\n");
    assert!(faults("flow: microsoft-entra-obo").contains("config.scope: must not be empty"));
    for target in ["orders", "https://a.test/#b"] {
        assert!(
            faults(&format!("targetType: resource, targetValue: '{target}'")).contains("config.targetValue: not an")
        );
    }
    let remarks = testing::remarks::<CredentialInjectionOauth2Obo>(&config(
        "flow: microsoft-entra-obo, scope: s, targetValue: x",
    ));
    assert_eq!(remarks, ["config.targetValue: has no effect with `flow: microsoft-entra-obo`"]);
    let policy = testing::compile::<CredentialInjectionOauth2Obo>(&config(TARGET));
    assert!(!format!("{policy:?}").contains("hunter2"));
}
