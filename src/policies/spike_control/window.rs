//! A sliding window that all cores of a replica share, and that is exact over them.
//!
//! A ring with a slot for each request that the window has room for. A slot holds when its request leaves the window, and is
//! taken by one compare-and-swap from a request that has left. So there are never more requests in the window than slots,
//! whatever cores do at the same time, and none of them waits for another.

use std::sync::atomic::{AtomicU64, Ordering};

/// Times are nanoseconds since a start that the caller knows.
#[derive(Debug)]
pub struct Window {
    period_ns: u64,
    /// When the slot's request leaves the window, and in the lowest bit the parity of the lap in which it took the slot: so
    /// it shows whether `next` has been moved on.
    slots: Box<[AtomicU64]>,
    /// Counts the requests; its slot is the oldest. It may lag behind for a moment, and whoever sees that moves it on.
    next: AtomicU64,
}

impl Window {
    /// Room for `requests`, of which there is one at least.
    pub fn new(requests: usize, period_ns: u64) -> Self {
        // The lap before the first is an odd one.
        let slots = (0..requests).map(|_| AtomicU64::new(1)).collect();
        Self { period_ns, slots, next: AtomicU64::new(0) }
    }

    /// Lets one more request in, where there is room.
    pub fn admit(&self, now_ns: u64) -> bool {
        loop {
            let next = self.next.load(Ordering::Acquire);
            let (slot, parity) = (self.slot(next), (next / self.slots.len() as u64) & 1);
            let found = slot.load(Ordering::Acquire);
            if found & 1 == parity {
                self.move_on(next);
                continue;
            }
            if found >> 1 > now_ns {
                return false;
            }
            let leaves = (now_ns.saturating_add(self.period_ns) << 1) | parity;
            if slot.compare_exchange(found, leaves, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.move_on(next);
                return true;
            }
        }
    }

    /// For how many more requests there is room.
    pub fn remaining(&self, now_ns: u64) -> u64 {
        let next = self.next.load(Ordering::Acquire);
        let (mut low, mut high) = (0, self.slots.len() as u64);
        // From the oldest on they leave one after the other.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.slot(next + middle).load(Ordering::Acquire) >> 1 <= now_ns {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// How long until the oldest request leaves; 0 where there is room.
    pub fn reset_ns(&self, now_ns: u64) -> u64 {
        let oldest = self.slot(self.next.load(Ordering::Acquire)).load(Ordering::Acquire) >> 1;
        oldest.saturating_sub(now_ns)
    }

    fn slot(&self, request: u64) -> &AtomicU64 {
        &self.slots[(request % self.slots.len() as u64) as usize]
    }

    fn move_on(&self, from: u64) {
        // Where it fails, another core has done it.
        let _ = self.next.compare_exchange(from, from + 1, Ordering::AcqRel, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_request_leaves_one_period_after_it_came() {
        let window = Window::new(2, 100);
        let admitted = [0, 40, 99, 100, 101, 139, 140, 199, 200, 201].map(|now| window.admit(now));
        assert_eq!(admitted, [true, true, false, true, false, false, true, false, true, false]);
    }

    #[test]
    fn what_remains_and_when_the_oldest_leaves() {
        let window = Window::new(3, 100);
        let state = |now| (window.remaining(now), window.reset_ns(now));
        assert_eq!(state(0), (3, 0));
        for (now, expected) in [(0, (2, 0)), (10, (1, 0)), (30, (0, 70))] {
            assert!(window.admit(now));
            assert_eq!(state(now), expected, "at {now}");
        }
        assert_eq!([state(99), state(100), state(110), state(130)], [(0, 1), (1, 0), (2, 0), (3, 0)]);
    }

    #[test]
    fn a_quiet_window_has_room_again_for_all() {
        let window = Window::new(3, 100);
        for round in 0..7 {
            let admitted = (0..5).filter(|_| window.admit(round * 1000)).count();
            assert_eq!(admitted, 3, "round {round}");
        }
    }

    #[test]
    fn cores_that_meet_at_one_slot_never_share_it() {
        const PERIOD: u64 = 5;
        for room in [1, 2, 3] {
            let (window, clock) = (Window::new(room, PERIOD), AtomicU64::new(0));
            let core = || {
                let times = (0..200_000).map(|_| clock.fetch_add(1, Ordering::Relaxed));
                times.filter(|now| window.admit(*now)).collect::<Vec<_>>()
            };
            let mut admitted = std::thread::scope(|scope| {
                let cores = [(); 4].map(|()| scope.spawn(core));
                cores.map(|core| core.join().expect("it ends")).concat()
            });
            admitted.sort_unstable();
            let crowded = admitted.windows(room + 1).find(|times| times[room] < times[0] + PERIOD);
            assert_eq!(crowded, None, "room for {room}");
        }
    }

    #[test]
    fn cores_together_admit_exactly_as_many_as_there_is_room_for() {
        const CORES: usize = 4;
        const PERIODS: u64 = 200;
        for room in [1, 2, 7, 64] {
            let (window, barrier) = (Window::new(room, 100), Barrier::new(CORES));
            let admitted: Vec<_> = (0..PERIODS).map(|_| AtomicU64::new(0)).collect();
            std::thread::scope(|scope| {
                for _ in 0..CORES {
                    scope.spawn(|| {
                        for (period, admitted) in admitted.iter().enumerate() {
                            barrier.wait();
                            let mine = (0..room).filter(|_| window.admit(period as u64 * 100)).count();
                            admitted.fetch_add(mine as u64, Ordering::Relaxed);
                        }
                    });
                }
            });
            let admitted: Vec<_> = admitted.into_iter().map(AtomicU64::into_inner).collect();
            assert_eq!(admitted, vec![room as u64; PERIODS as usize], "room for {room}");
        }
    }
}
