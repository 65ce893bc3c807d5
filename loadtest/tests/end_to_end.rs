//! The binary against a small server in the test: what was sent, what was counted, what was refused.
//!
//! Counts are exact. Times are only ever compared from below, so a busy machine cannot fail a test.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

mod support;

use support::{run, text};

/// Answers every request; remembers what it saw.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: u64,
    /// By method and path.
    requests: BTreeMap<String, u64>,
    body_bytes: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Prompt,
    /// The first request waits so long.
    Stall(Duration),
    Silent,
    /// Half an answer, then the end.
    CutsOff,
}

impl Server {
    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let ours = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                ours.lock().expect("no panic before").connections += 1;
                let seen = ours.clone();
                thread::spawn(move || serve(stream, &seen, manner));
            }
        });
        Self { address, seen }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> BTreeMap<String, u64> {
        self.seen.lock().expect("no panic before").requests.clone()
    }
}

/// Ends with the connection, however that ends.
fn serve(mut stream: TcpStream, seen: &Mutex<Seen>, manner: Manner) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut line, mut length, mut close) = (String::new(), 0, false);
        reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
        let what = line.rsplit_once(' ')?.0.to_owned();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            match header.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().ok()?,
                Some(("connection", value)) => close = value == "close",
                Some(_) => {}
                None => break,
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let is_first = {
            let mut seen = seen.lock().expect("no panic before");
            *seen.requests.entry(what).or_default() += 1;
            seen.body_bytes += length as u64;
            seen.requests.values().sum::<u64>() == 1
        };
        match manner {
            Manner::Stall(time) if is_first => thread::sleep(time),
            Manner::Silent => continue,
            Manner::CutsOff => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").ok(),
            _ => {}
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").ok()?;
        if close {
            return Some(());
        }
    }
}

#[test]
fn an_open_loop_sends_what_the_schedule_says_and_writes_every_form() {
    let server = Server::start(Manner::Prompt);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (html, hdr, url) = (path("page.html"), path("log.hlog"), server.url());
    let (output, result) =
        run(&[&url, "--rate", "300", "-d", "1s", "-c", "8", "--html", &html, "--hdr", &hdr, "-H", "X-A: b"]);
    assert!(output.status.success(), "{}", text(&output));

    let round = &result["rounds"][0];
    assert_eq!(round["sent"], 300);
    assert_eq!(round["statuses"]["200"], 300);
    assert_eq!(round["unfinished"], 0);
    assert_eq!(round["connections_opened"], 8);
    assert_eq!(server.requests(), BTreeMap::from([("GET /".to_owned(), 300)]));
    assert_eq!(result["load"]["loop"], "open, constant");
    assert!(text(&output).contains("open, constant loop, 300 requests/s wanted"));

    let page = fs::read_to_string(html).expect("the page was written");
    assert!(page.contains("<svg") && page.contains("Latency by percentile"));
    for fetched in ["<script", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(fetched), "the page has {fetched}");
    }
    assert!(fs::read_to_string(hdr).expect("the log was written").contains("Tag=round-1,0.000,1.000,"));
}

#[test]
fn a_stall_is_paid_for_by_every_request_that_was_due() {
    let server = Server::start(Manner::Stall(Duration::from_millis(600)));
    let (output, result) = run(&[&server.url(), "--rate", "100", "-d", "1s", "-c", "1"]);
    assert!(output.status.success(), "{}", text(&output));
    let round = &result["rounds"][0];
    assert_eq!(round["statuses"]["200"], 100);
    // Sixty requests were due meanwhile, the first to wait longest: half of them waited 300 ms and more.
    assert!(round["latency_us"]["p90"].as_f64().is_some_and(|us| us > 400_000.0), "{}", round["latency_us"]);
    assert!(round["latency_us"]["max"].as_f64().is_some_and(|us| us >= 600_000.0));
}

#[test]
fn without_keep_alive_each_request_has_its_connection() {
    let server = Server::start(Manner::Prompt);
    let (output, result) =
        run(&[&server.url(), "--rate", "100", "--schedule", "poisson", "-d", "1s", "-c", "16", "--no-keep-alive"]);
    assert!(output.status.success(), "{}", text(&output));
    let round = &result["rounds"][0];
    let sent = round["sent"].as_u64().expect("a count");
    assert!((50..150).contains(&sent), "{sent}");
    assert_eq!(round["statuses"]["200"], sent);
    assert_eq!(round["connections_opened"], sent);
    assert_eq!(server.seen.lock().expect("no panic").connections, sent);
}

#[test]
fn a_scenario_is_mixed_by_weight() {
    let server = Server::start(Manner::Prompt);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mix.yaml");
    let scenario = format!(
        "target: {}/base\nrate: 400\nduration: 1s\nconnections: 4\nrequests:\n  - {{weight: 3, path: /read}}\n  \
         - {{method: POST, path: /write, bodyBytes: 20000}}\n",
        server.url()
    );
    fs::write(&file, scenario).expect("a file of ours");
    let (output, result) = run(&["--scenario", &file.to_string_lossy()]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(result["rounds"][0]["statuses"]["200"], 400);
    let seen = server.requests();
    let (reads, writes) = (seen["GET /base/read"], seen["POST /base/write"]);
    assert_eq!(reads + writes, 400);
    assert!((60..140).contains(&writes), "{writes}");
    assert_eq!(server.seen.lock().expect("no panic").body_bytes, 20_000 * writes);
}

#[test]
fn an_access_log_becomes_a_mix() {
    let server = Server::start(Manner::Prompt);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let line = r#"{"http.request.method":"PUT","url.path":"/logged","bytes_in":7,"http.response.status_code":200}"#;
    fs::write(&log, format!("{line}\n{line}\n")).expect("a file of ours");
    let (output, _) = run(&[&server.url(), "--rate", "50", "-d", "1s", "--access-log", &log.to_string_lossy()]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(server.requests(), BTreeMap::from([("PUT /logged".to_owned(), 50)]));
    assert_eq!(server.seen.lock().expect("no panic").body_bytes, 350);
}

#[test]
fn a_closed_loop_says_so_and_every_round_is_a_sample() {
    let server = Server::start(Manner::Prompt);
    let (output, result) = run(&[&server.url(), "--closed", "-d", "200ms", "-c", "2", "--rounds", "3"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("closed loop, 2 keep-alive connections"));
    assert_eq!(result["load"]["loop"], "closed");
    let rate = result["measurements"].as_array().and_then(|all| all.iter().find(|m| m["name"] == "rate"));
    assert_eq!(rate.and_then(|rate| rate["samples"].as_array()).map(Vec::len), Some(3));
    let completed: u64 = (0..3).filter_map(|round| result["rounds"][round]["completed"].as_u64()).sum();
    let seen: u64 = server.requests().values().sum();
    // Behind the window each connection may have had one more under way.
    assert!(completed > 0 && (completed..=completed + 12).contains(&seen), "{completed} of {seen}");
}

#[test]
fn a_generator_that_was_in_the_way_gives_no_number() {
    let server = Server::start(Manner::Prompt);
    let (output, result) = run(&[&server.url(), "--rate", "200", "-d", "300ms", "--lag-limit", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no result: the generator was the bottleneck"), "{}", text(&output));
    assert!(result["rounds"][0]["rate"].is_null() && result["rounds"][0]["latency_us"].is_null());
}

#[test]
fn what_is_never_answered_is_counted_and_lasts_as_long_as_it_was_waited_for() {
    let silent = Server::start(Manner::Silent);
    let (output, result) = run(&[&silent.url(), "--rate", "20", "-d", "500ms", "-c", "20", "--timeout", "300ms"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("no response came to its end"));
    let round = &result["rounds"][0];
    let gone = round["errors"]["timeout"].as_u64().zip(round["unfinished"].as_u64()).map(|(a, b)| a + b);
    assert_eq!(gone, Some(10), "{round}");

    let cuts_off = Server::start(Manner::CutsOff);
    let (output, result) = run(&[&cuts_off.url(), "--rate", "20", "-d", "500ms", "-c", "20"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(result["rounds"][0]["errors"]["closed"], 10, "{}", result["rounds"][0]);
}

#[test]
fn a_comparison_tells_better_from_worse_by_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, samples: &str| {
        let path = folder.path().join(name);
        let json = format!(
            r#"{{"format":1,"measurements":[{{"name":"p99","unit":"us","better":"lower","samples":{samples}}}]}}"#
        );
        fs::write(&path, json).expect("a file of ours");
        path
    };
    let (good, bad) = (write("good.json", "[100,101,99]"), write("bad.json", "[120,121,119]"));
    let compare = |a: &Path, b: &Path, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"));
        command.arg("compare").arg(a).arg(b).args(more).output().expect("the binary runs")
    };
    let worse = compare(&good, &bad, &[]);
    assert_eq!(worse.status.code(), Some(1));
    assert!(text(&worse).contains("1.200") && text(&worse).contains("worse by more than 5 %: p99"));
    assert_eq!(compare(&bad, &good, &[]).status.code(), Some(0));
    assert_eq!(compare(&good, &bad, &["--threshold", "30"]).status.code(), Some(0));
    assert_eq!(compare(&good, Path::new("nowhere.json"), &[]).status.code(), Some(2));
}

/// The first two CPUs of ours, for proxy and generator; `None` on a machine with a single one, which cannot compare proxies.
fn two_cpus() -> Option<[String; 2]> {
    let status = fs::read_to_string("/proc/self/status").expect("a process has one");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("CPUs to run on").trim();
    let mut cpus = list.split([',', '-']).map(str::to_owned);
    Some([cpus.next()?, cpus.next()?])
}

/// A peer that passes everything on, with what it says of policies.
fn write_peer(folder: &Path, policies: &str) {
    fs::create_dir_all(folder).expect("a folder of ours");
    let peer = r#"
role: gateway
command: ["@SELF@", relay, --address, "127.0.0.1:@PORT@", --upstream, "127.0.0.1:@UPSTREAM_PORT@"]
version: ["@SELF@", --version]
missing: nothing
"#;
    fs::write(folder.join("peer.yaml"), peer).expect("a file of ours");
    fs::write(folder.join("policies.yaml"), policies).expect("a file of ours");
}

#[test]
fn policies_are_measured_against_the_same_proxy_without_them() {
    let Some([proxy, load]) = two_cpus() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let policies = r#"
known: [printf, '[{"name": "there", "implemented": true}, {"name": "coming", "implemented": false}]']
workloads:
  policy-cors: {needs: there, files: {origins: https://shop.example}}
  policy-inject: {}
  policy-log: {needs: coming}
  policy-basic: {}
"#;
    write_peer(&folder.path().join("peers/gate"), policies);
    let (json, html) = (path("peers.json"), path("peers.html"));
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"))
        .args(["peers", "--rounds", "2", "--duration", "200ms", "-c", "4", "--proxy-cpu", &proxy, "--load-cpu", &load])
        .args([
            "--workloads",
            "policy-cors,policy-inject,policy-log,policy-basic",
            "--policy-target",
            "policy-cors=1e9",
        ])
        .args(["--json", &json, "--html", &html, "--peers", &path("peers")])
        .output()
        .expect("the binary runs");
    let said = text(&output);
    // It asks for no password, so what it costs is not what basic authentication costs.
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("round 2, gate: policy-basic: what the policy should refuse is answered with 200"), "{said}");
    assert!(said.contains("gate is left out: this version does not implement coming."), "{said}");
    assert!(said.contains("1000000000 (met)") && said.contains("## policy-cors: CORS"), "{said}");
    let result: Value = serde_json::from_str(&fs::read_to_string(json).expect("written")).expect("JSON");
    let policy = |name: &str| {
        let mut all = result["policies"].as_array().expect("a list").iter();
        all.find(|policy| policy["name"] == name).expect("it was asked for").clone()
    };
    for (name, asks_otherwise) in [("policy-cors", true), ("policy-inject", false)] {
        let trials = &policy(name)["trials"]["gate"];
        assert_eq!(trials.as_array().map(Vec::len), Some(2), "{name}");
        assert_eq!(trials[0]["asked"].is_object(), asks_otherwise, "{name}");
        assert!(policy(name)["added"]["gate"]["us"]["median"].is_f64(), "{name}");
    }
    assert!(policy("policy-basic")["trials"]["gate"].is_null());
    let names: Vec<&str> =
        result["measurements"].as_array().into_iter().flatten().filter_map(|m| m["name"].as_str()).collect();
    let expected =
        ["gate/policy-inject/cpu", "gate/policy-inject/cpu-user", "gate/policy-cors/cpu", "gate/policy-cors/cpu-user"];
    assert_eq!(names, expected);
    assert!(fs::read_to_string(html).expect("written").contains("<h2>policy-inject: header injection"));
}

#[test]
fn peers_are_started_measured_and_ended_and_those_that_are_not_there_are_named() {
    let Some([proxy, load]) = two_cpus() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (json, markdown) = (path("peers.json"), path("peers.md"));
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"))
        .args(["peers", "--only", "relay,nginx", "--program", "nginx=/nowhere/nginx", "--rounds", "1"])
        .args(["--workloads", "1,2", "--duration", "200ms", "--rate", "100", "-c", "4", "--lag-limit", "10000000"])
        .args(["--proxy-cpu", &proxy, "--load-cpu", &load, "--json", &json, "--markdown", &markdown])
        .args(["--peers", concat!(env!("CARGO_MANIFEST_DIR"), "/peers")])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("nginx is not installed, and skipped: make peers"), "{}", text(&output));
    let result: Value = serde_json::from_str(&fs::read_to_string(json).expect("written")).expect("JSON");
    let names: Vec<&str> =
        result["measurements"].as_array().into_iter().flatten().filter_map(|m| m["name"].as_str()).collect();
    for name in ["relay/keep-alive/cpu", "relay/keep-alive/p99", "relay/connect/cpu-at-rate"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let tables = fs::read_to_string(markdown).expect("written");
    assert!(tables.contains("| relay | ") && tables.contains("- nginx: not installed, skipped"), "{tables}");
}

#[test]
fn what_cannot_be_sent_is_said_before_anything_is() {
    let refused = |arguments: &[&str]| {
        let (output, _) = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output)
    };
    assert!(refused(&["gopher://127.0.0.1:1", "--closed"]).contains("gopher is not spoken"));
    assert!(refused(&["http://127.0.0.1:1", "--closed", "--tls-resume"]).contains("flags of TLS are for https"));
    assert!(refused(&["https://127.0.0.1:1", "--closed", "--cacert", "nowhere.pem"]).contains("nowhere.pem"));
    assert!(refused(&["https://127.0.0.1:1", "--closed", "--http2", "--no-keep-alive"]).contains("keeps its"));
    assert!(refused(&["https://127.0.0.1:1", "--closed", "--http2", "--streams", "0"]).contains("--streams: 1 to"));
    assert!(refused(&["http://127.0.0.1:1"]).contains("say how fast"));
    assert!(refused(&["http://127.0.0.1:1", "--closed", "-H", "no colon"]).contains("not `Name: value`"));
    assert!(refused(&["http://127.0.0.1:1", "--closed", "--server-pid", "4194304"]).contains("there is no process"));
}
