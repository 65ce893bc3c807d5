//! Upstreams: listeners that play a script. What reaches one beyond its script fails the case.

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    case::UpstreamMode,
    script::{Action, Command},
    session::{Marks, Names, Session},
    tls::Wire,
};

/// An upstream has no deadline of its own worth the name: the case ends it by ending the gateway.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Upstream {
    pub port: u16,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<Vec<String>>>,
    accepted: Arc<AtomicUsize>,
    ending: Arc<AtomicBool>,
    /// The script was played to its end, well or badly.
    played: Arc<AtomicBool>,
}

/// What one upstream thread shares with the connections it serves.
#[derive(Clone)]
struct Shared {
    listener: Arc<TcpListener>,
    accepted: Arc<AtomicUsize>,
    ending: Arc<AtomicBool>,
    played: Arc<AtomicBool>,
    names: Names,
    marks: Arc<Marks>,
}

impl Upstream {
    /// Listens; plays nothing yet.
    pub fn bind() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        // Accepts wake now and then to see whether the case is over.
        socket2::SockRef::from(&listener).set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self {
            port: listener.local_addr()?.port(),
            listener: Arc::new(listener),
            thread: None,
            accepted: Arc::default(),
            ending: Arc::default(),
            played: Arc::default(),
        })
    }

    pub fn play(&mut self, mode: &UpstreamMode, names: &Names, marks: &Arc<Marks>) {
        let shared = Shared {
            listener: Arc::clone(&self.listener),
            accepted: Arc::clone(&self.accepted),
            ending: Arc::clone(&self.ending),
            played: Arc::clone(&self.played),
            names: Arc::clone(names),
            marks: Arc::clone(marks),
        };
        let mode = mode.clone();
        self.played.store(!matches!(mode, UpstreamMode::Script(_)), Ordering::SeqCst);
        self.thread = Some(std::thread::spawn(move || match mode {
            UpstreamMode::Script(script) => shared.script(&script),
            UpstreamMode::Loop(script) => shared.serve(&script),
            UpstreamMode::Never => shared.never(),
        }));
    }

    /// Waits until a script has come to its end: the last bytes of a case may still be on their way.
    pub fn wait_played(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let is_playing = || self.thread.is_some() && !self.played.load(Ordering::SeqCst);
        while is_playing() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Ends it, once the gateway is gone, and returns what went wrong.
    pub fn finish(&mut self) -> Vec<String> {
        self.ending.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            None => Vec::new(),
            Some(Ok(problems)) => problems,
            Some(Err(_)) => vec!["the upstream thread panicked".into()],
        }
    }
}

impl Shared {
    fn session(&self) -> Session {
        Session::new(Arc::clone(&self.names), Arc::clone(&self.marks), LIMIT)
    }

    /// The next connection; `None` once the case is over.
    fn accept(&self) -> Option<std::net::TcpStream> {
        loop {
            if let Ok((stream, _)) = self.listener.accept() {
                self.accepted.fetch_add(1, Ordering::SeqCst);
                return Some(stream);
            }
            if self.ending.load(Ordering::SeqCst) {
                return None;
            }
        }
    }

    fn script(&self, script: &[Command]) -> Vec<String> {
        let mut session = self.session();
        let mut kept = Vec::new();
        let mut problems: Vec<String> = self.play(&mut session, &mut kept, script).err().into_iter().collect();
        self.played.store(true, Ordering::SeqCst);
        while problems.is_empty() && !self.ending.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        if problems.is_empty() {
            problems.extend(session.finish().err());
            problems.extend(self.unexpected());
        }
        if let (Some(first), false) = (problems.first_mut(), session.transcript().is_empty()) {
            first.push_str(&format!("\n{}", session.transcript()));
        }
        problems
    }

    fn play(&self, session: &mut Session, kept: &mut Vec<Wire>, script: &[Command]) -> Result<(), String> {
        for command in script {
            let done = match &command.action {
                Action::Repeat(times, script) => {
                    (0..*times).try_for_each(|_| self.play(session, kept, script))?;
                    continue;
                }
                Action::Accept => self.take(session, kept),
                Action::Tls(options, agreed) => {
                    if session.stream.is_none() {
                        self.take(session, kept)?;
                    }
                    session.secure(options, agreed, false)
                }
                Action::Mark(_) | Action::Wait(_) | Action::Within(_) | Action::Header(..) => session.play(command),
                Action::Connect(_) => Err("an upstream accepts".into()),
                Action::Expect(_) | Action::Raw(_) | Action::H2(_) if session.stream.is_none() => {
                    self.take(session, kept).and_then(|()| session.play(command))
                }
                _ => session.play(command),
            };
            done.map_err(|problem| format!("line {}: {problem}", command.line))?;
        }
        Ok(())
    }

    /// Goes on with the next connection; the one before stays open.
    fn take(&self, session: &mut Session, kept: &mut Vec<Wire>) -> Result<(), String> {
        kept.extend(session.stream.take());
        let stream = self.accept().ok_or("no connection came")?;
        session.note("accepted".into());
        session.attach(stream);
        Ok(())
    }

    fn serve(&self, script: &[Command]) -> Vec<String> {
        let problems = Arc::new(Mutex::new(Vec::new()));
        let mut threads = Vec::new();
        while let Some(stream) = self.accept() {
            let (shared, script, problems) = (self.clone(), script.to_vec(), Arc::clone(&problems));
            threads.push(std::thread::spawn(move || {
                let mut session = shared.session();
                session.attach(stream);
                if let Err(problem) = shared.answer(&mut session, &script) {
                    let problem = format!("{problem}\n{}", session.transcript());
                    problems.lock().expect("no holder panics").push(problem);
                }
            }));
        }
        for thread in threads {
            thread.join().ok();
        }
        std::mem::take(&mut problems.lock().expect("no holder panics"))
    }

    /// Answers the requests of one connection until it ends.
    fn answer(&self, session: &mut Session, script: &[Command]) -> Result<(), String> {
        if let Some(first) = script.first().filter(|first| matches!(first.action, Action::Tls(..))) {
            self.play(session, &mut Vec::new(), std::slice::from_ref(first))?;
        }
        while session.stream.is_some() && session.has_more().unwrap_or(false) {
            self.play(session, &mut Vec::new(), script)?;
        }
        Ok(())
    }

    fn never(&self) -> Vec<String> {
        match self.accept() {
            None => Vec::new(),
            Some(stream) => {
                let mut session = self.session();
                session.attach(stream);
                let seen = session.finish().err().unwrap_or_default();
                vec![format!("a connection came to an upstream that none may reach. {seen}\n{}", session.transcript())]
            }
        }
    }

    /// Connections beyond the script, if they brought bytes.
    fn unexpected(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(1);
        while let (Some(stream), true) = (self.accept(), Instant::now() < deadline) {
            let mut session = self.session();
            session.attach(stream);
            problems.extend(session.finish().err().map(|problem| format!("a connection beyond the script: {problem}")));
        }
        problems
    }
}
