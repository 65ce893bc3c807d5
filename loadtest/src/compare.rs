//! `compare A.json B.json`: what changed, how sure that is, and whether it is too much.
//!
//! Works on the measurements that two results have in common, of whatever kind they are.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{
    report::{Better, FORMAT, Measurement},
    statistics::{Ratio, median},
};

#[derive(Deserialize)]
struct Results {
    format: u32,
    #[serde(default)]
    started: String,
    measurements: Vec<Measurement>,
}

/// What a comparison found.
pub struct Comparison {
    pub table: String,
    /// Measurements that became worse by more than the threshold.
    pub worse: Vec<String>,
}

/// `threshold`: how much worse a measurement may be, as a share; 0.05 is 5 %. `only`: names must begin with it.
///
/// # Errors
/// A file cannot be read, or the two have no measurement in common.
pub fn compare(before: &Path, after: &Path, threshold: f64, only: &str) -> Result<Comparison> {
    let (a, b) = (read(before)?, read(after)?);
    let mut table = format!("A  {}  {}\nB  {}  {}\n\n", before.display(), a.started, after.display(), b.started);
    let _ = writeln!(table, "{:<40} {:>12} {:>12} {:>7}  {:<16}", "", "A", "B", "B/A", "95 % interval");
    let (mut worse, mut common) = (Vec::new(), 0);
    for first in a.measurements.iter().filter(|measurement| measurement.name.starts_with(only)) {
        let Some(second) = b.measurements.iter().find(|second| second.name == first.name) else { continue };
        let Some(ratio) = Ratio::of(&first.samples, &second.samples) else { continue };
        common += 1;
        let is_worse = is_past(first.better, ratio, threshold);
        if is_worse {
            worse.push(first.name.clone());
        }
        let interval = match ratio.interval {
            Some((low, high)) => format!("{low:.3} to {high:.3}"),
            None => "one round".into(),
        };
        let verdict = match (is_worse, ratio.is_certain()) {
            (true, _) => "worse",
            (false, true) => "differs",
            (false, false) => "",
        };
        let (left, right) = (median(&first.samples), median(&second.samples));
        let name = format!("{} ({})", first.name, first.unit);
        let _ = writeln!(table, "{name:<40} {left:>12.2} {right:>12.2} {:>7.3}  {interval:<16} {verdict}", ratio.ratio);
    }
    ensure!(common > 0, "{} and {} have no measurement in common", before.display(), after.display());
    Ok(Comparison { table, worse })
}

/// Worse by more than the threshold, and not by chance as far as the rounds can tell.
fn is_past(better: Better, ratio: Ratio, threshold: f64) -> bool {
    let by = match better {
        Better::Lower => ratio.ratio - 1.0,
        Better::Higher => 1.0 / ratio.ratio - 1.0,
    };
    by > threshold && (ratio.interval.is_none() || ratio.is_certain())
}

fn read(path: &Path) -> Result<Results> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Results = serde_json::from_str(&text).with_context(|| format!("{} is no result", path.display()))?;
    ensure!(results.format == FORMAT, "{}: format {} is not {FORMAT}", path.display(), results.format);
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(better: &str, a: &str, b: &str, threshold: f64) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, samples: &str| {
            let path = folder.path().join(name);
            let json = format!(
                r#"{{"format":1,"measurements":[{{"name":"x","unit":"us","better":"{better}","samples":{samples}}}]}}"#
            );
            fs::write(&path, json).expect("a file of ours");
            path
        };
        let (before, after) = (write("a.json", a), write("b.json", b));
        compare(&before, &after, threshold, "").expect("one measurement in common").worse
    }

    #[test]
    fn past_the_threshold_is_worse_in_its_own_direction() {
        let (low, high) = ("[10,10.1,9.9]", "[12,12.1,11.9]");
        assert_eq!(compared("lower", low, high, 0.05), ["x"]);
        assert!(compared("lower", low, high, 0.25).is_empty());
        assert!(compared("lower", high, low, 0.05).is_empty());
        assert_eq!(compared("higher", high, low, 0.05), ["x"]);
        assert!(compared("higher", low, high, 0.05).is_empty());
    }

    #[test]
    fn noise_is_not_worse_and_a_single_round_is_taken_at_its_word() {
        assert!(compared("lower", "[8,10,12]", "[9,11,13]", 0.05).is_empty());
        assert_eq!(compared("lower", "[10]", "[11]", 0.05), ["x"]);
    }

    #[test]
    fn files_without_anything_in_common_are_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        fs::write(&path, r#"{"format":1,"measurements":[]}"#).expect("a file of ours");
        assert!(compare(&path, &path, 0.05, "").is_err());
        fs::write(&path, r#"{"format":2,"measurements":[]}"#).expect("a file of ours");
        assert!(compare(&path, &path, 0.05, "").is_err_and(|error| error.to_string().contains("format 2")));
    }
}
