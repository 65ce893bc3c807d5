//! PROXY protocol with HAProxy and nginx: in front of the gateway, and as its upstream. Each is skipped, by name, where the
//! program is not there.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{
    gateway::{Gateway, Launch, drivers},
    message::Head,
    ports,
};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn haproxy_in_front() {
    for (name, option) in [("v1", "send-proxy"), ("v2", "send-proxy-v2"), ("v2-ssl-cn", "send-proxy-v2-ssl-cn")] {
        behind(&format!("haproxy-{name}"), |gateway, port| {
            let server = format!("server gateway {gateway} {option}");
            Program::haproxy(port, &format!("mode tcp\n  {server}"))
        });
    }
    let options = "send-proxy-v2 proxy-v2-options authority,crc32c,unique-id";
    behind("haproxy-tlvs", |gateway, port| {
        let frontend = "mode tcp\n  unique-id-format %{+X}o%ci:%cp-%pid";
        Program::haproxy(port, &format!("{frontend}\n  server gateway {gateway} {options}"))
    });
}

#[test]
fn nginx_in_front() {
    behind("nginx", |gateway, port| {
        let server = format!("listen 127.0.0.1:{port}; proxy_pass {gateway}; proxy_protocol on;");
        Program::nginx(&format!("stream {{ server {{ {server} }} }}"))
    });
}

#[test]
fn haproxy_as_upstream() {
    for version in ["v1", "v2"] {
        to(&format!("haproxy-to-{version}"), version, |upstream, port| {
            let listen = "accept-proxy\n  mode http\n  http-request set-header x-source %[src]:%[src_port]";
            Program::haproxy(port, &format!("{listen}\n  server upstream {upstream}"))
        });
    }
}

#[test]
fn nginx_as_upstream() {
    for version in ["v1", "v2"] {
        to(&format!("nginx-to-{version}"), version, |upstream, port| {
            let source = "proxy_set_header x-source $proxy_protocol_addr:$proxy_protocol_port;";
            let server = format!(
                "listen 127.0.0.1:{port} proxy_protocol; location / {{ proxy_pass http://{upstream}; {source} }}"
            );
            Program::nginx(&format!("http {{ access_log off; server {{ {server} }} }}"))
        });
    }
}

/// A client reaches the gateway through a balancer: the upstream learns the client's address, and the log its port.
fn behind(name: &str, balancer: impl Fn(SocketAddr, u16) -> Option<Program>) {
    for driver in drivers() {
        let upstream = echo();
        let address = local(ports::reserve());
        let configuration = format!(
            "{}\nspec: {{address: 'http://{address}', services: {{u: {{address: 'http://{upstream}'}}}}, ringway: {{proxyProtocol: true}}}}
---\n{}\nspec: {{ringway: {{accessLog: {{format: text}}}}}}\n",
            envelope("ApiInstance"),
            envelope("Configuration"),
        );
        let gateway = start(&driver, name, &configuration);
        let port = ports::reserve();
        let Some(_balancer) = balancer(address, port) else { return println!("skipped: {name}") };
        let mut client = connect(port);
        let from = client.local_addr().expect("it is connected");
        for _ in 0..2 {
            let seen = ask(&mut client);
            assert!(seen.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{name}, {driver}: {seen}");
        }
        let logged = gateway.stdout.wait(LIMIT, |line| line.contains(&format!("client={from} ")));
        assert!(logged, "{name}, {driver}: no client={from} in {:?}", gateway.stdout.all());
    }
}

/// The gateway tells an upstream who its client is; two clients at the same time are told apart.
fn to(name: &str, version: &str, server: impl Fn(SocketAddr, u16) -> Option<Program>) {
    for driver in drivers() {
        let port = ports::reserve();
        let Some(_server) = server(echo(), port) else { return println!("skipped: {name}") };
        drop(connect(port));
        let address = local(ports::reserve());
        let configuration = format!(
            "{}\nspec: {{address: 'http://{address}', policies: [{{policyRef: {{name: route}}, config: {{destinationRef: {{name: a}}}}}}]}}
---\n{}\nspec: {{address: 'http://127.0.0.1:{port}', ringway: {{proxyProtocol: {version}}}}}\n",
            envelope("ApiInstance"),
            envelope("Service"),
        );
        let _gateway = start(&driver, name, &configuration);
        let mut clients = [connect(address.port()), connect(address.port())];
        for _ in 0..2 {
            for client in &mut clients {
                let from = client.local_addr().expect("it is connected");
                let seen = ask(client);
                assert!(seen.contains(&format!("\r\nx-source: {from}\r\n")), "{name}, {driver}: {from} in {seen}");
            }
        }
    }
}

fn envelope(kind: &str) -> String {
    format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}")
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn folder(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("balancers-{name}"));
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

fn start(driver: &str, name: &str, configuration: &str) -> Gateway {
    let directory = folder(&format!("{name}-{driver}"));
    fs::write(directory.join("gateway.yaml"), configuration).expect("the directory is writable");
    let launch = Launch { directory: &directory, driver, management: ports::reserve(), flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, LIMIT) {
        panic!("{name}, {driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
    }
    gateway
}

/// A server that answers with the head it was sent, for as long as this process lives.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                while let Some(head) = read_head(&mut stream) {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
                    if stream.write_all(&[answer.as_bytes(), &head].concat()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The bytes of a head without a body behind it; `None` at the connection's end.
fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    Some(bytes)
}

/// Once it listens: a server that was started a moment ago may not yet.
fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + LIMIT;
    loop {
        match TcpStream::connect(local(port)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT)).expect("a socket can be made so");
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "nobody listens on port {port}: {error}"),
        }
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Asks once; the body of the answer, which is the head that the last server saw.
fn ask(client: &mut TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("somebody reads");
    let head = read_head(client).expect("an answer comes");
    let (head, _) = Head::parse(&head).expect("a head").expect("a whole one");
    assert_eq!(head.status(), Some(200));
    let support::message::Framing::Length(length) = head.response_framing(false) else { panic!("{head:?}") };
    let mut body = vec![0; length as usize];
    client.read_exact(&mut body).expect("a body comes");
    String::from_utf8(body).expect("text")
}

/// A server of the host; ended with its value.
struct Program(Child);

impl Program {
    fn haproxy(port: u16, listen: &str) -> Option<Self> {
        let path = folder(&format!("haproxy-{port}")).join("haproxy.cfg");
        let timeouts = "timeout connect 5s\n  timeout client 30s\n  timeout server 30s";
        let text = format!("defaults\n  {timeouts}\nlisten test\n  bind 127.0.0.1:{port} {listen}\n");
        // What follows `bind` on its line are its options.
        let text = text.replace(&format!("{port} mode"), &format!("{port}\n  mode"));
        fs::write(&path, text).expect("the directory is writable");
        Self::run(Command::new("haproxy").arg("-db").arg("-f").arg(path))
    }

    fn nginx(blocks: &str) -> Option<Self> {
        let directory = folder(&format!("nginx-{}", ports::reserve()));
        let path = directory.join("nginx.conf");
        // Debian has it as a package of its own.
        let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
        let load = match blocks.starts_with("stream") {
            true if !Path::new(module).exists() => return None,
            true => format!("load_module {module};"),
            false => String::new(),
        };
        let main = format!("{load} daemon off; master_process off; pid {}/pid; error_log stderr;", directory.display());
        fs::write(&path, format!("{main} events {{}} {blocks}\n")).expect("the directory is writable");
        Self::run(Command::new("nginx").arg("-e").arg("stderr").arg("-p").arg(&directory).arg("-c").arg(path))
    }

    /// `None`: it is not installed.
    fn run(command: &mut Command) -> Option<Self> {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
