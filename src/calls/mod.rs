//! What policies ask of others outside: the cores' end. Who calls is the management thread, once for a whole replica; what is
//! asked for each request anew a core asks itself ([`Direct`]).
//!
//! A core never waits for a call of the management thread: it puts it into a bounded queue, and what is to be done with the
//! answer goes along. That runs on the management thread, exactly once, also where there is no answer.

mod destination;
pub mod direct;
mod directory;
pub mod flights;
mod known;
mod queue;
mod renewed;
pub mod talk;

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::mpsc;

pub use self::{
    destination::{Destination, ForwardProxy, Ways, is_private},
    direct::{Direct, Server, Whole},
    directory::{Directory, LogIn, Security, Verdict},
    flights::{Flights, Lead, Look, Stands, Waits, Wake},
    known::{Key, Known},
    queue::{Done, Queue, Work},
    renewed::{Held, Lifetime, Renewed},
    talk::{Hear, Heard, Talk, Talking},
};
use crate::{http::head::Fields, telemetry::fault::Fault};

/// What may wait for the management thread.
const QUEUE_MAX: usize = 1024;

/// One request over HTTP, and what it may cost.
pub struct Call {
    pub destination: Arc<Destination>,
    /// The policy by the name that its table has for it: a metric's label.
    pub policy: &'static str,
    /// The binding that it is called for; for people.
    pub binding: String,
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Besides `host`, `content-length` and what belongs to the connection.
    pub headers: Fields,
    pub body: Vec<u8>,
    /// Of everything together: waiting for its turn, connecting and the whole answer.
    pub time_max: Duration,
    pub answer_bytes_max: usize,
    /// Asking twice is no harm: it may be sent again over another connection.
    pub idempotent: bool,
}

/// An answer of any status; nobody follows a redirect.
pub struct Answer {
    pub status: u16,
    pub headers: Fields,
    pub body: Vec<u8>,
}

/// One for each replica. It outlives configurations.
pub struct Calls(Ends);

enum Ends {
    Queue(mpsc::Sender<Work>),
    /// Nothing is sent: somebody else knows the answers.
    Told(Box<Teller<Call, Answer>>, Box<Teller<LogIn, Verdict>>),
}

type Teller<Q, A> = dyn Fn(&Q) -> Result<A, Fault> + Send + Sync;

impl Calls {
    /// The queue is for whoever makes the calls.
    pub fn new() -> (Arc<Self>, Queue) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        (Arc::new(Self(Ends::Queue(sender))), queue)
    }

    /// Where nothing is sent: the answers come from `tell`, at once. Directories are not there.
    pub fn told(tell: impl Fn(&Call) -> Result<Answer, Fault> + Send + Sync + 'static) -> Arc<Self> {
        Self::told_with(tell, |_| Err(Fault::new("not_asked", "there is no directory")))
    }

    /// As [`Calls::told`], and `log_in` tells what directories say.
    pub fn told_with(
        tell: impl Fn(&Call) -> Result<Answer, Fault> + Send + Sync + 'static,
        log_in: impl Fn(&LogIn) -> Result<Verdict, Fault> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self(Ends::Told(Box::new(tell), Box::new(log_in))))
    }

    /// `done` runs exactly once, on the management thread; at once where the queue is full.
    pub fn ask(&self, call: Call, done: impl FnOnce(Result<Answer, Fault>) + Send + 'static) {
        let done = Done::new(done);
        match &self.0 {
            Ends::Queue(_) => self.put(Work::Http(call, done)),
            Ends::Told(tell, _) => done.run(tell(&call)),
        }
    }

    /// As [`Calls::ask`], of a directory.
    pub fn log_in(&self, log_in: LogIn, done: impl FnOnce(Result<Verdict, Fault>) + Send + 'static) {
        let done = Done::new(done);
        match &self.0 {
            Ends::Queue(_) => self.put(Work::LogIn(log_in, done)),
            Ends::Told(_, tell) => done.run(tell(&log_in)),
        }
    }

    /// Work of any kind, on its way to the management thread. Where there is no room its `done` runs, with a fault.
    fn put(&self, work: Work) {
        let Ends::Queue(sender) = &self.0 else { return };
        if let Err(mpsc::error::TrySendError::Full(work)) = sender.try_send(work) {
            work.fail(Fault::new("full", "too many calls wait for their turn"));
        }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Calls")
    }
}

/// Without its query, headers and body: there are credentials in them.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{} {}{path}", self.method, self.destination.origin())
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({self})")
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// A metric's label: what became of a call, which was answered with a status, or not.
pub fn outcome(answered: Result<u16, &Fault>) -> &'static str {
    match answered {
        Err(fault) => fault.reason,
        Ok(0..200) => "1xx",
        Ok(200..300) => "2xx",
        Ok(300..400) => "3xx",
        Ok(400..500) => "4xx",
        Ok(_) => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use super::*;
    use crate::document::address::WebAddress;

    fn call() -> Call {
        let address = WebAddress::parse("https://user.test/token?key=hunter2").expect("an address");
        let target = address.target.clone();
        Call {
            destination: Arc::new(Destination::new(address, &Arc::default())),
            policy: "test",
            binding: String::new(),
            method: "POST",
            target,
            headers: Fields::default(),
            body: b"client_secret=hunter2".to_vec(),
            time_max: Duration::from_secs(1),
            answer_bytes_max: 1,
            idempotent: false,
        }
    }

    #[test]
    fn whoever_asks_is_told_exactly_once() {
        let (calls, mut queue) = Calls::new();
        let (tell, told) = std_mpsc::channel();
        let ask = || {
            let tell = tell.clone();
            calls.ask(call(), move |answer| tell.send(answer.map(|answer| answer.status)).expect("the test listens"));
        };
        (0..QUEUE_MAX).for_each(|_| ask());
        assert!(told.try_recv().is_err());
        ask();
        assert_eq!(told.try_recv().expect("at once").expect_err("no room").reason, "full");
        let Ok(Work::Http(_, done)) = queue.try_recv() else { panic!("the first is a call") };
        done.run(Ok(Answer { status: 204, headers: Fields::default(), body: Vec::new() }));
        assert_eq!(told.try_recv().expect("told"), Ok(204));
        drop(queue);
        assert_eq!(told.try_iter().filter(|told| told.as_ref().is_err_and(|f| f.reason == "ended")).count(), 1023);
        ask();
        assert_eq!(told.try_recv().expect("at once").expect_err("nobody is there").reason, "ended");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let call = call();
        assert_eq!(format!("{call} {call:?}"), "POST https://user.test/token Call(POST https://user.test/token)");
    }
}
