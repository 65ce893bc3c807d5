//! Scenario files. What the command line also says, the command line decides.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, de::Error};

use super::Request;
use crate::schedule::Shape;

/// A load as written in YAML; every field may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scenario {
    pub target: Option<String>,
    /// Requests per second. Neither this nor a rate on the command line: a closed loop must be asked for.
    pub rate: Option<f64>,
    pub schedule: Option<Shape>,
    pub connections: Option<usize>,
    pub keep_alive: Option<bool>,
    #[serde(deserialize_with = "duration")]
    pub duration: Option<Duration>,
    #[serde(deserialize_with = "duration")]
    pub warmup: Option<Duration>,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    pub requests: Vec<Request>,
}

/// # Errors
/// The file cannot be read, or is no scenario; with file, line and column.
pub fn read(path: &Path) -> Result<Scenario> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no scenario", path.display()))
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

/// `500ms`, `10s`, `2m`, or seconds as a plain number.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("{unit} is no unit of time: ms, s, m or h")),
    };
    let seconds = digits.parse::<f64>().map_err(|_| format!("{text:?} is no time such as 500ms, 10s or 2m"))? * unit;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err(format!("{text} is not between 0 and a day"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_says_everything_or_nothing() {
        let text = "
target: http://127.0.0.1:8081
rate: 5000
schedule: poisson
duration: 90s
headers: {authorization: Bearer x}
requests:
  - {weight: 3, path: /orders/1}
  - method: POST
    path: /orders
    bodyBytes: 100
";
        let scenario: Scenario = serde_saphyr::from_str(text).expect("a scenario");
        assert_eq!(scenario.rate, Some(5000.0));
        assert_eq!(scenario.schedule, Some(Shape::Poisson));
        assert_eq!(scenario.duration, Some(Duration::from_secs(90)));
        assert_eq!(scenario.requests[0].weight, 3.0);
        assert_eq!(scenario.requests[1].body_bytes, Some(100));
        let empty: Scenario = serde_saphyr::from_str("{}").expect("an empty scenario");
        assert!(empty.requests.is_empty() && empty.rate.is_none());
        let misspelt = serde_saphyr::from_str::<Scenario>("{rte: 1}").expect_err("must be refused").to_string();
        assert!(misspelt.contains("rte"), "{misspelt}");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("2x").is_err() && parse_duration("s").is_err() && parse_duration("-1s").is_err());
    }
}
