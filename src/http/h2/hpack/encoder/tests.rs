use proptest::prelude::*;

use super::*;
use crate::http::h2::hpack::decoder::{Decoder, Step};

/// Encodes one block and decodes it again; returns the block.
fn pass(encoder: &mut Encoder, decoder: &mut Decoder, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin_block(&mut block);
    for (name, value) in fields {
        encoder.field(&mut block, name, value);
    }
    decoder.begin_block();
    let mut at = 0;
    for &(name, value) in fields {
        let mut out = Vec::new();
        let Ok(Step::Field(field)) = decoder.step(&block[at..], &mut out) else { panic!("{block:x?} at {at}") };
        assert_eq!((&out[..field.name_len], &out[field.name_len..]), (name, value));
        at += field.consumed;
    }
    // A block without a field may still have a size update.
    assert_eq!(decoder.step(&block[at..], &mut Vec::new()), Ok(Step::NeedMore { consumed: block.len() - at }));
    block
}

#[test]
fn what_repeats_becomes_one_byte_and_what_does_not_stays_out() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut lens = Vec::new();
    for round in 0..4 {
        let id = format!("id-{round}");
        let fields: [(&[u8], &[u8]); 4] =
            [(b"server", b"ringway"), (b"content-type", b"application/json"), (b"x-id", id.as_bytes()), (b"age", b"")];
        lens.push(pass(&mut encoder, &mut decoder, &fields).len());
    }
    assert!(lens[0] > 20 && lens[3] < 16, "{lens:?}");
    // Two that repeat, an empty one, and one for the name of the id.
    assert_eq!(encoder.table.inserted(), 4);
}

#[test]
fn credentials_are_never_indexed() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for name in [&b"authorization"[..], b"cookie", b"set-cookie", b"proxy-authorization"] {
        for _ in 0..3 {
            let block = pass(&mut encoder, &mut decoder, &[(name, b"secret")]);
            assert_eq!(block[0] & 0xf0, 0x10, "{}", String::from_utf8_lossy(name));
        }
    }
    assert_eq!(encoder.table.inserted(), 0);
}

#[test]
fn statuses() {
    let mut out = Vec::new();
    Encoder::new().status(&mut out, 200);
    assert_eq!(out, [0x88]);
    out.clear();
    Encoder::new().status(&mut out, 307);
    let mut text = Vec::new();
    let mut decoder = Decoder::new();
    decoder.begin_block();
    decoder.step(&out, &mut text).unwrap();
    assert_eq!(text, b":status307");
}

#[test]
fn the_peers_table_size_is_kept_to() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let fields: [(&[u8], &[u8]); 1] = [(b"a", b"b")];
    for _ in 0..3 {
        pass(&mut encoder, &mut decoder, &fields);
    }
    encoder.set_max(4096);
    assert_eq!(pass(&mut encoder, &mut decoder, &fields), [0xbe]);
    // Down and up again between two blocks: both must be said, and the table is empty.
    encoder.set_max(0);
    encoder.set_max(100_000);
    assert_eq!(pass(&mut encoder, &mut decoder, &fields)[..4], [0x20, 0x3f, 0xe1, 0x1f]);
    encoder.set_max(0);
    for _ in 0..3 {
        pass(&mut encoder, &mut decoder, &fields);
    }
    assert!(encoder.table.get(0).is_none());
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        blocks in proptest::collection::vec(
            (
                proptest::collection::vec(("[a-c]{1,2}|x-[a-z]{1,9}|server|:path|cookie|accept-encoding", "[a-b]{0,2}|[ -~]{0,60}|gzip, deflate|a{500,900}|/"), 0..12),
                proptest::option::of(0u32..5000),
            ),
            0..30,
        ),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (fields, resized) in &blocks {
            if let Some(max) = resized {
                encoder.set_max(*max);
            }
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            pass(&mut encoder, &mut decoder, &fields);
        }
    }
}
