//! The operations in this process' memory: where no shared storage is configured, and lost with the process.
//!
//! One lock for all: who needs more speed than that keeps what it has found. What was put first goes first where there is no
//! room.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;

use super::{Answer, Key, Marks, Operation, new_mark};

/// Of keys and values together.
pub const BYTES_MAX: usize = 256 << 20;
/// What an entry takes beside its key, twice, and its value.
const ENTRY_BYTES: usize = 160;

pub struct Memory {
    bytes_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// The key of each entry that was put, with its number: an entry that was replaced has a later one.
    oldest_first: VecDeque<(u64, Key)>,
    next: u64,
    bytes: usize,
}

struct Entry {
    number: u64,
    value: Bytes,
    marks: Marks,
    until: Instant,
}

/// Values, locks and marks do not meet.
fn key_of(kind: u8, key: &Key) -> Key {
    Key::from_bytes(&[&[kind], key.as_bytes()].concat())
}

impl Memory {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, entries: Mutex::default() }
    }

    pub fn answer(&self, operation: Operation) -> Answer {
        self.answer_at(operation, Instant::now())
    }

    fn answer_at(&self, operation: Operation, now: Instant) -> Answer {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match operation {
            Operation::Get { key, scopes } => entries.get(&key, &scopes, now),
            Operation::Put { key, value, time_to_live, marks } => {
                entries.put(key_of(b'v', &key), value, marks, now + time_to_live);
                Answer::Done
            }
            Operation::Delete { key } => {
                entries.remove(&key_of(b'v', &key));
                Answer::Done
            }
            Operation::Add { key, value, time_to_live } => {
                let key = key_of(b'l', &key);
                let is_free = entries.at(&key, now).is_none();
                if is_free {
                    entries.put(key, value, Marks::default(), now + time_to_live);
                }
                Answer::Added(is_free)
            }
            Operation::Release { key, value } => {
                let key = key_of(b'l', &key);
                if entries.at(&key, now).is_some_and(|entry| entry.value == value) {
                    entries.remove(&key);
                }
                Answer::Done
            }
            Operation::Purge { scope, time_to_live, .. } => {
                let mark = Bytes::copy_from_slice(&new_mark().to_be_bytes());
                entries.put(key_of(b's', &scope), mark, Marks::default(), now + time_to_live);
                Answer::Done
            }
        };
        entries.make_room(self.bytes_max, now);
        answer
    }
}

impl Entries {
    fn at(&self, key: &Key, now: Instant) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| entry.until > now)
    }

    fn get(&self, key: &Key, scopes: &[Key], now: Instant) -> Answer {
        let mark = |scope: &Key| {
            let entry = self.at(&key_of(b's', scope), now)?;
            entry.value.as_ref().try_into().ok().map(u64::from_be_bytes)
        };
        let marks = Marks(scopes.iter().map(|scope| mark(scope).unwrap_or_default()).collect());
        let found = self.at(&key_of(b'v', key), now).filter(|entry| entry.marks == marks);
        Answer::Found { value: found.map(|entry| entry.value.clone()), marks }
    }

    fn put(&mut self, key: Key, value: Bytes, marks: Marks, until: Instant) {
        self.remove(&key);
        self.next += 1;
        self.bytes += size(&key, &value);
        self.oldest_first.push_back((self.next, key.clone()));
        self.by_key.insert(key, Entry { number: self.next, value, marks, until });
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.bytes -= size(key, &entry.value);
        }
    }

    fn make_room(&mut self, bytes_max: usize, now: Instant) {
        while let Some((number, key)) = self.oldest_first.front() {
            let entry = self.by_key.get(key).filter(|entry| entry.number == *number);
            // Those that are gone leave their place in the line, which is taken away here.
            let stays = entry.is_some_and(|entry| entry.until > now) && self.bytes <= bytes_max;
            if stays {
                break;
            }
            let is_there = entry.is_some();
            let (_, key) = self.oldest_first.pop_front().expect("it was just looked at");
            if is_there {
                self.remove(&key);
            }
        }
        // Entries that are put again and again would let the line grow.
        if self.oldest_first.len() > 2 * self.by_key.len() + 1024 {
            let by_key = &self.by_key;
            self.oldest_first.retain(|(number, key)| by_key.get(key).is_some_and(|entry| entry.number == *number));
        }
    }
}

fn size(key: &Key, value: &Bytes) -> usize {
    2 * key.as_bytes().len() + value.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn key(name: &str) -> Key {
        Key::of(&[name.as_bytes()])
    }

    fn put(memory: &Memory, name: &str, bytes: usize, time_to_live: Duration, now: Instant) {
        let value = vec![b'x'; bytes].into();
        memory.answer_at(Operation::Put { key: key(name), value, time_to_live, marks: Marks::default() }, now);
    }

    fn has(memory: &Memory, name: &str, now: Instant) -> bool {
        let get = Operation::Get { key: key(name), scopes: Vec::new() };
        matches!(memory.answer_at(get, now), Answer::Found { value: Some(_), .. })
    }

    #[test]
    fn what_was_put_first_goes_first_where_there_is_no_room() {
        let (memory, now) = (Memory::new(10_000), Instant::now());
        for name in ["a", "b", "c"] {
            put(&memory, name, 3000, LONG, now);
        }
        put(&memory, "a", 3000, LONG, now);
        put(&memory, "d", 3000, LONG, now);
        let there: Vec<bool> = ["a", "b", "c", "d"].iter().map(|name| has(&memory, name, now)).collect();
        assert_eq!(there, [true, false, true, true]);
        put(&memory, "large", 10_000, LONG, now);
        assert!(!has(&memory, "large", now) && !has(&memory, "d", now), "what has no room leaves none behind");
        assert_eq!(memory.entries.lock().expect("nobody panics").bytes, 0);
    }

    #[test]
    fn a_value_lives_as_long_as_it_was_given() {
        let (memory, now) = (Memory::new(10_000), Instant::now());
        put(&memory, "a", 1, LONG, now);
        assert!(has(&memory, "a", now + LONG - Duration::from_nanos(1)));
        assert!(!has(&memory, "a", now + LONG));
        assert_eq!(memory.entries.lock().expect("nobody panics").bytes, 0, "and takes no room then");
    }

    #[test]
    fn a_key_that_is_put_again_and_again_takes_no_more_room() {
        let (memory, now) = (Memory::new(1 << 20), Instant::now());
        put(&memory, "first", 1, LONG, now);
        for _ in 0..10_000 {
            put(&memory, "again", 1, LONG, now);
        }
        assert!(memory.entries.lock().expect("nobody panics").oldest_first.len() < 2000);
        assert!(has(&memory, "first", now));
    }
}
