//! The replica's end: each token is asked about once, whoever shows it, and what came of it is known to all cores.
//!
//! Good tokens and refused ones are kept apart, so that a flood of the latter costs the server one question for each and the
//! former nothing.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{Context, SHA256},
    rand,
};

use super::{
    answer::{self, Said, Token},
    discovery::Asking,
    refusal::Refusal,
    scopes::Scopes,
    server::{AuthorizationServer, Place},
};
use crate::{
    calls::{Answer, Call, Calls, Destination, Flights, Key, Lead},
    http::head::Fields,
    policies::form,
    telemetry::fault,
};

const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Questions of one policy.
const UNDER_WAY_MAX: usize = 1024;
/// Of refused tokens, and how long they are.
const REFUSED_MAX: usize = 4096;
const REFUSED_TIME: Duration = Duration::from_secs(60);
const SALT_BYTES: usize = 32;

/// How long a good token is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// At most so long, and no longer than it is good.
    UpTo(Duration),
    /// As long as it is good, and at most so long; one that does not say is asked about each time.
    AsItSays { at_most: Option<Duration> },
}

/// What is known of a token.
#[derive(Clone)]
pub enum Verdict {
    Good(Arc<Good>),
    Bad(Refusal),
}

pub struct Good {
    pub token: Token,
    /// Up to when cores may know it too; `None`: for whoever has asked alone.
    pub until: Option<Instant>,
}

/// Whom a policy asks, what for, and what it has learned.
pub struct Source {
    pub server: AuthorizationServer,
    /// By the name of the table.
    pub policy: &'static str,
    pub binding: String,
    pub time_max: Duration,
    pub lifetime: Lifetime,
    pub scopes: Scopes,
    flights: Arc<Flights<Verdict>>,
    /// Keys say nothing of tokens, also to who can guess those.
    salt: [u8; SALT_BYTES],
}

/// What is known of policies that ask.
pub struct Settings {
    pub policy: &'static str,
    pub binding: String,
    pub time_max: Duration,
    pub lifetime: Lifetime,
    pub scopes: Scopes,
    pub cache_max: usize,
}

impl Source {
    pub fn new(server: AuthorizationServer, settings: Settings) -> Self {
        let Settings { policy, binding, time_max, lifetime, scopes, cache_max } = settings;
        let mut salt = [0; SALT_BYTES];
        rand::fill(&mut salt).expect("the system's random numbers");
        let flights = Flights::with_refused(cache_max, REFUSED_MAX, UNDER_WAY_MAX);
        Self { server, policy, binding, time_max, lifetime, scopes, flights, salt }
    }

    pub fn flights(&self) -> &Arc<Flights<Verdict>> {
        &self.flights
    }

    /// What a token is known by.
    pub fn key(&self, token: &[u8]) -> Key {
        let mut context = Context::new(&SHA256);
        context.update(&self.salt);
        context.update(token);
        context.finish().as_ref().try_into().expect("SHA-256 has one length")
    }

    /// How long an answer can take: the issuer is asked for two documents at most.
    pub fn answer_time_max(&self) -> Duration {
        let calls = match self.server.place {
            Place::Endpoint(_) => 1,
            Place::Issuer(_) => 3,
        };
        // The calls themselves end in time; this is for when nobody says so.
        self.time_max.saturating_mul(calls) + Duration::from_secs(1)
    }

    pub fn ask(self: &Arc<Self>, lead: Lead<Verdict>, calls: &Arc<Calls>, token: &str) {
        let body = form::form(&[("token", token)]).into_bytes();
        match &self.server.place {
            Place::Endpoint(endpoint) => self.call(lead, calls, endpoint.clone(), body),
            Place::Issuer(issuer) => {
                let asking = Asking {
                    calls: calls.clone(),
                    policy: self.policy,
                    binding: self.binding.clone(),
                    time_max: self.time_max,
                };
                let (source, calls) = (self.clone(), calls.clone());
                issuer.with_endpoint(asking, Instant::now(), move |endpoint| match endpoint {
                    Ok(endpoint) => source.call(lead, &calls, endpoint, body),
                    Err(refusal) => lead.settle(Verdict::Bad(refusal), None),
                });
            }
        }
    }

    fn call(self: &Arc<Self>, lead: Lead<Verdict>, calls: &Calls, destination: Arc<Destination>, body: Vec<u8>) {
        let mut headers = Fields::default();
        headers.append(b"authorization", self.server.authorization.as_bytes());
        headers.append(b"content-type", b"application/x-www-form-urlencoded");
        headers.append(b"accept", b"application/json");
        let call = Call {
            policy: self.policy,
            binding: self.binding.clone(),
            method: "POST",
            target: destination.address.target.clone(),
            headers,
            body,
            time_max: self.time_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
            idempotent: true,
            destination,
        };
        let source = self.clone();
        calls.ask(call, move |answer| source.settle(lead, answer));
    }

    fn settle(&self, lead: Lead<Verdict>, answer: Result<Answer, fault::Fault>) {
        let (now, clock) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let refused_until = Some(now + REFUSED_TIME);
        let verdict = match self.read(answer) {
            // What went wrong once need not go wrong again.
            Err(refusal) => return lead.settle(Verdict::Bad(refusal), None),
            Ok(Said::Inactive { exp }) => Verdict::Bad(match exp {
                None => Refusal::Inactive,
                Some(exp) if exp <= clock.as_secs() => Refusal::Expired,
                Some(_) => Refusal::Revoked,
            }),
            Ok(Said::Active(token)) if !self.may_have_issued(&token) => Verdict::Bad(Refusal::Inactive),
            Ok(Said::Active(token)) if !self.scopes.are_met(token.scope()) => Verdict::Bad(Refusal::Scopes),
            Ok(Said::Active(token)) => {
                let is_over = token.exp.is_some_and(|exp| exp <= clock.as_secs());
                let begins = token.nbf.map_or(Duration::ZERO, Duration::from_secs).saturating_sub(clock);
                if is_over || !begins.is_zero() {
                    let until = now + if is_over { REFUSED_TIME } else { begins.min(REFUSED_TIME) };
                    let good = Good { token, until: None };
                    return lead.settle_refused(Verdict::Good(Arc::new(good)), Some(until));
                }
                let until = self.lifetime.of(token.exp, clock).and_then(|time| now.checked_add(time));
                return lead.settle(Verdict::Good(Arc::new(Good { token, until })), until);
            }
        };
        lead.settle_refused(verdict, refused_until);
    }

    fn read(&self, answer: Result<Answer, fault::Fault>) -> Result<Said, Refusal> {
        let answer = answer.map_err(|fault| Refusal::of(&fault));
        let said = answer.and_then(|answer| match answer.status {
            200 => answer::read(&answer.body).ok_or(Refusal::MalformedAnswer),
            _ => Err(Refusal::MalformedAnswer),
        });
        if let (Err(_), Place::Issuer(issuer)) = (&said, &self.server.place) {
            issuer.suspect();
        }
        said
    }

    fn may_have_issued(&self, token: &Token) -> bool {
        match &self.server.place {
            Place::Endpoint(_) => true,
            Place::Issuer(issuer) => token.may_be_of(issuer.name()),
        }
    }
}

impl Lifetime {
    /// From now on, by the clock; `None`: no time at all.
    fn of(self, exp: Option<u64>, clock: Duration) -> Option<Duration> {
        let left = exp.map(|exp| Duration::from_secs(exp).saturating_sub(clock));
        let time = match self {
            Self::UpTo(time) => left.map_or(time, |left| left.min(time)),
            Self::AsItSays { at_most } => at_most.map_or(left?, |time| time.min(left.unwrap_or_default())),
        };
        Some(time.min(TIME_MAX)).filter(|time| !time.is_zero())
    }
}

/// What every clock can add.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Refusal {
    /// What a call that has failed means.
    pub(super) fn of(fault: &fault::Fault) -> Self {
        match fault.reason {
            "too_large" | "malformed_answer" | "truncated" => Self::MalformedAnswer,
            "full" => Self::Busy,
            _ => Self::Unreachable,
        }
    }
}

/// Neither secrets nor what is known.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, time_max, lifetime, scopes, .. } = self;
        let mut shown = f.debug_struct("Source");
        shown.field("server", server).field("time_max", time_max).field("lifetime", lifetime).field("scopes", scopes);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_token_is_known_no_longer_than_it_is_good() {
        let secs = Duration::from_secs;
        let clock = Duration::from_millis(1_000_500);
        for (lifetime, exp, expected) in [
            (Lifetime::UpTo(secs(600)), None, Some(secs(600))),
            (Lifetime::UpTo(secs(600)), Some(9000), Some(secs(600))),
            (Lifetime::UpTo(secs(600)), Some(1003), Some(Duration::from_millis(2500))),
            (Lifetime::UpTo(secs(600)), Some(1000), None),
            (Lifetime::UpTo(secs(0)), Some(9000), None),
            (Lifetime::UpTo(secs(600)), Some(u64::MAX), Some(secs(600))),
            (Lifetime::AsItSays { at_most: None }, None, None),
            (Lifetime::AsItSays { at_most: None }, Some(9000), Some(Duration::from_millis(7_999_500))),
            (Lifetime::AsItSays { at_most: None }, Some(u64::MAX), Some(TIME_MAX)),
            (Lifetime::AsItSays { at_most: Some(secs(5)) }, Some(9000), Some(secs(5))),
            (Lifetime::AsItSays { at_most: Some(secs(5)) }, None, None),
            (Lifetime::AsItSays { at_most: Some(secs(0)) }, Some(9000), None),
        ] {
            assert_eq!(lifetime.of(exp, clock), expected, "{lifetime:?} {exp:?}");
        }
    }
}
