use proptest::prelude::*;

use super::*;

const MAX: usize = 4096;

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    let [source, destination] = [source, destination].map(|text| text.parse().expect("an address"));
    Some(Addresses { source, destination })
}

/// A header of version 2 with this command, family and block.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(block.len() as u16).to_be_bytes(), block].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

const V4_BLOCK: &[u8] = &[203, 0, 113, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x01, 0xbb];

/// With a checksum that is right, ahead of `more`.
fn with_checksum(command: u8, family: u8, block: &[u8], more: &[u8]) -> Vec<u8> {
    let block = [block, &tlv(TLV_CRC32C, &[0; 4]), more].concat();
    let mut header = binary(command, family, &block);
    let at = header.len() - more.len() - 4;
    let sum = crc32c([&header, &[], &[]]);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

/// However it is cut, the header says the same, and takes as many bytes; all that is shorter asks for more.
fn check(header: &[u8], expected: Option<Addresses>) {
    let whole = Header { addresses: expected, bytes: header.len() };
    for cut in 0..header.len() {
        assert_eq!(parse(&header[..cut], MAX), Ok(None), "{cut} bytes of {}", header.escape_ascii());
    }
    assert_eq!(parse(header, MAX), Ok(Some(whole)), "{}", header.escape_ascii());
    for behind in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY UNKNOWN\r\n", b"\r\n", b"\x16\x03\x01"] {
        assert_eq!(parse(&[header, behind].concat(), MAX), Ok(Some(whole)), "with {}", behind.escape_ascii());
    }
}

/// Refused, and not before `at` bytes have come.
fn check_refused(header: &[u8], error: HeaderError, at: usize) {
    assert_eq!(parse(header, MAX), Err(error), "{}", header.escape_ascii());
    assert_eq!(parse(&header[..at], MAX), Err(error), "{at} bytes of {}", header.escape_ascii());
    assert_eq!(parse(&header[..at - 1], MAX), Ok(None), "{} bytes of {}", at - 1, header.escape_ascii());
}

#[test]
fn lines_of_version_1() {
    check(b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n", addresses("203.0.113.7:40000", "192.0.2.1:443"));
    check(b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", addresses("0.0.0.0:0", "255.255.255.255:65535"));
    check(b"PROXY TCP6 2001:db8::7 ::1 40000 443\r\n", addresses("[2001:db8::7]:40000", "[::1]:443"));
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN whatever is here\r\n", None);
    let ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    check(format!("PROXY UNKNOWN {ones} {ones} 65535 65535\r\n").as_bytes(), None);
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 \r\n",
        "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 256.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\n",
        "PROXY TCP4 1.2.3.4\t5.6.7.8 1 2\r\n",
        "PROXY UNKNOWN \r \n",
        "PROXY UNKNOWN \0\r\n",
    ] {
        let refused = parse(line.as_bytes(), MAX);
        assert!(matches!(refused, Err(HeaderError::Malformed | HeaderError::Missing)), "{line:?}: {refused:?}");
    }
}

#[test]
fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
    check_refused(b"GET / HTTP/1.1\r\n", HeaderError::Missing, 1);
    check_refused(b"POST / HTTP/1.1\r\n", HeaderError::Missing, 2);
    check_refused(b"PROXZ", HeaderError::Missing, 5);
    check_refused(b"\x16\x03\x01\x02\x00", HeaderError::Missing, 1);
    check_refused(b"\r\nGET / HTTP/1.1\r\n", HeaderError::Missing, 3);
    check_refused(b"\r\n\r\n\0\r\nQUIT\r", HeaderError::Missing, 12);
    check_refused(&binary(0x11, 0x11, V4_BLOCK), HeaderError::Malformed, 13);
    check_refused(&binary(0x22, 0x11, V4_BLOCK), HeaderError::Malformed, 13);
    for family in [0x01, 0x10, 0x12, 0x13, 0x22, 0x32, 0x41] {
        check_refused(&binary(0x21, family, &[0; 300]), HeaderError::Malformed, 14);
    }
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16)).into_bytes();
    check(&line(107), None);
    check_refused(&line(108), HeaderError::TooLong, 107);
    check_refused(&line(109), HeaderError::TooLong, 107);
    check_refused(&[b'P', b'R', b'O', b'X', b'Y', b' '].repeat(40), HeaderError::TooLong, 107);
}

#[test]
fn headers_of_version_2() {
    let v4 = addresses("203.0.113.7:40000", "192.0.2.1:443");
    check(&binary(0x21, 0x11, V4_BLOCK), v4);
    let v6_block = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 15], &[1], &[0x9c, 0x40, 0x01, 0xbb]].concat();
    check(&binary(0x21, 0x21, &v6_block), addresses("[2001:db8::7]:40000", "[::1]:443"));
    check(&binary(0x21, 0x31, &[b'/'; UNIX_ADDRESSES]), None);
    check(&binary(0x21, 0x00, &[]), None);
    check(&binary(0x20, 0x00, &[]), None);
    check(&binary(0x20, 0x11, V4_BLOCK), None);
    check(&binary(0x20, 0x12, V4_BLOCK), None);
    check(&binary(0x20, 0x11, &[1, 2, 3]), None);
    check(&binary(0x20, 0x00, b"neither addresses nor TLVs"), None);
    let ssl = tlv(TLV_SSL, &[&[1, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3"), &tlv(0x22, b"client")].concat());
    let tlvs =
        [tlv(0x01, b"h2"), tlv(0x02, b"a.test"), tlv(TLV_UNIQUE_ID, &[9; 128]), ssl, tlv(0xea, b"vpce")].concat();
    check(&binary(0x21, 0x11, &[V4_BLOCK, &tlvs].concat()), v4);
    check(&binary(0x21, 0x00, &tlvs), None);
}

#[test]
fn blocks_that_are_cut_or_have_loose_ends_are_refused() {
    let refused =
        |family, block: &[u8], error| assert_eq!(parse(&binary(0x21, family, block), MAX), Err(error), "{block:?}");
    // What is too short for its addresses is known from the length.
    check_refused(&binary(0x21, 0x11, &[0; 11]), HeaderError::Malformed, PREFIX);
    check_refused(&binary(0x21, 0x21, &[0; 35]), HeaderError::Malformed, PREFIX);
    check_refused(&binary(0x21, 0x31, &[0; 215]), HeaderError::Malformed, PREFIX);
    check_refused(&binary(0x21, 0x11, &[0; MAX - PREFIX + 1]), HeaderError::TooLong, PREFIX);
    check_refused(&binary(0x20, 0x00, &[0; MAX - PREFIX + 1]), HeaderError::TooLong, PREFIX);
    for tlvs in [
        &[0x01][..],
        &[0x01, 0, 3, b'h', b'2'],
        &[0x01, 0xff, 0xff],
        &tlv(TLV_UNIQUE_ID, &[9; 129]),
        &tlv(TLV_SSL, &[1, 0, 0, 0]),
        &tlv(TLV_SSL, &[1, 0, 0, 0, 0, 0x21, 0, 9, b'T']),
        &tlv(TLV_CRC32C, &[0; 3]),
        &[tlv(TLV_CRC32C, &[0; 4]), tlv(TLV_CRC32C, &[0; 4])].concat(),
    ] {
        refused(0x11, &[V4_BLOCK, tlvs].concat(), HeaderError::Malformed);
    }
}

#[test]
fn a_checksum_that_is_there_is_checked() {
    // RFC 3720 section B.4.
    assert_eq!(crc32c([&[0; 32], &[], &[]]), 0x8a91_36aa);
    assert_eq!(crc32c([&[0xff; 32], &[], &[]]), 0x62a8_ab43);
    let good = with_checksum(0x21, 0x11, V4_BLOCK, &tlv(0x02, b"a.test"));
    check(&good, addresses("203.0.113.7:40000", "192.0.2.1:443"));
    check(&with_checksum(0x20, 0x00, &[], &[]), None);
    // Every byte of it counts, those of the addresses and of other TLVs as well; but a checksum of another type is none.
    let kind_at = PREFIX + V4_BLOCK.len();
    for at in (PREFIX..good.len()).filter(|at| *at != kind_at) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let refused = parse(&bad, MAX);
        assert!(matches!(refused, Err(HeaderError::Checksum | HeaderError::Malformed)), "{at}: {refused:?}");
    }
    let mut bad = with_checksum(0x20, 0x00, &[], &[]);
    *bad.last_mut().expect("it is not empty") ^= 1;
    check_refused(&bad, HeaderError::Checksum, bad.len());
}

#[test]
fn what_is_written_is_read() {
    for (source, destination) in [("203.0.113.7:1", "192.0.2.1:65535"), ("[2001:db8::7]:4000", "[::1]:443")] {
        let told = addresses(source, destination).expect("two addresses");
        for version in [Version::V1, Version::V2] {
            check(&write(version, &told), Some(told));
        }
    }
    check(&write_own(Version::V1), None);
    check(&write_own(Version::V2), None);
    let between = |one: &str, other: &str| {
        let Addresses { source, destination } = addresses(one, other).expect("two addresses");
        Some(Addresses::between(source, destination))
    };
    assert_eq!(between("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:2"), addresses("10.0.0.1:1", "10.0.0.2:2"));
    assert_eq!(between("10.0.0.1:1", "[::1]:2"), addresses("[::ffff:10.0.0.1]:1", "[::1]:2"));
}

/// Bytes that get far into a header, and arbitrary ones.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        bytes(),
        bytes().prop_map(|tail| [b"PROXY ", &tail[..]].concat()),
        "PROXY (TCP4|TCP6|UNKNOWN)[ 0-9a-f:.]{0,110}\r\n".prop_map(String::into_bytes),
        (0x1fu8..0x23, any::<u8>(), bytes()).prop_map(|(command, family, block)| binary(command, family, &block)),
        (any::<u16>(), bytes()).prop_map(|(length, block)| {
            [SIGNATURE, &[0x21, 0x11], &length.to_be_bytes(), V4_BLOCK, &block].concat()
        }),
        (any::<u8>(), bytes()).prop_map(|(kind, value)| binary(0x21, 0x11, &[V4_BLOCK, &tlv(kind, &value)].concat())),
    ]
}

proptest! {
    #[test]
    fn cutting_changes_nothing(input in nearly(), cuts in prop::collection::vec(0usize..400, 0..8)) {
        let whole = parse(&input, MAX);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).chain([input.len()]).collect();
        cuts.sort_unstable();
        let decided = cuts.iter().map(|&cut| parse(&input[..cut], MAX)).find(|parsed| *parsed != Ok(None));
        prop_assert_eq!(decided.unwrap_or(Ok(None)), whole);
        if let Ok(Some(header)) = whole {
            prop_assert!(header.bytes <= input.len() && header.bytes <= MAX);
            prop_assert_eq!(parse(&input[..header.bytes], MAX), whole);
            prop_assert_eq!(parse(&input[..header.bytes - 1], MAX), Ok(None));
        } else if whole == Ok(None) {
            prop_assert!(input.len() < MAX, "what needs more bytes has had few");
        }
    }

    #[test]
    fn any_addresses_come_back(source: (u128, u16), destination: (u128, u16), v4: bool, v2: bool) {
        let address = |(bits, port): (u128, u16)| match v4 {
            true => SocketAddr::from((Ipv4Addr::from(bits as u32), port)),
            false => SocketAddr::from((Ipv6Addr::from(bits), port)),
        };
        let told = Addresses { source: address(source), destination: address(destination) };
        let version = if v2 { Version::V2 } else { Version::V1 };
        let header = write(version, &told);
        prop_assert_eq!(parse(&header, MAX), Ok(Some(Header { addresses: Some(told), bytes: header.len() })));
    }
}
