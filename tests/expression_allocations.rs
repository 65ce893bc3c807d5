//! Evaluating selectors, comparisons and conditions allocates nothing; only a new string does, once.

#[path = "support/allocations.rs"]
mod allocations;

use std::borrow::Cow;

use allocations::counted;
use ringway::{
    expression::{Bindings, Budget, Context, Datum, Expression, Format, Payload, Value, join},
    http::head::Fields,
};

struct Exchange {
    headers: Fields,
    claims: Datum,
    payload: Payload,
}

impl Context for Exchange {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let lines = self.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        join(lines.map(|field| field.value))
    }
    fn method(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("GET"))
    }
    fn request_path(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("/orders/1"))
    }
    fn query_string(&self) -> Option<&str> {
        Some("a=1&tenant=north")
    }
    fn status_code(&self) -> Option<u16> {
        Some(404)
    }
    fn variable(&self, _: &str) -> Value<'_> {
        Value::from(&self.claims)
    }
    fn payload(&self) -> Option<&Payload> {
        Some(&self.payload)
    }
}

#[test]
fn only_new_strings_are_allocated() {
    let mut headers = Fields::default();
    for (name, value) in [("Host", "a.test"), ("X-Forwarded-For", "203.0.113.7"), ("Authorization", "Bearer t0ken")] {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    let claims = Datum::from_json(r#"{"client_id":"c","roles":["a","b"],"level":3}"#).expect("JSON");
    let payload = br#"{"items":[{"id":1},{"id":2}],"name":"n"}"#.to_vec();
    let payload = Payload::parse(payload, Some("application/json"), &[Format::Json]);
    let exchange = Exchange { headers, claims, payload };
    let bindings = Bindings::request().with_payload(&[Format::Json]).with_variables(&["claimSet"]);

    for (allocations, text) in [
        (0, "attributes.headers['x-forwarded-for']"),
        (0, "attributes.headers['nobody'] default attributes.queryParams.tenant"),
        (0, "attributes.method == 'GET' or attributes.method == 'HEAD'"),
        (0, "not (attributes.requestPath == '/') and attributes.statusCode >= 400"),
        (0, "[200, 203, 204, 206, 300, 301, 404, 405, 410, 414, 501] contains attributes.statusCode"),
        (0, "splitBy(attributes.headers['Authorization'], ' ')[1] == 't0ken'"),
        (0, "splitBy(attributes.headers['Authorization'], ' ') contains 'Bearer'"),
        (0, "dw::core::Strings::substringAfter(attributes.headers['Authorization'], 'Bearer ')"),
        (0, "if (trim(attributes.headers.host) == lower('a.test')) 'yes' else 'no'"),
        (0, "(vars.claimSet.roles contains 'b') and vars.claimSet.level > 2"),
        (0, "payload.items[-1].id == 2 and payload.name[0] == 'n'"),
        (0, "isEmpty(payload.nobody) and sizeOf(payload.items) == 2"),
        (0, "attributes"),
        (1, "'a' ++ 'b'"),
        (1, "upper(attributes.method ++ '')"),
        (1, "upper(attributes.headers.host)"),
    ] {
        let expression = Expression::compile(text, &bindings).expect(text);
        let (counted, value) = counted(|| expression.evaluate(&exchange).expect(text));
        assert!(!value.is_null(), "{text} is null");
        assert_eq!(counted, allocations, "{text}");
    }
    // Of a text that goes out in pieces not even that.
    for text in ["'was ' ++ attributes.statusCode ++ ' for ' ++ attributes.requestPath", "attributes.statusCode", "'a'"]
    {
        let expression = Expression::compile(text, &bindings).expect(text);
        let mut bytes = 0;
        let mut write = |piece: &str| bytes += piece.len();
        let written = counted(|| expression.write_line(&exchange, &mut Budget::default(), &mut write).expect(text));
        assert_eq!(written.0, 0, "{text}");
        assert!(bytes > 0, "{text}");
    }
}
