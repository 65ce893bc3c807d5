//! HTTP/2 on a connection of the generator: as many slots as streams, and what becomes due in one turn leaves together.

use std::rc::Rc;

use anyhow::{Result, bail, ensure};

use super::{
    engine::{Engine, Failure},
    link::{Received, Receiver},
};
use crate::http2::{Connection, Event};

/// Says hello, and waits for the server's SETTINGS: no request is sent before it is known how many may be.
///
/// # Errors
/// The server does not speak HTTP/2, or takes fewer streams than it is to get.
pub(super) async fn greet(engine: &Engine, index: usize, receiver: &mut Receiver) -> Result<()> {
    let (link, wanted) = (&engine.links[index], engine.plan.slots_per_connection());
    link.http2.replace(Some(Connection::new(wanted)));
    link.flush();
    loop {
        let Received::Bytes = receiver.receive(link).await else { bail!("the server does not speak HTTP/2") };
        let streams_max = {
            let mut http2 = link.http2.borrow_mut();
            let Some(http2) = http2.as_mut() else { bail!("the connection ended") };
            http2.feed(receiver.bytes(), &mut Vec::new())?;
            ensure!(!http2.is_going_away(), "the server goes away before the first request");
            http2.streams_max()
        };
        link.flush();
        if let Some(most) = streams_max {
            ensure!(most as usize >= wanted, "the server takes {most} streams a connection, fewer than {wanted}");
            return Ok(());
        }
    }
}

/// Requests over one connection, until it ends.
pub(super) async fn serve(engine: &Rc<Engine>, index: usize, mut receiver: Receiver) {
    let (link, slots) = (&engine.links[index], engine.slots_of(index));
    link.corked.set(true);
    for slot in slots.clone() {
        engine.became_free(slot);
    }
    link.corked.set(false);
    link.flush();
    let (mut events, mut goes_away) = (Vec::new(), false);
    let failure = loop {
        let mut broken = match receiver.receive(link).await {
            Received::Bytes => None,
            Received::End { .. } => Some(Failure::Closed),
            Received::Malformed => Some(Failure::Malformed),
        };
        if broken.is_none()
            && let Some(http2) = link.http2.borrow_mut().as_mut()
        {
            if http2.feed(receiver.bytes(), &mut events).is_err() {
                broken = Some(Failure::Malformed);
            }
            if http2.is_going_away() && !goes_away {
                goes_away = true;
                engine.is_left();
            }
        }
        if goes_away {
            slots.clone().for_each(|slot| engine.withdraw(slot));
        }
        link.corked.set(true);
        for event in events.drain(..) {
            take(engine, slots.start, event, goes_away || broken.is_some());
        }
        link.corked.set(false);
        if let Some(failure) = broken {
            break failure;
        }
        link.flush();
        if goes_away && link.http2.borrow().as_ref().is_none_or(Connection::is_quiet) {
            break Failure::Closed;
        }
    };
    link.disconnect();
    for slot in slots {
        if engine.slots[slot].busy.get() {
            engine.failed(slot, failure);
        } else {
            engine.withdraw(slot);
        }
    }
}

/// `is_last`: no request may follow on this connection.
fn take(engine: &Rc<Engine>, first: usize, event: Event, is_last: bool) {
    let slot = match event {
        Event::Complete { slot, status, bytes } => {
            engine.completed(first + slot, status, bytes);
            slot
        }
        Event::Reset { slot } => {
            engine.failed(first + slot, Failure::Reset);
            slot
        }
        Event::Refused { slot } => {
            engine.failed(first + slot, Failure::Refused);
            slot
        }
    };
    if !is_last {
        engine.became_free(first + slot);
    }
}
