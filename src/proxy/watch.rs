//! Watches over an exchange that waits: time without progress, and a client that has left.
//!
//! Whatever moves bytes only notes that it did; once a second the watch looks at the note and at the client. So the many
//! waits of an exchange share one deadline, and no wait costs more than a store.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use super::{listener::OpenListener, wire::Outgoing};
use crate::net::deadline::{Deadline, Expired};

/// How often a waiting exchange looks whether its client is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Whom the exchange waits for: decides the answer when it takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The client's body.
    ClientBody,
    /// The client does not take what is sent.
    ClientWindow,
    /// The upstream's answer, after the whole request was sent.
    Response,
    /// The same, where the stream's idle time-out comes first.
    ResponseIdle,
    /// The upstream does not take what is sent, or sends no more of its body.
    Upstream,
    /// The upstream sends no more of a body that a policy wants before the client is told anything.
    ReadAhead,
    /// Either side of a tunnel, both of which are being read from.
    Tunnel,
    /// What a policy waits for, within the time that a gRPC client gives its call.
    Policy,
}

pub struct Watch<'a> {
    deadline: &'a Deadline,
    client: &'a Outgoing,
    listener: &'a OpenListener,
    /// No progress for this long ends the wait.
    limit: Cell<Option<Duration>>,
    waiting: Cell<Waiting>,
    /// Since the last look.
    progress: Cell<bool>,
}

/// Why a wait was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    TimedOut(Waiting),
    ClientGone,
    /// The listener was removed, or the process ends, and its connections had their time to finish.
    Drained,
}

impl<'a> Watch<'a> {
    pub fn new(deadline: &'a Deadline, client: &'a Outgoing, listener: &'a OpenListener) -> Self {
        Self {
            deadline,
            client,
            listener,
            limit: Cell::new(None),
            waiting: Cell::new(Waiting::Upstream),
            progress: Cell::new(false),
        }
    }

    /// From now on this is waited for, this long.
    pub fn wait_for(&self, waiting: Waiting, limit: Option<Duration>) {
        self.waiting.set(waiting);
        self.limit.set(limit);
        self.progress();
    }

    pub fn waits_for(&self, whom: Waiting) -> bool {
        self.waiting.get() == whom
    }

    /// Bytes moved.
    pub fn progress(&self) {
        self.progress.set(true);
    }

    /// Runs `future` until it is done, nothing moves for too long, or the client leaves.
    pub async fn over<F: Future>(&self, future: F) -> Result<F::Output, Stalled> {
        let mut future = pin!(future);
        self.progress.set(false);
        let mut idle_since = None::<Instant>;
        loop {
            let left = match (self.limit.get(), idle_since) {
                (Some(limit), Some(since)) => Some(limit.saturating_sub(since.elapsed())),
                (limit, _) => limit,
            };
            let slice = left.map_or(LOOK, |left| left.min(LOOK));
            let mut waits = false;
            // An HTTP/2 client that gives up does so with a frame: its upstream need not work for another second.
            let either = poll_fn(|context| match future.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Ok(output)),
                Poll::Pending => {
                    // Much is done at once, and needs no deadline.
                    if !std::mem::replace(&mut waits, true) {
                        self.deadline.set(Some(slice));
                    }
                    self.client.poll_gone(context).map(|()| Err(Stalled::ClientGone))
                }
            });
            match self.deadline.guard(pin!(either)).await {
                Ok(done) => return done,
                Err(Expired) => {
                    if self.is_drained() {
                        return Err(Stalled::Drained);
                    }
                    if self.progress.replace(false) {
                        idle_since = None;
                    } else {
                        idle_since.get_or_insert_with(|| Instant::now() - slice);
                    }
                    if let (Some(limit), Some(since)) = (self.limit.get(), idle_since)
                        && since.elapsed() >= limit
                    {
                        return Err(Stalled::TimedOut(self.waiting.get()));
                    }
                    self.look()?;
                }
            }
        }
    }

    /// The time to drain is over, of the listener or of the process.
    fn is_drained(&self) -> bool {
        self.listener.is_overdue() || self.deadline.is_core_over()
    }

    /// Whether anybody is there for whom to wait.
    pub fn look(&self) -> Result<(), Stalled> {
        if self.is_drained() {
            return Err(Stalled::Drained);
        }
        // One that has ended its side before anything was answered is taken for gone; later it may be reading.
        let is_gone = match self.waiting.get() {
            Waiting::Response | Waiting::ResponseIdle | Waiting::ReadAhead => self.client.is_gone(true),
            // Its body may lie unread for as long as the policy waits, in front of its end.
            Waiting::Policy => self.client.has_hung_up(),
            _ => self.client.is_gone(false),
        };
        if is_gone { Err(Stalled::ClientGone) } else { Ok(()) }
    }
}

/// A limit of `None` is none.
pub fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}
