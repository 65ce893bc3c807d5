//! TLS as a client of many: what is offered, what is checked, and the certificate that measured proxies present.
//!
//! A generator checks no certificate unless it is told whom to trust: it measures, and what it sends is no secret. That
//! also keeps the price of a signature check out of its own cost.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// What a connection offers and demands.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whom to trust; nobody named: everybody.
    pub roots: Option<PathBuf>,
    /// `1.2` or `1.3`; both when empty.
    pub version: Option<Version>,
    pub alpn: Vec<String>,
    /// Keeps what lets a later connection skip most of its handshake.
    pub resume: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

/// Opens sessions with one server.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// The server must choose this protocol, when it is named.
    must_speak: Option<&'static str>,
}

impl Client {
    /// `name`: of the server, asked for in the handshake. `must_speak`: a session without that protocol is refused.
    ///
    /// # Errors
    /// The name is none, or the roots cannot be read.
    pub fn new(name: &str, settings: &Settings, must_speak: Option<&'static str>) -> Result<Self> {
        let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name.clone()).with_context(|| format!("{name} is no server's name"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] = match settings.version {
            None => rustls::ALL_VERSIONS,
            Some(Version::Tls12) => &[&rustls::version::TLS12],
            Some(Version::Tls13) => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .context("TLS cannot be set up")?;
        let mut config = match &settings.roots {
            Some(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAnybody(provider)))
                .with_no_client_auth(),
        };
        config.alpn_protocols = settings.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        if !settings.resume {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { config: Arc::new(config), name, must_speak })
    }

    pub fn connect(&self) -> Result<ClientConnection, rustls::Error> {
        let mut session = ClientConnection::new(self.config.clone(), self.name.clone())?;
        // Whole requests go in at once; what bounds them is the size of a body.
        session.set_buffer_limit(None);
        Ok(session)
    }

    /// Looks at what was agreed, when the handshake is over.
    ///
    /// # Errors
    /// The server chose another protocol, or none.
    pub fn check(&self, session: &ClientConnection) -> Result<()> {
        let Some(wanted) = self.must_speak else { return Ok(()) };
        match session.alpn_protocol() {
            Some(chosen) if chosen == wanted.as_bytes() => Ok(()),
            Some(chosen) => bail!("the server chose {} by ALPN, not {wanted}", String::from_utf8_lossy(chosen)),
            None => bail!("the server chose nothing by ALPN, not {wanted}"),
        }
    }
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let cannot = || format!("cannot read certificates from {}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).with_context(cannot)? {
        roots.add(certificate.with_context(cannot)?).with_context(cannot)?;
    }
    ensure!(!roots.is_empty(), "{} holds no certificate", path.display());
    Ok(roots)
}

/// No check at all.
#[derive(Debug)]
struct TrustAnybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The name in [`write_certificate`]'s certificate, and what a client of the peers asks for.
pub const PEER_NAME: &str = "localhost";

/// Writes `certificate.pem`, `key.pem` and `both.pem` into a folder: ECDSA on P-256, signed by itself.
///
/// # Errors
/// They cannot be written.
pub fn write_certificate(folder: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed([PEER_NAME.to_owned(), "127.0.0.1".to_owned()])
        .context("cannot make a certificate")?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for (name, text) in
        [("certificate.pem", &certificate), ("key.pem", &key), ("both.pem", &format!("{certificate}{key}"))]
    {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("roots.pem");
        let trusting =
            || Client::new("localhost", &Settings { roots: Some(path.clone()), ..Settings::default() }, None);
        assert!(trusting().is_err());
        fs::write(&path, "no certificate").expect("a file of ours");
        assert!(trusting().is_err_and(|error| error.to_string().contains("holds no certificate")));
        write_certificate(folder.path()).expect("a folder of ours");
        fs::copy(folder.path().join("certificate.pem"), &path).expect("a file of ours");
        assert!(trusting().is_ok());
    }

    #[test]
    fn an_address_is_a_name_too() {
        let client = |name| Client::new(name, &Settings::default(), None);
        assert!(client("127.0.0.1").is_ok() && client("[::1]").is_ok() && client("localhost").is_ok());
        assert!(client("not a name").is_err());
    }
}
