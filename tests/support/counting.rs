//! An upstream that remembers what it was asked, and clients that ask one thing after the other: for what holds of many
//! requests together.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::message::{Framing, Head};

/// What came, and when.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    pub target: String,
}

/// It answers everything with 200.
pub struct Counting {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Counting {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let all = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = all.clone();
                std::thread::spawn(move || answer(stream, &asked));
            }
        });
        Self { address, asked }
    }

    /// All that has come so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

fn answer(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>) {
    stream.set_nodelay(true).ok();
    let mut bytes = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut bytes) {
        let target = head.start.split(' ').nth(1).unwrap_or_default().to_owned();
        asked.lock().expect("no holder panics").push(Asked { at: Instant::now(), target });
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// A client's connection. Its requests have no body.
pub struct Asker {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Asker {
    /// `None`: nobody listens there.
    pub fn connect(port: u16, limit: Duration) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream, bytes: Vec::new() })
    }

    /// The head of the answer; `None`: the connection is lost, or the answer takes too long.
    pub fn ask(&mut self, target: &str, fields: &[(&str, &str)]) -> Option<Head> {
        let mut text = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n");
        fields.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        self.stream.write_all((text + "\r\n").as_bytes()).ok()?;
        let head = read_head(&mut self.stream, &mut self.bytes)?;
        let Framing::Length(length) = head.response_framing(false) else { return None };
        while (self.bytes.len() as u64) < length {
            read_more(&mut self.stream, &mut self.bytes)?;
        }
        self.bytes.drain(..length as usize);
        Some(head)
    }
}

fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Head> {
    loop {
        if let Some((head, length)) = Head::parse(bytes).ok()? {
            bytes.drain(..length);
            return Some(head);
        }
        read_more(stream, bytes)?;
    }
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 4096];
    let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
    bytes.extend_from_slice(&piece[..count]);
    Some(())
}
