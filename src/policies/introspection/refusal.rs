//! Why a request is refused: every answer that there is, made once for each core.
//!
//! No text repeats what the client or the authorization server sent.

use std::rc::Rc;

use super::{resource::ProtectedResource, scopes::Scopes};
use crate::policies::{Answers, Exchange, Flow, LocalResponse, clients::UNKNOWN};

const MISSING: Answers = Answers { status: 401, reason: "token_missing", when: "there is no token" };
const MALFORMED: Answers = Answers {
    status: 400,
    reason: "token_malformed",
    when: "`authorization` is not `Bearer TOKEN`, comes several times, or the token has odd characters or is too long",
};
const INVALID: Answers = Answers {
    status: 400,
    reason: "token_invalid",
    when: "the authorization server does not know the token as a good one, or its time is not now",
};
const SCOPES: Answers = Answers { status: 403, reason: "token_scopes", when: "the token has not the required scopes" };
const CLIENT: Answers =
    Answers { status: 403, reason: "token_client", when: "no contract of the API is that of the token's client" };
const UNREACHABLE: Answers = Answers {
    status: 401,
    reason: "introspection_unreachable",
    when: "the authorization server cannot be reached or does not answer in time",
};
const MALFORMED_ANSWER: Answers =
    Answers { status: 500, reason: "introspection_malformed", when: "its answer is none of RFC 7662" };
const BUSY: Answers =
    Answers { status: 503, reason: "introspection_busy", when: "too many questions wait for an answer already" };
/// Of [`ProtectedResource`].
pub(super) const METADATA: Answers =
    Answers { status: 200, reason: "resource_metadata", when: "the metadata of the protected resource is asked for" };

pub const ANSWERS: &[Answers] =
    &[MISSING, MALFORMED, INVALID, SCOPES, CLIENT, UNREACHABLE, MALFORMED_ANSWER, BUSY, UNKNOWN, METADATA];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    NotBearer,
    Malformed,
    Inactive,
    Expired,
    Revoked,
    Scopes,
    Client,
    NoContracts,
    Unreachable,
    MalformedAnswer,
    Busy,
}

impl Refusal {
    const ALL: [Self; 12] = [
        Self::Missing,
        Self::NotBearer,
        Self::Malformed,
        Self::Inactive,
        Self::Expired,
        Self::Revoked,
        Self::Scopes,
        Self::Client,
        Self::NoContracts,
        Self::Unreachable,
        Self::MalformedAnswer,
        Self::Busy,
    ];

    /// Its kind, and what the client reads.
    pub(super) fn said(self) -> (Answers, &'static str) {
        match self {
            Self::Missing => (MISSING, "Access token is required."),
            Self::NotBearer => (MALFORMED, "Invalid token. Not a bearer authorization header."),
            Self::Malformed => (MALFORMED, "Invalid token."),
            Self::Inactive => (INVALID, "Token is inactive."),
            Self::Expired => (INVALID, "Token has expired."),
            Self::Revoked => (INVALID, "Token has been revoked."),
            Self::Scopes => (SCOPES, "The required scopes are not authorized"),
            Self::Client => (CLIENT, "Invalid Client"),
            Self::NoContracts => (UNKNOWN, "The clients of this API are not known."),
            Self::Unreachable => (UNREACHABLE, "The authorization server cannot be reached."),
            Self::MalformedAnswer => (MALFORMED_ANSWER, "The authorization server did not say what the token is."),
            Self::Busy => (BUSY, "Too many tokens wait for the authorization server."),
        }
    }

    /// What `error` of the challenge says (RFC 6750, section 3.1); `None` where there is no challenge.
    fn error(self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::Unreachable => Some(""),
            Self::NotBearer | Self::Malformed => Some("invalid_request"),
            Self::Inactive | Self::Expired | Self::Revoked => Some("invalid_token"),
            Self::Scopes => Some("insufficient_scope"),
            Self::Client | Self::NoContracts | Self::MalformedAnswer | Self::Busy => None,
        }
    }

    /// The answer without its challenge.
    fn answer(self, resource: Option<&ProtectedResource>) -> LocalResponse {
        let (Answers { status, reason, .. }, text) = self.said();
        // Clients that look for the metadata begin anew at a 401, as RFC 6750 has it.
        let status = if resource.is_some() && self.error() == Some("invalid_token") { 401 } else { status };
        LocalResponse::error_json(status, text, reason)
    }

    /// The challenge (RFC 9110, section 11.6.1); `metadata` is where clients find out whom to ask for a token.
    fn challenge(self, scopes: &Scopes, metadata: Option<&str>) -> Option<String> {
        let error = self.error()?;
        let mut parameters = Vec::new();
        if !error.is_empty() {
            parameters.push(format!("error=\"{error}\""));
        }
        if self == Self::Scopes {
            parameters.push(format!("scope=\"{}\"", scopes.joined()));
        }
        parameters.extend(metadata.map(|url| format!("resource_metadata=\"{url}\"")));
        Some(format!("Bearer {}", parameters.join(", ")).trim_end().to_owned())
    }
}

/// One core's answers: who sends bad tokens costs no allocation for them, unless the request says what the resource is called.
pub struct Refusals {
    ready: Box<[Rc<LocalResponse>]>,
}

impl Refusals {
    pub fn new(scopes: &Scopes, resource: Option<&ProtectedResource>) -> Self {
        let own = resource.and_then(ProtectedResource::own_metadata_url);
        let ready = |refusal: &Refusal| {
            let answer = refusal.answer(resource);
            // The others have theirs when the request is there.
            let is_whole = resource.is_none() || own.is_some();
            let challenge = refusal.challenge(scopes, own).filter(|_| is_whole);
            Rc::new(match challenge {
                Some(challenge) => answer.with_header("www-authenticate", challenge),
                None => answer,
            })
        };
        Self { ready: Refusal::ALL.iter().map(ready).collect() }
    }

    pub fn respond(
        &self,
        refusal: Refusal,
        (scopes, resource): (&Scopes, Option<&ProtectedResource>),
        exchange: &Exchange<'_>,
    ) -> Flow {
        let ready = &self.ready[refusal as usize];
        let of_request = resource.filter(|resource| resource.own_metadata_url().is_none() && refusal.error().is_some());
        match of_request {
            None => Flow::Respond(ready.clone()),
            Some(_) => {
                let url = ProtectedResource::metadata_url_of(exchange);
                let challenge = refusal.challenge(scopes, url.as_deref()).unwrap_or_default();
                Flow::respond((**ready).clone().with_header("www-authenticate", challenge))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_place() {
        assert!(Refusal::ALL.iter().enumerate().all(|(at, refusal)| *refusal as usize == at));
    }
}
