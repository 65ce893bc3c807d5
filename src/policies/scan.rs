//! The policies that look at a body while it passes, taken out of the chains: both bodies of an exchange may move at once.

use std::{cell::RefCell, rc::Rc};

use super::{Body, Flow, Instance, Kept, LocalResponse, Piece, Side};

/// Those that look at one body, in the order of the chains on its way.
#[derive(Default)]
pub struct Scans(Vec<Scan>);

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
