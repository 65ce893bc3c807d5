//! Watches a decision being made, and asks of each rule why it did not hold.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Secrets, lines,
    report::{ApiFound, Change, Explanation, Goal, Place, PolicyTurn, RouteTurn, Turn, changes},
    secrets::Credentials,
};
use crate::{
    calls::{Direct, Hear, Heard, Whole},
    config::snapshot::{Destination, Route, Snapshot, Target},
    document::address::WebAddress,
    http::head::RequestHead,
    matching::rule::{Attribute, Misfit, PatternLimit, Rule, RuleInput, Scratch, relative},
    policies::{
        Authentication, Compiled, Exchange, Flow, LocalResponse, Question,
        chain::{self, BoundPolicy},
        jwt,
    },
    proxy::decide,
    telemetry::{fault::Fault, message_log::Messages},
};

/// What calls would have asked, since somebody looked.
pub(super) type Asks = Arc<Mutex<Vec<String>>>;

pub(super) struct Watch<'s> {
    snapshot: &'s Snapshot,
    secrets: Secrets,
    /// What is secret of all that has been seen.
    credentials: &'s mut Credentials,
    /// What policies would log.
    messages: Rc<Messages>,
    asked: Asks,
    /// Room of its own: watching does not disturb what is watched.
    scratch: Scratch,
    api: Option<(usize, usize)>,
    route: Option<usize>,
    pub(super) service: Option<usize>,
    inbound: Vec<PolicyTurn>,
    outbound: Vec<PolicyTurn>,
    /// Before the turn that is under way.
    before: Vec<(Vec<u8>, Vec<u8>)>,
    known: Option<String>,
    /// How many messages were heard, by binding.
    heard: HashMap<String, usize>,
}

impl<'s> Watch<'s> {
    pub(super) fn new(
        snapshot: &'s Snapshot,
        secrets: Secrets,
        credentials: &'s mut Credentials,
        messages: Rc<Messages>,
        asked: Asks,
    ) -> Self {
        Self {
            snapshot,
            secrets,
            credentials,
            messages,
            asked,
            scratch: Scratch::new(snapshot.patterns),
            api: None,
            route: None,
            service: None,
            inbound: Vec::new(),
            outbound: Vec::new(),
            before: Vec::new(),
            known: None,
            heard: HashMap::new(),
        }
    }

    /// Whose answer it is that ended the decision.
    pub(super) fn answers(&self) -> String {
        let ends = |turn: &&PolicyTurn| matches!(turn.what, Turn::Answered | Turn::Broken | Turn::PatternLimit);
        let policy = self.inbound.iter().chain(&self.outbound).rfind(|turn| ends(turn) && !turn.shadow);
        match (policy, self.api) {
            (Some(turn), _) => format!("policy {} ({})", turn.name, turn.at),
            (None, None) => "the listener".to_owned(),
            (None, Some(_)) => "routing".to_owned(),
        }
    }

    /// The policy whose turn has come reads the body first.
    pub(super) fn reads_body(&mut self, is_given: bool) {
        let taken = if is_given { "" } else { ", here taken to be empty" };
        if let Some(turn) = self.latest() {
            turn.why = format!("{}; would read the body{taken}", turn.why);
        }
    }

    /// The policy whose turn has come does not have it: another one lets the body go no further.
    pub(super) fn misses_turn(&mut self) {
        if let Some(turn) = self.latest() {
            (turn.what, turn.why) = (Turn::NotReached, ANSWERED.to_owned());
        }
    }

    /// What the policy that waits is told, as nobody is asked: the answer that the question brings for it or for its binding.
    pub(super) fn told(&mut self, call: &Direct, answers: &[(String, Vec<u8>)]) -> Result<Whole, Fault> {
        let binding = self.latest().map(|turn| turn.name.clone()).unwrap_or_default();
        let known = answers.iter().find(|(name, _)| *name == binding || name == call.server.policy);
        let told = known.map(|(_, written)| (call.told)(written));
        let remark = match &told {
            None => GIVES_AN_ANSWER.to_owned(),
            Some(Ok(_)) => String::new(),
            Some(Err(why)) => format!(", and cannot use the answer that is given: {why}"),
        };
        if let Some(turn) = self.latest() {
            turn.why.push_str(&remark);
        }
        told.and_then(Result::ok).ok_or_else(not_asked)
    }

    /// What the policy that waits hears, as nobody is asked: the next of the messages that the question brings for it or for
    /// its binding.
    pub(super) fn heard(&mut self, hear: &Hear, answers: &[(String, Vec<u8>)]) -> Result<Heard, Fault> {
        let binding = self.latest().map(|turn| turn.name.clone()).unwrap_or_default();
        let known = answers.iter().find(|(name, _)| *name == binding || name == hear.talk.server.policy);
        let told = known.map(|(_, written)| (hear.talk.told)(written));
        let at = self.heard.entry(binding).or_default();
        let (heard, remark) = match told {
            None => (None, GIVES_AN_ANSWER.to_owned()),
            Some(Err(why)) => (None, format!(", and cannot use the answer that is given: {why}")),
            Some(Ok(messages)) => {
                let mut messages = messages.into_iter().skip(*at).inspect(|_| *at += 1);
                match messages.find_map(|message| hear.told(message)) {
                    None => (None, ", and the answer that is given has no more messages".to_owned()),
                    heard => (heard, String::new()),
                }
            }
        };
        if let Some(turn) = self.latest() {
            turn.why.push_str(&remark);
        }
        heard.unwrap_or_else(|| Err(not_asked()))
    }

    /// A policy does not let the body pass that it looks at, or would not if it were not in shadow.
    pub(super) fn refuses_as_it_passes(&mut self, is_inbound: bool, index: usize, answer: &LocalResponse) {
        let turns = if is_inbound { &mut self.inbound } else { &mut self.outbound };
        if let Some(turn) = turns.get_mut(index) {
            turn.why = format!("{}; looks at the body", turn.why);
            responded(turn, answer);
        }
    }

    /// The same, where it is too large for that.
    pub(super) fn refuses_body(&mut self, answer: &LocalResponse) {
        if let Some(turn) = self.latest() {
            turn.what = Turn::Answered;
            turn.why = format!("{}; would read the body: answers {} {}", turn.why, answer.status, answer.reason);
        }
    }

    /// The policy whose turn has come last.
    fn latest(&mut self) -> Option<&mut PolicyTurn> {
        match self.service {
            None => self.inbound.last_mut(),
            Some(_) => self.outbound.last_mut(),
        }
    }

    pub(super) fn finish(&mut self, request: &RequestHead, told: &mut Explanation) {
        let Some((index, base)) = self.api else { return };
        let api = &self.snapshot.apis[index];
        told.api = Some(ApiFound {
            name: api.name.clone(),
            namespace: api.namespace.clone(),
            at: Place::of(&api.location),
            base: if api.base.is_empty() { "/".to_owned() } else { api.base.clone() },
            path: self.secrets.text(relative(&request.path, base)),
        });
        let not_reached = |bound| turn_of(bound, Turn::NotReached, ANSWERED.to_owned());
        told.policies = std::mem::take(&mut self.inbound);
        let rest = api.policies.iter().skip(told.policies.len());
        told.policies.extend(rest.map(not_reached));
        let is_over = |turn: &PolicyTurn| matches!(turn.what, Turn::Answered | Turn::PatternLimit | Turn::NotReached);
        let refused = told.policies.iter().any(|turn| is_over(turn) || turn.what == Turn::Broken && !turn.shadow);
        // A body may be refused when the route is known.
        if !refused || self.route.is_some() {
            let input = RuleInput {
                path: relative(&request.path, base),
                authority: &request.authority,
                method: &request.method,
                fields: &request.fields,
            };
            told.routes = self.routes(&api.routes, &input);
        }
        told.outbound_policies = std::mem::take(&mut self.outbound);
        if let Some(service) = self.service {
            let rest = self.snapshot.services[service].policies.iter().skip(told.outbound_policies.len());
            told.outbound_policies.extend(rest.map(not_reached));
        }
        // Whose answer it is stays known.
        self.inbound.clone_from(&told.policies);
        self.outbound.clone_from(&told.outbound_policies);
    }

    fn routes(&mut self, routes: &[Route], input: &RuleInput) -> Vec<RouteTurn> {
        let mut over = false;
        let mut told = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let chosen = self.route == Some(index);
            let why = match self.rules(&route.rules, input) {
                _ if over => "an earlier route has the request".to_owned(),
                Ok((true, why)) if !chosen => {
                    over = true;
                    format!("{why}, but the upstream's path would have a dot segment: no route has it")
                }
                Ok((_, why)) => why,
                Err(PatternLimit) => {
                    over = true;
                    LIMIT.to_owned()
                }
            };
            over |= chosen;
            let (name, at) = (route.name.clone(), Place::of(&route.location));
            told.push(RouteTurn { name, at, chosen, why, to: self.goals(&route.target) });
        }
        told
    }

    fn goals(&self, target: &Target) -> Vec<Goal> {
        let goal = |weight: u32, destination: &Destination| Goal {
            service: destination.service.map(|index| self.snapshot.services[index].name.clone()),
            path: destination.path.clone(),
            weight,
        };
        match target {
            Target::One(destination) => vec![goal(1, destination)],
            Target::Weighted { choices, .. } => choices.iter().map(|(weight, to)| goal(*weight, to)).collect(),
        }
    }

    /// Whether one of the rules holds, and which, or why none does.
    fn rules(&mut self, rules: &[Rule], input: &RuleInput) -> Result<(bool, String), PatternLimit> {
        if rules.is_empty() {
            return Ok((true, "no rules: every request".to_owned()));
        }
        let mut lost = Vec::new();
        for rule in rules {
            let line = rule.location().line;
            match rule.misfit(input, &mut self.scratch)? {
                None => return Ok((true, format!("the rule on line {line} holds"))),
                Some(misfit) => lost.push(format!("line {line}: {}", self.lost(&misfit, input))),
            }
        }
        Ok((false, lost.join("; ")))
    }

    fn lost(&self, misfit: &Misfit<'_>, input: &RuleInput) -> String {
        let (pattern, secrets) = (misfit.pattern, self.secrets);
        match misfit.attribute {
            Attribute::Path => format!("path `{}` is not `{pattern}`", secrets.text(input.path)),
            Attribute::Methods => format!("method `{}` is not `{pattern}`", secrets.text(input.method)),
            Attribute::Host => format!("host `{}` is not `{pattern}`", secrets.text(input.authority)),
            Attribute::Header(name) if name.eq_ignore_ascii_case("host") => {
                format!("host `{}` is not `{pattern}`", secrets.text(input.authority))
            }
            Attribute::Header(name) => {
                let values: Vec<&[u8]> = input.fields.values(name.as_bytes()).collect();
                if values.is_empty() {
                    return format!("there is no header `{name}`");
                }
                let value = secrets.value(name.as_bytes(), &values.join(&b','));
                format!("header {name} `{value}` is not `{}`", secrets.value(name.as_bytes(), pattern.as_bytes()))
            }
        }
    }

    /// What the policy that has had its turn has written, which is gone then.
    fn logged(&self) -> Vec<String> {
        let lines = self.messages.lines.drain();
        let lines = String::from_utf8_lossy(&lines);
        // The time comes first, and is the only thing that is another one each time.
        lines.lines().map(|line| self.secrets.logged(line.split_once(' ').map_or(line, |(_, rest)| rest))).collect()
    }

    /// Those of the chain that is under way: of the Service, once there is one.
    fn turns(&mut self) -> &mut Vec<PolicyTurn> {
        if self.service.is_some() { &mut self.outbound } else { &mut self.inbound }
    }

    /// The policy whose turn it is.
    fn bound(&self, index: usize) -> &'s BoundPolicy {
        let Snapshot { apis, services, .. } = self.snapshot;
        match (self.service, self.api) {
            (Some(service), _) => &services[service].policies[index],
            (None, Some((api, _))) => &apis[api].policies[index],
            (None, None) => unreachable!("a policy runs once its API is found"),
        }
    }
}

pub(super) const GIVES_AN_ANSWER: &str = " (`--answer NAME=FILE` gives an answer)";

pub(super) fn not_asked() -> Fault {
    Fault::new("not_asked", "nothing is asked here")
}

const ANSWERED: &str = "the request has its answer";
const LIMIT: &str = "a pattern reached its limit: the request is refused";

impl chain::Watcher for Watch<'_> {
    fn turn(&mut self, index: usize, applies: &Result<bool, PatternLimit>, exchange: &Exchange<'_>) {
        let bound = self.bound(index);
        let why = self.rules(&bound.rules, &exchange.rule_input());
        let (what, why) = match (applies, why) {
            (Ok(true), Ok((_, why))) => (Turn::Continued, why),
            (Ok(false), Ok((_, why))) => (Turn::NotApplied, why),
            (Err(PatternLimit), _) | (_, Err(PatternLimit)) => (Turn::PatternLimit, LIMIT.to_owned()),
        };
        self.before = lines(exchange.request_fields());
        self.known = who(exchange.authentication());
        self.turns().push(turn_of(bound, what, why));
    }

    fn ran(&mut self, index: usize, flow: &Flow, exchange: &Exchange<'_>) {
        let changed: Vec<Change> = changes(&self.before, &lines(exchange.request_fields()), self.secrets);
        let client = who(exchange.authentication()).filter(|who| self.known.as_ref() != Some(who));
        let injects = self.turns().last().is_some_and(PolicyTurn::injects);
        let is_injected =
            |name: &[u8]| injects && changed.iter().any(|one| one.name.as_bytes().eq_ignore_ascii_case(name));
        let now = lines(exchange.request_fields());
        self.credentials.learn(now.iter().filter(|(name, _)| Secrets::Hidden.hides_name(name) || is_injected(name)));
        let logs = self.logged();
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let bound = self.bound(index);
        let Some(turn) = self.turns().last_mut() else { return };
        asked.iter().for_each(|text| turn.why = format!("{}; {text}", turn.why));
        (turn.changes, turn.client) = (changed, client);
        turn.logs.extend(logs);
        match flow {
            Flow::Continue | Flow::AskAgain => {}
            Flow::Wait(question) => turn.why = format!("{}; would {}", turn.why, waits_for(question)),
            Flow::Respond(answer) => {
                responded(turn, answer);
                if let Compiled::JwtValidation(policy) = &bound.policy
                    && answer.reason == jwt::NO_KEYS
                {
                    let sets: Vec<String> = policy.key_sets().iter().map(WebAddress::to_string).collect();
                    let text =
                        format!("it would use the key set of {} (`--answer jwks=FILE` gives one)", sets.join(", "));
                    turn.why = format!("{}; {text}", turn.why);
                }
            }
        }
    }
}

impl decide::Watcher for Watch<'_> {
    fn identified(&mut self, _: &RequestHead) {}

    fn api(&mut self, index: usize, base: usize) {
        self.api = Some((index, base));
    }

    fn route(&mut self, index: usize) {
        self.route = Some(index);
    }

    fn service(&mut self, index: usize) {
        self.service = Some(index);
    }
}

fn responded(turn: &mut PolicyTurn, answer: &LocalResponse) {
    let does = if turn.shadow { "would answer" } else { "answers" };
    let reason = if answer.reason.is_empty() { String::new() } else { format!(" {}", answer.reason) };
    turn.what = match (turn.what, turn.shadow) {
        (Turn::Broken, _) => Turn::Broken,
        (_, true) => Turn::WouldAnswer,
        (_, false) => Turn::Answered,
    };
    turn.why = format!("{}; {does} {}{reason}", turn.why, answer.status);
}

/// A broken policy says so as soon as it has a turn.
fn turn_of(bound: &BoundPolicy, what: Turn, why: String) -> PolicyTurn {
    let (what, why) = match (&bound.policy, what) {
        (Compiled::Broken(reason), Turn::Continued) => {
            (Turn::Broken, format!("{why}; it could not be built: {reason}"))
        }
        _ => (what, why),
    };
    PolicyTurn {
        name: bound.name.clone(),
        policy: bound.reference.clone(),
        at: Place::of(&bound.location),
        shadow: bound.shadow,
        what,
        why,
        changes: Vec::new(),
        client: None,
        logs: Vec::new(),
    }
}

/// Behind "would wait".
fn waits_for(question: &Question) -> String {
    match question {
        Question::Time(time) => format!("wait {time:?}"),
        Question::Signal { at_most, .. } => format!("wait for another request or a storage, at most {at_most:?}"),
        Question::Call(call) => format!("ask {call} and wait at most {:?}", call.time_max),
        Question::Body(_) => "read the body".to_owned(),
        Question::Hear(hear) => format!("ask {hear} and wait for its reply"),
    }
}

/// Whom policies have found the client to be.
fn who(authentication: &Authentication) -> Option<String> {
    let named = authentication.principal().or_else(|| authentication.client_name());
    match (named, authentication.client_id()) {
        (Some(name), Some(id)) => Some(format!("{name} ({id})")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}
