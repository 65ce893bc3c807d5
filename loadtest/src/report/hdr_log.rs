//! The HdrHistogram log, version 2: an interval a line, for the tools that read it (HistogramLogAnalyzer and others).

use std::{io::Write, time::Duration, time::SystemTime};

use anyhow::{Context, Result, anyhow};
use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};

use crate::generator::Outcome;

/// Latencies are nanoseconds, and the log's maximum column milliseconds, as those tools expect.
const MAX_VALUE_DIVISOR: f64 = 1e6;

/// Writes rounds one behind the other. `started`: when the first began.
///
/// # Errors
/// The writer fails.
pub fn write(out: &mut impl Write, started: SystemTime, outcomes: &[Outcome]) -> Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(" ringway-loadtest: latency in nanoseconds, from the intended time of each request")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(MAX_VALUE_DIVISOR);
    let mut log = builder.begin_log_with(out, &mut serializer).context("cannot write the histogram log")?;
    let mut before_ns = 0;
    for (index, outcome) in outcomes.iter().enumerate() {
        // The format's tags hold no comma, blank or line end.
        let tag = format!("round-{}", index + 1);
        let tag = Tag::new(&tag).context("a tag of letters and digits")?;
        for interval in &outcome.intervals {
            let start = Duration::from_nanos(before_ns + interval.start_ns);
            let length = Duration::from_nanos(interval.length_ns);
            log.write_histogram(&interval.latency, start, length, Some(tag))
                .map_err(|error| anyhow!("cannot write the histogram log: {error:?}"))?;
        }
        before_ns += outcome.window_ns;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };

    use super::*;
    use crate::report::tests::outcome;

    #[test]
    fn the_log_can_be_read_again() {
        let mut log = Vec::new();
        write(&mut log, SystemTime::UNIX_EPOCH, &[outcome(), outcome()]).expect("a vector takes everything");
        let mut total = 0;
        for entry in IntervalLogIterator::new(&log) {
            if let Ok(LogEntry::Interval(interval)) = entry {
                let bytes = decode(interval.encoded_histogram());
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut &bytes[..]).expect("what was written");
                total += histogram.len();
            }
        }
        assert_eq!(total, 2000);
    }

    /// Base64, as the log has it.
    fn decode(text: &str) -> Vec<u8> {
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
        for digit in text.chars().filter_map(|c| ALPHABET.find(c)) {
            bits = bits << 6 | digit as u32;
            held += 6;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        bytes
    }
}
