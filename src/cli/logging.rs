//! Diagnostics: text or JSON lines on stderr. Access logs are not made here and never mix with these.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

use crate::app::LogFormat;

/// Starts writing. Called once, before anything that may have something to say.
pub fn start(level: LevelFilter, format: LogFormat) {
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_target(false);
    match format {
        LogFormat::Text => lines.with_ansi(colour()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Only for a person at a terminal who did not say otherwise (<https://no-color.org>).
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
