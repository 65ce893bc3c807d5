//! The examples of an edge and of a way out, as an operator would try them: certificates made by the script that their pages
//! name, `check --strict`, and requests through them. Skipped, by name, where openssl or curl is not installed.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use support::{
    gateway::{Gateway, Launch, binary, clean, drivers},
    ports,
};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn ingress_shows_each_site_its_certificate_and_demands_one_of_partners() {
    let certificates = ["shop=shop.example.com", "api=api.example.com,*.api.example.com", "partner", "nobody"];
    for driver in drivers() {
        let Some(example) = Example::copy("ingress", &driver, &certificates) else { return skip("openssl") };
        let (public, partners, upstream) = (ports::reserve(), ports::reserve(), upstream());
        let _gateway = example.start(
            &driver,
            &[
                ("0.0.0.0:8443", format!("127.0.0.1:{public}")),
                ("0.0.0.0:9443", format!("127.0.0.1:{partners}")),
                ("shop.internal:8080", format!("127.0.0.1:{upstream}")),
                ("orders.internal:8080", format!("127.0.0.1:{upstream}")),
            ],
        );
        let asks = |port: u16, url: &str, more: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-i", "-m", "20", "--cacert", "ca.pem", "--connect-to", &format!("::127.0.0.1:{port}")]);
            output(curl.args(more).arg(url).current_dir(example.folder.join("tls")))
        };
        let Some(said) = asks(public, "https://shop.example.com/basket", &[]) else { return skip("curl") };
        let text = said.text();
        assert!(text.starts_with("HTTP/2 200") && text.contains("\nGET /basket "), "{text}");
        assert!(text.contains("strict-transport-security: max-age=31536000"), "{text}");
        assert!(!text.contains("x-powered-by"), "{text}");
        let said = asks(public, "https://eu.api.example.com/orders/1", &["--http1.1", "-H", "x-internal-a: 1"]);
        let text = said.expect("it is there").text();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\nGET /orders/1 "), "{text}");
        assert!(!text.contains("x-internal-a") && !text.contains("x-forwarded-client-cert"), "{text}");

        let url = "https://api.example.com/v1/orders/1";
        let shown = ["--cert", "partner.pem", "--key", "partner.key"];
        let text = asks(partners, url, &shown).expect("it is there").text();
        assert!(text.contains("\nGET /orders/1 ") && text.contains(";Subject=\"CN=partner\";DNS=partner"), "{text}");
        assert!(!asks(partners, url, &[]).expect("it is there").0.status.success());
    }
}

#[test]
fn egress_verifies_and_shows_who_it_is() {
    for driver in drivers() {
        let certificates = ["gateway", "payments=payments.example.com,localhost"];
        let Some(example) = Example::copy("egress", &driver, &certificates) else { return skip("openssl") };
        let (port, partner) = (ports::reserve(), partner(&example.folder.join("tls")));
        let gateway = example.start(
            &driver,
            &[
                ("0.0.0.0:8081", format!("127.0.0.1:{port}")),
                ("https://payments.example.com", format!("https://localhost:{partner}")),
                // It speaks no name that this certificate has.
                ("https://rates.example.com", format!("https://127.0.0.1:{partner}")),
            ],
        );
        let (status, body) = support::gateway::get(port, "/payments/invoices/1").expect("an answer");
        assert_eq!(status, 200, "{body}");
        assert!(
            body.starts_with("GET /v2/invoices/1 ") && body.contains(&format!("host: localhost:{partner}")),
            "{body}"
        );
        assert_eq!(support::gateway::get(port, "/rates/other").expect("an answer").0, 404);
        // The system's authorities do not vouch for it.
        assert_eq!(support::gateway::get(port, "/rates/latest").expect("an answer").0, 503);
        let (_, page) = gateway.get("/metrics").expect("it runs");
        assert!(page.contains("reason=\"upstream_tls_untrusted\""), "{page}");
    }
}

/// A copy of an example with certificates of its own.
struct Example {
    folder: PathBuf,
}

impl Example {
    fn copy(name: &str, driver: &str, certificates: &[&str]) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("example-{name}-{driver}"));
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).expect("the target directory is writable");
        for file in fs::read_dir(root.join("configs").join(name)).expect("the example is there").flatten() {
            if file.path().extension().is_some_and(|extension| extension == "yaml") {
                fs::copy(file.path(), folder.join(file.file_name())).expect("the directory is writable");
            }
        }
        output(Command::new("openssl").arg("version"))?;
        let mut make = Command::new(root.join("scripts/trial-certificates.sh"));
        let made = output(make.arg(folder.join("tls")).args(certificates)).expect("the script is there");
        assert!(made.0.status.success(), "{}", made.text());
        let example = Self { folder };
        example.check();
        Some(example)
    }

    fn check(&self) {
        let mut check = Command::new(binary());
        let said = output(clean(&mut check).args(["check", "--strict"]).arg(&self.folder)).expect("it is built");
        assert!(said.0.status.success(), "{}", said.text());
    }

    /// Serves it with other addresses.
    fn start(&self, driver: &str, addresses: &[(&str, String)]) -> Gateway {
        for file in fs::read_dir(&self.folder).expect("it is there").flatten().map(|file| file.path()) {
            if let Ok(mut text) = fs::read_to_string(&file) {
                for (address, other) in addresses {
                    text = text.replace(address, other);
                }
                text = text.replace("port: 3000", &format!("port: {}", ports::reserve()));
                fs::write(&file, text).expect("the directory is writable");
            }
        }
        self.check();
        let launch =
            Launch { directory: &self.folder, driver, management: ports::reserve(), flags: &[], environment: &[] };
        let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
        if let Err(problem) = gateway.wait_live(true, LIMIT) {
            panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
        }
        gateway
    }
}

struct Said(Output);

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&[&*self.0.stdout, &self.0.stderr].concat()).into_owned()
    }
}

/// `None`: it is not installed.
fn output(command: &mut Command) -> Option<Said> {
    match command.output() {
        Ok(output) => Some(Said(output)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn skip(name: &str) {
    println!("skipped: {name}");
}

/// A server whose answers tell what they answer; it ends with the process.
fn upstream() -> u16 {
    serve(answer)
}

/// The same behind TLS, for those whom its authority vouches for.
fn partner(certificates: &Path) -> u16 {
    let pem = |name: &str| fs::read(certificates.join(name)).expect("it was made");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem("ca.pem")).expect("PEM")).expect("an authority");
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
    let chain = vec![CertificateDer::from_pem_slice(&pem("payments.pem")).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(&pem("payments.key")).expect("PEM");
    let config = ServerConfig::builder().with_client_cert_verifier(clients).with_single_cert(chain, key);
    let config = Arc::new(config.expect("they belong together"));
    serve(move |stream| {
        let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
        answer(StreamOwned::new(connection, stream))
    })
}

fn serve(mut each: impl FnMut(TcpStream) -> io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that leaves is none of the server's business.
            each(stream).ok();
        }
    });
    port
}

fn answer(mut stream: impl Read + Write) -> io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let fixed = "HTTP/1.1 200 OK\r\nx-powered-by: tests\r\nconnection: close";
    stream.write_all(format!("{fixed}\r\ncontent-length: {}\r\n\r\n", head.len()).as_bytes())?;
    stream.write_all(&head)?;
    stream.flush()
}
