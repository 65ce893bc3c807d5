//! How tokens may follow each other, and what they are nested in.
//!
//! Nearly every rule is one of neighbours: behind a name a colon, behind a value a comma or the end of its container. They
//! are checked for all tokens of a block at once. Only brackets are visited one by one, to know which container a comma is in.

use super::{
    bits::{behind, runs, skip},
    classes::Classes,
    strings::Strings,
};

/// The deepest nesting that is followed, whatever the configuration says: the bound of what is kept for a body.
pub const DEPTH_MAX: u32 = 1000;

/// What a block leaves unfinished: 1 for the kind of token behind which the next one has not come yet. All 0 where no token
/// has come at all, and behind a colon: then a value must come.
#[derive(Clone, Copy, Debug)]
pub struct Carry {
    behind_open: u64,
    behind_comma: u64,
    behind_name: u64,
    behind_value: u64,
    /// 1 within a string that is a name.
    name: u64,
}

impl Carry {
    pub const NONE: Self = Self { behind_open: 0, behind_comma: 0, behind_name: 0, behind_value: 0, name: 0 };

    /// Whether the text may end here, if no container is open.
    pub fn is_behind_value(&self) -> bool {
        self.behind_value == 1
    }

    /// All ones within a name.
    #[inline(always)]
    pub fn names_go_on(&self) -> u64 {
        self.name.wrapping_neg()
    }
}

/// What stands outside of strings.
#[derive(Clone, Copy, Default)]
pub struct Marks {
    spaces: u64,
    pub open: u64,
    pub close: u64,
    pub comma: u64,
    colon: u64,
    /// What is none of these: numbers and words, right or wrong.
    pub scalar: u64,
}

impl Marks {
    #[inline(always)]
    pub fn find(classes: &Classes, strings: &Strings) -> Self {
        let outside = !(strings.inside | strings.quotes);
        let (open, close) = (classes.open & outside, classes.close & outside);
        let (comma, colon) = (classes.comma & outside, classes.colon & outside);
        let spaces = classes.space & outside;
        Self { spaces, open, close, comma, colon, scalar: outside & !(spaces | open | close | comma | colon) }
    }
}

/// What the tokens of 64 bytes are to each other.
#[derive(Clone, Copy, Default)]
pub struct Tokens {
    pub wrong: u64,
    /// From the opening quote of a name to the byte before the closing one.
    pub names: u64,
    /// What comes behind an opening bracket, if not the closing one.
    pub first_members: u64,
}

/// `behind_scalars`: the positions behind numbers and words. `object`: the positions in objects.
#[inline(always)]
pub fn read(marks: &Marks, strings: &Strings, behind_scalars: u64, object: u64, carry: &mut Carry) -> Tokens {
    let Marks { spaces, open, close, comma, colon, .. } = *marks;
    let (opening_quotes, closing_quotes) = (strings.quotes & strings.inside, strings.quotes & !strings.inside);

    let (behind_open, open_waits) = next_token(spaces, open, 0, carry.behind_open);
    let (behind_comma, comma_waits) = next_token(spaces, comma, 0, carry.behind_comma);
    let entries = (behind_open | behind_comma) & object;
    let (names, name_goes_on) = runs(opening_quotes & entries, strings.inside, carry.name);
    let name_ends = behind::<1>(names, carry.name << 63) & closing_quotes;
    let (behind_name, name_waits) = next_token(spaces, name_ends, 0, carry.behind_name);
    let value_ends = (closing_quotes & !name_ends) | close;
    let (behind_value, value_waits) = next_token(spaces, value_ends, behind_scalars, carry.behind_value);

    let wrong = (entries & !(opening_quotes | close))
        | (colon ^ behind_name)
        | (behind_value & !(comma | close))
        | (comma & !behind_value)
        | (close & !(behind_value | behind_open));
    *carry = Carry {
        behind_open: open_waits,
        behind_comma: comma_waits,
        behind_name: name_waits,
        behind_value: value_waits,
        name: name_goes_on,
    };
    Tokens { wrong, names, first_members: behind_open & !close }
}

/// Where the tokens that end there, and those that ended before these positions, are followed by the next; 1 if one of them is
/// so in the next 64 bytes.
#[inline(always)]
fn next_token(spaces: u64, ends: u64, behind: u64, carry: u64) -> (u64, u64) {
    let (next, goes_on) = skip(ends << 1 | behind, spaces, carry);
    (next, goes_on | ends >> 63)
}

/// Which container each open level is: 1 for an object. Level n, from the outermost, is bit 63 - n % 64 of word n / 64 + 1.
#[derive(Clone, Debug)]
pub struct Levels {
    words: [u64; DEPTH_MAX as usize / 64 + 2],
    pub depth: u32,
}

/// How the brackets of 64 bytes open and close containers.
#[derive(Clone, Copy)]
pub struct Nest {
    pub wrong: u64,
    /// The positions in objects; a bracket itself is in the container that it was written in.
    pub object: u64,
    pub too_deep: bool,
}

impl Levels {
    pub const NONE: Self = Self { words: [0; DEPTH_MAX as usize / 64 + 2], depth: 0 };

    #[inline(always)]
    pub fn follow(&mut self, classes: &Classes, marks: &Marks, depth_max: u32) -> Nest {
        let depth = self.depth;
        // The one above the outermost level tells when there is none; among 64 brackets it is not missed.
        let mut top = self.top() | 1_u64.unbounded_shl(depth);
        let mut least = top;
        let object = (top & 1).wrapping_neg();
        let mut brackets = marks.open | marks.close;
        let (mut changes, mut wrong) = (0, 0);
        while brackets != 0 {
            let at = brackets.trailing_zeros();
            let is_brace = classes.brace >> at & 1;
            let closes = marks.close >> at & 1;
            wrong |= closes & (top ^ is_brace);
            let next = if closes == 1 { top >> 1 } else { top << 1 | is_brace };
            changes ^= ((top ^ next) & 1).wrapping_neg() << at;
            top = next;
            least = least.min(top);
            brackets &= brackets - 1;
        }
        // Both are rare: no container at all, and perhaps too many of them.
        if least <= 1 && depth < 64 {
            wrong |= wrong_outside(marks.open, marks.close, marks.comma, depth);
        }
        let (opened, closed) = (marks.open.count_ones(), marks.close.count_ones());
        let too_deep = depth + opened > depth_max && deepest(marks.open, marks.close, depth) > depth_max;
        if !too_deep {
            self.depth = (depth + opened).saturating_sub(closed);
            self.set_top(top, opened);
        }
        Nest { wrong, object: object ^ changes << 1, too_deep }
    }

    /// The innermost 64 levels, the innermost lowest.
    #[inline(always)]
    fn top(&self) -> u64 {
        let (word, bits) = (self.depth as usize / 64, self.depth % 64);
        self.words[word] << bits | self.words[word + 1] >> (63 - bits) >> 1
    }

    /// At most as many levels are new as were opened.
    #[inline(always)]
    fn set_top(&mut self, top: u64, opened: u32) {
        let new = opened.min(self.depth);
        if new == 0 {
            return;
        }
        let (word, bits) = (self.depth as usize / 64, self.depth % 64);
        let new = u64::MAX >> (64 - new);
        let top = top & new;
        let shift = |mask: u64| mask << (63 - bits) << 1;
        self.words[word] = (self.words[word] & !(new >> bits)) | top >> bits;
        self.words[word + 1] = (self.words[word + 1] & !shift(new)) | shift(top);
    }
}

/// Where no container is open, a comma separates nothing, and a closing bracket closes nothing.
#[inline(never)]
fn wrong_outside(open: u64, close: u64, comma: u64, mut depth: u32) -> u64 {
    let mut brackets = open | close;
    let (mut wrong, mut from) = (0, 1);
    while brackets != 0 {
        let bracket = brackets & brackets.wrapping_neg();
        if depth == 0 {
            wrong |= (comma & (bracket - from)) | (bracket & close);
        }
        depth = if bracket & close == 0 { depth + 1 } else { depth.saturating_sub(1) };
        from = bracket;
        brackets &= brackets - 1;
    }
    if depth == 0 { wrong | comma & from.wrapping_neg() } else { wrong }
}

/// The largest number of containers that are open at once.
#[inline(never)]
fn deepest(open: u64, close: u64, mut depth: u32) -> u32 {
    let mut brackets = open | close;
    let mut deepest = depth;
    while brackets != 0 {
        let bracket = brackets & brackets.wrapping_neg();
        depth = if bracket & close == 0 { depth + 1 } else { depth.saturating_sub(1) };
        deepest = deepest.max(depth);
        brackets &= brackets - 1;
    }
    deepest
}
