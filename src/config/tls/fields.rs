//! Fields that both directions share: certificate, trust, versions, ciphers, ALPN.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::SupportedCipherSuite;
use serde::Deserialize;

use super::{Reading, read_file};
use crate::{
    document::{Id, node::Located, problem::Location},
    tls::{
        Anchors, Certificate,
        certificate::Part,
        passphrase, pem,
        suites::{self, Named, Version},
    },
};

/// Certificates that expire sooner than this are warned of.
const WARN_DAYS: i64 = 30;
const DAY: i64 = 86_400;
/// Certificates of one `trustedCA`: those of a whole system are some 150.
const AUTHORITIES_MAX: usize = 1024;
/// Protocols that may be listed.
const ALPN_MAX: usize = 8;

/// `certificate`: inline PEM, a Secret, or files.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenCertificate {
    pub crt: Option<Located<String>>,
    pub key: Option<Located<String>>,
    pub secret_ref: Option<SecretRef>,
    pub crt_file: Option<Located<PathBuf>>,
    pub key_file: Option<Located<PathBuf>>,
    /// Of the key, where whoever writes it has a field for it; empty for none.
    #[serde(skip)]
    pub key_passphrase: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct SecretRef {
    name: Located<String>,
    namespace: Option<String>,
}

/// Who vouches for the other side.
#[derive(Debug)]
pub struct Authorities {
    pub anchors: Arc<Anchors>,
    /// As it was written: where this differs, others are trusted.
    pub pem: String,
}

/// The problem has been reported.
#[derive(Debug)]
pub struct Told;

/// Of TLS as it is agreed on, in both directions.
#[derive(Clone, Debug)]
pub struct Agreement {
    pub min: Version,
    pub max: Version,
    pub suites_12: Option<Vec<SupportedCipherSuite>>,
    pub alpn: Vec<Vec<u8>>,
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64)
}

/// PEM text with the place it came from.
struct Pem {
    text: Vec<u8>,
    location: Location,
    field: &'static str,
}

impl Reading<'_> {
    /// The certificate, where there is one and nothing is wrong with it.
    pub(super) fn certificate(&mut self, written: &WrittenCertificate, location: &Location) -> Option<Certificate> {
        let ways = [
            written.crt.is_some() || written.key.is_some(),
            written.secret_ref.is_some(),
            written.crt_file.is_some() || written.key_file.is_some(),
        ];
        if ways.iter().filter(|way| **way).count() != 1 {
            let text = "expected either `crt` and `key`, or `secretRef`, or `crtFile` and `keyFile`";
            self.error(location, "certificate", text);
            return None;
        }
        let (crt, key) = if ways[0] {
            (self.inline(&written.crt, "crt", location), self.inline(&written.key, "key", location))
        } else if ways[2] {
            (self.file(&written.crt_file, "crtFile", location), self.file(&written.key_file, "keyFile", location))
        } else {
            self.secret(written.secret_ref.as_ref()?)?
        };
        let (crt, mut key) = (crt?, key?);
        if !written.key_passphrase.is_empty() {
            match passphrase::opened(&key.text, &written.key_passphrase) {
                Ok(opened) => key.text = opened,
                Err(text) => {
                    self.error(&key.location, &format!("certificate.{}", key.field), text);
                    return None;
                }
            }
        }
        match Certificate::from_pem(&crt.text, &key.text, &suites::provider(None)) {
            Ok(certificate) => {
                self.check_validity(&certificate, &crt);
                if let Some(at) = certificate.break_in_chain {
                    let text = format!(
                        "certificate {at} of the chain was not issued by the next: clients may not find the way"
                    );
                    self.warn(&crt.location, &format!("certificate.{}", crt.field), text);
                }
                Some(certificate)
            }
            Err(fault) => {
                let at = if fault.part == Part::Certificate { &crt } else { &key };
                self.error(&at.location, &format!("certificate.{}", at.field), fault.text);
                None
            }
        }
    }

    fn check_validity(&mut self, certificate: &Certificate, at: &Pem) {
        let left = certificate.not_after - now();
        let text = match left {
            ..=0 => format!("the certificate of {} has expired", certificate.subject),
            _ if left < WARN_DAYS * DAY => {
                format!("the certificate of {} expires in {} days", certificate.subject, left / DAY)
            }
            _ => return,
        };
        self.warn(&at.location, &format!("certificate.{}", at.field), text);
    }

    fn inline(&mut self, text: &Option<Located<String>>, field: &'static str, location: &Location) -> Option<Pem> {
        match text {
            Some(text) => Some(Pem { text: text.value.clone().into_bytes(), location: text.location.clone(), field }),
            None => {
                self.error(location, &format!("certificate.{field}"), "required, but missing");
                None
            }
        }
    }

    /// A relative path begins where the file is that names it.
    fn file(&mut self, path: &Option<Located<PathBuf>>, field: &'static str, location: &Location) -> Option<Pem> {
        let Some(Located { value, location }) = path else {
            self.error(location, &format!("certificate.{field}"), "required, but missing");
            return None;
        };
        match read_file(value, location, self.files) {
            Ok(text) => Some(Pem { text, location: location.clone(), field }),
            Err(text) => {
                self.error(location, &format!("certificate.{field}"), text);
                None
            }
        }
    }

    fn secret(&mut self, reference: &SecretRef) -> Option<(Option<Pem>, Option<Pem>)> {
        let location = &reference.name.location;
        let id = Id::new(reference.namespace.as_deref().unwrap_or(self.namespace), &reference.name.value);
        let tls = self.secrets.iter().find(|secret| secret.id == id).map(|secret| secret.spec.tls.as_ref());
        let Some(Some(tls)) = tls else {
            let text = match tls {
                None => format!("no Secret `{id}`"),
                Some(_) => format!("Secret `{id}` has no `tls`"),
            };
            self.error(location, "certificate.secretRef", text);
            return None;
        };
        let (crt, key) = (tls.crt.clone(), tls.key.clone());
        Some((self.decoded(crt, &id, "crt", location), self.decoded(key, &id, "key", location)))
    }

    /// Base64 of PEM. PEM as it is is understood as well: nothing else begins like it.
    fn decoded(&mut self, text: Option<String>, id: &Id, part: &str, location: &Location) -> Option<Pem> {
        let decoded = text.map(|text| {
            if text.trim_start().starts_with("-----BEGIN ") {
                return Some(text.into_bytes());
            }
            let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(packed).ok()
        });
        match decoded {
            Some(Some(text)) => Some(Pem { text, location: location.clone(), field: "secretRef" }),
            wrong => {
                let what = if wrong.is_some() { "is not base64" } else { "is missing" };
                self.error(location, "certificate.secretRef", format!("`tls.{part}` of Secret `{id}` {what}"));
                None
            }
        }
    }

    /// Who is trusted to vouch for the other side: `trustedCA` or `trustedCAFile`. `Err`: something is wrong with it, and
    /// has been said.
    pub(super) fn trust(
        &mut self,
        inline: &Option<Located<String>>,
        file: &Option<Located<PathBuf>>,
    ) -> Result<Option<Authorities>, Told> {
        let written = match (inline, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(Located { location, .. })) => {
                return Err(self.told(location, "trustedCAFile", "expected it or `trustedCA`, not both"));
            }
            (Some(Located { value, location }), None) => {
                Pem { text: value.clone().into_bytes(), location: location.clone(), field: "trustedCA" }
            }
            (None, Some(Located { value, location })) => match read_file(value, location, self.files) {
                Ok(text) => Pem { text, location: location.clone(), field: "trustedCAFile" },
                Err(text) => return Err(self.told(location, "trustedCAFile", text)),
            },
        };
        let authorities = match pem::certificates(&written.text, AUTHORITIES_MAX) {
            Ok(authorities) => authorities,
            Err(text) => return Err(self.told(&written.location, written.field, text)),
        };
        if authorities.is_empty() {
            return Err(self.told(&written.location, written.field, "no certificate in PEM"));
        }
        let anchors = match Anchors::new(authorities) {
            Ok(anchors) => anchors,
            Err(at) => {
                let text = format!("certificate {at} is not one that can be trusted: it is not understood");
                return Err(self.told(&written.location, written.field, text));
            }
        };
        for subject in anchors.expired(now()) {
            let text = format!("the certificate of {subject} has expired: nobody is trusted on its word");
            self.warn(&written.location, written.field, text);
        }
        let pem = String::from_utf8_lossy(&written.text).into_owned();
        Ok(Some(Authorities { anchors: Arc::new(anchors), pem }))
    }

    fn told(&mut self, location: &Location, field: &str, text: impl Into<String>) -> Told {
        self.error(location, field, text);
        Told
    }

    pub(super) fn agreement(
        &mut self,
        min: &Option<Located<String>>,
        max: &Option<Located<String>>,
        ciphers: &Option<Vec<Located<String>>>,
        alpn: &Option<Vec<Located<String>>>,
        spoken: &[&str],
        location: &Location,
    ) -> Option<Agreement> {
        let lowest = self.version("minversion", min, Version::Tls12);
        let highest = self.version("maxversion", max, Version::Tls13);
        let alpn = self.alpn(alpn, spoken);
        // An empty list names none in place of the defaults.
        let suites_12 = ciphers.as_ref().filter(|ciphers| !ciphers.is_empty()).map(|ciphers| self.ciphers(ciphers));
        let (lowest, highest) = (lowest?, highest?);
        if let Some(first) = ciphers.iter().flatten().next()
            && lowest == Version::Tls13
        {
            self.warn(
                &first.location,
                "ciphers",
                "only TLS 1.3 is spoken, whose ciphers are fixed: the list has no effect",
            );
        }
        if lowest > highest {
            let at = max.as_ref().or(min.as_ref()).map_or(location, |written| &written.location);
            self.error(at, "maxversion", "lower than minversion");
            return None;
        }
        let mut agreement = Agreement { min: lowest, max: highest, suites_12, alpn };
        if agreement.suites_12.as_ref().is_some_and(Vec::is_empty) && lowest == Version::Tls12 {
            let at = ciphers.iter().flatten().next().map_or(location, |cipher| &cipher.location);
            if highest == Version::Tls12 {
                self.error(at, "ciphers", "none is left that can be used");
                return None;
            }
            self.warn(at, "ciphers", "none of them is of TLS 1.2 and can be used: only TLS 1.3 is spoken");
            agreement.min = Version::Tls13;
        }
        Some(agreement)
    }

    fn version(&mut self, field: &str, written: &Option<Located<String>>, default: Version) -> Option<Version> {
        let Some(written) = written else { return Some(default) };
        match written.value.trim() {
            "1.2" => Some(Version::Tls12),
            "1.3" => Some(Version::Tls13),
            "1.0" | "1.1" => {
                self.warn(&written.location, field, "TLS before 1.2 is not spoken; raised to 1.2");
                Some(Version::Tls12)
            }
            _ => {
                self.error(&written.location, field, "expected `1.2` or `1.3`");
                None
            }
        }
    }

    fn ciphers(&mut self, written: &[Located<String>]) -> Vec<SupportedCipherSuite> {
        let mut chosen = Vec::new();
        for (at, cipher) in written.iter().enumerate() {
            match suites::named(&cipher.value) {
                Named::Suite(suite) if !chosen.contains(&suite) => chosen.push(suite),
                Named::Suite(_) | Named::Always => {}
                Named::Unsupported => {
                    let text = format!("`{}` is not supported and skipped", cipher.value);
                    self.warn(&cipher.location, &format!("ciphers[{at}]"), text);
                }
            }
        }
        chosen
    }

    /// Those that are both wanted and spoken, in the order wanted.
    fn alpn(&mut self, written: &Option<Vec<Located<String>>>, spoken: &[&str]) -> Vec<Vec<u8>> {
        let Some(written) = written else { return spoken.iter().map(|name| name.as_bytes().to_vec()).collect() };
        let mut wanted: Vec<Vec<u8>> = Vec::new();
        for (at, name) in written.iter().enumerate() {
            let known = matches!(name.value.as_str(), "h2" | "http/1.1");
            if !known || at >= ALPN_MAX {
                let text = format!("`{}` is not spoken here and skipped", name.value);
                self.warn(&name.location, &format!("alpn[{at}]"), text);
            } else if spoken.contains(&name.value.as_str()) && !wanted.contains(&name.value.clone().into_bytes()) {
                wanted.push(name.value.clone().into_bytes());
            }
        }
        wanted
    }
}
