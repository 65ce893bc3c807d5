//! An answer that the processor gives itself.

use super::{ANSWERED, messages::ImmediateResponse, mutation};
use crate::{
    http::head::Fields,
    policies::{Headers, LocalResponse, grpc, headers::HeaderName},
};

const STATUS: u16 = 200;

/// Lines of an answer that are no text: they are written once there is a head.
pub type Raw = Vec<(Vec<u8>, Vec<u8>)>;

/// The answer. Headers that cannot be written are left out, all of them.
pub fn answer(said: ImmediateResponse, is_call: bool) -> (LocalResponse, Raw) {
    let status = said.status.and_then(|status| u16::try_from(status.code).ok());
    let mut fields = Fields::default();
    if let Some(mutation) = &said.headers
        && mutation::write(mutation, &mut Headers::of(&mut fields)).is_err()
    {
        fields.clear();
    }
    if let Some(grpc_status) = said.grpc_status.filter(|_| is_call) {
        fields.set(b"grpc-status", grpc_status.status.to_string().as_bytes());
        fields.set(b"grpc-message", &grpc::escaped(&said.body));
    }
    let (mut headers, mut raw) = (Vec::new(), Vec::new());
    for field in fields.iter() {
        match std::str::from_utf8(field.value) {
            Ok(value) => {
                let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
                headers.push((name.into(), value.to_owned().into()));
            }
            Err(_) => raw.push((field.name.to_vec(), field.value.to_vec())),
        }
    }
    let has_type = fields.get(b"content-type").is_some();
    let answer = LocalResponse {
        status: status.filter(|status| (200..600).contains(status)).unwrap_or(STATUS),
        stored: None,
        headers,
        content_type: (!has_type && !said.body.is_empty()).then_some("text/plain"),
        body: said.body.into(),
        reason: ANSWERED,
    };
    (answer, raw)
}

/// Writes those that are no text.
pub fn tell(raw: &Raw, headers: &mut Headers<'_>) {
    for (name, value) in raw {
        let name = std::str::from_utf8(name).ok().and_then(|name| HeaderName::new(name).ok());
        if let Some(name) = name {
            // Checked when they were read.
            let _ = headers.append(&name, value);
        }
    }
}
