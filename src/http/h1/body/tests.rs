use proptest::prelude::*;

use super::*;
use BodyError::*;

const LIMITS: BodyLimits = BodyLimits { trailer_bytes: 64, chunk_extension_bytes: 16, header_count: 3 };

/// Feeds the input in pieces that end at the cuts; returns payload, bytes taken, trailers.
fn read(length: BodyLength, input: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool, String), BodyError> {
    let mut reader = BodyReader::new(length, &LIMITS);
    let (mut payload, mut at) = (Vec::new(), 0);
    'pieces: for &end in cuts.iter().chain([&input.len()]) {
        loop {
            match reader.step(&input[at..end])? {
                Step::NeedMore { consumed } => {
                    at += consumed;
                    assert_eq!(at, end, "nothing of the framing is left to be read again");
                    break;
                }
                Step::Data { start, len } => {
                    assert!(len > 0);
                    payload.extend_from_slice(&input[at + start..at + start + len]);
                    at += start + len;
                }
                Step::Done { consumed } => {
                    at += consumed;
                    break 'pieces;
                }
            }
        }
    }
    Ok((payload, at, reader.is_done(), format!("{:?}", reader.trailers())))
}

fn accepted(input: &str, payload: &str) {
    let (read, at, done, _) =
        read(BodyLength::Chunked, input.as_bytes(), &[]).unwrap_or_else(|error| panic!("{error:?}: {input:?}"));
    assert_eq!((std::str::from_utf8(&read).unwrap(), at, done), (payload, input.len(), true), "{input:?}");
}

fn refused(input: &str, error: impl Into<BodyError>) {
    let error = Some(error.into());
    assert_eq!(read(BodyLength::Chunked, input.as_bytes(), &[]).err(), error, "{input:?}");
    let bytewise: Vec<_> = (0..input.len()).collect();
    assert_eq!(read(BodyLength::Chunked, input.as_bytes(), &bytewise).err(), error, "{input:?}");
}

/// A response's chunks: what they hold and which quirks they have; byte by byte as well.
fn of_response(input: &str) -> Result<(String, Vec<Quirk>), BodyError> {
    let mut results = [Vec::new(), (1..input.len()).collect()].map(|cuts: Vec<usize>| {
        let mut reader = BodyReader::of_response(BodyLength::Chunked, &LIMITS);
        let (mut payload, mut at) = (Vec::new(), 0);
        for end in cuts.into_iter().chain([input.len()]) {
            while at < end {
                match reader.step(&input.as_bytes()[at..end])? {
                    Step::NeedMore { consumed } | Step::Done { consumed } => at += consumed,
                    Step::Data { start, len } => {
                        payload.extend_from_slice(&input.as_bytes()[at + start..at + start + len]);
                        at += start + len;
                    }
                }
            }
        }
        assert!(reader.is_done(), "{input:?}");
        Ok((String::from_utf8(payload).unwrap(), reader.quirks().iter().collect()))
    });
    let [whole, pieces] = &mut results;
    assert_eq!(whole, pieces, "{input:?}");
    std::mem::replace(whole, Err(Truncated))
}

#[test]
fn a_response_may_stray_where_nobody_doubts_the_end() {
    use Quirk::*;
    for (input, quirks) in [
        ("2\r\nok\r\n0\r\n\r\n", &[][..]),
        ("2;a=\"b;c\"\r\nok\r\n0;d\r\n\r\n", &[]),
        ("2  \r\nok\r\n0\t\r\n\r\n", &[ChunkSizeSpace]),
        ("2 ;a\r\nok\r\n0\r\n\r\n", &[ChunkSizeSpace]),
        ("2 ; a = b \r\nok\r\n0\r\n\r\n", &[ChunkExtension, ChunkSizeSpace]),
        ("2;\r\nok\r\n0\r\n\r\n", &[ChunkExtension]),
        ("2;a=(b)\r\nok\r\n0\r\n\r\n", &[ChunkExtension]),
        ("2;\u{e9}\"\r\nok\r\n0\r\n\r\n", &[ChunkExtension]),
        ("00000000000000000002\r\nok\r\n0\r\n\r\n", &[ChunkSizeZeros]),
    ] {
        assert_eq!(of_response(input), Ok(("ok".to_owned(), quirks.to_vec())), "{input:?}");
    }
    for (input, error) in [
        (" 2\r\nok\r\n", ChunkSize),
        ("2 2\r\nok\r\n", ChunkSize),
        ("2 x\r\nok\r\n", ChunkSize),
        ("0x2\r\nok\r\n", ChunkSize),
        ("\r\nok\r\n", ChunkSize),
        ("2\nok\r\n", ChunkSize),
        ("2 \nok\r\n", ChunkSize),
        ("2;a\nok\r\n", BodyError::ChunkExtension),
        ("2;a\0\r\nok\r\n", BodyError::ChunkExtension),
        ("2;a\x7f\r\nok\r\n", BodyError::ChunkExtension),
        ("2;(\rx", ChunkSize),
        ("2\r\nok\n0\r\n\r\n", ChunkEnd),
        ("2                 \r\n", ChunkExtensionsTooLong),
        ("0000000000000000000000000000000002\r\n", ChunkExtensionsTooLong),
        ("8000000000000000\r\n", ChunkSize),
        ("10000000000000000\r\n", ChunkSize),
        ("00fffffffffffffff0\r\n", ChunkSize),
    ] {
        assert_eq!(of_response(input), Err(error), "{input:?}");
    }
}

#[test]
fn known_lengths() {
    let mut reader = BodyReader::new(BodyLength::Length(5), &LIMITS);
    assert_eq!(reader.remaining(), Some(5));
    assert_eq!(reader.step(b""), Ok(Step::NeedMore { consumed: 0 }));
    assert_eq!(reader.step(b"ab"), Ok(Step::Data { start: 0, len: 2 }));
    assert_eq!(reader.remaining(), Some(3));
    assert_eq!(reader.finish_on_eof(), Err(Truncated));
    assert_eq!(reader.step(b"cdeGET / HTTP/1.1"), Ok(Step::Data { start: 0, len: 3 }));
    assert!(reader.is_done());
    assert_eq!(reader.step(b"GET / HTTP/1.1"), Ok(Step::Done { consumed: 0 }));
    assert_eq!(reader.finish_on_eof(), Ok(()));
    assert_eq!(reader.remaining(), None);

    for length in [BodyLength::None, BodyLength::Length(0)] {
        let mut reader = BodyReader::new(length, &LIMITS);
        assert!(reader.is_done());
        assert_eq!(reader.step(b"x"), Ok(Step::Done { consumed: 0 }));
    }
}

#[test]
fn until_close() {
    let mut reader = BodyReader::new(BodyLength::UntilClose, &LIMITS);
    assert_eq!(reader.step(b"0\r\n\r\n"), Ok(Step::Data { start: 0, len: 5 }));
    assert!(!reader.is_done());
    assert_eq!(reader.finish_on_eof(), Ok(()));
    assert!(reader.is_done());
}

#[test]
fn chunks() {
    accepted("0\r\n\r\n", "");
    accepted("5\r\nhello\r\n0\r\n\r\n", "hello");
    accepted("5\r\nhello\r\n006\r\n world\r\n000\r\n\r\n", "hello world");
    accepted("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789");
    accepted("2\r\n\r\n\r\n0\r\n\r\n", "\r\n");
    accepted("0000000000000001\r\nx\r\n0\r\n\r\n", "x");
    accepted("1;a\r\nx\r\n0;b=c\r\n\r\n", "x");
    accepted("1;a;b=\"\\\"; d\"\r\nx\r\n0\r\n\r\n", "x");
}

#[test]
fn what_follows_the_body_is_left() {
    for tail in ["GET / HTTP/1.1\r\n\r\n", "\r\n", "0\r\n\r\n"] {
        let input = format!("1\r\nx\r\n0\r\n\r\n{tail}");
        let (_, at, done, _) = read(BodyLength::Chunked, input.as_bytes(), &[]).unwrap();
        assert_eq!((at, done), (11, true));
    }
}

#[test]
fn chunk_sizes_that_are_refused() {
    for input in [
        "\r\n",
        "\n",
        "x\r\n",
        "g\r\n",
        "0x5\r\nhello",
        "-1\r\n",
        "+5\r\nhello",
        " 5\r\nhello",
        "5 \r\nhello",
        "\t5\r\nhello",
        "5\t\r\nhello",
        "5_0\r\n",
        "5h\r\n",
        "5,\r\n",
        "5.0\r\n",
        "\"5\"\r\n",
        ";a\r\n",
        "5 ;a\r\nhello",
        "5\nhello",
        "5\rhello",
        "5\r\rhello",
        "5\0\r\nhello",
        "\u{665}\r\n",
        "00000000000000001\r\nx",
        "8000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000000\r\n",
        "1\r\nx\r\n\r\n0\r\n\r\n",
        "1\r\nx\r\n 0\r\n\r\n",
        "1\r\nx\r\n-0\r\n\r\n",
        "0\r0\r\n\r\n",
        "0\n\n",
    ] {
        refused(input, ChunkSize);
    }
    let (mut reader, largest) = (BodyReader::new(BodyLength::Chunked, &LIMITS), b"7fffffffffffffff\r\nx");
    assert_eq!(reader.step(largest), Ok(Step::Data { start: 18, len: 1 }));
}

#[test]
fn chunk_ends_that_are_refused() {
    for input in [
        "5\r\nhelloX",
        "5\r\nhello\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello \r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
    ] {
        refused(input, ChunkEnd);
    }
}

#[test]
fn chunk_extensions_that_are_refused() {
    for extension in [
        "",
        " ",
        ";",
        " a",
        "a b",
        "a ",
        "a =b",
        "a= b",
        "a=",
        "=b",
        "a=b=c",
        "a=\"b",
        "a=\"b\"c",
        "a=\"\t\"",
        "a=\"\u{e9}\"",
        "a\t",
        "a;",
        "a\0",
        "a=\x7f",
        "a=\"\\\x01\"",
        "\u{e9}",
        "a,b",
        "a=\"b\\",
    ] {
        refused(&format!("1;{extension}\r\nx\r\n0\r\n\r\n"), ChunkExtension);
    }
    refused("1;a\nx\r\n0\r\n\r\n", ChunkExtension);
    refused("1;a\n\r\nx", ChunkExtension);
    refused("1;a\rx\r\n", ChunkSize);
    refused("1;a=\"\r\n\"\r\nx", ChunkExtension);
    accepted("1;234567890123456\r\nx\r\n0\r\n\r\n", "x");
    refused("1;2345678901234567\r\nx\r\n0\r\n\r\n", ChunkExtensionsTooLong);
    // All chunks together: small chunks with an extension each are an attack too.
    accepted(&format!("{}0\r\n\r\n", "1;a=b\r\nx\r\n".repeat(4)), "xxxx");
    refused(&format!("{}0\r\n\r\n", "1;a=b\r\nx\r\n".repeat(5)), ChunkExtensionsTooLong);
}

#[test]
fn trailers() {
    let check = |lines: &str, expected: &[(&str, &str)]| {
        let mut reader = BodyReader::new(BodyLength::Chunked, &LIMITS);
        let input = format!("0\r\n{lines}\r\nGET");
        assert_eq!(reader.step(input.as_bytes()), Ok(Step::Done { consumed: input.len() - 3 }), "{lines:?}");
        let trailers = reader.take_trailers();
        let read: Vec<_> = trailers.iter().map(|field| (field.name, field.value)).collect();
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(read, expected);
    };
    check("", &[]);
    check("X-Sum: 1\r\ngrpc-status:0\r\n", &[("X-Sum", "1"), ("grpc-status", "0")]);
    for name in [
        "Authorization",
        "Connection",
        "cookie",
        "Set-Cookie",
        "TE",
        "Trailer",
        "Expect",
        "X-Forwarded-For",
        "x-forwarded-user",
        "Forwarded",
        "X-Request-Id",
        "Content-Type",
        "Content-Encoding",
        "If-Match",
        "Upgrade",
        "Date",
    ] {
        check(&format!("{name}: close\r\nx: y\r\n"), &[("x", "y")]);
    }
}

#[test]
fn trailers_that_are_refused() {
    for name in ["Content-Length", "transfer-encoding", "Host"] {
        refused(&format!("0\r\n{name}: 1\r\n\r\n"), FramingTrailer);
    }
    for (lines, error) in [
        ("X\r\n", FieldError::Name),
        ("x : y\r\n", FieldError::Name),
        (": y\r\n", FieldError::Name),
        (" x: y\r\n", FieldError::ObsoleteFold),
        ("x: y\r\n z\r\n", FieldError::ObsoleteFold),
        ("x: y\n", FieldError::BareLf),
        ("\n", FieldError::BareLf),
        ("x: y\rz: a\r\n", FieldError::BareCr),
        ("\r\r\n", FieldError::BareCr),
        ("x: \0\r\n", FieldError::ControlByte),
        ("a: b\r\nc: d\r\ne: f\r\ng: h\r\n", FieldError::TooMany),
    ] {
        refused(&format!("0\r\n{lines}\r\n"), error);
    }
    accepted(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(59)), "");
    refused(&format!("0\r\nx: {}\r\n\r\n", "y".repeat(60)), TrailersTooLong);
    refused(&format!("0\r\nx: {}", "y".repeat(1000)), TrailersTooLong);
    assert_eq!((TrailersTooLong.status(), ChunkSize.status()), (431, 400));
}

#[test]
fn an_end_inside_a_chunked_body_is_an_error() {
    let whole = b"3;a\r\nabc\r\n0\r\nx: y\r\n\r\n";
    for len in 0..whole.len() {
        let mut reader = BodyReader::new(BodyLength::Chunked, &LIMITS);
        let mut at = 0;
        while let Step::Data { start, len: taken } = reader.step(&whole[at..len]).unwrap() {
            at += start + taken;
        }
        assert_eq!(reader.finish_on_eof(), Err(Truncated), "after {len} bytes");
    }
}

/// The plain way: whole input at once, no limits but the digits, no extensions, no trailers.
fn reference(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    loop {
        let line = input.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = std::str::from_utf8(&input[..line]).ok()?;
        if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        input = &input[line + 2..];
        if size == 0 {
            return (input == b"\r\n").then_some(payload);
        }
        payload.extend_from_slice(input.get(..size)?);
        input = input.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

proptest! {
    #[test]
    fn the_decoder_agrees_with_a_plain_one(
        chunks in proptest::collection::vec("[a-f0-9\r\n]{1,20}", 0..5),
        breaks in proptest::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\r\n0a; x".as_slice())), 0..2),
        cuts in proptest::collection::vec(0usize..120, 0..8),
    ) {
        let mut input = Vec::new();
        for chunk in &chunks {
            input.extend_from_slice(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
        }
        input.extend_from_slice(b"0\r\n\r\n");
        for (at, byte) in breaks {
            let at = at.index(input.len());
            input[at] = byte;
        }
        let mut cuts: Vec<_> = cuts.into_iter().filter(|&cut| cut < input.len()).collect();
        cuts.sort_unstable();
        let pieces = read(BodyLength::Chunked, &input, &cuts);
        prop_assert_eq!(&pieces, &read(BodyLength::Chunked, &input, &[]));
        // Extensions, trailers and bytes behind the end are the reader's alone.
        if let Some(payload) = reference(&input) {
            prop_assert_eq!(pieces, Ok((payload, input.len(), true, "{}".to_owned())));
        } else if let Ok((_, at, true, trailers)) = pieces {
            let lenient = at < input.len() || trailers != "{}" || input.contains(&b';');
            prop_assert!(lenient);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..60), size in 0usize..6) {
        let _ = read(BodyLength::Chunked, &input, &[]);
        let _ = read(BodyLength::Chunked, &[format!("{size}\r\n").as_bytes(), &input].concat(), &[]);
        let _ = read(BodyLength::Chunked, &[b"0\r\n", &input[..], b"\r\n\r\n"].concat(), &[]);
    }
}
