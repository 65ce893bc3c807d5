//! A chain: policies in order on the request, in the reverse order on the response.
//!
//! Each policy's rules are asked when its turn comes, of the request as the policies before it left it. Only those that ran see
//! the response, also when one of them answered the request itself.

use std::{collections::HashMap, rc::Rc};

use super::{Core, Exchange, Flow, Instance, Kept, LocalResponse, wants::Published};
use crate::{
    config::{
        rule::{PatternLimit, Rule, Scratch},
        snapshot::BoundPolicy,
    },
    http::head::ResponseHead,
};

/// One core's policies by identity: what they own outlives a reload that changes nothing for them.
#[derive(Default)]
pub struct Instances(HashMap<u64, Rc<Instance>>);

impl Instances {
    /// Those of a chain, in its order.
    pub fn chain(&mut self, chain: &[BoundPolicy], core: &Core) -> Vec<Rc<Instance>> {
        let instance =
            |bound: &BoundPolicy| self.0.entry(bound.identity).or_insert_with(|| bound.policy.instance(core)).clone();
        chain.iter().map(instance).collect()
    }

    /// Hands all of them what has been published.
    pub fn publish(&self, published: &Published) {
        self.0.values().for_each(|instance| instance.publish(published));
    }

    /// Drops those that no chain has any more. An exchange that began with one keeps it to its end.
    pub fn retain(&mut self, named: impl Fn(u64) -> bool) {
        self.0.retain(|identity, _| named(*identity));
    }
}

/// Which policies of one chain have run for one request, in order, with what each keeps; reused from request to request.
#[derive(Default)]
pub struct Turns(Vec<(usize, Kept)>);

impl Turns {
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Sees what becomes of each policy of a chain; those who serve look away, which costs nothing.
pub trait Watcher {
    /// A policy's turn comes, and its rules hold for the request as it is now, or do not.
    fn turn(&mut self, _index: usize, _applies: &Result<bool, PatternLimit>, _exchange: &Exchange<'_>) {}
    /// It has had its turn.
    fn ran(&mut self, _index: usize, _flow: &Flow, _exchange: &Exchange<'_>) {}
}

/// Nobody looks on.
pub struct Unwatched;

impl Watcher for Unwatched {}

/// The request direction. `chain` and `instances` belong together, and `turns` is empty.
pub fn run_request(
    chain: &[BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'_>,
    scratch: &mut Scratch,
    watcher: &mut impl Watcher,
) -> Flow {
    for (index, (bound, instance)) in chain.iter().zip(instances).enumerate() {
        let applies = applies(&bound.rules, exchange, scratch);
        watcher.turn(index, &applies, exchange);
        match applies {
            Ok(true) => {}
            Ok(false) => continue,
            Err(PatternLimit) => return Flow::respond(LocalResponse::pattern_limit()),
        }
        turns.0.push((index, instance.begin()));
        let (_, kept) = turns.0.last_mut().expect("it was just pushed");
        exchange.set_shadow(bound.shadow);
        let flow = instance.on_request(kept, exchange);
        watcher.ran(index, &flow, exchange);
        match flow {
            Flow::Respond(answer) if !bound.shadow => return Flow::Respond(answer),
            Flow::Respond(_) | Flow::Continue => {}
        }
    }
    Flow::Continue
}

/// The response direction, once for an exchange: every policy that has run, in the reverse order. Where one answers itself,
/// `render` makes a head of that, which those before it see; the last such answer is returned.
pub fn run_response(
    chain: &[BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'_>,
    render: &dyn Fn(&mut ResponseHead, &LocalResponse),
) -> Option<Rc<LocalResponse>> {
    let mut answered = None;
    while let Some((index, mut kept)) = turns.0.pop() {
        let shadow = chain[index].shadow;
        exchange.set_shadow(shadow);
        if let Flow::Respond(answer) = instances[index].on_response(&mut kept, exchange)
            && !shadow
        {
            render(exchange.response_head(), &answer);
            answered = Some(answer);
        }
    }
    answered
}

fn applies(rules: &[Rule], exchange: &Exchange<'_>, scratch: &mut Scratch) -> Result<bool, PatternLimit> {
    if rules.is_empty() {
        return Ok(true);
    }
    let input = exchange.rule_input();
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
        policies::{Compiled, compile, testing},
    };

    /// A chain of `(name, config, path of its rule or empty)`.
    fn chain(written: &[(&str, &str, &str)]) -> (Vec<BoundPolicy>, Scratch) {
        let mut patterns = 0;
        let mut problems = Vec::new();
        let mut rules = |path: &str| -> Vec<Rule> {
            let raw = RawRule { path: Some(path.to_owned()), ..RawRule::default() };
            if path.is_empty() { Vec::new() } else { vec![Rule::compile(&raw, &mut patterns).expect("valid")] }
        };
        let chain = written.iter().enumerate().map(|(at, (name, config, path))| BoundPolicy {
            name: (*name).to_owned(),
            reference: (*name).to_owned(),
            location: Default::default(),
            identity: at as u64,
            policy: compile(name, &testing::node(config), "config", &mut testing::site(), &mut problems),
            rules: rules(path),
            shadow: false,
        });
        let chain = chain.collect();
        (chain, Scratch::new(patterns))
    }

    /// What the chain does with `GET path`, where 4 bytes are the API's base: the headers that go upstream and the reason of
    /// a refusal, then the headers of the response.
    fn run(chain: &[BoundPolicy], scratch: &mut Scratch, path: &str) -> (String, Option<&'static str>, String) {
        let instances = Instances::default().chain(chain, &Core { id: 0 });
        let mut trial = testing::Trial::new("GET", path, &[]);
        let mut turns = Turns::default();
        let reason = trial.with(4, |exchange| {
            match run_request(chain, &instances, &mut turns, exchange, scratch, &mut Unwatched) {
                Flow::Continue => None,
                Flow::Respond(refusal) => Some(refusal.reason),
            }
        });
        trial.with(4, |exchange| run_response(chain, &instances, &mut turns, exchange, &|_, _| {}));
        assert!(turns.0.is_empty(), "nothing is left to run twice");
        let names = |fields| testing::lines(fields).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        (names(&trial.request.fields), reason, names(&trial.response.fields))
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
    fn a_policy_in_shadow_decides_and_changes_nothing() {
        let (mut chain, mut scratch) = chain(&[("header-injection", A, ""), LOGIN, ("header-injection", B, "")]);
        chain[0].shadow = true;
        chain[1].shadow = true;
        assert_eq!(run(&chain, &mut scratch, "/api"), ("b".into(), None, "b".into()));
    }

    #[test]
    fn what_a_policy_owns_outlives_a_reload_that_does_not_change_it() {
        let (mut chain, _) = chain(&[("header-injection", A, ""), ("header-injection", B, "")]);
        let mut instances = Instances::default();
        let before = instances.chain(&chain, &Core { id: 0 });
        chain.swap(0, 1);
        chain[0].identity = 7;
        let after = instances.chain(&chain, &Core { id: 0 });
        assert!(Rc::ptr_eq(&before[0], &after[1]) && !Rc::ptr_eq(&before[1], &after[0]));
        instances.retain(|identity| identity == 7);
        assert_eq!(instances.0.len(), 1);
    }

    #[test]
    fn a_chain_may_be_long() {
        let (chain, mut scratch) = chain(&vec![("header-injection", A, ""); 130]);
        let (request, _, response) = run(&chain, &mut scratch, "/api");
        assert_eq!((request.len(), response.len()), (259, 259));
        assert!(chain.iter().all(|bound| !matches!(bound.policy, Compiled::Broken(_))));
    }
}
