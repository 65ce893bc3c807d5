use std::time::Duration;

use super::*;

fn setting(identifier: u8, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&[0, identifier][..], &value.to_be_bytes()].concat())
}

fn data_sent(connection: &mut Connection) -> usize {
    sent(connection).iter().filter(|frame| frame.0 == kind::DATA).map(|frame| frame.3.len()).sum()
}

fn update(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

#[test]
fn a_sender_keeps_to_the_windows_and_is_woken() {
    let now = Instant::now();
    let mut server = server(&Limits::default());
    receive(&mut server, &setting(4, 10));
    receive(&mut server, &get(1));
    let stream = StreamId(1);
    assert_eq!(events(&mut server), [Event::Request { stream, end: true }]);
    server.send_response(stream, 200, no_fields(), false);
    assert_eq!(server.send_data(stream, &[1; 100], true, now), 10);
    assert_eq!(server.send_data(stream, &[1; 90], true, now), 0);
    assert_eq!(data_sent(&mut server), 10);
    receive(&mut server, &update(1, 5));
    assert_eq!(events(&mut server), [Event::Window { stream }]);
    assert_eq!(server.send_data(stream, &[1; 90], true, now), 5);
    // A smaller setting takes from open streams, below zero if it must.
    receive(&mut server, &setting(4, 0));
    receive(&mut server, &update(1, 10));
    assert_eq!(events(&mut server), []);
    receive(&mut server, &update(1, 10));
    assert_eq!(events(&mut server), [Event::Window { stream }]);
    assert_eq!(server.send_data(stream, &[1; 85], true, now), 10);
    receive(&mut server, &setting(4, 1000));
    assert_eq!(events(&mut server), [Event::Window { stream }]);
    server.take_output();
    assert_eq!(server.send_data(stream, &[1; 75], true, now), 75);
    let frames = sent(&mut server);
    assert_eq!((frames.last().unwrap().1, server.is_ended(stream)), (flag::END_STREAM, true));

    // More than 2^31-1 by a setting is the connection's end.
    receive(&mut server, &get(3));
    receive(&mut server, &update(3, (1 << 31) - 1 - 1000));
    let error = server.receive(&setting(4, 1001), now).unwrap_err();
    assert_eq!(error.code, Code::FLOW_CONTROL_ERROR);
}

#[test]
fn the_output_is_bounded_and_its_senders_are_woken() {
    let now = Instant::now();
    let mut server = server(&Limits::default());
    receive(&mut server, &[setting(4, 1 << 20), update(0, 1 << 20), get(1), get(3)].concat());
    events(&mut server);
    let body = vec![0; 500_000];
    let mut at = [0; 2];
    for (index, id) in [(0, 1), (1, 3)] {
        server.send_response(StreamId(id), 200, no_fields(), false);
        at[index] = server.send_data(StreamId(id), &body, true, now);
    }
    assert!(at[0] > 60_000 && at[1] == 0 && server.take_output().len() < 70_000);
    // Whoever waits gets its turn.
    for round in 0.. {
        let woken = events(&mut server);
        if woken.is_empty() {
            break;
        }
        assert!(round < 40);
        for event in woken {
            let Event::Window { stream } = event else { panic!("{event:?}") };
            let index = (stream.0 / 2) as usize;
            at[index] += server.send_data(stream, &body[at[index]..], true, now);
        }
        assert!(server.take_output().len() < 70_000);
    }
    assert_eq!(at, [500_000; 2]);
}

#[test]
fn what_is_taken_comes_back_and_what_is_dropped_too() {
    let mut server = server(&Limits { stream_window: 100, ..Limits::default() });
    let stream = StreamId(1);
    receive(&mut server, &post(1));
    receive(&mut server, &frame(kind::DATA, flag::PADDED, 1, &[&[9][..], &[0; 99]].concat()));
    assert_eq!(server.take_data(stream).unwrap().len(), 90);
    server.release(stream, 90, usize::MAX);
    let updates: Vec<_> =
        sent(&mut server).into_iter().filter(|f| f.0 == kind::WINDOW_UPDATE).map(|f| (f.2, f.3)).collect();
    assert_eq!(updates, [(1, vec![0, 0, 0, 100])]);
    receive(&mut server, &frame(kind::DATA, 0, 1, &[0; 100]));
    events(&mut server);
    receive(&mut server, &frame(kind::DATA, 0, 1, &[0; 1]));
    assert_eq!(was_reset(&mut server, 1), Some(Code::FLOW_CONTROL_ERROR));
    server.forget(stream);

    // 4 MiB through a connection window of 1 MiB, all of it to streams that were reset or are not read.
    let mut server = super::server(&Limits::default());
    for id in (1..=257).step_by(2) {
        receive(&mut server, &post(id));
        events(&mut server);
        receive(&mut server, &frame(kind::DATA, 0, id, &[0; 16_384]));
        if id % 4 == 1 {
            server.reset(StreamId(id), Code::CANCEL);
        } else {
            server.stop_reading(StreamId(id));
            server.send_response(StreamId(id), 413, no_fields(), true);
        }
        receive(&mut server, &frame(kind::DATA, 0, id, &[0; 16_384]));
        server.forget(StreamId(id));
        assert_eq!(events(&mut server), []);
    }
}

#[test]
fn a_sender_without_window_is_ended_in_time() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut server = server(&Limits::default());
    receive(&mut server, &[setting(4, 0), get(1), get(3)].concat());
    events(&mut server);
    let stream = StreamId(1);
    server.send_response(stream, 200, no_fields(), false);
    assert_eq!(server.send_data(stream, &[1; 10_000], true, at(1)), 0);
    // A byte now and then is no progress.
    for seconds in 2..30 {
        receive(&mut server, &update(1, 1));
        assert_eq!(events(&mut server), [Event::Window { stream }]);
        assert_eq!(server.send_data(stream, &[1; 10_000], true, at(seconds)), 1);
    }
    server.take_output();
    server.on_time(at(30)).unwrap();
    assert_eq!(events(&mut server), []);
    server.on_time(at(31)).unwrap();
    assert_eq!(events(&mut server), [Event::Reset { stream, code: Code::CANCEL, by_peer: false }]);
    assert_eq!(was_reset(&mut server, 1), Some(Code::CANCEL));

    let mut silent = Connection::client(&Limits::default(), &memory(), start);
    assert_eq!(silent.on_time(at(30)).unwrap_err().code, Code::SETTINGS_TIMEOUT);
}

#[test]
fn a_request_that_is_answered_early_is_paid_back() {
    let now = Instant::now();
    let mut server = server(&Limits::default());
    for index in 0..20_000 {
        let id = 2 * index + 1;
        assert!(server.receive(&post(id), now).is_ok(), "{index}");
        events(&mut server);
        answer(&mut server, StreamId(id));
        assert_eq!(was_reset(&mut server, id), Some(Code::NO_ERROR));
    }
}

/// An upstream that counts has answered before the frame that ends the request is here: nothing is cut short.
#[test]
fn an_answer_may_overtake_the_end_of_a_whole_request() {
    let now = Instant::now();
    let mut server = server(&Limits::default());
    for index in 0..1000 {
        let id = 2 * index + 1;
        let request = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", "a.test"),
            ("content-length", "2"),
        ];
        receive(&mut server, &headers(id, &request, false));
        receive(&mut server, &frame(kind::DATA, 0, id, b"ok"));
        events(&mut server);
        answer(&mut server, StreamId(id));
        assert_eq!(was_reset(&mut server, id), None);
        assert!(server.is_idle());
        assert!(server.receive(&frame(kind::DATA, flag::END_STREAM, id, b""), now).is_ok(), "{index}");
        assert_eq!(was_reset(&mut server, id), None);
    }
}

#[test]
fn a_server_goes_in_two_steps() {
    let mut server = server(&Limits::default());
    receive(&mut server, &get(1));
    events(&mut server);
    server.shutdown();
    let frames = sent(&mut server);
    assert_eq!((frames[0].0, &frames[0].3[..4]), (kind::GOAWAY, &[0x7f, 0xff, 0xff, 0xff][..]));
    assert_eq!(frames[1].0, kind::PING);
    // What had crossed the first is served; then the PING comes back.
    receive(&mut server, &get(3));
    receive(&mut server, &frame(kind::PING, flag::ACK, 0, &frames[1].3));
    assert_eq!(sent(&mut server).last().unwrap().3[..4], [0, 0, 0, 3]);
    receive(&mut server, &get(5));
    assert_eq!(was_reset(&mut server, 5), Some(Code::REFUSED_STREAM));
    assert!(!server.is_finished());
    for event in events(&mut server) {
        if let Event::Request { stream, .. } = event {
            answer(&mut server, stream);
        }
    }
    answer(&mut server, StreamId(1));
    assert!(server.is_finished() && server.is_idle());
}

#[test]
fn a_client_knows_what_may_be_tried_again() {
    let mut client = client(&Limits::default());
    let request = crate::http::h2::Outgoing {
        method: b"GET",
        scheme: b"https",
        authority: b"a.test",
        path: b"/",
        query: b"",
        protocol: None,
    };
    receive(&mut client, &setting(3, 2));
    let first = client.send_request(&request, no_fields(), true).unwrap();
    let second = client.send_request(&request, no_fields(), false).unwrap();
    assert!(!client.may_open());
    assert_eq!(client.send_request(&request, no_fields(), true), Err(crate::http::h2::Refused::TooManyStreams));
    receive(&mut client, &frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    let goaway = Event::GoAway { last: 1, code: Code::NO_ERROR };
    assert_eq!(
        events(&mut client),
        [goaway, Event::Reset { stream: second, code: Code::REFUSED_STREAM, by_peer: true }]
    );
    assert_eq!(client.send_request(&request, no_fields(), true), Err(crate::http::h2::Refused::GoingAway));
    receive(&mut client, &headers(1, &[(":status", "200")], false));
    receive(&mut client, &frame(kind::DATA, flag::END_STREAM, 1, b"ok"));
    assert_eq!(client.take_data(first).unwrap().bytes(), b"ok");
    client.forget(first);
    client.forget(second);
    assert!(client.is_finished());
}

#[test]
fn an_upstream_that_has_answered_has_not_refused() {
    let refused = frame(kind::RST_STREAM, 0, 1, &Code::REFUSED_STREAM.0.to_be_bytes());
    let behind = frame(kind::GOAWAY, 0, 0, &[0; 8]);
    for (status, end) in ["103", "200"].into_iter().flat_map(|status| [(status, &refused), (status, &behind)]) {
        let mut client = client(&Limits::default());
        let request = crate::http::h2::Outgoing {
            method: b"POST",
            scheme: b"https",
            authority: b"a.test",
            path: b"/",
            query: b"",
            protocol: None,
        };
        receive(&mut client, &setting(3, 2));
        let stream = client.send_request(&request, no_fields(), false).unwrap();
        receive(&mut client, &[headers(1, &[(":status", status)], false), end.clone()].concat());
        let reset = Event::Reset { stream, code: Code::PROTOCOL_ERROR, by_peer: true };
        assert!(events(&mut client).contains(&reset), "{status}");
    }
}

#[test]
fn nothing_is_delivered_of_a_stream_behind_its_reset() {
    let mut server = server(&Limits::default());
    let cancel = frame(kind::RST_STREAM, 0, 1, &Code::CANCEL.0.to_be_bytes());
    // Reset before anyone heard of it: it never was.
    receive(&mut server, &[post(1), frame(kind::DATA, 0, 1, b"x"), cancel.clone()].concat());
    let stream = StreamId(1);
    assert!(matches!(events(&mut server)[..], [Event::Rejected { .. }]));
    assert_eq!(server.open_streams(), 0);
    // Reset behind its head: it counts until it is forgotten.
    let cancel = frame(kind::RST_STREAM, 0, 3, &Code::CANCEL.0.to_be_bytes());
    receive(&mut server, &post(3));
    events(&mut server);
    receive(&mut server, &[frame(kind::DATA, flag::END_STREAM, 3, b"x"), cancel].concat());
    let stream = StreamId(stream.0 + 2);
    assert_eq!(events(&mut server), [Event::Reset { stream, code: Code::CANCEL, by_peer: true }]);
    assert!(server.take_data(stream).is_none() && !server.is_ended(stream));
    server.send_response(stream, 200, no_fields(), true);
    assert_eq!((server.open_streams(), server.wants_output()), (1, false));
    server.forget(stream);
    assert_eq!(server.open_streams(), 0);
}

#[test]
fn an_early_response_survives_the_reset_behind_it() {
    let mut client = client(&Limits::default());
    let request = crate::http::h2::Outgoing {
        method: b"POST",
        scheme: b"https",
        authority: b"a.test",
        path: b"/",
        query: b"",
        protocol: None,
    };
    let stream = client.send_request(&request, fields(&[("X-A", "b")]).iter(), false).unwrap();
    let end = frame(kind::DATA, flag::END_STREAM, 1, b"no");
    receive(
        &mut client,
        &[headers(1, &[(":status", "413")], false), end, frame(kind::RST_STREAM, 0, 1, &[0; 4])].concat(),
    );
    let reset = Event::Reset { stream, code: Code::NO_ERROR, by_peer: true };
    assert_eq!(
        events(&mut client),
        [Event::Response { stream, end: false }, Event::Data { stream }, Event::End { stream }, reset]
    );
    assert_eq!(client.take_data(stream).unwrap().bytes(), b"no");
    assert!(client.is_ended(stream));
    assert_eq!(client.send_data(stream, b"more", true, Instant::now()), 0);
}
