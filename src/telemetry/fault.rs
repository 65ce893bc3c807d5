//! Why something cannot be had, as metrics, pages and the log tell it.

/// Why an endpoint takes no requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One of a few: a metric's label.
    pub reason: &'static str,
    /// For whoever has to mend it.
    pub text: String,
}

impl Fault {
    pub fn new(reason: &'static str, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}
