//! What stands beside a policy's `config`, in `ringway`: settings of our own that some policies have.

use serde::Deserialize;

use super::Field;

/// What was written. Absent: as the policy's page says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub on_storage_failure: Option<OnStorageFailure>,
    pub standard_headers: Option<bool>,
    pub retry_after: Option<bool>,
}

/// What a policy that counts with other replicas does while it cannot ask the storage that they share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnStorageFailure {
    /// Each replica admits its part of the limit.
    #[default]
    Local,
    Deny,
    Allow,
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
