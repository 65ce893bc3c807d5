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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::rule::RawRule,
        policies::{Authentication, Compiled, compile, testing},
    };

    /// A chain of `(name, config, path of its rule or empty)`.
    fn chain(written: &[(&str, &str, &str)]) -> (Vec<BoundPolicy>, Scratch) {
        let mut patterns = 0;
        let mut problems = Vec::new();
        let mut rules = |path: &str| -> Vec<Rule> {
            let raw = RawRule { path: Some(path.to_owned()), ..RawRule::default() };
            if path.is_empty() { Vec::new() } else { vec![Rule::compile(&raw, &mut patterns).expect("valid")] }
        };
        let chain = written.iter().map(|(name, config, path)| BoundPolicy {
            name: (*name).to_owned(),
            identity: 0,
            policy: compile(name, &testing::node(config), "config", &mut problems),
            rules: rules(path),
        });
        let chain = chain.collect();
        (chain, Scratch::new(patterns))
    }

    /// What the chain does with `GET path`, where 4 bytes are the API's base: the headers that go upstream and the reason of
    /// a refusal, then the headers of the response.
    fn run(chain: &[BoundPolicy], scratch: &mut Scratch, path: &str) -> (String, Option<&'static str>, String) {
        let states = states(chain, &Core { id: 0 });
        let mut request = testing::request("GET", path, &[]);
        let mut response = testing::response(200, &[]);
        let mut authentication = Authentication::default();
        let mut exchange = testing::exchange(&mut request, &mut authentication);
        let mut ran = Ran { first: u64::MAX, rest: vec![u64::MAX; 2] };
        let reason = match run_request(chain, &states, &mut exchange, 4, scratch, &mut ran) {
            Flow::Continue => None,
            Flow::Respond(refusal) => Some(refusal.reason),
        };
        run_response(chain, &states, &mut exchange, &mut response, &ran);
        let names = |fields| testing::lines(fields).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        (names(&request.fields), reason, names(&response.fields))
    }

    fn check(written: &[(&str, &str, &str)], path: &str, expected: (&str, Option<&'static str>, &str)) {
        let (chain, mut scratch) = chain(written);
        let (request, reason, response) = run(&chain, &mut scratch, path);
        assert_eq!((request.as_str(), reason, response.as_str()), expected, "{path}");
    }

    const A: &str = "{inboundHeaders: [{key: a, value: ''}], outboundHeaders: [{key: a, value: ''}]}";
    const B: &str = "{inboundHeaders: [{key: b, value: ''}], outboundHeaders: [{key: b, value: ''}]}";
    const C: &str = "{inboundHeaders: [{key: c, value: ''}], outboundHeaders: [{key: c, value: ''}]}";
    const LOGIN: (&str, &str, &str) = ("http-basic-authentication", "{username: u, password: p}", "");

    #[test]
    fn policies_run_in_order_and_the_reverse_order() {
        check(&[], "/api/x", ("", None, ""));
        check(
            &[("header-injection", A, ""), ("header-injection", B, ""), ("header-injection", C, "")],
            "/api/x",
            ("a b c", None, "c b a"),
        );
    }

    #[test]
    fn a_refusal_turns_the_chain_round() {
        check(
            &[("header-injection", A, ""), LOGIN, ("header-injection", B, "")],
            "/api/x",
            ("a", Some("authentication_missing"), "a"),
        );
    }

    #[test]
    fn rules_see_the_path_below_the_base() {
        let written =
            [("header-injection", A, "/x"), ("header-injection", B, "/api/x"), ("header-injection", C, "/.*")];
        check(&written, "/api/x", ("a c", None, "c a"));
        check(&written, "/api/y", ("c", None, "c"));
        check(&written, "/api", ("c", None, "c"));
    }

    #[test]
    fn rules_see_what_the_policies_before_have_changed() {
        let (mut chain, _) = chain(&[("header-injection", A, ""), ("header-injection", B, "")]);
        let raw = RawRule { headers: [("a".to_owned(), ".*".to_owned())].into(), ..RawRule::default() };
        chain[1].rules.push(Rule::compile(&raw, &mut 0).expect("valid"));
        assert_eq!(run(&chain, &mut Scratch::new(0), "/api").0, "a b");
        chain.swap(0, 1);
        assert_eq!(run(&chain, &mut Scratch::new(0), "/api").0, "a");
    }

    #[test]
    fn a_policy_that_could_not_be_built_refuses_what_its_rules_select() {
        let written = [("header-injection", A, ""), ("rate-limiting", "{}", "/x"), ("header-injection", B, "")];
        check(&written, "/api/x", ("a", Some("policy_broken"), "a"));
        check(&written, "/api/y", ("a b", None, "b a"));
    }

    #[test]
    fn a_rule_at_its_limit_refuses() {
        let path = format!("/api/{}", "a".repeat(64));
        let written = [("header-injection", A, ""), ("header-injection", B, "/(?:a(?!x)|a(?!y))*c")];
        check(&written, &path, ("a", Some("pattern_limit"), "a"));
    }

    #[test]
    fn a_chain_may_be_longer_than_a_word() {
        let (chain, mut scratch) = chain(&vec![("header-injection", A, ""); 130]);
        let (request, _, response) = run(&chain, &mut scratch, "/api");
        assert_eq!((request.len(), response.len()), (259, 259));
        assert!(chain.iter().all(|bound| !matches!(bound.policy, Compiled::Broken(_))));
    }
}
