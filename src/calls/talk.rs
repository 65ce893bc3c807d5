//! What a policy says to somebody for one exchange, message by message, and what it hears: one stream of gRPC, which both
//! directions of the exchange share.
//!
//! Here stands what the two ends know together. The policy says a message and waits for the next one of its direction; a task
//! of the core's own speaks, for as long as the policy keeps its end. A message that nobody waits for ends it all.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    ops::Deref,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::Server;
use crate::telemetry::fault::Fault;

/// Why a conversation ends, where the policies' own reasons have no word for it.
pub const TIMEOUT: &str = "timeout";

/// Which of the two directions of an exchange says something, and hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    Request,
    Response,
}

/// What a message that comes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The reply to this direction.
    Reply(Speaker),
    /// The last word, to whoever asks.
    Last,
    /// No reply yet: so much more time is wanted for it.
    MoreTime(Duration),
}

/// Reads what somebody has written down as its messages, for `explain`.
pub type Told = fn(&[u8]) -> Result<Vec<Vec<u8>>, String>;

/// What both ends know.
pub struct Talk {
    pub server: Arc<Server>,
    /// The method's path.
    pub target: &'static str,
    /// What a message is, where it is one.
    pub sort: fn(&[u8]) -> Result<Sort, Fault>,
    /// What messages are that somebody has written down, in their order, for `explain`.
    pub told: Told,
    /// The most time that is given where more is wanted; none where it is zero.
    pub more_time_max: Duration,
    begun: Cell<bool>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// On their way, framed.
    unsent: VecDeque<Vec<u8>>,
    /// What was sent before anything of an answer has come, in case nobody has looked at it.
    sent: Vec<Vec<u8>>,
    answered: bool,
    sides: [Side; 2],
    end: Option<End>,
    /// The policy has let go of its end.
    left: bool,
    /// The exchange's task, and the one that speaks.
    listener: Option<Waker>,
    speaker: Option<Waker>,
}

#[derive(Default)]
enum Side {
    #[default]
    Silent,
    Waits {
        until: Instant,
        had_more: bool,
    },
    Heard(Vec<u8>),
}

enum End {
    /// The server has ended its stream well.
    Closed,
    Last(Vec<u8>),
    Failed(Fault),
}

/// What a wait ends with.
#[derive(Debug)]
pub enum Heard {
    Message(Vec<u8>),
    /// The server has ended its stream well: it has nothing to say to the rest.
    Closed,
}

/// What is sent next.
pub enum Next {
    Message(Vec<u8>),
    /// Nothing, ever.
    Over,
}

impl Talk {
    /// Nothing is sent before the first message.
    pub fn new(
        server: Arc<Server>,
        target: &'static str,
        sort: fn(&[u8]) -> Result<Sort, Fault>,
        told: Told,
        more_time_max: Duration,
    ) -> Self {
        Self { server, target, sort, told, more_time_max, begun: Cell::new(false), state: RefCell::default() }
    }

    /// Says a message, framed, whose reply has to come in time. One direction has one at a time.
    pub fn say(self: &Rc<Self>, speaker: Speaker, message: Vec<u8>, time_max: Duration) -> Hear {
        let mut state = self.state.borrow_mut();
        state.unsent.push_back(message);
        state.sides[speaker as usize] = Side::Waits { until: Instant::now() + time_max, had_more: false };
        state.wake_speaker();
        Hear { talk: self.clone(), speaker }
    }

    /// Whether it is the first who asks that has to begin it.
    pub fn begins(&self) -> bool {
        !self.begun.replace(true)
    }

    /// What was heard, once it is there; `None`: there is more time for it than before.
    fn poll_heard(&self, speaker: Speaker, context: &mut Context<'_>) -> Poll<Option<Result<Heard, Fault>>> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let side = &mut state.sides[speaker as usize];
        if let Side::Heard(_) = side
            && let Side::Heard(message) = std::mem::take(side)
        {
            return Poll::Ready(Some(Ok(Heard::Message(message))));
        }
        if let Some(end) = &state.end {
            *side = Side::Silent;
            return Poll::Ready(Some(match end {
                End::Closed => Ok(Heard::Closed),
                End::Last(message) => Ok(Heard::Message(message.clone())),
                End::Failed(fault) => Err(fault.clone()),
            }));
        }
        if !state.listener.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.listener = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn until(&self, speaker: Speaker) -> Option<Instant> {
        match self.state.borrow().sides[speaker as usize] {
            Side::Waits { until, .. } => Some(until),
            Side::Silent | Side::Heard(_) => None,
        }
    }

    /// The last word that was said without being asked for, or that it has failed.
    pub fn is_over(&self) -> bool {
        self.state.borrow().end.is_some()
    }

    /// The message to send next, for the task that speaks.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state.borrow_mut();
        if let Some(message) = state.unsent.pop_front() {
            if !state.answered {
                state.sent.push(message.clone());
            }
            return Poll::Ready(Next::Message(message));
        }
        if state.left {
            return Poll::Ready(Next::Over);
        }
        state.wait_to_speak(context);
        Poll::Pending
    }

    /// Ready when there is nobody to speak for any more, in the middle of something.
    pub fn poll_given_up(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        let is_failed = matches!(state.end, Some(End::Failed(_)));
        let waits = state.sides.iter().any(|side| matches!(side, Side::Waits { .. }));
        if is_failed || state.left && waits {
            return Poll::Ready(());
        }
        state.wait_to_speak(context);
        Poll::Pending
    }

    /// What was sent is sent again: nobody has looked at it.
    pub fn say_again(&self) {
        let mut state = self.state.borrow_mut();
        let State { unsent, sent, .. } = &mut *state;
        sent.drain(..).rev().for_each(|message| unsent.push_front(message));
    }

    /// The server has begun to answer: nothing is sent again.
    pub fn answers(&self) {
        let mut state = self.state.borrow_mut();
        state.answered = true;
        state.sent = Vec::new();
    }

    /// Takes a message of the server's.
    ///
    /// # Errors
    /// Nobody has waited for it, or it is none.
    pub fn take(&self, message: Vec<u8>) -> Result<(), Fault> {
        let sort = (self.sort)(&message)?;
        let mut state = self.state.borrow_mut();
        if state.end.is_some() {
            return Ok(());
        }
        match sort {
            Sort::Reply(speaker) => {
                let side = &mut state.sides[speaker as usize];
                if !matches!(side, Side::Waits { .. }) {
                    let text = format!("a reply that the {speaker:?} has not waited for");
                    return Err(Fault::new(super::direct::MALFORMED_ANSWER, text));
                }
                *side = Side::Heard(message);
            }
            Sort::Last => state.end = Some(End::Last(message)),
            Sort::MoreTime(time) => {
                if time < Duration::from_millis(1) || time > self.more_time_max {
                    return Ok(());
                }
                for side in &mut state.sides {
                    if let Side::Waits { until, had_more: had_more @ false } = side {
                        (*until, *had_more) = (Instant::now() + time, true);
                    }
                }
            }
        }
        state.wake_listener();
        Ok(())
    }

    /// The server says no more.
    pub fn end(&self, how: Result<(), Fault>) {
        let mut state = self.state.borrow_mut();
        if state.end.is_none() {
            state.end = Some(how.map_or_else(End::Failed, |()| End::Closed));
        }
        state.unsent.clear();
        state.sent.clear();
        state.wake_listener();
    }

    /// Why nobody waits any longer.
    pub fn fault(&self) -> Option<Fault> {
        match &self.state.borrow().end {
            Some(End::Failed(fault)) => Some(fault.clone()),
            _ => None,
        }
    }

    fn leave(&self) {
        let mut state = self.state.borrow_mut();
        state.left = true;
        state.listener = None;
        state.wake_speaker();
    }

    /// Nothing of use has come: it is given up.
    pub fn fail(&self, fault: &Fault) {
        let mut state = self.state.borrow_mut();
        state.end.get_or_insert_with(|| End::Failed(fault.clone()));
        state.wake_speaker();
        state.wake_listener();
    }
}

impl State {
    fn wake_speaker(&mut self) {
        if let Some(waker) = self.speaker.take() {
            waker.wake();
        }
    }

    fn wake_listener(&mut self) {
        if let Some(waker) = self.listener.take() {
            waker.wake();
        }
    }

    fn wait_to_speak(&mut self, context: &Context<'_>) {
        if !self.speaker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.speaker = Some(context.waker().clone());
        }
    }
}

/// One wait for the next message.
#[derive(Clone)]
pub struct Hear {
    pub talk: Rc<Talk>,
    pub speaker: Speaker,
}

impl Hear {
    /// Until when the reply has to come; `None`: it is there.
    pub fn until(&self) -> Option<Instant> {
        self.talk.until(self.speaker)
    }

    /// What was heard, once it is there; `None`: [`Hear::until`] is later than it was.
    pub fn poll(&self, until: Option<Instant>, context: &mut Context<'_>) -> Poll<Option<Result<Heard, Fault>>> {
        match self.talk.poll_heard(self.speaker, context) {
            Poll::Pending if self.until() != until => Poll::Ready(None),
            other => other,
        }
    }

    /// What is heard where somebody tells what the server would say; `None`: this message is no reply yet.
    pub fn told(&self, message: Vec<u8>) -> Option<Result<Heard, Fault>> {
        if let Err(fault) = self.talk.take(message) {
            return Some(Err(fault));
        }
        match self.talk.poll_heard(self.speaker, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(heard) => heard,
            Poll::Pending => None,
        }
    }

    /// It has not come in time: nobody waits for anything any more.
    pub fn is_late(&self) -> Fault {
        let fault = Fault::new(TIMEOUT, "there is no reply in its time");
        self.talk.fail(&fault);
        fault
    }
}

impl fmt::Display for Hear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.talk.server.origin(), self.talk.target)
    }
}

impl fmt::Debug for Hear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hear({self}, {:?})", self.speaker)
    }
}

/// The policy's end: dropped, the stream is ended, or given up where something is still waited for.
pub struct Talking(Rc<Talk>);

impl Talking {
    pub fn new(talk: Talk) -> Self {
        Self(Rc::new(talk))
    }
}

impl Deref for Talking {
    type Target = Rc<Talk>;

    fn deref(&self) -> &Rc<Talk> {
        &self.0
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::{calls::Destination, document::address::WebAddress};

    const MINUTE: Duration = Duration::from_secs(60);

    /// By the first byte: a reply, the last word, or how many milliseconds more are wanted.
    fn sort(message: &[u8]) -> Result<Sort, Fault> {
        match message {
            [b'q', ..] => Ok(Sort::Reply(Speaker::Request)),
            [b's', ..] => Ok(Sort::Reply(Speaker::Response)),
            [b'l', ..] => Ok(Sort::Last),
            [b't', more] => Ok(Sort::MoreTime(Duration::from_millis((*more).into()))),
            _ => Err(Fault::new("odd", "odd")),
        }
    }

    fn talk() -> Talking {
        let address = WebAddress::parse("http://processor.test:9000").expect("an address");
        let server = Server::new("test", Arc::new(Destination::new(address, &Arc::default())), true);
        let told = |_: &[u8]| Ok(Vec::new());
        Talking::new(Talk::new(Arc::new(server), "/a/B", sort, told, Duration::from_millis(100)))
    }

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn heard(hear: &Hear) -> Option<Result<Vec<u8>, &'static str>> {
        match hear.poll(hear.until(), &mut context()) {
            Poll::Ready(Some(Ok(Heard::Message(message)))) => Some(Ok(message)),
            Poll::Ready(Some(Ok(Heard::Closed))) => Some(Err("closed")),
            Poll::Ready(Some(Err(fault))) => Some(Err(fault.reason)),
            Poll::Ready(None) | Poll::Pending => None,
        }
    }

    fn next(talk: &Talk) -> Option<Vec<u8>> {
        match talk.poll_next(&mut context()) {
            Poll::Ready(Next::Message(message)) => Some(message),
            Poll::Ready(Next::Over) | Poll::Pending => None,
        }
    }

    #[test]
    fn replies_come_to_the_direction_that_waits_for_them() {
        let talk = talk();
        assert!(talk.begins() && !talk.begins());
        let request = talk.say(Speaker::Request, b"1".into(), MINUTE);
        let response = talk.say(Speaker::Response, b"2".into(), MINUTE);
        assert_eq!([next(&talk), next(&talk), next(&talk)], [Some(b"1".into()), Some(b"2".into()), None]);
        assert_eq!((heard(&request), heard(&response)), (None, None));
        talk.take(b"s1".into()).expect("it is waited for");
        assert_eq!((heard(&request), heard(&response)), (None, Some(Ok(b"s1".into()))));
        talk.take(b"q1".into()).expect("it is waited for");
        assert_eq!(heard(&request), Some(Ok(b"q1".into())));
        assert_eq!(talk.take(b"q2".into()).expect_err("nobody waits").reason, "malformed_answer");
        assert_eq!(talk.take(b"?".into()).expect_err("no message").reason, "odd");
    }

    #[test]
    fn the_last_word_is_for_both() {
        let talk = talk();
        let request = talk.say(Speaker::Request, b"1".into(), MINUTE);
        talk.take(b"l".into()).expect("it may always come");
        talk.end(Ok(()));
        assert_eq!(heard(&request), Some(Ok(b"l".into())));
        assert_eq!(heard(&talk.say(Speaker::Response, b"2".into(), MINUTE)), Some(Ok(b"l".into())));
    }

    #[test]
    fn whoever_waits_learns_of_the_end() {
        for (how, expected) in [(Ok(()), "closed"), (Err(Fault::new("reset", "")), "reset")] {
            let talk = talk();
            let request = talk.say(Speaker::Request, b"1".into(), MINUTE);
            talk.end(how);
            assert_eq!(heard(&request), Some(Err(expected)));
            assert!(talk.is_over());
        }
    }

    #[test]
    fn more_time_is_given_once_for_each_message_and_within_bounds() {
        let talk = talk();
        let request = talk.say(Speaker::Request, b"1".into(), MINUTE);
        let first = request.until();
        for refused in [101, 0] {
            talk.take(vec![b't', refused]).expect("it changes nothing");
            assert_eq!(request.until(), first);
        }
        talk.take(vec![b't', 100]).expect("it is allowed");
        let second = request.until();
        assert!(second < first, "another time, not a longer one");
        assert!(matches!(request.poll(first, &mut context()), Poll::Ready(None)));
        talk.take(vec![b't', 90]).expect("it changes nothing");
        assert_eq!(request.until(), second);
    }

    #[test]
    fn what_nobody_has_looked_at_is_said_again() {
        let talk = talk();
        let _request = talk.say(Speaker::Request, b"1".into(), MINUTE);
        let _response = talk.say(Speaker::Response, b"2".into(), MINUTE);
        assert_eq!(next(&talk), Some(b"1".into()));
        talk.say_again();
        assert_eq!([next(&talk), next(&talk)], [Some(b"1".into()), Some(b"2".into())]);
        talk.answers();
        talk.say_again();
        assert_eq!(next(&talk), None);
    }

    #[test]
    fn one_that_is_left_ends_well_unless_somebody_waits() {
        let given_up = |talk: &Talk| talk.poll_given_up(&mut context()).is_ready();
        let over = |talk: &Talk| matches!(talk.poll_next(&mut context()), Poll::Ready(Next::Over));
        let talking = talk();
        let talk = talking.clone();
        let request = talk.say(Speaker::Request, b"1".into(), MINUTE);
        assert!(next(&talk).is_some() && !given_up(&talk));
        talk.take(b"q".into()).expect("it is waited for");
        assert!(heard(&request).is_some() && !over(&talk));
        drop(talking);
        assert!(over(&talk) && !given_up(&talk));

        let talking = super::tests::talk();
        let talk = talking.clone();
        let _request = talk.say(Speaker::Request, b"1".into(), MINUTE);
        drop(talking);
        assert!(given_up(&talk));
    }
}
