//! The way from the cores to the management thread: what it carries, and that nobody who asks goes without an answer.

use tokio::sync::mpsc;

use super::{Answer, Call, LogIn, Verdict};
use crate::telemetry::fault::Fault;

/// The end that receives.
pub type Queue = mpsc::Receiver<Work>;

/// What the management thread is to do. Another kind of question is another line here, with an `ask` of its own in
/// [`Calls`](super::Calls) and an arm in `management::calls`.
pub enum Work {
    Http(Call, Done<Answer>),
    LogIn(LogIn, Done<Verdict>),
}

impl Work {
    pub(super) fn fail(self, fault: Fault) {
        match self {
            Self::Http(_, done) => done.run(Err(fault)),
            Self::LogIn(_, done) => done.run(Err(fault)),
        }
    }
}

type Run<T> = Box<dyn FnOnce(Result<T, Fault>) + Send>;

/// What becomes of an answer. To drop it is to answer with a fault.
pub struct Done<T>(Option<Run<T>>);

impl<T> Done<T> {
    pub fn new(done: impl FnOnce(Result<T, Fault>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    pub fn run(mut self, answer: Result<T, Fault>) {
        if let Some(done) = self.0.take() {
            done(answer);
        }
    }
}

impl<T> Drop for Done<T> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(Fault::new("ended", "whoever was to ask has ended")));
        }
    }
}
