//! How a Service is dialled: who must vouch for it, under which name, and who we are to it.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedCipherSuite,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{
    certificate::Certificate,
    suites::{self, Version},
    verify::{Anchors, Verifier},
};

/// Sessions that one core keeps for one Service.
const SESSIONS: usize = 32;

/// Whom to believe.
#[derive(Clone, Debug)]
pub enum Trust {
    System,
    Authorities(Arc<Anchors>),
    /// Anybody.
    Nobody,
}

/// Checked settings of one Service.
#[derive(Debug)]
pub struct ClientSettings {
    pub trust: Trust,
    pub certificate: Option<Certificate>,
    pub alpn: Vec<Vec<u8>>,
    pub min: Version,
    pub max: Version,
    /// `None`: the library's.
    pub suites_12: Option<Vec<SupportedCipherSuite>>,
}

/// Every core makes its own of it, with sessions of its own.
#[derive(Debug)]
pub struct ClientContext {
    config: ClientConfig,
    /// Whom the certificate must name.
    pub name: ServerName<'static>,
    /// What of it was written.
    pub identity: u64,
}

impl PartialEq for ClientContext {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity && self.name == other.name
    }
}

impl ClientContext {
    /// # Errors
    /// Nothing could ever be agreed on.
    pub fn new(host: &str, settings: ClientSettings, identity: u64) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| "no certificate can name this host".to_owned())?;
        let provider = Arc::new(suites::provider(settings.suites_12.as_deref()));
        let versions = suites::versions(settings.min, settings.max);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|_| "no cipher is left for these versions".to_owned())?;
        let verifier: Arc<dyn ServerCertVerifier> = match settings.trust {
            Trust::System => Arc::new(Verifier::of_servers(system_anchors()?, provider)),
            Trust::Authorities(anchors) => Arc::new(Verifier::of_servers(anchors, provider)),
            Trust::Nobody => Arc::new(AcceptAnybody(provider)),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match settings.certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(Shows(certificate))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = settings.alpn;
        config.resumption = Resumption::disabled();
        Ok(Self { config, name, identity })
    }

    /// One core's own: it takes up its own sessions again.
    pub fn of_core(&self) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Arc::new(config)
    }

    /// For one connection that is not HTTP's: it speaks HTTP/1.1, and takes up nothing.
    pub fn for_a_check(&self) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Read once: whoever changes the system's authorities starts the gateway again.
fn system_anchors() -> Result<Arc<Anchors>, String> {
    static ANCHORS: OnceLock<Result<Arc<Anchors>, String>> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs();
        let anchors = Anchors::of_system(found.certs);
        match anchors.is_empty() {
            false => Ok(Arc::new(anchors)),
            true => {
                Err("this system has no certificate authorities (package `ca-certificates`): set `trustedCA`".into())
            }
        }
    };
    ANCHORS.get_or_init(read).clone()
}

/// Shows our certificate to whoever asks for one.
#[derive(Debug)]
struct Shows(Certificate);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// `skipValidation`: the peer proves that it has its certificate's key, and that is all.
#[derive(Debug)]
struct AcceptAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
