//! Connections spread over the cores of one gateway: what the kernel hashes unevenly is evened out at accept.
//!
//! The gateway answers `OPTIONS *` itself, so no upstream takes part.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use support::{
    gateway::{Gateway, drivers, folder, on_two_cores},
    message::Head,
    ports,
};

const LIMIT: Duration = Duration::from_secs(30);
/// 16 per core are the fewest of which an even load is promised; and some more.
const CONNECTIONS: [usize; 3] = [32, 48, 200];
const REQUESTS: usize = 5;

#[test]
fn many_connections_are_within_a_fifth_on_all_cores() {
    for driver in drivers() {
        let (gateway, address) = start(&driver, "spread", "");
        let mut clients = Vec::new();
        for count in CONNECTIONS {
            while clients.len() < count {
                clients.push(Client::connect(address));
            }
            let before = by_core(&gateway, "ringway_core_requests_total");
            clients.iter_mut().for_each(|client| (0..REQUESTS).for_each(|_| client.ask()));
            let connections = by_core(&gateway, "ringway_core_connections");
            assert_eq!(connections.iter().sum::<f64>(), count as f64, "{driver}");
            assert_even(&connections, &format!("{driver}: {count} connections"));
            let requests = by_core(&gateway, "ringway_core_requests_total");
            let asked: Vec<f64> = requests.iter().zip(&before).map(|(after, before)| after - before).collect();
            assert_eq!(asked.iter().sum::<f64>(), (count * REQUESTS) as f64, "{driver}");
            assert_even(&asked, &format!("{driver}: requests over {count} connections"));
        }
        let [accepted, given, taken] = ["accepted", "handed_over", "taken_over"]
            .map(|what| by_core(&gateway, &format!("ringway_core_connections_{what}_total")).iter().sum::<f64>());
        assert_eq!(accepted, CONNECTIONS[2] as f64, "{driver}: each is accepted once, whoever serves it");
        assert!(given > 0.0, "{driver}: the kernel's hash was even by itself");
        assert_eq!(given, taken, "{driver}");
    }
}

#[test]
fn clients_that_come_again_even_out_what_others_left() {
    for driver in drivers() {
        let (gateway, address) = start(&driver, "rotate", "connections: {maxRequests: 2}");
        let mut clients: Vec<Client> = (0..128).map(|_| Client::connect(address)).collect();
        // The clients of one core leave: which one serves a client is seen from what the core has counted.
        let mut stay = Vec::new();
        for mut client in clients.drain(..) {
            let before = by_core(&gateway, "ringway_core_requests_total")[0];
            client.ask();
            if by_core(&gateway, "ringway_core_requests_total")[0] > before {
                stay.push(client);
            }
        }
        assert!(stay.len() >= 32, "{driver}: {} on one of two cores", stay.len());
        // The second answer ends the connection, and its client comes again.
        for client in &mut stay {
            client.ask();
            client.read_end();
            *client = Client::connect(address);
            client.ask();
        }
        assert_even(&by_core(&gateway, "ringway_core_connections"), &driver);
    }
}

#[test]
fn where_it_is_switched_off_connections_stay_where_the_kernel_puts_them() {
    let driver = &drivers()[0];
    let (gateway, address) = start(driver, "apart", "connections: {spread: false}");
    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(address)).collect();
    clients.iter_mut().for_each(Client::ask);
    assert_eq!(by_core(&gateway, "ringway_core_connections_handed_over_total"), [0.0, 0.0]);
}

fn start(driver: &str, name: &str, ringway: &str) -> (Gateway, SocketAddr) {
    let directory = folder(&format!("spreading-{name}-{driver}"));
    let address = SocketAddr::from(([127, 0, 0, 1], ports::reserve()));
    let envelope =
        |kind: &str| format!("apiVersion: gateway.mulesoft.com/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}");
    let text = format!(
        "{}\nspec: {{address: 'http://{address}'}}\n---\n{}\nspec: {{ringway: {{{ringway}}}}}\n",
        envelope("ApiInstance"),
        envelope("Configuration"),
    );
    fs::write(directory.join("gateway.yaml"), text).expect("the directory is writable");
    let gateway = on_two_cores(&directory, driver, LIMIT);
    (gateway, address)
}

/// The values of a metric, by core.
fn by_core(gateway: &Gateway, name: &str) -> Vec<f64> {
    let (_, page) = gateway.get("/metrics").expect("the page is there");
    let values = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split(' ').nth(1));
    values.map(|value| value.parse().expect("a number")).collect()
}

fn assert_even(values: &[f64], what: &str) {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    assert!(values.len() == 2 && most <= 1.2 * least, "{what}: {values:?}");
}

struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connected, accepted and served, so that the next one finds it counted.
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket can be made so");
        Self { stream }
    }

    fn ask(&mut self) {
        self.stream.write_all(b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n").expect("the gateway reads");
        let mut bytes = Vec::new();
        let head = loop {
            if let Some((head, _)) = Head::parse(&bytes).expect("a head") {
                break head;
            }
            let mut piece = [0; 1024];
            let count = self.stream.read(&mut piece).expect("an answer comes");
            assert_ne!(count, 0, "the connection ended without an answer");
            bytes.extend_from_slice(&piece[..count]);
        };
        assert_eq!(head.status(), Some(200));
    }

    fn read_end(&mut self) {
        assert_eq!(self.stream.read(&mut [0]).expect("an end"), 0, "the connection goes on");
    }
}
