//! Header blocks, read field by field.
//!
//! A block may come in pieces that end anywhere. A representation is decoded when all of it is there, and not looked into
//! before: until then only its two lengths are read.

use super::{
    Broken, TABLE_SIZE,
    dynamic_table::DynamicTable,
    huffman, integer,
    kind::{Kind, is_value},
    static_table,
};

/// RFC 7541 section 4.2: the smallest size that was set meanwhile, and the last one.
const SIZE_UPDATES_MAX: u8 = 2;

pub struct Decoder {
    table: DynamicTable,
    /// How many size updates may still come. None behind a block's first field.
    size_updates: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Field(Decoded),
    /// The first `consumed` bytes are done with; what follows is not complete.
    NeedMore {
        consumed: usize,
    },
}

/// A field: its name and its value were appended, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub consumed: usize,
    pub name_len: usize,
    pub value_len: usize,
    pub kind: Kind,
    pub value_is_legal: bool,
}

impl Decoder {
    pub fn new() -> Self {
        Self { table: DynamicTable::new(), size_updates: 0 }
    }

    pub fn begin_block(&mut self) {
        self.size_updates = SIZE_UPDATES_MAX;
    }

    /// Decodes the first field of `input` behind what is in `out`.
    #[inline]
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, Broken> {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let Some(&first) = rest.first() else { return Ok(Step::NeedMore { consumed: at }) };
            let decoded = if first & 0x80 != 0 {
                self.indexed(rest, out)?
            } else if first & 0xe0 == 0x20 {
                match self.size_update(rest)? {
                    Some(len) => at += len,
                    None => return Ok(Step::NeedMore { consumed: at }),
                }
                continue;
            } else {
                self.literal(rest, out)?
            };
            let Some(mut decoded) = decoded else { return Ok(Step::NeedMore { consumed: at }) };
            decoded.consumed += at;
            self.size_updates = 0;
            return Ok(Step::Field(decoded));
        }
    }

    #[inline]
    fn indexed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<Decoded>, Broken> {
        let Some((index, consumed)) = integer::decode(input, 7)? else { return Ok(None) };
        let index = index as usize;
        if let Some(&(name, value, kind)) = static_table::get(index) {
            out.extend_from_slice(name);
            out.extend_from_slice(value);
            let (name_len, value_len) = (name.len(), value.len());
            return Ok(Some(Decoded { consumed, name_len, value_len, kind, value_is_legal: true }));
        }
        let entry = self.table.get(index.wrapping_sub(static_table::LEN + 1)).ok_or(Broken)?;
        self.table.copy(entry, out);
        Ok(Some(Decoded {
            consumed,
            name_len: usize::from(entry.name_len),
            value_len: usize::from(entry.value_len),
            kind: entry.kind,
            value_is_legal: entry.value_is_legal,
        }))
    }

    fn literal(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Option<Decoded>, Broken> {
        let with_indexing = input[0] & 0x40 != 0;
        let Some((index, mut at)) = integer::decode(input, if with_indexing { 6 } else { 4 })? else {
            return Ok(None);
        };
        let name = match index {
            0 => {
                let Some(name) = Text::find(input, &mut at)? else { return Ok(None) };
                Some(name)
            }
            _ => None,
        };
        let Some(value) = Text::find(input, &mut at)? else { return Ok(None) };

        let start = out.len();
        let kind = match name {
            Some(name) => {
                name.decode(out)?;
                Kind::of(&out[start..])
            }
            None => self.name(index as usize, out)?,
        };
        let value_at = out.len();
        value.decode(out)?;
        let value_is_legal = is_value(&out[value_at..]);
        if with_indexing {
            self.table.insert(&out[start..value_at], &out[value_at..], kind, value_is_legal);
        }
        let (name_len, value_len) = (value_at - start, out.len() - value_at);
        Ok(Some(Decoded { consumed: at, name_len, value_len, kind, value_is_legal }))
    }

    fn name(&self, index: usize, out: &mut Vec<u8>) -> Result<Kind, Broken> {
        if let Some(&(name, _, kind)) = static_table::get(index) {
            out.extend_from_slice(name);
            return Ok(kind);
        }
        let entry = self.table.get(index.wrapping_sub(static_table::LEN + 1)).ok_or(Broken)?;
        self.table.copy_name(entry, out);
        Ok(entry.kind)
    }

    fn size_update(&mut self, input: &[u8]) -> Result<Option<usize>, Broken> {
        let Some((size, consumed)) = integer::decode(input, 5)? else { return Ok(None) };
        self.size_updates = self.size_updates.checked_sub(1).ok_or(Broken)?;
        if size as usize > TABLE_SIZE {
            return Err(Broken);
        }
        self.table.set_max(size as usize);
        Ok(Some(consumed))
    }
}

/// A string literal (RFC 7541 section 5.2), all of it there.
struct Text<'a> {
    is_huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Text<'a> {
    /// Finds the string at `at` and moves `at` behind it.
    fn find(input: &'a [u8], at: &mut usize) -> Result<Option<Self>, Broken> {
        let rest = &input[*at..];
        let Some((len, prefix)) = integer::decode(rest, 7)? else { return Ok(None) };
        let end = prefix + len as usize;
        let Some(bytes) = rest.get(prefix..end) else { return Ok(None) };
        *at += end;
        Ok(Some(Self { is_huffman: rest[0] & 0x80 != 0, bytes }))
    }

    fn decode(&self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.is_huffman {
            return huffman::decode(self.bytes, out);
        }
        out.extend_from_slice(self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
