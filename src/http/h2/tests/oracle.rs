//! The `h2` crate as the peer, in both roles, over a pipe of few bytes.

use std::collections::{HashMap, VecDeque};

use axum::{
    body::Bytes,
    http::{HeaderMap, Method, Request, Response},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::http::{
    h2::Outgoing,
    head::{BodyLength, ResponseHead},
};

const PIPE_BYTES: usize = 3000;

/// Moves bytes between the pipe and the connection until the pipe or `step`, which is called after each event and
/// before each read, ends it.
async fn drive(
    mut pipe: DuplexStream,
    connection: &mut Connection,
    mut step: impl FnMut(&mut Connection, Option<Event>) -> bool,
) {
    let mut input = Vec::new();
    let mut piece = [0; 5000];
    loop {
        while let Some(event) = connection.next_event() {
            step(connection, Some(event));
        }
        let goes_on = step(connection, None);
        if connection.wants_output() {
            let output = connection.take_output();
            // The peer may be writing too: read meanwhile.
            let (mut reader, mut writer) = tokio::io::split(&mut pipe);
            let mut write = std::pin::pin!(writer.write_all(output.bytes()));
            loop {
                tokio::select! {
                    written = &mut write => { if written.is_err() { return } break }
                    Ok(read @ 1..) = reader.read(&mut piece) => input.extend_from_slice(&piece[..read]),
                }
            }
        } else if !goes_on {
            return;
        } else {
            match pipe.read(&mut piece).await {
                Ok(read) if read > 0 => input.extend_from_slice(&piece[..read]),
                _ => return,
            }
        }
        let taken = connection.receive(&input, Instant::now()).expect("the oracle breaks no rule");
        input.drain(..taken);
    }
}

/// A server that sends each body back, with its length in a trailer.
#[derive(Default)]
struct Echo {
    pending: HashMap<StreamId, VecDeque<u8>>,
    ended: HashMap<StreamId, usize>,
    total: HashMap<StreamId, usize>,
    resets: usize,
}

impl Echo {
    fn step(&mut self, connection: &mut Connection, event: Option<Event>) -> bool {
        match event {
            Some(Event::Request { stream, end }) => {
                let mut head = RequestHead::default();
                assert!(connection.take_request(stream, &mut head));
                connection.send_response(stream, 103, no_fields(), false);
                connection.send_response(stream, 200, head.fields.iter(), false);
                self.total.insert(stream, 0);
                self.pending.insert(stream, VecDeque::new());
                if end {
                    self.ended.insert(stream, 0);
                }
            }
            Some(Event::Data { stream }) => {
                while let Some(data) = connection.take_data(stream) {
                    self.pending.get_mut(&stream).unwrap().extend(data.bytes());
                    *self.total.get_mut(&stream).unwrap() += data.len();
                }
            }
            Some(Event::End { stream }) => {
                assert!(connection.is_ended(stream));
                let trailers = connection.take_trailers(stream);
                self.ended.insert(stream, trailers.map_or(0, |fields| fields.len()));
            }
            Some(Event::Reset { stream, .. }) => {
                self.pending.remove(&stream);
                self.resets += 1;
                connection.forget(stream);
            }
            _ => {}
        }
        self.pending.retain(|&stream, pending| {
            let bytes = pending.make_contiguous();
            let sent = if bytes.is_empty() { 0 } else { connection.send_data(stream, bytes, false, Instant::now()) };
            pending.drain(..sent);
            connection.release(stream, sent, usize::MAX);
            let Some(trailers) = self.ended.get(&stream).filter(|_| pending.is_empty()) else { return true };
            let (total, trailers) = (self.total[&stream].to_string(), trailers.to_string());
            connection.send_trailers(stream, fields(&[("X-Total", &total), ("x-trailers", &trailers)]).iter());
            connection.forget(stream);
            false
        });
        true
    }
}

async fn read_body(mut body: h2::RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        bytes.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    (bytes, body.trailers().await.unwrap())
}

async fn send_body(mut to: h2::SendStream<Bytes>, body: Vec<u8>) {
    let mut rest = Bytes::from(body);
    while !rest.is_empty() {
        to.reserve_capacity(rest.len());
        let room = std::future::poll_fn(|context| to.poll_capacity(context)).await.unwrap().unwrap();
        to.send_data(rest.split_to(room.min(rest.len())), false).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    to.send_trailers(trailers).unwrap();
}

fn body(index: usize) -> Vec<u8> {
    (0..index * 17_001).map(|at| (at * 31 + index) as u8).collect()
}

#[tokio::test]
async fn the_oracle_as_a_client() {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let limits = Limits { stream_window: 20_000, connection_window: 100_000, ..Limits::default() };
    let mut server = Connection::server(&limits, &memory(), Instant::now());
    let mut echo = Echo::default();
    let client = async {
        let (client, connection) = h2::client::Builder::new()
            .initial_window_size(10_000)
            .max_header_list_size(1 << 20)
            .handshake::<_, Bytes>(theirs)
            .await
            .unwrap();
        let requests = async {
            let mut tasks = Vec::new();
            for index in 0..12 {
                let mut client = client.clone().ready().await.unwrap();
                let long = "v".repeat(index * 1500);
                let request = Request::builder()
                    .method(Method::POST)
                    .uri(format!("https://a.test/{index}?q"))
                    .header("x-long", &long)
                    .header("x-same", "same")
                    .body(())
                    .unwrap();
                let (response, to) = client.send_request(request, false).unwrap();
                tasks.push(tokio::spawn(async move {
                    if index == 5 {
                        drop((response, to));
                        return;
                    }
                    let sending = tokio::spawn(send_body(to, body(index)));
                    let response = response.await.unwrap();
                    assert_eq!((response.status().as_u16(), response.headers()["x-long"].len()), (200, long.len()));
                    let (bytes, trailers) = read_body(response.into_body()).await;
                    assert!(bytes == body(index), "{index}");
                    let trailers = trailers.unwrap();
                    assert_eq!(trailers["x-total"], body(index).len().to_string());
                    assert_eq!(trailers["x-trailers"], "1");
                    sending.await.unwrap();
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
            drop(client);
        };
        let (connection, ()) = tokio::join!(connection, requests);
        connection.unwrap();
    };
    tokio::join!(drive(ours, &mut server, |connection, event| echo.step(connection, event)), client);
    assert_eq!(server.open_streams(), 0);
}

#[tokio::test]
async fn the_oracle_as_a_server() {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let mut client =
        Connection::client(&Limits { stream_window: 9000, ..Limits::default() }, &memory(), Instant::now());
    let server = async {
        let mut server = h2::server::Builder::new().initial_window_size(7000).handshake(theirs).await.unwrap();
        while let Some(accepted) = server.accept().await {
            let (request, mut respond) = accepted.unwrap();
            tokio::spawn(async move {
                assert_eq!(request.headers()["cookie"], "a=b");
                let (bytes, trailers) = read_body(request.into_body()).await;
                assert_eq!(trailers.is_some(), bytes.len() % 2 == 0);
                let to = respond.send_response(Response::builder().status(201).body(()).unwrap(), false).unwrap();
                send_body(to, bytes).await;
            });
        }
    };
    let mut sending: HashMap<StreamId, (Vec<u8>, usize)> = HashMap::new();
    let mut received: HashMap<StreamId, Vec<u8>> = HashMap::new();
    let mut done = 0;
    let step = |connection: &mut Connection, event: Option<Event>| {
        match event {
            Some(Event::Settings) => {
                for index in 0..10 {
                    let request = Outgoing {
                        method: b"PUT",
                        scheme: b"http",
                        authority: b"a.test",
                        path: b"/a",
                        query: b"?b",
                        protocol: None,
                    };
                    let list = fields(&[("Cookie", "a=b"), ("Connection", "close"), ("TE", "gzip")]);
                    let stream = connection.send_request(&request, list.iter(), false).unwrap();
                    sending.insert(stream, (body(index), 0));
                    received.insert(stream, Vec::new());
                }
            }
            Some(Event::Response { stream, end }) => {
                let mut head = ResponseHead::default();
                assert!(connection.take_response(stream, &mut head) && !end);
                assert_eq!((head.status, head.body), (201, BodyLength::Chunked));
            }
            Some(Event::Data { stream }) => {
                while let Some(data) = connection.take_data(stream) {
                    received.get_mut(&stream).unwrap().extend_from_slice(data.bytes());
                    connection.release(stream, data.len(), usize::MAX);
                }
            }
            Some(Event::End { stream }) => {
                assert_eq!(connection.take_trailers(stream).unwrap().get(b"x-sum"), Some(&b"1"[..]));
                assert!(received[&stream] == body((stream.0 / 2) as usize));
                connection.forget(stream);
                done += 1;
            }
            Some(Event::Reset { .. } | Event::GoAway { .. }) => panic!("{event:?}"),
            _ => {}
        }
        sending.retain(|&stream, (body, at)| {
            let with_trailers = body.len() % 2 == 0;
            *at += connection.send_data(stream, &body[*at..], !with_trailers, Instant::now());
            let is_sent = *at == body.len();
            if is_sent && with_trailers {
                connection.send_trailers(stream, fields(&[("x", "y")]).iter());
            }
            !is_sent
        });
        done < 10
    };
    let ours = async {
        // The pipe closes behind it, and the oracle's side ends.
        drive(ours, &mut client, step).await;
    };
    tokio::join!(ours, async {
        let _ = tokio::time::timeout(std::time::Duration::from_secs(60), server).await;
    });
    assert_eq!((done, client.open_streams()), (10, 0));
}
