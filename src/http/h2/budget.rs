//! What a peer may make us do: a token bucket over work, per connection.
//!
//! Every HTTP/2 flood is a frame that costs its sender less than us, sent often. So everything but payload has a price.
//! A stream's opening and its head are paid back when it ends as streams should, so an honest client may make any number
//! of requests; resets of either side never are (Rapid Reset, MadeYouReset). Control frames that answer payload (window
//! updates, PINGs that measure bandwidth) are free as far as there was payload.

use std::time::Instant;

use super::error::{Code, ConnectionError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Work {
    Stream,
    Header,
    PeerReset,
    OwnReset,
    Continuation,
    EmptyFrame,
    Settings,
    Ping,
    Priority,
    WindowUpdate,
    ClosedStream,
    UnknownFrame,
}

const KINDS: usize = 12;

impl Work {
    /// For logs and metrics.
    fn reason(self) -> &'static str {
        match self {
            Self::Stream => "stream_flood",
            Self::Header => "header_flood",
            Self::PeerReset => "reset_flood",
            Self::OwnReset => "provoked_reset_flood",
            Self::Continuation => "continuation_flood",
            Self::EmptyFrame => "empty_frame_flood",
            Self::Settings => "settings_flood",
            Self::Ping => "ping_flood",
            Self::Priority => "priority_flood",
            Self::WindowUpdate => "window_update_flood",
            Self::ClosedStream => "closed_stream_flood",
            Self::UnknownFrame => "unknown_frame_flood",
        }
    }

    const ALL: [Self; KINDS] = [
        Self::Stream,
        Self::Header,
        Self::PeerReset,
        Self::OwnReset,
        Self::Continuation,
        Self::EmptyFrame,
        Self::Settings,
        Self::Ping,
        Self::Priority,
        Self::WindowUpdate,
        Self::ClosedStream,
        Self::UnknownFrame,
    ];
}

/// Prices, in units. A unit is about what copying 64 bytes of a head costs with its field.
pub mod price {
    pub const STREAM: u32 = 10;
    pub const PEER_RESET: u32 = 20;
    pub const OWN_RESET: u32 = 20;
    pub const CONTINUATION: u32 = 10;
    pub const EMPTY_FRAME: u32 = 10;
    pub const SETTINGS: u32 = 40;
    pub const PING: u32 = 10;
    pub const PRIORITY: u32 = 5;
    pub const WINDOW_UPDATE: u32 = 3;
    /// Below `SMALL_INCREMENT`.
    pub const SMALL_WINDOW_UPDATE: u32 = 10;
    pub const CLOSED_STREAM: u32 = 5;
    /// The same, from a server that could not know of our reset. Those of many clients come together on its connection.
    pub const CROSSED_RESET: u32 = 1;
    pub const UNKNOWN_FRAME: u32 = 10;
    /// So many bytes of a decoded head, with each field's overhead, are a unit.
    pub const HEADER_BYTES: usize = 64;
}

pub const SMALL_INCREMENT: u32 = 512;

/// The bucket holds what is earned in so many seconds.
const BURST_SECONDS: i64 = 2;
const FREE_FRAMES_MAX: u32 = 4096;

pub struct Budget {
    left: i64,
    per_second: i64,
    filled_at: Instant,
    /// Control frames that payload has paid for.
    free_frames: u32,
    /// By kind, since the bucket was full last: whose fault it is.
    spent: [u32; KINDS],
}

impl Budget {
    pub fn new(work_per_second: u32, now: Instant) -> Self {
        let per_second = i64::from(work_per_second);
        Self { left: per_second * BURST_SECONDS, per_second, filled_at: now, free_frames: 0, spent: [0; KINDS] }
    }

    pub fn fill(&mut self, now: Instant) {
        let micros = now.saturating_duration_since(self.filled_at).as_micros().min(10_000_000) as i64;
        let earned = micros * self.per_second / 1_000_000;
        if earned > 0 {
            self.filled_at = now;
            self.earn(earned);
        }
    }

    fn earn(&mut self, units: i64) {
        self.left += units;
        if self.left >= self.per_second * BURST_SECONDS {
            self.left = self.per_second * BURST_SECONDS;
            self.spent = [0; KINDS];
        }
    }

    pub fn spend(&mut self, work: Work, units: u32) -> Result<(), ConnectionError> {
        self.left -= i64::from(units);
        let spent = &mut self.spent[work as usize];
        *spent = spent.saturating_add(units);
        if self.left >= 0 { Ok(()) } else { Err(self.overspent()) }
    }

    /// A control frame that may be an answer to payload.
    pub fn spend_answer(&mut self, work: Work, units: u32) -> Result<(), ConnectionError> {
        if self.free_frames > 0 {
            self.free_frames -= 1;
            return Ok(());
        }
        self.spend(work, units)
    }

    /// A stream has ended as it should; its head cost `header_units`.
    pub fn pay_back(&mut self, stream_units: u32, header_units: u32) {
        let stream = &mut self.spent[Work::Stream as usize];
        *stream = stream.saturating_sub(stream_units);
        let header = &mut self.spent[Work::Header as usize];
        *header = header.saturating_sub(header_units);
        self.earn(i64::from(stream_units) + i64::from(header_units));
    }

    /// Payload was sent in one frame: window updates of both kinds may answer it.
    pub fn sent_payload(&mut self, bytes: usize) {
        self.add_free_frames(2 + (bytes / 1024) as u32);
    }

    pub fn received_payload(&mut self) {
        self.add_free_frames(1);
    }

    fn add_free_frames(&mut self, frames: u32) {
        self.free_frames = (self.free_frames + frames).min(FREE_FRAMES_MAX);
    }

    #[cold]
    fn overspent(&self) -> ConnectionError {
        let worst = Work::ALL.into_iter().max_by_key(|&work| self.spent[work as usize]);
        ConnectionError::new(Code::ENHANCE_YOUR_CALM, worst.map_or("work", Work::reason))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_time_and_the_worst_is_named() {
        let start = Instant::now();
        let mut budget = Budget::new(1000, start);
        budget.spend(Work::Ping, 1500).unwrap();
        budget.spend(Work::Settings, 500).unwrap();
        let error = budget.spend(Work::Settings, 1).unwrap_err();
        assert_eq!((error.code, error.reason), (Code::ENHANCE_YOUR_CALM, "ping_flood"));

        let mut budget = Budget::new(1000, start);
        budget.spend(Work::Ping, 2000).unwrap();
        for tenth in 1..100 {
            budget.fill(start + Duration::from_millis(100 * tenth));
            budget.spend(Work::Ping, 100).unwrap();
        }
        budget.spend(Work::Ping, 1).unwrap_err();
    }

    #[test]
    fn what_ends_well_costs_nothing() {
        let mut budget = Budget::new(100, Instant::now());
        for _ in 0..10_000 {
            budget.spend(Work::Stream, 10).unwrap();
            budget.spend(Work::Header, 100).unwrap();
            budget.pay_back(10, 100);
        }
        assert_eq!((budget.left, budget.spent), (200, [0; KINDS]));
    }

    #[test]
    fn payload_pays_for_its_answers() {
        let mut budget = Budget::new(1, Instant::now());
        for _ in 0..10_000 {
            budget.sent_payload(100);
            budget.spend_answer(Work::WindowUpdate, price::SMALL_WINDOW_UPDATE).unwrap();
            budget.spend_answer(Work::WindowUpdate, price::SMALL_WINDOW_UPDATE).unwrap();
        }
        budget.spend_answer(Work::WindowUpdate, price::SMALL_WINDOW_UPDATE).unwrap_err();
    }
}
