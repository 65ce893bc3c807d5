//! How much may be read from one side before the other has taken it: what its socket has room for.
//!
//! A piece of 64 KiB that was read for a client that has stopped reading is 64 KiB that the gateway keeps for it. So whoever
//! moves much asks first. A socket tells in two system calls, which is why it is asked seldom: what it has room for is
//! counted down as it is sent.

use super::{
    Sender,
    buffer::{LARGE_ROOM, SMALL_ROOM},
};

/// So much of what a client is sent may lie in the kernel without being on its way (`TCP_NOTSENT_LOWAT`). Without this a client
/// that does not read costs 2.5 MiB there, and some hundred of them all the memory that the kernel has for TCP.
/// A socket that calls itself writable takes half of this.
pub const UNSENT_MAX: usize = 128 * 1024;

/// With less than this known to be free, the socket is asked.
const LEAST: usize = 16 * 1024;

/// Of one direction of a connection.
pub struct Pace {
    /// What is known to be free, as bytes of payload.
    left: usize,
}

impl Pace {
    /// Of a socket that has taken all so far: it is asked after a large piece.
    pub const fn begin() -> Self {
        Self { left: LARGE_ROOM }
    }

    pub fn sent(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// The socket has to be asked.
    pub const fn is_due(&self) -> bool {
        self.left < LEAST
    }

    /// Waits until the socket has room.
    pub async fn ask(&mut self, sender: &Sender) {
        let free = sender.room().await;
        // The kernel counts its own overhead too. One that says little is writable all the same.
        self.left = (free / 2).clamp(LEAST, UNSENT_MAX / 2);
    }

    /// How much to send, or to read for it, at a time.
    pub fn room(&self) -> usize {
        self.left.clamp(SMALL_ROOM, LARGE_ROOM)
    }
}
