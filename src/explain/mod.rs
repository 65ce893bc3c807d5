//! What would become of a request that nobody sends, and why.
//!
//! The steps are the proxy's own: the parser of heads, `proxy::decide` and what writes the head that an upstream sees. Here
//! stands only who watches them and how that is told. Random choices are made from one fixed seed, so that the same question
//! has the same answer.

mod body;
pub mod page;
mod question;
pub mod report;
mod secrets;
pub mod text;
pub mod time;
mod watch;

use std::{
    cell::Cell,
    fmt,
    rc::Rc,
    sync::{Arc, PoisonError},
};

pub use question::Question;
pub use secrets::Secrets;

use self::{
    body::{Passing, Stop},
    report::{Answer, Explanation, Line, ListenerFound, Outcome, Place, Request, Sent, ServiceFound},
    secrets::{Credentials, hide_tokens},
    watch::{Asks, Watch},
};
use crate::{
    calls::{self, Calls, Verdict},
    config::snapshot::{Listener, Service, Snapshot},
    document::address::Endpoint,
    http::{
        authority::host,
        h1::parse::{HeadLimits, parse_request},
        head::{BodyLength, Fields, RequestHead},
        target::Scheme,
    },
    net::signal::Signals,
    policies::{
        self, LocalResponse, Peer, Reply,
        chain::Next,
        wants::{Published, PublishedKeySet, Want},
    },
    proxy::{
        core::Serving,
        decide::{Asked, Decision},
        handshake::Certificates,
        headers, reject,
        workspace::Workspace,
    },
    telemetry::fault::Fault,
};

/// Where a client's port would be.
const CLIENT_PORT: u16 = 40_000;

/// The question's answer. `Err`: it is not one that could be sent.
pub fn explain(snapshot: Arc<Snapshot>, question: &Question, secrets: Secrets) -> Result<Explanation, String> {
    let mut credentials = Credentials::default();
    let mut told = decided(snapshot, question, secrets, &mut credentials)?;
    if secrets == Secrets::Hidden {
        told.hide_injected();
        told.each_text(&mut |text| {
            credentials.hide(text);
            hide_tokens(text);
        });
    }
    Ok(told)
}

/// With what is known to be secret by its name hidden, and what that is.
fn decided(
    snapshot: Arc<Snapshot>,
    question: &Question,
    secrets: Secrets,
    credentials: &mut Credentials,
) -> Result<Explanation, String> {
    let mut told = Explanation::new(question, secrets);
    let Some((index, listener)) = find_listener(&snapshot, question) else {
        told.outcome = Outcome::unreachable(format!("nothing listens on port {}", question.port));
        return Ok(told);
    };
    told.listener = Some(ListenerFound {
        address: listener.address.to_string(),
        scheme: if listener.tls.is_some() { "https" } else { "http" },
    });
    match (question.scheme, &listener.tls) {
        (Scheme::Https, None) => {
            told.outcome = Outcome::unreachable("the port speaks http, not https".to_owned());
            return Ok(told);
        }
        (Scheme::Http, Some(_)) => {
            told.outcome = answered(&reject::plain_on_tls(), "the listener", secrets);
            return Ok(told);
        }
        _ => {}
    }

    let mut workspace = Workspace::default();
    workspace.client = question.client.to_canonical().to_string();
    let limits = &snapshot.settings.limits;
    let limits = HeadLimits { head_bytes: limits.head_bytes, header_count: limits.header_count };
    let head = question.head();
    match parse_request(&head, &mut 0, &limits, question.scheme, &mut workspace.request) {
        Ok(Some(taken)) if taken == head.len() => {}
        Ok(_) => return Err("the request's head ends before its last line".to_owned()),
        Err(error) => {
            told.outcome = answered(&reject::bad_request(&error), &format!("the parser: {error}"), secrets);
            return Ok(told);
        }
    }
    told.request = Request::of(&workspace.request, question, secrets);
    let sent = lines(&workspace.request.fields);
    credentials.learn_query(&workspace.request.query);
    credentials.learn(sent.iter().filter(|(name, _)| Secrets::Hidden.hides_name(name)));

    let random = Cell::new(1_u64);
    let random = || {
        random.set(random.get().wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f));
        random.get()
    };
    let asks = Asks::default();
    let calls = Some(calls(question.answers.clone(), asks.clone()));
    let core = policies::Core { calls, signals: Signals::apart(), ..policies::Core::default() };
    let serving = Serving::apart(snapshot.clone(), &core, &published(&snapshot, question));
    let asked = Asked {
        may_go_on_alone: false,
        peer: Peer {
            address: (question.client, CLIENT_PORT).into(),
            local: listener.address,
            scheme: question.scheme.name(),
            certificate: None,
        },
        listener: index,
        certificates: listener.tls.as_ref().map(|context| Certificates {
            table: &context.table,
            shown: context.table.shown_to(question.server_name()),
        }),
        now: question.at,
    };
    let mut watch = Watch::new(&snapshot, secrets, credentials, core.messages, asks);
    let most = snapshot.settings.limits.buffered_body_bytes;
    let mut body = Passing::new(question.body.as_deref(), workspace.request.content_length, most);
    let decided = decide(&asked, &mut workspace, &serving, random, &mut body, &mut watch, &question.answers);
    for (is_inbound, turns) in [(true, &workspace.api_turns), (false, &workspace.service_turns)] {
        turns.scans_refused().for_each(|(index, _, answer)| watch.refuses_as_it_passes(is_inbound, index, &answer));
    }
    watch.finish(&workspace.request, &mut told);
    let service = watch.service.map(|index| &*snapshot.services[index]);
    told.service = service.map(found);
    match (decided, service) {
        (Ok(()), Some(service)) => {
            told.outcome = Outcome::Upstream;
            told.upstream = Some(upstream(&workspace, service, &sent, secrets));
        }
        (Err(answer), _) => told.outcome = answered(&answer, &watch.answers(), secrets),
        (Ok(()), None) => unreachable!("what was decided has its Service"),
    }
    Ok(told)
}

/// All steps; what policies wait for is taken for granted, since nobody waits here.
fn decide(
    asked: &Asked<'_>,
    workspace: &mut Workspace,
    serving: &Serving,
    random: impl Fn() -> u64 + Copy,
    body: &mut Passing<'_>,
    watch: &mut Watch<'_>,
    answers: &[(String, Vec<u8>)],
) -> Result<(), Rc<LocalResponse>> {
    let mut decision = Decision::begin(asked, workspace, serving, random, watch)?;
    let mut reply = None;
    loop {
        reply = match decision.go_on(asked, workspace, serving, random, reply, watch) {
            Next::Done | Next::AskAgain(_) => {
                body.pass_rest(workspace, &mut |hear| watch.heard(hear, answers))?;
                if body.is_changed() {
                    (workspace.request.body, workspace.request.content_length) = (BodyLength::Chunked, None);
                }
                let instead = &workspace.bodies.request;
                if instead.is_replaced() {
                    headers::frame_replaced(&mut workspace.request, instead.len(), false);
                }
                return Ok(());
            }
            Next::Respond(answer) => return Err(answer),
            Next::Wait(question) => Some(match *question {
                policies::Question::Time(_) | policies::Question::Signal { .. } => Reply::Time,
                policies::Question::Call(call) => Reply::Called(Box::new(watch.told(&call, answers))),
                policies::Question::Hear(hear) => Reply::Heard(watch.heard(&hear, answers)),
                policies::Question::Body(_) => Reply::Read,
            }),
            Next::Body(wanted) => {
                let length = workspace.request.content_length;
                let read = body.read_ahead(wanted, length, workspace, &mut |hear| watch.heard(hear, answers));
                match read {
                    Ok(()) => watch.reads_body(body.is_given()),
                    Err(Stop::TooLarge(answer)) => {
                        watch.refuses_body(&answer);
                        return Err(answer.into());
                    }
                    Err(Stop::Refused(answer)) => {
                        watch.misses_turn();
                        return Err(answer);
                    }
                }
                None
            }
        };
    }
}

/// Calls that nobody makes: what they would ask is written down, and the question may bring their answers along.
fn calls(answers: Arc<Vec<(String, Vec<u8>)>>, asked: Asks) -> Arc<Calls> {
    let brought = move |asks: &dyn fmt::Display, binding: &str, policy: &str| -> Result<Vec<u8>, Fault> {
        let known = answers.iter().find(|(name, _)| *name == binding || *name == policy);
        let brought = if known.is_some() { "" } else { watch::GIVES_AN_ANSWER };
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("would ask {asks}{brought}"));
        let (_, body) = known.ok_or_else(watch::not_asked)?;
        Ok(body.clone())
    };
    let of_directories = brought.clone();
    Calls::told_with(
        move |call| {
            let body = brought(call, &call.binding, call.policy)?;
            Ok(calls::Answer { status: 200, headers: Fields::default(), body })
        },
        move |log_in| {
            let body = of_directories(log_in, &log_in.binding, log_in.policy)?;
            let said = String::from_utf8_lossy(&body);
            Verdict::of_outcome(said.trim()).ok_or_else(|| Fault::new("malformed_answer", "no verdict of a directory"))
        },
    )
}

/// What would have been fetched: nothing is, and the question may bring it along.
fn published(snapshot: &Snapshot, question: &Question) -> Published {
    if let Some(published) = &question.published {
        return published.still();
    }
    let key_set = |Want::KeySet(want): &Want| {
        let set = PublishedKeySet { set: question.key_set.clone(), ..PublishedKeySet::new(|| {}) };
        (want.address().clone(), set)
    };
    Published { key_sets: snapshot.wants.iter().map(key_set).collect(), contracts: snapshot.contracts.clone() }
}

/// The listener of a port: the one of that address first, then one of all addresses.
fn find_listener<'s>(snapshot: &'s Snapshot, question: &Question) -> Option<(usize, &'s Listener)> {
    let of_port = || snapshot.listeners.iter().enumerate().filter(|(_, one)| one.address.port() == question.port);
    let named = host(question.authority.as_bytes()).parse().ok();
    of_port()
        .find(|(_, one)| Some(one.address.ip()) == named)
        .or_else(|| of_port().find(|(_, one)| one.address.ip().is_unspecified()))
        .or_else(|| of_port().next())
}

fn answered(answer: &LocalResponse, by: &str, secrets: Secrets) -> Outcome {
    let of_policy = answer.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let content_type = answer.content_type.map(|value| (&b"content-type"[..], value.as_bytes()));
    Outcome::Answered(Answer {
        status: answer.status,
        reason: answer.reason,
        by: by.to_owned(),
        headers: content_type.into_iter().chain(of_policy).map(|(name, value)| secrets.line(name, value)).collect(),
        body: String::from_utf8_lossy(&answer.body).into_owned(),
    })
}

fn found(service: &Service) -> ServiceFound {
    let is_carried = |at: usize| service.carried.as_ref().is_some_and(|carried| carried.endpoints[at]);
    let place = |(at, endpoint): (usize, &Endpoint)| match is_carried(at) {
        false => format!("{}:{}", endpoint.host, endpoint.port),
        true => format!("{}:{} through the forward proxy", endpoint.host, endpoint.port),
    };
    ServiceFound {
        name: service.name.clone(),
        namespace: service.namespace.clone(),
        at: Place::of(&service.location),
        endpoints: service.endpoints.iter().enumerate().map(place).collect(),
    }
}

/// The request as the upstream sees it, from the very bytes.
fn upstream(workspace: &Workspace, service: &Service, sent: &[(Vec<u8>, Vec<u8>)], secrets: Secrets) -> Sent {
    let (request, line) = (&workspace.request, workspace.line());
    let asked = headers::upstream_request(request, &line, service);
    let seen = match service.multiplexes {
        true => {
            let mut fields = Fields::default();
            headers::fill_upstream_fields(&mut fields, request);
            lines(&fields)
        }
        false => {
            let mut head = Vec::new();
            // What a forward proxy is told besides is none of the upstream's.
            headers::write_upstream_head(&mut head, request, &line, service, || false);
            written_lines(&head)
        }
    };
    let without_host = |lines: &[(Vec<u8>, Vec<u8>)]| -> Vec<(Vec<u8>, Vec<u8>)> {
        lines.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"host")).cloned().collect()
    };
    let (sent, seen) = (without_host(sent), without_host(&seen));
    Sent {
        scheme: if service.is_secure() { "https" } else { "http" },
        protocol: match (service.multiplexes, service.is_secure()) {
            (true, _) => "HTTP/2",
            (false, true) => "HTTP/2 or HTTP/1.1",
            (false, false) => "HTTP/1.1",
        },
        method: secrets.text(line.method),
        host: secrets.text(asked.authority),
        path: secrets.text(line.path),
        query: secrets.query(line.query),
        headers: seen.iter().map(|(name, value)| secrets.line(name, value)).collect(),
        changes: report::changes(&sent, &seen, secrets),
    }
}

fn lines(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()
}

/// Of a head that we wrote: one line each, `name: value`.
fn written_lines(head: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = head.split(|&byte| byte == b'\n').skip(1).map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let parted = lines.filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        Some((line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec()))
    });
    parted.collect()
}

impl Request {
    fn of(head: &RequestHead, question: &Question, secrets: Secrets) -> Self {
        Self {
            method: secrets.text(&head.method),
            scheme: question.scheme.name(),
            authority: secrets.text(&head.authority),
            path: secrets.text(&head.path),
            query: secrets.query(&head.query),
            headers: head.fields.iter().map(|field| -> Line { secrets.line(field.name, field.value) }).collect(),
            client: question.client.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Loaded, environment::Environment},
        telemetry::series::SeriesId,
    };

    const WAITING: &str = "
apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {name: a}
spec:
  address: http://127.0.0.1:8081
  policies: [{policyRef: {name: header-injection-flex}, config: {inboundHeaders: [{key: x-a, value: a}]}}]
  services:
    s:
      address: http://127.0.0.1:8080
      policies:
        - {policyRef: {name: test-waits}, config: {name: x-w, request: 2}}
        - {policyRef: {name: test-waits}, config: {name: x-v, request: 1, answers: ANSWERS}}
";

    /// What is said of the Service's policies, and in the end.
    fn waiting(answers: &str) -> (Vec<String>, String) {
        let text = WAITING.replace("ANSWERS", answers);
        let loaded = Loaded::from_texts(&[("a.yaml", &text)], Environment::default());
        let snapshot = loaded.compile(1, &mut |_| SeriesId::default()).accept(false).expect("nothing is wrong with it");
        let client = std::net::IpAddr::from([127, 0, 0, 1]);
        let question = Question::new("GET", "http://127.0.0.1:8081/", None, &[], None, client).expect("a request");
        let told = explain(Arc::new(snapshot), &question, Secrets::Hidden).expect("it could be sent");
        let seen =
            told.upstream.map(|sent| sent.headers.into_iter().map(|line| line.name).collect::<Vec<_>>().join(" "));
        let end = match (told.outcome, seen) {
            (Outcome::Answered(answer), None) => format!("{} by {}", answer.status, answer.by),
            (_, seen) => seen.expect("it goes to the upstream"),
        };
        (told.outbound_policies.into_iter().map(|turn| turn.why).collect(), end)
    }

    #[test]
    fn what_is_waited_for_is_told_and_taken_for_granted() {
        let (why, end) = waiting("false");
        let all = "no rules: every request; would wait 1s";
        assert_eq!(why, [format!("{all}; would wait 2s"), all.to_owned()]);
        assert!(end.ends_with("x-a x-w x-v"), "{end}");
        let (why, end) = waiting("true");
        assert_eq!(why[1], format!("{all}; answers 418 waited"));
        assert!(end.starts_with("418 by policy ") && end.contains("test-waits"), "{end}");
    }
}
