//! One connection of the generator: keeps a read pending, counts responses off, and connects again when it must.
//!
//! A request is sent by a plain system call from wherever it becomes due, while the read for its response is pending
//! already: one turn of the loop less for each request, and a connection that the server closes is noticed at once.

use std::{future::poll_fn, io, os::fd::AsRawFd, rc::Rc, task::Poll, time::Duration};

use monoio::{
    io::{AsyncReadRent, AsyncWriteRentExt, Splitable},
    net::{
        TcpStream,
        tcp::{TcpOwnedReadHalf, TcpOwnedWriteHalf},
    },
};

use super::engine::{Engine, Failure, Slot};
use crate::{
    http1::{Malformed, ResponseReader},
    scenario::Mix,
    sys,
};

/// Connections being opened at a time before the load starts: fewer than a server's backlog.
const OPENING_MAX: usize = 64;
/// Before another attempt, so that a server that is gone is not asked in a tight loop.
const RETRY: Duration = Duration::from_millis(20);
/// For the server to end a connection that it said it would.
const LINGER: Duration = Duration::from_millis(200);
const BUFFER_BYTES: usize = 16 * 1024;
/// Once a large body is seen.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Starts every connection's task. With keep-alive, returns when each has tried to connect once.
pub(super) async fn open_all(engine: &Rc<Engine>) {
    let indices: Vec<usize> = (0..engine.slots.len()).collect();
    if !engine.plan.keep_alive {
        for index in indices {
            monoio::spawn(connect_per_request(engine.clone(), index));
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
            monoio::spawn(keep_alive(engine.clone(), index, connected.await.ok()));
        }
    }
}

/// Connects for a slot and makes the connection known to it.
async fn connect(engine: Rc<Engine>, index: usize) -> io::Result<TcpOwnedReadHalf> {
    let attempt = monoio::time::timeout(engine.plan.timeout, TcpStream::connect_addr(engine.plan.target));
    let stream = attempt.await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    engine.opened_a_connection();
    let slot = &engine.slots[index];
    let socket = stream.as_raw_fd();
    let (reader, writer) = stream.into_split();
    slot.generation.set(slot.generation.get() + 1);
    slot.writer.replace(Some(writer));
    slot.timed_out.set(false);
    slot.socket.set(socket);
    Ok(reader)
}

/// Forgets a slot's connection, before its descriptor is closed and given to another.
fn disconnect(slot: &Slot) {
    slot.socket.set(-1);
    slot.writer.take();
}

async fn keep_alive(engine: Rc<Engine>, index: usize, mut connected: Option<TcpOwnedReadHalf>) {
    while !engine.stopping.get() {
        match connected.take() {
            Some(reader) => serve(&engine, index, reader).await,
            // Nothing was sent yet; what is due meanwhile waits, and its time counts.
            None => match connect(engine.clone(), index).await {
                Ok(reader) => connected = Some(reader),
                Err(_) => {
                    engine.cannot_connect();
                    monoio::time::sleep(RETRY).await;
                }
            },
        }
    }
}

/// Requests over one connection, until it ends.
async fn serve(engine: &Rc<Engine>, index: usize, mut reader: TcpOwnedReadHalf) {
    let slot = &engine.slots[index];
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        engine.became_free(index);
        let end;
        (end, buffer) = response(engine, index, &mut reader, buffer).await;
        match end {
            End::Complete { status, bytes, close } => {
                if close {
                    disconnect(slot);
                }
                engine.completed(index, status, bytes);
                if close {
                    return;
                }
            }
            End::Failed(failure) => {
                let was_busy = slot.busy.get();
                disconnect(slot);
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
    let slot = &engine.slots[index];
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    while !engine.stopping.get() {
        if !engine.became_free(index) {
            wait_for_request(slot).await;
        }
        let mut reader = match connect(engine.clone(), index).await {
            Ok(reader) => reader,
            Err(_) => {
                engine.failed(index, Failure::Connect);
                monoio::time::sleep(RETRY).await;
                continue;
            }
        };
        send(slot, &engine.plan.mix, slot.request.get());
        let end;
        (end, buffer) = response(&engine, index, &mut reader, buffer).await;
        match end {
            End::Complete { status, bytes, .. } => {
                engine.completed(index, status, bytes);
                // It was told to close; had we closed first, our ports would be in TIME_WAIT instead of the server's.
                let (_, back) = monoio::time::timeout(LINGER, reader.read(buffer))
                    .await
                    .unwrap_or_else(|_| (Ok(0), Vec::with_capacity(BUFFER_BYTES)));
                buffer = back;
            }
            End::Failed(failure) => engine.failed(index, failure),
        }
        disconnect(slot);
    }
}

async fn wait_for_request(slot: &Slot) {
    poll_fn(|context| {
        if slot.busy.get() {
            return Poll::Ready(());
        }
        slot.waiting.replace(Some(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Sends a request. What the socket does not take at once follows in a task of its own; errors are left to the reader.
pub(super) fn send(slot: &Rc<Slot>, mix: &Mix, request: usize) {
    let bytes = &mix.request(request).bytes;
    let sent = match sys::send(slot.socket.get(), bytes) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(_) => return,
    };
    if sent < bytes.len()
        && let Some(writer) = slot.writer.take()
    {
        monoio::spawn(send_rest(slot.clone(), writer, bytes[sent..].to_vec()));
    }
}

async fn send_rest(slot: Rc<Slot>, mut writer: TcpOwnedWriteHalf, rest: Vec<u8>) {
    let generation = slot.generation.get();
    let (result, _) = writer.write_all(rest).await;
    if result.is_ok() && slot.generation.get() == generation && slot.socket.get() >= 0 {
        slot.writer.replace(Some(writer));
    }
}

enum End {
    Complete { status: u16, bytes: u64, close: bool },
    Failed(Failure),
}

/// Reads one response to its end. The buffer comes back for the next one.
async fn response(engine: &Engine, index: usize, reader: &mut TcpOwnedReadHalf, mut buffer: Vec<u8>) -> (End, Vec<u8>) {
    let slot = &engine.slots[index];
    let mut reading = ResponseReader::default();
    let mut bytes = 0;
    loop {
        let result;
        (result, buffer) = reader.read(buffer).await;
        let received = match result {
            Ok(received) if received > 0 => received,
            _ => {
                let end = match reading.end() {
                    Some(status) if !slot.timed_out.get() => End::Complete { status, bytes, close: true },
                    _ => End::Failed(Failure::Closed),
                };
                return (end, buffer);
            }
        };
        bytes += received as u64;
        let to_head = engine.plan.mix.request(slot.request.get()).is_head;
        // Nobody asked for anything: whatever this is, it is no response.
        let fed = if slot.busy.get() { reading.feed(&buffer[..received], to_head) } else { Err(Malformed("unasked")) };
        match fed {
            Ok(Some(head)) => {
                // A request that is still being sent cannot be followed by another.
                let close = head.close || slot.writer.borrow().is_none();
                return (End::Complete { status: head.status, bytes, close }, buffer);
            }
            Ok(None) => {
                if received == buffer.capacity() && received < BUFFER_BYTES_MAX {
                    buffer.reserve_exact(2 * received);
                }
            }
            Err(_) => return (End::Failed(Failure::Malformed), buffer),
        }
    }
}
