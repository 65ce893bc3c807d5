//! A connection in an exchange's hands, or a place on one that many share.

use std::rc::{Rc, Weak};

use super::{Backend, Idle, Upstream};
use crate::{
    net::{Sender, Stream, proxy_protocol::Addresses},
    proxy::{
        h2::{self, Link},
        wire::Wire,
    },
};

/// A connection in use, or a place on one. Dropping it closes the connection, or resets the stream; [`Lease::give_back`]
/// keeps it.
pub struct Lease {
    pub(super) held: Option<Held>,
    pub backend: Rc<Backend>,
    pub(super) upstream: Rc<Upstream>,
    /// It had carried a request before.
    pub reused: bool,
    pub(super) owner: Option<Weak<Addresses>>,
}

pub(super) enum Held {
    Http1(Stream),
    /// The stream, once the request was asked.
    Http2(Rc<Link>, Option<h2::Owned>),
}

/// What a request is asked with.
pub enum Carrier {
    Http1(Sender),
    Http2(Rc<Link>),
}

impl Lease {
    /// What to ask with.
    pub fn carrier(&self) -> Carrier {
        match self.held.as_ref().expect(HELD) {
            Held::Http1(stream) => Carrier::Http1(stream.sender.clone()),
            Held::Http2(link, _) => Carrier::Http2(link.clone()),
        }
    }

    /// Takes the stream of the request that was asked.
    pub fn hold(&mut self, asked: h2::Owned) {
        if let Some(Held::Http2(_, owned)) = &mut self.held {
            *owned = Some(asked);
        }
    }

    /// The upstream's side of the exchange, once the request was asked.
    pub fn wire(&mut self) -> Wire<'_> {
        match self.held.as_mut().expect(HELD) {
            Held::Http1(stream) => Wire::Http1(stream),
            Held::Http2(_, owned) => Wire::Http2(&owned.as_ref().expect("the request was asked").stream),
        }
    }

    /// Keeps the connection for the next request, whose answer may bring `room` bytes at once. Only when both directions
    /// ended cleanly.
    pub fn give_back(mut self, doubtful: bool, room: usize) {
        if let Some(Held::Http1(_)) = &self.held
            && let Some(Held::Http1(mut stream)) = self.held.take()
        {
            stream.receiver.want(room);
            stream.receiver.listen_in();
            let owner = self.owner.take();
            self.upstream.keep(&self.backend, Idle { stream, owner, doubtful, sweeps: 0 });
        }
    }
}

const HELD: &str = "only giving it back takes the connection, and consumes the lease";

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.active.set(self.backend.active.get() - 1);
        self.upstream.requests.set(self.upstream.requests.get() - 1);
        match self.held.take() {
            Some(Held::Http1(_)) => self.upstream.closed(),
            // Its place is free for the next.
            Some(Held::Http2(link, stream)) => {
                drop(stream);
                link.leave_if_unused();
                self.upstream.call_next();
            }
            None => {}
        }
    }
}
