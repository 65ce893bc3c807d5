//! Evaluating selectors, comparisons and conditions allocates nothing; only a new string does, once. A client that is let in
//! for its id and secret costs none.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    borrow::Cow,
    cell::Cell,
};

use ringway::{
    config::{environment::Environment, load::Loaded, rule::Scratch},
    expression::{Bindings, Context, Datum, Expression, Format, Payload, Value, join},
    http::head::{Fields, RequestHead, ResponseHead},
    policies::{
        At, Authentication, Core, Exchange as PolicyExchange, Flow, Peer,
        chain::{self, Instances, Turns},
    },
    telemetry::series,
};

/// Counts the allocations of the thread that asks.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: the system's allocator does the work; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
        let before = ALLOCATIONS.get();
        let value = expression.evaluate(&exchange).expect(text);
        let counted = ALLOCATIONS.get() - before;
        assert!(!value.is_null(), "{text} is null");
        assert_eq!(counted, allocations, "{text}");
    }
}

#[test]
fn a_client_is_let_in_without_allocations() {
    let shown = [
        ("{clientSecretExpression: \"#[attributes.headers['client_secret']]\"}", "client_secret", "s3:cret"),
        (
            "{credentialsOriginHasHttpBasicAuthenticationHeader: httpBasicAuthenticationHeader}",
            "Authorization",
            "Basic bW9iaWxlOnMzOmNyZXQ=",
        ),
    ];
    for (config, name, value) in shown {
        let text = format!(
            "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}\nspec:\n  address: \
             http://127.0.0.1:8081\n  policies:\n    - policyRef: {{name: client-id-enforcement-flex}}\n      config: \
             {config}\n---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: Contract\nmetadata: {{name: c}}\nspec: \
             {{apiId: a, client: {{id: mobile, secret: 's3:cret', name: Mobile}}}}\n"
        );
        let loaded = Loaded::from_texts(&[("a.yaml", &text)], Environment::default());
        let snapshot = loaded.compile(1, &mut series::intern).accept(false).expect("valid");
        let (api, mut instances) = (&snapshot.apis[0], Instances::default());
        let instances = instances.chain(&api.policies, &Core { id: 0 });
        let (mut turns, mut scratch) = (Turns::default(), Scratch::new(snapshot.patterns));
        let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
        request.fields.append(b"client_id", b"mobile");
        request.fields.append(name.as_bytes(), value.as_bytes());
        let mut authentication = Authentication::default();
        let address = ([127, 0, 0, 1], 8081).into();
        let peer = Peer { address, local: address, scheme: "http", certificate: None };
        let mut allocations = 0;
        // The first request makes the room that the others reuse.
        for _ in 0..2 {
            authentication.clear();
            turns.clear();
            let at = At { api, base: 0, service: None };
            let mut exchange = PolicyExchange::new(&mut request, &mut response, &mut authentication, peer, at, 1);
            let before = ALLOCATIONS.get();
            let flow = chain::run_request(&api.policies, &instances, &mut turns, &mut exchange, &mut scratch);
            allocations = ALLOCATIONS.get() - before;
            assert!(matches!(flow, Flow::Continue), "{config}");
        }
        assert_eq!((authentication.client_id(), authentication.client_name()), (Some("mobile"), Some("Mobile")));
        assert_eq!(allocations, 0, "{config}");
    }
}
