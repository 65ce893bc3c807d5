//! Which I/O driver this host gives, and why; and a core's thread run on it.
//!
//! The ring's flags decide its cost (a third of a request's CPU between the default and the best), so they are probed here
//! one after the other, and a host that forbids io_uring is told what it loses.

use std::{fmt, future::Future, io};

use super::{executor, reactor, ring::Ring};

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Auto,
    IoUring,
    Epoll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    IoUring(Flags),
    Epoll,
}

/// Ring set-up flags, fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// `SINGLE_ISSUER | DEFER_TASKRUN`, Linux 6.1.
    DeferTaskrun,
    /// `COOP_TASKRUN`, Linux 5.19.
    CoopTaskrun,
    None,
}

/// The chosen driver and the reason for it, one sentence for people.
#[derive(Clone, Debug)]
pub struct Driver {
    pub kind: Kind,
    pub reason: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring(_) => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

impl Kind {
    /// The ring's flags as text, `""` for epoll.
    pub fn flags(&self) -> &'static str {
        match self {
            Self::IoUring(Flags::DeferTaskrun) => "SINGLE_ISSUER|DEFER_TASKRUN",
            Self::IoUring(Flags::CoopTaskrun) => "COOP_TASKRUN",
            Self::IoUring(Flags::None) => "none",
            Self::Epoll => "",
        }
    }
}

pub(super) const ENTRIES: u32 = 1024;
const COMPLETIONS: u32 = 8 * ENTRIES;

/// Tries the rings from the fastest on: as many at a time as there will be cores, since each may be one too many for the
/// descriptors or the memory that this process may have.
///
/// # Errors
/// io_uring was demanded and this host does not give it.
pub fn probe(wanted: Wanted, cores: usize) -> Result<Driver, String> {
    if wanted == Wanted::Epoll {
        return Ok(Driver { kind: Kind::Epoll, reason: "epoll was asked for".into() });
    }
    let mut refusal = None;
    for flags in [Flags::DeferTaskrun, Flags::CoopTaskrun, Flags::None] {
        match (0..cores).map(|_| try_ring(flags)).collect::<io::Result<Vec<_>>>() {
            Ok(_) => {
                let kind = Kind::IoUring(flags);
                return Ok(Driver { kind, reason: format!("io_uring works here with flags {}", kind.flags()) });
            }
            Err(error) => refusal = Some(error),
        }
    }
    let why = refusal.map_or_else(String::new, |error| explain(&error));
    match wanted {
        Wanted::IoUring => Err(why),
        _ => Ok(Driver { kind: Kind::Epoll, reason: why }),
    }
}

/// What the refusal means and what cures it.
fn explain(error: &io::Error) -> String {
    let cure = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "forbidden here: check sysctl kernel.io_uring_disabled and the container's seccomp profile"
        }
        Some(libc::ENOSYS) => "this kernel has no io_uring, or a seccomp profile hides it",
        Some(libc::ENOMEM) => "too little locked memory: raise LimitMEMLOCK (ulimit -l)",
        Some(libc::EMFILE | libc::ENFILE) => "no file descriptor is free: raise LimitNOFILE (ulimit -n)",
        _ => "the kernel refused",
    };
    format!("io_uring is not available ({error}): {cure}")
}

pub(super) fn ring(flags: Flags) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_cqsize(COMPLETIONS);
    match flags {
        Flags::DeferTaskrun => builder.setup_single_issuer().setup_defer_taskrun(),
        Flags::CoopTaskrun => builder.setup_coop_taskrun(),
        Flags::None => &mut builder,
    };
    builder
}

/// Builds a ring with its buffers and sends a no-op through it: a seccomp profile may allow the one and not the other.
fn try_ring(flags: Flags) -> io::Result<io_uring::IoUring> {
    let mut ring = ring(flags).build(ENTRIES)?;
    let nop = io_uring::opcode::Nop::new().build();
    // SAFETY: a no-op refers to no memory.
    unsafe { ring.submission().push(&nop).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))? };
    ring.submit_and_wait(1)?;
    Ring::try_buffers(&ring)?;
    Ok(ring)
}

/// Runs `main` to its end on this thread, which becomes the ring's only issuer.
///
/// # Errors
/// The driver could not be built, and nothing ran; or the kernel refuses it for good, and nothing can go on.
pub fn run<F: Future>(kind: Kind, main: F) -> io::Result<F::Output> {
    reactor::install(kind)?;
    executor::block_on(main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_is_met_or_refused_with_a_reason() {
        assert_eq!(probe(Wanted::Epoll, 1).expect("epoll is always there").kind, Kind::Epoll);
        match probe(Wanted::IoUring, 2) {
            Ok(driver) => assert!(matches!(driver.kind, Kind::IoUring(_))),
            Err(why) => assert!(why.contains("io_uring is not available"), "{why}"),
        }
    }
}
