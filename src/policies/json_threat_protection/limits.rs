//! The limits, as the scanner checks them.

use super::tokens::DEPTH_MAX;

/// What a body may have at most. Where there is no limit, it is the largest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nested containers: never above `DEPTH_MAX`.
    pub depth: u32,
    /// Entries of an object, and elements of an array.
    pub entries: u32,
    pub elements: u32,
    /// Characters of an entry's name, and of a string that is a value.
    pub name: u64,
    pub string: u64,
}

impl Limits {
    pub const NONE: Self =
        Self { depth: DEPTH_MAX, entries: u32::MAX, elements: u32::MAX, name: u64::MAX, string: u64::MAX };

    pub fn measures_strings(&self) -> bool {
        self.least_length() < u64::MAX
    }

    pub fn counts_members(&self) -> bool {
        self.entries.min(self.elements) < u32::MAX
    }

    pub fn least_length(&self) -> u64 {
        self.name.min(self.string)
    }
}
