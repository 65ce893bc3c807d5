//! Elements of BER with definite lengths (ITU-T X.690), which are all that LDAP has (RFC 4511, section 5.1).

/// Length bytes of one element: more than any message that is taken needs.
const LENGTH_BYTES_MAX: usize = 4;
const DEFINITE: u8 = 0x80;
/// The tag goes on in further bytes: no element of LDAP has such a one.
const LONG_TAG: u8 = 0x1f;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const OCTETS: u8 = 0x04;
pub const ENUMERATED: u8 = 0x0a;
pub const SEQUENCE: u8 = 0x30;

/// Bytes that are no message of LDAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of LDAP")]
pub struct Malformed;

/// How far the bytes go that have come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message of so many bytes.
    Whole(usize),
    Part,
    TooLarge,
}

/// Looks at the beginning of a message, whose end may be still to come.
pub fn frame(input: &[u8], bytes_max: usize) -> Result<Frame, Malformed> {
    if input.first().is_some_and(|tag| *tag != SEQUENCE) {
        return Err(Malformed);
    }
    let Some((header, length)) = head(input)? else { return Ok(Frame::Part) };
    Ok(match header + length {
        whole if whole > bytes_max => Frame::TooLarge,
        whole if whole > input.len() => Frame::Part,
        whole => Frame::Whole(whole),
    })
}

/// Bytes of tag and length, and the length; `None` where they have not come wholly.
fn head(input: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let Some((&tag, rest)) = input.split_first() else { return Ok(None) };
    if tag & LONG_TAG == LONG_TAG {
        return Err(Malformed);
    }
    let Some((&first, rest)) = rest.split_first() else { return Ok(None) };
    if first < DEFINITE {
        return Ok(Some((2, usize::from(first))));
    }
    let count = usize::from(first - DEFINITE);
    // None: an indefinite length.
    if count == 0 || count > LENGTH_BYTES_MAX {
        return Err(Malformed);
    }
    let Some(bytes) = rest.get(..count) else { return Ok(None) };
    let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Ok(Some((2 + count, length)))
}

/// Elements that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'b>(&'b [u8]);

impl<'b> Elements<'b> {
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// The tag of the next one and what is in it.
    pub fn next(&mut self) -> Result<(u8, &'b [u8]), Malformed> {
        let (header, length) = head(self.0)?.ok_or(Malformed)?;
        let tag = self.0[0];
        let content = self.0[header..].get(..length).ok_or(Malformed)?;
        self.0 = &self.0[header + length..];
        Ok((tag, content))
    }

    /// What is in the next one, which has this tag.
    pub fn expect(&mut self, tag: u8) -> Result<&'b [u8], Malformed> {
        self.next().and_then(|(found, content)| if found == tag { Ok(content) } else { Err(Malformed) })
    }

    /// A number that is not negative: no other has a meaning here.
    pub fn number(&mut self, tag: u8) -> Result<u32, Malformed> {
        let content = self.expect(tag)?;
        let is_one = matches!(content, [0, rest @ ..] if rest.len() <= 4)
            || matches!(content, [0..=0x7f, rest @ ..] if rest.len() <= 3);
        if !is_one {
            return Err(Malformed);
        }
        Ok(content.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

/// One element, with what `content` writes in it.
pub fn write(out: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    content(out);
    let length = out.len() - start;
    let bytes = length.to_be_bytes();
    let digits = &bytes[length.leading_zeros() as usize / 8..];
    match length {
        0..0x80 => out.insert(start, length as u8),
        _ => drop(out.splice(start..start, [DEFINITE | digits.len() as u8].iter().chain(digits).copied())),
    }
}

pub fn write_octets(out: &mut Vec<u8>, tag: u8, octets: &[u8]) {
    write(out, tag, |out| out.extend_from_slice(octets));
}

pub fn write_number(out: &mut Vec<u8>, tag: u8, number: u32) {
    // With a zero in front where it would be read as a negative one.
    let bytes = u64::from(number).to_be_bytes();
    let digits = 8 - (u64::from(number).leading_zeros() as usize / 8).min(7);
    let digits = if bytes[8 - digits] >= 0x80 { digits + 1 } else { digits };
    write_octets(out, tag, &bytes[8 - digits..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_and_numbers_have_their_shortest_form() {
        let element = |length| {
            let mut out = Vec::new();
            write_octets(&mut out, OCTETS, &vec![7; length]);
            out.truncate(out.len() - length);
            out
        };
        assert_eq!(element(0), [4, 0]);
        assert_eq!(element(127), [4, 127]);
        assert_eq!(element(128), [4, 0x81, 128]);
        assert_eq!(element(256), [4, 0x82, 1, 0]);
        assert_eq!(element(65_536), [4, 0x83, 1, 0, 0]);
        let number = |number| {
            let mut out = Vec::new();
            write_number(&mut out, INTEGER, number);
            out
        };
        assert_eq!(number(0), [2, 1, 0]);
        assert_eq!(number(127), [2, 1, 127]);
        assert_eq!(number(128), [2, 2, 0, 128]);
        assert_eq!(number(u32::MAX), [2, 5, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn a_frame_is_whole_or_not_and_within_its_bounds() {
        for (input, expected) in [
            (&[][..], Ok(Frame::Part)),
            (&[0x30], Ok(Frame::Part)),
            (&[0x30, 0x82, 1], Ok(Frame::Part)),
            (&[0x30, 2, 0], Ok(Frame::Part)),
            (&[0x30, 2, 0, 0], Ok(Frame::Whole(4))),
            (&[0x30, 2, 0, 0, 9], Ok(Frame::Whole(4))),
            (&[0x30, 0x82, 0, 2, 0, 0], Ok(Frame::Whole(6))),
            (&[0x30, 99], Ok(Frame::TooLarge)),
            (&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], Ok(Frame::TooLarge)),
            (&[0x30, 0x80], Err(Malformed)),
            (&[0x30, 0x85, 0, 0, 0, 0, 1], Err(Malformed)),
            (&[0x31], Err(Malformed)),
            (b"HTTP/1.1 400", Err(Malformed)),
        ] {
            assert_eq!(frame(input, 100), expected, "{input:?}");
        }
    }

    #[test]
    fn numbers_are_read_that_are_not_negative() {
        let read = |bytes: &[u8]| Elements::new(bytes).number(INTEGER);
        assert_eq!(read(&[2, 1, 127]), Ok(127));
        assert_eq!(read(&[2, 2, 0, 128]), Ok(128));
        assert_eq!(read(&[2, 5, 0, 255, 255, 255, 255]), Ok(u32::MAX));
        for wrong in
            [&[2, 0][..], &[2, 1, 128], &[2, 5, 1, 0, 0, 0, 0], &[2, 6, 0, 1, 0, 0, 0, 0], &[2, 2, 1], &[10, 1, 1], &[]]
        {
            assert_eq!(read(wrong), Err(Malformed), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u32, octets: Vec<u8>) {
            let mut out = Vec::new();
            write(&mut out, SEQUENCE, |out| {
                write_number(out, ENUMERATED, number);
                write_octets(out, OCTETS, &octets);
            });
            prop_assert_eq!(frame(&out, usize::MAX), Ok(Frame::Whole(out.len())));
            let mut inner = Elements::new(Elements::new(&out).expect(SEQUENCE).expect("it was written"));
            prop_assert_eq!(inner.number(ENUMERATED), Ok(number));
            prop_assert_eq!(inner.expect(OCTETS), Ok(&*octets));
            prop_assert_eq!(inner.next(), Err(Malformed));
        }
    }
}
