//! Clients and servers of others: curl, h2load, nghttpd, nginx and Envoy; gRPC's own library, httpx and websockets for Python;
//! Chromium. Each is skipped, by name, where it is not there.

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
    ports, tls,
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

/// Its connections end after a thousand requests, with GOAWAY; those that are on their way then it has not looked at.
#[test]
fn no_post_is_lost_when_nginx_rotates_its_connections() {
    if output(Command::new("h2load").arg("--version")).is_none() {
        return println!("skipped: h2load");
    }
    let (files, upstream) = (folder("rotating"), ports::reserve());
    let body = files.join("body");
    fs::write(&body, vec![b'z'; 3000]).expect("the directory is writable");
    let main = format!("daemon off; master_process off; pid {}/pid; error_log stderr;", files.display());
    let server = format!("listen 127.0.0.1:{upstream} http2; keepalive_requests 1000; location / {{ return 200 ok; }}");
    let http = format!("http {{ access_log off; server {{ {server} }} }}");
    let path = files.join("nginx.conf");
    fs::write(&path, format!("{main} events {{}} {http}\n")).expect("the directory is writable");
    let mut nginx = Command::new("nginx");
    nginx.args(["-e", "stderr", "-p"]).arg(&files).arg("-c").arg(&path).stderr(Stdio::null());
    let Some(_nginx) = Program::run(&mut nginx) else { return println!("skipped: nginx") };
    wait_for(upstream);
    for driver in drivers() {
        let port = ports::reserve();
        let _gateway = start(&driver, "rotating", port, upstream);
        for version in [&["-m", "20"][..], &["--h1"][..]] {
            let mut h2load = Command::new("h2load");
            h2load.args(["-n", "5000", "-c", "8", "-d"]).arg(&body).args(version);
            let got = output(h2load.arg(format!("http://127.0.0.1:{port}/"))).expect("it is there");
            let got = String::from_utf8_lossy(&got);
            assert!(got.contains("status codes: 5000 2xx"), "{driver}: {version:?}: {got}");
        }
    }
}

#[test]
fn every_kind_of_grpc_call() {
    let Some(python) = python("grpc") else { return };
    for driver in drivers() {
        let (port, upstream) = (ports::reserve(), ports::reserve());
        let gateway = start(&driver, "grpc", port, upstream);
        calls(&python, "grpc_calls.py", &[&upstream.to_string(), &port.to_string()], &gateway);
    }
}

#[test]
fn httpx_over_http1_and_http2() {
    let Some(python) = python("httpx, h2") else { return };
    for driver in drivers() {
        let secured = Secured::start(&driver, "httpx", "");
        let authority = secured.folder.join("certs/ca.crt").display().to_string();
        let arguments = [&*secured.upstream.to_string(), &secured.secure.to_string(), &authority];
        calls(&python, "http_calls.py", &arguments, &secured.gateway);
    }
}

#[test]
fn websockets_with_tls_and_without() {
    let Some(python) = python("websockets.sync.server") else { return };
    for driver in drivers() {
        let secured = Secured::start(&driver, "websockets", "");
        let authority = secured.folder.join("certs/ca.crt").display().to_string();
        let ports = [secured.upstream, secured.plain, secured.secure].map(|port| port.to_string());
        let arguments = [&*ports[0], &ports[1], &ports[2], &authority];
        calls(&python, "websocket_calls.py", &arguments, &secured.gateway);
    }
}

/// Over HTTP/2 Chromium opens the WebSocket as a stream of the page's connection (RFC 8441).
#[test]
fn chromium_talks_over_a_websocket() {
    let Some(python) = python("websockets.sync.server") else { return };
    if output(Command::new("chromium").args(["--no-sandbox", "--version"])).is_none() {
        return println!("skipped: chromium");
    }
    for driver in drivers() {
        for (name, alpn, protocol) in [("h2", "", "h2"), ("http1", ", alpn: [http/1.1]", "http/1.1")] {
            let secured = Secured::start(&driver, &format!("chromium-{name}"), alpn);
            let ports = [secured.upstream, secured.secure].map(|port| port.to_string());
            let folder = secured.folder.display().to_string();
            calls(&python, "browser.py", &[&ports[0], &ports[1], &folder, protocol], &secured.gateway);
        }
    }
}

/// Envoy speaks HTTP/2 over TLS to the gateway, and the gateway to Envoy.
#[test]
fn envoy_in_front_and_as_upstream() {
    let binary = target().join("peers/envoy/envoy");
    if !binary.exists() {
        return println!("skipped: envoy");
    }
    for driver in drivers() {
        let (front, upstream, secure) = (ports::reserve(), ports::reserve(), ports::reserve());
        let folder = folder(&format!("envoy-{driver}"));
        tls::write(&folder).expect("the directory is writable");
        let certs = folder.join("certs").display().to_string();
        let configuration = include_str!("clients/envoy.yaml")
            .replace("@FRONT@", &front.to_string())
            .replace("@UPSTREAM@", &upstream.to_string())
            .replace("@GATEWAY@", &secure.to_string())
            .replace("@CERTS@", &certs);
        fs::write(folder.join("envoy.yaml"), configuration).expect("the directory is writable");
        let mut envoy = Command::new(&binary);
        envoy.arg("-c").arg(folder.join("envoy.yaml")).args([
            "--concurrency",
            "1",
            "--use-dynamic-base-id",
            "-l",
            "error",
        ]);
        let _envoy = Program::run(&mut envoy).expect("it is there");
        let gateway = serve(
            &driver,
            &folder,
            &format!(
                "{}\nspec: {{address: 'https://127.0.0.1:{secure}', services: {{u: {{address: 'https://127.0.0.1:{upstream}'}}}}, \
                 policies: [{{policyRef: {{name: tls}}, config: {{certificate: {{crtFile: certs/a.crt, keyFile: certs/a.key}}}}}}]}}\n---\n\
                 {}\nspec: {{targetRef: {{kind: Service, name: a-u}}, policyRef: {{name: tls-outbound}}, \
                 config: {{trustedCAFile: certs/ca.crt, alpn: [h2]}}}}\n",
                envelope("ApiInstance"),
                envelope("PolicyBinding"),
            ),
        );
        wait_for(front);
        wait_for(upstream);
        let url = format!("http://127.0.0.1:{front}/a");
        let told = gateway.stderr.all().join("\n");
        for flags in [&["--http1.1"][..], &["--http2-prior-knowledge"], &["--http1.1", "-d", "@envoy.yaml"]] {
            let said =
                output(Command::new("curl").args(["-sS", "-i", "-m", "20"]).args(flags).arg(&url).current_dir(&folder));
            let Some(said) = said else { return println!("skipped: curl") };
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.contains(" 200") && said.ends_with("said by envoy"), "{driver}, {flags:?}: {said}\n{told}");
        }
        match output(Command::new("h2load").args(["-n", "400", "-c", "4", "-m", "10", &url])) {
            Some(got) => {
                let got = String::from_utf8_lossy(&got);
                assert!(got.contains("400 succeeded, 0 failed, 0 errored, 0 timeout"), "{driver}: {got}\n{told}");
            }
            None => println!("skipped: h2load"),
        }
    }
}

/// Both in front of one authorization server, by gRPC and by HTTP: each of 118 exchanges ends alike, the upstream sees the same
/// request, and the server is asked the same.
#[test]
fn envoy_and_the_gateway_are_told_the_same_verdicts() {
    let Some(python) = python("grpc") else { return };
    let binary = target().join("peers/envoy/envoy");
    if !binary.exists() {
        return println!("skipped: envoy");
    }
    let [by_grpc, by_http, server, http_server, upstream] = [(); 5].map(|()| ports::reserve());
    let folder = folder("ext-authz-envoy");
    let configuration = include_str!("clients/ext_authz.yaml")
        .replace("@BY_GRPC@", &by_grpc.to_string())
        .replace("@BY_HTTP@", &by_http.to_string())
        .replace("@GRPC@", &server.to_string())
        .replace("@HTTP@", &http_server.to_string())
        .replace("@UPSTREAM@", &upstream.to_string());
    fs::write(folder.join("envoy.yaml"), configuration).expect("the directory is writable");
    let mut envoy = Command::new(&binary);
    envoy.arg("-c").arg(folder.join("envoy.yaml"));
    envoy.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]);
    let _envoy = Program::run(&mut envoy).expect("it is there");
    wait_for(by_http);
    for driver in drivers() {
        let (own_grpc, own_http) = (ports::reserve(), ports::reserve());
        let folder = self::folder(&format!("ext-authz-{driver}"));
        let api = |name: &str, port: u16, config: &str| {
            format!(
                "{}\nspec: {{address: 'http://127.0.0.1:{port}', services: {{u: {{address: 'http://127.0.0.1:{upstream}'}}}}, \
                 policies: [{{policyRef: {{name: native-ext-authz-flex}}, config: {{requestTimeout: 1000, {config}}}}}]}}\n---\n",
                envelope("ApiInstance").replace("name: a", &format!("name: {name}")),
            )
        };
        let http = format!(
            "uri: 'http://127.0.0.1:{http_server}', serverType: http, pathPrefix: /check, allowedHeaders: [x-verdict], \
             serviceRequestHeadersToAdd: [{{key: x-added, value: by-configuration}}], \
             serviceResponseUpstreamHeaders: [x-up, x-old], serviceResponseUpstreamHeadersToAppend: [x-app], \
             serviceResponseClientHeaders: [x-denied], serviceResponseClientHeadersOnSuccess: [x-ok, x-from]"
        );
        let grpc = format!("uri: 'h2://127.0.0.1:{server}'");
        let configuration = [api("a", own_grpc, &grpc), api("b", own_http, &http)].concat();
        let gateway = serve(&driver, &folder, &configuration);
        let [server, http_server, upstream] = [server, http_server, upstream].map(|port| port.to_string());
        let others = [format!("envoy:{by_grpc}:{by_http}"), format!("ringway:{own_grpc}:{own_http}")];
        calls(&python, "ext_authz.py", &[&server, &http_server, &upstream, &others[0], &others[1]], &gateway);
    }
}

/// Both with one external processor: each of 233 exchanges ends alike, the upstream sees the same request, and the
/// processor is sent the same.
#[test]
fn envoy_and_the_gateway_are_processed_alike() {
    let Some(python) = python("grpc") else { return };
    let binary = target().join("peers/envoy/envoy");
    if !binary.exists() {
        return println!("skipped: envoy");
    }
    let bodies = |mode: &str| format!("request_body_mode: {mode}, response_body_mode: {mode}");
    let trailers = "request_trailer_mode: SEND, response_trailer_mode: SEND";
    let own_trailers = "requestTrailerMode: send, responseTrailerMode: send";
    let own_bodies = |mode: &str| format!("requestBodyMode: {mode}, responseBodyMode: {mode}");
    // As the script numbers them: what Envoy is told, whether it passes on failure and takes other modes; and the gateway.
    let modes = [
        (String::new(), "false", "true", String::new()),
        (
            format!("{}, {trailers}", bodies("BUFFERED")),
            "false",
            "true",
            format!("{}, {own_trailers}", own_bodies("buffered")),
        ),
        (
            format!("{}, {trailers}", bodies("STREAMED")),
            "false",
            "true",
            format!("{}, {own_trailers}", own_bodies("streamed")),
        ),
        (
            format!("{}, {trailers}", bodies("BUFFERED_PARTIAL")),
            "false",
            "true",
            format!("{}, {own_trailers}", own_bodies("bufferedPartial")),
        ),
        (String::new(), "true", "true", "failureModeAllow: true".to_owned()),
        (
            format!("{}, request_header_mode: SKIP, response_header_mode: SKIP", bodies("STREAMED")),
            "false",
            "false",
            format!(
                "{}, requestHeaderMode: skip, responseHeaderMode: skip, allowModeOverride: false",
                own_bodies("streamed")
            ),
        ),
    ];
    let [processor, upstream] = [(); 2].map(|()| ports::reserve());
    let folder = folder("ext-proc-envoy");
    let (listener, clusters) =
        include_str!("clients/ext_proc.yaml").split_once("  clusters:\n").expect("both are there");
    let fronts = modes.each_ref().map(|_| ports::reserve());
    let listeners = modes.iter().zip(fronts).map(|((modes, allows, overrides, _), port)| {
        listener
            .replace("@PORT@", &port.to_string())
            .replace("@ALLOWS@", allows)
            .replace("@OVERRIDES@", overrides)
            .replace("@MODES@", modes)
    });
    let clusters = clusters.replace("@PROCESSOR@", &processor.to_string()).replace("@UPSTREAM@", &upstream.to_string());
    let listeners = listeners.collect::<String>();
    let configuration = format!("static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}");
    fs::write(folder.join("envoy.yaml"), configuration).expect("the directory is writable");
    let mut envoy = Command::new(&binary);
    envoy.arg("-c").arg(folder.join("envoy.yaml"));
    envoy.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "off"]);
    let _envoy = Program::run(&mut envoy).expect("it is there");
    fronts.into_iter().for_each(wait_for);
    let told = |who: &str, ports: &[u16]| {
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>();
        format!("{who}:{}", ports.join(":"))
    };
    for driver in drivers() {
        let own = modes.each_ref().map(|_| ports::reserve());
        let apis = modes.iter().zip(own).enumerate().map(|(at, ((.., config), port))| {
            format!(
                "{}\nspec: {{address: 'http://127.0.0.1:{port}', services: {{u: {{address: 'http://127.0.0.1:{upstream}'}}}}, \
                 policies: [{{policyRef: {{name: native-ext-proc-flex}}, \
                 config: {{uri: 'h2://127.0.0.1:{processor}', {config}}}}}]}}\n---\n",
                envelope("ApiInstance").replace("name: a", &format!("name: a{at}")),
            )
        });
        let folder = self::folder(&format!("ext-proc-{driver}"));
        let gateway = serve(&driver, &folder, &apis.collect::<String>());
        let (processor, upstream) = (processor.to_string(), upstream.to_string());
        let others = [told("envoy", &fronts), told("ringway", &own)];
        calls(&python, "ext_proc.py", &[&processor, &upstream, &others[0], &others[1]], &gateway);
    }
}

/// The interpreter that has these modules: that of `make test`, or else the host's.
fn python(modules: &str) -> Option<PathBuf> {
    let has = |python: &PathBuf| {
        let import = Command::new(python).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let found = [target().join("clients/bin/python3"), "python3".into()].into_iter().find(has);
    if found.is_none() {
        println!("skipped: {modules} for python3");
    }
    found
}

/// A script that ends with the words that all was right.
fn calls(python: &Path, script: &str, arguments: &[&str], gateway: &Gateway) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let ran =
        Command::new(python).arg(path).args(arguments).stdin(Stdio::null()).output().expect("it ran a moment ago");
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(said.contains("all calls are right"), "{script}: {said}\n{}", gateway.stderr.all().join("\n"));
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory").to_owned()
}

/// A gateway with one upstream, at a plain port and at one with TLS.
struct Secured {
    gateway: Gateway,
    folder: PathBuf,
    plain: u16,
    secure: u16,
    upstream: u16,
}

impl Secured {
    fn start(driver: &str, name: &str, policy: &str) -> Self {
        let folder = folder(&format!("{name}-{driver}"));
        tls::write(&folder).expect("the directory is writable");
        let [plain, secure, upstream] = [(); 3].map(|()| ports::reserve());
        let services = format!("services: {{u: {{address: 'http://127.0.0.1:{upstream}'}}}}");
        let certificate = "certificate: {crtFile: certs/a.crt, keyFile: certs/a.key}";
        let gateway = serve(
            driver,
            &folder,
            &format!(
                "{}\nspec: {{address: 'http://127.0.0.1:{plain}', {services}}}\n---\n\
                 {}\nspec: {{address: 'https://127.0.0.1:{secure}', {services}, policies: [{{policyRef: {{name: tls}}, \
                 config: {{{certificate}{policy}}}}}]}}\n",
                envelope("ApiInstance"),
                envelope("ApiInstance").replace("name: a", "name: b"),
            ),
        );
        Self { gateway, folder, plain, secure, upstream }
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
    let address = format!("http://127.0.0.1:{port}");
    let services = format!("services: {{u: {{address: 'h2://127.0.0.1:{upstream}'}}}}");
    let configuration = format!("{}\nspec: {{address: '{address}', {services}}}\n", envelope("ApiInstance"));
    serve(driver, &folder(&format!("{name}-{driver}")), &configuration)
}

fn envelope(kind: &str) -> String {
    format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}")
}

fn serve(driver: &str, directory: &Path, configuration: &str) -> Gateway {
    let conf = directory.join("conf.d");
    fs::create_dir_all(&conf).expect("the directory is writable");
    fs::write(conf.join("gateway.yaml"), configuration.replace("certs/", "../certs/"))
        .expect("the directory is writable");
    let flags = ["--config".to_owned(), "conf.d".to_owned()];
    let launch = Launch { directory, driver, management: ports::reserve(), flags: &flags, environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, LIMIT) {
        panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
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
