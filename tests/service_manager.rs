//! What systemd is told (`Type=notify`): READY when connections are accepted, reloads with their time, STOPPING, and that we
//! are alive.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{fs, io, net::TcpStream, os::unix::net::UnixDatagram, time::Duration};

use support::{
    gateway::{Gateway, Launch},
    ports,
};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn it_is_told_when_we_serve_reload_and_stop() {
    let manager = Manager::new();
    let (port, moved) = (ports::reserve(), ports::reserve());
    manager.configure(&api(port));
    let mut gateway = manager.start(&[]);
    manager.hears(&["READY=1", &format!("STATUS=serving 127.0.0.1:{port} on 1 cores")]);
    TcpStream::connect(("127.0.0.1", port)).expect("it said that it is ready");

    let before = monotonic_us();
    gateway.signal("HUP").expect("it runs");
    manager.hears_of_reload(before);
    manager.hears(&["READY=1", &format!("STATUS=serving 127.0.0.1:{port} on 1 cores")]);

    // Refused, and told all the same: who waits for the end of a reload must not wait for ever.
    let before = monotonic_us();
    manager.configure(&api(port).replace("address", "adress"));
    manager.hears_of_reload(before);
    let refused = format!("STATUS=the last reload was refused; serving 127.0.0.1:{port} on 1 cores");
    manager.hears(&["READY=1", &refused]);

    let before = monotonic_us();
    manager.configure(&api(moved));
    manager.hears_of_reload(before);
    manager.hears(&["READY=1", &format!("STATUS=serving 127.0.0.1:{moved} on 1 cores")]);
    TcpStream::connect(("127.0.0.1", moved)).expect("it said that it is ready");

    gateway.signal("TERM").expect("it runs");
    manager.hears(&["STOPPING=1", "STATUS=draining"]);
    gateway.signal("TERM").expect("it drains");
    assert_eq!(gateway.wait_exit(LIMIT).expect("it ends").code(), Some(143));
    manager.hears_no_more();
}

#[test]
fn it_hears_that_we_live_as_often_as_it_asks() {
    let manager = Manager::new();
    manager.configure(&api(ports::reserve()));
    let _gateway = manager.start(&[("WATCHDOG_USEC".into(), "300000".into())]);
    assert_eq!(manager.message()[0], "READY=1");
    for _ in 0..5 {
        manager.hears(&["WATCHDOG=1"]);
    }
}

#[test]
fn it_hears_nothing_of_a_start_that_fails() {
    let manager = Manager::new();
    manager.configure(&api(ports::reserve()).replace("address", "adress"));
    let mut gateway = manager.start(&[]);
    assert_eq!(gateway.wait_exit(LIMIT).expect("it ends").code(), Some(78));
    manager.hears_no_more();
}

fn api(port: u16) -> String {
    format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {{name: a}}
spec: {{address: 'http://127.0.0.1:{port}'}}
"
    )
}

fn monotonic_us() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock's time is written to a value that is lent for the duration of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// The manager's end: a datagram socket, whose path is the gateway's NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    /// Below the system's directory for such: a socket's path has 108 bytes at most.
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("there is a directory for such");
        fs::create_dir(folder.path().join("conf.d")).expect("it is writable");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("nobody has this path");
        socket.set_read_timeout(Some(LIMIT)).expect("a time above zero");
        Self { socket, folder }
    }

    /// In one rename, which is one change.
    fn configure(&self, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).expect("the directory is writable");
        fs::rename(&new, self.folder.path().join("conf.d/gateway.yaml")).expect("one file system");
    }

    fn start(&self, environment: &[(String, String)]) -> Gateway {
        let path = self.folder.path().join("notify").display().to_string();
        let environment = [&[("NOTIFY_SOCKET".to_owned(), path)], environment].concat();
        let launch = Launch {
            directory: self.folder.path(),
            driver: "epoll",
            management: ports::reserve(),
            flags: &["--config".into(), "conf.d".into()],
            environment: &environment,
        };
        Gateway::launch(&launch).expect("the gateway starts")
    }

    /// The lines of the next message.
    fn message(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let len = self.socket.recv(&mut bytes).expect("it says something in time");
        String::from_utf8_lossy(&bytes[..len]).lines().map(str::to_owned).collect()
    }

    fn hears(&self, expected: &[&str]) {
        assert_eq!(self.message(), expected);
    }

    fn hears_of_reload(&self, before: i64) {
        let said = self.message();
        assert_eq!((said.len(), &*said[0]), (2, "RELOADING=1"), "{said:?}");
        let at = said[1].strip_prefix("MONOTONIC_USEC=").and_then(|at| at.parse().ok()).expect("the time");
        assert!((before..=monotonic_us()).contains(&at), "{said:?}, not before {before}");
    }

    /// All that was said before the gateway ended lies in the socket.
    fn hears_no_more(&self) {
        self.socket.set_nonblocking(true).expect("a socket can be made so");
        assert_eq!(self.socket.recv(&mut [0; 64]).expect_err("nothing came").kind(), io::ErrorKind::WouldBlock);
    }
}
