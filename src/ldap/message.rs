//! The messages: what is asked, and what a directory answers (RFC 4511, section 4).

use std::fmt;

use super::{
    Filter,
    ber::{BOOLEAN, ENUMERATED, Elements, INTEGER, Malformed, OCTETS, SEQUENCE, write, write_number, write_octets},
};

const VERSION: u32 = 3;
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
const NOTICE_OF_DISCONNECTION: &[u8] = b"1.3.6.1.4.1.1466.20036";
/// A search that asks for no attribute (section 4.5.1.8).
const NO_ATTRIBUTES: &[u8] = b"1.1";
/// As many as it takes to know that there are several.
const ENTRIES_MAX: u32 = 2;

const BIND_REQUEST: u8 = 0x60;
const BIND_RESPONSE: u8 = 0x61;
const UNBIND_REQUEST: u8 = 0x42;
const SEARCH_REQUEST: u8 = 0x63;
const SEARCH_ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const SEARCH_REFERENCE: u8 = 0x73;
const EXTENDED_REQUEST: u8 = 0x77;
const EXTENDED_RESPONSE: u8 = 0x78;
const SIMPLE: u8 = 0x80;
const REQUEST_NAME: u8 = 0x80;
const RESPONSE_NAME: u8 = 0x8a;

/// What is asked.
pub enum Request<'r> {
    /// A simple bind (section 4.2).
    Bind { name: &'r [u8], password: &'r [u8] },
    /// The entries that a filter finds with the user's name in it, two at the most and their names alone (section 4.5.1).
    Search { base: &'r str, in_subtree: bool, filter: &'r Filter, user: &'r [u8], seconds_max: u32 },
    /// That TLS begins behind the answer (section 4.14).
    StartTls,
    /// Nobody answers it (section 4.3).
    Unbind,
}

impl Request<'_> {
    /// The whole message. `id` is not 0: that is the directory's own.
    pub fn encode(&self, id: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        write(&mut out, SEQUENCE, |out| {
            write_number(out, INTEGER, id);
            match self {
                Self::Bind { name, password } => write(out, BIND_REQUEST, |out| {
                    write_number(out, INTEGER, VERSION);
                    write_octets(out, OCTETS, name);
                    write_octets(out, SIMPLE, password);
                }),
                Self::Search { base, in_subtree, filter, user, seconds_max } => write(out, SEARCH_REQUEST, |out| {
                    write_octets(out, OCTETS, base.as_bytes());
                    // singleLevel or wholeSubtree; aliases are never dereferenced.
                    write_number(out, ENUMERATED, if *in_subtree { 2 } else { 1 });
                    write_number(out, ENUMERATED, 0);
                    write_number(out, INTEGER, ENTRIES_MAX);
                    write_number(out, INTEGER, *seconds_max);
                    write_octets(out, BOOLEAN, &[0xff]);
                    filter.encode(user, out);
                    write(out, SEQUENCE, |out| write_octets(out, OCTETS, NO_ATTRIBUTES));
                }),
                Self::StartTls => write(out, EXTENDED_REQUEST, |out| write_octets(out, REQUEST_NAME, START_TLS)),
                Self::Unbind => write_octets(out, UNBIND_REQUEST, &[]),
            }
        });
        out
    }
}

/// Neither names nor passwords.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bind { .. } => "Bind",
            Self::Search { .. } => "Search",
            Self::StartTls => "StartTls",
            Self::Unbind => "Unbind",
        })
    }
}

/// What a directory answers. Its texts for people are left out: nobody knows what stands in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'m> {
    Bind(ResultCode),
    /// The name of an entry that was found.
    Entry(&'m [u8]),
    /// Others may know of more; they are not asked.
    Reference,
    SearchDone(ResultCode),
    Extended(ResultCode),
    /// The directory ends the connection (section 4.4.1).
    Disconnection(ResultCode),
}

/// How an operation ended (section 4.1.9, and Appendix A).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResultCode(pub u32);

impl ResultCode {
    pub const SUCCESS: Self = Self(0);
    pub const TIME_LIMIT_EXCEEDED: Self = Self(3);
    pub const SIZE_LIMIT_EXCEEDED: Self = Self(4);
    pub const REFERRAL: Self = Self(10);
    pub const CONSTRAINT_VIOLATION: Self = Self(19);
    pub const NO_SUCH_OBJECT: Self = Self(32);
    pub const INVALID_DN_SYNTAX: Self = Self(34);
    pub const INAPPROPRIATE_AUTHENTICATION: Self = Self(48);
    pub const INVALID_CREDENTIALS: Self = Self(49);
    pub const INSUFFICIENT_ACCESS_RIGHTS: Self = Self(50);
    pub const BUSY: Self = Self(51);
    pub const UNAVAILABLE: Self = Self(52);
    pub const UNWILLING_TO_PERFORM: Self = Self(53);

    /// As the RFC names it.
    fn name(self) -> &'static str {
        match self.0 {
            0 => "success",
            1 => "operationsError",
            2 => "protocolError",
            3 => "timeLimitExceeded",
            4 => "sizeLimitExceeded",
            7 => "authMethodNotSupported",
            8 => "strongerAuthRequired",
            10 => "referral",
            11 => "adminLimitExceeded",
            12 => "unavailableCriticalExtension",
            13 => "confidentialityRequired",
            18 => "inappropriateMatching",
            19 => "constraintViolation",
            32 => "noSuchObject",
            34 => "invalidDNSyntax",
            48 => "inappropriateAuthentication",
            49 => "invalidCredentials",
            50 => "insufficientAccessRights",
            51 => "busy",
            52 => "unavailable",
            53 => "unwillingToPerform",
            54 => "loopDetect",
            _ => "another result",
        }
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One whole message: which question it answers, and what it says. Elements behind those that are known are let be, as
/// section 4 wants it.
pub fn decode(message: &[u8]) -> Result<(u32, Response<'_>), Malformed> {
    let mut outer = Elements::new(Elements::new(message).expect(SEQUENCE)?);
    let id = outer.number(INTEGER)?;
    let (operation, content) = outer.next()?;
    let mut content = Elements::new(content);
    let response = match operation {
        BIND_RESPONSE => Response::Bind(result(&mut content)?),
        SEARCH_ENTRY => Response::Entry(content.expect(OCTETS)?),
        SEARCH_REFERENCE => Response::Reference,
        SEARCH_DONE => Response::SearchDone(result(&mut content)?),
        EXTENDED_RESPONSE => {
            let code = result(&mut content)?;
            match id {
                0 if is_of_disconnection(content) => Response::Disconnection(code),
                _ => Response::Extended(code),
            }
        }
        _ => return Err(Malformed),
    };
    Ok((id, response))
}

/// The code of an `LDAPResult`; its name and text are passed over.
fn result(content: &mut Elements<'_>) -> Result<ResultCode, Malformed> {
    let code = content.number(ENUMERATED)?;
    content.expect(OCTETS)?;
    content.expect(OCTETS)?;
    Ok(ResultCode(code))
}

fn is_of_disconnection(mut rest: Elements<'_>) -> bool {
    while let Ok((tag, content)) = rest.next() {
        if tag == RESPONSE_NAME {
            return content == NOTICE_OF_DISCONNECTION;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_is_as_the_rfc_has_it() {
        let bind = Request::Bind { name: b"cn=a", password: b"b" }.encode(1);
        assert_eq!(bind, b"\x30\x11\x02\x01\x01\x60\x0c\x02\x01\x03\x04\x04cn=a\x80\x01b".to_vec());
        let filter = Filter::parse("(uid={0})").expect("a filter");
        let search = Request::Search { base: "o=x", in_subtree: false, filter: &filter, user: b"a*", seconds_max: 5 };
        let expected =
            b"\x30\x2b\x02\x01\x02\x63\x26\x04\x03o=x\x0a\x01\x01\x0a\x01\x00\x02\x01\x02\x02\x01\x05\x01\x01\xff\
                         \xa3\x09\x04\x03uid\x04\x02a*\x30\x05\x04\x031.1";
        assert_eq!(search.encode(2), expected.to_vec());
        let start = Request::StartTls.encode(1);
        assert_eq!(start, [&b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16"[..], START_TLS].concat());
        assert_eq!(Request::Unbind.encode(128), b"\x30\x06\x02\x02\x00\x80\x42\x00");
        assert_eq!(format!("{:?}", Request::Bind { name: b"cn", password: b"hunter2" }), "Bind");
    }

    #[test]
    fn what_is_answered_is_read() {
        let bind = ResultCode::INVALID_CREDENTIALS;
        for (message, expected) in [
            (&b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x31\x04\x00\x04\x00"[..], Ok((1, Response::Bind(bind)))),
            // With referrals, credentials of SASL, controls, and something that nobody knows yet.
            (
                b"\x30\x19\x02\x01\x01\x61\x10\x0a\x01\x31\x04\x01x\x04\x01y\xa3\x02\x04\x00\x87\x01z\xa0\x02\x30\x00",
                Ok((1, Response::Bind(bind))),
            ),
            (b"\x30\x0b\x02\x01\x02\x64\x06\x04\x02o=\x30\x00", Ok((2, Response::Entry(b"o=")))),
            (b"\x30\x08\x02\x01\x02\x73\x03\x04\x01r", Ok((2, Response::Reference))),
            (b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x00\x04\x00", Ok((2, Response::SearchDone(ResultCode(0))))),
            (b"\x30\x0c\x02\x01\x03\x78\x07\x0a\x01\x02\x04\x00\x04\x00", Ok((3, Response::Extended(ResultCode(2))))),
            (
                b"\x30\x24\x02\x01\x00\x78\x1f\x0a\x01\x34\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20036",
                Ok((0, Response::Disconnection(ResultCode(52)))),
            ),
            (b"\x30\x05\x02\x01\x01\x79\x00", Err(Malformed)),
            (b"\x30\x05\x02\x01\x01\x61\x00", Err(Malformed)),
            (b"\x30\x03\x02\x01\x01", Err(Malformed)),
            (b"\x30\x00", Err(Malformed)),
            (b"\x30\x0c\x02\x01\xff\x61\x07\x0a\x01\x00\x04\x00\x04\x00", Err(Malformed)),
            (b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x02\x31\x04\x00\x04\x00", Err(Malformed)),
        ] {
            assert_eq!(decode(message), expected, "{message:02x?}");
        }
    }

    #[test]
    fn what_is_nested_without_end_costs_its_length() {
        let mut nested = Vec::new();
        for _ in 0..100_000 {
            let length = (nested.len() as u32).to_be_bytes();
            nested.extend(length.iter().rev().chain([&0x84, &0x30]));
        }
        nested.reverse();
        assert_eq!(decode(&nested), Err(Malformed));
        let mut message = Vec::new();
        write(&mut message, SEQUENCE, |out| {
            write_number(out, INTEGER, 1);
            write_octets(out, SEARCH_REFERENCE, &nested);
        });
        assert_eq!(decode(&message), Ok((1, Response::Reference)));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode(&[&[SEQUENCE, bytes.len() as u8 & 0x7f], &*bytes].concat());
        }
    }
}
