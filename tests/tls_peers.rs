//! TLS with the programs that operators have: curl and `openssl s_client` as clients, nginx as an upstream. Each is skipped, by
//! name, where it is not there.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{
    gateway::{Gateway, Launch, drivers, get},
    ports, tls,
};

const LIMIT: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

#[test]
fn curl_speaks_both_versions_and_both_protocols() {
    for driver in drivers() {
        let secured = Secured::start(&driver, "curl", "127.0.0.1", "", "");
        let url = format!("https://a.test:{}/", secured.port);
        let resolve = format!("a.test:{}:127.0.0.1", secured.port);
        for (flags, expected) in [
            (["--tls-max", "1.2", "--http1.1"], "1.1 404 0"),
            (["--tls-max", "1.3", "--http1.1"], "1.1 404 0"),
            (["--tls-max", "1.2", "--http2"], "2 404 0"),
            (["--tls-max", "1.3", "--http2"], "2 404 0"),
        ] {
            let mut curl = Command::new("curl");
            curl.args([
                "-sS",
                "-o",
                "/dev/null",
                "--max-time",
                "30",
                "--cacert",
                "certs/ca.crt",
                "--resolve",
                &resolve,
            ]);
            curl.args(["-w", "%{http_version} %{http_code} %{ssl_verify_result}"]).args(flags).arg(&url);
            let Some((said, _)) = output(curl.current_dir(&secured.directory), b"") else { return skip("curl") };
            assert_eq!(said, expected, "{driver}, {flags:?}");
        }
    }
}

#[test]
fn openssl_is_refused_what_is_off() {
    for driver in drivers() {
        let newest = Secured::start(&driver, "newest", "127.0.0.1", ", minversion: '1.3'", "");
        let Some((said, _)) = newest.s_client(&["-tls1_2"]) else { return skip("openssl") };
        assert!(said.contains("alert protocol version"), "{said}");
        answered(&newest.s_client(&["-tls1_3"]).expect("it is there").0);

        // The last client says nothing more, and is not to be waited for.
        let soon = "timeouts: {keepAliveSeconds: 1}";
        let either = Secured::start(&driver, "either", "127.0.0.1", "", soon);
        let (said, _) = either.s_client(&["-tls1_2", "-comp"]).expect("it is there");
        answered(&said);
        assert!(said.contains("Compression: NONE"), "{said}");
        // A line of its own, `R` asks to shake hands again.
        let (said, _) = either.s_client_says(&["-tls1_2"], b"R\n").expect("it is there");
        assert!(said.contains("no renegotiation"), "{said}");
        for old in ["-tls1", "-tls1_1"] {
            let (said, succeeded) = either.s_client(&[old, "-cipher", "ALL:@SECLEVEL=0"]).expect("it is there");
            assert!(!succeeded && !said.contains("HTTP/1.1 "), "{said}");
        }
    }
}

#[test]
fn openssl_shows_a_certificate_where_one_is_demanded() {
    for driver in drivers() {
        let authority = tls::made().iter().find(|made| made.name == "ca").expect("it is made");
        let demand = format!(", requireClientCertificate: true, trustedCA: {}", tls::quoted(&authority.crt));
        let secured = Secured::start(&driver, "demands", "127.0.0.1", &demand, "");
        for version in ["-tls1_2", "-tls1_3"] {
            let shown = [version, "-cert", "certs/client.crt", "-key", "certs/client.key"];
            let Some((said, _)) = secured.s_client(&shown) else { return skip("openssl") };
            answered(&said);
            let forged = [version, "-cert", "certs/stranger.crt", "-key", "certs/stranger.key"];
            for refused in [&[version][..], &forged] {
                let (said, _) = secured.s_client(refused).expect("it is there");
                assert!(said.contains("alert") && !said.contains("HTTP/1.1 "), "{said}");
            }
        }
    }
}

/// Two replicas with one file of ticket keys, at different addresses; and one with keys of its own.
#[test]
fn openssl_takes_its_session_to_another_replica() {
    let keys = folder("ticket-keys").join("ticket.keys");
    fs::write(&keys, [7; 48]).expect("the directory is writable");
    let setting = format!("tls: {{ticketKeysFile: {}}}", keys.display());
    for driver in drivers() {
        let first = Secured::start(&driver, "first", "127.0.0.1", "", &setting);
        let second = Secured::start_at(&driver, "second", "127.0.0.2", first.port, "", &setting);
        let stranger = Secured::start_at(&driver, "stranger", "127.0.0.3", first.port, "", "");
        for version in ["-tls1_2", "-tls1_3"] {
            let session = first.directory.join(version).display().to_string();
            let Some((said, _)) = first.s_client(&[version, "-sess_out", &session]) else { return skip("openssl") };
            assert!(said.contains("New, TLSv1."), "{said}");
            for (replica, expected) in
                [(&first, "Reused, TLSv1."), (&second, "Reused, TLSv1."), (&stranger, "New, TLSv1.")]
            {
                let (said, _) = replica.s_client(&[version, "-sess_in", &session]).expect("it is there");
                answered(&said);
                assert!(said.contains(expected), "{driver}, {version}, {}: {said}", replica.host);
            }
        }
    }
}

#[test]
fn nginx_is_verified_and_verifies() {
    let authority = &tls::made().iter().find(|made| made.name == "ca").expect("it is made").crt;
    let trust = format!("trustedCA: {}", tls::quoted(authority));
    let ours = "certificate: {crtFile: certs/client.crt, keyFile: certs/client.key}";
    for driver in drivers() {
        for (name, shown, demand, config, expected) in [
            ("verified", "a", "", trust.clone(), (200, "NONE ")),
            ("wrong-name", "b", "", trust.clone(), (503, "upstream connect error")),
            ("untrusted", "stranger", "", trust.clone(), (503, "upstream connect error")),
            ("skipped", "stranger", "", "skipValidation: true".into(), (200, "NONE ")),
            ("demanded", "a", "ssl_verify_client on;", format!("{trust}, {ours}"), (200, "SUCCESS CN=client")),
        ] {
            let directory = folder(&format!("nginx-{name}-{driver}"));
            tls::write(&directory).expect("the directory is writable");
            let upstream = ports::reserve();
            let Some(_nginx) = Nginx::start(&directory, upstream, shown, demand) else { return skip("nginx") };
            let port = ports::reserve();
            let configuration = format!(
                "{}\nspec: {{address: 'http://127.0.0.1:{port}', policies: [{{policyRef: {{name: route}}, config: {{destinationRef: {{name: a}}}}}}]}}
---\n{}\nspec: {{address: 'https://127.0.0.1:{upstream}'}}
---\n{}\nspec: {{targetRef: {{kind: Service, name: a}}, policyRef: {{name: tls-outbound}}, config: {{{config}}}}}\n",
                envelope("ApiInstance"),
                envelope("Service"),
                envelope("PolicyBinding"),
            );
            let _gateway = start(&driver, &directory, &configuration);
            let (status, body) = get(port, "/").expect("an answer");
            assert_eq!((status, body.trim_end_matches('\n')), expected, "{driver}, {name}");
        }
    }
}

/// A gateway that serves one API on https, without a route: everything is answered 404.
struct Secured {
    _gateway: Gateway,
    directory: PathBuf,
    host: &'static str,
    port: u16,
}

impl Secured {
    fn start(driver: &str, name: &str, host: &'static str, policy: &str, settings: &str) -> Self {
        Self::start_at(driver, name, host, ports::reserve(), policy, settings)
    }

    fn start_at(driver: &str, name: &str, host: &'static str, port: u16, policy: &str, settings: &str) -> Self {
        let directory = folder(&format!("{name}-{driver}"));
        tls::write(&directory).expect("the directory is writable");
        let certificate = "certificate: {crtFile: certs/a.crt, keyFile: certs/a.key}";
        let configuration = format!(
            "{}\nspec: {{address: 'https://{host}:{port}', policies: [{{policyRef: {{name: tls}}, config: {{{certificate}{policy}}}}}]}}
---\n{}\nspec: {{ringway: {{{settings}}}}}\n",
            envelope("ApiInstance"),
            envelope("Configuration"),
        );
        let _gateway = start(driver, &directory, &configuration);
        Self { _gateway, directory, host, port }
    }

    /// What it says while it asks once, and whether it ends well. `None`: it is not installed.
    fn s_client(&self, flags: &[&str]) -> Option<(String, bool)> {
        self.s_client_says(&[flags, &["-ign_eof"]].concat(), REQUEST)
    }

    fn s_client_says(&self, flags: &[&str], words: &[u8]) -> Option<(String, bool)> {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-servername", "a.test", "-CAfile", "certs/ca.crt", "-verify_return_error"]);
        command.arg("-connect").arg(format!("{}:{}", self.host, self.port)).args(flags);
        output(command.current_dir(&self.directory), words)
    }
}

fn answered(said: &str) {
    assert!(said.contains("HTTP/1.1 404 ") && said.contains("Verify return code: 0 (ok)"), "{said}");
}

fn skip(name: &str) {
    println!("skipped: {name}");
}

fn envelope(kind: &str) -> String {
    format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}")
}

fn folder(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-peers-{name}"));
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

fn start(driver: &str, directory: &Path, configuration: &str) -> Gateway {
    fs::write(directory.join("gateway.yaml"), configuration).expect("the directory is writable");
    let launch = Launch { directory, driver, management: ports::reserve(), flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, LIMIT) {
        panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
    }
    gateway
}

/// Everything a program says when it is told `words`. `None`: it is not installed.
fn output(command: &mut Command, words: &[u8]) -> Option<(String, bool)> {
    let mut child = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    // It may have ended already.
    child.stdin.take().expect("piped").write_all(words).ok();
    let ended = child.wait_with_output().expect("it was started");
    let said = [ended.stdout, ended.stderr].concat();
    Some((String::from_utf8_lossy(&said).into_owned(), ended.status.success()))
}

fn spawn(command: &mut Command) -> Option<Child> {
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// An https server that tells whom it verified; ended with its value.
struct Nginx(Child);

impl Nginx {
    fn start(directory: &Path, port: u16, shown: &str, demand: &str) -> Option<Self> {
        let certs = directory.join("certs").display().to_string();
        let files = format!("ssl_certificate {certs}/{shown}.crt; ssl_certificate_key {certs}/{shown}.key;");
        let server = format!("listen 127.0.0.1:{port} ssl; {files} ssl_client_certificate {certs}/ca.crt; {demand}");
        let answer = "location / { return 200 \"$ssl_client_verify $ssl_client_s_dn\"; }";
        let main = format!("daemon off; master_process off; pid {}/pid; error_log stderr;", directory.display());
        let path = directory.join("nginx.conf");
        let text = format!("{main} events {{}} http {{ access_log off; server {{ {server} {answer} }} }}\n");
        fs::write(&path, text).expect("the directory is writable");
        let mut command = Command::new("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(directory).arg("-c").arg(path);
        let nginx = Self(spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?);
        // It does not say when it listens.
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = TcpStream::connect(("127.0.0.1", port)) {
            assert!(Instant::now() < deadline, "nginx does not listen on port {port}: {error}");
            thread::park_timeout(Duration::from_millis(10));
        }
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
