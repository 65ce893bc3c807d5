//! The way from the cores to whoever speaks with a shared storage, bounded in operations and in bytes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use super::{Answer, Operation, Unavailable, unsent::UnderWay};

/// Operations on their way.
const OPERATIONS_MAX: usize = 4096;
/// Of their values.
const BYTES_MAX: usize = 64 << 20;

type Wake = Box<dyn FnOnce() + Send>;

/// The end that receives.
pub type Queue = mpsc::Receiver<Asked>;

/// One operation, and who waits for its answer.
pub struct Asked {
    pub operation: Operation,
    pub asked_at: Instant,
    pub reply: Reply,
}

/// To drop it is to answer [`Unavailable::Away`].
pub struct Reply {
    answer: Option<oneshot::Sender<Result<Answer, Unavailable>>>,
    wake: Option<Wake>,
    purge: Option<UnderWay>,
    _weight: Weight,
}

/// What an operation takes of the bound until it is answered.
struct Weight {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

/// The end of the cores.
pub(super) struct Entrance {
    sender: mpsc::Sender<Asked>,
    bytes: Arc<AtomicUsize>,
}

pub(super) fn queue() -> (Entrance, Queue) {
    let (sender, receiver) = mpsc::channel(OPERATIONS_MAX);
    (Entrance { sender, bytes: Arc::default() }, receiver)
}

impl Entrance {
    pub fn ask(
        &self,
        operation: Operation,
        purge: Option<UnderWay>,
        wake: Wake,
    ) -> Result<oneshot::Receiver<Result<Answer, Unavailable>>, Unavailable> {
        let weight = Weight::take(operation.bytes(), &self.bytes).ok_or(Unavailable::Full)?;
        let place = self.sender.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Unavailable::Full,
            mpsc::error::TrySendError::Closed(()) => Unavailable::Away,
        })?;
        let (answer, awaited) = oneshot::channel();
        let reply = Reply { answer: Some(answer), wake: Some(wake), purge, _weight: weight };
        place.send(Asked { operation, asked_at: Instant::now(), reply });
        Ok(awaited)
    }
}

impl Weight {
    fn take(bytes: usize, all: &Arc<AtomicUsize>) -> Option<Self> {
        let weight = Self { bytes, all: all.clone() };
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        (before + bytes <= BYTES_MAX).then_some(weight)
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Reply {
    pub fn send(mut self, answer: Result<Answer, Unavailable>) {
        if let Some(purge) = self.purge.take().filter(|_| answer.is_ok()) {
            purge.taken();
        }
        if let Some(sender) = self.answer.take() {
            // Whoever asked may have lost interest.
            let _ = sender.send(answer);
        }
    }
}

/// Wakes whoever waits when there is an answer, or when there will be none.
impl Drop for Reply {
    fn drop(&mut self) {
        drop(self.purge.take());
        drop(self.answer.take());
        if let Some(wake) = self.wake.take() {
            wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc as std_mpsc, time::Duration};

    use super::*;
    use crate::storage::{Key, State, Storage};

    fn put(bytes: usize) -> Operation {
        let value = vec![0; bytes].into();
        Operation::Put { key: Key::of(&[b"k"]), value, time_to_live: Duration::from_secs(1), marks: Default::default() }
    }

    #[test]
    fn the_queue_is_bounded_in_operations_and_bytes() {
        let (storage, mut queue) = Storage::new();
        storage.set_state(State::Here);
        let mut pending: Vec<_> = (0..64).map(|_| storage.ask(put(1 << 20), || ())).collect();
        assert_eq!(storage.ask(put(1), || ()).take(), Some(Err(Unavailable::Full)));
        assert!(pending.iter_mut().all(|pending| pending.take().is_none()));
        drop(queue.try_recv().expect("the first"));
        pending.push(storage.ask(put(1 << 20), || ()));
        pending.extend((64..OPERATIONS_MAX).map(|_| storage.ask(put(0), || ())));
        assert_eq!(storage.ask(put(0), || ()).take(), Some(Err(Unavailable::Full)));
    }

    #[test]
    fn whoever_waits_is_woken_by_an_answer_and_by_its_absence() {
        let (storage, mut queue) = Storage::new();
        storage.set_state(State::Here);
        let (wake, woken) = std_mpsc::channel();
        let ask = || {
            let wake = wake.clone();
            storage.ask(put(1), move || wake.send(()).expect("the test listens"))
        };
        let (mut answered, mut dropped) = (ask(), ask());
        queue.try_recv().expect("the first").reply.send(Ok(Answer::Done));
        assert!(woken.try_recv().is_ok());
        assert_eq!((answered.take(), answered.take()), (Some(Ok(Answer::Done)), None));
        assert_eq!(dropped.take(), None);
        drop(queue);
        assert!(woken.try_recv().is_ok());
        assert_eq!(dropped.take(), Some(Err(Unavailable::Away)));
        assert_eq!(ask().take(), Some(Err(Unavailable::Away)));
        assert!(woken.try_recv().is_err(), "an answer that is there at once wakes nobody");
    }

    #[test]
    fn what_is_away_or_too_large_is_not_asked() {
        let (storage, mut queue) = Storage::new();
        storage.set_state(State::Away);
        assert_eq!(storage.ask(put(1), || ()).take(), Some(Err(Unavailable::Away)));
        storage.set_state(State::Here);
        let large = put(crate::storage::VALUE_BYTES_MAX + 1);
        assert_eq!(storage.ask(large, || ()).take(), Some(Err(Unavailable::TooLarge)));
        assert!(queue.try_recv().is_err());
    }
}
