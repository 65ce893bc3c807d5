//! Users that a real directory knows, whatever they are called: OpenLDAP in the clear, over TLS and with StartTLS, and what
//! becomes of requests while it is away.

#[allow(dead_code, reason = "the rest of the runner serves cases.rs")]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use support::{
    gateway::{Gateway, Launch, drivers},
    ports,
    slapd::{BASE, Entry, SERVICE, Slapd},
    tls,
};

const LIMIT: Duration = Duration::from_secs(30);

/// Answers every request with the value of its `x-user`.
struct Upstream {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let asked = Arc::<AtomicUsize>::default();
        let counted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, asked) = (stream.expect("a connection"), counted.clone());
                // A connection that the gateway has closed is no failure.
                std::thread::spawn(move || drop(tell(&stream, &asked)));
            }
        });
        Self { address, asked }
    }
}

fn tell(stream: &TcpStream, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).split(b'\n');
    loop {
        let mut user = Vec::new();
        loop {
            let line = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
            match line.trim_ascii_end() {
                b"" => break,
                line => user = line.strip_prefix(b"x-user: ").map_or(user, <[u8]>::to_vec),
            }
        }
        asked.fetch_add(1, Ordering::SeqCst);
        let mut stream = stream;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", user.len())?;
        stream.write_all(&user)?;
    }
}

struct Setting {
    gateway: Gateway,
    _folder: tempfile::TempDir,
    port: u16,
    upstream: Upstream,
}

impl Setting {
    /// A gateway whose directory is at `url`, with more of the policy's `config` and `ringway`, and a further document.
    fn start(url: &str, config: &str, ringway: &str, more: &str) -> Self {
        let (folder, port, upstream) = (tempfile::tempdir().expect("a folder"), ports::reserve(), Upstream::start());
        tls::write(folder.path()).expect("certificates");
        let text = format!(
            "apiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {{name: api}}\nspec:\n  \
             address: 'http://127.0.0.1:{port}'\n  services: {{upstream: {{address: 'http://{}'}}}}\n  policies:\n    \
             - policyRef: {{name: ldap-authentication-flex}}\n      ringway: {{{ringway}}}\n      \
             config: {{ldapServerURL: '{url}', ldapServerUserDn: '{}', ldapServerUserPassword: {}, \
             ldapSearchBase: '{BASE}', {config}}}\n    \
             - policyRef: {{name: header-injection-flex}}\n      \
             config: {{inboundHeaders: [{{key: x-user, value: '#[authentication.principal]'}}]}}\n{more}",
            upstream.address, SERVICE.0, SERVICE.1
        );
        fs::write(folder.path().join("gateway.yaml"), text).expect("a file");
        let flags = ["--threads".to_owned(), "2".to_owned()];
        let driver = &drivers()[0];
        let (directory, management) = (folder.path(), ports::reserve());
        let launch = Launch { directory, driver, management, flags: &flags, environment: &[] };
        let mut gateway = Gateway::launch(&launch).expect("it starts");
        gateway.wait_live(true, LIMIT).expect("it is ready");
        Self { gateway, _folder: folder, port, upstream }
    }

    /// Status and body of a request of this user.
    fn ask(&self, user: &[u8], password: &[u8]) -> (u16, String) {
        self.ask_with(&format!("Basic {}", BASE64.encode([user, b":", password].concat())))
    }

    fn ask_with(&self, authorization: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        write!(stream, "GET / HTTP/1.1\r\nhost: a.test\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        if status == 401 {
            assert!(answer.contains("www-authenticate: Basic realm=\"mule-realm\"\r\n"), "{answer}");
        }
        (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
    }

    fn calls(&self, outcome: &str) -> f64 {
        let page = self.gateway.get("/metrics").expect("a page").1;
        let label = format!("outcome=\"{outcome}\"}} ");
        let lines = page.lines().filter(|line| line.starts_with("ringway_calls_total{") && line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Nothing of it in the log.
    fn wrote_nothing_of(&self, secrets: &[&str]) {
        let written = [self.gateway.stdout.all(), self.gateway.stderr.all()].concat().join("\n");
        for secret in secrets {
            assert!(!written.contains(secret), "{secret} in {written}");
        }
    }
}

fn let_in(user: &[u8]) -> (u16, String) {
    (200, String::from_utf8_lossy(user).into_owned())
}

fn refused() -> (u16, String) {
    (401, "{\"error\":\"Authentication Attempt Failed\"}".to_owned())
}

/// Names that mean something in filters, in names of entries, or in headers.
const ODD: &[(&str, &str)] = &[
    ("uid=ada", "ada"),
    ("uid=a*da", "a*da"),
    ("uid=b(o)b", "b(o)b"),
    ("uid=\\5c2a", "\\2a"),
    ("uid=c\\\\", "c\\"),
    ("uid=d\\, d", "d, d"),
    ("uid=e\\+e", "e+e"),
    ("uid=f\\=f", "f=f"),
    ("uid=\\#g", "#g"),
    ("uid=h\\\"\\<\\>\\;h", "h\"<>;h"),
    ("uid=j\u{fc}rgen", "j\u{fc}rgen"),
    ("uid=k & (|", "k & (|"),
    ("uid={0}", "{0}"),
    ("uid=\\#[1]", "#[1]"),
];

#[test]
fn whoever_the_directory_knows_is_let_in_and_nobody_else() {
    let mut entries: Vec<Entry> =
        ODD.iter().map(|(name, uid)| Entry::person(name, uid.as_bytes(), Some("right"))).collect();
    let long = "l".repeat(200);
    // The name of an entry that is some 4 KiB long.
    let (mut below, mut deepest) = (Vec::new(), String::new());
    for _ in 0..20 {
        deepest = format!("ou={long},{deepest}");
        let name = format!("{deepest}{BASE}");
        below.push(Entry(
            name,
            vec![("objectClass", b"organizationalUnit".to_vec()), ("ou", long.clone().into_bytes())],
        ));
    }
    entries.extend(below);
    let deepest = deepest.trim_end_matches(',').to_owned();
    entries.extend([
        Entry::person("cn=x+sn=x", b"twin", Some("right")),
        Entry::person("cn=x+mail=y", b"twin", Some("right")).with("mail", "y"),
        Entry::person("uid=open", b"open", None),
        Entry::person(&format!("uid={long}"), long.as_bytes(), Some("right")),
        Entry(
            format!("uid=elsewhere,{BASE}"),
            vec![
                ("objectClass", b"referral".to_vec()),
                ("objectClass", b"extensibleObject".to_vec()),
                ("uid", b"elsewhere".to_vec()),
                ("ref", b"ldap://127.0.0.1:1/uid=elsewhere,dc=example,dc=net".to_vec()),
            ],
        ),
        Entry(
            format!("ou=below,{BASE}"),
            vec![("objectClass", b"organizationalUnit".to_vec()), ("ou", b"below".to_vec())],
        ),
        Entry::person("uid=deep,ou=below", b"deep", Some("right")),
        Entry::person(&format!("uid=deepest,{deepest}"), b"deepest", Some("right")),
        Entry::person("uid=nul\\00", b"nul\0", Some("right")),
    ]);
    let slapd = Slapd::start(&entries, "");
    let setting = Setting::start(&format!("ldap://127.0.0.1:{}", slapd.port), "", "", "");
    for (_, uid) in ODD {
        let uid = uid.as_bytes();
        assert_eq!(setting.ask(uid, b"right"), let_in(uid));
        assert_eq!(setting.ask(uid, b"wrong"), refused(), "{uid:?}");
        assert_eq!(setting.ask(uid, b"right "), refused(), "{uid:?}");
    }
    assert_eq!(setting.ask(long.as_bytes(), b"right"), let_in(long.as_bytes()));
    assert_eq!(setting.ask(b"nul\0", b"wrong"), refused());
    assert_eq!(setting.ask(b"nul", b"right"), refused());
    // He is let in; it is the policy behind that has no header to tell of him.
    assert_eq!(setting.ask(b"nul\0", b"right").0, 500);
    let passed = setting.upstream.asked.load(Ordering::SeqCst);
    for user in [
        "*",
        "ad*",
        "nobody",
        "ada)(uid=*",
        "*)(|(uid=*",
        "ada\\2a",
        "\\61da",
        "uid=ada",
        "twin",
        "elsewhere",
        "deep",
        "ad\0",
    ] {
        assert_eq!(setting.ask(user.as_bytes(), b"right"), refused(), "{user:?}");
    }
    // Nobody is asked of these.
    let asked = ["accepted", "refused", "unknown_user", "ambiguous_user"].map(|outcome| setting.calls(outcome));
    assert_eq!(setting.ask(b"ada", b""), refused());
    assert_eq!(setting.ask(b"open", b""), refused());
    assert_eq!(setting.ask(b"ada", b"\0right"), refused());
    assert_eq!(setting.ask(b"", b"right"), refused());
    assert_eq!(setting.ask(b"\xff\xfe", b"right").0, 401);
    assert_eq!(setting.ask_with("Bearer x").0, 401);
    assert_eq!(asked, ["accepted", "refused", "unknown_user", "ambiguous_user"].map(|outcome| setting.calls(outcome)));
    // An entry without a password, and one that two answer to.
    assert_eq!(setting.ask(b"open", b"right"), refused());
    assert_eq!(setting.upstream.asked.load(Ordering::SeqCst), passed);
    assert_eq!(setting.calls("ambiguous_user"), 1.0);
    assert_eq!(setting.calls("accepted"), (ODD.len() + 2) as f64);
    setting.wrote_nothing_of(&["right", "hunter2", "d3Jvbmc", &long]);

    let everywhere = Setting::start(
        &format!("ldap://127.0.0.1:{}/", slapd.port),
        "ldapSearchInSubtree: true, ldapSearchFilter: '(&(objectClass=person)(|(uid={0})(mail={0})))', \
         authorizationExpression: \"#[attributes.headers['authorization']]\"",
        "",
        "",
    );
    assert_eq!(everywhere.ask(b"deep", b"right"), let_in(b"deep"));
    assert_eq!(everywhere.ask(b"deepest", b"right"), let_in(b"deepest"));
    assert_eq!(everywhere.ask(b"y", b"right"), let_in(b"y"));
    assert_eq!(everywhere.ask(b"elsewhere", b"right"), refused());
    assert_eq!(everywhere.ask(b"twin", b"right"), refused());
}

/// How calls of policies are secured, with this authority.
fn trusting(name: &str) -> String {
    let made = tls::made().iter().find(|made| made.name == name).expect("a certificate");
    format!(
        "---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: Configuration\nmetadata: {{name: outside}}\nspec:\n  \
         defaultTLS: {{outboundPolicyCalls: {{trustedCA: {}}}}}\n",
        tls::quoted(&made.crt)
    )
}

#[test]
fn a_directory_is_spoken_with_in_secret_or_not_at_all() {
    let slapd = Slapd::start(&[Entry::person("uid=ada", b"ada", Some("right"))], "security simple_bind=128");
    let unavailable = (503, "{\"error\":\"Service Unavailable\"}".to_owned());
    let (plain, secure) =
        (format!("ldap://127.0.0.1:{}", slapd.port), format!("ldaps://127.0.0.1:{}", slapd.secure_port));
    for (url, ringway) in [(&secure, ""), (&plain, "startTls: true")] {
        let setting = Setting::start(url, "", ringway, &trusting("ca"));
        for _ in 0..2 {
            assert_eq!(setting.ask(b"ada", b"right"), let_in(b"ada"), "{url}");
            assert_eq!(setting.ask(b"ada", b"wrong"), refused(), "{url}");
        }
        let stranger = Setting::start(url, "", ringway, &trusting("other-ca"));
        assert_eq!(stranger.ask(b"ada", b"right"), unavailable, "{url}");
        assert_eq!(stranger.calls("tls"), 1.0, "{url}");
        stranger.wrote_nothing_of(&["right", "hunter2"]);
    }
    // This directory takes no password in the clear.
    let clear = Setting::start(&plain, "", "", "");
    assert_eq!(clear.ask(b"ada", b"right").0, 502);
    assert_eq!(clear.calls("directory_refused"), 1.0);
    // And plain LDAP is no TLS.
    let confused = Setting::start(&format!("ldaps://127.0.0.1:{}", slapd.port), "", "", &trusting("ca"));
    assert_eq!(confused.ask(b"ada", b"right"), unavailable);
}

#[test]
fn what_is_remembered_outlives_the_directory_and_connections_do_not() {
    let mut slapd = Slapd::start(&[Entry::person("uid=ada", b"ada", Some("right"))], "");
    let url = format!("ldap://127.0.0.1:{}", slapd.port);
    let (remembers, asks) = (Setting::start(&url, "", "cacheTtl: 600", ""), Setting::start(&url, "", "", ""));
    for setting in [&remembers, &asks] {
        assert_eq!(setting.ask(b"ada", b"right"), let_in(b"ada"));
        assert_eq!(setting.ask(b"ada", b"wrong"), refused());
    }
    // What was kept is closed, and nobody notices.
    slapd.restart();
    assert_eq!(asks.ask(b"ada", b"right"), let_in(b"ada"));
    slapd.stop();
    assert_eq!(remembers.ask(b"ada", b"right"), let_in(b"ada"));
    assert_eq!(remembers.ask(b"ada", b"wrong").0, 503);
    assert_eq!(asks.ask(b"ada", b"right").0, 503);
    assert_eq!((remembers.calls("accepted"), asks.calls("accepted")), (1.0, 2.0));
    asks.wrote_nothing_of(&["right", "wrong", "hunter2"]);
}
