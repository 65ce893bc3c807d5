//! One setting: what stands for it in a file, which values it may have, and how a dump shows it.

use crate::document::duration;
use std::{ops::RangeInclusive, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::{
    node::Located,
    problem::{Location, Problem, Severity},
};

/// The type of a setting.
pub trait Setting: Sized {
    /// As it stands in a file.
    type Written: DeserializeOwned;
    /// What tells the values that it may have, where its type does not.
    type Range;

    /// # Errors
    /// What was expected, in words.
    fn check(written: Self::Written, range: Self::Range) -> Result<Self, String>;
    /// As it stands in a file.
    fn to_json(&self) -> Value;
}

impl Setting for bool {
    type Written = bool;
    type Range = ();

    fn check(written: bool, (): ()) -> Result<Self, String> {
        Ok(written)
    }

    fn to_json(&self) -> Value {
        (*self).into()
    }
}

impl Setting for usize {
    type Written = u64;
    type Range = RangeInclusive<u64>;

    fn check(written: u64, range: RangeInclusive<u64>) -> Result<Self, String> {
        let count = Self::try_from(written).ok().filter(|_| range.contains(&written));
        count.ok_or_else(|| format!("expected {} to {}", range.start(), range.end()))
    }

    fn to_json(&self) -> Value {
        (*self).into()
    }
}

impl Setting for Duration {
    type Written = f64;
    type Range = ();

    fn check(written: f64, (): ()) -> Result<Self, String> {
        duration(written)
    }

    fn to_json(&self) -> Value {
        self.as_secs_f64().into()
    }
}

/// 0 means no limit.
impl Setting for Option<Duration> {
    type Written = f64;
    type Range = ();

    fn check(written: f64, (): ()) -> Result<Self, String> {
        duration(written).map(|time| Some(time).filter(|time| !time.is_zero()))
    }

    fn to_json(&self) -> Value {
        self.unwrap_or_default().to_json()
    }
}

/// Moves values of a section into the settings if they are in range, and reports them if not.
pub struct Checked<'p> {
    /// Of the section.
    pub path: String,
    pub problems: &'p mut Vec<Problem>,
}

impl Checked<'_> {
    pub fn set<S: Setting>(
        &mut self,
        field: &str,
        written: Option<Located<S::Written>>,
        range: S::Range,
        setting: &mut S,
    ) {
        let Some(Located { value, location }) = written else { return };
        match S::check(value, range) {
            Ok(value) => *setting = value,
            Err(text) => self.error(field, location, text),
        }
    }

    pub fn error(&mut self, field: &str, location: Location, text: String) {
        self.problem(Severity::Error, field, location, text);
    }

    pub fn problem(&mut self, severity: Severity, field: &str, location: Location, text: String) {
        if location.is_nowhere() {
            return;
        }
        let path = format!("{}.{field}", self.path);
        self.problems.push(Problem { severity, location, path, text });
    }

    pub fn warn(&mut self, field: &str, location: Location, text: String) {
        let path = format!("{}.{field}", self.path);
        self.problems.push(Problem { severity: Severity::Warning, location, path, text });
    }
}
