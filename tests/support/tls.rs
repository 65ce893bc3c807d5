//! TLS of cases: certificates made at run time, and both ends as rustls has them.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::Path,
    sync::{Arc, OnceLock},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// A certificate with its key, both PEM.
pub struct Made {
    pub name: &'static str,
    pub crt: String,
    pub key: String,
}

/// Everything that cases name: two authorities, and what they vouch for.
pub fn made() -> &'static [Made] {
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    MADE.get_or_init(|| {
        let (ca, other) = (authority("ca"), authority("other-ca"));
        vec![
            Made { name: "ca", crt: ca.pem(), key: ca.key().serialize_pem() },
            Made { name: "other-ca", crt: other.pem(), key: other.key().serialize_pem() },
            leaf("a", &ca, &["a.test", "*.wild.test", "127.0.0.1"], 2040),
            leaf("b", &ca, &["b.test"], 2040),
            leaf("expired", &ca, &["a.test", "127.0.0.1"], 2020),
            leaf("stranger", &other, &["a.test", "127.0.0.1"], 2040),
            common_name("cn-only", &ca, "127.0.0.1"),
            leaf("client", &ca, &["client.test", "uri:spiffe://test/client"], 2040),
        ]
    })
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

fn leaf(name: &'static str, ca: &CertifiedIssuer<'static, KeyPair>, names: &[&str], until: i32) -> Made {
    let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with("uri:"));
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names).expect("names");
    let uri = |uri: &&str| SanType::URI(uri.trim_start_matches("uri:").try_into().expect("ASCII"));
    params.subject_alt_names.extend(uris.iter().map(uri));
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let crt = params.signed_by(&key, ca).expect("a certificate").pem();
    Made { name, crt, key: key.serialize_pem() }
}

/// Named by its subject alone, as before RFC 2818.
fn common_name(name: &'static str, ca: &CertifiedIssuer<'static, KeyPair>, common_name: &str) -> Made {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate().expect("a key");
    Made { name, crt: params.signed_by(&key, ca).expect("a certificate").pem(), key: key.serialize_pem() }
}

fn find(name: &str) -> Result<&'static Made, String> {
    made().iter().find(|made| made.name == name).ok_or_else(|| format!("no certificate {name:?}"))
}

/// `certs/NAME.crt` and `.key` below a directory.
pub fn write(directory: &Path) -> io::Result<()> {
    let folder = directory.join("certs");
    std::fs::create_dir_all(&folder)?;
    for made in made() {
        std::fs::write(folder.join(made.name).with_extension("crt"), &made.crt)?;
        std::fs::write(folder.join(made.name).with_extension("key"), &made.key)?;
    }
    Ok(())
}

/// As a quoted YAML string, for files that hold a certificate.
pub fn quoted(pem: &str) -> String {
    format!("\"{}\"", pem.replace('\n', "\\n"))
}

/// As a Secret holds it.
pub fn base64(pem: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem)
}

/// `key=value` words of a `tls` command.
#[derive(Clone, Debug, Default)]
pub struct Options(pub Vec<(String, String)>);

impl Options {
    pub fn parse(text: &str) -> Result<Self, String> {
        const KEYS: [&str; 9] = ["ciphers", "sni", "trust", "cert", "max", "min", "alpn", "pieces", "client-ca"];
        let word = |word: &str| {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not key=value"))?;
            if !KEYS.contains(&key) {
                return Err(format!("tls {key}? One of: {}", KEYS.join(", ")));
            }
            Ok((key.to_owned(), value.to_owned()))
        };
        text.split_whitespace().map(word).collect::<Result<_, String>>().map(Self)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        self.get("alpn").into_iter().flat_map(|list| list.split(',')).map(|name| name.as_bytes().to_vec()).collect()
    }

    /// Those that are named, in that order; all where none is.
    fn provider(&self) -> Result<Arc<CryptoProvider>, String> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        if let Some(names) = self.get("ciphers") {
            let known = |name: &str| {
                let found = provider.cipher_suites.iter().find(|suite| suite.suite().as_str() == Some(name));
                found.copied().ok_or_else(|| format!("no cipher {name:?}"))
            };
            provider.cipher_suites = names.split(',').map(known).collect::<Result<_, _>>()?;
        }
        Ok(Arc::new(provider))
    }

    fn versions(&self) -> Vec<&'static rustls::SupportedProtocolVersion> {
        let (min, max) = (self.get("min").unwrap_or("1.2"), self.get("max").unwrap_or("1.3"));
        let all = [("1.3", &rustls::version::TLS13), ("1.2", &rustls::version::TLS12)];
        all.into_iter().filter(|(name, _)| (min..=max).contains(name)).map(|(_, version)| version).collect()
    }

    /// Keep it to take up a session again.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        let trusted = find(self.get("trust").unwrap_or("ca"))?;
        roots.add(certificate(&trusted.crt)).map_err(|error| error.to_string())?;
        let builder = ClientConfig::builder_with_provider(self.provider()?).with_protocol_versions(&self.versions());
        let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(roots);
        let mut config = match self.get("cert") {
            Some(name) => {
                let made = find(name)?;
                let chain = vec![certificate(&made.crt)];
                builder.with_client_auth_cert(chain, key(made)).map_err(|error| error.to_string())?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn();
        Ok(Arc::new(config))
    }

    fn server(&self) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder_with_provider(self.provider()?).with_protocol_versions(&self.versions());
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = match self.get("client-ca") {
            Some(name) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate(&find(name)?.crt)).map_err(|error| error.to_string())?;
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
            None => builder.with_no_client_auth(),
        };
        let made = find(self.get("cert").unwrap_or("a"))?;
        let config = builder.with_single_cert(vec![certificate(&made.crt)], key(made));
        let mut config = config.map_err(|error| error.to_string())?;
        config.alpn_protocols = self.alpn();
        Ok(Arc::new(config))
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("made above")
}

fn key(made: &Made) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(made.key.as_bytes()).expect("made above")
}

/// A socket that writes so many bytes at a time; 0: all.
pub struct Pieces(TcpStream, usize);

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.1 {
            0 => self.0.write(bytes),
            most => self.0.write(&bytes[..bytes.len().min(most)]),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A connection of a case, plain or not.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<(Connection, Pieces)>),
}

impl Wire {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.1.0,
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Shakes hands; what was agreed on comes back as words: `version=1.3 alpn=- certificate=a new`.
    pub fn secure(self, options: &Options, client: Option<Arc<ClientConfig>>) -> Result<(Self, Vec<String>), String> {
        let Self::Plain(stream) = self else { return Err("it is TLS already".into()) };
        let connection = match client {
            Some(config) => {
                let name = options.get("sni").unwrap_or("127.0.0.1").to_owned();
                let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
                ClientConnection::new(config, name).map(Connection::from)
            }
            None => ServerConnection::new(options.server()?).map(Connection::from),
        };
        let mut connection = connection.map_err(|error| error.to_string())?;
        let pieces = options.get("pieces").map_or(Ok(0), str::parse).map_err(|_| "pieces is a number")?;
        let mut socket = Pieces(stream, pieces);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|error| error.to_string())?;
        }
        while connection.wants_write() {
            connection.write_tls(&mut socket).map_err(|error| error.to_string())?;
        }
        let facts = facts(&connection);
        Ok((Self::Tls(Box::new((connection, socket))), facts))
    }

    /// Says that no more comes, and closes that direction.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            let (connection, socket) = &mut **tls;
            connection.send_close_notify();
            while connection.wants_write() {
                connection.write_tls(socket)?;
            }
        }
        match self.socket().shutdown(std::net::Shutdown::Write) {
            // The peer has gone already, as it may.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }

    /// New keys, and a demand that the peer changes its own.
    pub fn update_keys(&mut self) -> Result<(), String> {
        let Self::Tls(tls) = self else { return Err("not TLS".into()) };
        tls.0.refresh_traffic_keys().map_err(|error| error.to_string())
    }
}

fn facts(connection: &Connection) -> Vec<String> {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "1.2",
    };
    let alpn = connection.alpn_protocol().map_or("-".to_owned(), |name| String::from_utf8_lossy(name).into_owned());
    let shown = connection.peer_certificates().and_then(|chain| chain.first());
    let name = shown.and_then(|leaf| made().iter().find(|made| certificate(&made.crt) == *leaf));
    let session = if connection.handshake_kind() == Some(HandshakeKind::Resumed) { "resumed" } else { "new" };
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("-");
    vec![
        format!("cipher={cipher}"),
        format!("version={version}"),
        format!("alpn={alpn}"),
        format!("certificate={}", name.map_or("-", |made| made.name)),
        session.to_owned(),
    ]
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(tls) => {
                let (connection, socket) = &mut **tls;
                loop {
                    match connection.reader().read(into) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        done => return done,
                    }
                    connection.read_tls(socket)?;
                    connection.process_new_packets().map_err(io::Error::other)?;
                }
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => {
                let (connection, socket) = &mut **tls;
                let written = connection.writer().write(bytes)?;
                while connection.wants_write() {
                    connection.write_tls(socket)?;
                }
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
