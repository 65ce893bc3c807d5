//! Access tokens for upstreams: what policies that ask a token endpoint for them have in common.

pub mod token;

use std::{sync::Arc, time::Duration};

use super::{
    Answers, LocalResponse,
    credentials::{Credential, Overwrite},
    headers::HeaderName,
};
use crate::{
    calls::{Answer, Call, Destination},
    http::head::Fields,
    telemetry::fault::Fault,
};

const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A token on its way must not run out there.
const MARGIN_MAX: Duration = Duration::from_secs(5);

/// How long a token that is good for so long is told to upstreams.
pub fn serves(lifetime: Duration) -> Duration {
    lifetime - MARGIN_MAX.min(lifetime / 10)
}

/// A token endpoint, as one policy asks it, and how its tokens go upstream.
pub struct Endpoint {
    pub destination: Arc<Destination>,
    /// By the name that the table has for it.
    pub policy: &'static str,
    pub binding: String,
    /// Of one question.
    pub time_max: Duration,
    /// Of a token that is good for longer; zero: as long as it is good.
    pub caching_ttl: Duration,
    pub header: HeaderName,
    /// In front of the token; empty for none.
    pub prefix: String,
    pub overwrite: Overwrite,
}

impl Endpoint {
    pub fn call(&self, headers: Fields, body: Vec<u8>) -> Call {
        Call {
            destination: self.destination.clone(),
            policy: self.policy,
            binding: self.binding.clone(),
            method: "POST",
            target: self.destination.address.target.clone(),
            headers,
            body,
            time_max: self.time_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
            // A second token is no harm.
            idempotent: true,
        }
    }

    /// What goes upstream, and how long the token is good for.
    ///
    /// # Errors
    /// There is no token.
    pub fn read(&self, answer: Result<Answer, Fault>) -> Result<(Arc<Credential>, Duration), Refusal> {
        let answer = answer.map_err(|fault| Refusal::of(&fault))?;
        if !(200..300).contains(&answer.status) {
            return Err(Refusal::Refused);
        }
        let token::Granted { token, lifetime } = token::read(&answer).ok_or(Refusal::Malformed)?;
        let lifetime = match (lifetime, self.caching_ttl) {
            (Some(lifetime), Duration::ZERO) => lifetime,
            (Some(lifetime), ttl) => lifetime.min(ttl),
            (None, Duration::ZERO) => token::LIFETIME_ASSUMED,
            (None, ttl) => ttl,
        };
        let value = if self.prefix.is_empty() { token } else { format!("{} {token}", self.prefix) };
        Ok((Arc::new(Credential::new([(self.header.clone(), value)], self.overwrite)), lifetime))
    }

    /// How long an exchange waits for the answer. The call itself ends in time; this is for when nobody says so.
    pub fn wait_max(&self) -> Duration {
        self.time_max + Duration::from_secs(1)
    }
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unavailable,
    Late,
    Refused,
    Malformed,
}

impl Refusal {
    pub const ALL: [Self; 4] = [Self::Unavailable, Self::Late, Self::Refused, Self::Malformed];

    /// Their answers, in this order. `late`: when it is too late.
    pub const fn answers(late: &'static str) -> [Answers; 4] {
        [
            Answers { status: 503, reason: "oauth2_token_unavailable", when: "the token endpoint cannot be reached" },
            Answers { status: 504, reason: "oauth2_token_timeout", when: late },
            Answers { status: 502, reason: "oauth2_token_refused", when: "it answers with another status than 2xx" },
            Answers { status: 502, reason: "oauth2_token_malformed", when: "its answer is no token" },
        ]
    }

    fn of(fault: &Fault) -> Self {
        match fault.reason {
            "timeout" => Self::Late,
            "too_large" | "malformed_answer" | "truncated" => Self::Malformed,
            _ => Self::Unavailable,
        }
    }

    pub fn reason(self) -> &'static str {
        Self::answers("")[self as usize].reason
    }

    pub fn answer(self) -> LocalResponse {
        let Answers { status, reason, .. } = Self::answers("")[self as usize];
        let text = match self {
            Self::Unavailable => "Service Unavailable",
            Self::Late => "Gateway Timeout",
            Self::Refused | Self::Malformed => "Bad Gateway",
        };
        LocalResponse::error_json(status, text, reason)
    }
}
