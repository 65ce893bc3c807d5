//! A chain: policies in order on the request, in the reverse order on the response.
//!
//! Each policy's rules are asked when its turn comes, of the request as the policies before it left it. Only those that ran see
//! the response, also when one of them answered the request itself.

use super::{Core, Exchange, Flow, LocalResponse, State};
use crate::{
    config::{
        rule::{PatternLimit, Rule, RuleInput, Scratch},
        snapshot::{BoundPolicy, relative},
    },
    http::head::ResponseHead,
};

/// Which policies of one chain have run for one request; reused from request to request.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    first: u64,
    /// For chains of more than 64.
    rest: Vec<u64>,
}

impl Ran {
    pub fn clear(&mut self) {
        self.first = 0;
        self.rest.clear();
    }

    fn insert(&mut self, index: usize) {
        let bit = 1 << (index % 64);
        match (index / 64).checked_sub(1) {
            None => self.first |= bit,
            Some(word) => {
                if self.rest.len() <= word {
                    self.rest.resize(word + 1, 0);
                }
                self.rest[word] |= bit;
            }
        }
    }

    fn contains(&self, index: usize) -> bool {
        let word = match (index / 64).checked_sub(1) {
            None => self.first,
            Some(word) => self.rest.get(word).copied().unwrap_or(0),
        };
        word & (1 << (index % 64)) != 0
    }
}

/// One core's states of a chain, in its order.
pub fn states(chain: &[BoundPolicy], core: &Core) -> Vec<State> {
    chain.iter().map(|bound| bound.policy.state(core)).collect()
}

/// `base` is how many bytes of the request's path the API's base takes.
pub fn run_request(
    chain: &[BoundPolicy],
    states: &[State],
    exchange: &mut Exchange,
    base: usize,
    scratch: &mut Scratch,
    ran: &mut Ran,
) -> Flow {
    ran.clear();
    for (index, (bound, state)) in chain.iter().zip(states).enumerate() {
        match applies(&bound.rules, exchange, base, scratch) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(PatternLimit) => return Flow::Respond(LocalResponse::pattern_limit()),
        }
        ran.insert(index);
        if let Flow::Respond(response) = bound.policy.on_request(state, exchange) {
            return Flow::Respond(response);
        }
    }
    Flow::Continue
}

/// `chain`, `states` and `ran` are those of [`run_request`].
pub fn run_response(
    chain: &[BoundPolicy],
    states: &[State],
    exchange: &mut Exchange,
    response: &mut ResponseHead,
    ran: &Ran,
) {
    for (index, (bound, state)) in chain.iter().zip(states).enumerate().rev() {
        if ran.contains(index) {
            bound.policy.on_response(state, exchange, response);
        }
    }
}

fn applies(rules: &[Rule], exchange: &Exchange, base: usize, scratch: &mut Scratch) -> Result<bool, PatternLimit> {
    if rules.is_empty() {
        return Ok(true);
    }
    let request = &*exchange.request;
    let input = RuleInput {
        path: relative(&request.path, base),
        authority: &request.authority,
        method: &request.method,
        fields: &request.fields,
    };
    for rule in rules {
        if rule.holds(&input, scratch)? {
            return Ok(true);
        }
    }
    Ok(false)
}
