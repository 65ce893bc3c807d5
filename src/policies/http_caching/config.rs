//! What the operator writes of a cache, and what is made of it.

use serde::Deserialize;

use super::HttpCaching;
use crate::{
    cache::{entry::Rules, freshness::Unsaid},
    expression::{Bindings, Expression, Template},
    policies::{AssumedLifetime, ConfigError, Fault, Options, reading},
};

const KEY: &str = "#[attributes.requestPath]";
const REQUEST: &str = "#[attributes.method == 'GET' or attributes.method == 'HEAD']";
const RESPONSE: &str = "#[[200, 203, 204, 206, 300, 301, 404, 405, 410, 414, 501] contains attributes.statusCode]";

pub(super) const ENTRIES_MAX: u64 = 10_000_000;
/// Ten years.
pub(super) const TTL_MAX: u64 = 315_360_000;

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub(super) http_caching_key: String,
    max_cache_entries: u64,
    ttl: u64,
    use_http_cache_headers: bool,
    invalidation_header: String,
    request_expression: String,
    response_expression: String,
    distributed: bool,
    persist_cache: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http_caching_key: KEY.into(),
            max_cache_entries: 10_000,
            ttl: 600,
            use_http_cache_headers: true,
            invalidation_header: String::new(),
            request_expression: REQUEST.into(),
            response_expression: RESPONSE.into(),
            distributed: false,
            persist_cache: false,
        }
    }
}

impl Config {
    pub(super) fn remarks(&self) -> Vec<Fault> {
        let mut remarks = reading::remarks("httpCachingKey", &self.http_caching_key, &Bindings::request());
        remarks.extend(reading::remarks("requestExpression", &self.request_expression, &Bindings::request()));
        remarks.extend(reading::remarks("responseExpression", &self.response_expression, &Bindings::response()));
        if self.http_caching_key.trim() == KEY {
            let text = "requests that differ in host or query alone have one entry: the key is the path";
            remarks.push(Fault::at("httpCachingKey", text));
        } else if !self.http_caching_key.trim().is_empty() && !self.http_caching_key.trim().starts_with("#[") {
            remarks.push(Fault::at("httpCachingKey", "all requests have one entry: the key is no expression"));
        }
        if self.request_expression.trim().is_empty() {
            let text = "requests of every method are answered from the cache, POST and DELETE too: it is empty";
            remarks.push(Fault::at("requestExpression", text));
        }
        remarks
    }

    pub(super) fn compile(self, options: Options) -> Result<HttpCaching, ConfigError> {
        let mut error = ConfigError::default();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                error.add(Fault::at(field, format!("expected {least} to {most}")));
            }
            value.clamp(least, most)
        };
        let entries_max = within("maxCacheEntries", self.max_cache_entries, 1, ENTRIES_MAX) as usize;
        let ttl = within("ttl", self.ttl, 0, TTL_MAX) * 1000;
        if self.http_caching_key.trim().is_empty() {
            error.add(Fault::at("httpCachingKey", "expected an expression"));
        }
        let key = reading::template("httpCachingKey", self.http_caching_key.trim(), &Bindings::request(), &mut error);
        let request = condition("requestExpression", &self.request_expression, &Bindings::request(), &mut error);
        let response = condition("responseExpression", &self.response_expression, &Bindings::response(), &mut error);
        let invalidation = self.invalidation_header.trim();
        if !invalidation.is_empty() && !crate::http::bytes::is_token(invalidation.as_bytes()) {
            error.add(Fault::at("invalidationHeader", "not a header name"));
        }
        let policy = HttpCaching {
            entries_max,
            rules: Rules {
                ttl,
                heeds: self.use_http_cache_headers,
                unsaid: match options.assumed_lifetime.unwrap_or_default() {
                    AssumedLifetime::Ttl => Unsaid::Ttl,
                    AssumedLifetime::Heuristic => Unsaid::Heuristic,
                    AssumedLifetime::None => Unsaid::Never,
                },
            },
            key: key.unwrap_or(Template::Literal("".into())),
            request,
            response,
            invalidation: (!invalidation.is_empty()).then(|| invalidation.to_owned()),
            tells: options.cache_status.unwrap_or(false),
            shares: (self.distributed || self.persist_cache).then_some(self.distributed),
        };
        error.or(policy)
    }
}

/// What holds for everything where it is empty.
fn condition(field: &str, text: &str, bindings: &Bindings, error: &mut ConfigError) -> Option<Expression> {
    if text.trim().is_empty() {
        return None;
    }
    match Expression::compile_field(text, bindings) {
        Ok(expression) => Some(expression),
        Err(fault) => {
            error.add(Fault::at(field, fault.to_string()));
            None
        }
    }
}
