//! `tls-outbound`: how an https Service is dialled. Without one its defaults hold.

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    Reading,
    fields::{Agreement, WrittenCertificate},
};
use crate::{
    document::{
        hash::Stable,
        node::{Located, Node, shape_of},
        problem::Location,
    },
    policies::{Category, Described, Field},
    tls::{Certificate, ClientContext, ClientSettings, Trust},
};

/// What we offer to speak, best first.
pub const SPOKEN: &[&str] = &["h2", "http/1.1"];

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    #[serde(default)]
    pub skip_validation: bool,
    #[serde(rename = "trustedCA")]
    pub trusted_ca: Option<Located<String>>,
    #[serde(rename = "trustedCAFile")]
    pub trusted_ca_file: Option<Located<PathBuf>>,
    pub certificate: Option<Located<WrittenCertificate>>,
    pub alpn: Option<Vec<Located<String>>>,
    #[serde(rename = "minversion")]
    pub min_version: Option<Located<String>>,
    #[serde(rename = "maxversion")]
    pub max_version: Option<Located<String>>,
    pub ciphers: Option<Vec<Located<String>>>,
}

pub const DESCRIBED: Described = Described {
    category: Some(Category::Security),
    shape: shape_of::<Written>,
    fields: &[
        Field::new("skipValidation", "Skip validation", "Any certificate is taken.").default("false"),
        Field::new("trustedCA", "Authorities", "Who vouches for the upstream."),
        Field::new(
            "trustedCAFile",
            "File of authorities",
            "Ours, in place of `trustedCA`: a file of PEM, watched as certificates are.",
        ),
        Field::new("certificate.crt", "Certificate", "PEM: the chain, leaf first."),
        Field::new("certificate.key", "Key", "PEM: the key of the leaf.").sensitive(),
        Field::new("certificate.secretRef.name", "Secret", "A Secret with both, in their place."),
        Field::new("certificate.secretRef.namespace", "Namespace", "That of the policy where there is none."),
        Field::new("certificate.crtFile", "Certificate file", "A file of PEM, in the place of `crt`; watched."),
        Field::new("certificate.keyFile", "Key file", "A file of PEM, in the place of `key`; watched."),
        Field::new("alpn", "ALPN", "What is offered."),
        Field::new("minversion", "Lowest version", "`1.1` is raised to `1.2`, with a warning.").default("1.2"),
        Field::new("maxversion", "Highest version", "`1.2` or `1.3`.").default("1.3"),
        Field::new("ciphers", "Ciphers", "A list replaces the defaults of TLS 1.2 and never changes those of 1.3."),
    ],
};

/// One `tls-outbound` policy, read; an empty `config` gives the defaults.
#[derive(Clone, Debug)]
pub struct Outbound {
    trust: Trust,
    certificate: Option<Certificate>,
    agreement: Agreement,
    trusted: String,
}

impl Outbound {
    pub fn read(config: &Node, reading: Reading<'_>) -> Option<Self> {
        let written: Written = config.deserialize(reading.path, reading.problems)?;
        Self::of(&written, config.location(), reading)
    }

    /// What was written at this place.
    pub fn of(written: &Written, location: &Location, mut reading: Reading<'_>) -> Option<Self> {
        let certificate = match &written.certificate {
            Some(certificate) => Some(reading.certificate(&certificate.value, &certificate.location)?),
            None => None,
        };
        let (trust, trusted) = if written.skip_validation {
            let text = "the upstream's certificate is NOT checked: anybody on the way can read and change everything";
            reading.warn(location, "skipValidation", text);
            for (field, written) in [
                ("trustedCA", written.trusted_ca.as_ref().map(|pem| &pem.location)),
                ("trustedCAFile", written.trusted_ca_file.as_ref().map(|path| &path.location)),
            ] {
                if let Some(location) = written {
                    reading.warn(location, field, "nothing is checked by it: `skipValidation` is true");
                }
            }
            (Trust::Nobody, String::new())
        } else {
            match reading.trust(&written.trusted_ca, &written.trusted_ca_file).ok()? {
                Some(authorities) => (Trust::Authorities(authorities.anchors), authorities.pem),
                None => (Trust::System, String::new()),
            }
        };
        let Written { min_version, max_version, ciphers, alpn, .. } = written;
        let agreement = reading.agreement(min_version, max_version, ciphers, alpn, SPOKEN, location)?;
        Some(Self { trust, certificate, agreement, trusted })
    }

    /// Offers these protocols, whoever speaks them.
    pub fn offering(mut self, alpn: Vec<Vec<u8>>) -> Self {
        self.agreement.alpn = alpn;
        self
    }

    /// # Errors
    /// Nobody of this name could ever be dialled so.
    pub fn context(self, host: &str) -> Result<ClientContext, String> {
        let identity = self.identity();
        let Self { trust, certificate, agreement, .. } = self;
        let Agreement { min, max, suites_12, alpn } = agreement;
        ClientContext::new(host, ClientSettings { trust, certificate, alpn, min, max, suites_12 }, identity)
    }

    /// Of everything that makes connections of one kind another's.
    pub fn identity(&self) -> u64 {
        let Agreement { min, max, suites_12, alpn } = &self.agreement;
        let suites = suites_12.as_ref().map(|suites| suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>());
        let leaf = self.certificate.as_ref().and_then(|certificate| certificate.key.cert.first());
        Stable::new()
            .text(&format!("{min:?} {max:?} {suites:?} {alpn:?} {}", matches!(self.trust, Trust::Nobody)))
            .text(&self.trusted)
            .text(&format!("{:?}", leaf.map(|leaf| leaf.as_ref())))
            .finish()
    }
}
