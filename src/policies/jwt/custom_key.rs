//! A key that an expression gives for each request, such as one that a policy before has found out.
//!
//! A core remembers the last one as it was read. Another one takes its place, and with it goes what the one before has verified.

use std::rc::Rc;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{
    FORMATS,
    algorithm::Algorithm,
    keys::{Key, TEXT_BYTES_MAX},
};
use crate::{
    expression::{Template, Value},
    policies::{Exchange, reading::Reading},
};

#[derive(Debug)]
pub struct CustomKey {
    pub expression: Template,
    pub algorithms: Box<[Algorithm]>,
}

/// The last that one core has met.
#[derive(Default)]
pub struct Last {
    text: String,
    /// None where the text is no key.
    key: Option<Rc<Key>>,
}

impl CustomKey {
    /// The request's key, if it has one, and whether it is another one than before.
    pub fn find(&self, last: &mut Last, exchange: &Exchange<'_>) -> (Option<Rc<Key>>, bool) {
        let reading = Reading::request(exchange).with_payload(&FORMATS);
        let text = match self.expression.evaluate(&reading) {
            Ok(Value::Null) | Err(_) => None,
            Ok(value) => value.into_text().ok(),
        };
        let text = text.as_deref().filter(|text| text.len() <= TEXT_BYTES_MAX).unwrap_or_default();
        // The one before may be a secret that whoever sends this one does not know.
        let changed = verify_slices_are_equal(text.as_bytes(), last.text.as_bytes()).is_err();
        if changed {
            let key = Key::from_text(text, &self.algorithms).ok().map(Rc::new);
            *last = Last { text: text.to_owned(), key };
        }
        (last.key.clone(), changed)
    }
}
