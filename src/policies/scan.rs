//! The policies that look at a body while it passes, taken out of the chains: both bodies of an exchange may move at once.

use std::{cell::RefCell, rc::Rc};

use super::{Body, Exchange, Flow, Instance, Kept, LocalResponse, Need, Needs, Piece, Side, chain::BoundPolicy};

/// Those that look at one body, in the order of the chains on its way.
#[derive(Default)]
pub struct Scans(Vec<Scan>);

/// What a policy keeps of the exchange: shared with the scans of its bodies, where it has any.
pub enum Keeps {
    Alone(Kept),
    Shared(Rc<RefCell<Kept>>),
}

impl Keeps {
    pub fn begin(instance: &Instance, needs: Needs) -> Self {
        let kept = instance.begin();
        match needs.request == Need::Scan || needs.response == Need::Scan {
            true => Self::Shared(Rc::new(RefCell::new(kept))),
            false => Self::Alone(kept),
        }
    }

    pub fn with<R>(&mut self, run: impl FnOnce(&mut Kept) -> R) -> R {
        match self {
            Self::Alone(kept) => run(kept),
            Self::Shared(kept) => run(&mut kept.borrow_mut()),
        }
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
            (Self::Shared(kept), Flow::Continue) if bound.needs.of(side) == Need::Scan && exchange.has_body(side) => {
                let mut scan = Scan::new(instance.clone(), kept.clone(), bound.shadow);
                let seen = exchange.body(side).map_or(Ok(()), |body| scan.see_ahead(side, body));
                scans.push(scan);
                seen.map_or_else(Flow::Respond, |()| flow)
            }
            _ => flow,
        }
    }
}

/// One policy that has run for the request, and shares what it keeps of the exchange with its turns.
pub struct Scan {
    instance: Rc<Instance>,
    kept: Rc<RefCell<Kept>>,
    shadow: bool,
    /// In shadow, a refusal ends the scan and nothing else.
    is_over: bool,
}

impl Scan {
    pub fn new(instance: Rc<Instance>, kept: Rc<RefCell<Kept>>, shadow: bool) -> Self {
        Self { instance, kept, shadow, is_over: false }
    }

    /// Shows what was read ahead of the body.
    pub fn see_ahead(&mut self, side: Side, body: &Body) -> Result<(), Rc<LocalResponse>> {
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
        match self.instance.on_body(&mut self.kept.borrow_mut(), piece) {
            Flow::Continue => Ok(()),
            Flow::Respond(_) | Flow::Wait(_) if self.shadow => {
                self.is_over = true;
                Ok(())
            }
            Flow::Respond(answer) => Err(answer),
            // Nothing can be waited for here, and what was not looked at does not pass.
            Flow::Wait(_) => Err(LocalResponse::failed_policy().into()),
        }
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
            Core, Wanted,
            chain::{self, BoundPolicy, Instances, Next, Turns, Unwatched},
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
            Self { chain, instances, turns: Turns::default(), trial }
        }

        /// What comes next: what is wanted, the reason of an answer, or nothing.
        fn request(&mut self) -> Result<(), String> {
            let Self { chain, instances, turns, trial } = self;
            let mut scratch = Scratch::new(0);
            told(trial.with(0, |exchange| {
                chain::run_request(chain, instances, turns, exchange, &mut scratch, None, &mut Unwatched)
            }))
        }

        fn response(&mut self) -> Result<(), String> {
            let Self { chain, instances, turns, trial } = self;
            told(trial.with(0, |exchange| {
                chain::run_response(chain, instances, turns, exchange, &mut None, &|_, _| {}, &mut Unwatched)
            }))
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
            Next::Wait(question) => panic!("nobody answers {question:?}"),
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
}
