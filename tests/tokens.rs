//! A token is asked about once for all cores of a gateway, however many requests show it at once; counted at the authorization
//! server.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use support::{
    counting::{Asker, Counting},
    gateway::{Gateway, drivers, folder, on_two_cores},
    ports,
};

const LIMIT: Duration = Duration::from_secs(30);
/// Enough for both of two cores to have some.
const CLIENTS: usize = 16;
const BAD_TOKENS: usize = 50;

/// Knows tokens that begin with `good`. It answers when it is let.
struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How often each token was asked about, and whether it may be answered.
    state: Mutex<(BTreeMap<String, usize>, bool)>,
    opened: Condvar,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::<Shared>::default();
        let all = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = all.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    fn open(&self) {
        self.shared.state.lock().expect("no holder panics").1 = true;
        self.shared.opened.notify_all();
    }

    fn asked(&self) -> BTreeMap<String, usize> {
        self.shared.state.lock().expect("no holder panics").0.clone()
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        loop {
            let token = read_token(&mut stream, &mut bytes)?;
            let is_good = token.starts_with("good");
            let mut state = self.state.lock().expect("no holder panics");
            *state.0.entry(token).or_default() += 1;
            drop(self.opened.wait_while(state, |state| !state.1).expect("no holder panics"));
            let body = format!("{{\"active\": {is_good}, \"exp\": 4102444800}}");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).ok()?;
        }
    }
}

/// Of one question.
fn read_token(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
            })?;
            if body.len() >= length {
                bytes.clear();
                return body.strip_prefix("token=").map(str::to_owned);
            }
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    }
}

fn start(name: &str, driver: &str, server: &Server) -> (Gateway, u16, Counting) {
    let directory = folder(&format!("tokens-{name}-{driver}"));
    let (port, upstream) = (ports::reserve(), Counting::start());
    let text = format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: a}}\nspec:\n  \
         address: http://127.0.0.1:{port}\n  services: {{s: {{address: 'http://{}'}}}}\n  \
         policies: [{{policyRef: {{name: oauth2-token-introspection-flex}}, config: {{introspectionURL: 'http://{}/i', \
         authorizationValue: secret, skipClientIdValidation: true, maxCacheEntries: 2}}}}]\n",
        upstream.address, server.address
    );
    fs::write(directory.join("gateway.yaml"), text).expect("the directory is writable");
    let gateway = on_two_cores(&directory, driver, LIMIT);
    (gateway, port, upstream)
}

/// Has all clients show these tokens at once, one after the other, and returns how often each status came for each token.
fn show(port: u16, tokens: &[String]) -> BTreeMap<(String, u16), usize> {
    let client = || {
        let mut asker = Asker::connect(port, LIMIT).expect("the gateway listens");
        let mut told = Vec::new();
        for token in tokens {
            let answer = asker.ask("/", &[("authorization", &format!("Bearer {token}"))]).expect("an answer");
            told.push((token.clone(), answer.status().expect("a status")));
        }
        told
    };
    let mut counts = BTreeMap::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        for told in clients.into_iter().flat_map(|client| client.join().expect("it ends")) {
            *counts.entry(told).or_default() += 1;
        }
    });
    counts
}

/// Requests that wait now, or have waited, for an answer about their token.
fn waiting(gateway: &Gateway) -> usize {
    let (_, page) = gateway.get("/metrics").expect("the page is there");
    let waits = page.lines().filter(|line| {
        line.starts_with("ringway_policy_decisions_total{")
            && line.contains("introspection")
            && line.contains("\"wait\"")
    });
    waits.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum()
}

#[test]
fn who_shows_a_token_at_the_same_time_waits_for_the_same_answer() {
    for driver in drivers() {
        let server = Server::start();
        let (gateway, port, _upstream) = start("together", &driver, &server);
        let token = "good".to_owned();
        let told = std::thread::scope(|scope| {
            let clients = scope.spawn(|| show(port, std::slice::from_ref(&token)));
            let until = Instant::now() + LIMIT;
            while waiting(&gateway) < CLIENTS && Instant::now() < until {}
            server.open();
            clients.join().expect("they end")
        });
        assert_eq!(told, BTreeMap::from([((token.clone(), 200), CLIENTS)]), "{driver}");
        assert_eq!(server.asked(), BTreeMap::from([(token, 1)]), "{driver}");
    }
}

#[test]
fn a_flood_of_bad_tokens_is_one_question_for_each() {
    for driver in drivers() {
        let server = Server::start();
        server.open();
        let (_gateway, port, _upstream) = start("flood", &driver, &server);
        let bad = (0..BAD_TOKENS).map(|number| format!("bad{number}"));
        let tokens: Vec<String> = ["good1".to_owned(), "good2".to_owned()]
            .into_iter()
            .chain(bad.clone())
            .chain(bad)
            .chain(["good1".to_owned(), "good2".to_owned()])
            .collect();
        let told = show(port, &tokens);
        for (told, count) in &told {
            let expected = if told.0.starts_with("good") { 200 } else { 400 };
            assert_eq!((told.1, *count), (expected, 2 * CLIENTS), "{driver} {}", told.0);
        }
        let asked = server.asked();
        assert_eq!((asked.len(), asked.values().max()), (BAD_TOKENS + 2, Some(&1)), "{driver}: {asked:?}");
    }
}
