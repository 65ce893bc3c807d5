//! The body of a question, on the way that a sent one would take: read ahead for those who want it, past those who look on.

use std::rc::Rc;

use crate::{
    calls::{Hear, Heard},
    policies::{self, Body, LocalResponse, Passed, Piece, Question, Reply, Side, Wanted},
    proxy::{reject, workspace::Workspace},
    telemetry::fault::Fault,
};

/// What somebody hears who is asked about a piece.
pub(super) type Tell<'t> = dyn FnMut(&Hear) -> Result<Heard, Fault> + 't;

pub(super) struct Passing<'q> {
    /// What of it the request's head lets pass; `None`: none was given.
    given: Option<&'q [u8]>,
    /// So much of it was read, and looked at.
    read: usize,
    is_over: bool,
    /// What those who change it have made of what was read.
    changed: Option<Vec<u8>>,
    /// What a policy may have read of it, in bytes.
    most: usize,
}

/// Why a body is not read to where a policy wants it.
pub(super) enum Stop {
    /// It is too large for that policy, and has this answer.
    TooLarge(LocalResponse),
    /// Another policy does not let it pass.
    Refused(Rc<LocalResponse>),
}

impl<'q> Passing<'q> {
    pub fn new(given: Option<&'q [u8]>, length: Option<u64>, most: usize) -> Self {
        let sent = |given: &'q [u8]| {
            let length = length.and_then(|length| usize::try_from(length).ok());
            &given[..length.map_or(given.len(), |length| length.min(given.len()))]
        };
        Self { given: given.map(sent), read: 0, is_over: false, changed: None, most }
    }

    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// Nobody knows before it has passed how long it will be.
    pub fn is_changed(&self) -> bool {
        self.changed.is_some()
    }

    /// Reads as much as a policy wants; what was not given is empty. `length` is what the request's head says.
    ///
    /// # Errors
    /// The request goes no further.
    pub fn read_ahead(
        &mut self,
        wanted: Wanted,
        length: Option<u64>,
        workspace: &mut Workspace,
        tell: &mut Tell<'_>,
    ) -> Result<(), Stop> {
        let (given, most) = (self.given.unwrap_or_default(), self.most);
        let is_whole = wanted == Wanted::Whole;
        if is_whole && length.is_some_and(|length| length > most as u64) {
            return Err(Stop::TooLarge(reject::body_too_large()));
        }
        let end = match wanted {
            Wanted::Whole => given.len().min(most),
            Wanted::First(bytes) => bytes.min(most).min(given.len()),
            Wanted::Received => most.min(given.len()),
            // One byte more than may be read, so that it is seen to be too large.
            Wanted::WholeOrNothing => given.len().min(most.saturating_add(1)),
        };
        let end = end.max(self.read);
        self.pass(end, workspace, tell).map_err(Stop::Refused)?;
        if is_whole && given.len() > most {
            return Err(Stop::TooLarge(reject::body_too_large()));
        }
        let read = self.changed.as_deref().unwrap_or(&given[..end]);
        workspace.bodies.request = Body::new(Body::whole(read).into_pieces(), end == given.len());
        Ok(())
    }

    /// What nobody has read passes those who look on.
    ///
    /// # Errors
    /// The answer of one who does not let it pass.
    pub fn pass_rest(&mut self, workspace: &mut Workspace, tell: &mut Tell<'_>) -> Result<(), Rc<LocalResponse>> {
        self.given.map_or(Ok(()), |given| self.pass(given.len(), workspace, tell))
    }

    fn pass(&mut self, end: usize, workspace: &mut Workspace, tell: &mut Tell<'_>) -> Result<(), Rc<LocalResponse>> {
        let Some(given) = self.given.filter(|_| !self.is_over) else { return Ok(()) };
        let is_last = end == given.len();
        let bytes = &given[self.read..end];
        (self.read, self.is_over) = (end, is_last);
        let Some(mut scans) = workspace.take_scans(Side::Request) else { return Ok(()) };
        let seen = match scans.changes() {
            false => scans.see(&Piece { side: Side::Request, bytes, is_last }),
            true => {
                let (side, trailers) = (Side::Request, Default::default());
                let mut passing = policies::Passing { side, bytes: bytes.to_vec(), is_last, trailers };
                let (mut at, mut reply) = (0, None);
                let seen = loop {
                    match scans.pass(&mut passing, &mut at, reply.take()) {
                        Passed::Whole => break Ok(()),
                        Passed::Refused(answer) => break Err(answer),
                        Passed::Waits(question) => {
                            reply = match *question {
                                Question::Hear(hear) => Some(Reply::Heard(tell(&hear))),
                                _ => None,
                            }
                        }
                    }
                };
                self.changed.get_or_insert_default().extend(passing.bytes);
                seen
            }
        };
        workspace.put_scans(Side::Request, scans);
        seen
    }
}
