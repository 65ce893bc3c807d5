//! What policies that ask somebody outside have in common: looking for an answer, waiting for it, and reading its JSON.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Question;
use crate::{
    calls::{Lead, Look, Stands, Waits, Wake},
    net::signal::Signals,
};

/// What there is for a request that needs an answer.
pub enum Found<V> {
    Known(V),
    Told(Stands<V>),
    /// It comes: the exchange waits.
    Waits(Waits<V>, Box<Question>),
}

/// Looks for an answer; who comes first asks for it. `at_most`: how long an exchange waits, which is longer than the question
/// takes; it is for when nobody says so.
pub fn find<V: Clone + Send>(
    look: impl FnOnce(&mut dyn FnMut() -> Option<Wake>) -> Look<V>,
    signals: &Signals,
    at_most: Duration,
    ask: impl FnOnce(Lead<V>),
) -> Found<V> {
    let mut signal = None;
    let mut bell = || {
        let (waits, bell) = signals.new_signal()?;
        signal = Some(waits);
        Some(Box::new(move || bell.ring()) as Wake)
    };
    let waits = match look(&mut bell) {
        Look::Known(verdict) => return Found::Known(verdict),
        Look::Full => return Found::Told(Stands::Lost),
        Look::Waits(waits) => waits,
        Look::Asks(lead, waits) => {
            ask(lead);
            waits
        }
    };
    match (waits.stands(), signal) {
        (Stands::Coming, Some(signal)) => Found::Waits(waits, Box::new(Question::Signal { signal, at_most })),
        (stands, _) => Found::Told(stands),
    }
}

/// What an object of JSON says; a list of values would be taken for its fields. What is nested deeper than 128 levels is none.
pub fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    is_object.then(|| serde_json::from_slice(json).ok()).flatten()
}
