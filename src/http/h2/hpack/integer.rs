//! Integers with a prefix (RFC 7541 section 5.1).

use super::Broken;

/// Enough for any length or index that we accept.
const MAX: u32 = 1 << 28;

/// Reads an integer whose first byte carries `bits` of it. `None`: more bytes are needed.
#[inline]
pub fn decode(input: &[u8], bits: u8) -> Result<Option<(u32, usize)>, Broken> {
    let Some(&first) = input.first() else { return Ok(None) };
    let mask = (1u32 << bits) - 1;
    let prefix = u32::from(first) & mask;
    if prefix < mask {
        return Ok(Some((prefix, 1)));
    }
    decode_rest(input, mask)
}

fn decode_rest(input: &[u8], prefix: u32) -> Result<Option<(u32, usize)>, Broken> {
    let mut value = prefix;
    for (index, &byte) in input[1..].iter().enumerate() {
        // Four groups of seven bits reach MAX; a fifth, also one of zeros, is nothing that an encoder needs.
        if index == 4 {
            return Err(Broken);
        }
        value += u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return if value < MAX { Ok(Some((value, index + 2))) } else { Err(Broken) };
        }
    }
    if input.len() > 4 { Err(Broken) } else { Ok(None) }
}

/// Writes an integer behind the flags that its first byte begins with.
#[inline]
pub fn encode(out: &mut Vec<u8>, flags: u8, bits: u8, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 7541 appendix C.1.
    #[test]
    fn examples() {
        assert_eq!(decode(&[0b1110_1010], 5), Ok(Some((10, 1))));
        assert_eq!(decode(&[0b0001_1111, 0b1001_1010, 0b0000_1010], 5), Ok(Some((1337, 3))));
        assert_eq!(decode(&[42], 8), Ok(Some((42, 1))));
    }

    #[test]
    fn what_is_too_large_is_broken_and_what_is_short_waits() {
        assert_eq!(decode(&[], 7), Ok(None));
        assert_eq!(decode(&[0x7f], 7), Ok(None));
        assert_eq!(decode(&[0x7f, 0x80, 0x80, 0x80], 7), Ok(None));
        assert_eq!(decode(&[0x7f, 0x80, 0x80, 0x80, 0x00], 7), Ok(Some((127, 5))));
        assert_eq!(decode(&[0x7f, 0x80, 0x80, 0x80, 0x80], 7), Err(Broken));
        assert_eq!(decode(&[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00], 7), Err(Broken));
        assert_eq!(decode(&[0x7f, 0xff, 0xff, 0xff, 0x7f], 7), Err(Broken));
        assert_eq!(decode(&[0xff; 64], 4), Err(Broken));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..MAX, bits in 1u8..=8) {
            let mut out = Vec::new();
            encode(&mut out, 0, bits, value as usize);
            prop_assert_eq!(decode(&out, bits), Ok(Some((value, out.len()))));
            for end in 0..out.len() {
                prop_assert_eq!(decode(&out[..end], bits), Ok(None));
            }
        }
    }
}
