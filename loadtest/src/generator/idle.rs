//! Connections that do nothing: opened, asked one thing each, and held, to see what a server keeps for each of them.

use std::{
    net::SocketAddr,
    os::unix::net::UnixStream,
    rc::Rc,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use monoio::{io::AsyncReadRent, net::tcp::TcpOwnedReadHalf};

use super::link::{Link, Received};
use crate::{driver, driver::Driver, http1::ResponseReader, scenario::Mix, sys, tls};

/// Being opened at a time: fewer than a server's backlog.
const OPENING_MAX: usize = 32;
/// For one connection and its request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Open and idle until dropped.
pub struct IdleConnections {
    pub count: usize,
    /// Closing it ends the thread.
    bell: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl IdleConnections {
    /// Returns when each has had its answer.
    ///
    /// # Errors
    /// One of them could not be opened, or got no success.
    pub fn open(
        target: SocketAddr,
        tls: Option<tls::Client>,
        mix: &Arc<Mix>,
        count: usize,
        driver: Driver,
        cpu: Option<usize>,
    ) -> Result<Self> {
        let (bell, far_bell) = UnixStream::pair().context("cannot make a socket pair")?;
        far_bell.set_nonblocking(true)?;
        let (opened, result) = mpsc::channel();
        let mix = mix.clone();
        let thread = std::thread::Builder::new().name("idle".into()).spawn(move || {
            let pinned = cpu.map_or(Ok(()), sys::pin);
            let failed = opened.clone();
            let held = driver::run(driver, async move {
                let held = match pinned {
                    Ok(()) => open_all(target, tls, &mix, count).await,
                    Err(error) => Err(error.into()),
                };
                let is_open = held.is_ok();
                let _ = opened.send(held.as_ref().map(|_| ()).map_err(|error| anyhow!("{error:#}")));
                if is_open && let Ok(mut bell) = monoio::net::UnixStream::from_std(far_bell) {
                    let _ = bell.read(vec![0; 1]).await;
                }
            });
            if let Err(error) = held {
                let _ = failed.send(Err(error.into()));
            }
        });
        let idle = Self { count, bell: Some(bell), thread: Some(thread.context("cannot start a thread")?) };
        result.recv().context("the thread of idle connections ended")??;
        Ok(idle)
    }
}

impl Drop for IdleConnections {
    fn drop(&mut self) {
        self.bell.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection that is only held: what its protocols would need to go on is given back.
type Held = (Rc<Link>, TcpOwnedReadHalf);

async fn open_all(target: SocketAddr, tls: Option<tls::Client>, mix: &Arc<Mix>, count: usize) -> Result<Vec<Held>> {
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let batch = OPENING_MAX.min(count - held.len());
        let opening: Vec<_> = (0..batch).map(|_| monoio::spawn(open_one(target, tls.clone(), mix.clone()))).collect();
        for opened in opening {
            held.push(opened.await?);
        }
    }
    Ok(held)
}

async fn open_one(target: SocketAddr, tls: Option<tls::Client>, mix: Arc<Mix>) -> Result<Held> {
    let link: Rc<Link> = Rc::default();
    let attempt = async {
        let mut receiver = link.connect(target, tls.as_ref()).await?;
        link.send_request(0, mix.request(0));
        let mut reading = ResponseReader::default();
        loop {
            let Received::Bytes = receiver.receive(&link).await else {
                bail!("the server closed a connection that was to be idle");
            };
            match reading.feed(receiver.bytes(), false)? {
                Some(head) if head.status >= 400 || head.close => bail!("the answer was {} or closes", head.status),
                Some(_) => break,
                None => {}
            }
        }
        link.forget_tls();
        Ok(receiver.into_reader())
    };
    let reader = monoio::time::timeout(TIMEOUT, attempt).await.context("an idle connection took too long")??;
    Ok((link, reader))
}
