//! Strings: where they begin and end, and whether what stands in them is text.
//!
//! Text is UTF-8, and an escape stands for a character: half a surrogate pair (`\ud800` alone) is none, and no two parsers
//! agree on what to make of it.

use fearless_simd::Simd;

use super::{
    bits::{behind, parity},
    classes::{Block, Classes, EscapeClasses, planes},
};

/// What 64 bytes leave unfinished of a string.
#[derive(Clone, Copy, Debug)]
pub struct Carry {
    /// All ones within a string.
    inside: u64,
    /// 1 behind a backslash.
    escaped: u64,
    escape: EscapeCarry,
    utf8: Utf8Carry,
}

/// The masks that [`check_escapes`] looks back to.
#[derive(Clone, Copy, Debug)]
struct EscapeCarry {
    unicode: u64,
    surrogate: u64,
    high: u64,
}

/// The masks that [`check_utf8`] looks back to.
#[derive(Clone, Copy, Debug)]
struct Utf8Carry {
    leading: u64,
    three_or_four: u64,
    four: u64,
    e0: u64,
    ed: u64,
    f0: u64,
    f4: u64,
}

impl Carry {
    pub const NONE: Self = Self { inside: 0, escaped: 0, escape: EscapeCarry::NONE, utf8: Utf8Carry::NONE };

    #[inline(always)]
    pub fn is_inside(&self) -> bool {
        self.inside != 0
    }

    /// Amid an escape or a character.
    #[inline(always)]
    pub fn is_amid_character(&self) -> bool {
        self.escaped != 0 || !self.escape.is_none() || !self.utf8.is_none()
    }
}

impl EscapeCarry {
    const NONE: Self = Self { unicode: 0, surrogate: 0, high: 0 };

    /// Whether no byte to come belongs to an escape.
    #[inline(always)]
    fn is_none(&self) -> bool {
        self.unicode >> (64 - 4) | self.surrogate >> 63 | self.high >> (64 - 6) == 0
    }
}

impl Utf8Carry {
    const NONE: Self = Self { leading: 0, three_or_four: 0, four: 0, e0: 0, ed: 0, f0: 0, f4: 0 };

    #[inline(always)]
    fn is_none(&self) -> bool {
        self.leading >> 63 | self.three_or_four >> 62 | self.four >> 61 == 0
    }
}

/// Where there are strings, and where something in them is wrong.
#[derive(Clone, Copy, Default)]
pub struct Strings {
    /// From the opening quote to the byte before the closing one.
    pub inside: u64,
    /// Both quotes.
    pub quotes: u64,
    /// One bit for each character in a string; an escape is one.
    pub characters: u64,
    pub wrong: u64,
}

#[inline(always)]
pub fn read<S: Simd>(simd: S, bytes: &Block, classes: &Classes, carry: &mut Carry) -> Strings {
    let escapes = Escapes::find(classes.backslash, &mut carry.escaped);
    let quotes = classes.quote & !escapes.escaped;
    let inside = parity(quotes) ^ carry.inside;
    carry.inside = (inside >> 63).wrapping_neg();
    let mut strings = Strings { inside, quotes, characters: inside & !quotes, wrong: classes.control & inside };
    if escapes.begins | escapes.escaped != 0 || !carry.escape.is_none() {
        let escape_classes = EscapeClasses::of(simd, bytes, classes);
        check_escapes(&escape_classes, &escapes, &mut carry.escape, &mut strings);
    }
    if classes.not_ascii != 0 || !carry.utf8.is_none() {
        check_utf8(planes(simd, bytes), &mut carry.utf8, &mut strings);
    }
    strings
}

struct Escapes {
    /// The backslashes that begin one.
    begins: u64,
    /// What stands behind those.
    escaped: u64,
}

impl Escapes {
    /// Of a run of backslashes every other one is escaped itself. Runs that begin at odd positions and at even ones are told
    /// apart by subtracting: simdjson's way (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 3.1.1).
    #[inline(always)]
    fn find(backslash: u64, carry: &mut u64) -> Self {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        if backslash == 0 {
            return Self { begins: 0, escaped: std::mem::take(carry) };
        }
        let may_begin = backslash & !*carry;
        let both = (may_begin << 1 | ODD).wrapping_sub(may_begin) ^ ODD;
        let begins = both & backslash;
        let escaped = both ^ (backslash | *carry);
        *carry = begins >> 63;
        Self { begins, escaped }
    }
}

/// Whether each escape is one, and those of surrogates stand in pairs: the second digit of the second half stands six
/// positions behind that of the first (`\uD83D\uDE00`).
#[inline(always)]
fn check_escapes(classes: &EscapeClasses, escapes: &Escapes, carry: &mut EscapeCarry, strings: &mut Strings) {
    let unicode = escapes.escaped & classes.letter_u;
    let (first, second) = (behind::<1>(unicode, carry.unicode), behind::<2>(unicode, carry.unicode));
    let (third, fourth) = (behind::<3>(unicode, carry.unicode), behind::<4>(unicode, carry.unicode));
    let digits = first | second | third | fourth;
    let surrogate = first & classes.hex_d;
    let second_of_surrogate = behind::<1>(surrogate, carry.surrogate);
    let high = second_of_surrogate & classes.hex_8_to_b;
    let low = second_of_surrogate & classes.hex_c_to_f;
    strings.wrong |=
        (escapes.escaped & !classes.escapable) | (digits & !classes.hex_digit) | (low ^ behind::<6>(high, carry.high));
    // An escape of a code counts where its second digit is, which tells whether it is the second half of a pair.
    strings.characters &= !(escapes.begins | unicode | digits);
    strings.characters |= second & !low;
    *carry = EscapeCarry { unicode, surrogate, high };
}

/// RFC 3629, section 4, on the bits of the bytes.
#[inline(always)]
fn check_utf8(planes: [u64; 8], carry: &mut Utf8Carry, strings: &mut Strings) {
    let [b0, b1, b2, b3, b4, b5, b6, b7] = planes;
    let continuation = b7 & !b6;
    let leading = b7 & b6;
    let three_or_four = leading & b5;
    let four = three_or_four & b4;
    let three = three_or_four & !b4;
    let zeros = !(b3 | b2 | b1 | b0);
    let (e0, ed) = (three & zeros, three & b3 & b2 & !b1 & b0);
    let (f0, f4) = (four & zeros, four & !b3 & b2 & !b1 & !b0);
    let expected = behind::<1>(leading, carry.leading)
        | behind::<2>(three_or_four, carry.three_or_four)
        | behind::<3>(four, carry.four);
    // The first quarter of the continuations is 80 to 8f, the second half a0 to bf.
    let above_8f = b5 | b4;
    strings.wrong |= (expected ^ continuation)
        | (leading & !(b5 | b4 | b3 | b2 | b1))
        | (four & (b3 | (b2 & (b1 | b0))))
        | (behind::<1>(e0, carry.e0) & !b5)
        | (behind::<1>(ed, carry.ed) & b5)
        | (behind::<1>(f0, carry.f0) & !above_8f)
        | (behind::<1>(f4, carry.f4) & above_8f);
    strings.characters &= !continuation;
    *carry = Utf8Carry { leading, three_or_four, four, e0, ed, f0, f4 };
}
