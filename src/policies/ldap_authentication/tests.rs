use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::policies::{
    Options,
    testing::{self, Trial},
};

const CONFIG: &str = "ldapServerURL: 'ldap://localhost', ldapServerUserDn: cn=gateway, ldapServerUserPassword: hunter2, \
                      ldapSearchBase: dc=example";

fn compile(more: &str, options: Options) -> LdapAuthentication {
    testing::compile_with_options(&format!("{{{CONFIG}, {more}}}"), options)
}

fn compile_of(url: &str) -> LdapAuthentication {
    testing::compile(&format!("{{{}}}", CONFIG.replace("ldap://localhost", url))).expect("valid")
}

/// A policy whose directory says this each time; and whom it was asked for.
struct Trying {
    policy: LdapAuthentication,
    state: State,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Trying {
    fn new(more: &str, cache_ttl: u32, said: Result<Verdict, &'static str>) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let list = asked.clone();
        let no_call = |_: &_| Err(fault::Fault::new("not_asked", ""));
        let calls = Calls::told_with(no_call, move |log_in| {
            let pair = format!("{}:{}", log_in.user, String::from_utf8_lossy(&log_in.password));
            list.lock().expect("nobody panics").push(pair);
            said.map_err(|reason| fault::Fault::new(reason, ""))
        });
        let core = Core { calls: Some(calls), signals: Signals::apart(), ..Core::default() };
        let policy = compile(more, Options { cache_ttl: Some(cache_ttl), ..Default::default() });
        Self { state: policy.state(&core), policy, asked }
    }

    /// The principal, or status and reason.
    fn ask(&self, sent: &[(&str, &str)]) -> Result<String, (u16, &'static str)> {
        let mut trial = Trial::new("GET", "/", sent);
        let flow = trial.with(0, |exchange| {
            let mut kept = Kept::default();
            self.policy.on_request(Turn { state: &self.state, kept: &mut kept }, exchange)
        });
        match testing::answer(flow) {
            None => Ok(trial.authentication.principal().expect("somebody").to_owned()),
            Some(answer) => {
                assert_eq!(answer.headers.len(), usize::from(answer.status == 401), "{answer:?}");
                Err((answer.status, answer.reason))
            }
        }
    }

    fn ask_as(&self, pair: &[u8]) -> Result<String, (u16, &'static str)> {
        self.ask(&[("authorization", &format!("basic {}", BASE64.encode(pair)))])
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("nobody panics"))
    }
}

const FAILED: Result<String, (u16, &str)> = Err((401, "authentication_failed"));
const MISSING: Result<String, (u16, &str)> = Err((401, "authentication_missing"));

#[test]
fn what_the_directory_says_counts() {
    for (said, expected) in [
        (Ok(Verdict::Accepted), Ok("ada".to_owned())),
        (Ok(Verdict::Unknown), FAILED),
        (Ok(Verdict::Ambiguous), FAILED),
        (Ok(Verdict::Refused), FAILED),
        (Err("timeout"), Err((504, "ldap_timeout"))),
        (Err("directory_refused"), Err((502, "ldap_refused"))),
        (Err("malformed_answer"), Err((502, "ldap_malformed"))),
        (Err("too_large"), Err((502, "ldap_malformed"))),
        (Err("truncated"), Err((502, "ldap_malformed"))),
        (Err("busy"), Err((503, "ldap_unavailable"))),
        (Err("tls"), Err((503, "ldap_unavailable"))),
        (Err("circuit_open"), Err((503, "ldap_unavailable"))),
        (Err("full"), Err((503, "ldap_unavailable"))),
    ] {
        let trying = Trying::new("", 0, said);
        assert_eq!(trying.ask_as(b"ada:a:b"), expected, "{said:?}");
        assert_eq!(trying.asked(), ["ada:a:b"], "{said:?}");
    }
}

#[test]
fn nobody_is_asked_of_what_no_directory_should_see() {
    let trying = Trying::new("", 0, Ok(Verdict::Accepted));
    for pair in [&b"ada:"[..], b":right", b":", b"ada:\0", b"ada:\0right", b"ada:ri\0ght"] {
        assert_eq!(trying.ask_as(pair), FAILED, "{pair:?}");
    }
    for pair in [&b"ada"[..], b"", b"\xffda:right"] {
        assert_eq!(trying.ask_as(pair), MISSING, "{pair:?}");
    }
    let right = format!("Basic {}", BASE64.encode("ada:right"));
    assert_eq!(trying.ask(&[]), MISSING);
    assert_eq!(trying.ask(&[("authorization", &right), ("authorization", &right)]), MISSING);
    assert_eq!(trying.ask(&[("authorization", "Bearer x")]), MISSING);
    assert_eq!(trying.asked(), [""; 0]);
    assert_eq!(trying.ask_as(b"ada:\xff"), Ok("ada".to_owned()), "a password may be any bytes");
}

#[test]
fn an_expression_says_where_credentials_stand() {
    let trying =
        Trying::new("authorizationExpression: \"#['Basic ' ++ attributes.headers.x]\"", 0, Ok(Verdict::Accepted));
    assert_eq!(trying.ask(&[("x", &BASE64.encode("ada:right"))]), Ok("ada".to_owned()));
    for sent in [&[][..], &[("x", "")], &[("authorization", "Basic YTpi")], &[("x", "YTpi"), ("x", "YTpi")]] {
        assert_eq!(trying.ask(sent), MISSING, "{sent:?}");
    }
    assert_eq!(trying.asked(), ["ada:right"]);
}

#[test]
fn only_who_was_let_in_is_remembered_and_only_where_that_is_wanted() {
    let without = Trying::new("", 0, Ok(Verdict::Accepted));
    let with = Trying::new("", 60, Ok(Verdict::Accepted));
    for _ in 0..3 {
        assert_eq!((without.ask_as(b"ada:a"), with.ask_as(b"ada:a")), (Ok("ada".to_owned()), Ok("ada".to_owned())));
    }
    assert_eq!((without.asked().len(), with.asked().len()), (3, 1));
    // Nothing runs together, and another password is another question.
    for pair in [&b"ada:b"[..], b"ad:a:a", b"adaa:", b"ADA:a"] {
        let _ = with.ask_as(pair);
    }
    assert_eq!(with.asked(), ["ada:b", "ad:a:a", "ADA:a"]);
    for said in [Ok(Verdict::Refused), Ok(Verdict::Unknown), Err("timeout")] {
        let trying = Trying::new("", 60, said);
        for _ in 0..2 {
            trying.ask_as(b"ada:a").expect_err("no");
        }
        assert_eq!(trying.asked().len(), 2, "{said:?}");
    }
}

#[test]
fn what_is_remembered_runs_out_and_is_bounded() {
    let trying = Trying::new("", 60, Ok(Verdict::Accepted));
    let flights = &trying.policy.source.flights;
    trying.ask_as(b"ada:a").expect("let in");
    let key = trying.policy.source.key(&Credentials { user: "ada".into(), password: b"a".into() });
    let known = |after| {
        let look = flights.look(&key, Instant::now() + Duration::from_secs(after), || None);
        matches!(look, Look::Known(Outcome::Told(Verdict::Accepted)))
    };
    assert!(known(59) && !known(61));
    let other = Trying::new("", 60, Ok(Verdict::Accepted)).policy;
    assert_ne!(key, other.source.key(&Credentials { user: "ada".into(), password: b"a".into() }), "keyed");
    for number in 0..2 * KNOWN_MAX {
        trying.ask_as(format!("{number}:a").as_bytes()).expect("let in");
    }
    let still = AtomicUsize::new(0);
    for number in 0..2 * KNOWN_MAX {
        let key = trying.policy.source.key(&Credentials { user: number.to_string(), password: b"a".into() });
        if matches!(flights.look(&key, Instant::now(), || None), Look::Known(_)) {
            still.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert!((KNOWN_MAX / 2..=KNOWN_MAX + 16).contains(&still.into_inner()));
}

#[test]
fn every_fault_is_reported_and_no_secret_shown() {
    let faults = testing::faults::<LdapAuthentication>(
        "{ldapServerURL: 'ldap://u:PW@a', ldapServerUserDn: '', ldapServerUserPassword: '', ldapSearchBase: o, \
         ldapSearchFilter: 'uid={0}', authorizationExpression: '#[nobody]'}",
    );
    let all = faults.join("\n");
    for field in [
        "ldapServerURL: user information does not belong in an address",
        "ldapServerUserDn: must not be empty",
        "ldapServerUserPassword: must not be empty",
        "ldapSearchFilter: `(` is missing",
        "authorizationExpression: ",
    ] {
        assert!(all.contains(&format!("config.{field}")), "{field} in {all}");
    }
    assert!(!all.contains("PW"), "{all}");
    let policy = compile("", Default::default());
    let log_in = LogIn {
        directory: policy.source.directory.clone(),
        policy: NAME,
        binding: String::new(),
        user: "ada".into(),
        password: b"hunter3".into(),
        time_max: TIME_MAX,
    };
    let shown = format!("{policy:?} {log_in:?}");
    let expected = "LdapAuthentication { of: Directory(ldap://localhost:389), flights: Flights(0 under way) } \
                    LogIn(ldap://localhost:389 for `(uid={0})` one level below `dc=example`)";
    assert_eq!(shown, expected);
}

#[test]
fn servers_have_one_spelling() {
    let of = |host: &str, port| Endpoint { host: host.to_owned(), port };
    for (url, expected) in [
        ("ldap://a.test", Ok((false, of("a.test", 389)))),
        ("LDAPS://A.test/", Ok((true, of("a.test", 636)))),
        ("ldap://[::1]:1389", Ok((false, of("::1", 1389)))),
        ("a.test:389", Err("expected ldap://host:port")),
        ("https://a.test", Err("the protocol must be ldap or ldaps")),
        (
            "ldap://a.test/dc=x??sub?(uid={0})",
            Err("nothing stands behind the port: where to search is `ldapSearchBase`"),
        ),
        ("ldap://", Err("the host is missing")),
        ("ldap://a b", Err("not a host name or an IP address")),
    ] {
        assert_eq!(server(url), expected.map_err(str::to_owned), "{url}");
    }
    let remarks =
        |url: &str| testing::remarks::<LdapAuthentication>(&format!("{{{}}}", CONFIG.replace("ldap://localhost", url)));
    assert_eq!(remarks("ldap://127.0.0.2"), [""; 0]);
    assert!(remarks("ldap://a.test")[0].contains("in the clear"));
    assert_eq!(remarks("ldaps://a.test"), [""; 0]);
    let secured = compile_of("ldaps://a.test").source.directory.insecure.clone();
    assert_eq!(secured.as_deref(), Some("there is no way to secure it"), "as long as nothing says how");
}

#[test]
fn what_secures_twice_is_refused() {
    let faults = |url: &str| {
        let options = Options { start_tls: Some(true), ..Default::default() };
        let config = testing::node(&format!("{{{}}}", CONFIG.replace("ldap://localhost", url)));
        let mut site = testing::site().with_options(options);
        LdapAuthentication::compile(config.deserialize("config", &mut Vec::new()).expect("it fits"), &mut site).err()
    };
    assert!(faults("ldap://a.test").is_none());
    assert!(faults("ldaps://a.test").is_some_and(|error| error.faults[0].text.contains("from its first byte")));
}
