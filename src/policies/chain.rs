//! A chain: policies in order on the request, in the reverse order on the response.
//!
//! Each policy's rules are asked when its turn comes, of the request as the policies before it left it. Only those that ran see
//! the response, also when one of them answered the request itself.
//!
//! A run stops where a policy waits, and goes on with the reply: where it stands is in its [`Turns`], so that nothing is
//! borrowed meanwhile.

use super::Compiled;
use super::Needs;
use crate::document::problem::Location;
use crate::telemetry::series::SeriesId;
use std::{collections::HashMap, rc::Rc, time::Instant};

use super::{
    Core, End, Exchange, Flow, Instance, LocalResponse, Question, Refusal, Reply, Scans, Side, Wanted, scan::Keeps,
    wants::Published,
};
use crate::{
    http::head::ResponseHead,
    matching::rule::{PatternLimit, Rule, Scratch},
    telemetry::policies::Decision,
};

/// A policy at its place in a chain.
#[derive(Debug)]
pub struct BoundPolicy {
    /// `<api>-<policyName>-<n>` or the binding's name.
    pub name: String,
    /// What `policyRef.name` says, and where.
    pub reference: String,
    pub location: Location,
    /// Hash of its owner, its name, its configuration and what that was compiled with, and of how many such stand before it in
    /// the chain: what cores own of a policy carries over a reload where this is equal, wherever in the chain it stands then.
    pub identity: u64,
    /// Interned for metrics by its owner and its name: the same one over reloads, whatever its configuration.
    pub series: SeriesId,
    pub policy: Compiled,
    /// What of the bodies it has to see.
    pub needs: Needs,
    /// It decides, is counted and logged, and changes nothing.
    pub shadow: bool,
    /// Empty: applies to every request.
    pub rules: Vec<Rule>,
}

/// One core's policies by identity: what they own outlives a reload that changes nothing for them.
#[derive(Default)]
pub struct Instances(HashMap<u64, Rc<Instance>>);

impl Instances {
    /// Those of a chain, in its order.
    pub fn chain(&mut self, chain: &[BoundPolicy], core: &Core) -> Vec<Rc<Instance>> {
        let instance = |bound: &BoundPolicy| {
            let new = || bound.policy.instance(&Core { policy: bound.identity, ..core.clone() });
            self.0.entry(bound.identity).or_insert_with(new).clone()
        };
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
pub struct Turns {
    /// Something below is not as it was made.
    is_used: bool,
    ran: Vec<(usize, Keeps)>,
    /// How many of them, from the last, have had their turn in the response direction.
    seen: usize,
    /// Where the request direction goes on: the index behind the policy that waits.
    next: usize,
    /// The last of those that are not `seen` has had its turn in the response direction, and waits.
    is_held: bool,
    /// The policy at `next`, or the last of `ran`, applies and has asked for a body to be read ahead.
    reading: Option<Side>,
    /// The policy that waits does so for a body to be read.
    reads: bool,
    request_scans: Scans,
    response_scans: Scans,
    /// The policy that has answered, in either direction, and with which status.
    refused: Option<(usize, u16)>,
    /// The last answer that one gave in the place of the one that had come.
    answered: Option<Rc<LocalResponse>>,
}

impl Turns {
    /// Most APIs and Services have no policy, and nothing to clear.
    #[inline]
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_used) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.ran.clear();
        self.seen = 0;
        self.next = 0;
        self.is_held = false;
        self.reading = None;
        self.reads = false;
        self.request_scans.clear();
        self.response_scans.clear();
        self.refused = None;
        self.answered = None;
    }

    /// No policy has run.
    pub fn is_empty(&self) -> bool {
        self.ran.is_empty()
    }

    /// Whether one of those that have run may change the body of the answer.
    pub fn may_change(&self) -> bool {
        self.ran.iter().any(|(_, kept)| kept.sees())
    }

    /// Those that have had their turn, and look at this body as it passes.
    pub fn scans(&mut self, side: Side) -> &mut Scans {
        match side {
            Side::Request => &mut self.request_scans,
            Side::Response => &mut self.response_scans,
        }
    }

    /// The bodies that policies do not let pass, or would not if they were not in shadow: the policy's index, and its answer.
    pub fn scans_refused(&self) -> impl Iterator<Item = (usize, Side, Rc<LocalResponse>)> {
        self.ran.iter().filter_map(|(index, kept)| kept.refused().map(|(side, answer)| (*index, side, answer)))
    }

    /// Another response comes, for all that have run.
    pub fn sees_another(&mut self) {
        self.seen = 0;
        self.response_scans.clear();
        self.answered = None;
    }

    /// An answer has taken the place of the response's before this chain's part of the response direction begins.
    pub fn answered_before(&mut self, answer: Rc<LocalResponse>) {
        self.is_used = true;
        self.answered = Some(answer);
    }

    /// What the policy that has run last has decided for the request, the one behind it being `next`. `None`: that one's
    /// turn comes.
    fn decided(&mut self, flow: Flow, shadow: bool, next: usize) -> Option<Next> {
        match flow {
            Flow::Continue | Flow::AskAgain => None,
            Flow::Respond(answer) if !shadow => {
                self.refused = answer.stored.is_none().then_some((next - 1, answer.status));
                Some(Next::Respond(answer))
            }
            Flow::Respond(_) => None,
            Flow::Wait(question) if !shadow => {
                self.next = next;
                Some(self.waits(question))
            }
            Flow::Wait(_) => {
                self.ran.pop();
                None
            }
        }
    }
}

impl Turns {
    /// What the policy whose turn it is waits for.
    fn waits(&mut self, question: Box<Question>) -> Next {
        match *question {
            Question::Body(wanted) => {
                self.reads = true;
                Next::Body(wanted)
            }
            _ => Next::Wait(question),
        }
    }

    /// The reply, where the body that the policy waits for has been read.
    fn has_read(&mut self) -> Option<Reply> {
        std::mem::take(&mut self.reads).then_some(Reply::Read)
    }
}

/// The body is too large for a policy in shadow.
struct TooLarge;

/// What has to be read before this policy's turn, or `Err`: it has none. `asked`: it was asked for already.
fn lacks(
    bound: &BoundPolicy,
    side: Side,
    exchange: &Exchange<'_>,
    asked: bool,
    reading: &mut Option<Side>,
) -> Result<Option<Wanted>, TooLarge> {
    let Some(wanted) = bound.needs.of(side).wanted(bound.shadow) else { return Ok(None) };
    match exchange.has_read(side, wanted) {
        true => Ok(None),
        false if !asked => {
            *reading = Some(side);
            Ok(Some(wanted))
        }
        // A beginning longer than may be read ahead is what was read; only who changes nothing does without.
        false if wanted == Wanted::WholeOrNothing => Err(TooLarge),
        false => Ok(None),
    }
}

/// What comes after a run of a chain.
#[derive(Debug)]
pub enum Next {
    /// Every policy has had its turn.
    Done,
    Respond(Rc<LocalResponse>),
    /// A policy waits: the same run goes on with the reply.
    Wait(Box<Question>),
    /// A policy's turn has come, and wants so much of the message's body read ahead: then the same run goes on.
    Body(Wanted),
    /// In the response direction: the upstream is asked once more, and the run begins anew with what it answers.
    AskAgain,
}

/// Sees what becomes of each policy of a chain: those who serve count the decisions, `explain` wants to know all. What nobody
/// wants to know costs nothing.
pub trait Watcher {
    /// A policy's turn comes, and its rules hold for the request as it is now, or do not.
    fn turn(&mut self, _index: usize, _applies: &Result<bool, PatternLimit>, _exchange: &Exchange<'_>) {}
    /// It has had its turn, or a part of it where it waits: the same policy's next part comes next.
    fn ran(&mut self, _index: usize, _flow: &Flow, _exchange: &Exchange<'_>) {}
    /// When a turn begins, where its time is measured.
    fn begins(&mut self) -> Option<Instant> {
        None
    }
    /// What a policy has decided, in either direction; `None`: it has seen an answer, which passes. With when its turn began.
    fn decided(&mut self, _bound: &BoundPolicy, _decision: Option<Decision>, _began: Option<Instant>) {}
}

/// Nobody looks on.
pub struct Unwatched;

impl Watcher for Unwatched {}

/// The request direction. `chain` and `instances` belong together. `turns` is empty, or of the run that has ended with
/// [`Next::Wait`], which goes on with the `reply`, or with
/// [`Next::Body`].
pub fn run_request(
    chain: &[BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'_>,
    scratch: &mut Scratch,
    reply: Option<Reply>,
    watcher: &mut impl Watcher,
) -> Next {
    turns.is_used = true;
    let next = std::mem::take(&mut turns.next);
    let reply = reply.or_else(|| turns.has_read());
    if let (Some(reply), Some((index, kept))) = (reply, turns.ran.last_mut()) {
        let (index, bound, instance) = (*index, &chain[*index], &instances[*index]);
        let scans = &mut turns.request_scans;
        let flow = take_turn(bound, exchange, watcher, |exchange| {
            let flow = kept.with(|kept| instance.on_reply(kept, exchange, reply));
            (kept.scan(flow, Side::Request, bound, instance, exchange, scans), kept.goes_on(Side::Request))
        });
        watcher.ran(index, &flow, exchange);
        if let Some(next) = turns.decided(flow, bound.shadow, next) {
            return next;
        }
    }
    for (index, (bound, instance)) in chain.iter().zip(instances).enumerate().skip(next) {
        let asked = turns.reading.take().is_some();
        if !asked {
            let applies = applies(&bound.rules, exchange, scratch);
            watcher.turn(index, &applies, exchange);
            match applies {
                Ok(true) => {}
                Ok(false) => continue,
                Err(PatternLimit) => {
                    let answer = LocalResponse::pattern_limit();
                    watcher.decided(bound, Some(Decision::Fail(answer.reason)), None);
                    turns.refused = Some((index, answer.status));
                    return Next::Respond(answer.into());
                }
            }
        }
        match lacks(bound, Side::Request, exchange, asked, &mut turns.reading) {
            Ok(None) => {}
            Ok(Some(wanted)) => {
                turns.next = index;
                return Next::Body(wanted);
            }
            Err(TooLarge) => continue,
        }
        turns.ran.push((index, Keeps::begin(instance, bound.needs)));
        let (_, kept) = turns.ran.last_mut().expect("it was just pushed");
        let scans = &mut turns.request_scans;
        let flow = take_turn(bound, exchange, watcher, |exchange| {
            let flow = kept.with(|kept| instance.on_request(kept, exchange));
            (kept.scan(flow, Side::Request, bound, instance, exchange, scans), kept.goes_on(Side::Request))
        });
        watcher.ran(index, &flow, exchange);
        if let Some(next) = turns.decided(flow, bound.shadow, index + 1) {
            return next;
        }
    }
    Next::Done
}

/// The response direction, once for an exchange: every policy that has run, in the reverse order. Where one answers itself,
/// `render` makes a head of that, which those before it see; the last such answer is what comes next. A run that has ended
/// with [`Next::Wait`] goes on with the `reply`, which is taken by who waits for it; without one the policy that waits has
/// had its turn.
pub fn run_response<'x>(
    chain: &'x [BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'x>,
    reply: &mut Option<Reply>,
    render: &dyn Fn(&mut ResponseHead, &LocalResponse),
    watcher: &mut impl Watcher,
) -> Next {
    let refused = |(index, status): (usize, u16)| Refusal { policy: &chain[index].reference, status };
    let by_scan = || turns.scans_refused().find(|(index, ..)| !chain[*index].shadow);
    let before = turns.refused.or_else(|| by_scan().map(|(index, _, answer)| (index, answer.status)));
    turns.refused = before;
    if let Some(before) = before {
        exchange.set_refusal(refused(before));
    }
    while let Some(last) = turns.ran.len().checked_sub(turns.seen + 1) {
        let index = turns.ran[last].0;
        let (bound, instance) = (&chain[index], &instances[index]);
        let asked = turns.reading.take() == Some(Side::Response);
        let is_held = std::mem::take(&mut turns.is_held);
        match is_held {
            true => {}
            false => match lacks(bound, Side::Response, exchange, asked, &mut turns.reading) {
                Ok(None) => {}
                Ok(Some(wanted)) => return Next::Body(wanted),
                Err(TooLarge) => {
                    turns.seen += 1;
                    continue;
                }
            },
        }
        turns.seen += 1;
        let reply = match is_held {
            false => None,
            true => match reply.take().or_else(|| turns.has_read()) {
                Some(reply) => Some(reply),
                None => continue,
            },
        };
        let (_, kept) = &mut turns.ran[last];
        let scans = &mut turns.response_scans;
        let flow = take_turn(bound, exchange, watcher, |exchange| {
            let flow = kept.with(|kept| match reply {
                Some(reply) => instance.on_reply(kept, exchange, reply),
                None => instance.on_response(kept, exchange),
            });
            (kept.scan(flow, Side::Response, bound, instance, exchange, scans), kept.goes_on(Side::Response))
        });
        match flow {
            Flow::Wait(question) if !bound.shadow => {
                turns.seen -= 1;
                turns.is_held = true;
                return turns.waits(question);
            }
            Flow::Respond(answer) if !bound.shadow => {
                render(exchange.response_head(), &answer);
                exchange.set_own_body(answer.body_for(turns.may_change()));
                if answer.stored.is_none() {
                    turns.refused = Some((index, answer.status));
                    exchange.set_refusal(refused((index, answer.status)));
                }
                turns.answered = Some(answer);
            }
            Flow::AskAgain if !bound.shadow => {
                turns.sees_another();
                return Next::AskAgain;
            }
            Flow::Continue | Flow::Respond(_) | Flow::Wait(_) | Flow::AskAgain => {}
        }
    }
    turns.answered.take().map_or(Next::Done, Next::Respond)
}

/// A policy's turn, or what is left of it after a wait: the one place where its decision is known. `run` says also what it is
/// called that the exchange goes on.
fn take_turn(
    bound: &BoundPolicy,
    exchange: &mut Exchange<'_>,
    watcher: &mut impl Watcher,
    run: impl FnOnce(&mut Exchange<'_>) -> (Flow, Option<Decision>),
) -> Flow {
    exchange.set_shadow(bound.shadow);
    let began = watcher.begins();
    let (flow, goes_on) = run(exchange);
    let decision = match &flow {
        Flow::Continue | Flow::AskAgain => goes_on,
        Flow::Wait(_) => Some(Decision::Wait),
        Flow::Respond(answer) => refusal(answer, bound.shadow, goes_on),
    };
    watcher.decided(bound, decision, began);
    flow
}

/// What it is called that a policy gives this answer, or would if it were not in shadow.
pub(super) fn refusal(answer: &LocalResponse, shadow: bool, goes_on: Option<Decision>) -> Option<Decision> {
    match (answer.status, shadow) {
        // What was an upstream's answer before is no failure of the policy that has kept it.
        (_, true) if answer.stored.is_some() => goes_on,
        (_, false) if answer.stored.is_some() => Some(Decision::Respond(answer.reason)),
        // One that would have answered and refused nothing, such as a preflight.
        (..400, true) => goes_on,
        (_, true) => Some(Decision::ShadowDeny(answer.reason)),
        (500.., false) => Some(Decision::Fail(answer.reason)),
        (_, false) => Some(Decision::Respond(answer.reason)),
    }
}

/// What a run has asked for with [`Next::Body`] cannot be read: nothing for a chain that has not asked. In the direction of the
/// request the policy has no turn then, and learns only of the end. `refused`: the exchange has this answer, since the policy
/// wanted more than may be read.
pub fn run_unread(
    chain: &[BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    refused: Option<&LocalResponse>,
    watcher: &mut impl Watcher,
) {
    let reads = std::mem::take(&mut turns.reads);
    let index = match turns.reading {
        // In the middle of its turn, which is over.
        None if reads => match turns.is_held {
            true => turns.ran[turns.ran.len() - turns.seen - 1].0,
            false => turns.ran[turns.ran.len() - 1].0,
        },
        None => return,
        Some(Side::Request) => {
            let index = turns.next;
            turns.reading = None;
            turns.ran.push((index, Keeps::begin(&instances[index], chain[index].needs)));
            turns.seen = 1;
            index
        }
        // It sees the answer that takes the response's place.
        Some(Side::Response) => turns.ran[turns.ran.len() - turns.seen - 1].0,
    };
    if let Some(answer) = refused {
        turns.refused = Some((index, answer.status));
        watcher.decided(&chain[index], Some(Decision::Fail(answer.reason)), None);
    }
}

/// The end of the exchange, to every policy that has run, in the order of the response direction; the watcher learns what was
/// decided while bodies passed. Then `turns` is empty.
pub fn run_log<'x>(
    chain: &'x [BoundPolicy],
    instances: &[Rc<Instance>],
    turns: &mut Turns,
    exchange: &mut Exchange<'x>,
    end: &End,
    watcher: &mut impl Watcher,
) {
    if let Some((index, status)) = turns.refused {
        exchange.set_refusal(Refusal { policy: &chain[index].reference, status });
    }
    for (index, kept) in turns.ran.iter_mut().rev() {
        let bound = &chain[*index];
        for verdict in kept.verdicts(bound.shadow).into_iter().flatten() {
            watcher.decided(bound, Some(verdict), None);
        }
        exchange.set_shadow(bound.shadow);
        kept.with(|kept| instances[*index].on_log(kept, exchange, end));
    }
    turns.clear();
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
mod tests;
