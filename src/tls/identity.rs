//! Who a verified peer is: its subject for the log, and an element of `x-forwarded-client-cert`, in Envoy's form, for
//! upstreams.

use std::fmt::Write;

use aws_lc_rs::digest;
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate, x509::X509Name};

pub struct Identity {
    /// `CN=a,O=b`; empty where the certificate names nobody there.
    pub subject: String,
    /// `Hash=<SHA-256>;Subject="CN=a,O=b";URI=...;DNS=...`
    pub forwarded: String,
}

impl Identity {
    pub fn of(certificate: &[u8]) -> Self {
        let mut out = String::from("Hash=");
        for byte in digest::digest(&digest::SHA256, certificate).as_ref() {
            let _ = write!(out, "{byte:02x}");
        }
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Self { subject: String::new(), forwarded: out };
        };
        let subject = rfc2253(certificate.subject());
        out.push_str(";Subject=");
        quoted(&mut out, &subject);
        let names = certificate.subject_alternative_name().ok().flatten();
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            let (key, value) = match name {
                GeneralName::URI(uri) => (";URI=", uri),
                GeneralName::DNSName(name) => (";DNS=", name),
                _ => continue,
            };
            out.push_str(key);
            match value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b';' | b',' | b'=')) {
                true => out.push_str(value),
                false => quoted(&mut out, value),
            }
        }
        Self { subject, forwarded: out }
    }
}

/// The last part first (RFC 2253).
fn rfc2253(name: &X509Name<'_>) -> String {
    let text = name.to_string();
    let parts: Vec<&str> = text.split(", ").collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

/// What could end the value, or the line, does not get through.
fn quoted(out: &mut String, value: &str) {
    out.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => out.push('?'),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_leave_its_quotes() {
        let mut out = String::new();
        quoted(&mut out, "a\"b\\c\r\nHost: x");
        assert_eq!(out, "\"a\\\"b\\\\c??Host: x\"");
    }

    #[test]
    fn what_is_no_certificate_is_a_hash() {
        assert_eq!(Identity::of(b"").forwarded.len(), "Hash=".len() + 64);
    }
}
