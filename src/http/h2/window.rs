//! Flow control of what we receive (RFC 9113 section 5.2): what the peer may send, and when to tell it that it may send more.

/// Of a stream or of the connection.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveWindow {
    /// What the peer may still send. Below 0 only after our setting made it smaller.
    available: i64,
    /// Consumed here, and not yet announced.
    consumed: u32,
    /// An update is sent when half of this is to be announced.
    size: u32,
}

impl ReceiveWindow {
    pub fn new(size: u32) -> Self {
        Self { available: i64::from(size), consumed: 0, size }
    }

    /// The peer has sent so many bytes; false where it was not allowed to.
    pub fn receive(&mut self, bytes: usize) -> bool {
        self.available -= bytes as i64;
        self.available >= 0
    }

    /// So many bytes may be sent again; returns the increment to announce now, if it is worth a frame.
    pub fn release(&mut self, bytes: usize) -> Option<u32> {
        self.consumed += bytes as u32;
        self.update()
    }

    /// A setting has changed what streams begin with, for the peer too.
    pub fn change(&mut self, by: i64) {
        self.available += by;
        self.size = u32::try_from(i64::from(self.size) + by).unwrap_or_default();
    }

    /// As [`ReceiveWindow::release`], and from then on the window is of this size, as far as it lies with us: what the peer was
    /// told that it may send, it may send.
    pub fn release_toward(&mut self, bytes: usize, size: u32) -> Option<u32> {
        self.consumed += bytes as u32;
        if let Some(more) = size.checked_sub(self.size) {
            self.consumed += more;
            self.size = size;
        } else {
            let less = (self.size - size).min(self.consumed);
            self.consumed -= less;
            self.size -= less;
        }
        self.update()
    }

    /// Announces a larger window at once.
    pub fn grow(&mut self, size: u32) -> Option<u32> {
        self.consumed += size.saturating_sub(self.size);
        self.size = self.size.max(size);
        self.update()
    }

    fn update(&mut self) -> Option<u32> {
        if self.consumed == 0 || self.consumed < self.size / 2 {
            return None;
        }
        let increment = std::mem::take(&mut self.consumed);
        self.available += i64::from(increment);
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_batched_and_never_lost() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(100));
        assert_eq!(window.release(49), None);
        assert_eq!(window.release(1), Some(50));
        assert!(window.receive(50));
        assert_eq!(window.release(100), Some(100));
        assert!(window.receive(100));
        assert!(!window.receive(1));
    }

    #[test]
    fn one_that_follows_its_reader_grows_at_once_and_shrinks_by_what_comes_back() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(100));
        assert_eq!(window.release_toward(100, 400), Some(400));
        assert!(window.receive(300));
        assert_eq!(window.release_toward(300, 100), None);
        assert!(window.receive(100), "what was promised stays");
        assert!(!window.receive(1));
        let mut window = ReceiveWindow::new(400);
        assert!(window.receive(400));
        assert_eq!(window.release_toward(350, 100), Some(50));
        assert!(window.receive(50));
        assert_eq!(window.release_toward(50, 100), Some(50), "the smaller window is announced by its own half");
    }

    #[test]
    fn a_smaller_setting_counts_what_was_sent_before_it() {
        let mut window = ReceiveWindow::new(100);
        assert!(window.receive(80));
        window.change(-50);
        assert!(!window.receive(1));
        let mut window = ReceiveWindow::new(0);
        assert!(!window.receive(1));
        let mut window = ReceiveWindow::new(65_535);
        assert_eq!(window.grow(1 << 20), Some((1 << 20) - 65_535));
        assert!(window.receive(1 << 20));
    }
}
