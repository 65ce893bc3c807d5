//! What a reply changes of headers, within the rules that Envoy has where nobody has written others.
//!
//! A name or a value that cannot be written fails all of it. What may not be changed is left as it is: the names that requests
//! are routed by, `x-envoy-`, and what frames a message, which is the gateway's to write.

use super::messages::HeaderMutation;
use crate::{
    http::bytes::{decimal, is_field_value, is_token},
    policies::{
        Exchange, Headers, Side,
        envoy::{HeaderOption, HeaderValue},
        headers::HeaderName,
    },
    telemetry::fault::Fault,
};

/// Lines that one reply may set, or take away.
const LINES_MAX: usize = 100;
/// What headers may come to by it.
const HEADER_BYTES_MAX: usize = 60 << 10;

/// What becomes of others of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Set,
    Append,
}

/// One line that is set.
struct Line<'m> {
    name: &'m [u8],
    value: &'m [u8],
    how: How,
}

/// What a mutation changes, besides headers.
pub struct Of<'c> {
    pub side: Side,
    /// The message is replaced: its method may be another one.
    pub replaces: bool,
    /// What `content-length` says, for who compares it with a body; nobody else reads it.
    pub length: &'c mut Option<u64>,
}

/// Of a message's header.
///
/// # Errors
/// Something in it cannot be written.
pub fn apply(mutation: &HeaderMutation, of: Of<'_>, exchange: &mut Exchange<'_>) -> Result<(), Fault> {
    check(mutation)?;
    let Of { side, replaces, length } = of;
    if mutation.remove_headers.iter().any(|name| name.eq_ignore_ascii_case(b"content-length")) {
        *length = None;
    }
    remove(mutation, &mut headers(exchange, side));
    for line in lines(mutation) {
        match (line.name, side) {
            (b":path", Side::Request) => {
                exchange.set_target(line.value).map_err(|_| unwritable("a path that the API does not serve"))?;
            }
            (b":method", Side::Request) if replaces => exchange.set_method(line.value),
            // One that there is not is left alone.
            (b":status", Side::Response) => {
                let status = decimal(line.value).and_then(|status| u16::try_from(status).ok());
                if let Some(status) = status {
                    let _ = exchange.set_response_status(status);
                }
            }
            ([b':', ..], _) => {}
            (name, _) if name.eq_ignore_ascii_case(b"content-length") => *length = decimal(line.value),
            _ => line.set(&mut headers(exchange, side)),
        }
    }
    let fields = match side {
        Side::Request => exchange.request_fields(),
        Side::Response => exchange.response_fields(),
    };
    let bytes: usize = fields.iter().map(|field| field.name.len() + field.value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(unwritable("headers of too many bytes"));
    }
    Ok(())
}

/// Of an answer that is made, or of trailers.
///
/// # Errors
/// As [`apply`].
pub fn write(mutation: &HeaderMutation, headers: &mut Headers<'_>) -> Result<(), Fault> {
    check(mutation)?;
    remove(mutation, headers);
    lines(mutation).for_each(|line| line.set(headers));
    Ok(())
}

fn headers<'x>(exchange: &'x mut Exchange<'_>, side: Side) -> Headers<'x> {
    match side {
        Side::Request => exchange.request_headers(),
        Side::Response => exchange.response_headers(),
    }
}

/// Of all lines, before anything is written.
fn check(mutation: &HeaderMutation) -> Result<(), Fault> {
    if mutation.set_headers.len() > LINES_MAX || mutation.remove_headers.len() > LINES_MAX {
        return Err(unwritable("more lines than one reply may change"));
    }
    let is_name = |name: &[u8]| is_token(name.strip_prefix(b":").unwrap_or(name));
    if !mutation.remove_headers.iter().all(|name| is_name(name)) {
        return Err(unwritable("a name that is none"));
    }
    for HeaderValue { key, value, raw_value } in mutation.set_headers.iter().filter_map(|set| set.header.as_ref()) {
        if !value.is_empty() && !raw_value.is_empty() {
            return Err(unwritable("a header with a value as text and another as bytes"));
        }
        if !is_name(key) || !is_field_value(value) || !is_field_value(raw_value) {
            return Err(unwritable("a header that is none"));
        }
    }
    Ok(())
}

fn unwritable(what: &str) -> Fault {
    Fault::new("malformed_answer", format!("it says {what}"))
}

fn remove(mutation: &HeaderMutation, headers: &mut Headers<'_>) {
    let names = &mutation.remove_headers;
    if !names.is_empty() {
        headers.remove_if(|name| may_change(name) && names.iter().any(|gone| gone.eq_ignore_ascii_case(name)));
    }
}

fn may_change(name: &[u8]) -> bool {
    const ENVOYS: &[u8] = b"x-envoy";
    !name.get(..ENVOYS.len()).is_some_and(|start| start.eq_ignore_ascii_case(ENVOYS))
}

/// Those that may be set.
fn lines(mutation: &HeaderMutation) -> impl Iterator<Item = Line<'_>> {
    let lines = mutation.set_headers.iter().filter_map(Line::of);
    lines.filter(|line| may_change(line.name))
}

impl<'m> Line<'m> {
    fn of(set: &'m HeaderOption) -> Option<Self> {
        let HeaderValue { key: name, value, raw_value } = set.header.as_ref()?;
        let value = if value.is_empty() { raw_value } else { value };
        // As Envoy: `append_action` means nothing here.
        let how = if set.appends() == Some(true) { How::Append } else { How::Set };
        Some(Self { name, value, how })
    }

    fn set(&self, headers: &mut Headers<'_>) {
        let name = std::str::from_utf8(self.name).ok().and_then(|name| HeaderName::new(name).ok());
        let Some(name) = name else { return };
        let written = match self.how {
            How::Append => headers.append(&name, self.value),
            How::Set => headers.set(&name, self.value),
        };
        debug_assert!(written.is_ok(), "values were checked");
    }
}
