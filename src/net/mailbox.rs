//! A bounded queue into a core from another thread, and the wake-up that goes with it.
//!
//! The wake-up is a byte on a socket pair, so that the core waits for it like for any other I/O and its run loop has no
//! lock to look at.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Receiver, Stream};

/// The end of other threads.
pub struct Post<T> {
    queue: Arc<Queue<T>>,
    bell: UnixStream,
}

/// The core's end.
pub struct Mailbox<T> {
    queue: Arc<Queue<T>>,
    bell: Receiver,
}

/// The core's end before it has reached its thread.
pub struct Unopened<T> {
    queue: Arc<Queue<T>>,
    bell: UnixStream,
}

struct Queue<T> {
    messages: Mutex<VecDeque<T>>,
    capacity: usize,
}

pub fn mailbox<T>(capacity: usize) -> io::Result<(Post<T>, Unopened<T>)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let queue = Arc::new(Queue { messages: Mutex::new(VecDeque::new()), capacity });
    Ok((Post { queue: queue.clone(), bell: near }, Unopened { queue, bell: far }))
}

impl<T> Post<T> {
    /// Never waits. A full queue gives the message back.
    pub fn send(&self, message: T) -> Result<(), T> {
        let mut messages = self.queue.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() >= self.queue.capacity {
            return Err(message);
        }
        messages.push_back(message);
        drop(messages);
        // A full pipe means that the bell is ringing already.
        let _ = (&self.bell).write(&[1]);
        Ok(())
    }
}

impl<T> Unopened<T> {
    /// On the core's own thread, inside its runtime.
    pub fn open(self) -> io::Result<Mailbox<T>> {
        Ok(Mailbox { queue: self.queue, bell: Stream::new(self.bell.into())?.receiver })
    }
}

impl<T> Mailbox<T> {
    /// The next message; `None` when the other end is gone.
    pub async fn receive(&mut self) -> Option<T> {
        loop {
            let message = self.queue.messages.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if message.is_some() {
                return message;
            }
            match self.bell.fill().await {
                Ok(rung @ 1..) => self.bell.consume(rung),
                _ => return None,
            }
        }
    }
}
