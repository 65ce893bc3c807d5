//! Values that replicas share, or that outlive their process: the same few operations in memory and in Redis.
//!
//! Whoever asks never waits for a thread. Memory answers within [`Storage::ask`]; what Redis is asked goes into a bounded queue
//! to the management thread, whose answer is looked for when the wake was called. Nothing is asked twice on the storage's own
//! account: an operation that got no answer may have been done.
//!
//! A purge names a *scope*, not keys, and costs the same however many values it ends: it changes the scope's mark. A value
//! keeps the marks that its scopes had when it was looked for, before it was made; whoever gets it compares. A purge that the
//! shared storage does not take is sent when it does, and until then nothing that depends on its scope is found there.
//!
//! ```
//! use ringway::storage::{Answer, Key, Operation, Storage};
//!
//! let (storage, _queue) = Storage::new();
//! let (key, scope) = (Key::of(&[b"cache", b"/orders"]), Key::of(&[b"cache"]));
//! let get = Operation::Get { key: key.clone(), scopes: vec![scope.clone()] };
//! let Some(Ok(Answer::Found { value: None, marks })) = storage.ask(get.clone(), || ()).take() else { panic!() };
//! let time_to_live = std::time::Duration::from_secs(60);
//! storage.ask(Operation::Put { key, value: "made meanwhile".into(), time_to_live, marks }, || ());
//! storage.ask(Operation::Purge { whole: scope.clone(), scope, time_to_live }, || ());
//! assert!(matches!(storage.ask(get, || ()).take(), Some(Ok(Answer::Found { value: None, .. }))));
//! ```

mod key;
mod memory;
mod queue;
mod unsent;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::sync::oneshot;

pub use self::{
    key::Key,
    queue::{Asked, Queue, Reply},
    unsent::Late,
};
use self::{memory::Memory, queue::Entrance, unsent::Unsent};

/// Of one value: the largest body of a cache and what is kept with it.
pub const VALUE_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// That one value may depend on.
pub const SCOPES_MAX: usize = 2;
/// How long anybody should wait for an answer; what comes later is not given.
pub const WAIT_MAX: Duration = Duration::from_millis(250);

/// What the storage is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Answer::Found`]. What depends on a scope is found only where it was put with the mark that the scope has now.
    Get { key: Key, scopes: Vec<Key> },
    /// [`Answer::Done`]. `marks` are those of the `Get` that found nothing, so that what was purged since then is not found.
    Put { key: Key, value: Bytes, time_to_live: Duration, marks: Marks },
    /// [`Answer::Done`], whether it was there or not.
    Delete { key: Key },
    /// [`Answer::Added`]: a lock. Of all that add one key, one is told true, until its time is over or it is released.
    Add { key: Key, value: Bytes, time_to_live: Duration },
    /// [`Answer::Done`]: takes away what was added, where it is still this value.
    Release { key: Key, value: Bytes },
    /// [`Answer::Done`]: whatever depends on the scope is gone, for every replica. `time_to_live` is the longest that any value
    /// of the scope was put with; the mark is kept for as long. Whatever depends on the scope depends on `whole` too, which is
    /// purged in its place where too many wait to be sent. No answer is needed: it is sent again until there is one.
    Purge { scope: Key, whole: Key, time_to_live: Duration },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Found { value: Option<Bytes>, marks: Marks },
    Done,
    Added(bool),
}

/// The marks of the scopes of a `Get`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub(crate) Vec<u64>);

/// Why there is no answer. The operation may have been done all the same, except where it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Too much is waiting to be sent; it was not done.
    Full,
    /// No connection; where it was lost meanwhile, it may have been done.
    Away,
    /// There was none in [`WAIT_MAX`].
    Late,
    /// The storage refused it; the log says how.
    Refused,
    /// More than [`VALUE_BYTES_MAX`] or [`SCOPES_MAX`]; it was not done.
    TooLarge,
}

impl Unavailable {
    /// A metric's label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Away => "away",
            Self::Late => "late",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
        }
    }
}

/// Where values are kept at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// In this process: no shared storage is configured.
    Memory,
    /// In a shared storage that cannot be reached.
    Away,
    Here,
}

/// What a replica must look at again, since another has purged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purged {
    Scope(Key),
    /// Nobody knows what was purged meanwhile.
    Everything,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Away => "away",
            Self::Here => "here",
        }
    }
}

type Listener = Box<dyn Fn(&Purged) + Send + Sync>;

/// One per replica; all cores ask it. It outlives configurations, and so do what it keeps in memory and who listens.
pub struct Storage {
    memory: Memory,
    entrance: Entrance,
    state: AtomicU8,
    unsent: Arc<Unsent>,
    listeners: Mutex<Vec<Listener>>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// An answer that may still be on its way. To drop it is to take no interest in it any more.
#[derive(Debug)]
pub struct Pending(Coming);

#[derive(Debug)]
enum Coming {
    Here(Option<Result<Answer, Unavailable>>),
    Awaited(oneshot::Receiver<Result<Answer, Unavailable>>),
}

impl Storage {
    /// In memory, until it is told that there is something else; the queue is for whoever speaks with that.
    pub fn new() -> (Arc<Self>, Queue) {
        let (entrance, queue) = queue::queue();
        let storage = Self {
            memory: Memory::new(memory::BYTES_MAX),
            entrance,
            state: AtomicU8::new(State::Memory as u8),
            unsent: Arc::default(),
            listeners: Mutex::default(),
        };
        (Arc::new(storage), queue)
    }

    /// `wake` is called, on some thread, when there is an answer to take; where there is one at once, it is not.
    pub fn ask(&self, operation: Operation, wake: impl FnOnce() + Send + 'static) -> Pending {
        if !operation.is_in_bounds() {
            return Pending::here(Err(Unavailable::TooLarge));
        }
        let state = self.state();
        if state == State::Memory {
            return Pending::here(Ok(self.memory.answer(operation)));
        }
        let purge = match &operation {
            Operation::Purge { scope, whole, time_to_live } => {
                Some(self.unsent.begin(scope.clone(), whole.clone(), *time_to_live))
            }
            _ => None,
        };
        if state == State::Away || self.is_barred(&operation) {
            return Pending::here(Err(Unavailable::Away));
        }
        match self.entrance.ask(operation, purge, Box::new(wake)) {
            Ok(answer) => Pending(Coming::Awaited(answer)),
            Err(why) => Pending::here(Err(why)),
        }
    }

    /// Whether the shared storage may have what was purged, and not know it. To be asked again when there is an answer.
    pub fn is_barred(&self, operation: &Operation) -> bool {
        matches!(operation, Operation::Get { scopes, .. } if self.unsent.bars(scopes))
    }

    /// Purges that the shared storage has not taken when they were asked for: for whoever speaks with it, before it is there.
    pub fn late_purges(&self) -> Vec<Late> {
        self.unsent.late()
    }

    /// It has taken this one now.
    pub fn sent(&self, late: &Late) {
        self.unsent.sent(late);
    }

    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            state if state == State::Here as u8 => State::Here,
            state if state == State::Away as u8 => State::Away,
            _ => State::Memory,
        }
    }

    /// For whoever speaks with the shared storage.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Has the listener called, on the management thread, for each purge of another replica: within a second. It must not block.
    pub fn on_purge(&self, listener: impl Fn(&Purged) + Send + Sync + 'static) {
        self.listeners().push(Box::new(listener));
    }

    /// For whoever hears of purges.
    pub fn purged(&self, purged: &Purged) {
        self.listeners().iter().for_each(|listener| listener(purged));
    }

    /// Whether anybody would be told of purges.
    pub fn hears_of_purges(&self) -> bool {
        !self.listeners().is_empty()
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn here(answer: Result<Answer, Unavailable>) -> Self {
        Self(Coming::Here(Some(answer)))
    }

    /// The answer, once; `None` while there is none, and when it was taken.
    pub fn take(&mut self) -> Option<Result<Answer, Unavailable>> {
        match &mut self.0 {
            Coming::Here(answer) => answer.take(),
            Coming::Awaited(answer) => {
                let answer = match answer.try_recv() {
                    Ok(answer) => answer,
                    Err(oneshot::error::TryRecvError::Empty) => return None,
                    Err(oneshot::error::TryRecvError::Closed) => Err(Unavailable::Away),
                };
                self.0 = Coming::Here(None);
                Some(answer)
            }
        }
    }
}

impl Operation {
    fn is_in_bounds(&self) -> bool {
        match self {
            Self::Get { scopes, .. } => scopes.len() <= SCOPES_MAX,
            Self::Put { value, marks, .. } => value.len() <= VALUE_BYTES_MAX && marks.0.len() <= SCOPES_MAX,
            Self::Add { value, .. } | Self::Release { value, .. } => value.len() <= VALUE_BYTES_MAX,
            Self::Delete { .. } | Self::Purge { .. } => true,
        }
    }

    /// What it takes in the queue.
    fn bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } | Self::Add { value, .. } | Self::Release { value, .. } => value.len(),
            Self::Get { .. } | Self::Delete { .. } | Self::Purge { .. } => 0,
        }
    }
}

/// A mark that no other purge has, here or on another replica.
pub fn new_mark() -> u64 {
    RandomState::new().hash_one(SystemTime::now()).max(1)
}
