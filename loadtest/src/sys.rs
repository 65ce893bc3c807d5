//! The kernel's clocks, affinities, timers and limits: the only file with `unsafe`.
//!
//! All times are nanoseconds of CLOCK_MONOTONIC, which is also what the timer below is armed with.

use std::{
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
};

/// A point in time, in nanoseconds.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time that this thread has used.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of a process have used, those that ended too.
pub fn process_cpu_ns(pid: u32) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the kernel's answer goes into a number that is lent for the call.
    let result = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    (result == 0).then(|| clock_ns(clock))
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills a structure that is lent for the call.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// The CPU is not there, or not ours to use.
pub fn pin(cpu: usize) -> io::Result<()> {
    pin_to(&[cpu])
}

/// Keeps this thread, and what it starts, on some CPUs.
///
/// # Errors
/// None of the CPUs is there and ours to use.
pub fn pin_to(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: an all-zero set is a valid, empty one; it outlives the calls that borrow it. `CPU_SET` checks its index.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for &cpu in cpus {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPUs this thread may run on, ascending.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: as in `pin_to`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// Makes `command` start on `cpus`, and end when this thread does, whatever becomes of us.
pub fn confine(command: &mut Command, cpus: &[usize]) {
    let cpus = cpus.to_vec();
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            pin_to(&cpus)
        });
    }
}

/// Asks a process that we started to end.
pub fn terminate(pid: u32) {
    // SAFETY: no memory is involved; the process is a child that was not waited for, so the id is still its own.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
}

/// Ten thousand connections through a proxy are two descriptors each, and some proxies ask for room beforehand.
const FILES_WANTED: u64 = 262_144;

/// As many open files as wanted, or as many as this process may have; what it starts inherits that.
pub fn raise_file_limit() -> u64 {
    // SAFETY: the structure is lent for the calls.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return 0;
        }
        let wanted = libc::rlimit { rlim_cur: FILES_WANTED, rlim_max: FILES_WANTED.max(limit.rlim_max) };
        // Only the privileged may raise the upper bound.
        if limit.rlim_max >= FILES_WANTED || libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) != 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur
    }
}

/// Sends what the socket takes at once. The caller keeps the descriptor open meanwhile.
///
/// # Errors
/// `WouldBlock` when it takes nothing now, otherwise the connection is gone.
pub fn send(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the slice is lent for the call.
    let sent = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Ends a connection in both directions, so that whoever reads from it hears of it.
pub fn shut_down(socket: RawFd) {
    // SAFETY: no memory is involved; a descriptor that is none is an error that nobody needs.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
}

/// A timer with the kernel's precision: the runtime's own has milliseconds, and a request every 200 us needs better.
pub struct Timer {
    /// A timerfd; the runtime only polls it, which it does for every kind of descriptor alike.
    descriptor: monoio::net::UnixStream,
}

impl Timer {
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved, and the new descriptor is owned by nobody else.
        let descriptor = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { descriptor: monoio::net::UnixStream::from_std(UnixStream::from(descriptor))? })
    }

    /// Lets the wait end at `when_ns`, or at once if that is past. Forgets an earlier time.
    pub fn arm(&self, when_ns: u64) {
        let when = when_ns.max(1); // zero would disarm it
        let value = libc::timespec {
            tv_sec: (when / 1_000_000_000) as libc::time_t,
            tv_nsec: (when % 1_000_000_000) as libc::c_long,
        };
        let setting = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: the setting is lent for the call, and the descriptor is a timerfd, open as long as `self`.
        unsafe {
            let fd = self.descriptor.as_raw_fd();
            libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &setting, std::ptr::null_mut());
        }
    }

    /// Waits for the time that was last armed. It stays over until the timer is armed again.
    pub async fn wait(&self) {
        // An error would be one of the ring itself; the caller looks at the clock anyway.
        let _ = self.descriptor.readable(false).await;
    }
}
