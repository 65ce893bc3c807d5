//! Header blocks, written.
//!
//! A field enters the table when it comes for the second time within a while: a date or a request id that comes once
//! would push out what comes again. How the table is searched may forget (one slot per hash) but never lies: what a slot
//! names is compared.

use super::{
    ENTRY_OVERHEAD, TABLE_SIZE,
    dynamic_table::DynamicTable,
    hash::{hash, hash_on},
    huffman, integer,
    kind::Kind,
    static_table,
};

const SLOTS: usize = 128;
const SEEN: usize = 32;

/// First bits of the representations of RFC 7541 section 6, and how many bits of an index share the byte.
const INDEXED: (u8, u8) = (0x80, 7);
const WITH_INDEXING: (u8, u8) = (0x40, 6);
const WITHOUT_INDEXING: (u8, u8) = (0x00, 4);
const NEVER_INDEXED: (u8, u8) = (0x10, 4);
const SIZE_UPDATE: (u8, u8) = (0x20, 5);

pub struct Encoder {
    table: DynamicTable,
    /// Made with the first entry: many connections carry one request.
    search: Option<Box<Search>>,
    /// Hashes of the last fields and names that were spelled out.
    seen: [u32; SEEN],
    seen_at: usize,
    /// What the peer's settings have done to the table since the last block: the smallest size, and the last.
    resized: Option<(usize, usize)>,
}

/// Hash and identity of an entry, by the hash of its field and by that of its name.
struct Search {
    fields: [(u32, u32); SLOTS],
    names: [(u32, u32); SLOTS],
}

impl Encoder {
    pub fn new() -> Self {
        Self { table: DynamicTable::new(), search: None, seen: [0; SEEN], seen_at: 0, resized: None }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. We use no more than the default even where it allows more.
    pub fn set_max(&mut self, announced: u32) {
        let max = (announced as usize).min(TABLE_SIZE);
        let smallest = self.resized.map_or(max, |(smallest, _)| smallest.min(max));
        self.resized = Some((smallest, max)).filter(|&(smallest, _)| smallest != self.table.max());
    }

    /// Comes before a block's first field.
    pub fn begin_block(&mut self, out: &mut Vec<u8>) {
        let Some((smallest, last)) = self.resized.take() else { return };
        self.table.set_max(smallest);
        integer::encode(out, SIZE_UPDATE.0, SIZE_UPDATE.1, smallest);
        if last != smallest {
            self.table.set_max(last);
            integer::encode(out, SIZE_UPDATE.0, SIZE_UPDATE.1, last);
        }
    }

    /// The name is in lower case.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        debug_assert!(!name.iter().any(u8::is_ascii_uppercase));
        let hash = hash(name);
        let static_name = static_table::find(name, hash);
        self.write(out, static_name, name, hash, value);
    }

    pub fn status(&mut self, out: &mut Vec<u8>, status: u16) {
        if let Some(index) = static_table::status(status) {
            return integer::encode(out, INDEXED.0, INDEXED.1, index);
        }
        let digit = |number: u16| b'0' + (number % 10) as u8;
        self.field(out, b":status", &[digit(status / 100), digit(status / 10), digit(status)]);
    }

    fn write(&mut self, out: &mut Vec<u8>, static_name: Option<usize>, name: &[u8], name_hash: u32, value: &[u8]) {
        if let Some(index) = static_name {
            if static_table::is_sensitive(index) {
                return literal(out, NEVER_INDEXED, index, name, value);
            }
            if let Some(index) = static_table::find_value(index, value) {
                return integer::encode(out, INDEXED.0, INDEXED.1, index);
            }
        }
        let field_hash = hash_on(name_hash, value);
        let mut name_index = static_name;
        if let Some(search) = &self.search {
            if let Some(index) = self.live(search.fields[slot(field_hash)], field_hash)
                && self.table.get(index).is_some_and(|entry| self.table.is(entry, name, value))
            {
                return integer::encode(out, INDEXED.0, INDEXED.1, static_table::LEN + 1 + index);
            }
            if name_index.is_none()
                && let Some(index) = self.live(search.names[slot(name_hash)], name_hash)
                && self.table.get(index).is_some_and(|entry| self.table.has_name(entry, name))
            {
                name_index = Some(static_table::LEN + 1 + index);
            }
        }
        // A name that must be spelled out each time is worth an entry too.
        let repeats = self.repeats(field_hash) | (name_index.is_none() && self.repeats(name_hash));
        let fits = name.len() + value.len() + ENTRY_OVERHEAD <= self.table.max() / 2;
        if !repeats || !fits {
            return literal(out, WITHOUT_INDEXING, name_index.unwrap_or(0), name, value);
        }
        literal(out, WITH_INDEXING, name_index.unwrap_or(0), name, value);
        let identity = self.table.inserted();
        self.table.insert(name, value, Kind::BadName, true);
        let search = self.search.get_or_insert_with(Search::empty);
        search.fields[slot(field_hash)] = (field_hash, identity);
        search.names[slot(name_hash)] = (name_hash, identity);
    }

    /// Which entry a slot means, if it is still there.
    #[inline]
    fn live(&self, (hash, identity): (u32, u32), wanted: u32) -> Option<usize> {
        let age = self.table.inserted().wrapping_sub(identity).wrapping_sub(1);
        (hash == wanted).then_some(age as usize)
    }

    fn repeats(&mut self, hash: u32) -> bool {
        if self.seen.contains(&hash) {
            return true;
        }
        self.seen[self.seen_at] = hash;
        self.seen_at = (self.seen_at + 1) % SEEN;
        false
    }
}

impl Search {
    fn empty() -> Box<Self> {
        Box::new(Self { fields: [(0, 0); SLOTS], names: [(0, 0); SLOTS] })
    }
}

fn literal(out: &mut Vec<u8>, (flags, bits): (u8, u8), name_index: usize, name: &[u8], value: &[u8]) {
    integer::encode(out, flags, bits, name_index);
    if name_index == 0 {
        text(out, name);
    }
    text(out, value);
}

/// Huffman-coded where that is shorter.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    const HUFFMAN: u8 = 0x80;
    let len = huffman::encoded_len(text);
    if len < text.len() {
        integer::encode(out, HUFFMAN, 7, len);
        huffman::encode(text, out);
    } else {
        integer::encode(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

#[inline]
fn slot(hash: u32) -> usize {
    hash as usize % SLOTS
}

#[cfg(test)]
mod tests;
