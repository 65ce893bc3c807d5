//! Signals: what a task of a core waits for until somebody, on any thread, says that it may look again.
//!
//! Nothing else is said: what there is to see stands where both look, behind a lock or in an atomic. So a signal may come too
//! often, and one that comes too late is an end of time for who waits with one.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::mailbox::{Mailbox, Post, Unopened, mailbox};

/// How many may wait on one core.
const SIGNALS_MAX: usize = 65_536;

/// One core's signals. The default has none to give.
#[derive(Clone, Default)]
pub struct Signals(Option<Rc<Board>>);

struct Board {
    post: Arc<Post<u32>>,
    places: RefCell<Places>,
}

#[derive(Default)]
struct Places {
    all: Vec<Place>,
    free: Vec<u32>,
}

/// What is known of a signal. Its place is free when both it and its bell are gone.
enum Place {
    Waits(Option<Waker>),
    Rung,
    /// Nobody waits any more; the bell is still there.
    Left,
}

/// Ready once its bell has rung. Dropping it is no loss to anybody.
pub struct Signal {
    board: Rc<Board>,
    place: u32,
}

/// Ends the wait of its signal: rung, or dropped, since nobody would ring it then. Its owner may be any thread.
pub struct Bell {
    post: Arc<Post<u32>>,
    place: u32,
}

/// What bells have to say, on its way to the core.
pub struct Rings {
    signals: Signals,
    mailbox: Mailbox<u32>,
}

impl Signals {
    /// On the core's own thread, inside its runtime. Nothing is heard before [`Rings::hear`] runs.
    ///
    /// # Errors
    /// The core's mailbox for it could not be made.
    pub fn new() -> io::Result<(Self, Rings)> {
        let (post, unopened): (Post<u32>, Unopened<u32>) = mailbox(SIGNALS_MAX)?;
        let board = Board { post: Arc::new(post), places: RefCell::default() };
        let signals = Self(Some(Rc::new(board)));
        Ok((signals.clone(), Rings { signals, mailbox: unopened.open()? }))
    }

    /// Those of no core: what waits with one is never told. For whoever only looks at what would be waited for.
    pub fn apart() -> Self {
        let board = mailbox(SIGNALS_MAX).map(|(post, _)| Board { post: Arc::new(post), places: RefCell::default() });
        Self(board.ok().map(Rc::new))
    }

    /// `None`: too many wait on this core already.
    pub fn new_signal(&self) -> Option<(Signal, Bell)> {
        let board = self.0.as_ref()?;
        let place = board.places.borrow_mut().take()?;
        Some((Signal { board: board.clone(), place }, Bell { post: board.post.clone(), place }))
    }

    fn rung(&self, place: u32) {
        let Some(board) = &self.0 else { return };
        let waker = board.places.borrow_mut().rung(place);
        // Not while the places are borrowed: what wakes may look at them.
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Places {
    fn take(&mut self) -> Option<u32> {
        if let Some(place) = self.free.pop() {
            self.all[place as usize] = Place::Waits(None);
            return Some(place);
        }
        if self.all.len() == SIGNALS_MAX {
            return None;
        }
        self.all.push(Place::Waits(None));
        Some(self.all.len() as u32 - 1)
    }

    fn rung(&mut self, place: u32) -> Option<Waker> {
        match std::mem::replace(&mut self.all[place as usize], Place::Rung) {
            Place::Waits(waker) => waker,
            Place::Rung => None,
            Place::Left => {
                self.free.push(place);
                None
            }
        }
    }

    fn leave(&mut self, place: u32) {
        if let Place::Rung = std::mem::replace(&mut self.all[place as usize], Place::Left) {
            self.free.push(place);
        }
    }
}

impl Rings {
    /// For as long as the core runs.
    pub async fn hear(mut self) {
        while let Some(place) = self.mailbox.receive().await {
            self.signals.rung(place);
        }
    }
}

impl Future for Signal {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.board.places.borrow_mut().all[self.place as usize] {
            Place::Waits(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Place::Rung | Place::Left => Poll::Ready(()),
        }
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.board.places.borrow_mut().leave(self.place);
    }
}

impl Bell {
    pub fn ring(self) {}
}

impl Drop for Bell {
    fn drop(&mut self) {
        // There is room: no more can ring than there are places. A core that is gone waits for nothing.
        let _ = self.post.send(self.place);
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({})", self.place)
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bell({})", self.place)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::net::{
        driver::{self, Flags, Kind},
        task,
    };

    const ENOUGH: Duration = Duration::from_secs(60);

    fn on_core(test: impl AsyncFn(Signals)) {
        for kind in [Kind::Epoll, Kind::IoUring(Flags::DeferTaskrun)] {
            let ran = driver::run(kind, async {
                let (signals, rings) = Signals::new().expect("descriptors are free");
                task::spawn(rings.hear());
                test(signals).await;
            });
            // A host without io_uring has nothing to check.
            assert!(ran.is_ok() || kind != Kind::Epoll);
        }
    }

    #[test]
    fn a_bell_of_another_thread_ends_the_wait() {
        on_core(async |signals| {
            let (hand, bells) = mpsc::channel::<Bell>();
            let rings = thread::spawn(move || bells.iter().for_each(Bell::ring));
            for _ in 0..1000 {
                let (signal, bell) = signals.new_signal().expect("there is room");
                hand.send(bell).expect("the thread takes it");
                task::timeout(Some(ENOUGH), signal).await.expect("it has rung");
            }
            drop(hand);
            rings.join().expect("it does not panic");
            assert_eq!(signals.0.expect("there are some").places.borrow().all.len(), 1, "a place is used again");
        });
    }

    #[test]
    fn a_bell_that_is_dropped_ends_the_wait_too() {
        on_core(async |signals| {
            let (signal, bell) = signals.new_signal().expect("there is room");
            drop(bell);
            task::timeout(Some(ENOUGH), signal).await.expect("nobody would ring it");
        });
    }

    #[test]
    fn who_leaves_frees_the_place_only_with_the_bell() {
        on_core(async |signals| {
            let (signal, bell) = signals.new_signal().expect("there is room");
            drop(signal);
            let (other, other_bell) = signals.new_signal().expect("there is room");
            assert_ne!(other.place, bell.place, "the bell would ring for another");
            let place = bell.place;
            bell.ring();
            other_bell.ring();
            task::timeout(Some(ENOUGH), other).await.expect("it has rung, after the other");
            let (next, _bell) = signals.new_signal().expect("there is room");
            assert_ne!(next.place, place, "the last that was freed comes first");
            assert_eq!(signals.new_signal().expect("there is room").0.place, place);
        });
    }

    #[test]
    fn there_is_a_limit_and_the_default_has_none_to_give() {
        assert!(Signals::default().new_signal().is_none());
        on_core(async |signals| {
            let mut held: Vec<_> = (0..SIGNALS_MAX).map_while(|_| signals.new_signal()).collect();
            assert_eq!(held.len(), SIGNALS_MAX);
            assert!(signals.new_signal().is_none());
            let (signal, bell) = held.pop().expect("there are some");
            bell.ring();
            task::timeout(Some(ENOUGH), signal).await.expect("it has rung");
            assert!(signals.new_signal().is_some());
        });
    }
}
