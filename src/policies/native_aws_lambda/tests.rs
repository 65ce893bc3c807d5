use super::*;
use crate::{
    http::head::BodyLength,
    policies::testing::{self, Trial},
};

const ARN: &str = "arn:aws:lambda:us-west-2:123456789012:function:greet";
const STATIC: &str = "authenticationMode: static, credentials: {accessKeyId: A, secretAccessKey: hunter2}";

fn compile(more: &str) -> NativeAwsLambda {
    testing::compile(&format!("{{arn: '{ARN}', {STATIC}, {more}}}")).expect("valid")
}

/// A request that invokes, and how it goes out.
struct Invoked {
    trial: Trial,
    line: Option<Box<RequestLine>>,
    kept: Kept,
    state: State,
    refused: Option<(u16, &'static str)>,
}

/// Status, body and headers.
type Answered = (u16, String, Vec<(String, String)>);

fn invoke(policy: &NativeAwsLambda, method: &str, lines: &[(&str, &str)], body: &[u8]) -> Invoked {
    let mut trial = Trial::new(method, "/theirs", lines);
    trial.request.query = b"?a=b".into();
    if !body.is_empty() {
        trial.request.body = BodyLength::Length(body.len() as u64);
        trial.bodies.request = Body::whole(body);
    }
    let (state, mut kept) = (policy.state(&Core::default()), Kept::default());
    let (flow, line) = trial.with_upstream("lambda.us-west-2.amazonaws.com", b"/theirs", |exchange| {
        policy.on_request(Turn { state: &state, kept: &mut kept }, exchange)
    });
    let refused = testing::answer(flow).map(|answer| (answer.status, answer.reason));
    Invoked { trial, line, kept, state, refused }
}

impl Invoked {
    fn header(&self, name: &str) -> String {
        let values = self.trial.request.fields.values(name.as_bytes());
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>().join(" | ")
    }

    fn body(&self) -> String {
        String::from_utf8(self.trial.bodies.request.to_vec()).expect("text")
    }

    /// What becomes of Lambda's answer: status, body and headers; or status and reason of ours.
    fn answered(
        mut self,
        policy: &NativeAwsLambda,
        status: u16,
        lines: &[(&str, &str)],
        body: &str,
    ) -> Result<Answered, (u16, &'static str)> {
        let bodies = std::mem::take(&mut self.trial.bodies);
        let mut trial = self.trial.answered(status, lines);
        trial.bodies = bodies;
        trial.response.body = BodyLength::Length(body.len() as u64);
        trial.bodies.response = Body::whole(body.as_bytes());
        let turn = Turn { state: &self.state, kept: &mut self.kept };
        let flow = trial.with(0, |exchange| policy.on_response(turn, exchange));
        if let Some(answer) = testing::answer(flow) {
            return Err((answer.status, answer.reason));
        }
        let body = String::from_utf8(trial.bodies.response.to_vec()).expect("text");
        Ok((trial.response.status, body, testing::lines(&trial.response.fields)))
    }
}

#[test]
fn a_function_is_told_the_request_and_invoked() {
    let lines = [("Accept", "*/*"), ("X-Amz-Log-Type", "Tail"), ("Authorization", "theirs"), ("content-encoding", "x")];
    let invoked = invoke(&compile(""), "GET", &lines, b"");
    let line = invoked.line.as_ref().expect("another line");
    assert_eq!((line.method, &*line.query), ("POST", &b""[..]));
    assert_eq!(line.path, format!("/2015-03-31/functions/{ARN}/invocations").into_bytes());
    let told: serde_json::Value = serde_json::from_str(&invoked.body()).expect("JSON");
    assert_eq!((&told["method"], &told["raw_path"]), (&"GET".into(), &"/theirs?a=b".into()));
    assert_eq!(told["headers"]["authorization"], "theirs", "it is for the function to judge");
    assert_eq!(invoked.header("x-amz-invocation-type"), "RequestResponse");
    assert_eq!(invoked.header("content-type"), "application/json");
    assert_eq!((invoked.header("x-amz-log-type"), invoked.header("content-encoding")), Default::default());
    assert_eq!(invoked.header("x-amz-content-sha256"), signing::sha256_hex(invoked.body().as_bytes()));
    let authorization = invoked.header("authorization");
    assert!(
        authorization.contains("/us-west-2/lambda/aws4_request, SignedHeaders=content-type;host;x-amz-"),
        "{authorization}"
    );
}

#[test]
fn a_body_passes_as_it_is_where_that_is_wanted() {
    let policy = compile("payloadPassthrough: true, invocationMode: asynchronous");
    let invoked = invoke(&policy, "PUT", &[("content-type", "a/b")], b"{}");
    assert!(!invoked.trial.bodies.request.is_replaced());
    assert_eq!(
        (invoked.header("content-type"), invoked.header("x-amz-invocation-type")),
        ("a/b".into(), "Event".into())
    );
    assert_eq!(invoked.header("x-amz-content-sha256"), signing::sha256_hex(b"{}"));
    assert_eq!(policy.needs(), Needs { request: Need::Buffer, response: Need::None });
    let (status, body, _) = invoked.answered(&policy, 202, &[], "").expect("it passes");
    assert_eq!((status, &*body), (202, ""));
}

#[test]
fn what_a_function_gives_is_the_answer() {
    let policy = compile("");
    let json = r#"{"status_code": 201, "headers": {"Content-Type": "a/b", "x-a": " 1 ", "content-length": "99"},
                   "cookies": ["a=1; Secure", "b=2"], "body": "aGk=", "is_base64_encoded": true}"#;
    let lines = [("content-type", "application/json"), ("x-amzn-requestid", "1")];
    let answered = invoke(&policy, "GET", &[], b"").answered(&policy, 200, &lines, json);
    let (status, body, lines) = answered.expect("an answer");
    assert_eq!((status, &*body), (201, "hi"));
    let expected = [
        ("content-type", "a/b"),
        ("x-amzn-requestid", "1"),
        ("x-a", "1"),
        ("set-cookie", "a=1; Secure"),
        ("set-cookie", "b=2"),
    ];
    assert_eq!(lines, testing::owned(&expected));
}

#[test]
fn failures_are_none_of_the_clients() {
    let policy = compile("");
    let answered = |status, lines: &[(&str, &str)], body: &str| {
        let answered = invoke(&policy, "GET", &[], b"").answered(&policy, status, lines, body);
        answered.map(|(status, body, _)| (status, body))
    };
    // What Lambda itself refuses passes as it is; a function's error does too, and is no success.
    assert_eq!(answered(403, &[], "no"), Ok((403, "no".to_owned())));
    assert_eq!(answered(200, &[("X-Amz-Function-Error", "Unhandled")], "{}"), Ok((502, "{}".to_owned())));
    for body in [
        "no JSON",
        r#"{"status_code": 101}"#,
        r#"{"status_code": 600}"#,
        r#"{"headers": {"a b": "c"}}"#,
        r#"{"headers": {"a": "b\r\nc: d"}}"#,
        r#"{"cookies": ["a\nb"]}"#,
    ] {
        assert_eq!(answered(200, &[], body), Err((502, "lambda_malformed_answer")), "{body}");
    }
}

#[test]
fn a_request_that_grows_beyond_its_limit_is_refused() {
    // Encoded it is a third larger.
    let body = vec![0xff; 900 << 10];
    let invoked = invoke(&compile(""), "POST", &[], &body);
    assert_eq!(invoked.refused, Some((413, "lambda_request_too_large")));
    let passes = invoke(&compile("payloadPassthrough: true"), "POST", &[], &body);
    assert_eq!(passes.refused, None);
}

#[test]
fn every_fault_is_reported_and_no_secret_shown() {
    let all = testing::faults::<NativeAwsLambda>(
        "{arn: greet, authenticationMode: static, credentials: {accessKeyId: A, secretAccessKey: 'hunter2 x'}}",
    );
    let all = all.join("\n");
    assert!(all.contains("config.arn: not `arn:<partition>:lambda:"), "{all}");
    assert!(
        all.contains("config.credentials: `secretAccessKey` is empty, or no key") && !all.contains("hunter2"),
        "{all}"
    );
    assert!(!format!("{:?}", compile("")).contains("hunter2"));
    let remarks = testing::remarks::<NativeAwsLambda>(&format!("{{arn: '{ARN}', {STATIC}, credentialProfile: x}}"));
    assert_eq!(remarks, ["config.credentialProfile: has an effect only with `authenticationMode: profile`"]);
}
