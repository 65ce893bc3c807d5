//! What selects requests: regular expressions in linear time where they can be, and the rules made of them.

pub mod pattern;
pub mod rule;
