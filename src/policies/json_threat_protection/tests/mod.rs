use super::{
    limits::Limits,
    scalars::NUMBER_BYTES_MAX,
    scanner::{Scanner, Violation},
    tokens::DEPTH_MAX,
};

mod against_serde;
mod limits;
mod policy;
mod syntax;

/// What is found in these pieces of a text, one after the other.
fn scan_pieces<'p>(limits: Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<(), Violation> {
    let mut scanner = Scanner::new(limits);
    for piece in pieces {
        scanner.feed(piece)?;
    }
    scanner.finish()
}

/// What is found in a text: in one piece, in two wherever it may be cut, and byte by byte.
fn scan(limits: Limits, text: &[u8]) -> Result<(), Violation> {
    let found = scan_pieces(limits, [text]);
    for at in 0..=text.len() {
        let (begin, end) = text.split_at(at);
        assert_eq!(scan_pieces(limits, [begin, end]), found, "cut at {at}: {}", text.escape_ascii());
    }
    assert_eq!(scan_pieces(limits, text.chunks(1)), found, "byte by byte: {}", text.escape_ascii());
    found
}

/// How many bytes pass before something is found.
fn passes(limits: Limits, text: &[u8]) -> usize {
    let mut scanner = Scanner::new(limits);
    let count = text.chunks(1).take_while(|byte| scanner.feed(byte).is_ok()).count();
    // What has been fed has been looked at, also in one piece.
    let fed = |bytes| Scanner::new(limits).feed(&text[..bytes]).is_ok();
    assert!(fed(count), "{}", text.escape_ascii());
    assert!(count == text.len() || !fed(count + 1), "{}", text.escape_ascii());
    count
}

#[test]
fn what_was_found_stays_found() {
    let mut scanner = Scanner::new(Limits { depth: 1, ..Limits::NONE });
    assert_eq!(scanner.feed(b"[["), Err(Violation::Depth));
    assert_eq!(scanner.feed(b"1]]"), Err(Violation::Depth));
    assert_eq!(scanner.feed(b""), Err(Violation::Depth));
    assert_eq!(scanner.finish(), Err(Violation::Depth));
}

#[test]
fn what_comes_first_is_found_first() {
    let limits = Limits { depth: 2, elements: 3, string: 3, ..Limits::NONE };
    for space in [0, 1, 30, 55, 58, 59, 60, 61, 62, 63, 64, 127] {
        let check = |text: &str, expected: Violation| {
            let text = format!("{}{text}", " ".repeat(space));
            assert_eq!(scan_pieces(limits, [text.as_bytes()]), Err(expected), "{text}");
        };
        check("[[[\u{0}", Violation::Depth);
        check("[[\u{0}[", Violation::Syntax);
        check("[1,2,3,4,\"1234", Violation::ElementCount);
        check("[1,2,3,\"1234", Violation::ElementCount);
        check("[1,\"1234\",3,4", Violation::StringLength);
        check("[1,\"1234", Violation::StringLength);
        check("[1,2,,", Violation::Syntax);
        check("[1,2}", Violation::Syntax);
        check("[[],[[", Violation::Depth);
        check("[[],]", Violation::Syntax);
    }
}

#[test]
fn it_is_found_at_the_byte_that_breaks_it() {
    let limits = Limits { depth: 2, entries: 1, elements: 2, name: 2, string: 2 };
    for space in [0, 1, 30, 55, 58, 59, 60, 61, 62, 63, 64, 127] {
        let check = |text: &str, expected: usize| {
            let text = format!("{}{text}", " ".repeat(space));
            assert_eq!(passes(limits, text.as_bytes()), space + expected, "{text}");
        };
        check("[1,]", 3);
        check("[1 2]", 3);
        check("[[[", 2);
        check("[1,2,3]", 4);
        check("[\"123\"]", 4);
        check("{\"123\"", 4);
        check("{\"a\":1,", 6);
        check("[\"\\u00\"", 6);
        check("[01", 2);
        check("[1.]", 3);
        check("[trux]", 4);
        check("[truee]", 5);
        check("1 1", 2);
        check("\u{feff}[]", 0);
        check("[\"\u{1}\"]", 2);
    }
}

#[test]
fn a_text_may_end_where_it_is_one() {
    let text = br#" {"a": [1, -2.5e3, "x\u00e9\ud83d\ude00", true], "b": {"c": null}}"#;
    for at in 0..text.len() {
        assert_eq!(scan_pieces(Limits::NONE, [&text[..at]]), Err(Violation::Syntax), "{at}");
    }
    for after in [1, 20, 63, 64, 65, 130] {
        let text = [&text[..], " ".repeat(after).as_bytes()].concat();
        assert_eq!(scan_pieces(Limits::NONE, [&text[..]]), Ok(()), "{after}");
    }
    // A number is one wherever it can be.
    let number = b"-10.25e+31";
    let expected = [false, false, true, true, false, true, true, false, false, true, true];
    for (at, expected) in expected.into_iter().enumerate() {
        assert_eq!(scan_pieces(Limits::NONE, [&number[..at]]).is_ok(), expected, "{at}");
    }
}
