//! What stands beside a policy's `config`, in `ringway`: settings of our own that some policies have.

use serde::Deserialize;

use super::Field;
use crate::quota::OnStorageFailure;

/// What was written. Absent: as the policy's page says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub on_storage_failure: Option<OnStorageFailure>,
    pub standard_headers: Option<bool>,
    pub retry_after: Option<bool>,
    pub cache_status: Option<bool>,
    pub assumed_lifetime: Option<AssumedLifetime>,
    pub start_tls: Option<bool>,
    pub authentication_timeout: Option<u32>,
    pub cache_ttl: Option<u32>,
}

/// How long a cached response is fresh that does not say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AssumedLifetime {
    /// For the policy's `ttl`.
    #[default]
    Ttl,
    /// A tenth of the time since it was modified.
    Heuristic,
    None,
}

pub const ON_STORAGE_FAILURE: Field = Field::new(
    "onStorageFailure",
    "On storage failure",
    "While the shared storage does not answer: `local` admits this replica's part of the limit, `deny` answers 503, `allow` \
     admits all.",
)
.default("local");

pub const STANDARD_HEADERS: Field = Field::new(
    "standardHeaders",
    "Standard headers",
    "Every response has `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).",
)
.default("false");

pub const RETRY_AFTER: Field =
    Field::new("retryAfter", "Retry after", "A refusal says in `Retry-After` after how many seconds to come again.")
        .default("false");

pub const CACHE_STATUS: Field = Field::new(
    "cacheStatus",
    "Cache status",
    "Every response says in `Cache-Status` (RFC 9211) what the cache had to do with it.",
)
.default("false");

pub const ASSUMED_LIFETIME: Field = Field::new(
    "assumedLifetime",
    "Assumed lifetime",
    "How long a response is fresh that does not say so, with `useHttpCacheHeaders`: `ttl`; `heuristic`, a tenth of the time \
     since `Last-Modified`, within `ttl`; `none`, so that it is asked after each time.",
)
.default("ttl");

pub const START_TLS: Field = Field::new(
    "startTls",
    "StartTLS",
    "A connection to an `ldap://` server is secured before anything else is sent; where the server does not take part, nothing is.",
)
.default("false");

pub const AUTHENTICATION_TIMEOUT: Field =
    Field::new("authenticationTimeout", "Time limit", "Of everything that is asked for one request.")
        .default("10000")
        .unit("milliseconds")
        .range(1, 600_000);

pub const CACHE_TTL: Field = Field::new(
    "cacheTtl",
    "Caching time",
    "For so long a name and a password that were right are let in without asking again; 0: never.",
)
.default("0")
.unit("seconds")
.range(0, 86_400);
