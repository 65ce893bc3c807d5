//! Chunked bodies: framing read byte by byte, payload never copied.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway::http::{
    h1::{
        body::{BodyReader, Step},
        emit,
    },
    head::BodyLength,
};
use ringway_bench::BODY_LIMITS;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAYLOAD_BYTES: usize = 64 << 10;

fn chunked(chunk_bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..PAYLOAD_BYTES / chunk_bytes {
        emit::chunk_header(&mut body, chunk_bytes);
        body.resize(body.len() + chunk_bytes, b'x');
        body.extend_from_slice(emit::CHUNK_END);
    }
    emit::last_chunk(&mut body, None);
    body
}

fn decode(mut input: &[u8]) -> usize {
    let mut reader = BodyReader::new(BodyLength::Chunked, &BODY_LIMITS);
    let mut payload = 0;
    loop {
        match reader.step(input).expect("a valid body") {
            Step::Data { start, len } => {
                payload += len;
                input = &input[start + len..];
            }
            Step::Done { .. } => return payload,
            Step::NeedMore { .. } => panic!("the body is complete"),
        }
    }
}

/// 64 KiB of payload each time.
fn chunks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk_decode");
    group.throughput(Throughput::Bytes(PAYLOAD_BYTES as u64));
    for (name, chunk_bytes) in [("16_bytes_each", 16), ("1_KiB_each", 1 << 10), ("one", PAYLOAD_BYTES)] {
        let body = chunked(chunk_bytes);
        assert_eq!(decode(&body), PAYLOAD_BYTES);
        group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(&body))));
    }
    group.finish();
}

criterion_group!(benches, chunks);
criterion_main!(benches);
