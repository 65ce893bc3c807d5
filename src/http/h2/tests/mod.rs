//! The connection as a whole: what it answers to frames, with the `h2` crate on the other side, and to anything at all.

mod chunks;
mod floods;
mod flow;
mod heads;
mod oracle;

use std::time::Instant;

use super::{
    Code, Connection, Event, HeaderMemory, Limits, StreamId,
    frame::{HEADER_BYTES, Header, PREFACE, flag, kind},
};
use crate::http::head::{FieldRef, Fields, RequestHead};

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a.test")];

fn memory() -> HeaderMemory {
    HeaderMemory::new(16 << 20)
}

/// A server whose client has said hello; its output so far is taken.
fn server(limits: &Limits) -> Connection {
    server_with(limits, &memory())
}

fn server_with(limits: &Limits, memory: &HeaderMemory) -> Connection {
    let mut server = Connection::server(limits, memory, Instant::now());
    let hello = [&PREFACE[..], &frame(kind::SETTINGS, 0, 0, b""), &frame(kind::SETTINGS, flag::ACK, 0, b"")].concat();
    assert_eq!(server.receive(&hello, Instant::now()), Ok(hello.len()));
    assert_eq!(events(&mut server), [Event::Settings]);
    server.take_output();
    server
}

/// A client whose server has said hello.
fn client(limits: &Limits) -> Connection {
    let mut client = Connection::client(limits, &memory(), Instant::now());
    let hello = [frame(kind::SETTINGS, 0, 0, b""), frame(kind::SETTINGS, flag::ACK, 0, b"")].concat();
    client.receive(&hello, Instant::now()).unwrap();
    assert_eq!(events(&mut client), [Event::Settings]);
    client.take_output();
    client
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&Header { len: payload.len(), kind, flags, stream }.bytes()[..], payload].concat()
}

/// A block of literals that leave the table alone.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in fields.iter().flat_map(|&(name, value)| [name, value]).enumerate() {
        let (index, text) = text;
        if index % 2 == 0 {
            out.push(0);
        }
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push(rest as u8 | 128);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text.as_bytes());
    }
    out
}

/// HEADERS, with CONTINUATION where one frame is too small.
fn headers(stream: u32, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    let block = block(fields);
    let pieces: Vec<&[u8]> = block.chunks(16_384).collect();
    let mut out = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let mut flags = if index == 0 && end { flag::END_STREAM } else { 0 };
        if index + 1 == pieces.len() {
            flags |= flag::END_HEADERS;
        }
        let kind = if index == 0 { kind::HEADERS } else { kind::CONTINUATION };
        out.extend(frame(kind, flags, stream, piece));
    }
    out
}

fn get(stream: u32) -> Vec<u8> {
    headers(stream, &GET, true)
}

fn post(stream: u32) -> Vec<u8> {
    headers(stream, &[(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "a.test")], false)
}

fn receive(connection: &mut Connection, input: &[u8]) {
    assert_eq!(connection.receive(input, Instant::now()), Ok(input.len()));
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.next_event()).collect()
}

/// The frames of the output: kind, flags, stream, payload.
fn sent(connection: &mut Connection) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let output = connection.take_output();
    let mut rest = output.bytes();
    let mut frames = Vec::new();
    while let Some(header) = Header::read(rest) {
        let payload = rest[HEADER_BYTES..][..header.len].to_vec();
        rest = &rest[HEADER_BYTES + header.len..];
        frames.push((header.kind, header.flags, header.stream, payload));
    }
    assert!(rest.is_empty());
    frames
}

fn was_reset(connection: &mut Connection, stream: u32) -> Option<Code> {
    sent(connection)
        .into_iter()
        .find(|frame| frame.0 == kind::RST_STREAM && frame.2 == stream)
        .map(|frame| Code(u32::from_be_bytes(frame.3.try_into().unwrap())))
}

fn no_fields<'a>() -> impl Iterator<Item = FieldRef<'a>> {
    std::iter::empty()
}

fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.append(name.as_bytes(), value.as_bytes());
    }
    fields
}

/// Answers and forgets.
fn answer(connection: &mut Connection, stream: StreamId) {
    connection.take_request(stream, &mut RequestHead::default());
    connection.send_response(stream, 200, no_fields(), true);
    connection.forget(stream);
}
