//! Huffman coding of strings (RFC 7541 section 5.2).
//!
//! The code is canonical: codes of one length are consecutive. Nearly every byte of a head has a code of at most eight
//! bits and is one look-up; the others are found by their length.

use super::{Broken, huffman_codes::CODES};

const END_OF_STRING: u16 = 256;
const LENGTH_MAX: usize = 30;

/// For each byte of code bits: the symbol that begins there and its length, if that is at most eight.
static SHORT: [(u8, u8); 256] = short();

/// For each length: the code behind the last of that length, aligned to 32 bits, and where its symbols end in `ORDER`.
static LONG: [(u32, u16); LENGTH_MAX + 1] = long();

/// Symbols by their code.
static ORDER: [u16; 257] = order();

const fn order() -> [u16; 257] {
    let mut order = [0; 257];
    let mut filled = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        // Within a length, symbols ascend with their codes.
        let mut symbol = 0;
        while symbol < 257 {
            if CODES[symbol].1 as usize == length {
                order[filled] = symbol as u16;
                filled += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    order
}

const fn long() -> [(u32, u16); LENGTH_MAX + 1] {
    let mut long = [(0, 0); LENGTH_MAX + 1];
    let mut filled = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        long[length] = (long[length - 1].0, filled);
        let mut symbol = 0;
        while symbol < 257 {
            let (code, bits) = CODES[symbol];
            if bits as usize == length {
                filled += 1;
                // The last code of all, that of the end of a string, has no successor in 32 bits.
                let next = ((code as u64 + 1) << (32 - length)) - 1;
                long[length] = (next as u32, filled);
            }
            symbol += 1;
        }
        length += 1;
    }
    long
}

const fn short() -> [(u8, u8); 256] {
    let mut short = [(0, 0); 256];
    let mut symbol = 0;
    while symbol < 256 {
        let (code, length) = CODES[symbol];
        if length <= 8 {
            let first = (code << (8 - length)) as usize;
            let mut at = 0;
            while at < 1 << (8 - length) {
                short[first + at] = (symbol as u8, length);
                at += 1;
            }
        }
        symbol += 1;
    }
    short
}

/// Appends what `input` stands for; at most 8/5 of its length.
pub fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
    out.reserve(input.len() * 8 / 5);
    // The next bits stand at the top.
    let mut bits = 0u64;
    let mut count = 0u32;
    let mut rest = input;
    loop {
        if count <= 32 {
            if let Some((word, after)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(*word)) << (32 - count);
                count += 32;
                rest = after;
            } else if let Some((&byte, after)) = rest.split_first() {
                bits |= u64::from(byte) << (56 - count);
                count += 8;
                rest = after;
                continue;
            }
        }
        let (symbol, length) = SHORT[(bits >> 56) as usize];
        let length = u32::from(length);
        if length != 0 && length <= count {
            out.push(symbol);
            bits <<= length;
            count -= length;
            continue;
        }
        if count < 8 && rest.is_empty() {
            // Less than a byte of the longest code's beginning pads the last byte.
            return if bits == !(u64::MAX >> count) { Ok(()) } else { Err(Broken) };
        }
        let (symbol, length) = decode_long((bits >> 32) as u32);
        if length > count || symbol == END_OF_STRING {
            return Err(Broken);
        }
        out.push(symbol as u8);
        bits <<= length;
        count -= length;
    }
}

fn decode_long(bits: u32) -> (u16, u32) {
    let mut length = 9;
    while length < LENGTH_MAX && bits > LONG[length].0 {
        length += 1;
    }
    let (last, end) = LONG[length];
    let behind = (last >> (32 - length)).saturating_sub(bits >> (32 - length));
    (ORDER[(usize::from(end) - 1).saturating_sub(behind as usize)], length as u32)
}

/// How many bytes `input` takes encoded.
#[inline]
pub fn encoded_len(input: &[u8]) -> usize {
    let bits: u32 = input.iter().map(|&byte| u32::from(LENGTHS[byte as usize])).sum();
    bits.div_ceil(8) as usize
}

static LENGTHS: [u8; 256] = lengths();

const fn lengths() -> [u8; 256] {
    let mut lengths = [0; 256];
    let mut symbol = 0;
    while symbol < 256 {
        lengths[symbol] = CODES[symbol].1;
        symbol += 1;
    }
    lengths
}

pub fn encode(input: &[u8], out: &mut Vec<u8>) {
    let mut bits = 0u64;
    let mut count = 0u32;
    for &byte in input {
        let (code, length) = CODES[byte as usize];
        bits = bits << length | u64::from(code);
        count += u32::from(length);
        if count >= 32 {
            count -= 32;
            out.extend_from_slice(&((bits >> count) as u32).to_be_bytes());
        }
    }
    if count > 0 {
        let padding = count.next_multiple_of(8) - count;
        bits = bits << padding | ((1 << padding) - 1);
        count += padding;
        out.extend_from_slice(&(bits << (64 - count)).to_be_bytes()[..count as usize / 8]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn every_byte_alone_and_doubled() {
        for byte in 0..=255 {
            for text in [&[byte][..], &[byte, byte], &[b'a', byte, b'a', byte]] {
                let mut out = Vec::new();
                encode(text, &mut out);
                assert_eq!(out.len(), encoded_len(text));
                assert_eq!(decoded(&out).as_deref(), Ok(text));
            }
        }
    }

    /// RFC 7541 appendix C.4.1.
    #[test]
    fn an_example() {
        let encoded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&encoded).unwrap(), b"www.example.com");
    }

    #[test]
    fn bad_endings_are_broken() {
        assert_eq!(decoded(b""), Ok(vec![]));
        // A whole byte of padding; padding with a zero; the end of a string, alone and within.
        for bad in [&[0xff][..], &[0b0001_1110], &[0b0001_1111, 0xff], &[0xff; 4], &[0xff, 0xff, 0xff, 0xfc, 0x1f]] {
            assert_eq!(decoded(bad), Err(Broken), "{bad:x?}");
        }
        assert_eq!(decoded(&[0b0001_1111]), Ok(vec![b'a']));
        // A code that is cut short.
        assert_eq!(decoded(&[0xfe]), Err(Broken));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            encode(&text, &mut out);
            prop_assert_eq!(out.len(), encoded_len(&text));
            prop_assert_eq!(decoded(&out), Ok(text));
        }

        /// Bit by bit against the list of codes.
        #[test]
        fn anything_decodes_as_the_list_says(input in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decoded(&input), by_the_list(&input));
        }
    }

    fn by_the_list(input: &[u8]) -> Result<Vec<u8>, Broken> {
        let (mut out, mut code, mut length) = (Vec::new(), 0u32, 0u8);
        for bit in input.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
            code = code << 1 | u32::from(bit);
            length += 1;
            match CODES.iter().position(|&entry| entry == (code, length)) {
                Some(256) => return Err(Broken),
                Some(symbol) => {
                    out.push(symbol as u8);
                    (code, length) = (0, 0);
                }
                None if length > 30 => return Err(Broken),
                None => {}
            }
        }
        if length < 8 && code == (1 << length) - 1 { Ok(out) } else { Err(Broken) }
    }
}
