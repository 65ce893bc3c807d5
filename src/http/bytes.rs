//! Which bytes may stand where: one table for every grammar of a head.
//!
//! The checks look at every byte and branch once at the end. Heads that are refused are rare; heads that pass are short.

/// RFC 9110 section 5.6.2.
pub const TOKEN: u8 = 1;
/// A token without lower-case letters: frameworks that upper-case a method would read `post` where our rules saw none.
pub const METHOD: u8 = 2;
/// What a path may be sent with: `pchar`, `/`, `%`, the brackets that browsers leave as they are, and ``" < > ^ ` { | }``,
/// which clients leave unescaped and no parser gives a meaning in a path. `\` stays out: some read it as a slash.
pub const PATH: u8 = 4;
/// Also `?` and `\`, which is only a byte there. `#` stays out: it would begin a fragment.
pub const QUERY: u8 = 8;
/// `unreserved` of RFC 3986. Its `reg-name` also allows sub-delims and escapes, which no resolvable name has.
pub const HOST: u8 = 16;
/// Of a path: what is the same escaped or not (RFC 3986 section 6.2.2.2).
pub const UNRESERVED: u8 = HOST;
/// A token without upper-case letters, as a field name in HTTP/2 is.
pub const FIELD_NAME: u8 = 32;
/// What a path has in its normal form, escapes aside.
pub const PLAIN_PATH: u8 = 64;

/// What a name or an IPv4 address has in its normal form.
pub const PLAIN_HOST: u8 = 128;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    add(&mut table, b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", TOKEN | METHOD | PATH | PLAIN_PATH | QUERY | HOST);
    add(&mut table, b"0123456789", FIELD_NAME);
    add(&mut table, b"abcdefghijklmnopqrstuvwxyz", TOKEN | PATH | PLAIN_PATH | QUERY | HOST | FIELD_NAME);
    add(&mut table, b"!#$%&'*+-.^_`|~", TOKEN | METHOD | FIELD_NAME);
    add(&mut table, b"-._~", HOST);
    add(&mut table, b"-._~!$&'()*+,;=:@/[]", PATH | PLAIN_PATH | QUERY);
    add(&mut table, b"%{}|^`\"<>", PATH | QUERY);
    add(&mut table, b"?\\", QUERY);
    add(&mut table, b"0123456789abcdefghijklmnopqrstuvwxyz-._~", PLAIN_HOST);
    table
}

const fn add(table: &mut [u8; 256], bytes: &[u8], class: u8) {
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] |= class;
        at += 1;
    }
}

#[inline]
pub fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Every byte is of the class; true for none.
#[inline]
pub fn all(bytes: &[u8], class: u8) -> bool {
    common(bytes, class) != 0
}

/// Those of the classes that every byte is of.
#[inline]
pub fn common(bytes: &[u8], classes: u8) -> u8 {
    bytes.iter().fold(classes, |common, &byte| common & CLASSES[byte as usize])
}

pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// What a value may hold (RFC 9110 section 5.5): no control but a tab, and no space at either end.
pub fn is_field_value(bytes: &[u8]) -> bool {
    trim(bytes).len() == bytes.len() && bytes.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

/// Where the byte comes first. In a head that is nearly always within a few dozen bytes, where calling a search that looks
/// for the widest instructions costs more than the search.
#[inline]
pub fn find<const BYTE: u8>(bytes: &[u8]) -> Option<usize> {
    const NEAR_WORDS: usize = 4;
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    let (words, _) = bytes.as_chunks::<8>();
    let near = words.len().min(NEAR_WORDS);
    for (index, word) in words[..near].iter().enumerate() {
        let differences = u64::from_le_bytes(*word) ^ (LOW * BYTE as u64);
        // The lowest high bit that is set is of a byte that was 0; those above it may be of a borrow.
        let zeros = differences.wrapping_sub(LOW) & !differences & (LOW << 7);
        if zeros != 0 {
            return Some(8 * index + zeros.trailing_zeros() as usize / 8);
        }
    }
    memchr::memchr(BYTE, &bytes[8 * near..]).map(|at| 8 * near + at)
}

/// Without the spaces and tabs around it (OWS of RFC 9110 section 5.6.3).
#[inline]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110 section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// `1*DIGIT` up to `i64::MAX`, the most that every peer's integers hold.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (number <= i64::MAX as u64).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_digits_that_fit() {
        for (digits, number) in [
            ("0", 0),
            ("42", 42),
            ("0010", 10),
            ("9223372036854775807", i64::MAX as u64),
            ("000000000000000000000007", 7),
        ] {
            assert_eq!(decimal(digits.as_bytes()), Some(number), "{digits}");
        }
        for digits in [
            "",
            "+1",
            "-1",
            "0x1",
            "1_0",
            "1 ",
            " 1",
            "1,1",
            "1e1",
            "9223372036854775808",
            "18446744073709551616",
            "99999999999999999999",
        ] {
            assert_eq!(decimal(digits.as_bytes()), None, "{digits}");
        }
    }

    #[test]
    fn no_class_holds_a_control_a_space_or_a_byte_beyond_ascii() {
        for byte in (0..=0x20).chain(0x7f..=0xff) {
            assert_eq!(CLASSES[byte as usize], 0, "{byte:#04x}");
        }
        assert!(!is(b'#', PATH | QUERY | HOST));
        assert!(!is(b'\\', PATH | HOST));
    }

    #[test]
    fn a_list_skips_empty_elements() {
        assert_eq!(list(b" a ,,\tb, ").collect::<Vec<_>>(), [b"a", b"b"]);
    }
}
