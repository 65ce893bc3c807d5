//! What both policies do with a request once they know what it is counted under.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::limits::Limit;
use crate::{
    net::signal::Signals,
    policies::{
        Answers, Core, Exchange, Field, Flow, LocalResponse, Options, Question, Site, options,
        rate_headers::{Advertised, RateHeaders, Stood},
    },
    quota::{Balances, Clock, Decision, Limiter, Standing, Tick, Wake},
};

pub const OPTIONS: &[Field] = &[options::ON_STORAGE_FAILURE, options::STANDARD_HEADERS, options::RETRY_AFTER];

/// A wait that ends so much too late says that this process has been stopped, or starved.
const OVERSLEPT_US: u64 = 100_000;

pub const REFUSED: Answers =
    Answers { status: 429, reason: "rate_limit", when: "one of the limits is exhausted in its window" };
pub const UNAVAILABLE: Answers = Answers {
    status: 503,
    reason: "rate_limit_storage",
    when: "`onStorageFailure` is `deny`, and the storage that replicas share does not answer",
};

/// Limits of one group of keys, and what clients are told of them.
#[derive(Debug)]
pub struct Rate {
    limiter: Arc<Limiter>,
    advertised: Advertised,
}

/// How the rates of a policy are made: what is the same for all of them.
#[derive(Debug)]
pub struct Terms {
    identity: u64,
    shared: bool,
    options: Options,
    /// Of the binding, where clients are told.
    name: Option<String>,
    tells: bool,
}

impl Terms {
    /// `identity` is what [`Site::limiter`] gave.
    pub fn new(site: &mut Site<'_>, identity: u64, shared: bool, exposes: bool) -> (Self, RateHeaders) {
        let options = site.options();
        let headers = RateHeaders::new(exposes, options);
        let name = headers.are_standard().then(|| site.policy().name.clone());
        (Self { identity, shared, options, name, tells: exposes || headers.are_standard() }, headers)
    }

    /// `limits` have no faults.
    pub fn rate(&self, limits: &[Limit]) -> Rate {
        let counted: Vec<_> = limits.iter().map(|limit| limit.counted()).collect();
        let on_storage_failure = self.options.on_storage_failure.unwrap_or_default();
        let advertised = match &self.name {
            Some(name) => Advertised::new(name, limits.iter().map(|limit| limit.told())),
            None => Advertised::default(),
        };
        Rate {
            limiter: Arc::new(Limiter::new(self.identity, counted, self.shared, on_storage_failure, self.tells)),
            advertised,
        }
    }
}

impl Rate {
    fn stood(&self, standing: Standing, refused: bool) -> Stood {
        let Standing { limit, remaining, reset_ms } = standing;
        let limits = self.limiter.limits.iter().enumerate();
        // Of several with one maximum, the one with the longest window has as a rule the least remaining.
        let place = limits.filter(|(_, other)| other.maximum == limit).max_by_key(|(_, other)| other.period);
        let place = place.map_or(u32::MAX, |(place, _)| place as u32);
        Stood { limit, remaining, reset_ms, place, refused }
    }

    #[cfg(test)]
    pub fn identity(&self) -> u64 {
        self.limiter.identity
    }

    /// Writes what the response is to say.
    pub fn tell(&self, headers: &RateHeaders, kept: &Kept, exchange: &mut Exchange<'_>) {
        if let Some(stood) = &kept.stood {
            headers.write(&mut exchange.response_headers(), stood, &self.advertised);
        }
    }

    /// For tests and people: what was configured, and neither the age nor the count.
    pub fn configured(&self) -> impl std::fmt::Debug + '_ {
        let Limiter { limits, shared, on_storage_failure, tells, .. } = &*self.limiter;
        (limits, shared, on_storage_failure, tells, &self.advertised)
    }
}

/// What is kept of one exchange.
#[derive(Default)]
pub struct Kept {
    /// Where the request has waited for the storage.
    waits: Option<Waits>,
    /// Where a response is to say how the limits stood when it was decided.
    stood: Option<Stood>,
}

#[derive(Clone, Copy)]
struct Waits {
    since: Tick,
    until: Tick,
}

impl Waits {
    /// When it began to wait. A wait that took much longer than it was to do so begins anew: this process cannot have run, the
    /// answer may lie there unread, and the storage is not to be taken for slow.
    fn since(self, now: Tick) -> Tick {
        if now.since(self.until) >= OVERSLEPT_US { now } else { self.since }
    }
}

/// One core's: what it spends from, and the answers, made once.
pub struct Spending {
    balances: Rc<Balances>,
    signals: Signals,
    clock: Clock,
    refused: Rc<LocalResponse>,
    unavailable: Rc<LocalResponse>,
}

impl Spending {
    pub fn new(core: &Core) -> Self {
        let answer = |answer: Answers, text| Rc::new(LocalResponse::error_json(answer.status, text, answer.reason));
        Self {
            balances: core.balances.clone(),
            signals: core.signals.clone(),
            clock: core.clock,
            refused: answer(REFUSED, "Too Many Requests"),
            unavailable: answer(UNAVAILABLE, "Service Unavailable"),
        }
    }

    #[cfg(test)]
    pub fn answers(&self) -> [&Rc<LocalResponse>; 2] {
        [&self.refused, &self.unavailable]
    }

    /// Spends one request of this key, or says why not.
    pub fn spend(&self, rate: &Rate, headers: &RateHeaders, key: &[u8], kept: &mut Kept) -> Flow {
        let now = self.clock.now();
        let mut signal = None;
        let bell = || {
            let (waits, bell) = self.signals.new_signal()?;
            signal = Some(waits);
            Some(Box::new(move || bell.ring()) as Wake)
        };
        let mut keep = |standing, refused| {
            // Nothing is known of a request that passes uncounted.
            if !headers.are_none() && standing != Standing::default() {
                kept.stood = Some(rate.stood(standing, refused));
            }
        };
        let waits_since = kept.waits.map(|waits| waits.since(now));
        match self.balances.spend(&rate.limiter, key, now, waits_since, bell) {
            Decision::Admitted(standing) => {
                keep(standing, false);
                Flow::Continue
            }
            Decision::Refused(standing) => {
                keep(standing, true);
                Flow::Respond(self.refused.clone())
            }
            Decision::Unavailable => Flow::Respond(self.unavailable.clone()),
            Decision::Wait { at_most_us } => {
                kept.waits = Some(Waits { since: waits_since.unwrap_or(now), until: now.after(at_most_us) });
                let at_most = Duration::from_micros(at_most_us);
                Flow::Wait(Box::new(match signal {
                    Some(signal) => Question::Signal { signal, at_most },
                    None => Question::Time(at_most),
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_begins_anew_where_this_process_could_not_run() {
        let waits = Waits { since: Tick(1000), until: Tick(251_000) };
        for now in [1000, 20_000, 251_000, 350_999] {
            assert_eq!(waits.since(Tick(now)), Tick(1000), "{now}");
        }
        assert_eq!(waits.since(Tick(351_000)), Tick(351_000));
    }
}
