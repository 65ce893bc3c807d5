//! What a core does when the kernel refuses its driver's one call, the one that waits.
//!
//! Nothing else on the core would notice: a call that fails at once makes the loop spin, and what it was to submit or to tell
//! never happens. So a core backs off, and gives up after [`GIVE_UP_AFTER`] without one call that worked: its thread ends,
//! which management sees. A completion that was lost is worse, since nobody knows whose it was: some operation will never
//! end. That core still serves, and says that it is failing, so that the process can end in good order.

use std::{
    cell::Cell,
    io,
    time::{Duration, Instant},
};

/// Memory that is short comes back sooner than this, or not at all as far as clients are concerned.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How often the log is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static FAILING: Cell<bool> = const { Cell::new(false) };
}

/// How often the kernel has refused this core's call.
pub fn count() -> u64 {
    COUNT.get()
}

/// Whether this core cannot be relied on any more.
pub fn is_failing() -> bool {
    FAILING.get()
}

/// The refusals since a call worked.
#[derive(Default)]
pub struct Faults {
    since: Option<Instant>,
    pause: Duration,
    told: Option<Instant>,
}

impl Faults {
    /// A call worked.
    pub fn over(&mut self) {
        // Tested first: it is so each time.
        if self.since.is_some() {
            self.since = None;
            self.pause = Duration::ZERO;
        }
    }

    /// A call failed, with an error that is no everyday's. Waits a little.
    ///
    /// # Errors
    /// There is no use in going on.
    pub fn back_off(&mut self, error: io::Error) -> io::Result<()> {
        COUNT.set(COUNT.get() + 1);
        let is_lost = error.raw_os_error() == Some(libc::EBADR);
        let now = Instant::now();
        if self.told.is_none_or(|told| now - told >= TELL_EVERY) || is_lost && !is_failing() {
            self.told = Some(now);
            match is_lost {
                true => tracing::error!("the kernel had no memory for a completion ({error}): an operation never ends"),
                false => tracing::error!("the kernel refuses the I/O driver's call ({error}); trying again"),
            }
        }
        if is_lost {
            FAILING.set(true);
        }
        let pause = self.next_pause(now).ok_or(error)?;
        std::thread::sleep(pause);
        Ok(())
    }

    fn next_pause(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        if now - since >= GIVE_UP_AFTER {
            FAILING.set(true);
            return None;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        Some(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        os::{fd::IntoRawFd, unix::net::UnixStream},
        thread,
    };

    use super::*;
    use crate::net::{
        driver::{self, Flags, Kind},
        reactor::{Fd, Pending},
        task,
    };

    #[test]
    fn refusals_are_waited_out_longer_each_time_and_not_for_ever() {
        let mut faults = Faults::default();
        let begun = Instant::now();
        let pauses: Vec<u128> =
            (0..10).map(|_| faults.next_pause(begun).expect("it has just begun").as_millis()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]);
        faults.over();
        assert_eq!(faults.next_pause(begun + GIVE_UP_AFTER), Some(PAUSE_MIN), "a call worked in between");
        assert_eq!(faults.next_pause(begun + 2 * GIVE_UP_AFTER), None);
    }

    /// From now on the kernel refuses this thread's call that waits.
    fn refuse(call: libc::c_long, error: libc::c_int) {
        let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let mut program = [
            // The call's number comes first in what a filter looks at.
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the program is lent for the duration of the call, with its length; the kernel copies it.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
        }
    }

    /// How a core ends, and how often its call was refused, when that begins in mid-life.
    fn run_refused(kind: Kind, call: libc::c_long, error: libc::c_int) -> Option<(io::Error, u64)> {
        let core = thread::spawn(move || {
            let probe = driver::run(kind, async { task::sleep(Duration::from_millis(1)).await });
            // A host without io_uring has nothing to check.
            probe.ok()?;
            let run = driver::run(kind, async {
                task::sleep(Duration::from_millis(1)).await;
                refuse(call, error);
                // More than the ring's queue has room for: what begins an operation must not hang or spin either.
                let (socket, _peer) = UnixStream::pair().expect("descriptors are free");
                let fd = Fd::new(socket.into_raw_fd()).expect("the driver has room");
                for _ in 0..2 * driver::ENTRIES {
                    let mut waiting = Pending::new(fd.clone());
                    task::spawn(async move { poll_fn(|context| waiting.poll_readable(context)).await });
                }
                pending::<()>().await;
            });
            Some((run.expect_err("it gives up"), count()))
        });
        core.join().expect("it does not panic")
    }

    #[test]
    fn a_core_whose_ring_is_refused_for_good_ends_and_does_not_spin() {
        for error in [libc::ENOMEM, libc::EBADR] {
            let kind = Kind::IoUring(Flags::DeferTaskrun);
            let Some((why, refused)) = run_refused(kind, libc::SYS_io_uring_enter, error) else { return };
            assert_eq!(why.raw_os_error(), Some(error));
            assert!(refused < 100, "{refused} calls in {GIVE_UP_AFTER:?}");
        }
    }

    #[test]
    fn a_core_whose_epoll_is_refused_for_good_ends_and_does_not_spin() {
        let (why, refused) =
            run_refused(Kind::Epoll, libc::SYS_epoll_wait, libc::ENOMEM).expect("epoll is always there");
        assert_eq!(why.raw_os_error(), Some(libc::ENOMEM));
        assert!(refused < 100, "{refused} calls in {GIVE_UP_AFTER:?}");
    }
}
