//! A peer is a folder: `peer.yaml` says how it is started, a template beside it what it is configured with.
//!
//! Places in both are filled in when it starts: `@PORT@`, `@UPSTREAM_PORT@`, `@SPARE_PORT@`, `@WORK@` (a folder of its
//! own), `@CONFIG@` (the filled-in template), `@FOLDER@` (its folder), `@TARGET@` (cargo's), `@SELF@` (this binary),
//! `@CPUS@` and `@DRIVER@`. A peer's own places are named below `plain`, and with other texts below `tls`: they tell a
//! start without TLS from one with it, for which `@CERTIFICATES@` is the folder of certificate and key. `policies.yaml`
//! ([`Sheet`]) has those that tell a start with a policy from one without.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::policies::{Policed, Sheet};
use crate::{generator, hash::Hash, measure::ProcessTree, sys, tls};

/// For a proxy to answer its first request.
const START_MAX: Duration = Duration::from_secs(15);
/// For an answer meanwhile, and for one by itself.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// For it to end when told to; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the others are there to be compared with.
    Gateway,
    Peer,
    /// Understands nothing of what it carries.
    Floor,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Description {
    role: Role,
    command: Vec<String>,
    version: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    config: Option<String>,
    /// Its own places, when it is started without TLS.
    #[serde(default)]
    plain: BTreeMap<String, String>,
    /// And with it; absent where it cannot.
    tls: Option<BTreeMap<String, String>>,
    /// What makes it appear where it is missing.
    missing: String,
}

/// A peer that can be started.
pub struct Peer {
    pub name: String,
    pub role: Role,
    pub version: String,
    /// Of its template and of what fills it.
    pub config_hash: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// Name and text. Some tell the format by the name.
    template: Option<(String, String)>,
    plain: BTreeMap<String, String>,
    tls: Option<BTreeMap<String, String>>,
    sheet: Sheet,
    /// Places of a command that are the same whenever it runs.
    known: BTreeMap<&'static str, String>,
}

/// Where it runs, in front of what, and as what.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub cpus: &'a [usize],
    /// `auto`, `io_uring` or `epoll`, for those that know the difference.
    pub driver: &'a str,
    pub upstream: SocketAddr,
    /// Where certificate and key are; `None`: it is to speak without TLS.
    pub certificates: Option<&'a Path>,
    /// A policy that is on.
    pub policed: Option<Policed<'a>>,
}

pub enum Found {
    Here(Box<Peer>),
    /// With the command that would install it.
    Missing {
        name: String,
        cure: String,
    },
}

impl Peer {
    /// Reads a peer's folder. `program`: what to start instead of what the folder says.
    ///
    /// # Errors
    /// The folder is not one of a peer.
    pub fn read(folder: &Path, target: &Path, program: Option<&Path>) -> Result<Found> {
        let name = folder.file_name().context("a peer's folder has a name")?.to_string_lossy().into_owned();
        let path = folder.join("peer.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: Description =
            serde_saphyr::from_str(&text).with_context(|| format!("{} is no peer", path.display()))?;
        let known = known(folder, target)?;
        let command: Vec<String> = file.command.iter().map(|part| fill(part, &known)).collect();
        let (first, arguments) = command.split_first().with_context(|| format!("{}: no command", path.display()))?;
        let Some(program) = program.map_or_else(|| find(first), |program| find(&program.to_string_lossy())) else {
            return Ok(Found::Missing { name, cure: file.missing });
        };
        let template = match &file.config {
            None => None,
            Some(config) => {
                let path = folder.join(config);
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                Some((config.clone(), text))
            }
        };
        let own = file.plain.iter().chain(file.tls.iter().flatten()).map(|(_, text)| text.as_bytes());
        let hash = Hash::new().part(template.as_ref().map_or(b"", |(_, text)| text.as_bytes()));
        let sheet = Sheet::read(folder)?;
        let config_hash = sheet.hashed(own.fold(hash, Hash::part)).text();
        let version = version(&file.version, &known, &program);
        let (role, arguments) = (file.role, arguments.to_vec());
        let environment = file.environment.iter().map(|(name, text)| (name.clone(), fill(text, &known))).collect();
        let (plain, tls) = (file.plain, file.tls);
        Ok(Found::Here(Box::new(Self {
            name,
            role,
            version,
            config_hash,
            program,
            arguments,
            environment,
            template,
            plain,
            tls,
            sheet,
            known,
        })))
    }

    /// Why workloads with policies are not measured with it, by their names.
    pub fn left_out(&self, names: &[&str]) -> BTreeMap<String, String> {
        self.sheet.left_out(names, |command| complete(command, &self.known, &self.program))
    }

    /// Whether its folder says how it serves TLS.
    pub fn knows_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Starts it and waits for its first answer to `request`.
    ///
    /// # Errors
    /// It cannot be started, ends at once, or does not answer; with the end of what it said.
    pub fn start(&self, place: &Place<'_>, request: &[u8]) -> Result<Server> {
        // One with a policy may run beside one without.
        let policy = place.policed.map_or_else(String::new, |policed| format!("-{}", policed.name));
        let work = format!("ringway-loadtest-{}-{}{policy}", std::process::id(), self.name);
        let work = std::env::temp_dir().join(work);
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let address = free_port()?;
        let config = work.join(self.template.as_ref().map_or("", |(name, _)| name));
        let cpus: Vec<String> = place.cpus.iter().map(|cpu| format!("{cpu}-{cpu}")).collect();
        let mut values = BTreeMap::from([
            ("@PORT@", address.port().to_string()),
            ("@UPSTREAM_PORT@", place.upstream.port().to_string()),
            ("@SPARE_PORT@", free_port()?.port().to_string()),
            ("@WORK@", work.display().to_string()),
            ("@CONFIG@", config.display().to_string()),
            ("@CPUS@", cpus.join(",")),
            ("@DRIVER@", place.driver.to_owned()),
        ]);
        let (own, client) = match place.certificates {
            None => (&self.plain, None),
            Some(folder) => {
                values.insert("@CERTIFICATES@", folder.display().to_string());
                let own = self.tls.as_ref().with_context(|| format!("{} cannot serve TLS", self.name))?;
                (own, Some(tls::Client::new(tls::PEER_NAME, &tls::Settings::default(), None)?))
            }
        };
        let texts = self.sheet.texts(place.policed)?;
        for (name, text) in &texts.files {
            fs::write(work.join(name), fill(text, &values)).with_context(|| format!("cannot write {name}"))?;
        }
        let own = own.iter().chain(&texts.places);
        let own: Vec<(&str, String)> = own.map(|(name, text)| (name.as_str(), fill(text, &values))).collect();
        values.extend(own);
        if let Some((_, text)) = &self.template {
            fs::write(&config, fill(text, &values)).context("cannot write the configuration")?;
        }
        let said = work.join("output");
        let log = fs::File::create(&said).context("cannot write its output")?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(|argument| fill(argument, &values))).current_dir(&work);
        command.envs(&self.environment).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process =
            Process::start(&mut command, place.cpus).with_context(|| format!("cannot start {}", self.name))?;
        let mut server = Server { address, process, work };
        server.wait_for_answer(request, client.as_ref()).with_context(|| {
            let output = fs::read_to_string(&said).unwrap_or_default();
            let lines: Vec<&str> = output.lines().collect();
            format!("{} does not answer; it said: {}", self.name, lines[lines.len().saturating_sub(5)..].join(" | "))
        })?;
        Ok(server)
    }
}

/// A peer that is running, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    process: Process,
    work: PathBuf,
}

impl Server {
    pub fn tree(&self) -> ProcessTree {
        self.process.tree()
    }

    /// The status of its answer to one request.
    ///
    /// # Errors
    /// There is none.
    pub fn ask(&self, request: &[u8], tls: Option<&tls::Client>) -> Result<u16> {
        generator::ask_once(self.address, tls, request, ANSWER_MAX)
    }

    fn wait_for_answer(&mut self, request: &[u8], tls: Option<&tls::Client>) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(status) = self.process.0.try_wait()? {
                bail!("it ended with {status}");
            }
            match self.ask(request, tls) {
                Ok(200) => return Ok(()),
                Ok(status) if Instant::now() > deadline => bail!("it answers {status}"),
                Err(error) if Instant::now() > deadline => return Err(error),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.stop();
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// A child of ours on CPUs of its own. Dropping it ends it.
pub struct Process(Child);

impl Process {
    fn start(command: &mut Command, cpus: &[usize]) -> Result<Self> {
        sys::confine(command, cpus);
        Ok(Self(command.spawn()?))
    }

    pub fn tree(&self) -> ProcessTree {
        ProcessTree(self.0.id())
    }

    fn stop(&mut self) {
        let deadline = Instant::now() + STOP_MAX;
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            sys::terminate(self.0.id());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Our own upstream, on CPUs of its own.
pub struct Upstream {
    pub address: SocketAddr,
    _process: Process,
}

impl Upstream {
    /// # Errors
    /// It cannot be started.
    pub fn start(cpus: &[usize]) -> Result<Self> {
        let list: Vec<String> = cpus.iter().map(usize::to_string).collect();
        let mut command = Command::new(std::env::current_exe().context("cannot find this binary")?);
        command
            .args(["upstream", "--address", "127.0.0.1:0", "--cpu", &list.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command, cpus).context("cannot start the upstream")?;
        let mut line = String::new();
        let out = process.0.stdout.take().context("its output was piped")?;
        BufReader::new(out).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Ok(Self { address: address.context("the upstream does not say where it listens")?, _process: process })
    }
}

/// Every folder below `peers` with a `peer.yaml`, or those named, by name.
///
/// # Errors
/// The folder cannot be read, or a named one is not there.
pub fn folders(peers: &Path, only: &[String]) -> Result<Vec<PathBuf>> {
    if !only.is_empty() {
        let named: Vec<PathBuf> = only.iter().map(|name| peers.join(name)).collect();
        for folder in &named {
            ensure!(folder.join("peer.yaml").is_file(), "{} is no peer's folder", folder.display());
        }
        return Ok(named);
    }
    let entries = fs::read_dir(peers).with_context(|| format!("cannot read {}", peers.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|folder| folder.join("peer.yaml").is_file());
    found.sort();
    Ok(found)
}

fn known(folder: &Path, target: &Path) -> Result<BTreeMap<&'static str, String>> {
    let absolute = |path: &Path| std::path::absolute(path).map(|path| path.display().to_string());
    Ok(BTreeMap::from([
        ("@FOLDER@", absolute(folder)?),
        ("@TARGET@", absolute(target)?),
        ("@SELF@", std::env::current_exe().context("cannot find this binary")?.display().to_string()),
    ]))
}

fn fill(text: &str, values: &BTreeMap<&str, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// As a shell would, and where Debian keeps servers.
fn find(program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file();
    if program.contains('/') {
        return Some(std::path::absolute(program).ok()?).filter(is_program);
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/local/sbin";
    path.split(':').map(|folder| Path::new(folder).join(program)).find(is_program)
}

/// The first line that holds a number, and the commit: some say their names first, and on stderr.
fn version(command: &[String], known: &BTreeMap<&'static str, String>, program: &Path) -> String {
    let command = complete(command, known, program);
    let Some((first, rest)) = command.split_first() else { return String::new() };
    let output = Command::new(first).args(rest).stdin(Stdio::null()).output();
    let Ok(output) = output else { return "unknown".into() };
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or("unknown");
    // Where a program was put says nothing about it.
    let first = first.replace(&program.display().to_string(), "").trim().to_owned();
    match lines.find_map(|line| line.strip_prefix("commit")) {
        Some(commit) => format!("{first}, commit {}", commit.trim()),
        None => first,
    }
}

/// A command of a peer's own program: that may have been named on the command line instead.
fn complete(command: &[String], known: &BTreeMap<&'static str, String>, program: &Path) -> Vec<String> {
    let mut command: Vec<String> = command.iter().map(|part| fill(part, known)).collect();
    if let Some(first) = command.first_mut().filter(|first| program.file_name() == Path::new(first).file_name()) {
        *first = program.display().to_string();
    }
    command
}

/// A port that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
    }

    #[test]
    fn every_folder_is_a_peer_and_there_is_one_gateway() {
        let mut gateways = 0;
        for folder in folders(&peers(), &[]).expect("the folder of peers") {
            let found = Peer::read(&folder, Path::new("target"), Some(Path::new("/bin/true"))).expect("a peer");
            let Found::Here(peer) = found else { panic!("{} is missing", folder.display()) };
            gateways += usize::from(peer.role == Role::Gateway);
            let template = peer.template.as_ref().map_or("", |(_, text)| text);
            assert!(template.is_empty() || template.contains("@PORT@") || peer.name == "pingora");
            for place in peer.sheet.places() {
                assert!(template.contains(place), "{}: {place} is nowhere in its template", peer.name);
            }
        }
        assert_eq!(gateways, 1);
    }

    #[test]
    fn a_missing_program_is_named_with_its_cure() {
        let found = Peer::read(&peers().join("nginx"), Path::new("target"), Some(Path::new("/nowhere/nginx")));
        let Found::Missing { name, cure } = found.expect("a peer's folder") else { panic!("it is not there") };
        assert_eq!((name.as_str(), cure.as_str()), ("nginx", "make peers"));
        assert!(folders(&peers(), &["nobody".to_owned()]).is_err());
    }

    #[test]
    fn places_are_filled_in() {
        let values = BTreeMap::from([("@PORT@", "80".to_owned())]);
        assert_eq!(fill("listen @PORT@; $host {@PORT@}", &values), "listen 80; $host {80}");
    }
}
