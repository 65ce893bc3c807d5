//! The streams of a connection, and what is known of those that are no more.

use std::{collections::VecDeque, time::Instant};

use crate::net::Buffer;

use super::{error::Code, incoming::Incoming, window::ReceiveWindow};

/// Streams that we reset, whose frames may still be on their way: so many are remembered exactly.
const RESETS_REMEMBERED: usize = 64;
/// Ranges of stream ids that the peer has skipped: using one of them now is another error than using a closed one.
const GAPS_REMEMBERED: usize = 8;
/// Room kept by a connection without streams.
const SLOTS_KEPT: usize = 4;

pub struct Stream {
    pub id: u32,
    /// END_STREAM was received, or sent. A reset message has not ended.
    pub remote_ended: bool,
    pub local_ended: bool,
    /// By either side. Nothing is sent or delivered any more.
    pub reset: bool,
    /// By the peer, who sends nothing more on it (RFC 9113 section 5.1).
    pub reset_by_peer: bool,
    /// The owner of the connection knows of it, and will forget it.
    pub delivered: bool,
    /// What comes is dropped; RST_STREAM(NO_ERROR) follows our END_STREAM.
    pub stop_reading: bool,
    /// A response has begun, with a final head or an interim one.
    pub is_answered: bool,
    /// Its request is malformed: behind the answer it is reset.
    pub malformed: bool,
    /// A final response has come.
    pub has_head: bool,
    /// Our request was HEAD: no payload may come.
    pub is_head: bool,
    pub send_window: i64,
    pub receive_window: ReceiveWindow,
    pub received: VecDeque<Buffer>,
    /// Payload received and not released.
    pub unreleased: usize,
    /// What a content-length still lets come.
    pub expected: Option<u64>,
    pub heads: VecDeque<(Box<Incoming>, bool)>,
    pub trailers: Option<Box<Incoming>>,
    pub data_announced: bool,
    /// `send_data` could not take all, and the owner waits for `Event::Window`.
    pub waiting: bool,
    /// Since when the peer's windows hold a sender up, and how much has got through meanwhile.
    pub stalled: Option<(Instant, usize)>,
    /// Units of work that come back when it ends as it should.
    pub stream_units: u32,
    pub header_units: u32,
    /// Header memory that it holds.
    pub memory: usize,
}

impl Stream {
    /// What the end of our stream by the peer means. One that has answered has processed the request, whatever it says.
    pub fn refused(&self, code: Code) -> Code {
        if self.is_answered && code == Code::REFUSED_STREAM { Code::PROTOCOL_ERROR } else { code }
    }

    pub fn new(id: u32, send_window: u32, receive_window: u32) -> Self {
        Self {
            id,
            remote_ended: false,
            local_ended: false,
            reset: false,
            reset_by_peer: false,
            delivered: false,
            stop_reading: false,
            is_answered: false,
            malformed: false,
            has_head: false,
            is_head: false,
            send_window: i64::from(send_window),
            receive_window: ReceiveWindow::new(receive_window),
            received: VecDeque::new(),
            unreleased: 0,
            expected: None,
            heads: VecDeque::new(),
            trailers: None,
            data_announced: false,
            waiting: false,
            stalled: None,
            stream_units: 0,
            header_units: 0,
            memory: 0,
        }
    }

    /// Both sides have ended as they should.
    pub fn is_complete(&self) -> bool {
        self.remote_ended && self.local_ended && !self.reset
    }

    /// Something may still be sent on it.
    pub fn is_sendable(&self) -> bool {
        !self.local_ended && !self.reset
    }
}

/// What a stream id that is not open means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// We reset it, and the peer may not know yet.
    Reset,
    /// The peer went past it.
    Skipped,
    Closed,
}

#[derive(Default)]
pub struct Streams {
    /// Ascending ids, with their slots. Streams are opened in this order, so a new one goes to the end.
    order: Vec<(u32, u32)>,
    slots: Vec<Option<Box<Stream>>>,
    free: Vec<u32>,
    resets: VecDeque<u32>,
    /// The highest id that fell out of `resets`.
    resets_forgotten: u32,
    gaps: VecDeque<(u32, u32)>,
}

impl Streams {
    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Those that count as concurrent.
    pub fn active(&self) -> usize {
        self.iter().filter(|stream| !stream.is_complete()).count()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.order.iter().filter_map(|&(_, slot)| self.slots[slot as usize].as_deref())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().filter_map(Option::as_deref_mut)
    }

    #[inline]
    pub fn get(&self, id: u32) -> Option<&Stream> {
        let at = self.find(id)?;
        self.slots[self.order[at].1 as usize].as_deref()
    }

    #[inline]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.find(id)?;
        self.slots[self.order[at].1 as usize].as_deref_mut()
    }

    #[inline]
    fn find(&self, id: u32) -> Option<usize> {
        // The youngest is asked for most.
        match self.order.last() {
            Some(&(last, _)) if last == id => Some(self.order.len() - 1),
            Some(&(last, _)) if last > id => self.order.binary_search_by_key(&id, |&(id, _)| id).ok(),
            _ => None,
        }
    }

    /// Its id is higher than all before.
    pub fn insert(&mut self, stream: Stream) -> &mut Stream {
        debug_assert!(self.order.last().is_none_or(|&(last, _)| last < stream.id));
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        self.order.push((stream.id, slot));
        if slot as usize == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot as usize].insert(Box::new(stream))
    }

    pub fn remove(&mut self, id: u32) -> Option<Box<Stream>> {
        let at = self.find(id)?;
        let (_, slot) = self.order.remove(at);
        let stream = self.slots[slot as usize].take();
        self.free.push(slot);
        if self.order.is_empty() && self.slots.len() > SLOTS_KEPT {
            (self.order, self.slots, self.free) = Default::default();
        }
        stream
    }

    /// We have reset it.
    pub fn remember_reset(&mut self, id: u32) {
        if self.resets.len() == RESETS_REMEMBERED
            && let Some(oldest) = self.resets.pop_front()
        {
            self.resets_forgotten = self.resets_forgotten.max(oldest);
        }
        self.resets.push_back(id);
    }

    /// The peer opens `id`, and its last one was `last`.
    pub fn remember_gap(&mut self, last: u32, id: u32) {
        let first_skipped = if last == 0 { 1 } else { last + 2 };
        if first_skipped >= id {
            return;
        }
        if self.gaps.len() == GAPS_REMEMBERED {
            self.gaps.pop_front();
        }
        self.gaps.push_back((first_skipped, id));
    }

    /// What became of a stream that is not open and not idle.
    pub fn gone(&self, id: u32) -> Gone {
        if self.gaps.iter().any(|&(first, end)| (first..end).contains(&id)) {
            Gone::Skipped
        } else if id <= self.resets_forgotten || self.resets.contains(&id) {
            Gone::Reset
        } else {
            Gone::Closed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream {
        Stream::new(id, 0, 0)
    }

    #[test]
    fn found_by_id_in_any_order_of_leaving() {
        let mut streams = Streams::default();
        for id in (1..200).step_by(2) {
            streams.insert(stream(id));
        }
        for id in (1..200).step_by(6) {
            assert_eq!(streams.remove(id).unwrap().id, id);
            assert!(streams.remove(id).is_none());
        }
        for id in 0..300 {
            let is_there = id % 2 == 1 && id < 200 && (id - 1) % 6 != 0;
            assert_eq!(streams.get(id).map(|stream| stream.id), is_there.then_some(id), "{id}");
        }
        streams.insert(stream(201));
        assert_eq!(streams.get_mut(201).unwrap().id, 201);
        assert_eq!(streams.iter().count(), streams.len());
        for id in 0..300 {
            streams.remove(id);
        }
        assert!(streams.is_empty() && streams.slots.is_empty());
    }

    #[test]
    fn what_is_gone_is_known() {
        let mut streams = Streams::default();
        streams.remember_gap(0, 1);
        streams.remember_gap(1, 3);
        streams.remember_gap(3, 9);
        assert_eq!(streams.gone(1), Gone::Closed);
        assert_eq!(streams.gone(5), Gone::Skipped);
        assert_eq!(streams.gone(9), Gone::Closed);
        streams.remember_reset(9);
        assert_eq!(streams.gone(9), Gone::Reset);
        for id in 0..RESETS_REMEMBERED as u32 {
            streams.remember_reset(11 + 4 * id);
        }
        assert_eq!((streams.gone(9), streams.gone(11), streams.gone(13)), (Gone::Reset, Gone::Reset, Gone::Closed));
        assert_eq!(streams.gone(3), Gone::Reset);
    }
}
