//! Flow control (RFC 9113 section 5.2): what may be sent, what may come, and who waits.
//!
//! A server's windows are as its client was told: what a stream brought is given back when the other side has taken it. An
//! upstream's streams share their connection with other clients' streams, so a reader that stalls must not use up its
//! window: that is given back at once. What a stream may bring begins small and follows what its reader has room for.

use std::time::Instant;

use crate::net::Buffer;

use super::{
    connection::{Connection, OUTPUT_HIGH_WATER, Role},
    event::{Event, StreamId},
    frame::kind,
    limits::Limits,
    streams::Stream,
};

/// A frame of payload smaller than this is not worth its header, unless it ends something.
const PIECE_MIN: usize = 1024;
/// A sender that gets less than this through in the stall time-out counts as stalled.
const PROGRESS_MIN: usize = 4096;
/// What a stream of an upstream may bring before anybody has taken something of it; and where its reader takes no more.
const UPSTREAM_WINDOW: u32 = 16 << 10;
const UPSTREAM_WINDOW_MIN: u32 = Buffer::SMALL as u32;

/// What a stream's window begins with.
pub(super) fn first_window(role: Role, limits: &Limits) -> u32 {
    match role {
        Role::Server => limits.stream_window,
        Role::Client => limits.stream_window.min(UPSTREAM_WINDOW),
    }
}

impl Connection {
    /// So many bytes of taken payload have gone their way: the peer may send as many more, or, if it is an upstream, so many
    /// that its reader has room for. Window updates are batched.
    pub fn release(&mut self, stream: StreamId, bytes: usize, room: usize) {
        let Some(entry) = self.streams.get_mut(stream.0) else { return };
        let bytes = bytes.min(entry.unreleased);
        entry.unreleased -= bytes;
        let most = self.limits.stream_window;
        let size = u32::try_from(room).unwrap_or(u32::MAX).clamp(UPSTREAM_WINDOW_MIN.min(most), most);
        if self.role == Role::Client && entry.may_receive() {
            let increment = entry.receive_window.release_toward(bytes, size);
            self.announce(stream.0, increment);
        } else {
            self.release_taken(stream.0, bytes);
        }
    }

    /// Gives window back for payload or padding that nobody has kept.
    pub(super) fn release_window(&mut self, id: u32, bytes: usize) {
        self.release_stream_window(id, bytes);
        self.release_connection_window(bytes);
    }

    /// The same for payload that was kept.
    fn release_taken(&mut self, id: u32, bytes: usize) {
        self.release_stream_window(id, bytes);
        if self.role == Role::Server {
            self.release_connection_window(bytes);
        }
    }

    /// Payload is kept for its reader.
    pub(super) fn kept(&mut self, bytes: usize) {
        if self.role == Role::Client {
            self.release_connection_window(bytes);
        }
    }

    pub(super) fn drop_payload(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.received.clear();
        let bytes = std::mem::take(&mut stream.unreleased);
        self.release_taken(id, bytes);
    }

    /// While the stream may still receive.
    fn release_stream_window(&mut self, id: u32, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(id)
            && stream.may_receive()
        {
            let increment = stream.receive_window.release(bytes);
            self.announce(id, increment);
        }
    }

    fn release_connection_window(&mut self, bytes: usize) {
        let increment = self.receive_window.release(bytes);
        self.announce(0, increment);
    }

    fn announce(&mut self, id: u32, increment: Option<u32>) {
        if let Some(increment) = increment {
            self.write_control(kind::WINDOW_UPDATE, 0, id, &increment.to_be_bytes());
        }
    }

    /// The socket takes about so much at once; with 0 no payload is framed. Senders that wait for room may go on where there
    /// is more.
    pub fn set_output_max(&mut self, bytes: usize) {
        self.output_max = bytes.min(OUTPUT_HIGH_WATER);
        if !self.waiting.is_empty() {
            self.wake();
        }
    }

    /// As [`Connection::room_now`], for somebody who has something to send and does not want to hold it. Where it is
    /// nothing, [`Event::Window`] comes when there is room, and a peer whose windows are the reason is on the clock.
    pub fn room(&mut self, stream: StreamId, now: Instant) -> usize {
        let room = self.room_now(stream);
        if room > 0 || !self.may_send(stream) {
            return room;
        }
        if let Some(entry) = self.streams.get_mut(stream.0) {
            entry.note_progress(0, false, entry.send_window.min(self.send_window) <= 0, now);
            if !entry.waiting {
                entry.waiting = true;
                self.waiting.push_back(stream.0);
            }
        }
        0
    }

    /// How much [`Connection::send_data`] would take now.
    pub fn room_now(&self, stream: StreamId) -> usize {
        match self.streams.get(stream.0) {
            Some(entry) if self.may_send(stream) => {
                let window = entry.send_window.min(self.send_window).max(0) as usize;
                window.min(self.output_room(PIECE_MIN))
            }
            _ => 0,
        }
    }

    /// What the output takes of so many bytes: nothing where that would be a small piece.
    pub(super) fn output_room(&self, bytes: usize) -> usize {
        let room = self.output_max.saturating_sub(self.output.len());
        if room < PIECE_MIN.min(bytes) { 0 } else { room }
    }

    /// Tells senders that wait and could send now.
    pub(super) fn wake(&mut self) {
        if self.send_window <= 0 || self.output_max == 0 {
            return;
        }
        let (streams, events) = (&mut self.streams, &mut self.events);
        self.waiting.retain(|&id| {
            let Some(stream) = streams.get_mut(id) else { return false };
            if stream.send_window <= 0 && stream.is_sendable() {
                return true;
            }
            stream.waiting = false;
            if stream.is_sendable() {
                events.push_back(Event::Window { stream: StreamId(id) });
            }
            false
        });
    }
}

impl Stream {
    fn may_receive(&self) -> bool {
        !self.remote_ended && !self.reset
    }

    /// Keeps the clock of a sender that the peer's windows hold up. Drops of window do not set it back.
    pub fn note_progress(&mut self, sent: usize, is_all: bool, by_window: bool, now: Instant) {
        self.stalled = match self.stalled {
            _ if is_all => None,
            None if by_window => Some((now, 0)),
            None => None,
            Some((_, before)) if before + sent >= PROGRESS_MIN => by_window.then_some((now, 0)),
            Some((since, before)) => Some((since, before + sent)),
        };
    }
}
