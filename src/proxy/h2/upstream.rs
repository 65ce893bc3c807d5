//! An HTTP/2 connection to an upstream: shared by the exchanges of its core, as many as the upstream allows at a time.

use std::{future::poll_fn, rc::Rc, time::Instant};

use super::{Link, Owned};
use crate::{
    http::{
        h2::{self, Connection, Event, HeaderMemory, Limits, Refused},
        head::Fields,
    },
    net::{Stream, task},
};

/// Begins to speak HTTP/2. The connection's task lives until the upstream closes, or until the link is told to leave and
/// its last stream is done; then `on_end` runs.
pub fn start(
    mut stream: Stream,
    limits: &Limits,
    memory: &HeaderMemory,
    on_end: impl FnOnce(&Rc<Link>) + 'static,
) -> Rc<Link> {
    let link = Link::new(Connection::client(limits, memory, Instant::now()), Some(limits.stall_timeout));
    let driven = link.clone();
    task::spawn(async move {
        let on = |event| match event {
            Event::GoAway { .. } => driven.leave(),
            Event::Settings => driven.settle(),
            _ => {}
        };
        driven.drive(&mut stream.receiver, &stream.sender, &on).await;
        on_end(&driven);
    });
    link
}

impl Link {
    /// Whether another request may be sent now.
    pub fn may_ask(&self) -> bool {
        !self.is_leaving() && self.protocol.borrow().may_open()
    }

    /// Sends a request's head, and gives its stream to the caller.
    pub fn ask(self: &Rc<Self>, request: &h2::Outgoing<'_>, fields: &Fields, end: bool) -> Result<Owned, Refused> {
        let id = self.protocol.borrow_mut().send_request(request, fields.iter(), end)?;
        let owned = self.own(id);
        if end {
            owned.stream.has_sent_all();
        }
        self.wake_writer();
        Ok(owned)
    }

    /// Whether it is known to take WebSockets (RFC 8441).
    pub fn takes_websockets(&self) -> bool {
        self.protocol.borrow().peer_takes_extended_connect()
    }

    /// Waits for the upstream's settings, which say what it takes; false where the connection ends before them.
    pub async fn settled(&self) -> bool {
        poll_fn(|context| self.poll_settled(context)).await
    }
}
