//! Certificates as OpenSSL's commands of the last ten years write them: shown by clients to a port that demands one, and by
//! upstreams, and taken or refused for a reason. What `openssl verify` and nginx do with each stands in
//! `docs/decisions/0003-certificates.md`. Skipped, by name, where there is no `openssl`.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fmt::Write as _,
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use support::{
    gateway::{Gateway, Launch, drivers, get},
    ports,
};

const LIMIT: Duration = Duration::from_secs(30);

const OLD: &str = "it has expired";
const EARLY: &str = "it is not valid yet";
const STRANGER: &str = "nobody that is trusted vouches for it";
const SELF: &str = "it is self-signed and not one that is trusted";
const ISSUER_OLD: &str = "whom it comes from has expired, or is not valid yet";
const ISSUER: &str =
    "whom it comes from may not vouch for it: basicConstraints, keyUsage or a limit of the issuer's forbids it";
const NAME: &str = "it has no subjectAltName with this name";
const PURPOSE: &str = "its extendedKeyUsage or keyUsage does not allow this use";
const SHORT: &str = "its key, or an issuer's, is too short: RSA needs 2048 bits";
const ALGORITHM: &str = "it is signed with an algorithm that is not safe, such as SHA-1, or not known";
const FORGED: &str = "its signature is wrong";
const CRITICAL: &str = "it has a critical extension that is not known";
/// Not a matter of the certificate: its key cannot shake hands with us.
const KEY: &str = "";

/// Taken, or why not.
type Outcome = Result<(), &'static str>;
const TAKEN: Outcome = Ok(());

/// What is trusted, what is shown with which key; what becomes of it as a client's and as an upstream's.
type Row = (&'static str, &'static str, &'static str, Outcome, Outcome);

const ROWS: &[Row] = &[
    // The certificate that is trusted is the one that is shown.
    ("self-rsa", "self-rsa", "rsa", TAKEN, Err(NAME)),
    ("self-rsa-named", "self-rsa-named", "rsa", TAKEN, TAKEN),
    ("self-ec", "self-ec", "leaf", TAKEN, TAKEN),
    ("self-ed25519", "self-ed25519", "ed25519", TAKEN, TAKEN),
    ("self-p384", "self-p384", "p384", TAKEN, TAKEN),
    ("self-p521", "self-p521", "p521", TAKEN, TAKEN),
    ("self-no-ca", "self-no-ca", "leaf", TAKEN, TAKEN),
    ("self-v1", "self-v1", "leaf", TAKEN, Err(NAME)),
    ("plain", "plain", "leaf", TAKEN, TAKEN),
    ("v1", "v1", "leaf", TAKEN, Err(NAME)),
    ("self-wrong-name", "self-wrong-name", "leaf", TAKEN, Err(NAME)),
    // Nothing that we have signs with so short a key; it is refused before anybody asks.
    ("self-1024", "self-1024", "leaf", Err(SHORT), Err(SHORT)),
    ("self-expired", "self-expired", "leaf", Err(OLD), Err(OLD)),
    ("self-early", "self-early", "leaf", Err(EARLY), Err(EARLY)),
    ("self-sha1", "self-sha1", "leaf", Err(ALGORITHM), Err(ALGORITHM)),
    ("self-server-only", "self-server-only", "leaf", Err(PURPOSE), TAKEN),
    ("self-client-only", "self-client-only", "leaf", TAKEN, Err(PURPOSE)),
    ("self-ca-usage", "self-ca-usage", "leaf", Err(PURPOSE), Err(PURPOSE)),
    ("self-critical", "self-critical", "leaf", Err(CRITICAL), Err(CRITICAL)),
    // It is not.
    ("self-ec", "self-renewed", "leaf", Err(SELF), Err(SELF)),
    ("self-ec", "self-forged", "other", Err(SELF), Err(SELF)),
    ("self-ec", "self-ec", "other", Err(KEY), Err(KEY)),
    ("self-v1", "self-v1", "other", Err(KEY), Err(KEY)),
    ("self-no-ca", "of-self", "leaf", Err(ISSUER), Err(ISSUER)),
    ("plain", "full", "leaf", Err(STRANGER), Err(STRANGER)),
    // Somebody trusted vouches for it.
    ("ca", "plain", "leaf", TAKEN, TAKEN),
    ("ca", "full", "leaf", TAKEN, TAKEN),
    ("ca", "p521", "p521", TAKEN, TAKEN),
    ("ca", "both", "leaf", TAKEN, TAKEN),
    ("ca", "v1", "leaf", TAKEN, Err(NAME)),
    ("ca", "ca-leaf", "leaf", TAKEN, TAKEN),
    ("ca", "serial-0", "leaf", TAKEN, TAKEN),
    ("ca", "serial-negative", "leaf", TAKEN, TAKEN),
    ("ca", "serial-long", "leaf", TAKEN, TAKEN),
    ("ca-bare", "of-bare", "leaf", TAKEN, TAKEN),
    ("ca-v1", "of-v1", "leaf", TAKEN, TAKEN),
    ("ca-v1", "v1-of-v1", "leaf", TAKEN, Err(NAME)),
    ("ca-len0", "of-len0", "leaf", TAKEN, TAKEN),
    ("inter", "of-inter", "leaf", TAKEN, TAKEN),
    ("several", "plain", "leaf", TAKEN, TAKEN),
    ("several", "of-bare", "leaf", TAKEN, TAKEN),
    ("noted", "plain", "leaf", TAKEN, TAKEN),
    ("noted", "of-bare", "leaf", TAKEN, TAKEN),
    ("spaced", "plain", "leaf", TAKEN, TAKEN),
    ("ca", "chain", "leaf", TAKEN, TAKEN),
    ("ca", "chain-rooted-odd", "leaf", TAKEN, TAKEN),
    ("ca", "chain-cross", "leaf", TAKEN, TAKEN),
    ("ca-bare", "chain-cross", "leaf", TAKEN, TAKEN),
    ("ca", "plain-rooted", "leaf", TAKEN, TAKEN),
    ("ca", "chain-v1", "leaf", TAKEN, Err(NAME)),
    // And it is refused all the same.
    ("ca", "of-inter", "leaf", Err(STRANGER), Err(STRANGER)),
    ("ca", "of-bare", "leaf", Err(STRANGER), Err(STRANGER)),
    ("ca", "of-twin", "leaf", Err(FORGED), Err(FORGED)),
    ("ca", "v1-of-twin", "leaf", Err(FORGED), Err(FORGED)),
    ("ca", "plain", "other", Err(KEY), Err(KEY)),
    ("ca", "v1", "other", Err(KEY), Err(KEY)),
    ("ca-no-sign", "of-no-sign", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca-no-sign", "v1-of-no-sign", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca-strict", "of-strict", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca-strict", "v1-of-strict", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca-old", "of-old", "leaf", Err(ISSUER_OLD), Err(ISSUER_OLD)),
    ("ca-old", "v1-of-old", "leaf", Err(ISSUER_OLD), Err(ISSUER_OLD)),
    ("several", "of-old", "leaf", Err(ISSUER_OLD), Err(ISSUER_OLD)),
    ("ca-1024", "of-1024", "leaf", Err(SHORT), Err(SHORT)),
    ("ca-len0", "chain-len0", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca-len0", "chain-v1-len0", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca", "chain-no-sign", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca", "chain-v1-no-sign", "leaf", Err(ISSUER), Err(ISSUER)),
    ("ca", "ca-leaf-usage", "leaf", Err(PURPOSE), Err(PURPOSE)),
    ("ca", "expired", "leaf", Err(OLD), Err(OLD)),
    ("ca", "early", "leaf", Err(EARLY), Err(EARLY)),
    ("ca", "sha1", "leaf", Err(ALGORITHM), Err(ALGORITHM)),
    ("ca", "v1-sha1", "leaf", Err(ALGORITHM), Err(ALGORITHM)),
    ("ca", "rsa1024", "leaf", Err(SHORT), Err(SHORT)),
    ("ca", "server-only", "leaf", Err(PURPOSE), TAKEN),
    ("ca", "client-only", "leaf", TAKEN, Err(PURPOSE)),
    ("ca", "any", "leaf", Err(PURPOSE), Err(PURPOSE)),
    ("ca", "critical", "leaf", Err(CRITICAL), Err(CRITICAL)),
    ("ca", "name-only", "leaf", TAKEN, Err(NAME)),
    ("ca", "wrong-name", "leaf", TAKEN, Err(NAME)),
    ("ca", "address-as-name", "leaf", TAKEN, Err(NAME)),
];

#[test]
fn certificates_of_clients() {
    let Some(made) = made() else { return println!("skipped: openssl") };
    for driver in drivers() {
        let mut configuration = String::new();
        let ports: Vec<u16> = ROWS.iter().map(|_| ports::reserve()).collect();
        for (at, ((trusted, ..), port)) in ROWS.iter().zip(&ports).enumerate() {
            let tls = format!(
                "certificate: {{crtFile: self-ec.crt, keyFile: leaf.key}}, requireClientCertificate: true, trustedCAFile: {trusted}.crt"
            );
            let policy = format!("policies: [{{policyRef: {{name: tls}}, config: {{{tls}}}}}]");
            let kind = "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance";
            writeln!(
                configuration,
                "{kind}\nmetadata: {{name: a{at}}}\nspec: {{address: 'https://127.0.0.1:{port}', {policy}}}\n---"
            )
            .expect("a string");
        }
        let gateway = start(&driver, made, &configuration);
        let mut wrong = Vec::new();
        for ((trusted, shown, key, expected, _), port) in ROWS.iter().zip(ports) {
            for version in [&TLS12, &TLS13] {
                let outcome = ask(port, identity(made, shown, key), version);
                wrong.extend(differs(&gateway, trusted, shown, *expected, outcome.is_ok(), "a client"));
            }
        }
        assert!(wrong.is_empty(), "{driver}:\n{}\n{}", wrong.join("\n"), gateway.stderr.all().join("\n"));
        let (_, metrics) = gateway.get("/metrics").expect("metrics");
        for result in ["certificate_expired", "certificate_wrong_purpose", "certificate_weak"] {
            assert!(metrics.contains(&format!("result=\"{result}\"")), "{driver}: no {result}\n{metrics}");
        }
    }
}

#[test]
fn certificates_of_upstreams() {
    let Some(made) = made() else { return println!("skipped: openssl") };
    for driver in drivers() {
        let mut configuration = String::new();
        let port = ports::reserve();
        for (at, (trusted, shown, key, ..)) in ROWS.iter().enumerate() {
            // The half of them speaks TLS 1.2.
            let upstream = serve(identity(made, shown, key), if at % 2 == 0 { &TLS12 } else { &TLS13 });
            let head = |kind: &str, name: &str| {
                format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: ")
            };
            let (api, bound) = (head("ApiInstance", &format!("a{at}")), head("PolicyBinding", &format!("b{at}")));
            let service = format!("services: {{u: {{address: 'https://127.0.0.1:{upstream}'}}}}");
            let config = format!("policyRef: {{name: tls-outbound}}, config: {{trustedCAFile: {trusted}.crt}}");
            let target = format!("targetRef: {{kind: Service, name: a{at}-u}}");
            writeln!(
                configuration,
                "{api}{{address: 'http://127.0.0.1:{port}/{at}/', {service}}}\n---\n{bound}{{{target}, {config}}}\n---"
            )
            .expect("a string");
        }
        let gateway = start(&driver, made, &configuration);
        let mut wrong = Vec::new();
        for (at, (trusted, shown, _, _, expected)) in ROWS.iter().enumerate() {
            let (status, body) = get(port, &format!("/{at}/")).expect("an answer");
            assert!(status == 200 || status == 503, "{driver}, {shown}: {status} {body}");
            wrong.extend(differs(&gateway, trusted, shown, *expected, status == 200, "upstream 127.0.0.1"));
        }
        assert!(wrong.is_empty(), "{driver}:\n{}\n{}", wrong.join("\n"), gateway.stderr.all().join("\n"));
        let (_, metrics) = gateway.get("/metrics").expect("metrics");
        for reason in ["untrusted", "expired", "not_valid_yet", "wrong_name", "wrong_purpose", "weak"] {
            let reason = format!("reason=\"upstream_tls_{reason}\"");
            assert!(metrics.contains(&reason), "{driver}: no {reason}\n{metrics}");
        }
    }
}

/// What is not as expected. Of what is refused the log names the certificate and the reason.
fn differs(
    gateway: &Gateway,
    trusted: &str,
    shown: &str,
    expected: Outcome,
    taken: bool,
    whose: &str,
) -> Option<String> {
    let what = format!("{shown}, where {trusted} is trusted");
    match (expected, taken) {
        (Ok(()), true) | (Err(KEY), false) => None,
        (Err(reason), false) => {
            let leaf = first(&gateway_folder(), shown);
            let told = format!("the certificate of {whose} is refused: {reason}; subject \"CN=");
            let fingerprint = format!("SHA-256 {}", fingerprint(&leaf));
            let is_told = |line: &str| line.contains(&told) && line.contains(&fingerprint);
            (!gateway.stderr.wait(Duration::from_secs(2), is_told)).then(|| format!("{what}: not refused as {reason}"))
        }
        (_, taken) => Some(format!("{what}: taken is {taken}, expected {expected:?}")),
    }
}

fn gateway_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("certificates")
}

/// All of `make.sh`. `None`: there is no `openssl`.
fn made() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        if let Err(error) = Command::new("openssl").arg("version").output() {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            return None;
        }
        let folder = gateway_folder();
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).expect("the target directory is writable");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/make.sh");
        let made = Command::new("sh").arg(script).current_dir(&folder).status().expect("a shell");
        let said = || fs::read_to_string(folder.join("make.log")).unwrap_or_default();
        assert!(made.success(), "{}", said());
        Some(folder)
    };
    MADE.get_or_init(make).as_deref()
}

/// A gateway with a folder of its own beside the certificates, which its files name relatively.
fn start(driver: &str, made: &Path, configuration: &str) -> Gateway {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory = made.join(format!("gateway-{next}"));
    fs::create_dir(&directory).expect("the target directory is writable");
    let configuration = configuration.replace("File: ", "File: ../");
    fs::write(directory.join("gateway.yaml"), configuration).expect("the directory is writable");
    let launch = Launch { directory: &directory, driver, management: ports::reserve(), flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, LIMIT) {
        panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
    }
    gateway
}

fn chain(folder: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    let pem = fs::read(folder.join(format!("{name}.crt"))).expect("it is made");
    CertificateDer::pem_slice_iter(&pem).map(|found| found.expect("PEM")).collect()
}

fn first(folder: &Path, name: &str) -> CertificateDer<'static> {
    chain(folder, name).swap_remove(0)
}

fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A chain with a key, whether they belong together or not.
fn identity(folder: &Path, shown: &str, key: &str) -> Arc<CertifiedKey> {
    let pem = fs::read(folder.join(format!("{key}.key"))).expect("it is made");
    let key = PrivateKeyDer::from_pem_slice(&pem).expect("PEM");
    let key = rustls::crypto::aws_lc_rs::default_provider().key_provider.load_private_key(key);
    Arc::new(CertifiedKey::new(chain(folder, shown), key.expect("a key that rustls knows")))
}

/// Shows it to whoever asks, and believes everybody.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Shows {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ServerCertVerifier for Shows {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Asks once, and is answered or not.
fn ask(port: u16, identity: Arc<CertifiedKey>, version: &'static SupportedProtocolVersion) -> io::Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let shows = Arc::new(Shows(identity));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(shows.clone())
        .with_client_cert_resolver(shows);
    let name = ServerName::try_from("a.test").expect("a name");
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 ");
    Ok(())
}

/// Answers whoever comes, until the test ends.
fn serve(identity: Arc<CertifiedKey>, version: &'static SupportedProtocolVersion) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(identity)));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut tls = ServerConnection::new(config.clone()).expect("a server");
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut asked = [0; 4096];
            // Who refuses us says so, and leaves.
            if matches!(stream.read(&mut asked), Ok(1..)) {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
            }
        }
    });
    port
}
