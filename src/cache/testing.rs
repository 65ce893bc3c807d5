//! What the tests of the judgement begin with.

use crate::http::head::Fields;

/// The fields of these lines.
pub fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    lines.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
    fields
}
