//! What an exchange works with: heads, captures and room to write in, used again by later exchanges of the core.
//!
//! Made anew, it grows by a dozen allocations before the first answer, a sixth of what a connection with one request costs
//! in user space. So a core keeps a few that nobody uses.

use std::{
    cell::RefCell,
    net::IpAddr,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use crate::{
    http::head::{Fields, RequestHead, ResponseHead},
    matching::rule::Captures,
    policies::{Authentication, Bodies, RequestLine, Scans, Side, Timeouts, chain::Turns},
    proxy::headers::Line,
};

/// Spare ones that a core keeps: some MiB at the most.
const SPARE_MAX: usize = 64;

/// One that has grown beyond this, by a large head, is not kept.
const KEPT_BYTES_MAX: usize = 32 * 1024;

#[derive(Default)]
pub struct Workspace {
    /// The client's address as text, and of whom it is.
    pub client: String,
    of: Option<IpAddr>,
    pub request: RequestHead,
    pub response: ResponseHead,
    pub authentication: Authentication,
    /// Of the exchange: set when it begins, and by its policies.
    pub timeouts: Timeouts,
    /// What was read ahead for them.
    pub bodies: Bodies,
    pub captures: Captures,
    pub api_turns: Turns,
    pub service_turns: Turns,
    /// The normalised path, then the path that the upstream sees.
    pub path: Vec<u8>,
    /// What the upstream is asked for instead, where a policy says so.
    pub instead: Option<Box<RequestLine>>,
    /// A head being written as HTTP/1.1.
    pub head: Vec<u8>,
    /// The fields of a head being written as HTTP/2.
    pub scratch: Fields,
}

impl Workspace {
    /// Those that look at this body, in the order of its way; they are not there any more. `None`: nobody does.
    pub fn take_scans(&mut self, side: Side) -> Option<Scans> {
        let [first, then] = self.turns(side);
        if first.scans(side).is_empty() && then.scans(side).is_empty() {
            return None;
        }
        let mut scans = std::mem::take(first.scans(side));
        scans.append(then.scans(side));
        Some(scans)
    }

    /// What the upstream is asked for.
    pub fn line(&self) -> Line<'_> {
        Line::of(&self.request, &self.path, &self.instead)
    }

    /// What policies have put in the place of what the client has sent is of one exchange alone.
    pub fn forget_replaced(&mut self) {
        self.bodies.clear();
        self.instead = None;
    }

    /// Puts them back, in front of those to come.
    pub fn put_scans(&mut self, side: Side, scans: Scans) {
        let [first, _] = self.turns(side);
        *first.scans(side) = scans;
    }

    /// In the order of this direction.
    fn turns(&mut self, side: Side) -> [&mut Turns; 2] {
        let Self { api_turns, service_turns, .. } = self;
        match side {
            Side::Request => [api_turns, service_turns],
            Side::Response => [service_turns, api_turns],
        }
    }

    /// What was of one client must not be taken for another's.
    fn clear(&mut self) {
        self.request.clear();
        self.response.clear();
        self.authentication.clear();
        self.bodies.clear();
        self.captures.ranges.clear();
        self.captures.grouped = false;
        self.api_turns.clear();
        self.service_turns.clear();
        self.path.clear();
        self.instead = None;
        self.head.clear();
        self.scratch.clear();
    }

    fn is_of(&mut self, client: IpAddr) {
        if self.of.replace(client) != Some(client) {
            self.client = client.to_canonical().to_string();
        }
    }

    /// The memory it holds.
    fn capacity(&self) -> usize {
        self.request.fields.capacity()
            + self.request.path.capacity()
            + self.request.query.capacity()
            + self.response.fields.capacity()
            + self.path.capacity()
            + self.head.capacity()
            + self.scratch.capacity()
    }
}

/// The spare ones of a core.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "exchanges hold them boxed, and the boxes go round too")]
pub struct Workspaces(RefCell<Vec<Box<Workspace>>>);

/// One that is in use; it goes back when this is dropped.
pub struct Lent {
    workspace: Option<Box<Workspace>>,
    home: Rc<Workspaces>,
}

impl Workspaces {
    pub fn lend(self: &Rc<Self>, client: IpAddr) -> Lent {
        let mut workspace = self.0.borrow_mut().pop().unwrap_or_default();
        workspace.is_of(client);
        Lent { workspace: Some(workspace), home: self.clone() }
    }

    /// Frees the spare ones, for when the core has become quieter.
    pub fn trim(&self) {
        self.0.take();
    }
}

const LENT: &str = "it goes back only when it is dropped";

impl Deref for Lent {
    type Target = Workspace;

    fn deref(&self) -> &Workspace {
        self.workspace.as_ref().expect(LENT)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Workspace {
        self.workspace.as_mut().expect(LENT)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = self.home.0.borrow_mut();
        if let Some(mut workspace) = self.workspace.take()
            && spare.len() < SPARE_MAX
            && workspace.capacity() <= KEPT_BYTES_MAX
        {
            workspace.clear();
            spare.push(workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn the_next_client_finds_nothing_of_the_last() {
        let workspaces = Rc::<Workspaces>::default();
        let mut lent = workspaces.lend(ONE);
        assert_eq!(lent.client, "192.0.2.1");
        lent.request.method.extend_from_slice(b"GET");
        lent.request.path.extend_from_slice(b"/secret");
        lent.request.fields.append(b"authorization", b"Basic eDp5");
        lent.response.fields.append(b"set-cookie", b"a=b");
        lent.authentication.set_principal("somebody");
        lent.captures.grouped = true;
        lent.captures.ranges.push(0..1);
        lent.path.push(b'/');
        lent.head.push(b'G');
        lent.scratch.append(b"a", b"b");
        drop(lent);
        let lent = workspaces.lend(OTHER);
        assert_eq!(workspaces.0.borrow().len(), 0, "it is the same one");
        assert_eq!(lent.client, "192.0.2.2");
        assert!(lent.request.method.is_empty() && lent.request.path.is_empty() && lent.request.fields.is_empty());
        assert!(lent.response.fields.is_empty() && lent.authentication.principal().is_none());
        assert_eq!(lent.captures, Captures::default());
        assert!(lent.path.is_empty() && lent.head.is_empty() && lent.scratch.is_empty());
    }

    #[test]
    fn few_and_small_ones_are_kept() {
        let workspaces = Rc::<Workspaces>::default();
        let lent: Vec<_> = (0..=SPARE_MAX).map(|_| workspaces.lend(ONE)).collect();
        drop(lent);
        assert_eq!(workspaces.0.borrow().len(), SPARE_MAX);
        workspaces.trim();
        workspaces.lend(ONE).path.reserve(KEPT_BYTES_MAX + 1);
        assert_eq!(workspaces.0.borrow().len(), 0);
    }
}
