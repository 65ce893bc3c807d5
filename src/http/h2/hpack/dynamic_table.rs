//! The dynamic table (RFC 7541 section 2.3.2): the youngest fields, of either direction.
//!
//! The bytes of all entries lie in one ring, name before value, so an entry costs no allocation and eviction is moving a
//! number. The ring grows with its use up to the table's size and never beyond.

use std::collections::VecDeque;

use super::{ENTRY_OVERHEAD, TABLE_SIZE, kind::Kind};

const RING_BYTES_MIN: usize = 512;

#[derive(Default)]
pub struct DynamicTable {
    ring: Vec<u8>,
    /// Where the next entry begins.
    write_at: usize,
    /// The youngest at the front.
    entries: VecDeque<Entry>,
    /// Bytes of all entries with their overhead; at most `max`.
    size: usize,
    max: usize,
    /// How many entries there have been; wraps.
    inserted: u32,
}

#[derive(Clone, Copy)]
pub struct Entry {
    at: u16,
    pub name_len: u16,
    pub value_len: u16,
    pub kind: Kind,
    pub value_is_legal: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        usize::from(self.name_len) + usize::from(self.value_len)
    }
}

impl DynamicTable {
    pub fn new() -> Self {
        Self { max: TABLE_SIZE, ..Self::default() }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// The size that both ends agreed on; at most `TABLE_SIZE`.
    pub fn set_max(&mut self, max: usize) {
        debug_assert!(max <= TABLE_SIZE);
        self.max = max;
        self.evict_to(max);
    }

    /// How many entries there have been: the identity of the next one.
    pub fn inserted(&self) -> u32 {
        self.inserted
    }

    /// The youngest is 0.
    pub fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// Appends an entry's name and value.
    #[inline]
    pub fn copy(&self, entry: &Entry, out: &mut Vec<u8>) {
        self.copy_range(usize::from(entry.at), entry.bytes(), out);
    }

    /// Appends an entry's name.
    pub fn copy_name(&self, entry: &Entry, out: &mut Vec<u8>) {
        self.copy_range(usize::from(entry.at), usize::from(entry.name_len), out);
    }

    #[inline]
    fn copy_range(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        let behind = &self.ring[at..];
        if let Some(whole) = behind.get(..len) {
            out.extend_from_slice(whole);
        } else {
            out.extend_from_slice(behind);
            out.extend_from_slice(&self.ring[..len - behind.len()]);
        }
    }

    pub fn has_name(&self, entry: &Entry, name: &[u8]) -> bool {
        name.len() == usize::from(entry.name_len) && self.has_bytes(usize::from(entry.at), name)
    }

    pub fn is(&self, entry: &Entry, name: &[u8], value: &[u8]) -> bool {
        value.len() == usize::from(entry.value_len)
            && self.has_name(entry, name)
            && self.has_bytes(self.wrapped(usize::from(entry.at) + name.len()), value)
    }

    fn has_bytes(&self, at: usize, bytes: &[u8]) -> bool {
        let behind = &self.ring[at..];
        match behind.get(..bytes.len()) {
            Some(whole) => whole == bytes,
            None => {
                let (first, second) = bytes.split_at(behind.len());
                behind == first && &self.ring[..second.len()] == second
            }
        }
    }

    /// Adds an entry and evicts the oldest for it. One that is larger than the table empties it (RFC 7541 section 4.4).
    pub fn insert(&mut self, name: &[u8], value: &[u8], kind: Kind, value_is_legal: bool) {
        let bytes = name.len() + value.len();
        let size = bytes + ENTRY_OVERHEAD;
        if size > self.max {
            self.evict_to(0);
            return;
        }
        self.evict_to(self.max - size);
        let held = self.size - self.entries.len() * ENTRY_OVERHEAD;
        if held + bytes > self.ring.len() {
            self.grow(held, held + bytes);
        }
        let at = self.write_at;
        self.write(name);
        self.write(value);
        let (name_len, value_len) = (name.len() as u16, value.len() as u16);
        self.entries.push_front(Entry { at: at as u16, name_len, value_len, kind, value_is_legal });
        self.size += size;
        self.inserted = self.inserted.wrapping_add(1);
    }

    fn write(&mut self, bytes: &[u8]) {
        let (first, second) = bytes.split_at(bytes.len().min(self.ring.len() - self.write_at));
        self.ring[self.write_at..][..first.len()].copy_from_slice(first);
        self.ring[..second.len()].copy_from_slice(second);
        self.write_at = self.wrapped(self.write_at + bytes.len());
    }

    /// `at` is less than twice the ring.
    fn wrapped(&self, at: usize) -> usize {
        if at < self.ring.len() { at } else { at - self.ring.len() }
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let oldest = self.entries.pop_back().expect("a table that is not empty has entries");
            self.size -= oldest.bytes() + ENTRY_OVERHEAD;
        }
    }

    /// Moves the `held` bytes of all entries to the beginning of a ring with room for `wanted`.
    fn grow(&mut self, held: usize, wanted: usize) {
        let mut larger = Vec::with_capacity(wanted.next_power_of_two().clamp(RING_BYTES_MIN, TABLE_SIZE));
        if let Some(oldest) = self.entries.back() {
            self.copy_range(usize::from(oldest.at), held, &mut larger);
        }
        let mut at = 0;
        for entry in self.entries.iter_mut().rev() {
            entry.at = at;
            at += entry.name_len + entry.value_len;
        }
        larger.resize(larger.capacity().min(TABLE_SIZE), 0);
        self.write_at = held;
        self.ring = larger;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a table that is a list of strings.
        #[test]
        fn holds_what_the_simplest_table_holds(
            steps in proptest::collection::vec((0usize..60, 0usize..900, any::<u8>(), proptest::option::of(0usize..=TABLE_SIZE)), 0..60),
        ) {
            let mut table = DynamicTable::new();
            let mut simple: VecDeque<(Vec<u8>, Vec<u8>)> = VecDeque::new();
            let mut max = TABLE_SIZE;
            let size = |simple: &VecDeque<(Vec<u8>, Vec<u8>)>| {
                simple.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>()
            };
            for (name_len, value_len, byte, resized) in steps {
                let (name, value) = (vec![byte; name_len], vec![byte.wrapping_add(1); value_len]);
                table.insert(&name, &value, Kind::BadName, true);
                simple.push_front((name, value));
                while size(&simple) > max {
                    simple.pop_back();
                }
                if let Some(resized) = resized {
                    max = resized;
                    table.set_max(max);
                    while size(&simple) > max {
                        simple.pop_back();
                    }
                }
                prop_assert_eq!(table.size, size(&simple));
                prop_assert_eq!(table.entries.len(), simple.len());
                prop_assert!(table.ring.len() <= TABLE_SIZE);
                for (index, (name, value)) in simple.iter().enumerate() {
                    let entry = table.get(index).unwrap();
                    let mut out = Vec::new();
                    table.copy(entry, &mut out);
                    prop_assert_eq!(&out, &[&name[..], &value[..]].concat());
                    prop_assert!(table.is(entry, name, value));
                    prop_assert!(value.is_empty() || !table.is(entry, name, &value[1..]));
                    out.clear();
                    table.copy_name(entry, &mut out);
                    prop_assert_eq!(&out, name);
                }
            }
        }
    }
}
