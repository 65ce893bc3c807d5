//! A bounded queue into a core from another thread, and the wake-up that goes with it.
//!
//! The wake-up is a byte on a socket pair, so that the core waits for it like for any other I/O and its run loop has no
//! lock to look at. It is rung only for a core that has found its queue empty: what comes meanwhile costs no system call.
//!
//! No wake-up is lost. Whether the core is to be rung for stands under the queue's own lock. The core sets it in the same
//! hold of the lock in which it finds nothing, so whatever it did not find is put in later, by somebody who sees it set. Who
//! sees it clears it and writes a byte: there is always one on its way to a core that has something and waits. A byte may
//! come for what was taken already; then the core looks in vain, once. A byte that the kernel does not take, though the pipe
//! is not full, sets it again: the next message rings.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Receiver, Stream, executor};

/// How often the queue is looked at where the bell cannot be heard.
const DEAF: Duration = Duration::from_millis(100);

/// The end of other threads.
pub struct Post<T> {
    queue: Arc<Queue<T>>,
    bell: UnixStream,
}

/// The core's end.
pub struct Mailbox<T> {
    queue: Taking<T>,
    bell: Receiver,
}

/// The core's end before it has reached its thread.
pub struct Unopened<T> {
    queue: Taking<T>,
    bell: UnixStream,
}

struct Queue<T> {
    state: Mutex<State<T>>,
    capacity: usize,
}

struct State<T> {
    messages: VecDeque<T>,
    /// The core has found nothing, and nobody has rung since.
    ring: bool,
    /// The core's end is gone.
    closed: bool,
}

/// The core's hold on the queue. What nobody will take any more goes with it, and whoever waits for an answer learns of it.
struct Taking<T>(Arc<Queue<T>>);

pub fn mailbox<T>(capacity: usize) -> io::Result<(Post<T>, Unopened<T>)> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let state = State { messages: VecDeque::new(), ring: false, closed: false };
    let queue = Arc::new(Queue { state: Mutex::new(state), capacity });
    Ok((Post { queue: queue.clone(), bell: near }, Unopened { queue: Taking(queue), bell: far }))
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Post<T> {
    /// Never waits. A full queue gives the message back, and so does one that nobody takes from any more.
    pub fn send(&self, message: T) -> Result<(), T> {
        let mut state = self.queue.lock();
        if state.closed || state.messages.len() >= self.queue.capacity {
            return Err(message);
        }
        state.messages.push_back(message);
        self.ring(state);
        Ok(())
    }

    /// As [`Post::send`], for a message that must not be lost because others were not taken yet: it has its place in a full
    /// queue too. That stays bounded since it takes the place of the one that waits and that `supersedes` knows as its
    /// forerunner.
    pub fn send_latest(&self, message: T, supersedes: impl Fn(&T) -> bool) -> Result<(), T> {
        let mut state = self.queue.lock();
        if state.closed {
            return Err(message);
        }
        let forerunner = state.messages.iter_mut().find(|waiting| supersedes(waiting));
        // Dropped when the lock is given back: it may have much to close.
        let _superseded = match forerunner {
            Some(waiting) => Some(std::mem::replace(waiting, message)),
            None => {
                state.messages.push_back(message);
                None
            }
        };
        self.ring(state);
        Ok(())
    }

    fn ring(&self, mut state: MutexGuard<'_, State<T>>) {
        if !std::mem::take(&mut state.ring) {
            return;
        }
        drop(state);
        match (&self.bell).write(&[1]) {
            // A full pipe means that the bell is ringing already.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.queue.lock().ring = true,
            _ => {}
        }
    }
}

impl<T> Unopened<T> {
    /// What waits, looked at one by one.
    #[cfg(test)]
    pub fn waiting<R>(&self, look: impl Fn(&T) -> R) -> Vec<R> {
        self.queue.0.lock().messages.iter().map(look).collect()
    }

    /// On the core's own thread, inside its runtime.
    pub fn open(self) -> io::Result<Mailbox<T>> {
        Ok(Mailbox { queue: self.queue, bell: Stream::new(self.bell.into())?.receiver })
    }
}

impl<T> Mailbox<T> {
    /// The next message; `None` when the other end is gone.
    pub async fn receive(&mut self) -> Option<T> {
        loop {
            {
                let mut state = self.queue.0.lock();
                let message = state.messages.pop_front();
                state.ring = message.is_none();
                if message.is_some() {
                    return message;
                }
            }
            match self.bell.fill().await {
                Ok(0) => return self.queue.0.lock().messages.pop_front(),
                Ok(rung) => self.bell.consume(rung),
                // Of this socket that means that memory is short. The core is not to end for it, nor to be unheard.
                Err(_) => executor::sleep(DEAF).await,
            }
        }
    }
}

impl<T> Drop for Taking<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let untaken = std::mem::take(&mut state.messages);
        drop(state);
        drop(untaken);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::net::{
        driver::{self, Flags, Kind},
        task,
    };

    /// How many bytes wait for the core.
    fn rung<T>(post: &Post<T>) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one integer that is lent for the call.
        let asked = unsafe {
            use std::os::fd::AsRawFd;
            libc::ioctl(post.bell.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut bytes)
        };
        assert_eq!(asked, 0);
        usize::from(bytes > 0)
    }

    #[test]
    fn a_core_that_has_not_found_its_queue_empty_is_not_rung_for() {
        let (post, unopened) = mailbox(8).expect("descriptors are free");
        for message in 0..3 {
            post.send(message).expect("there is room");
        }
        assert_eq!(rung(&post), 0, "it looks before it waits");
        unopened.queue.0.lock().ring = true;
        post.send(3).expect("there is room");
        assert_eq!(rung(&post), 1);
        assert!(!unopened.queue.0.lock().ring, "the next need not");
    }

    #[test]
    fn a_bell_that_could_not_be_rung_is_rung_by_the_next() {
        let (post, unopened) = mailbox(8).expect("descriptors are free");
        let Unopened { queue, bell } = unopened;
        drop(bell);
        queue.0.lock().ring = true;
        post.send(()).expect("there is room");
        assert!(queue.0.lock().ring);
    }

    #[test]
    fn a_full_queue_takes_what_supersedes_and_nothing_else() {
        let (post, unopened) = mailbox(2).expect("descriptors are free");
        assert_eq!((post.send(("a", 1)), post.send(("b", 1))), (Ok(()), Ok(())));
        assert_eq!(post.send(("c", 1)), Err(("c", 1)));
        let send_latest = |kind: &'static str, number| {
            post.send_latest((kind, number), |waiting| waiting.0 == kind).expect("the other end is there");
        };
        (1..=9).for_each(|number| send_latest("d", number));
        (2..=9).for_each(|number| send_latest("a", number));
        assert_eq!(unopened.waiting(|waiting| *waiting), [("a", 9), ("b", 1), ("d", 9)]);
        drop(unopened);
        assert!(post.send(("b", 2)).is_err(), "nobody takes it");
        assert!(post.send_latest(("b", 2), |_| true).is_err(), "nor this");
    }

    #[test]
    fn whoever_waits_for_an_answer_learns_that_the_core_is_gone() {
        let (post, unopened) = mailbox(2).expect("descriptors are free");
        let answer = Arc::new(());
        post.send(answer.clone()).expect("there is room");
        drop(unopened);
        assert_eq!(Arc::strong_count(&answer), 1);
    }

    /// Each sender waits until its message was taken before it sends the next, so one wake-up lost is the end.
    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const SENDERS: usize = 4;
        const EACH: usize = 2000;
        for kind in [Kind::Epoll, Kind::IoUring(Flags::DeferTaskrun)] {
            let (post, unopened) = mailbox(SENDERS).expect("descriptors are free");
            let senders = thread::spawn(move || {
                thread::scope(|scope| {
                    for _ in 0..SENDERS {
                        scope.spawn(|| {
                            for _ in 0..EACH {
                                let (taken, taking) = std::sync::mpsc::channel();
                                if post.send(taken).is_err() || taking.recv().is_err() {
                                    return;
                                }
                            }
                        });
                    }
                });
            });
            let received = driver::run(kind, async {
                let mut mailbox = unopened.open().expect("descriptors are free");
                let mut received = 0;
                let all = async {
                    while let Some(taken) = mailbox.receive().await {
                        received += 1;
                        let _ = taken.send(());
                    }
                };
                task::timeout(Some(Duration::from_secs(60)), all).await.expect("no wake-up is lost");
                received
            });
            // A host without io_uring has nothing to check.
            assert!(received.is_err() && kind != Kind::Epoll || received.is_ok_and(|all| all == SENDERS * EACH));
            senders.join().expect("no sender panics");
        }
    }
}
