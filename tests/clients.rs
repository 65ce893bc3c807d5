//! Clients and servers of others over HTTP/2: curl, h2load and nghttpd, and gRPC's own library for Python. Each is skipped,
//! by name, where the program is not there.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::{
    gateway::{Gateway, Launch, drivers},
    ports,
};

const LIMIT: Duration = Duration::from_secs(30);
const BODY: usize = 200_000;

#[test]
fn curl_and_h2load_through_to_nghttpd() {
    let files = folder("nghttpd");
    fs::write(files.join("body"), vec![b'z'; BODY]).expect("the directory is writable");
    let upstream = ports::reserve();
    let mut nghttpd = Command::new("nghttpd");
    nghttpd.args(["--no-tls", "--address=127.0.0.1", "--echo-upload", "-d"]).arg(&files).arg(upstream.to_string());
    let Some(_nghttpd) = Program::run(&mut nghttpd) else { return println!("skipped: nghttpd") };
    wait_for(upstream);
    for driver in drivers() {
        let port = ports::reserve();
        let _gateway = start(&driver, "nghttpd", port, upstream);
        let url = format!("http://127.0.0.1:{port}/body");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            match output(Command::new("curl").args(["-sS", "-m", "20", version, &url])) {
                Some(got) => assert!(got.len() == BODY && got.iter().all(|&byte| byte == b'z'), "{driver}: {version}"),
                None => println!("skipped: curl"),
            }
        }
        let upload = format!("@{}", files.join("body").display());
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-m", "20", version, "-H", "Expect:", "--data-binary", &upload, &url]);
            if let Some(got) = output(&mut curl) {
                assert_eq!(got.len(), BODY, "{driver}: {version} upload");
            }
        }
        match output(Command::new("h2load").args(["-n", "400", "-c", "4", "-m", "10", &url])) {
            Some(got) => {
                let got = String::from_utf8_lossy(&got);
                assert!(got.contains("400 succeeded, 0 failed, 0 errored, 0 timeout"), "{driver}: {got}");
            }
            None => println!("skipped: h2load"),
        }
    }
}

#[test]
fn every_kind_of_grpc_call() {
    let import = Command::new("python3").args(["-c", "import grpc"]).stderr(Stdio::null()).status();
    if !import.is_ok_and(|status| status.success()) {
        return println!("skipped: python3-grpcio");
    }
    for driver in drivers() {
        let (port, upstream) = (ports::reserve(), ports::reserve());
        let gateway = start(&driver, "grpc", port, upstream);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/grpc_calls.py");
        let calls = output(Command::new("python3").arg(script).arg(upstream.to_string()).arg(port.to_string()));
        let said = String::from_utf8_lossy(&calls.expect("it was there a moment ago")).into_owned();
        assert!(said.contains("all calls are right"), "{driver}: {said}\n{}", gateway.stderr.all().join("\n"));
    }
}

/// What it says; `None`: it is not installed. A failure is the test's.
fn output(command: &mut Command) -> Option<Vec<u8>> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => {
            let problem = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {}: {problem}", output.status);
            Some(output.stdout)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn wait_for(port: u16) {
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = TcpStream::connect(("127.0.0.1", port)) {
        assert!(Instant::now() < deadline, "nobody listens on port {port}: {error}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn folder(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clients-{name}"));
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

/// A gateway on `port`, in front of an upstream that speaks HTTP/2.
fn start(driver: &str, name: &str, port: u16, upstream: u16) -> Gateway {
    let directory = folder(&format!("{name}-{driver}"));
    let configuration = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}
spec: {{address: 'http://127.0.0.1:{port}', services: {{u: {{address: 'h2://127.0.0.1:{upstream}'}}}}}}\n"
    );
    fs::write(directory.join("gateway.yaml"), configuration).expect("the directory is writable");
    let launch = Launch { directory: &directory, driver, management: ports::reserve(), flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, LIMIT) {
        panic!("{name}, {driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
    }
    gateway
}

/// A server of the host; ended with its value.
struct Program(Child);

impl Program {
    /// `None`: it is not installed.
    fn run(command: &mut Command) -> Option<Self> {
        match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
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
