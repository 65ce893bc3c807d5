//! Plays a case: its directory, its upstreams, its gateway, and its steps in order.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use super::{
    case::{Begin, Case, Event, Expectation, Kind, Step, Stream, What},
    client,
    gateway::{self, Gateway, Launch},
    ports,
    session::{Marks, Names, Session, expand_text},
    text::regex,
    tls,
    upstream::Upstream,
};

const LIMIT: Duration = Duration::from_secs(5);
/// A gateway starts in milliseconds; a machine that compiles beside the tests takes its time.
const START_LIMIT: Duration = Duration::from_secs(30);
const UPSTREAMS: usize = 3;

/// Plays a case under a driver; the error is everything a reader needs.
pub fn play(case: &Case, driver: &str) -> Result<(), String> {
    // Another process may have taken a port between its choice and the gateway's bind.
    for _ in 0..2 {
        match Run::new(case, driver).and_then(|mut run| run.whole()) {
            Err(report) if report.contains("in use") => continue,
            done => return done,
        }
    }
    Run::new(case, driver).and_then(|mut run| run.whole())
}

struct Run<'a> {
    case: &'a Case,
    driver: &'a str,
    directory: PathBuf,
    names: Names,
    marks: Arc<Marks>,
    upstreams: Vec<Upstream>,
    gateway: Option<Gateway>,
    management: u16,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    clients: BTreeMap<String, Session>,
    background: BTreeMap<String, Background>,
    limit: Duration,
    versions: usize,
}

/// A client's block that runs beside the steps: its connection comes back with the outcome.
type Background = JoinHandle<(Session, Result<(), String>)>;

impl<'a> Run<'a> {
    fn new(case: &'a Case, driver: &'a str) -> Result<Self, String> {
        let folder = format!("{}-{driver}", case.name.replace('/', "-"));
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cases").join(folder);
        fs::remove_dir_all(&directory).ok();
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        tls::write(&directory).map_err(|error| format!("certificates: {error}"))?;
        let pem = |name| tls::made().iter().find(|made| made.name == name).map_or("", |made| made.crt.as_str());
        let key = tls::made().iter().find(|made| made.name == "a").map_or("", |made| made.key.as_str());
        let upstreams = (0..UPSTREAMS).map(|_| Upstream::bind()).collect::<Result<Vec<_>, _>>();
        let upstreams = upstreams.map_err(|error| format!("an upstream's listener: {error}"))?;
        let management = ports::reserve();
        let names = Arc::new(vec![
            ("port", ports::reserve().to_string()),
            ("port2", ports::reserve().to_string()),
            ("port3", ports::reserve().to_string()),
            ("dead", format!("127.0.0.1:{}", ports::reserve())),
            ("management-port", management.to_string()),
            ("management", format!("127.0.0.1:{management}")),
            ("upstream", format!("127.0.0.1:{}", upstreams[0].port)),
            ("upstream2", format!("127.0.0.1:{}", upstreams[1].port)),
            ("upstream3", format!("127.0.0.1:{}", upstreams[2].port)),
            ("dir", directory.display().to_string()),
            ("pem-ca", tls::quoted(pem("ca"))),
            ("pem-other-ca", tls::quoted(pem("other-ca"))),
            ("base64-a", tls::base64(pem("a"))),
            ("base64-a-key", tls::base64(key)),
            ("pem-a", tls::quoted(pem("a"))),
            ("pem-a-key", tls::quoted(key)),
            // A chain that leads nowhere.
            ("pem-a-other-ca", tls::quoted(&[pem("a"), pem("other-ca")].concat())),
        ]);
        Ok(Self {
            case,
            driver,
            directory,
            names,
            marks: Arc::default(),
            upstreams,
            gateway: None,
            management,
            flags: Vec::new(),
            environment: Vec::new(),
            clients: BTreeMap::new(),
            background: BTreeMap::new(),
            limit: LIMIT,
            versions: 0,
        })
    }

    fn whole(&mut self) -> Result<(), String> {
        let mut problems = Vec::new();
        for step in &self.case.steps {
            if let Err(problem) = self.step(step) {
                problems.push(match problem.starts_with("line ") {
                    true => problem,
                    false => format!("line {}: {problem}", step.line),
                });
                break;
            }
        }
        self.end(&mut problems);
        if problems.is_empty() {
            fs::remove_dir_all(&self.directory).ok();
            return Ok(());
        }
        Err(self.report(&problems))
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match &step.kind {
            Kind::Config { name, text } => self.write(name, text),
            Kind::ConfigMap { name, text } => self.swap(name, text),
            Kind::Copy(from, to) => {
                let text = fs::read_to_string(self.directory.join(from)).map_err(|error| format!("{from}: {error}"))?;
                self.write(to, &text)
            }
            Kind::Remove(name) => fs::remove_file(self.directory.join(name)).map_err(|error| error.to_string()),
            Kind::Env(name, value) => {
                self.environment.push((name.clone(), expand_text(&self.names, value)));
                Ok(())
            }
            Kind::Flags(flags) => {
                self.flags.extend(flags.iter().map(|flag| expand_text(&self.names, flag)));
                Ok(())
            }
            Kind::Upstream { index, mode } => {
                self.upstreams[*index].play(mode, &self.names, &self.marks);
                Ok(())
            }
            Kind::Start(begin) => self.start(*begin),
            Kind::Client { name, background, script } => {
                self.ensure_started()?;
                self.join(name)?;
                let mut session = self.clients.remove(name).unwrap_or_else(|| self.session());
                if *background {
                    let script = script.clone();
                    let play = move || {
                        let done = client::play(&mut session, &script);
                        (session, done)
                    };
                    self.background.insert(name.clone(), std::thread::spawn(play));
                    return Ok(());
                }
                let done = client::play(&mut session, script);
                self.clients.insert(name.clone(), session);
                done
            }
            Kind::Signal(name) => self.gateway()?.signal(name),
            Kind::Wait(event) => self.wait(event),
            Kind::Mark(name) => {
                self.marks.reach(name);
                Ok(())
            }
            Kind::Connections { index, count } => match self.upstreams[*index].accepted() {
                seen if seen == *count => Ok(()),
                seen => Err(format!("expected {count} connections to the upstream, seen {seen}")),
            },
            Kind::Get { target, expectations } => self.get(target, expectations),
            Kind::Output(expectations) => self.output(expectations),
            Kind::File { name, expectations } => self.file(name, expectations),
            Kind::Run { arguments, expectations } => self.run(arguments, expectations),
            Kind::Within(seconds) => {
                self.limit = Duration::from_secs(*seconds);
                Ok(())
            }
        }
    }

    fn session(&self) -> Session {
        Session::new(Arc::clone(&self.names), Arc::clone(&self.marks), LIMIT)
    }

    /// Ends a background client's block, or those of all for an empty name.
    fn join(&mut self, name: &str) -> Result<(), String> {
        let Some(thread) = self.background.remove(name) else { return Ok(()) };
        let (session, done) = thread.join().map_err(|_| "the client thread panicked")?;
        self.clients.insert(name.to_owned(), session);
        done
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.directory.join(name);
        let temporary = path.with_file_name(format!(".{}.new", self.versions));
        let write = || {
            fs::create_dir_all(path.parent().expect("below the case's directory"))?;
            fs::write(&temporary, expand_text(&self.names, text))?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| format!("{name}: {error}"))
    }

    /// A new version directory, then `..data` renamed over to it in one step, as the kubelet does.
    fn swap(&mut self, name: &str, text: &str) -> Result<(), String> {
        self.versions += 1;
        let (version, data) = (format!("..v{}", self.versions), self.directory.join("..data"));
        let swap = || {
            fs::create_dir(self.directory.join(&version))?;
            fs::write(self.directory.join(&version).join(name), expand_text(&self.names, text))?;
            symlink(&version, self.directory.join("..data_tmp"))?;
            fs::rename(self.directory.join("..data_tmp"), &data)?;
            match symlink(Path::new("..data").join(name), self.directory.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        };
        swap().map_err(|error| format!("{name}: {error}"))
    }

    fn start(&mut self, begin: Begin) -> Result<(), String> {
        let launch = Launch {
            directory: &self.directory,
            driver: self.driver,
            management: self.management,
            flags: &self.flags,
            environment: &self.environment,
        };
        let mut gateway = Gateway::launch(&launch).map_err(|error| format!("starting the gateway: {error}"))?;
        let started = match begin {
            Begin::Ready => gateway.wait_live(true, START_LIMIT),
            Begin::Live => gateway.wait_live(false, START_LIMIT),
            Begin::Exits(code) => gateway.wait_exit(START_LIMIT).and_then(|status| exit_code(status.code(), code)),
        };
        self.gateway = Some(gateway);
        started
    }

    fn ensure_started(&mut self) -> Result<(), String> {
        if self.gateway.is_none() { self.start(Begin::Ready) } else { Ok(()) }
    }

    fn gateway(&mut self) -> Result<&mut Gateway, String> {
        self.ensure_started()?;
        Ok(self.gateway.as_mut().expect("it was just started"))
    }

    fn wait(&mut self, event: &Event) -> Result<(), String> {
        let limit = self.limit;
        if let Event::Mark(name) = event {
            return self.marks.wait(name, limit);
        }
        let names = Arc::clone(&self.names);
        let gateway = self.gateway()?;
        match event {
            Event::Reload => gateway.wait_reload(limit),
            Event::Refused => gateway.wait_refused(limit),
            Event::Ready => gateway.wait_readiness(200, limit),
            Event::Unready => gateway.wait_readiness(503, limit),
            Event::Exit(code) => gateway.wait_exit(limit).and_then(|status| exit_code(status.code(), *code)),
            Event::Mark(_) => unreachable!("answered above"),
            Event::Stderr(pattern) | Event::Stdout(pattern) => {
                let lines = if matches!(event, Event::Stderr(_)) { &gateway.stderr } else { &gateway.stdout };
                let pattern = regex(&expand_text(&names, pattern))?;
                match lines.wait(limit, |line| pattern.is_match(line)) {
                    true => Ok(()),
                    false => Err(format!("no line matched; seen:\n{}", lines.all().join("\n"))),
                }
            }
        }
    }

    /// `PATH`, or `PORT PATH` for another port than management's.
    fn get(&mut self, target: &str, expectations: &[Expectation]) -> Result<(), String> {
        let target = expand_text(&self.names, target);
        let (limit, names, management) = (self.limit, Arc::clone(&self.names), self.management);
        let (port, path) = match target.split_once(' ') {
            Some((port, path)) => (port.parse().map_err(|_| format!("{port} is not a port"))?, path.to_owned()),
            None => (management, target),
        };
        self.gateway()?.poll(limit, &format!("GET {path}"), |_| {
            let (status, body) = gateway::get(port, &path)?;
            let lines: Vec<String> = body.lines().map(str::to_owned).collect();
            let seen = Seen { code: status.into(), streams: [(Stream::Body, lines)].into() };
            seen.meets(expectations, &names)
        })
    }

    fn file(&self, name: &str, expectations: &[Expectation]) -> Result<(), String> {
        let text = fs::read_to_string(self.directory.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let lines = text.lines().map(str::to_owned).collect();
        Seen { code: 0, streams: vec![(Stream::Body, lines)] }.meets(expectations, &self.names)
    }

    fn output(&mut self, expectations: &[Expectation]) -> Result<(), String> {
        let gateway = self.gateway()?;
        let streams = vec![(Stream::Stdout, gateway.stdout.all()), (Stream::Stderr, gateway.stderr.all())];
        Seen { code: 0, streams }.meets(expectations, &self.names)
    }

    fn run(&mut self, arguments: &[String], expectations: &[Expectation]) -> Result<(), String> {
        let arguments: Vec<String> = arguments.iter().map(|word| expand_text(&self.names, word)).collect();
        // `as NAME` runs the binary under another name.
        let (program, arguments) = match arguments.split_first() {
            Some((first, rest)) if first == "as" => (self.under_name(&rest[0])?, &rest[1..]),
            _ => (gateway::binary(), &arguments[..]),
        };
        let mut command = Command::new(program);
        gateway::clean(&mut command).args(arguments).current_dir(&self.directory).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().map_err(|error| format!("running the binary: {error}"))?;
        let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
        let streams = [(Stream::Stdout, lines(&output.stdout)), (Stream::Stderr, lines(&output.stderr))];
        let seen = Seen { code: output.status.code().unwrap_or(-1), streams: streams.into() };
        seen.meets(expectations, &self.names)
    }

    fn under_name(&self, name: &str) -> Result<PathBuf, String> {
        let link = self.directory.join(format!(".{name}")).join(name);
        fs::create_dir_all(link.parent().expect("a folder of its own")).map_err(|error| error.to_string())?;
        match symlink(gateway::binary(), &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.to_string()),
            _ => Ok(link),
        }
    }

    /// Ends clients, gateway and upstreams, in this order, and collects what they found wrong.
    fn end(&mut self, problems: &mut Vec<String>) {
        let names: Vec<String> = self.background.keys().cloned().collect();
        for name in names {
            problems.extend(self.join(&name).err());
        }
        if problems.is_empty() {
            self.upstreams.iter().for_each(|upstream| upstream.wait_played(LIMIT));
        }
        if let Some(gateway) = &mut self.gateway {
            gateway.kill();
            if gateway.stderr.all().iter().any(|line| line.contains("panicked")) {
                problems.push("the gateway panicked".into());
            }
        }
        for (index, upstream) in self.upstreams.iter_mut().enumerate() {
            problems.extend(upstream.finish().into_iter().map(|problem| format!("upstream {}: {problem}", index + 1)));
        }
    }

    fn report(&self, problems: &[String]) -> String {
        let mut report = format!("FAILED {} ({})\n  {}\n", self.case.name, self.driver, self.case.about);
        for problem in problems {
            report.push_str(&format!("  {problem}\n"));
        }
        for (name, session) in self.clients.iter().filter(|(_, session)| !session.transcript().is_empty()) {
            report.push_str(&format!("  client {name}\n{}\n", session.transcript()));
        }
        if let Some(gateway) = &self.gateway {
            let lines = gateway.stderr.all();
            report.push_str("  the gateway's stderr\n");
            for line in lines.iter().skip(lines.len().saturating_sub(30)) {
                report.push_str(&format!("    {line}\n"));
            }
        }
        report.push_str(&format!("  files: {}\n", self.directory.display()));
        report
    }
}

fn exit_code(seen: Option<i32>, expected: i32) -> Result<(), String> {
    if seen == Some(expected) { Ok(()) } else { Err(format!("expected exit code {expected}, seen {seen:?}")) }
}

/// What a run or a GET brought.
struct Seen {
    /// Exit code or status.
    code: i32,
    streams: Vec<(Stream, Vec<String>)>,
}

impl Seen {
    fn meets(&self, expectations: &[Expectation], names: &Names) -> Result<(), String> {
        for Expectation { line, what } in expectations {
            self.meets_one(what, names).map_err(|problem| format!("line {line}: {problem}\n{}", self.shown()))?;
        }
        Ok(())
    }

    fn meets_one(&self, what: &What, names: &Names) -> Result<(), String> {
        let lines = |stream: &Stream| {
            self.streams.iter().find(|(s, _)| s == stream).map(|(_, lines)| lines).ok_or("no such stream here")
        };
        let count = |stream: &Stream, pattern: &String| {
            let pattern = regex(&expand_text(names, pattern))?;
            Ok::<_, String>(lines(stream)?.iter().filter(|line| pattern.is_match(line.as_str())).count())
        };
        let holds = match what {
            What::Exit(code) => self.code == *code,
            What::Status(status) => self.code == i32::from(*status),
            What::LineIs(stream, text) => lines(stream)?.contains(&expand_text(names, text)),
            What::LineMatches(stream, pattern) => count(stream, pattern)? > 0,
            What::NoLineMatches(stream, pattern) => count(stream, pattern)? == 0,
            What::LineCount(stream, expected, pattern) => count(stream, pattern)? == *expected,
        };
        if holds { Ok(()) } else { Err(format!("expected {what:?}")) }
    }

    fn shown(&self) -> String {
        let mut text = format!("    code {}", self.code);
        for (stream, lines) in &self.streams {
            for line in lines.iter().take(60) {
                text.push_str(&format!("\n    {stream:?}: {line}"));
            }
        }
        text
    }
}
