use super::*;
use crate::http::h2::ConnectionError;

/// Sends what `attack` makes, round after round, to a server that answers; returns how it ends and after how many rounds.
fn flood(attack: impl Fn(u32) -> Vec<u8>) -> (ConnectionError, u32) {
    let now = Instant::now();
    let memory = memory();
    let mut server = server_with(&Limits::default(), &memory);
    for round in 0..100_000 {
        let result = server.receive(&attack(round), now);
        for event in events(&mut server) {
            if let Event::Request { stream, end: true } = event {
                answer(&mut server, stream);
            } else if let Event::Refuse { stream, status, .. } = event {
                server.send_response(stream, status, no_fields(), true);
                server.forget(stream);
            } else if let Event::Reset { stream, .. } = event {
                server.forget(stream);
            }
        }
        assert!(server.open_streams() <= 200 && memory.used() < 1 << 20);
        let output = server.take_output();
        if let Err(error) = result {
            let goaway = output.bytes()[..].windows(4).any(|bytes| bytes == Code::ENHANCE_YOUR_CALM.0.to_be_bytes());
            assert!(goaway, "{error}");
            return (error, round);
        }
    }
    panic!("the flood was never ended");
}

fn ends(reason: &str, attack: impl Fn(u32) -> Vec<u8>) {
    let (error, rounds) = flood(attack);
    assert_eq!((error.code, error.reason), (Code::ENHANCE_YOUR_CALM, reason), "after {rounds}");
    assert!(error.is_abuse() && rounds < 10_000, "after {rounds}");
}

fn open_post(round: u32) -> Vec<u8> {
    post(2 * round + 1)
}

#[test]
fn each_flood_is_ended_and_named() {
    let cancel = Code::CANCEL.0.to_be_bytes();
    ends("reset_flood", |round| [open_post(round), frame(kind::RST_STREAM, 0, 2 * round + 1, &cancel)].concat());
    ends("provoked_reset_flood", |round| {
        [open_post(round), frame(kind::WINDOW_UPDATE, 0, 2 * round + 1, &[0; 4])].concat()
    });
    ends("provoked_reset_flood", |round| headers(2 * round + 1, &[(":method", "GET")], true));
    ends("ping_flood", |_| frame(kind::PING, 0, 0, &[0; 8]));
    ends("ping_flood", |_| frame(kind::PING, flag::ACK, 0, &[0; 8]));
    ends("settings_flood", |_| frame(kind::SETTINGS, 0, 0, &[]));
    ends("settings_flood", |_| frame(kind::SETTINGS, flag::ACK, 0, &[]));
    ends("settings_flood", |_| frame(kind::SETTINGS, 0, 0, &[0; 6 * 2000]));
    ends("priority_flood", |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 0]));
    ends("window_update_flood", |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    ends("unknown_frame_flood", |_| frame(0x77, 0, 0, &[0; 16]));
    ends("empty_frame_flood", |round| match round {
        0 => open_post(0),
        _ => frame(kind::DATA, 0, 1, &[]),
    });
    ends("empty_frame_flood", |round| match round {
        0 => open_post(0),
        _ => frame(kind::DATA, flag::PADDED, 1, &[2, 0, 0]),
    });
    ends("continuation_flood", |round| match round {
        0 => frame(kind::HEADERS, 0, 1, &[]),
        _ => frame(kind::CONTINUATION, 0, 1, &[0]),
    });
    ends("empty_frame_flood", |round| match round {
        0 => frame(kind::HEADERS, 0, 1, &[]),
        _ => frame(kind::CONTINUATION, 0, 1, &[]),
    });
    ends("closed_stream_flood", |round| match round {
        0 => headers(1, &[(":method", "GET")], false),
        _ => frame(kind::DATA, 0, 1, &[1; 4]),
    });
    // Here the stream is still known: nobody has forgotten it.
    ends("closed_stream_flood", |round| match round {
        0 => [open_post(0), frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
        _ => headers(1, &[("x", "y")], true),
    });
}

#[test]
fn too_many_fields_end_the_connection_while_they_are_decoded() {
    // An entry of 4,000 bytes, referred to by each byte of 16 KiB: 64 MiB, if one decoded them all.
    let value = "x".repeat(4000);
    let mut bomb = block(&GET);
    let mut entry = block(&[("x", &value[..])]);
    entry[0] = 0x40;
    bomb.extend(entry);
    bomb.resize(16_384, 0xbe);
    ends("header_flood", |round| frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, 2 * round + 1, &bomb));
    // Crumbs, each below any limit, without end.
    let crumbs = [0x60, 0, 0x60, 0, 0x60, 0, 0x60, 0].repeat(500);
    ends("header_flood", |round| match round {
        0 => frame(kind::HEADERS, 0, 1, &block(&GET)),
        _ => frame(kind::CONTINUATION, 0, 1, &crumbs),
    });
    // One string without end.
    ends("header_flood", |round| match round {
        0 => frame(kind::HEADERS, 0, 1, &[0, 0x7f, 0xff, 0xff, 0xff, 0x0f]),
        _ => frame(kind::CONTINUATION, 0, 1, &[b'a'; 16_384]),
    });
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut server = server(&Limits { work_per_second: 1_000_000, ..Limits::default() });
    let pings = frame(kind::PING, 0, 0, &[0; 8]).repeat(900);
    let error = (0..100).find_map(|_| server.receive(&pings, Instant::now()).err()).unwrap();
    assert_eq!((error.code, error.reason), (Code::ENHANCE_YOUR_CALM, "output_backlog"));
    assert!(server.take_output().len() < 128 << 10);
    assert_eq!(server.receive(&pings, Instant::now()), Err(error));
}

/// No time passes at all, and still it is never ended: 100 streams at a time, bodies both ways, and a client that
/// acknowledges every piece of payload twice and pings for bandwidth.
#[test]
fn a_busy_honest_client_is_never_ended() {
    let now = Instant::now();
    let mut server = server(&Limits::default());
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36";
    let head = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/api/v1/orders?page=1"),
        (":authority", "a.test"),
        ("user-agent", agent),
        ("accept", "application/json"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
    ];
    for batch in 0..200u32 {
        let ids: Vec<u32> = (0..100).map(|index| 2 * (100 * batch + index) + 1).collect();
        let mut input = Vec::new();
        for &id in &ids {
            input.extend(headers(id, &head, false));
            input.extend(frame(kind::DATA, flag::END_STREAM, id, &[b'x'; 100]));
        }
        assert_eq!(server.receive(&input, now), Ok(input.len()), "batch {batch}");
        let mut updates = frame(kind::PING, 0, 0, &[7; 8]);
        for event in events(&mut server) {
            let Event::Request { stream, .. } = event else { continue };
            let taken = server.take_data(stream).unwrap().len();
            server.release(stream, taken, usize::MAX);
            server.send_response(stream, 200, no_fields(), false);
            assert_eq!(server.send_data(stream, &[b'y'; 200], true, now), 200);
            server.forget(stream);
            updates.extend(frame(kind::WINDOW_UPDATE, 0, stream.0, &[0, 0, 0, 200]));
            updates.extend(frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 200]));
        }
        assert_eq!(server.receive(&updates, now), Ok(updates.len()), "batch {batch}");
        assert_eq!(server.open_streams(), 0);
        server.take_output();
    }
}
