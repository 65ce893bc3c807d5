//! The tables in `tests/expressions/`: what each expression gives for each input, written from what users are promised.
//!
//! A line is `expression | input | result`; `tests/expressions/README.md` says how inputs and results are written.

use std::{borrow::Cow, collections::HashMap, fs, path::Path};

use proptest::prelude::*;
use ringway::expression::{
    Bindings, Budget, CompileError, Context, Datum, Expression, Format, Object, Payload, STEPS_MAX, Template, Value,
    join,
};

/// What a line's input says; all else is absent.
#[derive(Default)]
struct Input {
    method: Option<String>,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    status: Option<u16>,
    client_id: Option<String>,
    client_name: Option<String>,
    principal: Option<String>,
    sla: Option<(String, String)>,
    properties: Option<Datum>,
    variables: Object,
    payload: Option<Payload>,
}

impl Input {
    /// `GET /orders?a=1; x-a: 1; json {"a":1}`
    fn parse(text: &str) -> Self {
        let mut input = Self::default();
        for part in text.split("; ").map(str::trim).filter(|part| !part.is_empty() && *part != "-") {
            let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
            match word {
                "GET" | "HEAD" | "POST" | "PUT" => {
                    input.method = Some(word.to_owned());
                    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
                    (input.path, input.query) = (path.to_owned(), query.map(str::to_owned));
                }
                "status" => input.status = Some(rest.parse().expect("a status")),
                "client" => input.client_id = Some(rest.to_owned()),
                "client-name" => input.client_name = Some(rest.to_owned()),
                "principal" => input.principal = Some(rest.to_owned()),
                "sla" => {
                    let (id, name) = rest.split_once(' ').expect("an id and a name");
                    input.sla = Some((id.to_owned(), name.to_owned()));
                }
                "properties" => input.properties = Some(datum(rest)),
                "vars" => match datum(rest) {
                    Datum::Object(object) => input.variables = object,
                    other => panic!("variables are an object: {other:?}"),
                },
                "json" => input.payload = Some(payload(rest, Some("application/json"))),
                "xml" => input.payload = Some(payload(rest, Some("text/xml; charset=utf-8"))),
                "text" => input.payload = Some(payload(rest, Some("text/plain"))),
                "body" => input.payload = Some(payload(rest, None)),
                _ => match word.strip_suffix(':') {
                    Some(name) => input.headers.push((name.to_owned(), rest.to_owned())),
                    None => panic!("unknown input {part}"),
                },
            }
        }
        input
    }

    fn bindings(&self) -> Bindings {
        let bindings = if self.status.is_some() { Bindings::response() } else { Bindings::request() };
        bindings
            .with_payload(&[Format::Json, Format::Xml, Format::Text])
            .with_variables(&["claimSet", "orgId", "myVar", "list", "unset"])
    }
}

fn datum(json: &str) -> Datum {
    Datum::from_json(json).unwrap_or_else(|| panic!("not JSON: {json}"))
}

fn payload(body: &str, content_type: Option<&str>) -> Payload {
    Payload::parse(body.as_bytes().to_vec(), content_type, &[Format::Json, Format::Xml, Format::Text])
}

impl Context for Input {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let name = name.to_ascii_lowercase();
        let lines = self.headers.iter().filter(|(known, _)| known.to_ascii_lowercase() == name);
        join(lines.map(|(_, value)| value.as_bytes()))
    }
    fn headers<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, Cow<'a, str>)) {
        let mut seen = Vec::new();
        for (name, _) in &self.headers {
            let name = name.to_ascii_lowercase();
            if !seen.contains(&name) {
                visit(Cow::Owned(name.clone()), self.header(&name).expect("it is there"));
                seen.push(name);
            }
        }
    }
    fn method(&self) -> Option<Cow<'_, str>> {
        self.method.as_deref().map(Cow::Borrowed)
    }
    fn query_string(&self) -> Option<&str> {
        self.query.as_deref()
    }
    fn request_path(&self) -> Option<Cow<'_, str>> {
        self.method.as_ref().map(|_| Cow::Borrowed(self.path.as_str()))
    }
    fn request_uri(&self) -> Option<Cow<'_, str>> {
        self.method.as_ref()?;
        Some(match &self.query {
            Some(query) => Cow::Owned(format!("{}?{query}", self.path)),
            None => Cow::Borrowed(&self.path),
        })
    }
    fn local_address(&self) -> Option<Cow<'_, str>> {
        self.method.as_ref().map(|_| Cow::Borrowed("10.0.0.1:8081"))
    }
    fn remote_address(&self) -> Option<Cow<'_, str>> {
        self.method.as_ref().map(|_| Cow::Borrowed("172.18.0.1:60686"))
    }
    fn scheme(&self) -> Option<Cow<'_, str>> {
        self.method.as_ref().map(|_| Cow::Borrowed("https"))
    }
    fn version(&self) -> Option<Cow<'_, str>> {
        self.method.as_ref().map(|_| Cow::Borrowed("HTTP/1.1"))
    }
    fn status_code(&self) -> Option<u16> {
        self.status
    }
    fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }
    fn sla_id(&self) -> Option<&str> {
        self.sla.as_ref().map(|(id, _)| &**id)
    }

    fn sla_name(&self) -> Option<&str> {
        self.sla.as_ref().map(|(_, name)| &**name)
    }

    fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }
    fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }
    fn properties(&self) -> Value<'_> {
        self.properties.as_ref().map_or(Value::Null, Value::from)
    }
    fn variable(&self, name: &str) -> Value<'_> {
        self.variables.get(name).map_or(Value::Null, Value::from)
    }
    fn payload(&self) -> Option<&Payload> {
        self.payload.as_ref()
    }
    fn random(&self) -> u128 {
        0x0123_4567_89ab_cdef_0123_4567_89ab_cdef
    }
}

/// One line of a table.
struct Line {
    place: String,
    expression: String,
    input: String,
    result: String,
}

fn lines() -> Vec<Line> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expressions");
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("the tables are there").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let mut lines = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "txt")) {
        let name = path.file_name().expect("it has a name").to_string_lossy();
        let text = fs::read_to_string(path).expect("a table is UTF-8");
        let mut inputs: HashMap<&str, &str> = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            let place = format!("tests/expressions/{name}:{}", index + 1);
            if line.trim().is_empty() || line.starts_with("# ") {
                continue;
            }
            if let Some((name, input)) = line.strip_prefix('@').and_then(|rest| rest.split_once(" = ")) {
                inputs.insert(name, input);
                continue;
            }
            let [expression, input, result] = line.split(" | ").collect::<Vec<_>>()[..] else {
                panic!("{place}: not three columns: {line}");
            };
            let input = input.trim();
            let input = match input.strip_prefix('@') {
                Some(name) => inputs.get(name).unwrap_or_else(|| panic!("{place}: no input is named {name}")),
                None => input,
            };
            let (expression, result) = (expression.trim().to_owned(), result.trim().to_owned());
            lines.push(Line { place, expression, input: input.to_owned(), result });
        }
    }
    lines
}

/// What a line gives, written as results are: JSON, `fails: why`, or `error at N: why`.
fn outcome(line: &Line) -> String {
    let input = Input::parse(&line.input);
    let template = match Template::compile(&line.expression, &input.bindings()) {
        Ok(template) => template,
        Err(CompileError { position, text }) => return format!("error at {}: {text}", position + 1),
    };
    let value = template.evaluate(&input).and_then(|value| value.into_json(&mut Budget::default()));
    match value {
        Ok(json) => json,
        Err(error) => format!("fails: {error}"),
    }
}

/// A result that ends in `...` says how the outcome begins.
fn agrees(expected: &str, found: &str) -> bool {
    match expected.strip_suffix("...") {
        Some(start) => found.starts_with(start),
        None => found == expected,
    }
}

#[test]
fn every_line_gives_its_result() {
    let lines = lines();
    assert!(lines.len() >= 300, "only {} lines", lines.len());
    let mut problems = Vec::new();
    for line in &lines {
        let found = outcome(line);
        if !agrees(&line.result, &found) {
            let Line { place, expression, input, result } = line;
            problems
                .push(format!("{place}: {expression}\n  input    {input}\n  expected {result}\n  found    {found}"));
        }
    }
    assert!(problems.is_empty(), "{} of {} lines\n{}\n", problems.len(), lines.len(), problems.join("\n"));
}

#[test]
fn every_line_prints_to_the_same_tree() {
    for line in lines() {
        let bindings = Input::parse(&line.input).bindings();
        if let Ok(Template::Expression(expression)) = Template::compile(&line.expression, &bindings) {
            let printed = expression.to_string();
            let again = Expression::compile(&printed, &bindings);
            assert_eq!(again.as_ref(), Ok(&expression), "{}: {} printed as {printed}", line.place, line.expression);
        }
    }
}

/// Pieces that make sense together often enough.
const PIECES: &[&str] = &[
    "attributes",
    ".headers",
    ".method",
    ".queryParams",
    ".requestPath",
    "['x-a']",
    "['X-A']",
    "[0]",
    "[-1]",
    "[1.9]",
    ".a",
    ".'b c'",
    ".*a",
    ".@a",
    ".n#a",
    "payload",
    "vars",
    ".myVar",
    ".list",
    "authentication",
    ".properties",
    ".principal",
    "'text'",
    "\"q\"",
    "'\\u0041\\n'",
    "1",
    "-2.50",
    "1e3",
    "true",
    "false",
    "null",
    "(",
    ")",
    "[",
    "]",
    ",",
    " ++ ",
    " -- ",
    " default ",
    " contains ",
    " splitBy ",
    " and ",
    " or ",
    " == ",
    " != ",
    " < ",
    " >= ",
    "not ",
    "if (",
    ") ",
    " else ",
    "upper(",
    "splitBy(",
    "sizeOf(",
    "isEmpty(",
    "dw::core::Strings::substringAfter(",
    "fromBase64(",
    "toBase64(",
    "uuid()",
    " ",
    "'",
    "‘",
    "ä",
    "-",
    "$(",
];

/// Text of the grammar, so that most of it compiles.
fn grammatical() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(
        &[
            "attributes.method",
            "attributes.headers['x-a']",
            "attributes.headers",
            "attributes",
            "attributes.queryParams['a b']",
            "payload",
            "payload.a",
            "payload.list[0].b",
            "payload.*a",
            "payload.a.@id",
            "vars.myVar",
            "vars",
            "authentication.principal",
            "authentication.properties.x",
            "'a'",
            "'it\\'s $ \\\\ \\t'",
            "\"ä\\u0001\"",
            "1",
            "1.50",
            "-3",
            "true",
            "'true'",
            "null",
            "[]",
            "[1, 'a', [true]]",
            "[attributes.method, 2]",
            "uuid()",
        ][..],
    );
    leaf.prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
        let operators = prop::sample::select(
            &["++", "--", "default", "contains", "and", "or", "==", "!=", "<", "<=", ">", ">=", "splitBy"][..],
        );
        let functions =
            prop::sample::select(&["upper", "lower", "trim", "sizeOf", "isEmpty", "toBase64", "fromBase64"][..]);
        let selectors = prop::sample::select(&[".a", "['b c']", "[0]", "[-1]", ".*a", ".@a"][..]);
        prop_oneof![
            (inner.clone(), operators.clone(), inner.clone()).prop_map(|(a, o, b)| format!("{a} {o} {b}")),
            (inner.clone(), operators, inner.clone()).prop_map(|(a, o, b)| format!("({a}) {o} ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("if ({a}) {b} else {c}")),
            (functions, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), selectors).prop_map(|(a, s)| format!("({a}){s}")),
            inner.clone().prop_map(|a| format!("not {a}")),
            inner.prop_map(|a| format!("({a})")),
        ]
    })
}

const INPUT: &str = "GET /a?a%20b=1&a=2; x-a: text; x-a: more; principal p; properties {\"x\":{\"y\":[1,2]}}; \
    vars {\"myVar\":\"v\",\"list\":[1,{\"a\":2}]}; json {\"a\":{\"b\":1.50},\"list\":[{\"b\":\"x\"},2]}";

fn check_text(text: &str, input: &Input) -> Result<(), TestCaseError> {
    let Ok(expression) = Expression::compile(text, &input.bindings()) else { return Ok(()) };
    let printed = expression.to_string();
    let again = Expression::compile(&printed, &input.bindings());
    prop_assert_eq!(again.as_ref(), Ok(&expression), "{} printed as {}", text, printed);
    if let Ok(value) = expression.evaluate(input) {
        let _all_conversions = (value.clone().into_text(), value.clone().into_boolean());
        let _json = value.into_json(&mut Budget::default());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,60}") {
        check_text(&text, &Input::parse(INPUT))?;
    }

    #[test]
    fn pieces_in_any_order_never_panic(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..16)) {
        check_text(&pieces.concat(), &Input::parse(INPUT))?;
    }

    #[test]
    fn printing_and_compiling_again_gives_the_same_tree(text in grammatical()) {
        check_text(&text, &Input::parse(INPUT))?;
        check_text(&text, &Input::parse("status 204; xml <r id='1'><a id='2'>t</a><a/></r>"))?;
    }

    /// The position of an error lies in the text, at the start of a character.
    #[test]
    fn errors_have_a_place(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..10)) {
        let text = pieces.concat();
        if let Err(error) = Expression::compile(&text, &Input::parse(INPUT).bindings()) {
            prop_assert!(text.is_char_boundary(error.position), "{text}: {error}");
        }
    }
}

/// Texts of the longest kind: compiled or refused, at once and without a deep stack.
#[test]
fn hostile_texts_are_refused() {
    let bindings = Input::parse(INPUT).bindings();
    for (text, expected) in [
        ("(".repeat(16 << 10), Some("more than 64 expressions in one another, at byte 65")),
        ("[".repeat(16 << 10), Some("more than 64 expressions in one another, at byte 65")),
        ("not ".repeat(4 << 10), Some("more than 64 expressions in one another")),
        ("if (true) 1 else ".repeat(900), Some("more than 64 expressions in one another")),
        (format!("1{}", " default 1".repeat(1000)), Some("more than 64 expressions in one another")),
        (format!("1{}", " == 1".repeat(1000)), Some("more than 64 expressions in one another")),
        (format!("payload{}", "[payload".repeat(1000)), Some("more than 64 expressions in one another")),
        ("upper(".repeat(2000), Some("more than 64 expressions in one another")),
        ("'a'".repeat(2 << 10), Some("an operator is expected before the string, at byte 4")),
        (" ".repeat((16 << 10) + 1), Some("more than 16384 bytes, at byte 16385")),
        (format!("'a'{}", " ++ 'a'".repeat(2000)), None),
        (format!("true{}", " and true".repeat(1500)), None),
        (format!("payload{}", ".a".repeat(5000)), None),
        (format!("[1{}]", ",1".repeat(7000)), None),
        (format!("{}1{}", "(".repeat(63), ")".repeat(63)), None),
        (format!("{}1{}", "[".repeat(63), "]".repeat(63)), None),
    ] {
        let outcome = Expression::compile(&text, &bindings);
        match (expected, outcome) {
            (Some(expected), Err(error)) => assert!(error.to_string().starts_with(expected), "{error}"),
            (None, Ok(expression)) => {
                expression.evaluate(&Input::parse(INPUT)).expect("it has a value");
            }
            (expected, outcome) => panic!("{expected:?} {outcome:?} {}", &text[..40]),
        }
    }
}

/// A client cannot make an evaluation slow or large: it ends within its budget, with a value or a failure.
#[test]
fn hostile_headers_stay_within_the_budget() {
    let commas = ",".repeat(60 << 10);
    let letters = "a".repeat(60 << 10);
    let list = format!("[{}1]", "1,".repeat(30_000));
    let input = Input::parse(&format!(
        "GET /?{}; x-commas: {commas}; x-letters: {letters}; json {list}",
        "a=1&".repeat(15_000)
    ));
    let split = "splitBy(attributes.headers['x-commas'], ',')";
    let joined = vec!["attributes.headers['x-letters']"; 400].join(" ++ ");
    for (text, expected) in [
        (format!("{split}[-1]"), Some("\"\"")),
        (format!("{split}[61440]"), Some("\"\"")),
        (format!("{split}[61441]"), Some("null")),
        (format!("sizeOf({split})"), Some("61441")),
        (format!("{split} contains 'a'"), Some("false")),
        (format!("{split} ++ {split}"), None),
        ("sizeOf(splitBy(attributes.headers['x-letters'], ',') ++ ['b'])".to_owned(), Some("2")),
        ("sizeOf(attributes.queryParams -- ['a'])".to_owned(), Some("0")),
        (format!("{split} -- ['']"), None),
        (format!("{split} == {split}"), None),
        ("payload -- payload".to_owned(), None),
        ("payload contains 2".to_owned(), Some("false")),
        (joined.clone(), None),
        (format!("sizeOf({})", vec!["attributes.headers['x-letters']"; 30].join(" ++ ")), Some("1843200")),
        ("attributes.queryParams".to_owned(), Some("{\"a\":\"1\"}")),
        ("attributes.queryParams.b".to_owned(), Some("null")),
        (vec!["attributes.queryParams.b == null"; 400].join(" and "), None),
        ("upper(attributes.headers['x-letters']) == 'A'".to_owned(), Some("false")),
        ("sizeOf(splitBy(attributes.headers['x-letters'], ''))".to_owned(), Some("61440")),
        ("attributes.headers['x-letters'] contains 'b'".to_owned(), Some("false")),
    ] {
        let expression = Expression::compile(&text, &input.bindings()).expect(&text);
        let mut budget = Budget::default();
        let outcome = expression.evaluate_within(&input, &mut budget).and_then(|value| value.into_json(&mut budget));
        match (expected, outcome) {
            (Some(expected), Ok(json)) => assert_eq!(json, expected, "{text}"),
            (None, Err(error)) => assert!(error.to_string().contains("of one evaluation"), "{text}: {error}"),
            (expected, outcome) => panic!("{text}: expected {expected:?}, found {outcome:?}"),
        }
    }
    let small = Expression::compile("attributes.headers['x-letters'] ++ 'a'", &input.bindings()).expect("it compiles");
    assert!(small.evaluate_within(&input, &mut Budget::new(STEPS_MAX, 60 << 10)).is_err());
    assert!(small.evaluate_within(&input, &mut Budget::new(100, 1 << 20)).is_err());
}

#[test]
fn an_expression_says_what_it_reads() {
    let bindings = Input::parse(INPUT).bindings();
    let needs = |text: &str| {
        let needs = Expression::compile(text, &bindings).expect(text).needs();
        let all = [
            (needs.attributes, "attributes"),
            (needs.headers, "headers"),
            (needs.authentication, "authentication"),
            (needs.payload, "payload"),
            (needs.variables, "vars"),
        ];
        all.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, name)| name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(needs("true"), "");
    assert_eq!(needs("attributes.method"), "attributes");
    assert_eq!(needs("attributes.headers['a']"), "attributes headers");
    assert_eq!(needs("attributes"), "attributes headers");
    assert_eq!(needs("attributes['headers'].a"), "attributes headers");
    assert_eq!(needs("authentication.principal default 'nobody'"), "authentication");
    assert_eq!(needs("if (true) 1 else payload.a"), "payload");
    assert_eq!(needs("vars.myVar ++ payload"), "payload vars");
}

#[test]
fn what_is_not_bound_is_refused() {
    let request = Bindings::request();
    for (text, bindings, expected) in [
        ("payload", &request, "`payload` is not available here, at byte 1"),
        ("1 == vars.a", &request, "`vars` is not available here, at byte 6"),
        ("attributes.method", &Bindings::default(), "`attributes` is not available here, at byte 1"),
        ("authentication", &Bindings::default(), "`authentication` is not available here, at byte 1"),
        (
            "vars.b",
            &Bindings::request().with_variables(&["a", "c"]),
            "there is no `vars.b` here, only vars.a, vars.c, at byte 5",
        ),
    ] {
        let error = Expression::compile(text, bindings).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn remarks_name_what_is_hardly_meant() {
    let remarks = |text: &str, bindings: Bindings| {
        let expression = Expression::compile(text, &bindings.with_payload(&[Format::Json])).expect(text);
        let remarks = expression.remarks().iter();
        remarks.map(|remark| format!("{}: {}", remark.position + 1, remark.text)).collect::<Vec<_>>()
    };
    for (text, expected) in [
        ("attributes.queryParams.a", ""),
        ("attributes.headers['a'] == '1' and payload.b == 1", ""),
        (
            "attributes.queryParam['a']",
            "11: `attributes` has no `queryParam`: it is always null, did you mean `queryParams`?",
        ),
        ("attributes.header['a']", "11: `attributes` has no `header`: it is always null, did you mean `headers`?"),
        ("attributes.clientAddress", "11: `attributes` has no `clientAddress`: it is always null"),
        ("attributes.statusCode", "11: a request has no `attributes.statusCode`: it is always null"),
        (
            "authentication.clientID",
            "15: `authentication` has no `clientID`: it is always null, did you mean `clientId`?",
        ),
        ("attributes.headers['id']==1", "25: a string compared with a number is always false: nothing is converted"),
        ("'1' != 1", "5: a string compared with a number is always true: nothing is converted"),
        ("payload contains 'a' and true", "9: `contains` takes all of `... and ...` here, parentheses would say so"),
        ("payload.a == 1 default 2", "16: `default` takes all of `... == ...` here, parentheses would say so"),
        ("(payload contains 'a') and true", ""),
    ] {
        assert_eq!(remarks(text, Bindings::request()).join("\n"), expected, "{text}");
    }
    assert_eq!(
        remarks("attributes.method", Bindings::response()),
        ["11: a response has no `attributes.method`: it is always null"]
    );
}

#[test]
fn results_become_text_and_conditions() {
    let input = Input::parse(INPUT);
    let text = |expression: &str| {
        let expression = Expression::compile(expression, &input.bindings()).expect(expression);
        expression.evaluate(&input).and_then(|value| Ok(value.into_text()?.into_owned())).map_err(|e| e.to_string())
    };
    assert_eq!(text("true"), Ok("true".to_owned()));
    assert_eq!(text("1"), Ok("1".to_owned()));
    assert_eq!(text("1.50"), Ok("1.50".to_owned()));
    assert_eq!(text("sizeOf('abc')"), Ok("3".to_owned()));
    assert_eq!(text("fromBase64('YQ')"), Ok("a".to_owned()));
    assert_eq!(text("null"), Err("text cannot be made of null".to_owned()));
    assert_eq!(text("[1]"), Err("text cannot be made of an array".to_owned()));
    assert_eq!(text("attributes.headers"), Err("text cannot be made of an object".to_owned()));
    assert_eq!(text("fromBase64('/w')"), Err("text cannot be made of binary data".to_owned()));
    let condition = |expression: &str| {
        let expression = Expression::compile(expression, &input.bindings()).expect(expression);
        expression.evaluate(&input).and_then(Value::into_boolean).map_err(|error| error.to_string())
    };
    assert_eq!(condition("1 == 1"), Ok(true));
    assert_eq!(condition("'false'"), Ok(false));
    assert_eq!(condition("'yes'"), Err("a condition cannot be made of a string".to_owned()));
    assert_eq!(condition("null"), Err("a condition cannot be made of null".to_owned()));
    assert_eq!(condition("1"), Err("a condition cannot be made of a number".to_owned()));
    let line = |expression: &str| {
        let expression = Expression::compile(expression, &input.bindings()).expect(expression);
        let value = expression.evaluate(&input).expect("a value");
        value.into_line(&mut Budget::default()).expect("a line").into_owned()
    };
    assert_eq!(line("attributes.method"), "GET");
    assert_eq!(line("attributes.headers"), r#"{"x-a":"text, more"}"#);
    assert_eq!(line("payload"), r#"{"a":{"b":1.50},"list":[{"b":"x"},2]}"#);
}

#[test]
fn lines_are_written_in_pieces_as_they_would_be_whole() {
    let input = Input::parse(INPUT);
    let pieces = |text: &str| {
        let expression = Expression::compile(text, &input.bindings()).expect(text);
        let mut pieces = Vec::new();
        let written = expression.write_line(&input, &mut Budget::default(), &mut |piece| pieces.push(piece.to_owned()));
        written.map(|()| pieces).map_err(|error| error.to_string())
    };
    for (text, expected) in [
        ("attributes.method", &["GET"][..]),
        ("attributes.method ++ ' ' ++ 1.50 ++ true", &["GET", " ", "1.50", "true"]),
        ("sizeOf('four') ++ '!'", &["4", "!"]),
        ("sizeOf('four')", &["4"]),
        ("attributes.headers", &[r#"{"x-a":"text, more"}"#]),
        ("[1] ++ ['a']", &[r#"[1,"a"]"#]),
        ("null", &["null"]),
        ("if (true) 'a' ++ 'b' else 'c'", &["ab"]),
    ] {
        assert_eq!(pieces(text).expect(text), expected, "{text}");
    }
    assert_eq!(pieces("'a' ++ null"), Err("`++` cannot take null, at byte 8".to_owned()));
    let expression = Expression::compile("'four' ++ 'more'", &input.bindings()).expect("valid");
    let written = expression.write_line(&input, &mut Budget::new(100, 6), &mut |_| {});
    assert!(written.is_err(), "pieces are paid for as one text would be");
}

#[test]
fn templates_tell_expressions_from_text() {
    let bindings = Input::parse(INPUT).bindings();
    let literal =
        |text: &str| matches!(Template::compile(text, &bindings), Ok(Template::Literal(kept)) if *kept == *text);
    assert!(
        literal("north")
            && literal("")
            && literal("#[")
            && literal("[true]")
            && literal("a #[true]")
            && literal("#[true] b")
    );
    assert!(matches!(Template::compile(" #[true]\n", &bindings), Ok(Template::Expression(_))));
    let error = Template::compile(" #[ tru]", &bindings).expect_err("no such name");
    assert_eq!(error.position, 4);
    let error = Expression::compile_field("attributes.method", &bindings).expect_err("not wrapped");
    assert_eq!(error.to_string(), "an expression stands in `#[` and `]`, at byte 1");
}
