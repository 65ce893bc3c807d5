//! What systemd is told: that we serve, reload, stop, and are alive (`Type=notify`, `WatchdogSec=`).
//!
//! Where nobody asks (`NOTIFY_SOCKET`), nothing is said. A reload ends with READY also where it was refused, since the
//! configuration before it serves on, and a manager that waits for the end of a reload must not wait for ever.

use std::sync::Arc;

use sd_notify::NotifyState;

use super::status::Status;

/// All is bound and the configuration is in force; `status` is for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A new configuration is read. systemd takes the time to know this reload from one that it asked for later.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the service manager is not told of the reload: {error}"),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says that we live, as often as the manager wants to hear it and only while every core does; returns where it does not
/// ask. Stopped with this thread, or without an answer of a core, the manager ends and restarts us.
pub async fn keep_alive(status: Arc<Status>) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let mut rounds = tokio::time::interval(limit / 3);
    loop {
        rounds.tick().await;
        if status.liveness().is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager does not listen: {error}");
    }
}
