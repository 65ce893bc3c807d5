//! The event loop of a generator, an upstream or a relay: the same runtime and ring flags as a core of the gateway.
//!
//! Written again here instead of taken from the gateway, so that a change of the gateway's driver never changes the
//! instrument that measures it.

use std::{fmt, future::Future, io};

use clap::ValueEnum;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    Auto,
    #[value(name = "io_uring")]
    IoUring,
    Epoll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `SINGLE_ISSUER | DEFER_TASKRUN`, Linux 6.1.
    Deferred,
    /// No flags, for kernels before.
    Plain,
    Epoll,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deferred => "io_uring (SINGLE_ISSUER|DEFER_TASKRUN)",
            Self::Plain => "io_uring (no flags)",
            Self::Epoll => "epoll",
        })
    }
}

const ENTRIES: u32 = 1024;

/// What this host gives, fastest first.
///
/// # Errors
/// io_uring was demanded and is not to be had.
pub fn choose(wanted: Wanted) -> io::Result<Driver> {
    if wanted == Wanted::Epoll {
        return Ok(Driver::Epoll);
    }
    let attempt = |driver| ring(driver).build(ENTRIES).map(|_| driver);
    match attempt(Driver::Deferred).or_else(|_| attempt(Driver::Plain)) {
        Err(_) if wanted == Wanted::Auto => Ok(Driver::Epoll),
        result => result,
    }
}

fn ring(driver: Driver) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_cqsize(16 * ENTRIES);
    if driver == Driver::Deferred {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    builder
}

/// Runs `main` to its end on this thread.
///
/// # Errors
/// The event loop could not be built; nothing ran.
pub fn run<F: Future>(driver: Driver, main: F) -> io::Result<F::Output> {
    match driver {
        Driver::Epoll => {
            let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(ENTRIES);
            Ok(builder.enable_timer().build()?.block_on(main))
        }
        ring_driver => {
            let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(ring(ring_driver));
            Ok(builder.enable_timer().build()?.block_on(main))
        }
    }
}
