//! A hundred thousand clients of one API: who is let in, and what another set for another API changes meanwhile.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fmt::Write,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use support::{
    counting::{Asker, Counting},
    gateway::{Gateway, Launch, drivers},
    ports,
};

const CLIENTS: usize = 100_000;
/// Reading them takes a build that is not optimised a while.
const LIMIT: Duration = Duration::from_secs(240);

fn api(name: &str, port: u16, upstream: &Counting) -> String {
    format!(
        "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: {name}}}\nspec:\n  \
         address: http://127.0.0.1:{port}/{name}\n  services: {{upstream: {{address: \"http://{}\"}}}}\n  policies:\n  \
         - policyRef: {{name: client-id-enforcement}}\n    \
         config: {{clientSecretExpression: \"#[attributes.headers['client_secret']]\"}}\n---\n",
        upstream.address
    )
}

fn contracts(api: &str, clients: impl Iterator<Item = usize>) -> String {
    clients.fold(String::new(), |mut text, at| {
        write!(
            text,
            "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: Contract\nmetadata: {{name: {api}-{at}}}\n\
             spec: {{apiId: {api}, client: {{id: c{at}, name: Client {at}, secret: s{at}}}}}\n---\n"
        )
        .expect("a text takes it");
        text
    })
}

fn status(port: u16, api: &str, client: usize, secret: usize) -> Option<u16> {
    let (id, secret) = (format!("c{client}"), format!("s{secret}"));
    let mut asker = Asker::connect(port, LIMIT)?;
    asker.ask(&format!("/{api}"), &[("client_id", &id), ("client_secret", &secret)])?.status()
}

fn start(directory: &Path) -> Gateway {
    let drivers = drivers();
    let launch = Launch { directory, driver: &drivers[0], management: ports::reserve(), flags: &[], environment: &[] };
    let mut gateway = Gateway::launch(&launch).expect("it starts");
    gateway.wait_live(true, LIMIT).expect("it is ready");
    gateway
}

#[test]
fn a_set_of_one_api_is_replaced_beside_a_hundred_thousand_of_another() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contracts");
    fs::create_dir_all(&directory).expect("a directory");
    let (port, upstream) = (ports::reserve(), Counting::start());
    let write = |name: &str, text: String| fs::write(directory.join(name), text).expect("written");
    write("apis.yaml", api("many", port, &upstream) + &api("few", port, &upstream));
    // As a control plane writes them, 256 to a unit; here fewer files.
    for (at, first) in (0..CLIENTS).step_by(10_000).enumerate() {
        write(&format!("many-{at}.yaml"), contracts("many", first..first + 10_000));
    }
    write("few.yaml", contracts("few", 0..2));
    let mut gateway = start(&directory);
    for client in [0, 1, CLIENTS / 2, CLIENTS - 1] {
        assert_eq!(status(port, "many", client, client), Some(200), "{client}");
        assert_eq!(status(port, "many", client, client + 1), Some(401), "{client}");
    }
    assert_eq!(status(port, "many", CLIENTS, CLIENTS), Some(401));
    assert_eq!([0, 1, 2].map(|client| status(port, "few", client, client)), [Some(200), Some(200), Some(401)]);

    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let steady = threads.spawn(|| {
            let mut asker = Asker::connect(port, LIMIT).expect("it listens");
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                let head = asker.ask("/many", &[("client_id", "c7"), ("client_secret", "s7")]);
                assert_eq!(head.and_then(|head| head.status()), Some(200), "after {asked}");
                asked += 1;
            }
            asked
        });
        // One leaves, one stays, one comes.
        write("few.yaml", contracts("few", 1..3));
        let reloaded = gateway.wait_reload(LIMIT);
        done.store(true, Ordering::Relaxed);
        assert!(steady.join().expect("nothing was refused") > 0);
        reloaded.expect("it takes the new set");
    });
    assert_eq!([0, 1, 2].map(|client| status(port, "few", client, client)), [Some(401), Some(200), Some(200)]);
    assert_eq!(status(port, "many", CLIENTS - 1, CLIENTS - 1), Some(200));

    // An API whose last client leaves does not know who might come.
    fs::remove_file(directory.join("few.yaml")).expect("it is there");
    gateway.wait_reload(LIMIT).expect("it takes the new set");
    assert_eq!(status(port, "few", 1, 1), Some(503));
}
