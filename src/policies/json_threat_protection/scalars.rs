//! What stands outside of strings and is no punctuation: numbers, `true`, `false` and `null`.

use super::{
    bits::{behind, runs, skip},
    classes::{BLOCK_BYTES, Block, Classes},
};

/// A longer number is refused: some parsers take time that grows with the square of its length. Jackson has the same bound.
pub const NUMBER_BYTES_MAX: u32 = 1000;

/// What 64 bytes leave unfinished of a scalar.
#[derive(Clone, Copy, Debug)]
pub struct Carry {
    /// Where there were scalars, and the length so far of the last, if it goes on.
    scalar: u64,
    bytes: u32,
    literal: Option<Literal>,
    number: NumberCarry,
}

/// The masks that [`check_numbers`] looks back to.
#[derive(Clone, Copy, Debug)]
struct NumberCarry {
    leading_minus: u64,
    leading_zero: u64,
    digit: u64,
    needs_digit: u64,
    exponent: u64,
    /// 1 amid the digits of a fraction, and of an exponent.
    in_fraction: u64,
    in_power: u64,
}

impl Carry {
    pub const NONE: Self = Self { scalar: 0, bytes: 0, literal: None, number: NumberCarry::NONE };
}

impl NumberCarry {
    const NONE: Self =
        Self { leading_minus: 0, leading_zero: 0, digit: 0, needs_digit: 0, exponent: 0, in_fraction: 0, in_power: 0 };
}

/// What is still to come of `true`, `false` or `null`: the next byte lowest. Zero where nothing is.
#[derive(Clone, Copy, Debug)]
struct Literal(u64);

impl Literal {
    #[inline(always)]
    fn beginning_with(byte: u8) -> Self {
        Self(u64::from_le_bytes(match byte {
            b't' => *b"true\0\0\0\0",
            b'f' => *b"false\0\0\0",
            b'n' => *b"null\0\0\0\0",
            // Nothing is to come, but the byte itself: it is found to be one too many.
            _ => [0; 8],
        }))
    }

    fn bytes(self) -> u32 {
        8 - self.0.leading_zeros() / 8
    }
}

/// Where scalars end, and where something is wrong with them.
#[derive(Clone, Copy, Default)]
pub struct Scalars {
    /// The positions behind them.
    pub behind: u64,
    pub wrong: u64,
    pub number_is_too_long: bool,
}

/// `scalar`: all bytes that are neither in strings nor punctuation.
#[inline(always)]
pub fn read(bytes: &Block, classes: &Classes, scalar: u64, carry: &mut Carry) -> Scalars {
    if scalar | carry.scalar >> 63 == 0 {
        return Scalars::default();
    }
    let behind_scalars = behind::<1>(scalar, carry.scalar);
    let begins = scalar & !behind_scalars;
    let foreign = scalar & !(classes.digit | classes.dot | classes.exponent | classes.minus | classes.plus);
    let (mut wrong, mut number) = (0, scalar);
    if foreign != 0 || carry.literal.is_some() {
        let literals = check_literals(bytes, scalar, begins & foreign, &mut carry.literal, &mut wrong);
        wrong |= foreign & !literals;
        number &= !literals;
    }
    wrong |= check_numbers(classes, number, begins, &mut carry.number);
    let number_is_too_long = is_too_long(scalar, carry);
    carry.scalar = scalar;
    Scalars { behind: behind_scalars & !scalar, wrong, number_is_too_long }
}

/// RFC 8259, section 6. Each rule is one of neighbours, but for the last two: no second dot, and none in an exponent.
#[inline(always)]
fn check_numbers(classes: &Classes, number: u64, begins: u64, carry: &mut NumberCarry) -> u64 {
    let (digit, dot, exponent) = (classes.digit & number, classes.dot & number, classes.exponent & number);
    let (minus, plus) = (classes.minus & number, classes.plus & number);
    let needs_digit = dot | minus | plus;
    let leading_minus = minus & begins;
    let leading_zero = classes.zero & number & (begins | behind::<1>(leading_minus, carry.leading_minus));
    let behind_exponent = behind::<1>(exponent, carry.exponent);
    let exponent_sign = (minus | plus) & behind_exponent;

    let (behind_fraction, in_fraction) = skip(dot << 1, digit, carry.in_fraction);
    let power = (behind_exponent & digit) | exponent_sign << 1;
    let (behind_power, in_power) = skip(power, digit, carry.in_power);

    let wrong = (begins & number & !(digit | minus))
        | ((dot | exponent) & !behind::<1>(digit, carry.digit))
        | (behind::<1>(leading_zero, carry.leading_zero) & digit)
        | (behind::<1>(needs_digit, carry.needs_digit) & !digit)
        | (behind_exponent & !(digit | minus | plus))
        | (minus & !(begins | behind_exponent))
        | (plus & !behind_exponent)
        | (behind_fraction & dot)
        | (behind_power & (dot | exponent));
    *carry = NumberCarry {
        leading_minus,
        leading_zero,
        digit,
        needs_digit,
        exponent,
        in_fraction: dot >> 63 | in_fraction,
        in_power: exponent_sign >> 63 | in_power,
    };
    wrong
}

/// Which bytes belong to words. A word that goes on in the next 64 bytes is left to them.
#[inline(always)]
fn check_literals(bytes: &Block, scalar: u64, mut begins: u64, carry: &mut Option<Literal>, wrong: &mut u64) -> u64 {
    let carried = carry.take();
    let (literals, _) = runs(begins, scalar, u64::from(carried.is_some()));
    if let Some(literal) = carried {
        *wrong |= differing(bytes, scalar, 0, literal, carry);
    }
    while begins != 0 {
        let at = begins.trailing_zeros();
        *wrong |= differing(bytes, scalar, at, Literal::beginning_with(bytes[at as usize]), carry);
        begins &= begins - 1;
    }
    literals
}

/// Where the scalar at this position is not that word: at another byte, or at one too many.
#[inline(always)]
fn differing(bytes: &Block, scalar: u64, at: u32, literal: Literal, carry: &mut Option<Literal>) -> u64 {
    let (len, left) = (literal.bytes(), BLOCK_BYTES as u32 - at);
    let last = at.min(BLOCK_BYTES as u32 - 8);
    let read = bytes[last as usize..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let equal = ((read >> (8 * (at - last))) ^ literal.0).trailing_zeros() / 8;
    if equal < len.min(left) {
        1 << (at + equal)
    } else if len < left {
        scalar & 1 << (at + len)
    } else {
        *carry = Some(Literal(literal.0 >> (8 * left)));
        0
    }
}

/// Only one that goes on from the 64 bytes before can be too long.
#[inline(always)]
fn is_too_long(scalar: u64, carry: &mut Carry) -> bool {
    let goes_on = scalar.trailing_ones();
    let bytes = if carry.scalar >> 63 == 1 { carry.bytes.saturating_add(goes_on) } else { 0 };
    carry.bytes = if goes_on as usize == BLOCK_BYTES { bytes.max(goes_on) } else { scalar.leading_ones() };
    bytes > NUMBER_BYTES_MAX
}
