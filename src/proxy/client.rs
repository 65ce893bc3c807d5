//! Where an exchange came from, whichever protocol brought it.

use std::{net::SocketAddr, rc::Rc};

use super::{
    core::{Core, Counted, Drain, Serving},
    handshake::Secured,
    listener::OpenListener,
    tenure::Tenure,
    wire::Wire,
};
use crate::{
    http::target::Scheme,
    net::{deadline::Deadline, proxy_protocol::Addresses},
    policies::Peer,
    tls::Identity,
};

/// A client as the steps of an exchange see it: of an HTTP/1.1 connection, or of one stream of HTTP/2.
pub struct Client {
    pub core: Rc<Core>,
    pub listener: Rc<OpenListener>,
    /// The socket's other end, or whom that speaks for.
    pub peer: SocketAddr,
    /// Of the connection, with all its streams.
    pub tenure: Rc<Tenure>,
    pub deadline: Deadline,
    /// What was agreed on where the port is served with TLS.
    pub secured: Option<Rc<Secured>>,
}

impl Client {
    pub fn new(core: Rc<Core>, listener: Rc<OpenListener>, peer: SocketAddr) -> Self {
        let deadline = core.deadlines.deadline();
        let tenure = Rc::new(Tenure::new(&core.deadlines, core.random()));
        Self { core, listener, peer, tenure, deadline, secured: None }
    }

    /// The same client, with a deadline of its own: for a stream of its connection.
    pub fn for_stream(&self) -> Self {
        Self {
            core: self.core.clone(),
            listener: self.listener.clone(),
            peer: self.peer,
            tenure: self.tenure.clone(),
            deadline: self.core.deadlines.deadline(),
            secured: self.secured.clone(),
        }
    }

    /// What the client speaks with us.
    pub fn scheme(&self) -> Scheme {
        if self.secured.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// Whom the client's own, verified certificate names.
    pub fn certificate(&self) -> Option<&Identity> {
        self.secured.as_ref()?.client.as_ref()
    }

    /// As policies see it.
    pub fn as_peer(&self) -> Peer<'_> {
        Peer {
            address: self.peer,
            local: self.listener.address,
            scheme: self.scheme().name(),
            certificate: self.certificate(),
        }
    }

    /// Who connected to whom, as an upstream is told that wants to know.
    pub fn told(&self, wire: &Wire<'_>) -> &Rc<Addresses> {
        let local = || match wire {
            Wire::Http1(stream) => stream.sender.local_address(),
            // The connection has told before its first stream.
            Wire::Http2(_) | Wire::Nobody(_) => self.listener.address,
        };
        self.tenure.told(|| Addresses::between(self.peer, local()))
    }

    /// What a request that begins now is decided by.
    pub fn serving(&self) -> Rc<Serving> {
        self.listener.serving(&self.core)
    }

    /// Whether another request on this connection would be served.
    pub fn is_wanted(&self) -> bool {
        !matches!(self.core.drain.get(), Drain::Closing | Drain::Over) && !self.listener.is_closing()
    }

    /// Its time to drain is over, as a connection of its listener or of the process.
    pub fn is_overdue(&self) -> bool {
        self.core.drain.get() == Drain::Over || self.listener.is_overdue()
    }

    /// Whether a response may say that the connection stays.
    pub fn may_stay(&self) -> bool {
        let limits = &self.serving().snapshot.settings.connections;
        !self.core.draining() && !self.listener.is_closing() && !self.tenure.is_over(&self.core.deadlines, limits)
    }
}

/// An open connection, counted.
pub struct Open {
    core: Rc<Core>,
    _counted: Counted,
}

impl Open {
    pub fn new(core: Rc<Core>) -> Self {
        core.telemetry.connections_open.increment();
        Self { _counted: core.load.connection(), core }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.telemetry.connections_open.decrement();
    }
}
