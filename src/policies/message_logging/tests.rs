//! When lines are written, what they have, and what is wrong with a configuration.

use super::*;
use crate::{
    policies::testing::{self, Trial},
    telemetry::message_log::{LINE_BYTES_MAX, TRUNCATED},
};

/// One entry, with these fields of its `itemData`.
fn config(fields: &str) -> String {
    format!("{{loggingConfiguration: [{{itemName: one, itemData: {{level: INFO, {fields}}}}}]}}")
}

fn trial() -> Trial {
    let sent = [("x-request-id", "id-1"), ("x-a", "sent"), ("authorization", "Basic eA==")];
    let mut trial = Trial::new("POST", "/x/1", &sent);
    trial.request.query = b"?q=1".into();
    trial
}

/// The lines of a request, of its answer, and of its end, without what is the same in all; and how many failed.
fn logged(config: &str, trial: &mut Trial, steps: [bool; 3]) -> (Vec<String>, u64) {
    let policy = testing::compile::<MessageLogging>(config).unwrap_or_else(|faults| panic!("{config}: {faults:?}"));
    let state = policy.state(&Core::default());
    let mut kept = Kept::default();
    trial.with(0, |exchange| {
        let [request, response, end] = steps;
        if request {
            policy.on_request(Turn { state: &state, kept: &mut kept }, exchange);
        }
        if response {
            policy.on_response(Turn { state: &state, kept: &mut kept }, exchange);
        }
        if end {
            policy.on_log(Turn { state: &state, kept: &mut kept }, exchange, &End::default());
        }
    });
    let messages = &state.core.messages;
    let text = String::from_utf8(messages.lines.drain()).expect("UTF-8");
    let prefix = " [flex-gateway-envoy][info] wasm log binding.default.api.default.svc main: [req: id-1] [accessLog] ";
    let lines = text.lines().map(|line| line.split_once(prefix).expect(line).1.to_owned()).collect();
    (lines, messages.failed.value())
}

fn check(fields: &str, steps: [bool; 3], expected: &[&str]) {
    let mut trial = trial().answered(404, &[("x-b", "answered")]);
    let (lines, failed) = logged(&config(fields), &mut trial, steps);
    assert_eq!(
        (lines.as_slice(), failed),
        (&expected.iter().map(|&line| line.to_owned()).collect::<Vec<_>>()[..], 0),
        "{fields}"
    );
}

const WHOLE: [bool; 3] = [true, true, true];
const LEFT: [bool; 3] = [true, false, true];

#[test]
fn sections_say_when() {
    check("message: text, firstSection: true", WHOLE, &["text"]);
    check("message: text, secondSection: true", WHOLE, &["text"]);
    check("message: text, firstSection: true, secondSection: true", WHOLE, &["text", "text"]);
    check("message: text", WHOLE, &[]);
    check("message: text, firstSection: true", [true, false, false], &["text"]);
    check("message: text, secondSection: true", [true, false, false], &[]);
}

#[test]
fn who_left_before_an_answer_has_a_second_line_too() {
    let mut trial = trial().answered(0, &[]);
    let fields = "secondSection: true, message: \"#['to ' ++ (attributes.statusCode default 'nobody')]\"";
    assert_eq!(logged(&config(fields), &mut trial, LEFT), (vec!["to nobody".to_owned()], 0));
}

#[test]
fn attributes_are_of_the_message_that_comes_by() {
    let both = "firstSection: true, secondSection: true";
    check(
        &format!("message: \"#[attributes.headers['x-a'] default attributes.headers['x-b']]\", {both}"),
        WHOLE,
        &["sent", "answered"],
    );
    check("message: '#[attributes.method ++ attributes.requestPath]', firstSection: true", WHOLE, &["POST/x/1"]);
    check("message: '#[attributes.statusCode]', secondSection: true", WHOLE, &["404"]);
    check(r##"message: "#['was ' ++ attributes.statusCode]", secondSection: true"##, WHOLE, &["was 404"]);
}

#[test]
fn objects_are_json_and_null_is_null() {
    check("message: '#[attributes.headers]', secondSection: true", WHOLE, &[r#"{"x-b":"answered"}"#]);
    check("message: '#[[1.50, true]]', firstSection: true", WHOLE, &["[1.50,true]"]);
    check("message: '#[attributes.headers.nobody]', firstSection: true", WHOLE, &["null"]);
    check("message: '#[attributes.queryParams]', firstSection: true", WHOLE, &[r#"{"q":"1"}"#]);
}

#[test]
fn a_condition_says_whether() {
    let line = |condition: &str, expected: &[&str]| {
        check(&format!("message: text, firstSection: true, conditional: \"{condition}\""), WHOLE, expected);
    };
    line("#[attributes.queryParams.q == '1']", &["text"]);
    line("#[attributes.queryParams.q == '2']", &[]);
    line("#['true']", &["text"]);
    line("true", &["text"]);
    line("FALSE", &[]);
}

#[test]
fn what_has_no_value_is_no_line_and_counted() {
    for fields in [
        "message: \"#['a' ++ attributes.headers.nobody]\", firstSection: true",
        "message: text, conditional: '#[attributes.headers.nobody]', firstSection: true",
        "message: text, conditional: '#[1]', secondSection: true",
    ] {
        assert_eq!(logged(&config(fields), &mut trial(), WHOLE), (Vec::new(), 1), "{fields}");
    }
    // The others are written.
    let two = "{loggingConfiguration: [
        {itemName: a, itemData: {level: INFO, message: '#[1 ++ null]', firstSection: true}},
        {itemName: b, itemData: {level: INFO, message: b, firstSection: true}}]}";
    assert_eq!(logged(two, &mut trial(), WHOLE), (vec!["b".to_owned()], 1));
}

#[test]
fn no_value_splits_a_line_or_makes_it_endless() {
    let mut trial = trial();
    trial.request.path = b"/a\n2025-01-01T00:00:00Z [forged]\r\x1b[31m\xff".into();
    let fields = "firstSection: true, message: \"#['at ' ++ attributes.requestPath]\"";
    let (lines, _) = logged(&config(fields), &mut trial, WHOLE);
    assert_eq!(lines, ["at /a\\u000a2025-01-01T00:00:00Z [forged]\\u000d\\u001b[31m\u{fffd}"]);
    trial.request.path = vec![b'a'; LINE_BYTES_MAX];
    let (lines, _) = logged(&config(fields), &mut trial, WHOLE);
    assert!(lines[0].ends_with(TRUNCATED) && lines[0].len() < LINE_BYTES_MAX, "{}", lines[0].len());
}

#[test]
fn variables_tell_of_the_exchange() {
    let first = |variable: &str, expected: &str| {
        check(&format!("message: \"#[vars.{variable}]\", firstSection: true"), WHOLE, &[expected]);
    };
    let second = |variable: &str, expected: &str| {
        check(&format!("message: \"#[vars.{variable}]\", secondSection: true"), WHOLE, &[expected]);
    };
    for variable in ["apiId", "apiName", "apiInstanceName"] {
        first(variable, "api");
    }
    for variable in ["orgId", "masterOrgId", "envId", "apiVersion", "repliedTs", "requestDisposition", "violation"] {
        first(variable, "null");
    }
    first("runtimeVersion", concat!("v", env!("CARGO_PKG_VERSION")));
    first("remoteAddress", "192.0.2.1:40000");
    second("method", "POST");
    second("requestPath", "/x/1");
    second("reqId", "id-1");
    second("request.headers['x-a']", "sent");
    second("requestDisposition", "PROCESSED");
    second("violation.policyName", "null");
    let fields = "secondSection: true, message: \"#[vars.receivedTs ++ ' ' ++ vars.repliedTs ++ ' ' ++ vars.hostId]\"";
    let (lines, _) = logged(&config(fields), &mut trial(), WHOLE);
    let words: Vec<&str> = lines[0].split(' ').collect();
    assert!(words[0] <= words[1] && words.len() == 3 && !words[2].is_empty(), "{words:?}");
    assert!(words[..2].iter().all(|time| time.len() == 30 && time.ends_with('Z')), "{words:?}");
}

#[test]
fn a_violation_says_whose() {
    let told = |status| {
        let policy = testing::compile::<MessageLogging>(&config("message: '#[vars.violation]', secondSection: true"));
        let policy = policy.expect("valid");
        let state = policy.state(&Core::default());
        let mut trial = trial();
        trial.authentication.set_client("id", "name");
        trial.with(0, |exchange| {
            exchange.set_refusal(Refusal { policy: "spike-control-flex", status });
            policy.on_response(Turn { state: &state, kept: &mut Kept::default() }, exchange);
        });
        let line = String::from_utf8(state.core.messages.lines.drain()).expect("UTF-8");
        line.trim_end().split_once("[accessLog] ").expect("a text").1.to_owned()
    };
    let object = |kind: &str| {
        format!(r#"{{"clientId":"id","clientName":"name","policyName":"spike-control-flex","violationType":"{kind}"}}"#)
    };
    assert_eq!([told(429), told(503), told(200)], [object("VIOLATION"), object("ERROR"), "null".to_owned()]);
}

#[test]
fn only_the_body_that_an_expression_reads_is_read_ahead() {
    let needs = |fields: &str| testing::compile::<MessageLogging>(&config(fields)).expect("valid").needs();
    let both = "firstSection: true, secondSection: true";
    assert_eq!(needs(&format!("message: '#[attributes.headers]', {both}")), Needs::NONE);
    assert_eq!(needs("message: '#[payload.a]'"), Needs::NONE);
    let (request, response) = (Need::Buffer, Need::None);
    assert_eq!(needs("message: '#[payload.a]', firstSection: true"), Needs { request, response });
    let (request, response) = (Need::None, Need::Buffer);
    let fields = "message: a, conditional: '#[payload.a == 1]', secondSection: true";
    assert_eq!(needs(fields), Needs { request, response });
    let (request, response) = (Need::Buffer, Need::Buffer);
    assert_eq!(needs(&format!("message: '#[payload]', {both}")), Needs { request, response });
}

#[test]
fn in_shadow_nothing_is_written() {
    let policy = testing::compile::<MessageLogging>(&config("message: text, firstSection: true, secondSection: true"));
    let policy = policy.expect("valid");
    let state = policy.state(&Core::default());
    trial().with(0, |exchange| {
        exchange.set_shadow(true);
        policy.on_request(Turn { state: &state, kept: &mut Kept::default() }, exchange);
        policy.on_response(Turn { state: &state, kept: &mut Kept::default() }, exchange);
    });
    assert!(state.core.messages.lines.is_empty());
}

#[test]
fn lines_show_level_and_category() {
    for (written, shown) in [("DEBUG", "debug"), ("warn", "warn"), ("Error", "error")] {
        let config = format!(
            "{{loggingConfiguration: [{{itemName: a, itemData: {{level: {written}, category: ' org.a ', message: b, \
             firstSection: true}}}}]}}"
        );
        let policy = testing::compile::<MessageLogging>(&config).expect("valid");
        let state = policy.state(&Core::default());
        trial().with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut Kept::default() }, exchange));
        let line = String::from_utf8(state.core.messages.lines.drain()).expect("UTF-8");
        assert!(line.contains(&format!(" [flex-gateway-envoy][{shown}] wasm log ")), "{line}");
        assert!(line.ends_with("[accessLog] org.a: b\n"), "{line}");
    }
}

#[test]
fn every_fault_is_reported() {
    let faults = |config: &str| testing::faults::<MessageLogging>(config);
    assert_eq!(faults("{}"), ["config.loggingConfiguration: required, but missing"]);
    let field = "config.loggingConfiguration[0].itemData";
    let places = |config: &str| -> Vec<String> {
        faults(config).iter().map(|fault| fault.split_once(": ").expect("a place").0.to_owned()).collect()
    };
    assert_eq!(
        places("{loggingConfiguration: [{itemName: a, itemData: {message: b, level: TRACE, firstSection: true}}]}"),
        [format!("{field}.level")]
    );
    assert_eq!(
        places(&config("firstSection: true, message: '#[vars.nobody]', conditional: perhaps, category: \"a\\nb\"")),
        ["message", "conditional", "category"].map(|name| format!("{field}.{name}"))
    );
    let long = format!("firstSection: true, message: a, category: {}", "a".repeat(CATEGORY_BYTES_MAX + 1));
    assert_eq!(
        faults(&config(&long)),
        [format!("{field}.category: longer than 256 bytes, or with a control character")]
    );
}

#[test]
fn what_is_hardly_meant_is_said() {
    let remarks = |config: &str| testing::remarks::<MessageLogging>(config);
    let field = "config.loggingConfiguration[0].itemData";
    assert_eq!(remarks("{loggingConfiguration: []}"), ["config.loggingConfiguration: empty: nothing is logged"]);
    assert_eq!(
        remarks(&config("message: a")),
        [format!("{field}: `one` logs nothing: neither `firstSection` nor `secondSection` is true")]
    );
    assert_eq!(
        remarks(&config("message: a, firstSection: true, conditional: 'false'")),
        [format!("{field}.conditional: `one` logs nothing")]
    );
    let status = "message: '#[attributes.statusCode]'";
    let always_null =
        format!("{field}.message: at byte 13: a request has no `attributes.statusCode`: it is always null");
    assert_eq!(remarks(&config(&format!("{status}, firstSection: true"))), [always_null]);
    assert_eq!(remarks(&config(&format!("{status}, secondSection: true"))), Vec::<String>::new());
    assert_eq!(remarks(&config(&format!("{status}, firstSection: true, secondSection: true"))), Vec::<String>::new());
}
