//! Expressions in policies: what they read of an exchange, and how a field that holds one is compiled.

use std::{borrow::Cow, cell::OnceCell, net::SocketAddr};

use super::{ConfigError, Exchange, Fault, Need, Side};
use crate::{
    expression::{Bindings, Context, Format, Payload, Template, Value, join},
    http::head::{Fields, Version},
};

/// The field `field` as an expression or as literal text; what is wrong with it goes to `error`. Where one of them reads the
/// payload, [`need`] says so.
pub fn template(field: &str, text: &str, bindings: &Bindings, error: &mut ConfigError) -> Option<Template> {
    match Template::compile(text, bindings) {
        Ok(template) => Some(template),
        Err(fault) => {
            error.add(Fault::at(field, fault.to_string()));
            None
        }
    }
}

/// What a policy with these needs of the body that they are evaluated beside.
pub fn need<'t>(templates: impl IntoIterator<Item = &'t Template>) -> Need {
    match templates.into_iter().any(reads_payload) {
        true => Need::Buffer,
        false => Need::None,
    }
}

pub fn reads_payload(template: &Template) -> bool {
    matches!(template, Template::Expression(expression) if expression.needs().payload)
}

/// What `check` says of a field that compiles.
pub fn remarks(field: &str, text: &str, bindings: &Bindings) -> Vec<Fault> {
    if text.trim().starts_with("#[") && !text.trim().ends_with(']') {
        return vec![Fault::at(
            field,
            "begins like an expression, and is taken as it stands: there is no `]` at its end",
        )];
    }
    let template = Template::compile(text, bindings);
    let remarks = template.as_ref().map(Template::remarks).unwrap_or_default();
    remarks.iter().map(|remark| Fault::at(field, format!("at byte {}: {}", remark.position + 1, remark.text))).collect()
}

/// An exchange as expressions read it: `attributes` of its request, or of its response.
pub struct Reading<'e, 'x> {
    exchange: &'e Exchange<'x>,
    side: Side,
    variables: &'e dyn Fn(&str) -> Value<'e>,
    /// What the request is read as if it were for.
    target: Option<&'e Target>,
    /// What the payload is read as.
    formats: &'e [Format],
    /// Parsed when the first expression asks for it, for all that share this.
    payload: OnceCell<Option<Payload>>,
}

/// What another request would be for.
#[derive(Clone, Debug)]
pub struct Target {
    pub method: Cow<'static, str>,
    /// Path and query, the latter without its `?`; `None`: the same as the request's.
    pub place: Option<(String, String)>,
}

impl<'e, 'x> Reading<'e, 'x> {
    pub fn request(exchange: &'e Exchange<'x>) -> Self {
        Self {
            exchange,
            side: Side::Request,
            variables: &|_| Value::Null,
            target: None,
            formats: &[],
            payload: OnceCell::new(),
        }
    }

    pub fn response(exchange: &'e Exchange<'x>) -> Self {
        Self { side: Side::Response, ..Self::request(exchange) }
    }

    /// What stands behind `vars`.
    pub fn with_variables(self, variables: &'e dyn Fn(&str) -> Value<'e>) -> Self {
        Self { variables, ..self }
    }

    /// As if the request were for something else.
    pub fn with_target(self, target: &'e Target) -> Self {
        Self { target: Some(target), ..self }
    }

    fn place(&self) -> Option<&'e (String, String)> {
        self.target.and_then(|target| target.place.as_ref())
    }

    /// What stands behind `payload`: the body, which the policy's needs have had read, as one of these formats.
    pub fn with_payload(self, formats: &'e [Format]) -> Self {
        Self { formats, ..self }
    }

    /// None where there is no body.
    fn parse_payload(&self) -> Option<Payload> {
        let body = self.exchange.body(self.side).filter(|body| body.is_whole())?;
        let content_type = join(self.fields().values(b"content-type"));
        Some(Payload::parse(body.to_vec(), content_type.as_deref(), self.formats))
    }

    fn fields(&self) -> &'e Fields {
        match self.side {
            Side::Request => self.exchange.request_fields(),
            Side::Response => self.exchange.response_fields(),
        }
    }

    /// What a response does not have.
    fn asked<T>(&self, read: impl FnOnce(&'e Exchange<'x>) -> T) -> Option<T> {
        (self.side == Side::Request).then(|| read(self.exchange))
    }

    /// In the spelling that routes saw; HTTP/2 says it elsewhere than in a field.
    fn host(&self) -> Option<Cow<'e, str>> {
        self.asked(|exchange| text(exchange.authority())).filter(|host| !host.is_empty())
    }
}

impl Context for Reading<'_, '_> {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let host = if name.eq_ignore_ascii_case("host") { self.host() } else { None };
        host.or_else(|| join(self.fields().values(name.as_bytes())))
    }

    fn headers<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, Cow<'a, str>)) {
        let (fields, host) = (self.fields(), self.host());
        let is_said = |name: &[u8]| host.is_some() && name.eq_ignore_ascii_case(b"host");
        for (at, field) in fields.iter().enumerate() {
            let is_first = !fields.iter().take(at).any(|before| before.name.eq_ignore_ascii_case(field.name));
            if is_first
                && !is_said(field.name)
                && let Some(value) = join(fields.values(field.name))
            {
                visit(Cow::Owned(text(field.name).to_ascii_lowercase()), value);
            }
        }
        if let Some(host) = host {
            visit(Cow::Borrowed("host"), host);
        }
    }

    fn method(&self) -> Option<Cow<'_, str>> {
        match self.target {
            Some(target) => Some(Cow::Borrowed(&*target.method)),
            None => self.asked(|exchange| text(exchange.method())),
        }
    }

    fn query_string(&self) -> Option<&str> {
        if let Some((_, query)) = self.place() {
            return Some(query);
        }
        let query = std::str::from_utf8(self.asked(Exchange::query)?).ok()?;
        Some(query.strip_prefix('?').unwrap_or(query))
    }

    fn request_path(&self) -> Option<Cow<'_, str>> {
        if let Some((path, _)) = self.place() {
            return Some(path.into());
        }
        self.asked(|exchange| text(exchange.path()))
    }

    fn request_uri(&self) -> Option<Cow<'_, str>> {
        match self.place() {
            Some((path, query)) if query.is_empty() => return Some(path.into()),
            Some((path, query)) => return Some(format!("{path}?{query}").into()),
            None => {}
        }
        self.asked(|exchange| match (text(exchange.path()), exchange.query()) {
            (path, []) => path,
            (path, query) => Cow::Owned(path.into_owned() + &text(query)),
        })
    }

    fn remote_address(&self) -> Option<Cow<'_, str>> {
        self.asked(|exchange| address(exchange.peer.address))
    }

    fn local_address(&self) -> Option<Cow<'_, str>> {
        self.asked(|exchange| address(exchange.peer.local))
    }

    fn scheme(&self) -> Option<Cow<'_, str>> {
        self.asked(|exchange| exchange.peer.scheme.into())
    }

    fn version(&self) -> Option<Cow<'_, str>> {
        self.asked(|exchange| match exchange.version() {
            Version::Http10 => "HTTP/1.0".into(),
            Version::Http11 => "HTTP/1.1".into(),
            Version::Http2 => "HTTP/2".into(),
        })
    }

    fn status_code(&self) -> Option<u16> {
        (self.side == Side::Response).then(|| self.exchange.status()).filter(|status| *status != 0)
    }

    fn client_id(&self) -> Option<&str> {
        self.exchange.authentication().client_id()
    }

    fn client_name(&self) -> Option<&str> {
        self.exchange.authentication().client_name()
    }

    fn sla_id(&self) -> Option<&str> {
        self.exchange.authentication().sla_id()
    }

    fn sla_name(&self) -> Option<&str> {
        self.exchange.authentication().sla_name()
    }

    fn principal(&self) -> Option<&str> {
        self.exchange.authentication().principal()
    }

    fn properties(&self) -> Value<'_> {
        self.exchange.authentication().properties().map_or(Value::Null, Value::from)
    }

    fn variable(&self, name: &str) -> Value<'_> {
        (self.variables)(name)
    }

    fn payload(&self) -> Option<&Payload> {
        self.payload.get_or_init(|| self.parse_payload()).as_ref()
    }

    fn random(&self) -> u128 {
        self.exchange.random()
    }
}

/// With its port. An IPv4 client of a socket for both is not shown as the IPv6 address that the system makes of it.
fn address(address: SocketAddr) -> Cow<'static, str> {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string().into()
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{
        expression::{Datum, Expression, Format},
        http::head::{BodyLength, RequestHead},
        policies::{Body, testing::Trial},
    };

    fn trial() -> Trial {
        let sent = [("X-Id", "one"), ("accept", "*/*"), ("x-id", "two"), ("x-bytes", "caf\u{e9}")];
        let mut trial = Trial::new("POST", "/api/a%2Fb", &sent);
        trial.request.query = b"?x=1&y=two+words&x=2".into();
        let answered = [("Content-Type", "text/plain"), ("set-cookie", "a"), ("Set-Cookie", "b")];
        trial.answered(404, &answered)
    }

    /// The value as text; empty where it is null.
    fn read(trial: &mut Trial, of_response: bool, text: &str) -> String {
        let bindings = if of_response { Bindings::response() } else { Bindings::request() };
        let expression = Expression::compile(text, &bindings).expect(text);
        trial.with(4, |exchange| {
            let reading = if of_response { Reading::response(exchange) } else { Reading::request(exchange) };
            match expression.evaluate(&reading).expect(text) {
                Value::Null => String::new(),
                // Whole objects, as they would be logged.
                Value::Object(members) => format!("{members:?}"),
                value => value.into_text().expect(text).into_owned(),
            }
        })
    }

    fn check(trial: &mut Trial, of_response: bool, expected: &[(&str, &str)]) {
        for (text, expected) in expected {
            assert_eq!(read(trial, of_response, text), *expected, "{text}, of the response: {of_response}");
        }
    }

    #[test]
    fn a_request_has_all_attributes_but_the_status() {
        let expected = [
            ("attributes.method", "POST"),
            ("attributes.requestPath", "/api/a%2Fb"),
            ("attributes.requestUri", "/api/a%2Fb?x=1&y=two+words&x=2"),
            ("attributes.queryString", "x=1&y=two+words&x=2"),
            ("attributes.queryParams.x", "2"),
            ("attributes.queryParams.'y'", "two words"),
            ("attributes.queryParams.nobody", ""),
            ("attributes.remoteAddress", "192.0.2.1:40000"),
            ("attributes.localAddress", "192.0.2.2:8081"),
            ("attributes.scheme", "http"),
            ("attributes.version", "HTTP/1.1"),
            ("attributes.statusCode", ""),
            ("attributes.clientAddress", ""),
            ("attributes.headers['x-id']", "one, two"),
            ("attributes.headers['X-ID']", "one, two"),
            ("attributes.headers['x-bytes']", "caf\u{e9}"),
            ("attributes.headers.nobody", ""),
            ("attributes.headers['content-type']", ""),
            ("attributes.headers.host", "api.example:8081"),
        ];
        check(&mut trial(), false, &expected);
    }

    #[test]
    fn a_response_has_its_status_and_headers_alone() {
        let expected = [
            ("attributes.statusCode", "404"),
            ("attributes.headers['content-type']", "text/plain"),
            ("attributes.headers['SET-COOKIE']", "a, b"),
            ("attributes.headers['x-id']", ""),
            ("attributes.headers.host", ""),
            ("attributes.method", ""),
            ("attributes.requestPath", ""),
            ("attributes.requestUri", ""),
            ("attributes.queryString", ""),
            ("attributes.queryParams", ""),
            ("attributes.remoteAddress", ""),
            ("attributes.localAddress", ""),
            ("attributes.scheme", ""),
            ("attributes.version", ""),
            ("attributes.headers", r#"{"content-type": String("text/plain"), "set-cookie": String("a, b")}"#),
        ];
        check(&mut trial(), true, &expected);
    }

    #[test]
    fn the_host_is_the_one_that_routes_saw_wherever_it_was_said() {
        const HEADERS: &str = "attributes.headers";
        const HOST: &str = "attributes.headers.host";
        let with = |authority: &str, lines| {
            let mut trial = Trial::new("GET", "/", lines);
            trial.request.authority = authority.into();
            trial
        };
        // In HTTP/2 it is `:authority`, and no field.
        check(&mut with("a.test", &[]), false, &[(HOST, "a.test"), (HEADERS, r#"{"host": String("a.test")}"#)]);
        // A field is as the client wrote it.
        let mut spelt = with("a.test", &[("Host", "A.TEST."), ("x", "1")]);
        check(&mut spelt, false, &[(HOST, "a.test"), (HEADERS, r#"{"x": String("1"), "host": String("a.test")}"#)]);
        // HTTP/1.0 may say none.
        check(&mut with("", &[]), false, &[(HOST, ""), (HEADERS, "{}")]);
    }

    #[test]
    fn every_version_and_a_query_of_none() {
        for (version, expected) in
            [(Version::Http10, "HTTP/1.0"), (Version::Http11, "HTTP/1.1"), (Version::Http2, "HTTP/2")]
        {
            let mut trial = trial();
            trial.request = RequestHead { version, query: Vec::new(), ..trial.request };
            let expected = [
                ("attributes.version", expected),
                ("attributes.queryString", ""),
                ("attributes.queryParams", "{}"),
                ("attributes.requestUri", "/api/a%2Fb"),
            ];
            check(&mut trial, false, &expected);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_read_as_signs_for_such() {
        let mut trial = trial();
        trial.request.fields.append(b"x-raw", b"a\xffb");
        check(&mut trial, false, &[("attributes.headers['x-raw']", "a\u{fffd}b")]);
    }

    #[test]
    fn addresses_have_their_port() {
        for (given, expected) in [
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1:1"),
        ] {
            assert_eq!(address(given.parse().expect("an address")), expected);
        }
    }

    #[test]
    fn the_client_is_who_policies_said() {
        let names = ["clientId", "clientName", "principal", "slaId", "slaName"];
        let names = names.map(|name| format!("authentication.{name}"));
        for of_response in [false, true] {
            let mut trial = trial();
            check(&mut trial, of_response, &names.each_ref().map(|name| (&**name, "")));
            check(&mut trial, of_response, &[("authentication.properties", ""), ("authentication.properties.a.b", "")]);
            trial.authentication.set_client("other", "one");
            trial.authentication.set_sla("1", "silver");
            trial.authentication.set_client("id", "name");
            check(&mut trial, of_response, &[("authentication.slaId", ""), ("authentication.slaName", "")]);
            trial.authentication.set_sla("2", "gold");
            trial.authentication.set_principal("ada");
            let properties = Datum::from_json(r#"{"claims": {"sub": "s", "level": 3}}"#).expect("JSON");
            trial.authentication.set_properties(Rc::new(properties));
            let expected = [
                ("authentication.clientId", "id"),
                ("authentication.clientName", "name"),
                ("authentication.principal", "ada"),
                ("authentication.slaId", "2"),
                ("authentication.slaName", "gold"),
                ("authentication.properties.claims.sub", "s"),
                ("authentication.properties.claims.level", "3"),
                ("authentication.properties.nobody", ""),
            ];
            check(&mut trial, of_response, &expected);
        }
    }

    #[test]
    fn variables_are_the_policys_own() {
        let bindings = Bindings::request().with_variables(&["mine", "unset"]);
        let expression = Expression::compile("vars.mine ++ (vars.unset default '-')", &bindings).expect("valid");
        trial().with(0, |exchange| {
            let variable = |name: &str| if name == "mine" { Value::from(Some("v")) } else { Value::Null };
            let reading = Reading::request(exchange).with_variables(&variable);
            let value = expression.evaluate(&reading).expect("a value");
            assert_eq!(value.into_text().expect("text"), "v-");
        });
        assert!(Expression::compile("vars.other", &bindings).is_err());
    }

    #[test]
    fn random_numbers_differ_within_an_exchange() {
        let expression = Expression::compile("uuid()", &Bindings::request()).expect("valid");
        trial().with(0, |exchange| {
            let reading = Reading::request(exchange);
            let text = || expression.evaluate(&reading).expect("a value").into_text().expect("text").into_owned();
            assert_ne!(text(), text());
        });
    }

    #[test]
    fn what_works_and_is_hardly_meant_is_remarked_on() {
        let texts = |text| {
            let remarks = remarks("value", text, &Bindings::request());
            remarks.into_iter().map(|fault| fault.text).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(texts("text"), "");
        assert_eq!(texts("#[attributes.method]"), "");
        assert_eq!(
            texts("#[attributes.methud]"),
            "at byte 13: `attributes` has no `methud`: it is always null, did you mean `method`?"
        );
        assert!(texts(" #[attributes.method").starts_with("begins like an expression"));
    }

    /// What `payload` reads give of this body, as a request's or a response's; empty where it is null.
    fn read_payload(side: Side, content_type: &str, body: Option<Body>, text: &str) -> String {
        const FORMATS: [Format; 3] = [Format::Json, Format::Xml, Format::Text];
        let bindings = if side == Side::Request { Bindings::request() } else { Bindings::response() };
        let expression = Expression::compile(text, &bindings.with_payload(&FORMATS)).expect(text);
        let lines = [("Content-Type", content_type)];
        let mut trial = Trial::new("POST", "/", &lines).answered(200, &lines);
        (trial.request.body, trial.response.body) = (BodyLength::Chunked, BodyLength::Chunked);
        if let Some(body) = body {
            *(if side == Side::Request { &mut trial.bodies.request } else { &mut trial.bodies.response }) = body;
        }
        trial.with(0, |exchange| {
            let reading = if side == Side::Request { Reading::request(exchange) } else { Reading::response(exchange) };
            match expression.evaluate(&reading.with_payload(&FORMATS)).expect(text) {
                Value::Null => String::new(),
                value => value.into_text().expect(text).into_owned(),
            }
        })
    }

    #[test]
    fn the_payload_is_the_body_of_the_own_direction_by_its_content_type() {
        for side in [Side::Request, Side::Response] {
            let check = |content_type: &str, body: &str, text: &str, expected: &str| {
                let read = read_payload(side, content_type, Some(Body::whole(body.as_bytes())), text);
                assert_eq!(read, expected, "{side:?}: {text} of {body} as {content_type}");
            };
            check("application/json", r#"{"a": {"b": 1.50}}"#, "payload.a.b", "1.50");
            check("application/json", r#"{"a": 1}"#, "'<' ++ payload ++ '>'", r#"<{"a": 1}>"#);
            check("text/xml", "<a><b>c</b></a>", "payload.a.b", "c");
            check("text/plain", "{}", "payload", "{}");
            check("application/json", "{", "payload", "");
            check("application/json", "", "payload", "");
        }
    }

    #[test]
    fn a_body_that_is_not_whole_is_no_payload() {
        let beginning = Body::new(Body::whole(b"1").into_pieces(), false);
        assert_eq!(read_payload(Side::Request, "application/json", Some(beginning), "payload"), "");
        assert_eq!(read_payload(Side::Request, "application/json", None, "payload"), "");
    }

    #[test]
    fn templates_say_whether_the_payload_is_read() {
        let bindings = Bindings::request().with_payload(&[Format::Json]);
        let mut error = ConfigError::default();
        let mut compiled = |text| template("key", text, &bindings, &mut error);
        let (payload, literal) = (compiled("#[payload.a]"), compiled("payload"));
        assert_eq!((need(&payload), need(&literal)), (Need::Buffer, Need::None));
        assert!(compiled("#[attributes.]").is_none());
        assert!(template("key", "#[payload]", &Bindings::request(), &mut error).is_none());
        assert_eq!(error.faults.iter().filter(|fault| fault.field == "key" && !fault.not_implemented).count(), 2);
    }
}
