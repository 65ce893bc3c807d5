//! `explain` and a running gateway say the same of the same request: for the configurations of all cases on policies and
//! routing, and for their own requests beside generated ones.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

mod compare;

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use compare::{CLIENT, LIMIT, agree, ask, echo};
use ringway::{
    config::{Loader, environment::Environment, snapshot::Snapshot},
    explain::{Question, Secrets, explain},
    policies::Compiled,
    telemetry::series::SeriesId,
};
use support::{
    case::{Begin, Case, Kind},
    gateway::{Gateway, Launch, binary, clean, drivers},
    ports,
    script::{Action, Command},
    session::{Names, expand, expand_text},
};

/// Fewer comparisons than this, and the cases were not found.
const COMPARED_MIN: usize = 4_000;

#[test]
fn explain_and_the_gateway_agree() {
    let upstream = echo().to_string();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths: Vec<PathBuf> = ["policies", "routing"].iter().flat_map(|area| cases(&root.join(area))).collect();
    paths.sort();
    let (mut compared, mut differences) = (0, Vec::new());
    for path in &paths {
        let read = Case::read(path, &root).expect("cases.rs has read it");
        // The upstream here speaks HTTP/1.1.
        for case in read.into_iter().filter(|case| !case.name.ends_with("-h2")) {
            let Some(setting) = Setting::of(&case, &upstream) else { continue };
            match setting.compare(&mut differences) {
                Ok(count) => compared += count,
                Err(problem) => differences.push(format!("{}: {problem}", case.name)),
            }
        }
    }
    differences.iter().take(20).for_each(|difference| println!("{difference}\n"));
    assert_eq!(differences.len(), 0, "differences in {compared} comparisons");
    assert!(compared >= COMPARED_MIN, "only {compared} comparisons");
}

/// The transcripts of the page are what the binary says.
#[test]
fn the_pages_transcripts_are_real() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/explain.md")).expect("a page");
    let blocks = |language: &str| -> Vec<String> {
        let fence = format!("```{language}\n");
        page.split(&fence).skip(1).map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
    };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain-page");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("orders.yaml"), &blocks("yaml")[0]).expect("a file");
    let transcripts = blocks("console");
    assert_eq!(transcripts.len(), 2);
    for transcript in transcripts {
        let (command, expected) = transcript.split_once('\n').expect("a command and its output");
        let command = command.strip_prefix("$ ringway ").expect("a command");
        // Words between quotes are one.
        let quoted = command.split('\'').enumerate();
        let arguments = quoted.flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        });
        let mut run = std::process::Command::new(binary());
        let output = clean(&mut run).args(arguments).current_dir(&directory).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

/// A case's configuration as it begins, and the requests that it sends.
struct Setting {
    name: String,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
    management: u16,
    asked: Vec<(String, String, Vec<String>)>,
}

impl Setting {
    /// `None`: the case's gateway has no configuration, or does not come up.
    fn of(case: &Case, upstream: &str) -> Option<Self> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("explain").join(case.name.replace(['/', ' '], "-"));
        fs::remove_dir_all(&directory).ok();
        fs::create_dir_all(&directory).expect("a directory");
        let management = ports::reserve();
        let names: Names = Arc::new(vec![
            ("port", ports::reserve().to_string()),
            ("port2", ports::reserve().to_string()),
            ("port3", ports::reserve().to_string()),
            ("dead", upstream.to_owned()),
            ("management-port", management.to_string()),
            ("management", format!("127.0.0.1:{management}")),
            ("upstream", upstream.to_owned()),
            ("upstream2", upstream.to_owned()),
            ("upstream3", upstream.to_owned()),
            ("dir", directory.display().to_string()),
        ]);
        let name = case.name.clone();
        let mut setting = Self { name, directory, environment: vec![], flags: vec![], management, asked: vec![] };
        let mut started = false;
        for step in &case.steps {
            match &step.kind {
                Kind::Config { name, text } if !started => {
                    fs::write(setting.directory.join(name), expand_text(&names, text)).expect("a file");
                }
                Kind::Env(name, value) => setting.environment.push((name.clone(), expand_text(&names, value))),
                Kind::Flags(flags) => setting.flags.extend(flags.iter().map(|flag| expand_text(&names, flag))),
                Kind::Start(Begin::Exits(_)) | Kind::ConfigMap { .. } | Kind::Copy(..) => return None,
                Kind::Start(_) => started = true,
                Kind::Client { script, .. } => {
                    started = true;
                    setting.asked.extend(heads(script, &names));
                }
                _ => {}
            }
        }
        started.then_some(setting)
    }

    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let pairs = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Environment = pairs.collect();
        let outcome =
            Loader::new(vec![self.directory.clone()], environment).load().compile(0, &mut |_| SeriesId::default());
        outcome.accept(self.flags.iter().any(|flag| flag == "--allow-partial")).ok().map(Arc::new)
    }

    /// How many comparisons were made.
    fn compare(&self, differences: &mut Vec<String>) -> Result<usize, String> {
        let snapshot = self.snapshot().ok_or("a configuration that does not load")?;
        if snapshot.listeners.iter().any(|listener| listener.tls.is_some() || listener.proxy_protocol) {
            return Ok(0);
        }
        // What those say who are asked is not known here, nor what a function gives; and what is signed holds the time.
        let of_services = snapshot.services.iter().flat_map(|service| &service.policies);
        let asks = |policy: &Compiled| {
            matches!(
                policy,
                Compiled::CredentialInjectionOauth2(_)
                    | Compiled::CredentialInjectionOauth2Obo(_)
                    | Compiled::LdapAuthentication(_)
                    | Compiled::NativeAwsLambda(_)
                    | Compiled::NativeAwsSignature(_)
                    | Compiled::Oauth2TokenIntrospection(_)
                    | Compiled::OpenidconnectAccessTokenEnforcement(_)
            )
        };
        let mut bound = snapshot.apis.iter().flat_map(|api| &api.policies).chain(of_services);
        if bound.any(|bound| asks(&bound.policy)) || !snapshot.called.is_empty() {
            return Ok(0);
        }
        let driver = drivers().pop().expect("epoll at least");
        let launch = Launch {
            directory: &self.directory,
            driver: &driver,
            management: self.management,
            flags: &self.flags,
            environment: &self.environment,
        };
        let mut gateway = Gateway::launch(&launch).map_err(|error| error.to_string())?;
        gateway.wait_live(true, LIMIT)?;
        let mut bound = snapshot.apis.iter().flat_map(|api| &api.policies);
        let caches = bound.any(|bound| matches!(bound.policy, Compiled::HttpCaching(_)));
        let mut compared = 0;
        for listener in &snapshot.listeners {
            let port = listener.address.port();
            for (method, target, headers) in self.asked.iter().cloned().chain(self.generated()) {
                let url = format!("http://127.0.0.1:{port}/");
                let body = matches!(&*method, "POST" | "PUT").then(|| b"xxxxx".to_vec());
                let question = Question::new(&method, &url, Some(&target), &headers, body, CLIENT)?;
                let told = explain(snapshot.clone(), &question, Secrets::Shown)?;
                if caches {
                    // What requests before have left there is not explained.
                    purge(&self.directory).map_err(|error| format!("purge: {error}"))?;
                }
                let seen = ask(port, &question).map_err(|error| format!("{method} {target}: {error}"))?;
                if let Err(difference) = agree(&told, &seen, &method) {
                    let head = String::from_utf8_lossy(&question.head()).into_owned();
                    differences.push(format!("{}: {difference}\n{head}", self.name));
                }
                compared += 1;
            }
        }
        fs::remove_dir_all(&self.directory).ok();
        Ok(compared)
    }

    /// The case's targets with other methods, hosts and headers; and targets that were always good for a surprise.
    fn generated(&self) -> Vec<(String, String, Vec<String>)> {
        const TARGETS: [&str; 14] = [
            "/",
            "/api",
            "/api/",
            "/api/foo/bar",
            "/api/../x",
            "//api//foo",
            "/%61pi/foo",
            "/api/foo%2Fbar?q=1&r=%zz",
            "/a b",
            "/%zz",
            "/x|y",
            "*",
            "http://127.0.0.1/api",
            "/nowhere",
        ];
        const HEADERS: [&str; 9] = [
            "authorization: Basic YWRhOmxvdmVsYWNl",
            "authorization: Basic YWRtaW46c2VjcmV0",
            "x-forwarded-for: 192.0.2.9",
            "x-request-id: mine",
            "x-kind: a",
            "connection: close, x-kind",
            "te: trailers",
            "x bad: 1",
            "max-forwards: 0",
        ];
        let own: Vec<&str> = self.asked.iter().map(|(_, target, _)| target.as_str()).collect();
        let mut asked = Vec::new();
        for (at, target) in own.into_iter().chain(TARGETS).enumerate() {
            for method in ["GET", "HEAD", "POST", "OPTIONS", "PRI"] {
                asked.push((method.to_owned(), target.to_owned(), vec![]));
            }
            let header = |step: usize| HEADERS[(at + step) % HEADERS.len()].to_owned();
            asked.push(("GET".to_owned(), target.to_owned(), vec![header(0), header(1)]));
            asked.push(("OPTIONS".to_owned(), target.to_owned(), vec![header(3)]));
            asked.push(("DELETE".to_owned(), target.to_owned(), vec![header(2), "Host: API.example.".to_owned()]));
        }
        asked
    }
}

/// The requests of a client's script that are whole heads of HTTP/1.1 without a body.
fn heads(script: &[Command], names: &Names) -> Vec<(String, String, Vec<String>)> {
    let mut found = Vec::new();
    for command in script {
        match &command.action {
            Action::Send(bytes) => {
                let text = String::from_utf8_lossy(&expand(names, bytes)).into_owned();
                let Some(head) = text.strip_suffix("\r\n\r\n") else { continue };
                let mut lines = head.split("\r\n");
                let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
                let [method, target, "HTTP/1.1"] = words[..] else { continue };
                let headers: Vec<String> = lines.map(str::to_owned).collect();
                let is_plain = |line: &String| {
                    let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
                    !["content-length", "transfer-encoding", "expect", "upgrade"].contains(&name.as_str())
                };
                // A line break would be a head of its own.
                if headers.iter().all(|line| is_plain(line) && !line.is_empty() && !line.contains(['\r', '\n'])) {
                    found.push((method.to_owned(), target.to_owned(), headers));
                }
            }
            Action::Repeat(_, script) => found.extend(heads(script, names)),
            _ => {}
        }
    }
    found
}

/// Has the gateway forget every response that it has stored.
fn purge(directory: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(directory.join("management.sock"))?;
    stream.write_all(b"POST /cache/purge HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "case")).collect()
}
