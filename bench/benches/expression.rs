//! Expressions as policies evaluate them for each request.

use std::{borrow::Cow, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use ringway::{
    expression::{Bindings, Context, Expression, join},
    http::head::Fields,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Exchange {
    headers: Fields,
}

impl Context for Exchange {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let lines = self.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        join(lines.map(|field| field.value))
    }
    fn method(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("POST"))
    }
    fn request_path(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("/orders/1"))
    }
    fn status_code(&self) -> Option<u16> {
        Some(501)
    }
    fn client_id(&self) -> Option<&str> {
        Some("client-1")
    }
}

fn expressions(criterion: &mut Criterion) {
    let mut headers = Fields::default();
    for (name, value) in [
        ("Host", "api.example.test"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("Accept", "text/html,application/xhtml+xml"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Accept-Language", "en"),
        ("Authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"),
        ("X-Request-Id", "0123456789abcdef"),
        ("X-Forwarded-For", "203.0.113.7"),
    ] {
        headers.append(name.as_bytes(), value.as_bytes());
    }
    let exchange = Exchange { headers };
    let mut group = criterion.benchmark_group("expression");
    for (name, text) in [
        ("header", "attributes.headers['x-forwarded-for']"),
        ("condition", "attributes.method == 'GET' or attributes.method == 'HEAD'"),
        ("status", "[200, 203, 204, 206, 300, 301, 404, 405, 410, 414, 501] contains attributes.statusCode"),
        ("bearer", "splitBy(attributes.headers['Authorization'], ' ')[1]"),
        (
            "join",
            "'User ' ++ authentication.clientId ++ ' performed action ' ++ attributes.method ++ ' on ' ++ attributes.requestPath",
        ),
    ] {
        let expression = Expression::compile(text, &Bindings::request()).expect(text);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&expression).evaluate(black_box(&exchange)).expect(text));
        });
    }
    group.bench_function("compile", |bencher| {
        let text = "attributes.method == 'GET' or attributes.method == 'HEAD'";
        bencher.iter(|| Expression::compile(black_box(text), &Bindings::request()).expect(text));
    });
    group.finish();
}

criterion_group!(benches, expressions);
criterion_main!(benches);
