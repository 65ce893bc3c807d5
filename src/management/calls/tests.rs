use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::{
    calls::{Answer, Call, Destination, ForwardProxy, ProxyServer, Ways},
    document::address::WebAddress,
    http::head::Fields,
    management::resolver,
    telemetry::fault::Fault,
};

const BYTES_MAX: usize = 100;
const LONG: Duration = Duration::from_secs(60);

/// Knows one name, with an address where nobody listens ahead of the one where somebody does; and counts.
#[derive(Default)]
struct Names(AtomicUsize);

impl Resolve for Names {
    async fn resolve(&self, host: &str) -> Result<resolver::Answer, String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match host {
            "keys.test" => {
                let addresses = vec![IpAddr::from([127, 255, 255, 254]), IpAddr::from([127, 0, 0, 1])];
                Ok(resolver::Answer { addresses, ttl: LONG })
            }
            _ => Err("no such name".to_owned()),
        }
    }
}

fn web(url: &str) -> WebAddress {
    WebAddress::parse(url).expect("an address")
}

fn call_of(destination: Destination, time_max: Duration) -> Call {
    Call {
        target: destination.address.target.clone(),
        destination: Arc::new(destination),
        policy: "test",
        binding: "here".to_owned(),
        method: "GET",
        headers: Fields::default(),
        body: Vec::new(),
        time_max,
        answer_bytes_max: BYTES_MAX,
        idempotent: false,
    }
}

fn call(url: &str) -> Call {
    call_of(Destination::new(web(url), &Arc::default()), LONG)
}

/// A server whose connections each send these texts, one for each request that comes, and then close. Tells the requests.
async fn server(connections: Vec<Vec<&'static str>>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answers in connections {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            for answer in answers {
                let Some(request) = read_request(&mut stream).await else { break };
                tell.send(request).expect("the test listens");
                // Who has seen enough goes before everything was sent.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (port, told)
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8(request).expect("text"))
}

fn told(answer: Result<Answer, Fault>) -> Result<(u16, String), &'static str> {
    let text = |body| String::from_utf8(body).expect("text");
    answer.map(|answer| (answer.status, text(answer.body))).map_err(|fault| fault.reason)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn an_answer_is_whole_and_within_its_bounds() {
    let leak = |text: String| -> &'static str { text.leak() };
    let full = "x".repeat(BYTES_MAX);
    for (answer, expected) in [
        (OK, Ok((200, "{}"))),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", Ok((200, "{}"))),
        ("HTTP/1.0 200 OK\r\n\r\n{}", Ok((200, "{}"))),
        ("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, ""))),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", Ok((404, "{}"))),
        ("HTTP/1.1 302 Found\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n", Ok((302, ""))),
        (leak(format!("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n{full}y")), Err("too_large")),
        (
            leak(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n{full}\r\n1\r\ny\r\n")),
            Err("too_large"),
        ),
        (leak(format!("HTTP/1.0 200 OK\r\n\r\n{full}y")), Err("too_large")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", Err("truncated")),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n", Err("truncated")),
        ("SSH-2.0-OpenSSH_9.9\r\n", Err("malformed_answer")),
        (leak(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(200 << 10))), Err("malformed_answer")),
        ("", Err("closed")),
    ] {
        let (port, mut requests) = server(vec![vec![answer]]).await;
        let client = Client::new(Names::default());
        let answered = told(client.call(call(&format!("http://keys.test:{port}/keys?p=1"))).await);
        assert_eq!(
            answered,
            expected.map(|(status, body)| (status, body.to_owned())),
            "{}",
            &answer[..answer.len().min(60)]
        );
        let request = requests.recv().await.expect("it was asked");
        assert!(request.starts_with("GET /keys?p=1 HTTP/1.1\r\nhost: keys.test:"), "{request}");
    }
}

#[tokio::test]
async fn a_connection_serves_again_and_a_name_is_asked_for_once() {
    let (port, mut requests) = server(vec![vec![OK, OK, OK]]).await;
    let client = Client::new(Names::default());
    for _ in 0..3 {
        let answer = client.call(call(&format!("http://keys.test:{port}/"))).await;
        assert_eq!(told(answer), Ok((200, "{}".to_owned())));
        requests.recv().await.expect("it was asked");
    }
    let totals = client.counts().totals();
    assert_eq!(totals[&("test", format!("http://keys.test:{port}"))].outcomes["2xx"], 3);
}

#[tokio::test]
async fn what_died_idle_is_asked_for_again_where_that_is_no_harm() {
    for (idempotent, expected) in [(true, Ok((200, "{}".to_owned()))), (false, Err("closed"))] {
        // The second request is read, and the connection closed.
        let (port, mut requests) = server(vec![vec![OK, ""], vec![OK]]).await;
        let client = Client::new(Names::default());
        let ask = || client.call(Call { idempotent, ..call(&format!("http://127.0.0.1:{port}/")) });
        ask().await.expect("an answer");
        assert_eq!(told(ask().await), expected);
        requests.close();
        let mut count = 0;
        while requests.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, if idempotent { 3 } else { 2 });
    }
}

#[tokio::test]
async fn a_server_that_is_slow_or_away_costs_no_more_than_the_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("it is bound").port();
    let client = Client::new(Names::default());
    let short = Duration::from_millis(50);
    let late = client.call(Call { time_max: short, ..call(&format!("http://127.0.0.1:{port}/")) }).await;
    assert_eq!(told(late), Err("timeout"));
    assert_eq!(told(client.call(call(&format!("https://127.0.0.1:{port}/"))).await), Err("tls"));
    drop(silent);
    let away = format!("http://127.0.0.1:{port}/");
    for _ in 0..4 {
        assert_eq!(told(client.call(call(&away)).await), Err("connect_refused"));
    }
    assert_eq!(told(client.call(call(&away)).await), Err("circuit_open"), "with the one that was late");
    assert_eq!(told(client.call(call("http://unknown.test/")).await), Err("name_unresolved"));
}

#[tokio::test]
async fn what_a_peer_has_named_is_no_way_into_our_network() {
    let client = Client::new(Names::default());
    let known = Destination::new(web("https://issuer.test/"), &Arc::default());
    for url in ["http://127.0.0.1:1/", "http://[::1]:1/", "http://169.254.169.254/", "http://keys.test:1/"] {
        let named = call_of(known.named_by_it(web(url)), LONG);
        assert_eq!(told(client.call(named).await), Err("private_address"), "{url}");
    }
}

#[tokio::test]
async fn whom_a_proxy_would_carry_nobody_reaches_where_there_is_none() {
    let (port, mut requests) = server(vec![vec![OK]]).await;
    let proxy = ForwardProxy { server: None, no_proxy: vec!["127.0.0.2".to_owned()] };
    let ways = Arc::new(Ways { proxy: Some(Arc::new(proxy)), ..Ways::default() });
    let client = Client::new(Names::default());
    let to = |host: &str| call_of(Destination::new(web(&format!("http://{host}:{port}/")), &ways), LONG);
    assert_eq!(told(client.call(to("127.0.0.1")).await), Err("proxy_misconfigured"));
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn a_proxy_carries_what_is_not_excepted() {
    let (port, mut requests) = server(vec![vec![OK], vec!["HTTP/1.1 407 Who are you\r\n\r\n"]]).await;
    let ways = Arc::new(Ways {
        text_header_values: false,
        secure: Some(Box::new(|host| {
            let settings = crate::tls::ClientSettings {
                trust: crate::tls::Trust::Nobody,
                certificate: None,
                alpn: Vec::new(),
                min: crate::tls::suites::Version::Tls12,
                max: crate::tls::suites::Version::Tls13,
                suites_12: None,
            };
            crate::tls::ClientContext::new(host, settings, 1)
        })),
        proxy: Some(Arc::new(ForwardProxy {
            server: Some(ProxyServer {
                address: web(&format!("http://127.0.0.1:{port}")),
                tls: None,
                authorization: Some("Basic dTpw".to_owned()),
            }),
            no_proxy: Vec::new(),
        })),
    });
    let client = Client::new(Names::default());
    let through = |url: &str| call_of(Destination::new(web(url), &ways), LONG);
    assert_eq!(told(client.call(through("http://far.test/a?b=c")).await), Ok((200, "{}".to_owned())));
    let plain = requests.recv().await.expect("it was asked");
    assert!(plain.starts_with("GET http://far.test/a?b=c HTTP/1.1\r\nhost: far.test\r\n"), "{plain}");
    assert!(plain.contains("proxy-authorization: Basic dTpw\r\n"), "{plain}");
    assert_eq!(told(client.call(through("https://far.test/a")).await), Err("proxy_authentication"));
    let tunnel = requests.recv().await.expect("it was asked");
    let expected = "CONNECT far.test:443 HTTP/1.1\r\nhost: far.test:443\r\nproxy-authorization: Basic dTpw\r\n\r\n";
    assert_eq!(tunnel, expected);
}
