//! What a byte is to JSON: 64 bytes as words, one for each question.
//!
//! Up to eight questions are asked at once. Each is one of the two halves of a byte: whether the upper one is among these and
//! the lower one among those. Two look-ups per byte give an answer of eight bits, which are then turned round. This is the
//! only part that needs vectors, and the only one that knows how wide the machine's are.

use fearless_simd::{Bytes as _, Simd, i8x64, prelude::*, u8x64};

pub const BLOCK_BYTES: usize = 64;
pub type Block = [u8; BLOCK_BYTES];

/// Eight questions.
struct Questions {
    upper: Block,
    lower: Block,
}

impl Questions {
    /// Each with its upper halves and its lower ones.
    const fn new(asked: [(&[u8], &[u8]); 8]) -> Self {
        let (mut upper, mut lower) = ([0; BLOCK_BYTES], [0; BLOCK_BYTES]);
        let mut question = 0;
        while question < 8 {
            let (uppers, lowers) = asked[question];
            mark(&mut upper, uppers, 1 << question);
            mark(&mut lower, lowers, 1 << question);
            question += 1;
        }
        Self { upper, lower }
    }

    #[inline(always)]
    fn ask<S: Simd>(&self, simd: S, bytes: &Block) -> [u64; 8] {
        let bytes = u8x64::from_slice(simd, bytes);
        let upper = u8x64::from_slice(simd, &self.upper).swizzle_dyn_within_blocks(bytes >> 4);
        let lower = u8x64::from_slice(simd, &self.lower).swizzle_dyn_within_blocks(bytes & 15);
        turn(upper & lower)
    }
}

/// Sets a bit for these halves of a byte. A vector of 64 bytes looks up in four tables of 16.
const fn mark(table: &mut Block, halves: &[u8], bit: u8) {
    let mut at = 0;
    while at < halves.len() {
        let mut copy = 0;
        while copy < BLOCK_BYTES {
            table[copy + halves[at] as usize] |= bit;
            copy += 16;
        }
        at += 1;
    }
}

/// Word n: bit n of every byte.
#[inline(always)]
fn turn<S: Simd>(bytes: u8x64<S>) -> [u64; 8] {
    let mut words = [0; 8];
    let mut bytes: i8x64<S> = bytes.bitcast();
    for word in words.iter_mut().rev() {
        // The highest bit of each byte is its sign; then the next one takes its place.
        *word = bytes.simd_lt(0).to_bitmask();
        bytes = bytes + bytes;
    }
    words
}

/// The bits of the bytes themselves.
#[inline(always)]
pub fn planes<S: Simd>(simd: S, bytes: &Block) -> [u64; 8] {
    turn(u8x64::from_slice(simd, bytes))
}

/// Whether all bytes are ASCII, and neither controls, nor quotes, nor backslashes: the inside of a long string.
#[inline(always)]
pub fn is_plain_text<S: Simd>(simd: S, bytes: &Block) -> bool {
    let bytes: i8x64<S> = u8x64::from_slice(simd, bytes).bitcast();
    // As signed numbers, all that is not ASCII is below the controls.
    let found = bytes.simd_lt(0x20) | bytes.simd_eq(b'"'.cast_signed()) | bytes.simd_eq(b'\\'.cast_signed());
    !found.any_true()
}

const ANY: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

static PUNCTUATION: Questions = Questions::new([
    (&[2], &[2]),
    (&[5], &[0xc]),
    (&[2], &[0xc]),
    (&[3], &[0xa]),
    (&[5, 7], &[0xb]),
    (&[5, 7], &[0xd]),
    (&[7], ANY),
    (&[0, 1], ANY),
]);

static SCALARS: Questions = Questions::new([
    (&[3], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    (&[3], &[0]),
    (&[2], &[0xe]),
    (&[2], &[0xd]),
    (&[2], &[0xb]),
    (&[4, 6], &[5]),
    (&[0], &[9, 0xa, 0xd]),
    (&[2], &[0]),
]);

static ESCAPES: Questions = Questions::new([
    (&[2], &[2, 0xf]),
    (&[6], &[2, 6, 0xe]),
    (&[7], &[2, 4, 5]),
    (&[7], &[5]),
    (&[4, 6], &[1, 2, 3, 4, 5, 6]),
    (&[4, 6], &[4]),
    (&[3], &[8, 9]),
    (&[4, 6], &[1, 2]),
]);

/// Which bytes are what.
#[derive(Clone, Copy, Default)]
pub struct Classes {
    pub quote: u64,
    pub backslash: u64,
    pub comma: u64,
    pub colon: u64,
    /// `[` and `{`.
    pub open: u64,
    /// `]` and `}`.
    pub close: u64,
    /// Among brackets: `{` and `}`.
    pub brace: u64,
    /// Below a space.
    pub control: u64,
    pub digit: u64,
    pub zero: u64,
    pub dot: u64,
    pub minus: u64,
    pub plus: u64,
    /// `e` and `E`.
    pub exponent: u64,
    /// Space, tab, line feed, carriage return.
    pub space: u64,
    pub not_ascii: u64,
}

impl Classes {
    #[inline(always)]
    pub fn of<S: Simd>(simd: S, bytes: &Block) -> Self {
        let [quote, backslash, comma, colon, open, close, brace, control] = PUNCTUATION.ask(simd, bytes);
        let [digit, zero, dot, minus, plus, exponent, line, blank] = SCALARS.ask(simd, bytes);
        let signed: i8x64<S> = u8x64::from_slice(simd, bytes).bitcast();
        let not_ascii = signed.simd_lt(0).to_bitmask();
        let space = line | blank;
        Self {
            quote,
            backslash,
            comma,
            colon,
            open,
            close,
            brace,
            control,
            digit,
            zero,
            dot,
            minus,
            plus,
            exponent,
            space,
            not_ascii,
        }
    }
}

/// What a byte is to an escape.
pub struct EscapeClasses {
    /// What may stand behind a backslash.
    pub escapable: u64,
    /// `u`.
    pub letter_u: u64,
    pub hex_digit: u64,
    /// `d`: the first digit of a surrogate.
    pub hex_d: u64,
    /// `8` to `b`: the second digit of the first surrogate of a pair.
    pub hex_8_to_b: u64,
    /// `c` to `f`: the second digit of the second surrogate of a pair.
    pub hex_c_to_f: u64,
}

impl EscapeClasses {
    #[inline(always)]
    pub fn of<S: Simd>(simd: S, bytes: &Block, classes: &Classes) -> Self {
        let [marks, bfn, rtu, letter_u, hex_letter, hex_d, digits, ab] = ESCAPES.ask(simd, bytes);
        Self {
            escapable: marks | bfn | rtu | classes.backslash,
            letter_u,
            hex_digit: classes.digit | hex_letter,
            hex_d,
            hex_8_to_b: digits | ab,
            hex_c_to_f: hex_letter & !ab,
        }
    }
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;

    type Question = fn(&Classes, &EscapeClasses) -> u64;

    type Answer = fn(u8) -> bool;

    const EXPECTED: &[(&str, Question, Answer)] = &[
        ("quote", |c, _| c.quote, |b| b == b'"'),
        ("backslash", |c, _| c.backslash, |b| b == b'\\'),
        ("control", |c, _| c.control, |b| b < 0x20),
        ("space", |c, _| c.space, |b| b" \t\n\r".contains(&b)),
        ("comma", |c, _| c.comma, |b| b == b','),
        ("colon", |c, _| c.colon, |b| b == b':'),
        ("open", |c, _| c.open, |b| b"[{".contains(&b)),
        ("close", |c, _| c.close, |b| b"]}".contains(&b)),
        ("brace", |c, _| c.brace & (c.open | c.close), |b| b"{}".contains(&b)),
        ("digit", |c, _| c.digit, |b| b.is_ascii_digit()),
        ("zero", |c, _| c.zero, |b| b == b'0'),
        ("dot", |c, _| c.dot, |b| b == b'.'),
        ("minus", |c, _| c.minus, |b| b == b'-'),
        ("plus", |c, _| c.plus, |b| b == b'+'),
        ("exponent", |c, _| c.exponent, |b| b"eE".contains(&b)),
        ("not_ascii", |c, _| c.not_ascii, |b| !b.is_ascii()),
        ("escapable", |_, e| e.escapable, |b| b"\"\\/bfnrtu".contains(&b)),
        ("letter_u", |_, e| e.letter_u, |b| b == b'u'),
        ("hex_digit", |_, e| e.hex_digit, |b| b.is_ascii_hexdigit()),
        ("hex_d", |_, e| e.hex_d, |b| b"dD".contains(&b)),
        ("hex_8_to_b", |_, e| e.hex_8_to_b, |b| b"89abAB".contains(&b)),
        ("hex_c_to_f", |_, e| e.hex_c_to_f, |b| b"cdefCDEF".contains(&b)),
    ];

    /// Whatever vectors this machine has, and those that every one of its kind has.
    fn levels() -> [Level; 2] {
        [Level::new(), Level::baseline()]
    }

    #[test]
    fn every_byte_is_what_it_is() {
        for (level, start) in levels().into_iter().flat_map(|level| [0, 64, 128, 192].map(|start| (level, start))) {
            let bytes = std::array::from_fn(|at| start + u8::try_from(at).expect("below 64"));
            let (classes, escapes) = dispatch!(level, simd => {
                let classes = Classes::of(simd, &bytes);
                (classes, EscapeClasses::of(simd, &bytes, &classes))
            });
            for (name, question, expected) in EXPECTED {
                for (at, byte) in bytes.iter().enumerate() {
                    assert_eq!(question(&classes, &escapes) >> at & 1 == 1, expected(*byte), "{name} of {byte:#x}");
                }
            }
        }
    }

    #[test]
    fn planes_hold_the_bits_of_every_byte() {
        for level in levels() {
            let bytes: Block = std::array::from_fn(|at| u8::try_from(at * 67 % 256).expect("a byte"));
            let planes = dispatch!(level, simd => planes(simd, &bytes));
            for (bit, plane) in planes.into_iter().enumerate() {
                for (at, byte) in bytes.iter().enumerate() {
                    assert_eq!(plane >> at & 1, u64::from(byte >> bit & 1), "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn one_byte_makes_text_other_than_plain() {
        for (level, byte) in levels().into_iter().flat_map(|level| (0..=u8::MAX).map(move |byte| (level, byte))) {
            let expected = (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\';
            for at in 0..BLOCK_BYTES {
                let mut bytes = [b'~'; BLOCK_BYTES];
                bytes[at] = byte;
                let is_plain = dispatch!(level, simd => is_plain_text(simd, &bytes));
                assert_eq!(is_plain, expected, "{byte:#x} at {at}");
            }
        }
    }
}
