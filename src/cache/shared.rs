//! What a partition has to do with the storage that replicas share: names of its values, and purges in both directions.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Partition,
    entry::Entry,
    record,
    vary::{Request, said},
};
use crate::storage::{Key, Marks, Operation, Pending, Purged, State, Storage};

const ENTRIES: &[u8] = b"cache";
const LOCKS: &[u8] = b"cache-lock";

/// A lock ends by itself, for those whose replica has gone.
pub const LOCK_TIME: Duration = Duration::from_secs(5);

/// One policy's place in the storage.
#[derive(Debug)]
pub struct Shared {
    storage: Arc<Storage>,
    /// Of the policy: the same on all replicas that have its configuration.
    identity: String,
    /// The longest that an entry is kept.
    ttl: Duration,
    /// Replicas wait for each other.
    pub locks: bool,
}

/// That this replica asks the upstream for a key, until this is dropped.
pub struct Locked {
    shared: Arc<Shared>,
    key: Key,
    token: Bytes,
}

impl Shared {
    pub fn new(storage: Arc<Storage>, identity: u64, ttl: Duration, locks: bool) -> Self {
        // Redis takes no time of nought.
        let ttl = ttl.max(Duration::from_secs(1));
        Self { storage, identity: format!("{identity:016x}"), ttl, locks }
    }

    /// Whether there is somebody to ask.
    pub fn is_here(&self) -> bool {
        self.storage.state() == State::Here
    }

    /// Asks for what lies under a key. The operation is over when `wake` is called, or at once.
    pub fn get(&self, key: &[u8], wake: impl FnOnce() + Send + 'static) -> Pending {
        let get = Operation::Get { key: self.name(key), scopes: vec![self.scope(), self.name(key)] };
        self.storage.ask(get, wake)
    }

    /// The same of the variant for this request, of a key that varies by these fields.
    pub fn get_variant(
        &self,
        key: &[u8],
        names: &[Box<[u8]>],
        request: Request<'_>,
        wake: impl FnOnce() + Send + 'static,
    ) -> Pending {
        let said: Vec<_> = names.iter().map(|name| said(request, name)).collect();
        let variant = self.variant(key, names.iter().zip(&said).map(|(name, said)| (&**name, said.as_deref())));
        self.storage.ask(Operation::Get { key: variant, scopes: vec![self.scope(), self.name(key)] }, wake)
    }

    /// Nobody waits for it. `marks` are those of the `get` before.
    pub fn put(&self, key: &[u8], entry: &Entry, marks: Marks) {
        let put = |key, value: Vec<u8>| {
            let put = Operation::Put { key, value: value.into(), time_to_live: self.ttl, marks: marks.clone() };
            self.storage.ask(put, || ());
        };
        match record::encode_index(entry) {
            None => put(self.name(key), record::encode(entry)),
            Some(index) => {
                put(self.variant(key, entry.selection.parts()), record::encode(entry));
                put(self.name(key), index);
            }
        }
    }

    /// Whether this replica is the one that asks the upstream for the key.
    pub fn lock(self: &Arc<Self>, key: &[u8], token: u128, wake: impl FnOnce() + Send + 'static) -> (Pending, Locked) {
        let locked = Locked {
            shared: self.clone(),
            key: Key::of(&[LOCKS, self.identity.as_bytes(), key]),
            token: Bytes::copy_from_slice(&token.to_be_bytes()),
        };
        let add = Operation::Add { key: locked.key.clone(), value: locked.token.clone(), time_to_live: LOCK_TIME };
        (self.storage.ask(add, wake), locked)
    }

    /// Tells the other replicas that a key, or everything, is to be forgotten.
    pub fn purge(&self, key: Option<&[u8]>) {
        let scope = key.map_or_else(|| self.scope(), |key| self.name(key));
        self.storage.ask(Operation::Purge { scope, whole: self.scope(), time_to_live: self.ttl }, || ());
    }

    /// Another replica has purged something: what this policy has of it goes.
    pub fn hear(&self, purged: &Purged, partition: &Partition) {
        match purged {
            Purged::Everything => {
                partition.clear_here();
            }
            Purged::Scope(scope) if *scope == self.scope() => {
                partition.clear_here();
            }
            Purged::Scope(scope) => {
                let prefix = self.name(b"");
                match scope.as_bytes().strip_prefix(prefix.as_bytes()) {
                    Some(key) => {
                        partition.invalidate_here(key);
                    }
                    // One that is too long to be told by its name.
                    None if scope.as_bytes().starts_with(b"#") => {
                        partition.invalidate_where(|key| self.name(key) == *scope)
                    }
                    None => {}
                }
            }
        }
    }

    fn scope(&self) -> Key {
        Key::of(&[b"cache-all", self.identity.as_bytes()])
    }

    fn name(&self, key: &[u8]) -> Key {
        Key::of(&[ENTRIES, self.identity.as_bytes(), key])
    }

    fn variant<'v>(&self, key: &[u8], said: impl Iterator<Item = (&'v [u8], Option<&'v [u8]>)>) -> Key {
        let mut parts = vec![&b"cache-variant"[..], self.identity.as_bytes(), key];
        for (name, value) in said {
            parts.push(name);
            match value {
                Some(value) => parts.extend([&b"1"[..], value]),
                None => parts.push(b"0"),
            }
        }
        Key::of(&parts)
    }
}

/// That nobody waits for the lock any more: it was not got, or is not needed.
impl Drop for Locked {
    fn drop(&mut self) {
        let release = Operation::Release { key: self.key.clone(), value: self.token.clone() };
        self.shared.storage.ask(release, || ());
    }
}
