//! `tls`: one context for each port, of every certificate that its APIs bring.

use std::{path::PathBuf, sync::Arc};

use serde::Deserialize;

use super::{
    Reading,
    fields::{Agreement, WrittenCertificate},
};
use crate::{
    config::{environment::Environment, substitute},
    document::{
        hash::Stable,
        node::{Located, Node, shape_of},
        problem::{Location, Problem, Severity},
    },
    policies::{Category, Described, Field},
    tls::{Anchors, Certificate, ClientCertificates, ServerContext, ServerSettings, TicketKeys},
};

/// What a client may ask to speak, best first.
pub const SPOKEN: &[&str] = &["h2", "http/1.1"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    certificate: Option<Located<WrittenCertificate>>,
    #[serde(default)]
    require_client_certificate: bool,
    #[serde(rename = "trustedCA")]
    trusted_ca: Option<Located<String>>,
    #[serde(rename = "trustedCAFile")]
    trusted_ca_file: Option<Located<PathBuf>>,
    alpn: Option<Vec<Located<String>>>,
    #[serde(rename = "minversion")]
    min_version: Option<Located<String>>,
    #[serde(rename = "maxversion")]
    max_version: Option<Located<String>>,
    ciphers: Option<Vec<Located<String>>>,
}

pub const DESCRIBED: Described = Described {
    category: Some(Category::Security),
    shape: shape_of::<Written>,
    fields: &[
        Field::new("certificate.crt", "Certificate", "PEM: the chain, leaf first."),
        Field::new("certificate.key", "Key", "PEM: the key of the leaf.").sensitive(),
        Field::new("certificate.secretRef.name", "Secret", "A Secret with both, in their place."),
        Field::new("certificate.secretRef.namespace", "Namespace", "That of the policy where there is none."),
        Field::new("certificate.crtFile", "Certificate file", "A file of PEM, in the place of `crt`; watched."),
        Field::new("certificate.keyFile", "Key file", "A file of PEM, in the place of `key`; watched."),
        Field::new(
            "requireClientCertificate",
            "Require client certificates",
            "No handshake without a client certificate that `trustedCA` vouches for.",
        )
        .default("false"),
        Field::new(
            "trustedCA",
            "Authorities",
            "Who vouches for clients. Required with `requireClientCertificate`; alone, a client may show a \
             certificate, and one that is not vouched for is refused.",
        ),
        Field::new(
            "trustedCAFile",
            "File of authorities",
            "Ours, in place of `trustedCA`: a file of PEM, watched as certificates are.",
        ),
        Field::new("alpn", "ALPN", "Protocols that clients may choose."),
        Field::new("minversion", "Lowest version", "`1.1` is raised to `1.2`, with a warning.").default("1.2"),
        Field::new("maxversion", "Highest version", "`1.2` or `1.3`.").default("1.3"),
        Field::new(
            "ciphers",
            "Ciphers",
            "A list replaces the defaults of TLS 1.2 and never changes those of 1.3. Names of the IANA \
             registry.",
        ),
    ],
};

/// One `tls` policy, read.
#[derive(Debug)]
pub struct Inbound {
    certificate: Option<Certificate>,
    clients: ClientCertificates,
    agreement: Agreement,
    /// Of what is asked of clients.
    demands: u64,
    location: Location,
    path: String,
}

impl Inbound {
    pub fn read(config: &Node, mut reading: Reading<'_>) -> Option<Self> {
        let path = reading.path.to_owned();
        let written: Written = config.deserialize(&path, reading.problems)?;
        let location = config.location().clone();
        let certificate = match &written.certificate {
            Some(certificate) => Some(reading.certificate(&certificate.value, &certificate.location)?),
            None => None,
        };
        let trusted = reading.trust(&written.trusted_ca, &written.trusted_ca_file).ok()?;
        let Written { min_version, max_version, ciphers, alpn, .. } = &written;
        let agreement = reading.agreement(min_version, max_version, ciphers, alpn, SPOKEN, &location)?;
        let pem = trusted.as_ref().map_or("", |authorities| &authorities.pem);
        let demands = Stable::new().text(&written.require_client_certificate.to_string()).text(pem).finish();
        let roots = trusted.map(|authorities| authorities.anchors);
        let clients = clients(written.require_client_certificate, roots).or_else(|| {
            let text = "required where `requireClientCertificate` is true";
            reading.error(&location, "trustedCA", text);
            None
        })?;
        Some(Self { certificate, clients, agreement, demands, location, path })
    }

    /// What else than the certificate makes a context, to be compared.
    fn settings(&self) -> String {
        let Agreement { min, max, suites_12, alpn } = &self.agreement;
        let suites = suites_12.as_ref().map(|suites| suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>());
        format!("{min:?} {max:?} {suites:?} {alpn:?} {}", self.demands)
    }
}

/// Whether a policy as it is written demands client certificates, whatever else is wrong with it. What cannot be read does.
pub fn demands_certificates(config: &Node, environment: &Environment) -> bool {
    let Some(written) = config.get("requireClientCertificate") else { return false };
    let written = substitute::variables(written, "", environment, &mut Vec::new());
    written.and_then(|written| written.deserialize::<bool>("", &mut Vec::new())) != Some(false)
}

fn clients(required: bool, roots: Option<Arc<Anchors>>) -> Option<ClientCertificates> {
    match (required, roots) {
        (false, None) => Some(ClientCertificates::NotAsked),
        (false, Some(roots)) => Some(ClientCertificates::Optional(roots)),
        (true, Some(roots)) => Some(ClientCertificates::Required(roots)),
        (true, None) => None,
    }
}

/// A port that is served with TLS, and what its APIs say of it.
#[derive(Debug, Default)]
pub struct Port {
    policies: Vec<Inbound>,
    /// One of its policies is wrong: what it demands is not known, so nothing can be served.
    pub broken: bool,
}

impl Port {
    pub fn add(&mut self, policy: Inbound) {
        self.policies.push(policy);
    }

    /// The context of all policies; the first says what is agreed on and asked of clients.
    ///
    /// # Errors
    /// The port cannot be served, for this reason.
    pub fn context(
        self,
        socket: std::net::SocketAddr,
        tickets: Option<&Arc<TicketKeys>>,
        problems: &mut Vec<Problem>,
    ) -> Result<ServerContext, String> {
        if self.broken {
            return Err("a `tls` policy of this port is wrong: it is not opened".into());
        }
        let mut policies = self.policies.into_iter();
        let mut first = policies.next().ok_or(NO_CERTIFICATE)?;
        let settings = first.settings();
        let mut certificates: Vec<Certificate> = first.certificate.take().into_iter().collect();
        for further in policies {
            if further.settings() != settings {
                let text = format!("differs from `{}` on the same port in more than the certificate", first.path);
                let (location, path) = (further.location, further.path);
                problems.push(Problem { severity: Severity::Error, location, path, text });
            }
            certificates.extend(further.certificate);
        }
        if certificates.is_empty() {
            return Err(NO_CERTIFICATE.into());
        }
        // Replicas bind addresses of their own, and take up each other's sessions.
        let identity = Stable::new().text(&socket.port().to_string()).text(&first.demands.to_string()).finish();
        let Agreement { min, max, suites_12, alpn } = first.agreement;
        let clients = first.clients;
        ServerContext::new(
            ServerSettings { certificates, clients, alpn, min, max, suites_12, identity },
            tickets.cloned(),
        )
    }
}

const NO_CERTIFICATE: &str = "https needs a certificate: no `tls` policy of this port has one, and it is not opened";
