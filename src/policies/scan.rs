//! The policies that look at a body while it passes, or change it, taken out of the chains: both bodies of an exchange may move
//! at once.

use std::{cell::RefCell, rc::Rc};

use super::{
    Body, Exchange, Flow, Instance, Kept, LocalResponse, Need, Needs, Passing, Piece, Question, Reply, Side,
    chain::{BoundPolicy, refusal},
};
use crate::telemetry::policies::Decision;

/// Those that look at one body, in the order of the chains on its way.
#[derive(Default)]
pub struct Scans(Vec<Scan>);

/// What a policy keeps of the exchange: shared with the scans of its bodies, where it has any.
pub enum Keeps {
    Alone(Kept),
    Shared(Rc<Shared>),
}

/// What a policy and the scans of its bodies know together.
pub struct Shared {
    kept: RefCell<Kept>,
    verdict: RefCell<Verdict>,
}

/// What is decided while bodies pass. It is told when the exchange ends: before, nobody knows.
#[derive(Default)]
struct Verdict {
    /// The policy has let the request go on, and looks at its body.
    is_open: bool,
    /// The first body that it does not let pass, and its answer; in shadow it would have been.
    refused: Option<(Side, Rc<LocalResponse>)>,
}

impl Keeps {
    pub fn begin(instance: &Instance, needs: Needs) -> Self {
        let kept = instance.begin();
        let sees = |need: Need| matches!(need, Need::Scan | Need::Change);
        match sees(needs.request) || sees(needs.response) {
            true => Self::Shared(Rc::new(Shared { kept: RefCell::new(kept), verdict: RefCell::default() })),
            false => Self::Alone(kept),
        }
    }

    pub fn with<R>(&mut self, run: impl FnOnce(&mut Kept) -> R) -> R {
        match self {
            Self::Alone(kept) => run(kept),
            Self::Shared(shared) => run(&mut shared.kept.borrow_mut()),
        }
    }

    /// Whether a body may be looked at on its way, or changed.
    pub fn sees(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// A policy that lets the message go on looks at its body from here on, and now at what was read ahead of it. Returns what
    /// it has decided.
    pub fn scan(
        &self,
        flow: Flow,
        side: Side,
        bound: &BoundPolicy,
        instance: &Rc<Instance>,
        exchange: &Exchange<'_>,
        scans: &mut Scans,
    ) -> Flow {
        match (self, &flow) {
            (Self::Shared(shared), Flow::Continue) if bound.needs.of(side) == Need::Scan && exchange.has_body(side) => {
                let mut scan = Scan::new(instance.clone(), shared.clone(), bound.shadow);
                let seen = exchange.body(side).map_or(Ok(()), |body| scan.see_ahead(side, body));
                scans.push(scan);
                let mut verdict = shared.verdict.borrow_mut();
                verdict.is_open |= side == Side::Request && seen.is_ok();
                seen.map_or_else(
                    |answer| {
                        // The turn ends with it, and tells it.
                        verdict.refused = None;
                        Flow::Respond(answer)
                    },
                    |()| flow,
                )
            }
            (Self::Shared(shared), Flow::Continue)
                if bound.needs.of(side) == Need::Change && exchange.has_body(side) =>
            {
                // What was read ahead of it the policy has seen in its turn.
                if instance.changes(&shared.kept.borrow(), side) {
                    let scan = Scan::new(instance.clone(), shared.clone(), bound.shadow);
                    scans.push(Scan { changes: true, ..scan });
                    shared.verdict.borrow_mut().is_open |= side == Side::Request;
                }
                flow
            }
            _ => flow,
        }
    }

    /// What it is called that the policy has let the message go on. In the direction of the response it is nothing that it
    /// decides, and while it looks at the request's body nothing is decided yet.
    pub fn goes_on(&self, side: Side) -> Option<Decision> {
        let is_open = matches!(self, Self::Shared(shared) if shared.verdict.borrow().is_open);
        (side == Side::Request && !is_open).then_some(Decision::Continue)
    }

    /// The body that the policy does not let pass, or would not if it were not in shadow, and its answer.
    pub fn refused(&self) -> Option<(Side, Rc<LocalResponse>)> {
        match self {
            Self::Alone(_) => None,
            Self::Shared(shared) => shared.verdict.borrow().refused.clone(),
        }
    }

    /// What its scans have decided, when the exchange ends: of the request's body, and of the response's.
    pub fn verdicts(&self, shadow: bool) -> [Option<Decision>; 2] {
        let Self::Shared(shared) = self else { return [None, None] };
        let verdict = shared.verdict.borrow();
        let goes_on = verdict.is_open.then_some(Decision::Continue);
        match &verdict.refused {
            None => [goes_on, None],
            Some((Side::Request, answer)) => [refusal(answer, shadow, goes_on), None],
            Some((Side::Response, answer)) => [goes_on, refusal(answer, shadow, None)],
        }
    }
}

/// One policy that has run for the request, and shares what it keeps of the exchange with its turns.
pub struct Scan {
    instance: Rc<Instance>,
    shared: Rc<Shared>,
    shadow: bool,
    /// A refusal ends the scan, and in shadow nothing else.
    is_over: bool,
    /// It may make another of a piece, and wait for that.
    changes: bool,
}

/// How far a piece has come.
pub enum Passed {
    /// Past all of them.
    Whole,
    /// One of them waits, and is the next to see it.
    Waits(Box<Question>),
    /// One of them refuses the message with this answer.
    Refused(Rc<LocalResponse>),
}

impl Scan {
    fn new(instance: Rc<Instance>, shared: Rc<Shared>, shadow: bool) -> Self {
        Self { instance, shared, shadow, is_over: false, changes: false }
    }

    /// Shows what was read ahead of the body.
    fn see_ahead(&mut self, side: Side, body: &Body) -> Result<(), Rc<LocalResponse>> {
        for bytes in body.pieces().filter(|bytes| !bytes.is_empty()) {
            self.see(&Piece { side, bytes, is_last: false })?;
        }
        match body.is_whole() {
            true => self.see(&Piece { side, bytes: b"", is_last: true }),
            false => Ok(()),
        }
    }

    fn see(&mut self, piece: &Piece<'_>) -> Result<(), Rc<LocalResponse>> {
        if self.is_over {
            return Ok(());
        }
        let answer = match self.instance.on_body(&mut self.shared.kept.borrow_mut(), piece) {
            Flow::Continue | Flow::AskAgain(_) => return Ok(()),
            Flow::Respond(answer) | Flow::RespondAndGoOn(answer) => answer,
            // Nothing can be waited for here, and what was not looked at does not pass.
            Flow::Wait(_) => LocalResponse::failed_policy().into(),
        };
        self.refuse(piece.side, &answer);
        if self.shadow { Ok(()) } else { Err(answer) }
    }

    /// The same of a piece that may become another one.
    fn pass(&mut self, passing: &mut Passing, reply: Option<Reply>) -> Passed {
        if !self.changes {
            let Passing { side, bytes, is_last, .. } = passing;
            if bytes.is_empty() && !*is_last {
                return Passed::Whole;
            }
            let seen = self.see(&Piece { side: *side, bytes, is_last: *is_last });
            return seen.map_or_else(Passed::Refused, |()| Passed::Whole);
        }
        if self.is_over {
            return Passed::Whole;
        }
        let answer = match self.instance.on_passing(&mut self.shared.kept.borrow_mut(), passing, reply) {
            Flow::Continue | Flow::AskAgain(_) => return Passed::Whole,
            Flow::Wait(question) => match *question {
                Question::Hear(_) => return Passed::Waits(question),
                _ => LocalResponse::failed_policy().into(),
            },
            Flow::Respond(answer) | Flow::RespondAndGoOn(answer) => answer,
        };
        self.refuse(passing.side, &answer);
        Passed::Refused(answer)
    }

    fn refuse(&mut self, side: Side, answer: &Rc<LocalResponse>) {
        self.is_over = true;
        self.shared.verdict.borrow_mut().refused.get_or_insert_with(|| (side, answer.clone()));
    }
}

impl Scans {
    pub fn push(&mut self, scan: Scan) {
        self.0.push(scan);
    }

    pub fn append(&mut self, behind: &mut Self) {
        self.0.append(&mut behind.0);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them may make another body of it.
    pub fn changes(&self) -> bool {
        self.0.iter().any(|scan| scan.changes)
    }

    /// Shows a piece to those from the place `at` on, which is where it has come in the end; the first of them may have waited
    /// for the reply.
    pub fn pass(&mut self, passing: &mut Passing, at: &mut usize, mut reply: Option<Reply>) -> Passed {
        while let Some(scan) = self.0.get_mut(*at) {
            match scan.pass(passing, reply.take()) {
                Passed::Whole => *at += 1,
                stopped => return stopped,
            }
        }
        Passed::Whole
    }

    /// Whether one of them may refuse the message.
    pub fn may_refuse(&self) -> bool {
        self.0.iter().any(|scan| !scan.shadow)
    }

    /// The body cannot be shown to them, and the message has this answer: it is that of the first who could have refused it.
    pub fn fail(&mut self, side: Side, answer: &Rc<LocalResponse>) {
        if let Some(scan) = self.0.iter_mut().find(|scan| !scan.shadow) {
            scan.refuse(side, answer);
        }
    }

    /// Shows them a piece; `Err`: one of them refuses the message with this answer.
    pub fn see(&mut self, piece: &Piece<'_>) -> Result<(), Rc<LocalResponse>> {
        self.0.iter_mut().try_for_each(|scan| scan.see(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::head::{BodyLength, Fields},
        matching::rule::Scratch,
        policies::{
            Core, End, Wanted,
            chain::{self, BoundPolicy, Instances, Next, Turns, Watcher},
            compile,
            testing::{self, Trial},
        },
        telemetry::series::SeriesId,
    };

    /// A chain of test policies, the reading one in shadow if it says so, and one exchange with bodies in both directions.
    struct Run {
        chain: Vec<BoundPolicy>,
        instances: Vec<Rc<Instance>>,
        turns: Turns,
        trial: Trial,
        decided: Decided,
    }

    /// What was decided, by the policies' places and in the order of its being told.
    #[derive(Default)]
    struct Decided(Vec<(u64, Decision)>);

    impl Watcher for Decided {
        fn decided(&mut self, bound: &BoundPolicy, decision: Option<Decision>, _: Option<std::time::Instant>) {
            self.0.extend(decision.map(|decision| (bound.identity, decision)));
        }
    }

    impl Run {
        fn new(configs: &[&str]) -> Self {
            let bound = |(at, config): (usize, &&str)| {
                let (config, shadow) = config.strip_prefix("shadow ").map_or((*config, false), |config| (config, true));
                let node = testing::node(config);
                let policy = compile("test-reads", &node, "config", &mut testing::site(), &mut Vec::new());
                let (name, reference, location) = ("reads".to_owned(), "test-reads".to_owned(), Default::default());
                let (needs, identity) = (policy.needs(), at as u64);
                let (series, rules) = (SeriesId::default(), Vec::new());
                BoundPolicy { name, reference, location, identity, series, policy, needs, shadow, rules }
            };
            let chain: Vec<BoundPolicy> = configs.iter().enumerate().map(bound).collect();
            let instances = Instances::default().chain(&chain, &Core::default());
            let mut trial = Trial::new("POST", "/", &[]).answered(200, &[]);
            (trial.request.body, trial.response.body) = (BodyLength::Chunked, BodyLength::Chunked);
            Self { chain, instances, turns: Turns::default(), trial, decided: Decided::default() }
        }

        /// What comes next: what is wanted, the reason of an answer, or nothing.
        fn request(&mut self) -> Result<(), String> {
            let Self { chain, instances, turns, trial, decided } = self;
            let mut scratch = Scratch::new(0);
            told(
                trial.with(0, |exchange| {
                    chain::run_request(chain, instances, turns, exchange, &mut scratch, None, decided)
                }),
            )
        }

        fn response(&mut self) -> Result<(), String> {
            let Self { chain, instances, turns, trial, decided } = self;
            told(trial.with(0, |exchange| {
                chain::run_response(chain, instances, turns, exchange, &mut None, &|_, _| {}, decided)
            }))
        }

        /// The end; returns what was decided in all.
        fn ends(&mut self) -> Vec<(u64, Decision)> {
            let Self { chain, instances, turns, trial, decided } = self;
            let end = End::default();
            trial.with(0, |exchange| chain::run_log(chain, instances, turns, exchange, &end, decided));
            std::mem::take(&mut decided.0)
        }

        /// What was asked for cannot be read.
        fn unread(&mut self, refused: Option<&LocalResponse>) {
            let Self { chain, instances, turns, decided, .. } = self;
            chain::run_unread(chain, instances, turns, refused, decided);
        }

        /// Reads this ahead.
        fn has(&mut self, side: Side, bytes: &[u8], is_whole: bool) -> &mut Self {
            let body = Body::new(Body::whole(bytes).into_pieces(), is_whole);
            match side {
                Side::Request => self.trial.bodies.request = body,
                Side::Response => self.trial.bodies.response = body,
            }
            self
        }

        /// What passes of a body, in pieces; `Err`: the reason why one does not.
        fn pass(&mut self, side: Side, pieces: &[&[u8]]) -> Result<(), &'static str> {
            let scans = self.turns.scans(side);
            let mut pieces = pieces.iter().enumerate();
            let last = pieces.len() - 1;
            pieces.try_for_each(|(at, bytes)| {
                scans.see(&Piece { side, bytes, is_last: at == last }).map_err(|answer| answer.reason)
            })
        }
    }

    fn told(next: Next) -> Result<(), String> {
        match next {
            Next::Done => Ok(()),
            Next::Respond(answer) => Err(answer.reason.to_owned()),
            Next::Body(wanted) => Err(format!("{wanted:?}")),
            Next::Wait(_) | Next::AskAgain(_) => panic!("nobody answers"),
        }
    }

    /// `name: value` of each.
    fn lines(fields: &Fields) -> String {
        let lines = testing::lines(fields).into_iter().map(|(name, value)| format!("{name}: {value}"));
        lines.collect::<Vec<_>>().join(", ")
    }

    fn wants(wanted: Wanted) -> Result<(), String> {
        Err(format!("{wanted:?}"))
    }

    #[test]
    fn a_body_is_read_when_the_turn_of_who_reads_it_has_come_and_once() {
        let mut run = Run::new(&[
            "{name: a}",
            "{name: b, request: '2'}",
            "{name: c, request: buffer}",
            "{name: d, request: buffer}",
        ]);
        assert_eq!(run.request(), wants(Wanted::First(2)));
        assert_eq!(lines(&run.trial.request.fields), "a: ", "who reads has had no turn yet");
        assert_eq!(run.has(Side::Request, b"xyz", false).request(), wants(Wanted::Whole));
        assert_eq!(run.has(Side::Request, b"xyz.", true).request(), Ok(()));
        assert_eq!(lines(&run.trial.request.fields), "a: , b: xyz, c: xyz., d: xyz.");
    }

    #[test]
    fn a_response_is_read_in_the_reverse_order() {
        let mut run = Run::new(&["{name: a, response: buffer}", "{name: b}", "{name: c, response: '1'}"]);
        run.trial.request.body = BodyLength::None;
        assert_eq!(run.request(), Ok(()));
        assert_eq!(run.response(), wants(Wanted::First(1)));
        assert_eq!(run.has(Side::Response, b"x", false).response(), wants(Wanted::Whole));
        assert_eq!(run.has(Side::Response, b"xy", true).response(), Ok(()));
        assert_eq!(lines(&run.trial.response.fields), "c: x, b: x, a: xy");
    }

    #[test]
    fn a_message_without_a_body_is_neither_read_nor_looked_at() {
        let mut run =
            Run::new(&["{name: a, request: buffer, response: buffer}", "{name: b, request: scan, response: scan}"]);
        (run.trial.request.body, run.trial.response.body) = (BodyLength::None, BodyLength::None);
        assert_eq!((run.request(), run.response()), (Ok(()), Ok(())));
        assert!(run.turns.scans(Side::Request).is_empty() && run.turns.scans(Side::Response).is_empty());
    }

    #[test]
    fn a_websocket_has_no_body() {
        let mut run = Run::new(&["{name: a, request: buffer, response: buffer}"]);
        run.trial.request.websocket = true;
        run.trial.response.status = 101;
        assert_eq!((run.request(), run.response()), (Ok(()), Ok(())));
    }

    #[test]
    fn a_policy_in_shadow_goes_without_a_body_that_is_too_large() {
        let mut run = Run::new(&["shadow {name: a, request: buffer, response: buffer}", "{name: b}"]);
        assert_eq!(run.request(), wants(Wanted::WholeOrNothing));
        assert_eq!(run.has(Side::Request, b"beginning", false).request(), Ok(()));
        assert_eq!(lines(&run.trial.request.fields), "b: beginning");
        assert_eq!(run.response(), Ok(()), "it has had no turn");
    }

    #[test]
    fn pieces_are_seen_as_they_pass_by_all_that_have_had_their_turn() {
        let mut run = Run::new(&["{name: a, request: scan, response: scan}", "{name: b, request: scan, refuses: e}"]);
        assert_eq!(run.request(), Ok(()));
        assert_eq!(run.pass(Side::Request, &[b"abc", b"d", b""]), Ok(()));
        assert_eq!(run.pass(Side::Request, &[b"de"]), Err("refused"));
        assert_eq!(run.response(), Ok(()));
        assert_eq!(lines(&run.trial.response.fields), "b: abcd.de., a: abcd.de.", "what is kept is the exchange's");
        assert_eq!(run.pass(Side::Response, &[b"e"]), Ok(()), "only one of them looks at the response");
    }

    #[test]
    fn who_looks_on_sees_what_was_read_ahead_whichever_comes_first() {
        let mut run =
            Run::new(&["{name: a, request: scan}", "{name: b, request: '3'}", "{name: c, request: scan, refuses: z}"]);
        assert_eq!(run.request(), wants(Wanted::First(3)));
        assert_eq!(run.pass(Side::Request, &[b"abc", b"d"]), Ok(()), "the first one, while it is read");
        assert_eq!(run.has(Side::Request, b"abc", false).request(), Ok(()));
        assert_eq!(run.pass(Side::Request, &[b"d"]), Ok(()));
        assert_eq!(run.response(), Ok(()));
        assert_eq!(lines(&run.trial.response.fields), "c: abcd., b: , a: abcd.d.");

        let mut run = Run::new(&["{name: b, request: buffer}", "{name: c, request: scan, refuses: z}"]);
        assert_eq!(run.request(), wants(Wanted::Whole));
        assert_eq!(run.has(Side::Request, b"xyz", true).request(), Err("refused".to_owned()));
    }

    #[test]
    fn in_shadow_a_refusal_ends_the_scan_and_nothing_else() {
        let mut run = Run::new(&["shadow {name: a, request: scan, refuses: b}", "{name: c, request: scan}"]);
        assert_eq!(run.request(), Ok(()));
        assert_eq!(run.pass(Side::Request, &[b"a", b"b", b"c"]), Ok(()));
        run.turns.scans(Side::Request).clear();
        assert_eq!(run.response(), Ok(()));
        assert_eq!(lines(&run.trial.response.fields), "c: abc.", "a policy in shadow writes nothing");
    }

    #[test]
    fn what_a_scan_decides_is_told_at_the_end_and_in_the_place_of_going_on() {
        use Decision::{Continue, Respond, ShadowDeny};
        let configs =
            ["{name: a, request: scan, refuses: x}", "shadow {name: b, request: scan, refuses: b}", "{name: c}"];
        let mut run = Run::new(&configs);
        assert_eq!(run.request(), Ok(()));
        assert_eq!(run.pass(Side::Request, &[b"ab", b"c"]), Ok(()));
        assert_eq!(run.ends(), [(2, Continue), (1, ShadowDeny("refused")), (0, Continue)]);

        let mut run = Run::new(&configs);
        assert_eq!(run.request(), Ok(()));
        assert_eq!(run.pass(Side::Request, &[b"a", b"x"]), Err("refused"));
        let refusal = |exchange: &mut Exchange<'_>| exchange.refusal().map(|refusal| refusal.status);
        assert_eq!(run.response(), Ok(()));
        let Run { chain, instances, turns, trial, .. } = &mut run;
        let seen = trial.with(0, |exchange| {
            chain::run_log(chain, instances, turns, exchange, &End::default(), &mut chain::Unwatched);
            refusal(exchange)
        });
        assert_eq!(seen, Some(418), "others are told who has refused");

        let mut run = Run::new(&configs);
        assert_eq!((run.request(), run.pass(Side::Request, &[b"x"])), (Ok(()), Err("refused")));
        assert_eq!(run.ends(), [(2, Continue), (1, Continue), (0, Respond("refused"))]);
    }

    #[test]
    fn what_a_scan_decides_of_a_response_comes_behind_what_it_has_decided_of_the_request() {
        use Decision::{Continue, Respond};
        let mut run = Run::new(&["{name: a, request: scan, response: scan, refuses: x}"]);
        assert_eq!((run.request(), run.response()), (Ok(()), Ok(())));
        assert_eq!(run.pass(Side::Request, &[b"a"]), Ok(()));
        assert_eq!(run.pass(Side::Response, &[b"x"]), Err("refused"));
        assert_eq!(run.ends(), [(0, Continue), (0, Respond("refused"))]);
    }

    #[test]
    fn what_was_read_ahead_is_decided_in_the_turn() {
        let mut run = Run::new(&["{name: a, request: buffer}", "{name: b, request: scan, refuses: x}"]);
        assert_eq!(run.request(), wants(Wanted::Whole));
        assert_eq!(run.has(Side::Request, b"x", true).request(), Err("refused".to_owned()));
        assert_eq!(run.ends(), [(0, Decision::Continue), (1, Decision::Respond("refused"))]);
    }

    #[test]
    fn who_cannot_have_a_body_has_no_turn_and_is_told_of_the_end() {
        let large = LocalResponse::error_json(502, "too large", "too_large");
        let mut run = Run::new(&["{name: a}", "{name: b, request: buffer}"]);
        assert_eq!(run.request(), wants(Wanted::Whole));
        run.unread(Some(&large));
        run.unread(None);
        assert_eq!(run.response(), Ok(()));
        assert_eq!(lines(&run.trial.response.fields), "a: ");
        assert!(!run.turns.is_empty());
        assert_eq!(run.ends(), [(0, Decision::Continue), (1, Decision::Fail("too_large"))]);

        let mut run = Run::new(&["{name: a, response: buffer}"]);
        assert_eq!((run.request(), run.response()), (Ok(()), wants(Wanted::Whole)));
        run.unread(Some(&large));
        run.trial.response.body = BodyLength::None;
        assert_eq!(run.response(), Ok(()), "it sees the answer in the response's place");
        assert_eq!(lines(&run.trial.response.fields), "a: ");
        assert_eq!(run.ends(), [(0, Decision::Continue), (0, Decision::Fail("too_large"))]);
    }
}
