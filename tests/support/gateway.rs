//! A gateway process: started, observed, signalled, and ended by its pid whatever happens to the case.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use super::message::{Chunks, Framing, Head, lossy};

/// How often a condition that nobody announces is looked at again.
const POLL: Duration = Duration::from_millis(10);

/// The binary under test: the one Cargo built for these tests, or `RINGWAY_TEST_BINARY`.
pub fn binary() -> PathBuf {
    std::env::var_os("RINGWAY_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_ringway").into(), PathBuf::from)
}

/// The drivers of this host. The kernel is asked directly, so that a gateway that wrongly falls back does not hide it.
pub fn drivers() -> Vec<String> {
    if let Ok(driver) = std::env::var("RINGWAY_TEST_DRIVER") {
        return vec![driver];
    }
    match io_uring::IoUring::new(8) {
        Ok(_) => vec!["io_uring".to_owned(), "epoll".to_owned()],
        Err(error) => {
            println!("this host forbids io_uring ({error}): the cases run under epoll alone");
            vec!["epoll".to_owned()]
        }
    }
}

/// An empty folder below the target directory, of one test alone.
#[allow(dead_code, reason = "cases have folders of their own")]
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// One of two cores, with a folder's configuration, ready.
#[allow(dead_code, reason = "cases say how many there are")]
pub fn on_two_cores(directory: &Path, driver: &str, limit: Duration) -> Gateway {
    let flags = ["--threads".to_owned(), "2".to_owned()];
    let launch = Launch { directory, driver, management: super::ports::reserve(), flags: &flags, environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("the gateway starts");
    if let Err(problem) = gateway.wait_live(true, limit) {
        panic!("{driver}: {problem}\n{}", gateway.stderr.all().join("\n"));
    }
    gateway
}

/// Variables of the caller that would change what a gateway does.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("RINGWAY_") || text.starts_with("FLEX_") || text == "NO_COLOR" {
            command.env_remove(&name);
        }
    }
    command
}

/// The lines of one output stream as they come.
#[derive(Default)]
pub struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn collect(self: Arc<Self>, stream: impl Read + Send + 'static) {
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                self.state.lock().expect("no holder panics").0.push(lossy(&line));
                self.changed.notify_all();
            }
            self.state.lock().expect("no holder panics").1 = true;
            self.changed.notify_all();
        });
    }

    pub fn all(&self) -> Vec<String> {
        self.state.lock().expect("no holder panics").0.clone()
    }

    /// Waits for a line that the test accepts.
    pub fn wait(&self, limit: Duration, accept: impl Fn(&str) -> bool) -> bool {
        let state = self.state.lock().expect("no holder panics");
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit, |(lines, ended)| !*ended && !lines.iter().any(|line| accept(line)))
            .expect("no holder panics");
        state.0.iter().any(|line| accept(line))
    }

    /// Waits for the stream's end.
    fn wait_end(&self, limit: Duration) {
        let state = self.state.lock().expect("no holder panics");
        drop(self.changed.wait_timeout_while(state, limit, |(_, ended)| !*ended));
    }
}

pub struct Gateway {
    child: Child,
    pub management: u16,
    pub stdout: Arc<Lines>,
    pub stderr: Arc<Lines>,
    exited: Option<ExitStatus>,
    /// The generation that was running when it was last asked for.
    generation: f64,
}

pub struct Launch<'a> {
    pub directory: &'a Path,
    pub driver: &'a str,
    pub management: u16,
    pub flags: &'a [String],
    pub environment: &'a [(String, String)],
}

impl Gateway {
    pub fn launch(launch: &Launch) -> std::io::Result<Self> {
        let mut command = Command::new(binary());
        clean(&mut command);
        command.arg("run");
        // A case that says where the configuration is says it alone.
        let located = launch.flags.iter().any(|flag| flag == "-c" || flag.starts_with("--config"))
            || launch.environment.iter().any(|(name, _)| name == "RINGWAY_CONFIG" || name == "FLEX_CONFIG_DIR");
        if !located {
            command.args(["--config", "."]);
        }
        if !launch.flags.iter().any(|flag| flag == "--threads") {
            command.args(["--threads", "1"]);
        }
        command
            .args(["--io-driver", launch.driver])
            .arg("--management")
            .arg(format!("127.0.0.1:{}", launch.management))
            .args(launch.flags)
            // Of its own: many gateways run at a time.
            .env("RINGWAY_MANAGEMENT_SOCKET", "management.sock")
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(launch.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (stdout, stderr) = (Arc::<Lines>::default(), Arc::<Lines>::default());
        Arc::clone(&stdout).collect(child.stdout.take().expect("piped"));
        Arc::clone(&stderr).collect(child.stderr.take().expect("piped"));
        Ok(Self { child, management: launch.management, stdout, stderr, exited: None, generation: 0.0 })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until probes answer 200; `tolerant` counts errors of the configuration as ready.
    pub fn wait_live(&mut self, ready: bool, limit: Duration) -> Result<(), String> {
        let target = match ready {
            true => "/probes/readiness?allowEnvoyErrors=true&allowAPIErrors=true&allowPolicyErrors=true",
            false => "/probes/liveness",
        };
        let what = if ready { "ready" } else { "live" };
        self.poll(limit, &format!("the gateway is not {what}"), |gateway| {
            let (status, _) = gateway.get(target)?;
            if status == 200 { Ok(()) } else { Err(format!("{target} answers {status}")) }
        })?;
        self.generation = self.metric("ringway_config_generation").unwrap_or(0.0);
        Ok(())
    }

    /// Waits until a newer generation is running than at the last call.
    pub fn wait_reload(&mut self, limit: Duration) -> Result<(), String> {
        let before = self.generation;
        self.generation = self.poll(limit, "no new generation runs", |gateway| {
            let now = gateway.metric("ringway_config_generation")?;
            if now > before { Ok(now) } else { Err(format!("generation is {now}")) }
        })?;
        Ok(())
    }

    pub fn wait_refused(&mut self, limit: Duration) -> Result<(), String> {
        self.poll(limit, "the reload was not refused", |gateway| {
            let successful = gateway.metric("ringway_config_last_reload_successful")?;
            if successful == 0.0 { Ok(()) } else { Err("the last reload counts as successful".into()) }
        })
    }

    pub fn wait_readiness(&mut self, status: u16, limit: Duration) -> Result<(), String> {
        self.poll(limit, &format!("readiness does not answer {status}"), |gateway| {
            let (seen, body) = gateway.get("/probes/readiness")?;
            if seen == status { Ok(()) } else { Err(format!("it answers {seen}: {body}")) }
        })
    }

    /// Asks until it holds, the process ends, or the time is over.
    pub fn poll<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut ask: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + limit;
        loop {
            let problem = match ask(self) {
                Ok(found) => return Ok(found),
                Err(problem) => problem,
            };
            if let Some(status) = self.has_exited() {
                return Err(format!("{what}: the gateway ended with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("{what} after {limit:?}: {problem}"));
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> Result<f64, String> {
        let (_, page) = self.get("/metrics")?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).ok_or_else(|| format!("no metric {name}"))
    }

    /// The value of the first line that begins so.
    #[allow(dead_code, reason = "cases look at the page itself")]
    pub fn metric_of(&self, beginning: &str) -> Result<f64, String> {
        let (_, page) = self.get("/metrics")?;
        let value = page.lines().find(|line| line.starts_with(beginning)).and_then(|line| line.rsplit(' ').next());
        value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("no metric {beginning}"))
    }

    /// A GET on the management address.
    pub fn get(&self, target: &str) -> Result<(u16, String), String> {
        get(self.management, target)
    }

    pub fn signal(&self, name: &str) -> Result<(), String> {
        let number = match name {
            "HUP" => libc::SIGHUP,
            "TERM" => libc::SIGTERM,
            "INT" => libc::SIGINT,
            "USR1" => libc::SIGUSR1,
            other => return Err(format!("unknown signal {other}")),
        };
        // SAFETY: kill takes no pointers; the pid is our own child's, which has not been waited for elsewhere.
        match unsafe { libc::kill(self.pid() as libc::pid_t, number) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().to_string()),
        }
    }

    pub fn has_exited(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().ok().flatten();
        }
        self.exited
    }

    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.has_exited() {
                self.stderr.wait_end(Duration::from_secs(1));
                self.stdout.wait_end(Duration::from_secs(1));
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("the gateway did not end in {limit:?}"));
            }
            std::thread::park_timeout(POLL);
        }
    }

    /// Ends it at once, if it still runs, and waits for the rest of its output.
    pub fn kill(&mut self) {
        if self.has_exited().is_none() {
            self.child.kill().ok();
            self.exited = self.child.wait().ok();
        }
        self.stderr.wait_end(Duration::from_secs(1));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A GET on a local port.
pub fn get(port: u16, target: &str) -> Result<(u16, String), String> {
    let limit = Duration::from_secs(5);
    let fail = |error: std::io::Error| format!("GET {target} on port {port}: {error}");
    let address = ([127, 0, 0, 1], port).into();
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(fail)?;
    stream.set_read_timeout(Some(limit)).map_err(fail)?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(fail)?;
    let (head, len) = Head::parse(&bytes)?.ok_or_else(|| format!("GET {target}: no head came"))?;
    let mut rest = bytes.split_off(len);
    let mut body = Vec::new();
    match head.response_framing(false) {
        Framing::Chunked => drop(Chunks::default().take(&mut rest, &mut body)?),
        _ => body = rest,
    }
    Ok((head.status().ok_or("no status")?, lossy(&body)))
}
