use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use super::*;
use crate::{
    document::address::Endpoint,
    ldap::{Filter, Frame, frame},
    management::resolver,
    tls::{ClientSettings, Trust, suites::Version},
};

const LONG: Duration = Duration::from_secs(60);
const SERVICE: &str = "cn=gateway";
const USER: &[u8] = b"uid=ada";

struct NoNames;

impl Resolve for NoNames {
    async fn resolve(&self, _: &str) -> Result<resolver::Answer, String> {
        Err("there are no names here".to_owned())
    }
}

/// What a directory says to a request with this number; nothing: it closes the connection.
type Says = Box<dyn Fn(u8) -> Vec<u8> + Send>;

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&[tag, 0x84][..], &length, content].concat()
}

fn message(id: u8, operation: &[u8]) -> Vec<u8> {
    element(0x30, &[&[2, 1, id], operation].concat())
}

fn result(tag: u8, code: u8) -> Vec<u8> {
    element(tag, &[10, 1, code, 4, 0, 4, 4, b'o', b'o', b'p', b's'])
}

fn entry(id: u8, name: &[u8]) -> Vec<u8> {
    message(id, &element(0x64, &[element(4, name), element(0x30, b"")].concat()))
}

fn reference(id: u8) -> Vec<u8> {
    message(id, &element(0x73, &element(4, b"ldap://elsewhere.test/")))
}

fn disconnection() -> Vec<u8> {
    let name = element(0x8a, b"1.3.6.1.4.1.1466.20036");
    message(0, &element(0x78, &[&[10, 1, 52, 4, 0, 4, 0][..], &name].concat()))
}

fn bound(code: u8) -> Says {
    Box::new(move |id| message(id, &result(0x61, code)))
}

fn done(code: u8) -> impl Fn(u8) -> Vec<u8> + Send {
    move |id| message(id, &result(0x65, code))
}

/// The search's answer of these entries.
fn found(names: &'static [&'static [u8]], code: u8) -> Says {
    Box::new(move |id| [names.iter().flat_map(|name| entry(id, name)).collect(), done(code)(id)].concat())
}

fn says(bytes: impl Fn(u8) -> Vec<u8> + Send + 'static) -> Says {
    Box::new(bytes)
}

/// A directory whose connections each say these things, one for each request that comes, and then nothing any more. Tells what
/// it was asked.
async fn directory(connections: Vec<Vec<Says>>) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answers in connections {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(serve(stream, answers, tell.clone()));
        }
    });
    (port, told)
}

async fn serve(mut stream: TcpStream, answers: Vec<Says>, tell: mpsc::UnboundedSender<String>) {
    let mut answers = answers.into_iter();
    while let Some((id, asked)) = request(&mut stream).await {
        // A test that has seen enough listens no more.
        let _ = tell.send(asked);
        let Some(answer) = answers.next().map(|says| says(id)) else { continue };
        if answer.is_empty() {
            return;
        }
        // Who has seen enough goes before everything was sent.
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        if answer.ends_with(CLOSES) {
            return;
        }
    }
}

/// Behind an answer: the connection is closed then. It is the beginning of a message.
const CLOSES: &[u8] = b"\x30\x84\x00";

/// Its number, and what it is.
async fn request(stream: &mut TcpStream) -> Option<(u8, String)> {
    let mut input = Vec::new();
    let length = loop {
        if let Frame::Whole(length) = frame(&input, 1 << 20).ok()? {
            break length;
        }
        let byte = stream.read_u8().await.ok()?;
        input.push(byte);
    };
    // Tag and length, and those of the number, which is a small one.
    let header = if input[1] < 0x80 { 2 } else { 2 + usize::from(input[1] - 0x80) };
    let body = &input[header..length];
    let (id, operation) = (body[2], &body[3..]);
    let text = String::from_utf8_lossy(operation).into_owned();
    Some((
        id,
        match operation[0] {
            0x60 if text.contains(SERVICE) => "service",
            0x60 if text.contains("cn=") && text.contains(",dc=example") => "nobody",
            0x60 => "user",
            0x63 => "search",
            0x77 => "start tls",
            0x42 => "unbind",
            _ => "what?",
        }
        .to_owned(),
    ))
}

fn log_in_with(port: u16, security: Security, time_max: Duration) -> LogIn {
    LogIn {
        directory: Arc::new(Directory {
            endpoint: Endpoint { host: "127.0.0.1".to_owned(), port },
            security,
            insecure: None,
            service_dn: SERVICE.to_owned(),
            service_password: "hunter2".to_owned(),
            base: "dc=example".to_owned(),
            in_subtree: true,
            filter: Filter::parse("(uid={0})").expect("a filter"),
            filter_text: "(uid={0})".to_owned(),
        }),
        policy: "test",
        binding: "here".to_owned(),
        user: "ada".to_owned(),
        password: b"right".to_vec(),
        time_max,
    }
}

fn log_in(port: u16) -> LogIn {
    log_in_with(port, Security::Plain, LONG)
}

type Told = Result<Verdict, &'static str>;

async fn ask(directories: &Directories, log_in: &LogIn) -> Told {
    directories.log_in(log_in, &NoNames).await.map_err(|fault| {
        assert!(!fault.text.contains("oops"), "{fault:?}: nobody knows what a directory writes for people");
        fault.reason
    })
}

fn drained(told: &mut mpsc::UnboundedReceiver<String>) -> Vec<String> {
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

#[tokio::test]
async fn a_user_is_looked_for_and_tried_over_connections_of_two_kinds() {
    let searching = vec![bound(0), found(&[USER], 0), found(&[USER], 0)];
    let (port, mut told) = directory(vec![searching, vec![bound(0), bound(49)]]).await;
    let directories = Directories::default();
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Accepted));
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Refused));
    assert_eq!(drained(&mut told), ["service", "search", "user", "search", "user"]);
    let nothing = LogIn { password: Vec::new(), ..log_in(port) };
    assert_eq!(ask(&directories, &nothing).await, Ok(Verdict::Refused));
    assert_eq!(drained(&mut told), [""; 0], "an empty password is nobody's");
}

/// What comes of it when a directory answers the service user's bind, the search and the user's bind so.
async fn outcome(bind: Says, search: Says, user: Says) -> Told {
    let (port, _told) = directory(vec![vec![bind, search], vec![user]]).await;
    ask(&Directories::default(), &log_in(port)).await
}

#[tokio::test]
async fn one_entry_with_a_name_is_found_or_nobody() {
    let search = |search: Says| outcome(bound(0), search, bound(0));
    assert_eq!(search(found(&[USER], 0)).await, Ok(Verdict::Accepted));
    assert_eq!(search(found(&[], 0)).await, Ok(Verdict::Unknown));
    assert_eq!(search(found(&[USER, b"uid=eve"], 0)).await, Ok(Verdict::Ambiguous));
    assert_eq!(search(found(&[USER, b"uid=eve", b"uid=bob"], 0)).await, Ok(Verdict::Ambiguous));
    assert_eq!(search(found(&[USER, USER], 4)).await, Ok(Verdict::Ambiguous));
    assert_eq!(search(found(&[USER], 4)).await, Ok(Verdict::Ambiguous), "there may be more");
    assert_eq!(search(found(&[b""], 0)).await, Ok(Verdict::Unknown), "nobody binds without a name");
    assert_eq!(search(says(|id| [reference(id), done(0)(id)].concat())).await, Ok(Verdict::Unknown));
    assert_eq!(search(says(|id| [reference(id), entry(id, USER), done(0)(id)].concat())).await, Ok(Verdict::Accepted));
    let notice = |id| [message(0, &result(0x78, 0)), entry(id, USER), done(0)(id)].concat();
    assert_eq!(search(says(notice)).await, Ok(Verdict::Accepted), "a notice that means nothing");
    let long = |length: usize| says(move |id| [entry(id, &vec![b'x'; length]), done(0)(id)].concat());
    assert_eq!(search(long(60_000)).await, Ok(Verdict::Accepted));
    assert_eq!(search(long(70_000)).await, Err("too_large"));
}

#[tokio::test]
async fn how_a_directory_refuses_says_whose_fault_it_is() {
    for code in [10, 19, 32, 34, 48, 49, 50, 53] {
        assert_eq!(outcome(bound(0), found(&[USER], 0), bound(code)).await, Ok(Verdict::Refused), "{code}");
    }
    for (code, reason) in
        [(1, "directory_refused"), (2, "directory_refused"), (8, "directory_refused"), (51, "busy"), (52, "busy")]
    {
        assert_eq!(outcome(bound(0), found(&[USER], 0), bound(code)).await, Err(reason), "{code}");
        assert_eq!(outcome(bound(0), found(&[], code), bound(0)).await, Err(reason), "{code}");
        assert_eq!(outcome(bound(code), found(&[USER], 0), bound(0)).await, Err(reason), "{code}");
    }
    assert_eq!(outcome(bound(49), found(&[USER], 0), bound(0)).await, Err("directory_refused"), "it is not the user's");
    for (code, reason) in
        [(3, "timeout"), (10, "directory_refused"), (32, "directory_refused"), (50, "directory_refused")]
    {
        assert_eq!(outcome(bound(0), found(&[], code), bound(0)).await, Err(reason), "{code}");
    }
}

#[tokio::test]
async fn who_is_not_there_is_refused_no_sooner_than_a_wrong_password() {
    for (search, code, expected) in [
        (found(&[], 0), 49, Ok(Verdict::Unknown)),
        (found(&[USER, b"uid=eve"], 0), 49, Ok(Verdict::Ambiguous)),
        // Whatever a directory makes of a name that it does not know: he stays unknown.
        (found(&[], 0), 0, Ok(Verdict::Unknown)),
        (found(&[], 0), 32, Ok(Verdict::Unknown)),
        (found(&[], 0), 1, Ok(Verdict::Unknown)),
        (found(&[], 0), 51, Err("busy")),
    ] {
        let (port, mut told) = directory(vec![vec![bound(0), search], vec![bound(code)]]).await;
        assert_eq!(ask(&Directories::default(), &log_in(port)).await, expected, "{code}");
        assert_eq!(drained(&mut told), ["service", "search", "nobody"]);
    }
    // What a wrong password took is what it takes again, and no more than a second.
    let answers = vec![vec![bound(0), found(&[USER], 0), found(&[], 0)], vec![bound(49), bound(49)]];
    let (port, _told) = directory(answers).await;
    let directories = Directories::default();
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Refused));
    let place = directories.0.get(log_in(port).directory.identity(), Place::default);
    assert!(place.refused_after.load(Ordering::Relaxed) > 0);
    place.refused_after.store(u64::MAX, Ordering::Relaxed);
    let began = Instant::now();
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Unknown));
    assert!((PRETENCE_MAX..2 * PRETENCE_MAX).contains(&began.elapsed()), "{:?}", began.elapsed());
}

fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| element(0x30, &inner))
}

#[tokio::test]
async fn whoever_lies_is_not_believed() {
    /// Made for the question of a number.
    type Lie = fn(u8) -> Vec<u8>;
    let lies: Vec<(Lie, &str)> = vec![
        (|id| message(id + 1, &result(0x61, 0)), "malformed_answer"),
        (|id| message(id, &result(0x78, 0)), "malformed_answer"),
        (|id| message(id, &result(0x6f, 0)), "malformed_answer"),
        (|id| message(id, &[0x61, 0]), "malformed_answer"),
        (|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "malformed_answer"),
        (|_| nested(5000), "malformed_answer"),
        (|id| message(id, &nested(5000)), "malformed_answer"),
        (|_| nested(10_000), "malformed_answer"),
        (|_| b"\x30\x80\x02\x01\x01".to_vec(), "malformed_answer"),
        (|_| b"\x30\x84\xff\xff\xff\xff".to_vec(), "too_large"),
        (|id| message(id, &element(0x61, &vec![0; 10 << 20])), "too_large"),
        (|_| Vec::new(), "closed"),
        (|_| disconnection(), "closed"),
        (|_| CLOSES.to_vec(), "truncated"),
        (|id| [&message(id, &result(0x61, 0))[..9], CLOSES].concat(), "truncated"),
    ];
    for (lie, reason) in lies {
        let shown = format!("{:02x?}", lie(1).iter().take(12).collect::<Vec<_>>());
        assert_eq!(outcome(says(lie), found(&[USER], 0), bound(0)).await, Err(reason), "{shown}");
        assert_eq!(outcome(bound(0), says(lie), bound(0)).await, Err(reason), "{shown}");
        assert_eq!(outcome(bound(0), found(&[USER], 0), says(lie)).await, Err(reason), "{shown}");
    }
    let endless = says(|id| (0..2000).flat_map(|_| reference(id)).collect());
    assert_eq!(outcome(bound(0), endless, bound(0)).await, Err("too_large"));
    let notices = says(|_| (0..2000).flat_map(|_| message(0, &result(0x78, 0))).collect());
    assert_eq!(outcome(bound(0), found(&[USER], 0), notices).await, Err("too_large"));
    let large = says(|id| (0..9).flat_map(|_| entry(id, &[b'x'; 60_000])).collect());
    assert_eq!(outcome(bound(0), large, bound(0)).await, Err("too_large"));
}

#[tokio::test]
async fn what_comes_ahead_of_its_question_is_no_answer() {
    // With the answer to the search comes one to a bind that nobody has asked for.
    let ahead = says(|id| [entry(id, USER), done(0)(id), message(id + 1, &result(0x65, 0))].concat());
    let again = vec![bound(0), found(&[], 0)];
    let (port, mut told) = directory(vec![vec![bound(0), ahead], vec![bound(0), bound(49)], again]).await;
    let directories = Directories::default();
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Accepted));
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Unknown));
    let asked = ["service", "search", "user", "service", "search", "nobody"];
    assert_eq!(drained(&mut told), asked, "that connection is not kept");
}

#[tokio::test]
async fn what_was_kept_and_is_closed_is_asked_for_again_once() {
    let ends: [fn(u8) -> Vec<u8>; 2] = [|_| Vec::new(), |_| disconnection()];
    for end in ends {
        let first = vec![bound(0), found(&[USER], 0), says(end)];
        let third = vec![bound(0), found(&[USER], 0)];
        let (port, mut told) = directory(vec![first, vec![bound(0), says(end)], third, vec![bound(49)]]).await;
        let directories = Directories::default();
        assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Accepted));
        drained(&mut told);
        assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Refused));
        assert_eq!(drained(&mut told), ["search", "service", "search", "user", "user"]);
    }
    // A new one that is closed too is the directory's failure.
    let closes = || vec![says(|_| Vec::new())];
    let searching = vec![bound(0), found(&[], 0), says(|_| Vec::new())];
    let (port, mut told) = directory(vec![searching, vec![bound(49)], closes(), closes()]).await;
    let directories = Directories::default();
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Unknown));
    assert_eq!(ask(&directories, &log_in(port)).await, Err("closed"));
    assert_eq!(drained(&mut told), ["service", "search", "nobody", "search", "service"]);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_nobodys() {
    // The search is never answered on the first connection; on the second everything is.
    let answering = vec![bound(0), found(&[], 0)];
    let (port, mut told) = directory(vec![vec![bound(0)], answering, vec![bound(49)]]).await;
    let directories = Directories::default();
    let short = log_in_with(port, Security::Plain, Duration::from_millis(50));
    assert_eq!(ask(&directories, &short).await, Err("timeout"));
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Unknown));
    assert_eq!(drained(&mut told), ["service", "search", "service", "search", "nobody"]);
}

fn trusting_nobody() -> Arc<ClientContext> {
    let settings = ClientSettings {
        trust: Trust::Nobody,
        certificate: None,
        alpn: Vec::new(),
        min: Version::Tls12,
        max: Version::Tls13,
        suites_12: None,
    };
    Arc::new(ClientContext::new("127.0.0.1", settings, 1).expect("a context"))
}

#[tokio::test]
async fn nothing_is_sent_in_the_clear_that_is_to_be_secured() {
    let answers: Vec<(Says, &str)> = vec![
        (says(|id| message(id, &result(0x78, 2))), "tls"),
        (says(|id| message(id, &result(0x78, 52))), "tls"),
        // A bind's answer that somebody has slipped in.
        (says(|id| [message(id, &result(0x78, 0)), message(id + 1, &result(0x61, 0))].concat()), "tls"),
        (says(|id| message(id + 1, &result(0x78, 0))), "malformed_answer"),
        (says(|id| message(id, &result(0x61, 0))), "malformed_answer"),
        (says(|_| Vec::new()), "closed"),
        (says(|_| disconnection()), "closed"),
    ];
    for (answer, reason) in answers {
        let (port, mut told) = directory(vec![vec![answer, bound(0), found(&[USER], 0)]]).await;
        let secured = log_in_with(port, Security::StartTls(trusting_nobody()), LONG);
        assert_eq!(ask(&Directories::default(), &secured).await, Err(reason));
        assert_eq!(drained(&mut told), ["start tls"]);
    }
    // Where there is no way to secure it, nobody is even called.
    let (port, mut told) = directory(vec![vec![bound(0), found(&[USER], 0)]]).await;
    let mut insecure = log_in(port);
    let directory = Arc::get_mut(&mut insecure.directory).expect("nobody else has it");
    directory.insecure = Some("no certificate can name this host".to_owned());
    assert_eq!(ask(&Directories::default(), &insecure).await, Err("tls"));
    assert_eq!(drained(&mut told), [""; 0]);
}

#[tokio::test]
async fn a_directory_that_fails_is_left_alone_and_users_do_not_make_it_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let away = log_in(listener.local_addr().expect("it is bound").port());
    drop(listener);
    let directories = Directories::default();
    for _ in 0..5 {
        assert_eq!(ask(&directories, &away).await, Err("connect_refused"));
    }
    assert_eq!(ask(&directories, &away).await, Err("circuit_open"));
    let searching = [bound(0)].into_iter().chain((0..20).map(|_| found(&[USER], 0))).collect();
    let (port, _told) = directory(vec![searching, (0..20).map(|_| bound(49)).collect()]).await;
    for _ in 0..20 {
        assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Refused));
    }
}

#[tokio::test]
async fn a_flood_waits_in_its_bounds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    let (tell, mut told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            tell.send(listener.accept().await.expect("a connection")).expect("the test listens");
        }
    });
    let (directories, mut asking) = (Arc::<Directories>::default(), JoinSet::new());
    for _ in 0..1000 {
        let directories = directories.clone();
        asking.spawn(async move { ask(&directories, &log_in(port)).await });
    }
    for _ in 0..1000 - 64 - 256 {
        assert_eq!(asking.join_next().await.expect("many").expect("no panic"), Err("full"));
    }
    let mut held = Vec::new();
    while held.len() < 64 {
        held.push(told.recv().await.expect("a connection"));
    }
    // Others have their turn when one of these is over.
    assert!(told.try_recv().is_err());
    held.pop();
    held.push(told.recv().await.expect("a connection"));
    assert!(told.try_recv().is_err());
    assert_eq!(asking.join_next().await.expect("it has failed").expect("no panic"), Err("closed"));
    assert_eq!(asking.len(), 64 + 256 - 1);
}

#[tokio::test]
async fn connections_that_nobody_needs_are_ended() {
    let (port, mut told) = directory(vec![vec![bound(0), found(&[USER], 0)], vec![bound(0)]]).await;
    let directories = Directories::default();
    assert_eq!(ask(&directories, &log_in(port)).await, Ok(Verdict::Accepted));
    tokio::time::pause();
    let mut asked = Vec::new();
    while asked.len() < 5 {
        asked.push(told.recv().await.expect("it is told"));
    }
    assert_eq!(asked, ["service", "search", "user", "unbind", "unbind"]);
}
