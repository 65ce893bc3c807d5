//! What the benchmarks measure with: heads as they really come, and configurations of any size.

pub mod json;

use std::sync::Arc;

use ringway::{
    config::{Loaded, environment::Environment, snapshot::Snapshot},
    http::h1::{body::BodyLimits, parse::HeadLimits},
    telemetry::series::SeriesId,
};

/// A browser's, with what one sends today.
pub const BROWSER_REQUEST: &[u8] = b"GET /api-00000/route-00000/orders/4711?page=2&sort=desc HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cache-Control: max-age=0\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=2f1c9d7e5b6a4c3d8e9f0a1b2c3d4e5f; theme=dark; consent=1\r\n\
    Referer: https://shop.example.com/orders\r\n\
    Sec-Ch-Ua: \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"\r\n\
    Sec-Ch-Ua-Mobile: ?0\r\n\
    Sec-Ch-Ua-Platform: \"Linux\"\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Upgrade-Insecure-Requests: 1\r\n\r\n";

pub const MINIMAL_REQUEST: &[u8] = b"GET /api-00000/route-00000/x HTTP/1.1\r\nHost: a\r\n\r\n";

pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: no-cache\r\n\
    ETag: \"5f3e-62a1\"\r\n\
    Vary: Accept-Encoding\r\n\r\n";

/// The gateway's defaults.
pub const HEAD_LIMITS: HeadLimits = HeadLimits { head_bytes: 60 << 10, header_count: 100 };
pub const BODY_LIMITS: BodyLimits =
    BodyLimits { trailer_bytes: 8 << 10, chunk_extension_bytes: 4 << 10, header_count: 100 };

/// `apis` ApiInstances on one port, `/api-00000` and so on, with `routes` routes each. `route` makes the pattern of a number.
pub fn snapshot(apis: usize, routes: usize, route: impl Fn(usize) -> String) -> Arc<Snapshot> {
    let mut text = String::new();
    for api in 0..apis {
        text += &format!(
            "---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: api-{api:05}}}\n\
             spec:\n  address: http://127.0.0.1:8081/api-{api:05}\n  services:\n    backend:\n      \
             address: http://127.0.0.1:8080\n      routes:\n"
        );
        for number in 0..routes {
            text += &format!("        - rules: [{{path: '{}'}}]\n", route(number));
        }
    }
    compiled(&text)
}

/// What the gateway makes of one file.
pub fn compiled(text: &str) -> Arc<Snapshot> {
    let loaded = Loaded::from_texts(&[("apis.yaml", text)], Environment::default());
    let mut series = 0;
    let outcome = loaded.compile(1, &mut |_| {
        series += 1;
        SeriesId(series)
    });
    Arc::new(outcome.accept(false).unwrap_or_else(|problems| panic!("{problems:?}")))
}
