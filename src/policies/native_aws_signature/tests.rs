use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::{
    calls::{Answer, Calls},
    http::head::{BodyLength, Fields},
    net::signal::Signals,
    policies::testing::{self, Trial},
    telemetry::fault,
};

const STATIC: &str = "authenticationMode: static, inlineCredentialProvider: {accessKeyId: AKIDEXAMPLE, \
                      secretAccessKey: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY}";
const SERVICE: &str = "serviceName: service, region: us-east-1, signingAlgorithm: AWS_SIGV4";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// 2015-08-30 12:36:00.
const SUITE: u64 = 1_440_938_160;

fn config(more: &str) -> String {
    format!("{{{SERVICE}, {STATIC}, {more}}}")
}

fn compile(more: &str) -> NativeAwsSignature {
    testing::compile(&config(more)).expect("valid")
}

/// The headers that go upstream, or the status and reason.
fn signed(
    policy: &NativeAwsSignature,
    core: &Core,
    trial: &mut Trial,
) -> Result<Vec<(String, String)>, (u16, &'static str)> {
    let state = policy.state(core);
    let (flow, _) = trial.with_upstream("example.amazonaws.com", b"/", |exchange| {
        exchange.set_now(Some(UNIX_EPOCH + Duration::from_secs(SUITE)));
        policy.on_request(Turn { state: &state, kept: &mut Kept::default() }, exchange)
    });
    match testing::answer(flow) {
        None => Ok(testing::lines(&trial.request.fields)),
        Some(answer) => Err((answer.status, answer.reason)),
    }
}

fn value(lines: &[(String, String)], name: &str) -> String {
    let found: Vec<&str> = lines.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| &**v).collect();
    found.join(" | ")
}

#[test]
fn a_request_is_signed_as_it_goes_out_and_what_the_client_sent_of_it_goes() {
    let sent = [
        ("Authorization", "theirs"),
        ("X-Amz-Date", "theirs"),
        ("x-amz-security-token", "theirs"),
        ("X-Amz-Content-Sha256", "theirs"),
        ("Accept", "*/*"),
        ("x-forwarded-for", "192.0.2.1"),
        ("content-length", "0"),
        ("x-secret-a", "b"),
    ];
    let mut trial = Trial::new("GET", "/their/path", &sent);
    let policy = compile("matchExcludedHeaders: [{prefix: X-Secret-}, nobody]");
    let lines = signed(&policy, &Core::default(), &mut trial).expect("signed");
    assert_eq!(value(&lines, "x-amz-date"), "20150830T123600Z");
    assert_eq!(value(&lines, "x-amz-content-sha256"), EMPTY);
    assert_eq!(value(&lines, "x-amz-security-token"), "");
    let authorization = value(&lines, "authorization");
    let begins = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                  SignedHeaders=accept;host;x-amz-content-sha256;x-amz-date, Signature=";
    assert!(authorization.starts_with(begins), "{authorization}");
}

#[test]
fn the_body_counts_unless_it_is_left_out() {
    let hash = |more: &str| {
        let mut trial = Trial::new("POST", "/", &[]);
        trial.request.body = BodyLength::Length(13);
        trial.bodies.request = Body::whole(b"Param1=value1");
        value(&signed(&compile(more), &Core::default(), &mut trial).expect("signed"), "x-amz-content-sha256")
    };
    assert_eq!(hash(""), signing::sha256_hex(b"Param1=value1"));
    assert_eq!(hash("useUnsignedPayload: true"), "UNSIGNED-PAYLOAD");
    assert_eq!(compile("").needs().request, Need::Buffer);
    assert_eq!(compile("useUnsignedPayload: true").needs(), Needs::NONE);
}

#[test]
fn version_4a_says_its_regions() {
    let config = "{serviceName: s3, region: 'us-west-2,eu-*', signingAlgorithm: sigv4a, authenticationMode: static, \
                  inlineCredentialProvider: {accessKeyId: A, secretAccessKey: b, sessionToken: hunter3}}";
    let policy: NativeAwsSignature = testing::compile(config).expect("valid");
    let lines = signed(&policy, &Core::default(), &mut Trial::new("GET", "/", &[])).expect("signed");
    assert_eq!(value(&lines, "x-amz-region-set"), "us-west-2,eu-*");
    assert_eq!(value(&lines, "x-amz-security-token"), "hunter3");
    let authorization = value(&lines, "authorization");
    let begins = "AWS4-ECDSA-P256-SHA256 Credential=A/20150830/s3/aws4_request, \
                  SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-region-set;x-amz-security-token, Signature=30";
    assert!(authorization.starts_with(begins), "{authorization}");
}

/// A policy whose credentials come from a container that answers this.
fn of_container(answer: Result<(u16, String), &'static str>) -> Result<Vec<(String, String)>, (u16, &'static str)> {
    let calls = Calls::told(move |call| {
        assert_eq!(call.to_string(), "GET http://169.254.170.2/v2/credentials");
        assert_eq!(call.headers.get(b"authorization"), Some(&b"hunter1"[..]));
        let whole = |(status, body): (u16, String)| Answer { status, headers: Fields::default(), body: body.into() };
        answer.clone().map(whole).map_err(|reason| fault::Fault::new(reason, ""))
    });
    let core = Core { calls: Some(calls), signals: Signals::apart(), ..Core::default() };
    let variables = |name: &str| match name {
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" => Some("/v2/credentials".to_owned()),
        "AWS_CONTAINER_AUTHORIZATION_TOKEN" => Some("hunter1".to_owned()),
        _ => None,
    };
    let config = format!("{{{SERVICE}, authenticationMode: default}}");
    let mut site = testing::site().with_variables(&variables);
    let policy: NativeAwsSignature =
        super::super::build(&testing::node(&config), "config", &mut site, &mut Vec::new()).expect("valid");
    assert!(!format!("{policy:?}").contains("hunter"));
    signed(&policy, &core, &mut Trial::new("GET", "/", &[]))
}

#[test]
fn credentials_come_from_the_container() {
    let given = |more: &str| {
        Ok((200, format!(r#"{{"AccessKeyId": "C", "SecretAccessKey": "hunter2", "Token": "hunter3"{more}}}"#)))
    };
    for more in ["", r#", "Expiration": "2999-01-01T00:00:00Z", "RoleArn": {}"#] {
        let lines = of_container(given(more)).expect("signed");
        assert_eq!(value(&lines, "x-amz-security-token"), "hunter3");
        assert!(value(&lines, "authorization").contains("Credential=C/20150830/"));
    }
    for answer in [
        Err("timeout"),
        Err("too_large"),
        Ok((404, String::new())),
        Ok((302, String::new())),
        Ok((200, "{}".to_owned())),
        Ok((200, r#"["C", "s", "t", null]"#.to_owned())),
        Ok((200, format!("{}1", r#"{"Token":"#.repeat(10_000)))),
        Ok((200, r#"{"AccessKeyId": "a\r\nb: c", "SecretAccessKey": "s"}"#.to_owned())),
        Ok((200, r#"{"AccessKeyId": "a", "AccessKeyId": "b", "SecretAccessKey": "s"}"#.to_owned())),
        given(r#", "Expiration": "2001-01-01T00:00:00Z""#),
        given(r#", "Expiration": "soon""#),
    ] {
        assert_eq!(of_container(answer.clone()), Err((503, "aws_no_credentials")), "{answer:?}");
    }
}

#[test]
fn the_environment_comes_first_and_what_is_missing_is_said() {
    let with = |pairs: &'static [(&'static str, &'static str)], mode: &str| {
        let variables =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let config = format!("{{{SERVICE}, {mode}}}");
        let (mut site, mut problems) = (testing::site().with_variables(&variables), Vec::new());
        let built =
            super::super::build::<NativeAwsSignature>(&testing::node(&config), "config", &mut site, &mut problems);
        let texts: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
        built.map(|policy| format!("{:?}", policy.signer.provider)).map_err(|_| texts.join("; "))
    };
    let keys = &[("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("HOME", "/nowhere")];
    assert_eq!(with(keys, "authenticationMode: default"), Ok("Known(Credentials(E))".to_owned()));
    let none = with(&[], "authenticationMode: default").expect_err("there are none");
    assert!(none.contains("config.authenticationMode: no credentials: neither `AWS_ACCESS_KEY_ID`"), "{none}");
    let none = with(&[("HOME", "/nowhere")], "authenticationMode: profile").expect_err("there is no file");
    assert!(none.contains("/nowhere/.aws/credentials"), "{none}");
    let none = with(&[], "authenticationMode: static").expect_err("none are written");
    assert!(none.contains("config.inlineCredentialProvider: is required with"), "{none}");
}

#[test]
fn every_fault_is_reported_and_no_secret_shown() {
    let all = testing::faults::<NativeAwsSignature>(
        "{serviceName: '', region: 'a,b', signingAlgorithm: AWS_SIGV4, authenticationMode: static, \
         matchExcludedHeaders: [{regex: x}, {exact: ''}, [a], {prefix: a, suffix: b}], \
         inlineCredentialProvider: {accessKeyId: 'a b', secretAccessKey: hunter2}}",
    );
    let all = all.join("\n");
    for text in [
        "serviceName: not a name",
        "region: not a name",
        "matchExcludedHeaders[0]: `exact`, `prefix`, `suffix` or `contains` is expected",
        "matchExcludedHeaders[1]: must be a text",
        "matchExcludedHeaders[2]: a name, or one of",
        "matchExcludedHeaders[3]: a name, or one of",
        "inlineCredentialProvider: `accessKeyId` is empty, or no id",
    ] {
        assert!(all.contains(&format!("config.{text}")), "{text} in {all}");
    }
    assert!(!all.contains("hunter2"));
    assert!(!format!("{:?}", compile("")).contains("wJalr"));
    let remarks = testing::remarks::<NativeAwsSignature>(&config(
        "credentialsFileProvider: {credentialsDataSource: {filename: x}}",
    ));
    assert_eq!(remarks, ["config.credentialsFileProvider: has an effect only with `authenticationMode: profile`"]);
}

#[test]
fn names_are_matched_in_any_case() {
    let is_of =
        |written: &str, name: &str| Matcher::read(&testing::node(written)).expect("valid").is_of(name.as_bytes());
    for (written, of, not_of) in [
        ("X-A", "x-a", "x-ab"),
        ("{exact: x-A}", "X-a", "x-ab"),
        ("{prefix: x-}", "X-Ab", "ax-"),
        ("{suffix: -b}", "x-B", "-bx"),
        ("{Contains: b}", "aBc", "ac"),
    ] {
        assert!(is_of(written, of) && !is_of(written, not_of), "{written}");
    }
}
