use proptest::prelude::*;

use super::*;

type List = Vec<(String, String)>;

/// Decodes a whole block, given in pieces of `piece` bytes at most.
fn decode(decoder: &mut Decoder, block: &[u8], piece: usize) -> Result<List, Broken> {
    let mut list = Vec::new();
    let mut pending = Vec::new();
    decoder.begin_block();
    for piece in block.chunks(piece) {
        pending.extend_from_slice(piece);
        loop {
            let mut out = b"before".to_vec();
            let consumed = match decoder.step(&pending, &mut out)? {
                Step::NeedMore { consumed } => {
                    assert_eq!(out, b"before");
                    pending.drain(..consumed);
                    break;
                }
                Step::Field(field) => {
                    let (name, value) = out["before".len()..].split_at(field.name_len);
                    assert_eq!(value.len(), field.value_len);
                    assert_eq!((field.kind, field.value_is_legal), (Kind::of(name), is_value(value)));
                    let text = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
                    list.push((text(name), text(value)));
                    field.consumed
                }
            };
            pending.drain(..consumed);
        }
    }
    if pending.is_empty() { Ok(list) } else { Err(Broken) }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Each block and what it says, one `name: value` per line; whole and byte by byte.
fn check(blocks: &[(&str, &str)]) {
    for piece in [1, 3, usize::MAX] {
        let mut decoder = Decoder::new();
        for (block, expected) in blocks {
            let list = decode(&mut decoder, &hex(block), piece).unwrap();
            let said: Vec<_> = list.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            assert_eq!(said, expected.lines().map(str::trim).collect::<Vec<_>>());
        }
    }
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
];

const RESPONSES: [&str; 3] = [
    ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com",
    ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\nlocation: https://www.example.com\n\
     content-encoding: gzip\nset-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
];

/// RFC 7541 appendix C.2 to C.6. Those of C.5 and C.6 are made for a table of 256 bytes: a size update precedes them.
#[test]
fn examples_of_the_rfc() {
    check(&[("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "custom-key: custom-header")]);
    check(&[("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path")]);
    check(&[("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret")]);
    check(&[("82", ":method: GET")]);
    check(&[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0]),
        ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1]),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", REQUESTS[2]),
    ]);
    check(&[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0]),
        ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1]),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2]),
    ]);
    check(&[
        (
            "3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 \
             3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            RESPONSES[0],
        ),
        ("4803 3330 37c1 c0bf", RESPONSES[1]),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
             7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
             6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            RESPONSES[2],
        ),
    ]);
    check(&[
        (
            "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d \
             29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            RESPONSES[0],
        ),
        ("4883 640e ffc1 c0bf", RESPONSES[1]),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
             e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            RESPONSES[2],
        ),
    ]);
}

#[test]
fn broken_blocks() {
    for block in [
        "80",                   // index 0
        "be",                   // an empty table has no entry 62
        "7e 01 61",             // nor a name there
        "82 20",                // a size update behind a field
        "20 20 20 82",          // three of them
        "3f e2 1f",             // 4,097 bytes
        "ff ff ff ff ff 0f",    // an index that is no number
        "00 7f ff ff ff ff 0f", // nor is a length
        "00 81 00 00",          // padding that is a zero
        "00 82 ff ff 00",       // padding of more than seven bits
    ] {
        assert_eq!(decode(&mut Decoder::new(), &hex(block), usize::MAX), Err(Broken), "{block}");
        assert_eq!(decode(&mut Decoder::new(), &hex(block), 1), Err(Broken), "{block}");
    }
    // A size update of 0 empties the table, and the next one lets it fill again.
    check(&[("40 01 61 01 62 be", "a: b\na: b"), ("20 3f e1 1f 82", ":method: GET")]);
    let mut decoder = Decoder::new();
    decode(&mut decoder, &hex("40 01 61 01 62 20"), 9).unwrap_err();
    let mut decoder = Decoder::new();
    decode(&mut decoder, &hex("40 01 61 01 62"), 9).unwrap();
    assert_eq!(decode(&mut decoder, &hex("20 be"), 9), Err(Broken));
}

#[test]
fn an_entry_that_does_not_fit_empties_the_table() {
    let mut decoder = Decoder::new();
    decode(&mut decoder, &hex("40 01 61 01 62"), 9).unwrap();
    // 4,065 bytes and the overhead are one too many.
    let mut block = vec![0x41];
    integer::encode(&mut block, 0, 7, 4065 - ":authority".len());
    block.extend([b'x'; 4065 - ":authority".len()]);
    decode(&mut decoder, &block, usize::MAX).unwrap();
    assert_eq!(decode(&mut decoder, &hex("be"), 9), Err(Broken));
}

proptest! {
    #[test]
    fn any_bytes_mean_the_same_in_any_pieces(block in proptest::collection::vec(any::<u8>(), 0..200), piece in 1usize..20) {
        let whole = decode(&mut Decoder::new(), &block, usize::MAX);
        prop_assert_eq!(decode(&mut Decoder::new(), &block, piece), whole);
    }
}
