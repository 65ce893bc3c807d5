//! Servers of Redis that a test starts itself, each on a port of its own, ended by its pid whatever happens to the test.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{namespace::Namespace, ports};

/// A sentinel that the machine has left alone for two seconds trusts nothing for thirty.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a condition that nobody announces is looked at again.
const POLL: Duration = Duration::from_millis(10);

pub struct Redis {
    child: Child,
    program: PathBuf,
    flags: Vec<String>,
    directory: tempfile::TempDir,
    host: String,
    pub port: u16,
}

const LOOPBACK: &str = "127.0.0.1";

impl Redis {
    /// Without persistence, on `port` of loopback.
    pub fn start(flags: &[&str]) -> Self {
        Self::start_program(Path::new("redis-server"), flags)
    }

    /// In a network of its own, whatever may be reached of it there.
    pub fn start_in(namespace: &Namespace) -> Self {
        let [program, prefix @ ..] = namespace.prefix();
        let prefix: Vec<&str> = prefix.into_iter().chain(["redis-server", "--protected-mode", "no"]).collect();
        Self::start_at(Path::new(program), &prefix, &namespace.address, &[])
    }

    /// `{port}` in a flag is the port of the server; one that names a port has no other.
    pub fn start_program(program: &Path, flags: &[&str]) -> Self {
        Self::start_at(program, &[], LOOPBACK, flags)
    }

    fn start_at(program: &Path, prefix: &[&str], host: &str, flags: &[&str]) -> Self {
        let (directory, port) = (tempfile::tempdir().expect("a folder"), ports::reserve());
        let mut all: Vec<String> = prefix.iter().map(|word| (*word).to_owned()).collect();
        all.extend(["--save", "", "--appendonly", "no", "--bind", host].map(String::from));
        if !flags.contains(&"--port") {
            all.extend(["--port".to_owned(), port.to_string()]);
        }
        all.extend(flags.iter().map(|flag| flag.replace("{port}", &port.to_string())));
        let child = spawn(program, &all, directory.path());
        let redis = Self { child, program: program.to_owned(), flags: all, directory, host: host.to_owned(), port };
        wait("a server of Redis", || TcpStream::connect((host, port)).is_ok());
        redis
    }

    /// A sentinel of one master, whose failure it decides on alone.
    pub fn start_sentinel(master: &Self, flags: &str) -> Self {
        let (directory, port) = (tempfile::tempdir().expect("a folder"), ports::reserve());
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 300\n\
             sentinel failover-timeout main 3000\n{flags}\n",
            master.port
        );
        fs::write(directory.path().join("sentinel.conf"), text).expect("a file");
        let flags = vec!["sentinel.conf".to_owned(), "--sentinel".to_owned()];
        let program = PathBuf::from("redis-server");
        let child = spawn(&program, &flags, directory.path());
        wait("a sentinel", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, program, flags, directory, host: LOOPBACK.to_owned(), port }
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Where the nodes of a Cluster speak with this one.
    pub fn bus(&self) -> &str {
        self.flags.last().expect("it is one of a Cluster")
    }

    /// What a server without TLS answers: one line, or the text of a bulk.
    pub fn say(&self, line: &str) -> String {
        self.say_after("", line)
    }

    /// The same, behind another line such as `AUTH`.
    pub fn say_after(&self, first: &str, line: &str) -> String {
        let mut stream = BufReader::new(TcpStream::connect((&*self.host, self.port)).expect("it listens"));
        stream.get_ref().set_read_timeout(Some(LIMIT)).expect("a socket");
        let mut answer = String::new();
        for line in [first, line].into_iter().filter(|line| !line.is_empty()) {
            stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it reads");
            answer.clear();
            stream.read_line(&mut answer).expect("it answers");
        }
        let Some(length) = answer.strip_prefix('$').and_then(|length| length.trim().parse::<i64>().ok()) else {
            return answer.trim_end().to_owned();
        };
        let mut bulk = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut bulk).expect("the whole of it");
        String::from_utf8_lossy(&bulk).into_owned()
    }

    pub fn wait_until(&self, what: &str, line: &str, accept: impl Fn(&str) -> bool) {
        let mut last = String::new();
        let deadline = Instant::now() + LIMIT;
        while !accept(&last) {
            assert!(Instant::now() < deadline, "{what}: {line} answers {last}");
            std::thread::park_timeout(POLL);
            last = self.say(line);
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// As it was started, on the same port; what was only in memory is gone.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.program, &self.flags, self.directory.path());
        wait("the server again", || TcpStream::connect((&*self.host, self.port)).is_ok());
    }

    /// Takes connections and answers nothing.
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the pid is our own child's, which has not been waited for elsewhere.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "the server runs");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One that belongs to nobody yet.
pub fn start_cluster_node() -> Redis {
    let bus = ports::reserve().to_string();
    Redis::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus])
}

/// Three masters with a third of the slots each.
pub fn start_cluster() -> Vec<Redis> {
    let nodes: Vec<Redis> = (0..3).map(|_| start_cluster_node()).collect();
    for (at, node) in nodes.iter().enumerate() {
        let (first, last) = (at * 5462, (at * 5462 + 5461).min(16_383));
        assert_eq!(node.say(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")), "+OK");
        assert_eq!(nodes[0].say(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.port, node.bus())), "+OK");
    }
    for node in &nodes {
        node.wait_until("a Cluster", "CLUSTER INFO", |info| {
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        });
    }
    nodes
}

fn spawn(program: &Path, flags: &[String], directory: &Path) -> Child {
    let log = fs::File::create(directory.join("log")).expect("a file");
    Command::new(program)
        .args(flags)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Waits until it holds.
pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not in {LIMIT:?}");
        std::thread::park_timeout(POLL);
    }
}
