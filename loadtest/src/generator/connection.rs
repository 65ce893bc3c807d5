//! HTTP/1.1 on a connection of the generator: a read is always pending, responses are counted off, and a connection that
//! ended is made again.

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use anyhow::Result;

use super::{
    engine::{Engine, Failure, Slot},
    link::{Received, Receiver},
    multiplexed,
};
use crate::http1::{Malformed, ResponseReader};

/// Connections being opened at a time before the load starts: fewer than a server's backlog.
const OPENING_MAX: usize = 64;
/// Before another attempt, so that a server that is gone is not asked in a tight loop.
const RETRY: Duration = Duration::from_millis(20);
/// For the server to end a connection that it said it would.
const LINGER: Duration = Duration::from_millis(200);

/// Starts every connection's task. With keep-alive, returns when each has tried to connect once.
pub(super) async fn open_all(engine: &Rc<Engine>) {
    let indices: Vec<usize> = (0..engine.links.len()).collect();
    if !engine.plan.keep_alive {
        for index in indices {
            engine.tasks.borrow_mut().push(monoio::spawn(connect_per_request(engine.clone(), index)));
        }
        // Their first turn queues them as free.
        return monoio::time::sleep(Duration::from_millis(1)).await;
    }
    for batch in indices.chunks(OPENING_MAX) {
        let mut opening = Vec::new();
        for &index in batch {
            opening.push(monoio::spawn(connect(engine.clone(), index)));
        }
        for (&index, connected) in batch.iter().zip(opening) {
            let connected = connected.await.inspect_err(|error| engine.remember(error)).ok();
            engine.tasks.borrow_mut().push(monoio::spawn(keep_alive(engine.clone(), index, connected)));
        }
    }
}

/// Makes the connection of a link.
async fn connect(engine: Rc<Engine>, index: usize) -> Result<Receiver> {
    let link = &engine.links[index];
    let attempt = async {
        let mut receiver = link.connect(engine.plan.target, engine.plan.tls.as_ref()).await?;
        engine.opened_a_connection(link.is_resumed());
        if engine.plan.streams.is_some() {
            multiplexed::greet(&engine, index, &mut receiver).await?;
        } else if engine.plan.keep_alive {
            link.flush_tls();
        }
        Ok(receiver)
    };
    let connected = monoio::time::timeout(engine.plan.timeout, attempt).await;
    let connected = connected.unwrap_or_else(|_| Err(anyhow::anyhow!("connecting took too long")));
    if connected.is_err() {
        link.disconnect();
    }
    for slot in engine.slots_of(index) {
        engine.slots[slot].timed_out.set(engine.slots[slot].timed_out.get() && connected.is_err());
    }
    connected
}

async fn keep_alive(engine: Rc<Engine>, index: usize, mut connected: Option<Receiver>) {
    while !engine.stopping.get() {
        match connected.take() {
            Some(receiver) if engine.plan.streams.is_some() => multiplexed::serve(&engine, index, receiver).await,
            Some(receiver) => serve(&engine, index, receiver).await,
            // Nothing was sent yet; what is due meanwhile waits, and its time counts.
            None => match connect(engine.clone(), index).await {
                Ok(receiver) => connected = Some(receiver),
                Err(error) => {
                    engine.cannot_connect(&error);
                    monoio::time::sleep(RETRY).await;
                }
            },
        }
    }
}

/// Requests over one connection, until it ends.
async fn serve(engine: &Rc<Engine>, index: usize, mut receiver: Receiver) {
    let (slot, link) = (&engine.slots[index], &engine.links[index]);
    loop {
        engine.became_free(index);
        match response(engine, index, &mut receiver).await {
            End::Complete { status, bytes, close } => {
                if close {
                    link.disconnect();
                }
                engine.completed(index, status, bytes);
                if close {
                    return;
                }
            }
            End::Failed(failure) => {
                let was_busy = slot.busy.get();
                link.disconnect();
                if was_busy {
                    engine.failed(index, failure);
                } else {
                    engine.withdraw(index);
                }
                return;
            }
        }
    }
}

async fn connect_per_request(engine: Rc<Engine>, index: usize) {
    let (slot, link) = (&engine.slots[index], &engine.links[index]);
    while !engine.stopping.get() {
        if !engine.became_free(index) {
            wait_for_request(&engine, slot).await;
        }
        if engine.stopping.get() {
            return;
        }
        let mut receiver = match connect(engine.clone(), index).await {
            Ok(receiver) => receiver,
            Err(error) => {
                engine.remember(&error);
                engine.failed(index, Failure::Connect);
                slot.timed_out.set(false);
                monoio::time::sleep(RETRY).await;
                continue;
            }
        };
        link.send_request(0, engine.plan.mix.request(slot.request.get()));
        match response(&engine, index, &mut receiver).await {
            End::Complete { status, bytes, .. } => {
                engine.completed(index, status, bytes);
                // It was told to close; had we closed first, our ports would be in TIME_WAIT instead of the server's.
                let ended = async { while let Received::Bytes = receiver.receive(link).await {} };
                let _ = monoio::time::timeout(LINGER, ended).await;
            }
            End::Failed(failure) => engine.failed(index, failure),
        }
        link.disconnect();
    }
}

/// Returns also when nothing more is to be sent.
async fn wait_for_request(engine: &Engine, slot: &Slot) {
    poll_fn(|context| {
        if slot.busy.get() || engine.stopping.get() {
            return Poll::Ready(());
        }
        slot.waiting.replace(Some(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

enum End {
    Complete { status: u16, bytes: u64, close: bool },
    Failed(Failure),
}

/// Reads one response to its end.
async fn response(engine: &Engine, index: usize, receiver: &mut Receiver) -> End {
    let (slot, link) = (&engine.slots[index], &engine.links[index]);
    let mut reading = ResponseReader::default();
    let mut bytes = 0;
    loop {
        match receiver.receive(link).await {
            Received::Bytes => {}
            Received::End { is_clean } => {
                return match reading.end() {
                    // A body that ends with the connection is whole only if that ended well.
                    Some(status) if is_clean && !slot.timed_out.get() => End::Complete { status, bytes, close: true },
                    _ => End::Failed(Failure::Closed),
                };
            }
            Received::Malformed => return End::Failed(Failure::Malformed),
        }
        let received = receiver.bytes();
        bytes += received.len() as u64;
        let to_head = engine.plan.mix.request(slot.request.get()).is_head;
        // Nobody asked for anything: whatever this is, it is no response.
        let fed = if slot.busy.get() { reading.feed(received, to_head) } else { Err(Malformed("unasked")) };
        match fed {
            Ok(Some(head)) => {
                // A request that is still being sent cannot be followed by another.
                let close = head.close || link.is_sending();
                return End::Complete { status: head.status, bytes, close };
            }
            Ok(None) => {}
            Err(_) => return End::Failed(Failure::Malformed),
        }
    }
}
