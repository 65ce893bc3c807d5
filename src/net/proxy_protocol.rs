//! The PROXY protocol's header, versions 1 and 2: who connected to whom, told by a load balancer ahead of everything else.
//!
//! Our own reader: the `proxy-header` crate takes `+80` and `00080` for ports, has a line of 120 bytes pass once it is
//! complete, waits for 15 bytes before it refuses what is no header, and leaves checksums alone. What is here accepts what
//! the specification (HAProxy's proxy-protocol.txt, 2020/03/05) says a sender may write, refuses the rest at the first wrong
//! byte, and takes not one byte too many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, with its CRLF: `PROXY UNKNOWN`, two addresses of 39 bytes, two ports of 5.
const LINE_MAX: usize = 107;
const LINE_BEGIN: &[u8] = b"PROXY ";

/// What a header of version 2 begins with:
///
/// ```text
/// 0         12      13      14        16            16 + length
/// signature | 2 | command | family | transport | length | addresses | TLVs
///           |  4 bits each |  4 bits each      | 2 bytes
/// ```
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const PREFIX: usize = 16;
/// Two paths of 108 bytes.
const UNIX_ADDRESSES: usize = 216;

/// TLVs of which we know more than the length.
const TLV_CRC32C: u8 = 0x03;
const TLV_UNIQUE_ID: u8 = 0x05;
const TLV_SSL: u8 = 0x20;
const UNIQUE_ID_MAX: usize = 128;
/// What an SSL TLV holds ahead of its own TLVs: a byte of flags, and the result of the verification.
const SSL_FIXED: usize = 5;

/// A header that was read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `None`: the sender speaks for itself (`LOCAL`), or does not say, or not in IP; the socket's own addresses count.
    pub addresses: Option<Addresses>,
    /// How many bytes it takes; what comes behind it is not the header's.
    pub bytes: usize,
}

/// Both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client's.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// What came begins as neither version does.
    Missing,
    Malformed,
    TooLong,
    Checksum,
}

impl HeaderError {
    /// The reason code of the metrics and the documentation.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "proxy_header_missing",
            Self::Malformed => "proxy_header_malformed",
            Self::TooLong => "proxy_header_too_long",
            Self::Checksum => "proxy_header_checksum",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// Reads the header at the beginning of `input`; `None` where more bytes are needed. `bytes_max` bounds version 2; version 1
/// has a bound of its own.
pub fn parse(input: &[u8], bytes_max: usize) -> Result<Option<Header>, HeaderError> {
    let begins = |with: &[u8]| input.iter().zip(with).all(|(one, other)| one == other);
    if begins(LINE_BEGIN) && begins(SIGNATURE) {
        // No byte has come.
        Ok(None)
    } else if begins(LINE_BEGIN) {
        parse_line(input)
    } else if begins(SIGNATURE) {
        parse_binary(input, bytes_max)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n`.
fn parse_line(input: &[u8]) -> Result<Option<Header>, HeaderError> {
    let window = &input[..input.len().min(LINE_MAX)];
    let Some(end) = window.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if window.len() == LINE_MAX { Err(HeaderError::TooLong) } else { Ok(None) };
    };
    match &window[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if window.len() < LINE_MAX => return Ok(None),
        [b'\r'] => return Err(HeaderError::TooLong),
        _ => return Err(HeaderError::Malformed),
    }
    let line = std::str::from_utf8(&window[..end]).map_err(|_| HeaderError::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let addresses = match words[..] {
        // Whatever follows is to be ignored.
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, destination, from, to] => {
            let address = |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| HeaderError::Malformed);
            Some(Addresses::of(address(source)?, port(from)?, address(destination)?, port(to)?))
        }
        ["PROXY", "TCP6", source, destination, from, to] => {
            let address = |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| HeaderError::Malformed);
            Some(Addresses::of(address(source)?, port(from)?, address(destination)?, port(to)?))
        }
        _ => return Err(HeaderError::Malformed),
    };
    Ok(Some(Header { addresses, bytes: end + 2 }))
}

/// Digits only, and no zero ahead of others.
fn port(text: &str) -> Result<u16, HeaderError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(HeaderError::Malformed)
}

fn parse_binary(input: &[u8], bytes_max: usize) -> Result<Option<Header>, HeaderError> {
    // Version and command, family and transport are refused as soon as they are there.
    let local = match input.get(SIGNATURE.len()) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(HeaderError::Malformed),
    };
    let family = match input.get(SIGNATURE.len() + 1) {
        None => return Ok(None),
        Some(&family @ (0x00 | 0x11 | 0x21 | 0x31)) => family,
        // Datagrams do not come over a connection. Of `LOCAL` the family is to be ignored.
        Some(_) if local => 0x00,
        Some(_) => return Err(HeaderError::Malformed),
    };
    let Some(length) = input.get(PREFIX - 2..PREFIX) else { return Ok(None) };
    let bytes = PREFIX + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if bytes > bytes_max {
        return Err(HeaderError::TooLong);
    }
    let room = match family {
        0x11 => 12,
        0x21 => 36,
        0x31 => UNIX_ADDRESSES,
        _ => 0,
    };
    if !local && bytes < PREFIX + room {
        return Err(HeaderError::Malformed);
    }
    let Some(header) = input.get(..bytes) else { return Ok(None) };
    let checked = header.get(PREFIX + room..).map_or(Ok(()), |tlvs| check_tlvs(header, tlvs));
    match checked {
        // Of `LOCAL` everything is to be ignored, so it need not be well formed; a checksum that is there must be right.
        Err(HeaderError::Malformed) if local => {}
        checked => checked?,
    }
    let addresses = match (family, &header[PREFIX..]) {
        _ if local => None,
        (0x11, block) => Some(read_addresses::<4>(block)),
        (0x21, block) => Some(read_addresses::<16>(block)),
        _ => None,
    };
    Ok(Some(Header { addresses, bytes }))
}

/// Source, destination, and a port of two bytes for each; the caller has looked whether the block is long enough.
fn read_addresses<const N: usize>(block: &[u8]) -> Addresses
where
    IpAddr: From<[u8; N]>,
{
    let address =
        |at: usize| IpAddr::from(<[u8; N]>::try_from(&block[at..at + N]).expect("as many bytes as asked for"));
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    Addresses::of(address(0), port(2 * N), address(N), port(2 * N + 2))
}

/// Each a byte of type, two of length, and so many of value, up to exactly the header's end. What they say is not used; that
/// they are well formed and the checksum is right says that nothing was cut or changed on the way.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), HeaderError> {
    let mut checksum = None;
    let mut rest = tlvs;
    while !rest.is_empty() {
        let (kind, value, behind) = split_tlv(rest).ok_or(HeaderError::Malformed)?;
        match kind {
            TLV_CRC32C => {
                let stated = <[u8; 4]>::try_from(value).map_err(|_| HeaderError::Malformed)?;
                let at = header.len() - behind.len() - stated.len();
                if checksum.replace((at, u32::from_be_bytes(stated))).is_some() {
                    return Err(HeaderError::Malformed);
                }
            }
            TLV_UNIQUE_ID if value.len() > UNIQUE_ID_MAX => return Err(HeaderError::Malformed),
            TLV_SSL => {
                let mut inner = value.get(SSL_FIXED..).ok_or(HeaderError::Malformed)?;
                while !inner.is_empty() {
                    inner = split_tlv(inner).ok_or(HeaderError::Malformed)?.2;
                }
            }
            _ => {}
        }
        rest = behind;
    }
    match checksum {
        Some((at, stated)) if crc32c([&header[..at], &[0; 4], &header[at + 4..]]) != stated => {
            Err(HeaderError::Checksum)
        }
        _ => Ok(()),
    }
}

/// Type, value, and what comes behind.
fn split_tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
    let (value, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, behind))
}

/// Castagnoli's polynomial, reflected. A header is short, and has a checksum rarely: a bit at a time is fast enough.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in parts.into_iter().flatten() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// The header that tells an upstream who the client is.
pub fn write(version: Version, addresses: &Addresses) -> Vec<u8> {
    let Addresses { source, destination } = addresses;
    match version {
        Version::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
        Version::V2 => {
            let mut header = [SIGNATURE, &[0x21]].concat();
            match (source.ip(), destination.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.extend_from_slice(&[0x11, 0, 12]);
                    header.extend_from_slice(&from.octets());
                    header.extend_from_slice(&to.octets());
                }
                (from, to) => {
                    header.extend_from_slice(&[0x21, 0, 36]);
                    header.extend_from_slice(&as_v6(from).octets());
                    header.extend_from_slice(&as_v6(to).octets());
                }
            }
            header.extend_from_slice(&source.port().to_be_bytes());
            header.extend_from_slice(&destination.port().to_be_bytes());
            header
        }
    }
}

/// The header of a connection that the gateway makes on its own account, such as a health check.
pub fn write_own(version: Version) -> Vec<u8> {
    match version {
        Version::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        Version::V2 => [SIGNATURE, &[0x20, 0x00, 0, 0]].concat(),
    }
}

impl Addresses {
    /// Of one family: IPv4 where both are, also where a socket of both families tells them as IPv6.
    pub fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let (from, to) =
            if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (as_v6(from).into(), as_v6(to).into()) };
        Self::of(from, source.port(), to, destination.port())
    }

    fn of(source: IpAddr, from: u16, destination: IpAddr, to: u16) -> Self {
        Self { source: SocketAddr::new(source, from), destination: SocketAddr::new(destination, to) }
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests;
