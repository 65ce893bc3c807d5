//! Writes what the cores log, the access log and the lines of message logging, in the order it comes: to standard output or,
//! where the access log has one, to a file.
//!
//! Writing happens on a blocking thread, one write at a time, so that a slow disk holds up nobody; what does not fit the
//! short queue is dropped and counted. SIGUSR1 closes the file and opens it again under its name, for log rotation.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Mutex, mpsc, watch},
    task::JoinHandle,
};

use super::supervise;
use crate::config::settings::AccessLog;

/// Batches that wait; each is what one core had at one time, at most a megabyte.
const BATCHES_MAX: usize = 64;

/// The orchestration's end of both writers.
#[derive(Debug)]
pub struct LogSinks {
    pub access_log: LogSink,
    /// Always standard output.
    pub messages: LogSink,
}

/// Lines lost by each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropped {
    pub access_log: u64,
    pub messages: u64,
}

/// Reads what the writers have lost.
#[derive(Clone, Debug)]
pub struct DroppedCounts {
    access_log: Arc<AtomicU64>,
    messages: Arc<AtomicU64>,
}

impl LogSinks {
    /// Starts the writers and the SIGUSR1 handler on the current runtime. Both write to standard output until told otherwise.
    /// Started also where there is no access log: without a handler, SIGUSR1 ends a process.
    pub fn start() -> Self {
        let access_log = LogSink::start("access log");
        let reopen = access_log.orders.clone();
        supervise::spawn("access log reopening", move || reopen_on_signal(reopen.clone()));
        Self { access_log, messages: LogSink::start("message log") }
    }

    /// Writes what waits; for the end of the process.
    pub async fn finish(self) {
        tokio::join!(self.access_log.finish(), self.messages.finish());
    }

    pub fn dropped(&self) -> DroppedCounts {
        DroppedCounts { access_log: self.access_log.dropped.clone(), messages: self.messages.dropped.clone() }
    }
}

impl DroppedCounts {
    /// Lines lost here: the queue was full, or the file could not be written.
    pub fn now(&self) -> Dropped {
        let [access_log, messages] = [&self.access_log, &self.messages].map(|count| count.load(Ordering::Relaxed));
        Dropped { access_log, messages }
    }
}

/// One of them.
#[derive(Debug)]
pub struct LogSink {
    batches: mpsc::Sender<Vec<u8>>,
    orders: watch::Sender<Orders>,
    dropped: Arc<AtomicU64>,
    writer: JoinHandle<()>,
}

/// Where to write; another count of reopenings means: open it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Orders {
    path: Option<PathBuf>,
    reopenings: u64,
}

impl LogSink {
    fn start(name: &'static str) -> Self {
        let (batches, queue) = mpsc::channel(BATCHES_MAX);
        let orders = watch::Sender::new(Orders::default());
        let dropped = Arc::new(AtomicU64::new(0));
        let (queue, received, lost) = (Arc::new(Mutex::new(queue)), orders.subscribe(), dropped.clone());
        let writer = supervise::spawn(name, move || write(name, queue.clone(), received.clone(), lost.clone()));
        Self { batches, orders, dropped, writer }
    }

    /// Takes over what the configuration says.
    pub fn configure(&self, log: &AccessLog) {
        self.orders.send_if_modified(|orders| {
            let changed = orders.path != log.path;
            orders.path.clone_from(&log.path);
            changed
        });
    }

    /// Whole lines, each ended by a newline.
    pub fn write(&self, lines: Vec<u8>) {
        if !lines.is_empty()
            && let Err(mpsc::error::TrySendError::Full(lines) | mpsc::error::TrySendError::Closed(lines)) =
                self.batches.try_send(lines)
        {
            self.dropped.fetch_add(count(&lines), Ordering::Relaxed);
        }
    }

    async fn finish(self) {
        drop(self.batches);
        let _ = self.writer.await; // a writer that was cancelled has nothing left to write
    }
}

async fn reopen_on_signal(orders: watch::Sender<Orders>) {
    let mut signals = match signal(SignalKind::user_defined1()) {
        Ok(signals) => signals,
        Err(error) => return tracing::warn!(%error, "SIGUSR1 will not reopen the access log"),
    };
    while signals.recv().await.is_some() {
        orders.send_modify(|orders| orders.reopenings += 1);
    }
}

async fn write(
    name: &'static str,
    queue: Arc<Mutex<mpsc::Receiver<Vec<u8>>>>,
    mut orders: watch::Receiver<Orders>,
    dropped: Arc<AtomicU64>,
) {
    let mut queue = queue.lock().await;
    let mut sink = Sink::default();
    loop {
        let lines = tokio::select! {
            lines = queue.recv() => match lines {
                Some(lines) => lines,
                None => return,
            },
            // Nothing to write, but the file is opened under its name at once.
            Ok(()) = orders.changed() => Vec::new(),
        };
        let current = orders.borrow_and_update().clone();
        let lost = count(&lines);
        let task = tokio::task::spawn_blocking(move || {
            let result = sink.write(&current, &lines);
            (sink, result)
        });
        let result;
        (sink, result) = task.await.expect("writing does not panic");
        match result {
            Ok(()) => {}
            Err((error, first)) => {
                dropped.fetch_add(lost, Ordering::Relaxed);
                if first {
                    tracing::error!(%error, "the {name} cannot be written; lines are dropped and counted");
                }
            }
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// An open file, or standard output.
#[derive(Default)]
struct Sink {
    file: Option<File>,
    /// By which orders it was opened.
    orders: Orders,
    failing: bool,
}

impl Sink {
    /// `Err` says too whether this is the first failure of a row.
    fn write(&mut self, orders: &Orders, lines: &[u8]) -> Result<(), (io::Error, bool)> {
        let result = self.try_write(orders, lines);
        let first = !self.failing;
        self.failing = result.is_err();
        if self.failing {
            self.file = None; // open it anew next time
        }
        result.map_err(|error| (error, first))
    }

    fn try_write(&mut self, orders: &Orders, lines: &[u8]) -> io::Result<()> {
        let Some(path) = &orders.path else {
            let mut output = io::stdout().lock();
            output.write_all(lines)?;
            return output.flush();
        };
        if self.orders != *orders {
            self.file = None;
            self.orders = orders.clone();
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().append(true).create(true).open(path)?),
        };
        file.write_all(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, read_to_string, rename};

    use super::*;

    #[test]
    fn a_reopened_log_writes_under_its_name() {
        let at = tempfile::tempdir().expect("a temporary directory");
        let (path, old) = (at.path().join("access.log"), at.path().join("access.log.1"));
        let mut orders = Orders { path: Some(path.clone()), reopenings: 0 };
        let mut sink = Sink::default();
        sink.write(&orders, b"one\n").expect("room");
        rename(&path, &old).expect("the same file system");
        sink.write(&orders, b"two\n").expect("room");
        orders.reopenings += 1;
        sink.write(&orders, b"three\n").expect("room");
        assert_eq!(read_to_string(&old).expect("it is there"), "one\ntwo\n");
        assert_eq!(read_to_string(&path).expect("it is there"), "three\n");
    }

    #[test]
    fn a_file_that_fails_is_tried_again() {
        let at = tempfile::tempdir().expect("a temporary directory");
        let path = at.path().join("logs/access.log");
        let orders = Orders { path: Some(path.clone()), reopenings: 0 };
        let mut sink = Sink::default();
        assert!(matches!(sink.write(&orders, b"one\n"), Err((_, true))));
        assert!(matches!(sink.write(&orders, b"two\n"), Err((_, false))), "said once");
        create_dir(at.path().join("logs")).expect("room");
        sink.write(&orders, b"three\n").expect("room");
        assert_eq!(read_to_string(&path).expect("it is there"), "three\n");
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_counts_lines() {
        let at = tempfile::tempdir().expect("a temporary directory");
        let path = at.path().join("access.log");
        let sink = LogSink::start("access log");
        sink.configure(&AccessLog { json: false, path: Some(path.clone()) });
        // The writer has had no chance to run: this test does not yield.
        for _ in 0..BATCHES_MAX + 3 {
            sink.write(b"a\nb\n".to_vec());
        }
        assert_eq!(sink.dropped.load(Ordering::Relaxed), 6);
        sink.finish().await;
        assert_eq!(read_to_string(&path).expect("it is there").len(), BATCHES_MAX * 4);
    }
}
