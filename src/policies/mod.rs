//! Policies: one file each, one table. What a policy sees of an exchange is `Exchange`.

/// A policy as the chain runs it.
#[derive(Debug)]
pub enum Policy {
    /// Could not be built: every request it would have governed is refused with 503 (fail closed).
    Broken(String),
}
