//! HPACK (RFC 7541): a header block is a program that both ends run on a table of recent fields.
//!
//! The table must stay in step whatever becomes of a head: every block is decoded to its end, also one whose stream is
//! refused. What a field is (a pseudo-field, a name that we know, nothing legal) is found out once, when it enters the
//! table, and not again each time it is referred to.

mod decoder;
mod dynamic_table;
mod encoder;
mod hash;
mod huffman;
mod huffman_codes;
mod integer;
mod kind;
mod static_table;

pub use decoder::{Decoded, Decoder, Step};
pub use encoder::Encoder;
pub use kind::{Kind, Pseudo};

/// The block cannot be decoded, and with it no later one: COMPRESSION_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What each entry costs beyond its bytes (RFC 7541 section 4.1), in the table and in our accounts.
pub const ENTRY_OVERHEAD: usize = 32;

/// The size of the tables until someone says otherwise. We never announce another, and use no more than this.
pub const TABLE_SIZE: usize = 4096;
