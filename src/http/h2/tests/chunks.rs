use proptest::prelude::*;

use super::*;

/// All that can be seen of a server that is fed `input` in pieces, and answers.
fn watch(input: &[u8], piece: usize) -> (Vec<String>, Vec<u8>) {
    let now = Instant::now();
    let memory = memory();
    let mut server = Connection::server(&Limits::default(), &memory, now);
    let (mut seen, mut sent, mut pending) = (Vec::new(), Vec::new(), Vec::new());
    let mut head = RequestHead::default();
    'all: for piece in input.chunks(piece) {
        pending.extend_from_slice(piece);
        loop {
            let result = server.receive(&pending, now);
            while let Some(event) = server.next_event() {
                match event {
                    // How often it comes depends on the pieces.
                    Event::Data { .. } => continue,
                    Event::Request { stream, .. } => {
                        server.take_request(stream, &mut head);
                        seen.push(format!("{:?}", (&head.method, &head.path, &head.query, &head.fields, head.body)));
                    }
                    _ => {}
                }
                seen.push(format!("{event:?}"));
            }
            sent.extend_from_slice(server.take_output().bytes());
            match result {
                Ok(0) => break,
                Ok(taken) => drop(pending.drain(..taken)),
                Err(error) => {
                    seen.push(error.to_string());
                    break 'all;
                }
            }
        }
        assert!(pending.len() <= 16_393 + piece.len());
        assert!(memory.used() <= 512 << 10);
    }
    (seen, sent)
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![Just(0u32), Just(1), Just(3), Just(5), 0u32..20];
    prop_oneof![
        6 => stream.clone().prop_map(get),
        6 => stream.clone().prop_map(post),
        4 => (stream.clone(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(stream, flags, payload)| frame(kind::DATA, flags & 9, stream, &payload)),
        2 => (stream.clone(), 0u8..10, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(stream, kind, flags, payload)| frame(kind, flags, stream, &payload)),
        2 => stream.clone().prop_map(|stream| frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])),
        2 => (stream.clone(), any::<u16>())
            .prop_map(|(stream, by)| frame(kind::WINDOW_UPDATE, 0, stream, &u32::from(by).to_be_bytes())),
        1 => Just(frame(kind::PING, 0, 0, &[1; 8])),
        1 => (0u8..10, any::<u16>()).prop_map(|(id, value)| {
            frame(kind::SETTINGS, 0, 0, &[&[0, id, 0, 0][..], &value.to_be_bytes()].concat())
        }),
        1 => (stream, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(stream, rest)| {
            [frame(kind::HEADERS, 0, stream, &block(&GET)), frame(kind::CONTINUATION, 4, stream, &rest)].concat()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No panic, bounded memory, and the same events and answers however the bytes are cut.
    #[test]
    fn frames_mean_the_same_in_any_pieces(
        frames in proptest::collection::vec(any_frame(), 0..40),
        changed in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        piece in 1usize..200,
    ) {
        let mut input = [&PREFACE[..], &frame(kind::SETTINGS, 0, 0, b"")].concat();
        input.extend(frames.concat());
        if let Some((at, byte)) = changed {
            let at = at.index(input.len());
            input[at] = byte;
        }
        let whole = watch(&input, usize::MAX);
        let pieces = watch(&input, piece);
        // A reset takes back what its owner has not heard of, and how much that is depends on the pieces.
        let is_taken_back = |seen: &[String]| seen.iter().any(|line| line.contains("Reset") || line.contains("Rejected"));
        if !is_taken_back(&whole.0) && !is_taken_back(&pieces.0) {
            prop_assert_eq!(&whole.0, &pieces.0);
            prop_assert_eq!(&whole.1, &pieces.1);
        }
    }

    #[test]
    fn anything_ends_in_an_error_or_waits(input in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
        watch(&[&PREFACE[..], &frame(kind::SETTINGS, 0, 0, b""), &input].concat(), piece);
        watch(&input, piece);
    }
}
