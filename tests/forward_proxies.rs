//! Upstream services through a real forward proxy: squid, which asks for a password and denies one host. HAProxy stands before
//! the upstream for TLS, and before squid where the proxy is itself spoken with over TLS. Skipped, by name, where one of them is
//! not there.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use support::{
    gateway::{Gateway, Launch, drivers},
    ports,
    redis::wait,
    tls,
};

const LIMIT: Duration = Duration::from_secs(30);
const LARGE: usize = 300_000;

/// Tells of each request what it has seen, and of a WebSocket its bytes.
fn upstream() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that ends is no failure.
            thread::spawn(move || drop(tell(stream)));
        }
    });
    port
}

fn tell(stream: TcpStream) -> std::io::Result<()> {
    let (mut from, mut to) = (BufReader::new(stream.try_clone()?), stream);
    loop {
        let (mut line, mut length, mut is_websocket) = (String::new(), 0, false);
        if from.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut seen = line.trim_end().to_owned();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a number"),
                "upgrade" => is_websocket = true,
                name @ ("host" | "via" | "x-version" | "proxy-authorization") => seen += &format!(" {name}={value}"),
                _ => {}
            }
        }
        if is_websocket {
            to.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                           sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
            std::io::copy(&mut from, &mut to)?;
            return Ok(());
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        let body = if length > 0 { body } else { seen.into_bytes() };
        to.write_all(
            &[format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(),
        )?;
    }
}

/// A server of the host; killed with its value.
struct Program(Child);

impl Program {
    fn run(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Setting {
    folder: tempfile::TempDir,
    gateway: Gateway,
    squid: Option<Program>,
    _haproxy: Program,
    squid_port: u16,
    port: u16,
}

impl Setting {
    /// `None`: something is not installed. `is_secure`: the proxy is spoken with over TLS.
    fn start(driver: &str, password: &str, is_secure: bool) -> Option<Self> {
        for program in ["squid", "haproxy"] {
            if Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                println!("skipped: there is no {program}");
                return None;
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        // Squid does not stay root.
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        tls::write(path).expect("certificates");
        let ([plain, squid, front, port], [http1, http2]) =
            ([upstream(), ports::reserve(), ports::reserve(), ports::reserve()], [ports::reserve(), ports::reserve()]);
        let haproxy = haproxy(path, plain, squid, [http1, http2, front]);
        let started = start_squid(path, squid);
        let proxy = if is_secure { format!("https://127.0.0.1:{front}") } else { format!("http://127.0.0.1:{squid}") };
        let mut text = format!(
            "{}\nspec:\n  forwardProxy:\n    https: {{address: '{proxy}', basicAuth: {{username: gateway, password: {password}}}}}\n    \
             noProxy: [127.0.0.1]\n  defaultTLS: {{outboundPolicyCalls: {{trustedCAFile: certs/ca.crt}}}}\n  \
             ringway: {{timeouts: {{upstreamConnectSeconds: 1}}}}\n",
            head("Configuration", "outside")
        );
        text +=
            &format!("---\n{}\nspec:\n  address: http://127.0.0.1:{port}\n  services:\n", head("ApiInstance", "api"));
        let services = [
            ("plain", format!("http://far.test:{plain}")),
            ("http1", format!("https://a.test:{http1}")),
            ("http2", format!("https://a.test:{http2}")),
            ("denied", format!("https://denied.test:{http1}")),
            ("denied-plain", format!("http://denied.test:{plain}")),
            ("near", format!("http://127.0.0.1:{plain}")),
        ];
        for (name, address) in &services {
            text +=
                &format!("    {name}: {{address: '{address}', routes: [{{rules: [{{path: '/{name}(/.*)?'}}]}}]}}\n");
        }
        for name in ["http1", "http2", "denied"] {
            let binding = head("PolicyBinding", &format!("dialled-{name}"));
            text += &format!(
                "---\n{binding}\nspec:\n  targetRef: {{kind: Service, name: api-{name}}}\n  \
                 policyRef: {{name: tls-outbound}}\n  config: {{trustedCAFile: certs/ca.crt}}\n"
            );
        }
        fs::write(path.join("gateway.yaml"), text).expect("a file");
        let launch = Launch { directory: path, driver, management: ports::reserve(), flags: &[], environment: &[] };
        let mut gateway = Gateway::launch(&launch).expect("it starts");
        if let Err(problem) = gateway.wait_live(true, LIMIT) {
            panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
        }
        Some(Self { folder, gateway, squid: Some(started), _haproxy: haproxy, squid_port: squid, port })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream
    }

    fn ask(&self, path: &str) -> (u16, String) {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nhost: api.test\r\nproxy-authorization: Basic mine\r\nconnection: close\r\n\r\n"
        ))
    }

    fn post(&self, path: &str, bytes: usize) -> (u16, String) {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n");
        self.send(&(head + &"x".repeat(bytes)))
    }

    fn send(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(!head.to_ascii_lowercase().contains("proxy-auth"), "{head}");
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
    }

    /// Bytes there and back.
    fn chat(&self, path: &str) {
        let mut stream = self.connect();
        let ask = format!(
            "GET {path} HTTP/1.1\r\nhost: api.test\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{path}: {}", String::from_utf8_lossy(&head));
        for round in 0..3_u8 {
            let said = vec![round; 20_000];
            stream.write_all(&said).expect("it reads");
            let mut heard = vec![0; said.len()];
            stream.read_exact(&mut heard).expect("it answers");
            assert!(said == heard, "{path}");
        }
    }

    /// Requests that ended for this reason.
    fn ended(&self, reason: &str) -> f64 {
        let name = format!("ringway_responses_by_reason_total{{reason=\"{reason}\"}}");
        self.gateway.metric_of(&name).unwrap_or_default()
    }
}

fn head(kind: &str, name: &str) -> String {
    format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}")
}

fn start_squid(folder: &Path, port: u16) -> Program {
    let at = folder.display();
    let helper = "while read -r user password; do\n    \
                  if [ \"$user $password\" = 'gateway secret' ]; then echo OK; else echo ERR; fi\ndone\n";
    let conf = format!(
        "http_port 127.0.0.1:{port}\npid_filename none\ncache_log {at}/squid.log\naccess_log none\nnetdb_filename none\n\
         cache deny all\nshutdown_lifetime 0 seconds\nhosts_file {at}/hosts\ndns_nameservers 127.0.0.1\n\
         visible_hostname proxy.test\npinger_enable off\nauth_param basic program /bin/sh {at}/helper.sh\n\
         auth_param basic children 1 startup=1\nauth_param basic realm test\nacl known proxy_auth REQUIRED\n\
         acl denied dstdomain denied.test\nhttp_access deny denied\nhttp_access allow known\nhttp_access deny all\n"
    );
    let files = [("helper.sh", helper), ("hosts", "127.0.0.1 a.test far.test denied.test\n"), ("squid.conf", &conf)];
    files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).expect("a file"));
    let started = Program::run(Command::new("squid").arg("-N").arg("-f").arg(folder.join("squid.conf")));
    wait("squid listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    started
}

fn haproxy(folder: &Path, upstream: u16, squid: u16, [http1, http2, front]: [u16; 3]) -> Program {
    let certs = folder.join("certs");
    let read = |name: &str| fs::read_to_string(certs.join(name)).expect("a certificate");
    fs::write(folder.join("a.pem"), read("a.crt") + &read("a.key")).expect("a file");
    let secure = |port: u16| format!("bind 127.0.0.1:{port} ssl crt {}/a.pem", folder.display());
    let conf = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         listen http1\n  {} alpn http/1.1\n  http-request set-header x-version %[req.ver]\n  server up 127.0.0.1:{upstream}\n\
         listen http2\n  {} alpn h2\n  http-request set-header x-version %[req.ver]\n  server up 127.0.0.1:{upstream}\n\
         listen front\n  mode tcp\n  {}\n  server squid 127.0.0.1:{squid}\n",
        secure(http1),
        secure(http2),
        secure(front)
    );
    fs::write(folder.join("haproxy.cfg"), conf).expect("a file");
    let started = Program::run(Command::new("haproxy").arg("-db").arg("-f").arg(folder.join("haproxy.cfg")));
    for port in [http1, http2, front] {
        wait("haproxy listens", || TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok());
    }
    started
}

#[test]
fn squid_carries_http_https_http2_and_websockets() {
    for (driver, is_secure) in drivers().iter().flat_map(|driver| [(driver, false), (driver, true)]) {
        let Some(setting) = Setting::start(driver, "secret", is_secure) else { return };
        for _ in 0..2 {
            let (status, seen) = setting.ask("/plain/a?b=c");
            assert!(status == 200 && seen.starts_with("GET /a?b=c HTTP/1.1 "), "{seen}");
            assert!(seen.contains("via=1.1 proxy.test") && seen.contains("host=far.test:"), "{seen}");
            assert!(!seen.contains("proxy-authorization"), "{seen}");
            for (path, version) in [("/http1", "1.1"), ("/http2", "2.0")] {
                let (status, seen) = setting.ask(path);
                assert!(status == 200 && seen.contains(&format!("x-version={version}")), "{path}: {seen}");
                assert!(!seen.contains("proxy-authorization") && !seen.contains("via="), "{path}: {seen}");
            }
            let (status, seen) = setting.ask("/near");
            assert!(status == 200 && !seen.contains("via="), "{seen}");
        }
        for path in ["/plain", "/http1", "/http2", "/near"] {
            let (status, body) = setting.post(path, LARGE);
            assert_eq!((status, body.len()), (200, LARGE), "{path}");
        }
        for path in ["/plain", "/http1", "/near"] {
            setting.chat(path);
        }
        assert_eq!(setting.ask("/denied").0, 503);
        assert_eq!(setting.ended("proxy_refused"), 1.0);
        // Nobody can tell who has said that.
        assert_eq!(setting.ask("/denied-plain").0, 403);
    }
}

#[test]
fn a_wrong_password_reaches_nobody_but_what_is_excepted() {
    let Some(setting) = Setting::start(&drivers()[0], "wrong", false) else { return };
    for path in ["/plain", "/http1", "/http2"] {
        assert_eq!(setting.ask(path), (502, "upstream connect error".to_owned()), "{path}");
    }
    assert_eq!(setting.post("/plain", LARGE).0, 502);
    assert_eq!(setting.ended("proxy_authentication"), 4.0);
    assert_eq!(setting.ask("/near").0, 200);
}

#[test]
fn a_proxy_that_stalls_goes_and_comes_back() {
    for driver in drivers() {
        let Some(mut setting) = Setting::start(&driver, "secret", false) else { return };
        let squid = setting.squid.take().expect("it runs");
        squid.signal("-STOP");
        assert_eq!(setting.ask("/http1").0, 503);
        assert_eq!(setting.ended("proxy_timeout"), 1.0);
        squid.signal("-CONT");
        assert_eq!(setting.ask("/http1").0, 200);
        assert_eq!(setting.ask("/plain").0, 200);
        drop(squid);
        for path in ["/plain", "/http1", "/http2"] {
            assert_eq!(setting.ask(path), (503, "upstream connect error".to_owned()), "{path}");
        }
        assert_eq!(setting.ended("proxy_unreachable"), 3.0);
        assert_eq!(setting.ask("/near").0, 200);
        setting.squid = Some(start_squid(setting.folder.path(), setting.squid_port));
        for path in ["/plain", "/http1", "/http2"] {
            assert_eq!(setting.ask(path).0, 200, "{path}");
        }
    }
}
