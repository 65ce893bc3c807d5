//! Who a verified peer is: for policies, for the log, and as an element of `x-forwarded-client-cert`, in Envoy's form, for
//! upstreams.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::{
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::{FromDer, X509Certificate},
    x509::X509Name,
};

/// Signs of a line of PEM (RFC 7468 section 2).
const PEM_LINE: usize = 64;

#[derive(Debug)]
pub struct Identity {
    /// `CN=a,O=b`; empty where the certificate names nobody there.
    pub subject: String,
    /// From subjectAltName, in its order.
    pub names: Vec<Name>,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// `Hash=<fingerprint>;Subject="CN=a,O=b";URI=...;DNS=...`
    pub forwarded: String,
    /// DER.
    pub certificate: Box<[u8]>,
}

/// One of the names that a certificate's authority vouches for beside the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Dns(String),
    /// Such as a SPIFFE id.
    Uri(String),
    Email(String),
    Address(IpAddr),
}

impl Name {
    fn of(name: &GeneralName<'_>) -> Option<Self> {
        Some(match name {
            GeneralName::DNSName(name) => Self::Dns((*name).to_owned()),
            GeneralName::URI(uri) => Self::Uri((*uri).to_owned()),
            GeneralName::RFC822Name(email) => Self::Email((*email).to_owned()),
            GeneralName::IPAddress(bytes) => Self::Address(address(bytes)?),
            _ => return None,
        })
    }
}

/// An address as a certificate holds it.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

impl Identity {
    pub fn of(certificate: &[u8]) -> Self {
        let (fingerprint, der) = (fingerprint(certificate), certificate.into());
        let mut forwarded = format!("Hash={fingerprint}");
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Self { subject: String::new(), names: Vec::new(), fingerprint, forwarded, certificate: der };
        };
        let subject = distinguished(certificate.subject());
        forwarded.push_str(";Subject=");
        quoted(&mut forwarded, &subject);
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let alternative = alternative.iter().flat_map(|extension| &extension.value.general_names);
        let names: Vec<Name> = alternative.filter_map(Name::of).collect();
        for name in &names {
            let (key, value) = match name {
                Name::Uri(uri) => (";URI=", uri),
                Name::Dns(name) => (";DNS=", name),
                Name::Email(_) | Name::Address(_) => continue,
            };
            forwarded.push_str(key);
            match value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b';' | b',' | b'=')) {
                true => forwarded.push_str(value),
                false => quoted(&mut forwarded, value),
            }
        }
        Self { subject, names, fingerprint, forwarded, certificate: der }
    }

    /// The certificate as PEM, of which what means something in URLs is escaped: Envoy's form.
    pub fn url_encoded(&self) -> String {
        let mut out = "-----BEGIN%20CERTIFICATE-----%0A".to_owned();
        let text = STANDARD.encode(&self.certificate);
        for (at, sign) in text.chars().enumerate() {
            if at > 0 && at % PEM_LINE == 0 {
                out.push_str("%0A");
            }
            match sign {
                '+' => out.push_str("%2B"),
                '/' => out.push_str("%2F"),
                '=' => out.push_str("%3D"),
                sign => out.push(sign),
            }
        }
        out.push_str("%0A-----END%20CERTIFICATE-----%0A");
        out
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn fingerprint(certificate: &[u8]) -> String {
    let mut out = String::with_capacity(2 * digest::SHA256_OUTPUT_LEN);
    for byte in digest::digest(&digest::SHA256, certificate).as_ref() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The last part first, and what would begin another escaped (RFC 4514 section 2): `O=A, CN=root` inside a value never reads
/// as a part of its own.
pub(super) fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for relative in name.iter_rdn() {
        let attributes = relative.iter().map(|attribute| {
            let kind = oid2abbrev(attribute.attr_type(), oid_registry()).map(str::to_owned);
            let kind = kind.unwrap_or_else(|_| attribute.attr_type().to_id_string());
            match attribute.as_str() {
                Ok(text) => format!("{kind}={}", escaped(text)),
                Err(_) => {
                    let hex: String = attribute.attr_value().data.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("{kind}=#{hex}")
                }
            }
        });
        parts.push(attributes.collect::<Vec<_>>().join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            '\0' => out.push_str("\\00"),
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', character]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            _ => out.push(character),
        }
    }
    out
}

/// What could end the value, or the line, does not get through.
pub(super) fn quoted(out: &mut String, value: &str) {
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
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_tells_whom_it_names_and_what_it_is_known_by() {
        let mut params = CertificateParams::new(["a.test".into(), "192.0.2.7".into()]).expect("names");
        params.subject_alt_names.push(SanType::URI("spiffe://test/a".try_into().expect("ASCII")));
        params.subject_alt_names.push(SanType::Rfc822Name("ops@a.test".try_into().expect("ASCII")));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Trial");
        params.distinguished_name.push(DnType::CommonName, "a");
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let Identity { subject, names, fingerprint, forwarded, .. } = Identity::of(certificate.der());
        assert_eq!(subject, "CN=a,O=Trial");
        assert_eq!(
            names,
            [
                Name::Dns("a.test".into()),
                Name::Address([192, 0, 2, 7].into()),
                Name::Uri("spiffe://test/a".into()),
                Name::Email("ops@a.test".into()),
            ]
        );
        assert_eq!(fingerprint.len(), 64);
        assert_eq!(forwarded, format!("Hash={fingerprint};Subject=\"CN=a,O=Trial\";DNS=a.test;URI=spiffe://test/a"));
    }

    #[test]
    fn a_value_cannot_become_a_part_of_the_subject() {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Trial, CN=root + \"a\" ");
        params.distinguished_name.push(DnType::CommonName, "#a");
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        assert_eq!(Identity::of(certificate.der()).subject, r#"CN=\#a,O=Trial\, CN=root \+ \"a\"\ "#);
    }

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
