//! The upstream behind every proxy that is measured: answers as cheaply as it can, with a body of the size asked for.
//!
//! `/bytes/N` gives N bytes, any other path the default. Answers are written out once for each size, and request bodies
//! are read and counted, not kept.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, Write},
    net::SocketAddr,
    rc::Rc,
};

use anyhow::{Context, Result};
use monoio::{
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::{ListenerOpts, TcpListener, TcpStream},
};

use socket2::{Domain, Socket, Type};

use crate::{driver, driver::Driver, http1, sys};

/// Of one answer; a path may ask for no more.
pub const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Different sizes that are kept written out; beyond, they are written out each time.
const SIZES_MAX: usize = 64;
const BUFFER_BYTES: usize = 64 * 1024;
const BACKLOG: i32 = 4096;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until the process ends. Says on stdout where, once it listens.
///
/// # Errors
/// The address cannot be bound.
pub fn serve(mut address: SocketAddr, body_bytes: usize, driver: Driver, cpus: &[usize]) -> Result<()> {
    // Each thread has a listener of its own on the one port; the first says which that is.
    let Some((&first, others)) = cpus.split_first() else { return serve_on(address, body_bytes, driver, None, false) };
    if others.is_empty() {
        return serve_on(address, body_bytes, driver, Some(first), false);
    }
    let held = hold_port(&mut address)?;
    for &cpu in others {
        let serving = move || {
            if let Err(error) = serve_on(address, body_bytes, driver, Some(cpu), true) {
                eprintln!("error: {error:#}");
                std::process::exit(1);
            }
        };
        std::thread::Builder::new().spawn(serving).context("cannot start a thread")?;
    }
    let result = serve_on(address, body_bytes, driver, Some(first), true);
    drop(held);
    result
}

/// Binds a port without listening on it, so that a port chosen by the kernel stays ours until all threads have it.
fn hold_port(address: &mut SocketAddr) -> Result<Socket> {
    let held = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
    held.set_reuse_address(true)?;
    held.set_reuse_port(true)?;
    held.bind(&(*address).into()).with_context(|| format!("cannot bind {address}"))?;
    *address = held.local_addr()?.as_socket().context("a TCP socket has an address")?;
    Ok(held)
}

fn serve_on(address: SocketAddr, body_bytes: usize, driver: Driver, cpu: Option<usize>, shared: bool) -> Result<()> {
    run(address, driver, cpu, shared, async move |listener| {
        let answers = Rc::new(Answers { default_bytes: body_bytes, written: RefCell::default() });
        accept(listener, |stream| answer(stream, answers.clone())).await
    })
}

/// A pinned event loop with one listener: what an upstream and a relay have in common. `shared`: others of ours listen
/// on the same port.
///
/// # Errors
/// As the parts of it.
pub fn run(
    address: SocketAddr,
    driver: Driver,
    cpu: Option<usize>,
    shared: bool,
    main: impl AsyncFnOnce(TcpListener) -> io::Result<()>,
) -> Result<()> {
    sys::raise_file_limit();
    if let Some(cpu) = cpu {
        sys::pin(cpu).with_context(|| format!("cannot use CPU {cpu}"))?;
    }
    let served = driver::run(driver, async {
        let options = ListenerOpts::new().reuse_port(shared).backlog(BACKLOG);
        let listener = TcpListener::bind_with_config(address, &options)?;
        // Who started us may have stopped listening to us.
        let _ = writeln!(io::stdout(), "listening on {}", listener.local_addr()?);
        main(listener).await
    });
    served.context("cannot build the event loop")?.with_context(|| format!("cannot serve on {address}"))
}

/// Gives each connection a task of its own; out of descriptors it waits for some to come back.
///
/// # Errors
/// None: it never ends.
pub async fn accept<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    connection: impl Fn(TcpStream) -> F,
) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                monoio::spawn(connection(stream));
            }
            Err(_) => monoio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

/// By the size of the body, and whether it is left out, since HEAD asked.
type Written = HashMap<(usize, bool), Rc<Vec<u8>>>;

struct Answers {
    default_bytes: usize,
    written: RefCell<Written>,
}

impl Answers {
    fn to(&self, head: &http1::RequestHead<'_>) -> Rc<Vec<u8>> {
        let asked = head.path.strip_prefix("/bytes/").and_then(|rest| rest.split('?').next()?.parse().ok());
        let bytes = asked.unwrap_or(self.default_bytes).min(BODY_BYTES_MAX);
        let key = (bytes, head.is_head);
        if let Some(written) = self.written.borrow().get(&key) {
            return written.clone();
        }
        let mut text = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {bytes}\r\n\r\n");
        if !head.is_head {
            text.extend(std::iter::repeat_n('x', bytes));
        }
        let written = Rc::new(text.into_bytes());
        let mut all = self.written.borrow_mut();
        if all.len() < SIZES_MAX {
            all.insert(key, written.clone());
        }
        written
    }
}

/// One connection, request after request. Any error ends it.
async fn answer(mut stream: TcpStream, answers: Rc<Answers>) {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    // Received and not yet a whole head, or behind the last request.
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let result;
        (result, buffer) = stream.read(buffer).await;
        if !result.is_ok_and(|received| received > 0) {
            return;
        }
        let whole;
        let mut bytes = &buffer[..];
        if !pending.is_empty() {
            pending.extend_from_slice(bytes);
            whole = std::mem::take(&mut pending);
            bytes = &whole;
        }
        let mut rest_of_body = None;
        while !bytes.is_empty() {
            let head = match http1::request(bytes) {
                Ok(Some(head)) => head,
                Ok(None) => {
                    pending = bytes.to_vec();
                    break;
                }
                Err(_) => {
                    let _ = stream.write_all(BAD_REQUEST).await;
                    return;
                }
            };
            let (answer, close, mut body) = (answers.to(&head), head.close, head.body);
            let behind = &bytes[head.head_bytes..];
            let Ok(taken) = body.take(behind) else { return };
            bytes = &behind[taken..];
            if !body.is_done() {
                // Only the last request in a buffer can be incomplete.
                rest_of_body = Some((answer, close, body, head.expects_continue));
                break;
            }
            if stream.write_all(answer).await.0.is_err() || close {
                return;
            }
        }
        if let Some((answer, close, mut body, expects_continue)) = rest_of_body {
            if expects_continue && stream.write_all(CONTINUE).await.0.is_err() {
                return;
            }
            while !body.is_done() {
                let result;
                (result, buffer) = stream.read(buffer).await;
                if !result.is_ok_and(|received| received > 0) {
                    return;
                }
                let Ok(taken) = body.take(&buffer) else { return };
                pending.extend_from_slice(&buffer[taken..]);
            }
            if stream.write_all(answer).await.0.is_err() || close {
                return;
            }
        }
    }
}
