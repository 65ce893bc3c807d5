//! Reads a JSON text as it comes, in pieces of any size, and stops at the first thing that is wrong with it.
//!
//! The text is checked in blocks of 64 bytes, each as a whole. The bytes behind the last whole block are kept, at most 63,
//! and checked as far as they go: all that was fed has been looked at. Only if a block is not right, its beginnings are
//! checked, one byte longer each time, to find what comes first; so pieces make no difference to what is found.

use fearless_simd::{Level, Simd, dispatch};
use thiserror::Error;

use super::{
    classes::{BLOCK_BYTES, Block, Classes, is_plain_text},
    lengths::{self, Lengths},
    limits::Limits,
    members::{self, Members},
    scalars,
    strings::{self, Strings},
    tokens::{self, Levels, Marks},
};

/// What is wrong with a text. What stands behind it has not been looked at.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    #[error("not JSON")]
    Syntax,
    #[error("a number of more than {} bytes", scalars::NUMBER_BYTES_MAX)]
    NumberLength,
    #[error("too many nested containers")]
    Depth,
    #[error("too many entries in an object")]
    EntryCount,
    #[error("too many elements in an array")]
    ElementCount,
    #[error("too long a name of an entry")]
    NameLength,
    #[error("too long a string")]
    StringLength,
}

/// A text as far as it has come.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    state: State,
    /// What has come of the next block; spaces behind that.
    rest: Block,
    rest_bytes: usize,
    /// Whether the text may end with these.
    may_end: bool,
    found: Option<Violation>,
}

impl Scanner {
    pub fn new(limits: Limits) -> Self {
        let rest = [b' '; BLOCK_BYTES];
        Self { limits, state: State::BEGIN, rest, rest_bytes: 0, may_end: false, found: None }
    }

    /// Reads the next bytes. After a violation every further call returns the same.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Violation> {
        if self.found.is_none() {
            self.found = self.read(Level::new(), piece).err();
        }
        self.found.map_or(Ok(()), Err)
    }

    /// The text ends here.
    pub fn finish(&self) -> Result<(), Violation> {
        match self.found {
            Some(violation) => Err(violation),
            None if self.may_end => Ok(()),
            None => Err(Violation::Syntax),
        }
    }

    fn read(&mut self, level: Level, mut piece: &[u8]) -> Result<(), Violation> {
        if self.rest_bytes > 0 {
            let (more, behind) = piece.split_at(piece.len().min(BLOCK_BYTES - self.rest_bytes));
            self.keep(more);
            piece = behind;
            if self.rest_bytes == BLOCK_BYTES {
                let whole = std::mem::replace(&mut self.rest, [b' '; BLOCK_BYTES]);
                self.rest_bytes = 0;
                self.blocks(level, &[whole])?;
            }
        }
        let (blocks, rest) = piece.as_chunks();
        self.blocks(level, blocks)?;
        self.keep(rest);
        self.look_at_rest(level)
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.rest[self.rest_bytes..][..bytes.len()].copy_from_slice(bytes);
        self.rest_bytes += bytes.len();
    }

    fn blocks(&mut self, level: Level, blocks: &[Block]) -> Result<(), Violation> {
        let Some(before) = blocks.first().map(|_| self.state.clone()) else { return Ok(()) };
        let (limits, state) = (&self.limits, &mut self.state);
        let Err(at) = dispatch!(level, simd => state.blocks(simd, limits, blocks)) else { return Ok(()) };
        self.state = before;
        let right = &blocks[..at];
        let (limits, state) = (&self.limits, &mut self.state);
        let again = dispatch!(level, simd => state.blocks(simd, limits, right));
        debug_assert_eq!(again, Ok(()), "the same blocks");
        self.first_violation(level, &blocks[at], BLOCK_BYTES)
    }

    /// What has come of the next block, as if the text ended there.
    fn look_at_rest(&mut self, level: Level) -> Result<(), Violation> {
        let come = (1 << self.rest_bytes) - 1;
        let (limits, mut state) = (&self.limits, self.state.clone());
        match dispatch!(level, simd => state.block(simd, limits, &self.rest, come)) {
            Ok(is_right_behind) => {
                self.may_end = is_right_behind && state.is_complete();
                Ok(())
            }
            Err(_) => self.first_violation(level, &self.rest, self.rest_bytes),
        }
    }

    /// What comes first of what is wrong in the first bytes of a block.
    #[cold]
    fn first_violation(&self, level: Level, block: &Block, count: usize) -> Result<(), Violation> {
        let mut beginning = [b' '; BLOCK_BYTES];
        for at in 0..count {
            beginning[at] = block[at];
            let (limits, mut state) = (&self.limits, self.state.clone());
            let come = u64::MAX >> (BLOCK_BYTES - 1 - at);
            dispatch!(level, simd => state.block(simd, limits, &beginning, come))?;
        }
        Ok(())
    }
}

/// Where a text stands behind whole blocks.
#[derive(Clone, Debug)]
struct State {
    strings: strings::Carry,
    scalars: scalars::Carry,
    tokens: tokens::Carry,
    lengths: lengths::Carry,
    levels: Levels,
    members: Members,
    /// The last block was text from its first byte to its last: the next one may be too.
    was_text: bool,
}

impl State {
    const BEGIN: Self = Self {
        strings: strings::Carry::NONE,
        scalars: scalars::Carry::NONE,
        tokens: tokens::Carry::NONE,
        lengths: lengths::Carry::NONE,
        levels: Levels::NONE,
        members: Members::NONE,
        was_text: false,
    };

    /// Goes on behind these blocks; or returns the number of one that is not right, and stands nowhere.
    #[inline(always)]
    fn blocks<S: Simd>(&mut self, simd: S, limits: &Limits, blocks: &[Block]) -> Result<(), usize> {
        for (at, block) in blocks.iter().enumerate() {
            let found = if self.was_text && is_plain_text(simd, block) {
                self.lengths.add_text(limits, BLOCK_BYTES as u64)
            } else {
                self.block(simd, limits, block, u64::MAX).map(drop)
            };
            found.map_err(|_| at)?;
        }
        Ok(())
    }

    /// Goes on behind a block of which these bytes have come, the first ones; behind them there are spaces. Returns whether
    /// those are right too.
    #[inline(always)]
    fn block<S: Simd>(&mut self, simd: S, limits: &Limits, block: &Block, come: u64) -> Result<bool, Violation> {
        let was_inside = self.strings.is_inside();
        let classes = Classes::of(simd, block);
        let strings = strings::read(simd, block, &classes, &mut self.strings);
        self.was_text = strings.quotes == 0 && was_inside && !self.strings.is_amid_character();
        let mut wrong = strings.wrong;
        let mut names = self.tokens.names_go_on();
        if strings.quotes != 0 || !was_inside {
            let marks = Marks::find(&classes, &strings);
            let scalars = scalars::read(block, &classes, marks.scalar, &mut self.scalars);
            let nest = self.levels.follow(&classes, &marks, limits.depth);
            let tokens = tokens::read(&marks, &strings, scalars.behind, nest.object, &mut self.tokens);
            wrong |= scalars.wrong | nest.wrong | tokens.wrong;
            right(wrong & come)?;
            if scalars.number_is_too_long {
                return Err(Violation::NumberLength);
            }
            if nest.too_deep {
                return Err(Violation::Depth);
            }
            if limits.counts_members() {
                members::check_first(limits, tokens.first_members, nest.object)?;
                self.members.count(limits, &marks, nest.object)?;
            }
            names = tokens.names;
        }
        right(wrong & come)?;
        if limits.measures_strings() {
            let Strings { inside, quotes, characters, .. } = strings;
            let lengths = Lengths { inside, quotes, characters: characters & come, names };
            lengths.check(limits, &mut self.lengths)?;
        }
        Ok(wrong & !come == 0)
    }

    fn is_complete(&self) -> bool {
        self.levels.depth == 0
            && self.tokens.is_behind_value()
            && !self.strings.is_inside()
            && !self.strings.is_amid_character()
    }
}

#[inline(always)]
fn right(wrong: u64) -> Result<(), Violation> {
    if wrong == 0 { Ok(()) } else { Err(Violation::Syntax) }
}
