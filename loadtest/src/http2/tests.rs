//! The client against frames written by hand; against real servers it is proved in `tests/`.

use super::*;

const SETTINGS: (u8, u8, u32, &[u8]) = (kind::SETTINGS, 0, 0, &[]);
/// `:status: 200`, and with `content-length: 5`.
const OK: &[u8] = &[0x88];
const OK_OF_FIVE: &[u8] = b"\x88\x0f\x0d\x015";

type Sent<'a> = (u8, u8, u32, &'a [u8]);

/// A connection with three slots and a request in each, on streams 1, 3 and 5.
fn connection(body: &[u8]) -> Connection {
    let mut connection = Connection::new(3);
    connection.out.clear();
    let body = Arc::from(body);
    for slot in 0..3 {
        connection.request(slot, &Request { block: &[0x82], body: &body, is_head: false });
    }
    connection
}

fn bytes(frames: &[Sent<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, flags, stream, payload) in frames {
        frame::write(&mut bytes, *kind, *flags, *stream, payload);
    }
    bytes
}

/// What comes of frames behind the server's SETTINGS, in pieces of every size.
fn fed(frames: &[Sent<'_>]) -> Result<Vec<Event>, Malformed> {
    let bytes = [bytes(&[SETTINGS]), bytes(frames)].concat();
    let mut results = Vec::new();
    for size in [1, 7, 10, bytes.len()] {
        let (mut connection, mut events) = (connection(b""), Vec::new());
        results.push(bytes.chunks(size).try_for_each(|piece| connection.feed(piece, &mut events)).map(|()| events));
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
    results.swap_remove(0)
}

const END: u8 = flags::END_STREAM | flags::END_HEADERS;

#[test]
fn answers_are_told_apart_by_their_streams() {
    let events = fed(&[
        (kind::HEADERS, flags::END_HEADERS, 5, OK_OF_FIVE),
        (kind::HEADERS, END, 1, &[0x8d]),
        (kind::DATA, 0, 5, b"he"),
        (kind::DATA, flags::END_STREAM | flags::PADDED, 5, b"\x02llo\0\0"),
        (kind::HEADERS, flags::END_HEADERS, 3, b"\x08\x03103"),
        (kind::HEADERS, flags::END_HEADERS | flags::PRIORITY, 3, b"\0\0\0\0\x10\x88"),
        (kind::DATA, 0, 3, b"x"),
        (kind::HEADERS, END, 3, b"\x00\x01t\x01v"),
    ]);
    let complete = |slot, status, bytes| Event::Complete { slot, status, bytes };
    assert_eq!(events, Ok(vec![complete(0, 404, 0), complete(2, 200, 5), complete(1, 200, 1)]));
}

#[test]
fn a_block_may_come_in_pieces_but_not_interrupted() {
    let split =
        [(kind::HEADERS, flags::END_STREAM, 1, &OK_OF_FIVE[..2]), (kind::CONTINUATION, 0, 1, &OK_OF_FIVE[2..3])];
    let rest: Sent<'_> = (kind::CONTINUATION, flags::END_HEADERS, 1, b"\x0d\x010");
    assert_eq!(
        fed(&[split[0], split[1], (kind::CONTINUATION, flags::END_HEADERS, 1, b"\x010")]),
        Ok(vec![Event::Complete { slot: 0, status: 200, bytes: 0 }])
    );
    assert!(fed(&[split[0], (kind::PING, 0, 0, &[0; 8]), rest]).is_err());
    assert!(fed(&[rest]).is_err());
}

#[test]
fn resets_and_going_away_fail_exactly_the_streams_they_are_of() {
    assert_eq!(fed(&[(kind::RST_STREAM, 0, 3, &[0, 0, 0, 2])]), Ok(vec![Event::Reset { slot: 1 }]));
    let last_is_1 = [0, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(
        fed(&[(kind::GOAWAY, 0, 0, &last_is_1), (kind::HEADERS, END, 1, OK)]),
        Ok(vec![
            Event::Refused { slot: 1 },
            Event::Refused { slot: 2 },
            Event::Complete { slot: 0, status: 200, bytes: 0 }
        ])
    );
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let refused: [&[Sent<'_>]; 9] = [
        &[(kind::HEADERS, flags::END_HEADERS, 1, OK_OF_FIVE), (kind::DATA, flags::END_STREAM, 1, b"four")],
        &[(kind::HEADERS, END, 1, OK_OF_FIVE)],
        &[(kind::DATA, 0, 1, b"x")],
        &[(kind::HEADERS, END, 1, b"\x00\x01t\x01v")],
        &[(kind::PUSH_PROMISE, flags::END_HEADERS, 1, &[0, 0, 0, 2, 0x82])],
        &[(kind::DATA, flags::PADDED, 1, &[9, 0])],
        &[(kind::SETTINGS, 0, 0, &[0; 5])],
        &[(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
        &[(kind::GOAWAY, 0, 0, &[0; 4])],
    ];
    for frames in refused {
        assert!(fed(frames).is_err(), "{:?}", frames[frames.len() - 1]);
    }
    let mut early = connection(b"");
    assert!(early.feed(&bytes(&[(kind::HEADERS, END, 1, OK)]), &mut Vec::new()).is_err());
    let mut large = connection(b"");
    assert!(large.feed(&[0, 0x40, 1, 0, 0, 0, 0, 0, 1], &mut Vec::new()).is_err());
}

#[test]
fn a_body_waits_for_the_windows() {
    let mut connection = connection(&[b'x'; 40_000]);
    let data = |out: &[u8]| {
        let (mut rest, mut sum) = (out, BTreeSum::new());
        while let Some((frame, length)) = frame::read(rest).expect("our own frames") {
            if frame.kind == kind::DATA {
                *sum.entry(frame.stream).or_insert(0) += frame.payload.len();
            }
            rest = &rest[length..];
        }
        sum
    };
    // The connection's window is 65,535: one body and the most of another.
    assert_eq!(data(&connection.out), BTreeSum::from([(1, 40_000), (3, 25_535)]));
    connection.out.clear();
    let mut events = Vec::new();
    let more = bytes(&[SETTINGS, (kind::WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])]);
    connection.feed(&more, &mut events).expect("well formed");
    assert_eq!(data(&connection.out), BTreeSum::from([(3, 14_465), (5, 40_000)]));
    connection.cancel(0);
    assert!(!connection.is_quiet() && connection.slot_of(1).is_none());
}

type BTreeSum = std::collections::BTreeMap<u32, usize>;

#[test]
fn pings_and_settings_are_answered() {
    let mut connection = connection(b"");
    connection.out.clear();
    let most: &[u8] = &[0, 3, 0, 0, 0, 9];
    let frames = bytes(&[(kind::SETTINGS, 0, 0, most), (kind::PING, 0, 0, b"12345678")]);
    connection.feed(&frames, &mut Vec::new()).expect("well formed");
    assert_eq!(connection.streams_max(), Some(9));
    assert_eq!(
        connection.out,
        bytes(&[(kind::SETTINGS, flags::ACK, 0, &[]), (kind::PING, flags::ACK, 0, b"12345678")])
    );
}

#[test]
fn any_bytes_are_read_or_refused() {
    let mut random = crate::schedule::Random::new(11);
    for _ in 0..5_000 {
        let mut connection = connection(b"body");
        let mut events = Vec::new();
        connection.feed(&bytes(&[SETTINGS]), &mut events).expect("well formed");
        for _ in 0..6 {
            let payload: Vec<u8> = (0..random.below(12)).map(|_| random.next() as u8).collect();
            let (kind, flags, stream) = (random.below(11) as u8, random.next() as u8, random.below(7) as u32);
            if connection.feed(&bytes(&[(kind, flags, stream, &payload)]), &mut events).is_err() {
                break;
            }
        }
    }
}
