//! An issuer's own word on where it is asked about tokens: RFC 8414, or else OpenID Connect Discovery.
//!
//! One document serves all policies of the replica. It is fetched by the first question that needs it and anew while it is still
//! good, so that questions wait for it only where there has never been one. After a failure the issuer is left alone for a while,
//! and what it has said before stays in use.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::refusal::Refusal;
use crate::{
    calls::{Answer, Call, Calls, Destination, Ways},
    document::address::WebAddress,
    expression::{Datum, Object},
    http::head::Fields,
    telemetry::fault,
};

const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// After which a document is fetched anew.
const FRESH: Duration = Duration::from_secs(48 * 60);
/// Between two fetches that an endpoint gives rise to which does not do its work.
const COOL_DOWN: Duration = Duration::from_secs(30);
/// After a failure, doubling.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Behind the name of a binding, in `--answer` of `explain`.
const ANSWER_OF: &str = "-discovery";

pub struct Issuer {
    /// Its identifier, without a slash at its end.
    name: String,
    /// RFC 8414, section 3.1, and OpenID Connect Discovery 1.0, section 4.
    documents: [Arc<Destination>; 2],
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    endpoint: Option<Arc<Destination>>,
    /// `None`: nobody has asked yet.
    due: Option<Instant>,
    came: Option<Instant>,
    /// In a row.
    failures: u32,
    /// Why there is no endpoint.
    refusal: Option<Refusal>,
    is_asking: bool,
    waiting: Vec<Then>,
}

/// What goes on with the endpoint. To drop it is to give it up.
type Then = Box<dyn FnOnce(Result<Arc<Destination>, Refusal>) + Send>;

/// On whose behalf the issuer is asked.
#[derive(Clone)]
pub struct Asking {
    pub calls: Arc<Calls>,
    pub policy: &'static str,
    pub binding: String,
    pub time_max: Duration,
}

impl Issuer {
    /// # Errors
    /// Why this is no issuer's identifier.
    pub fn new(text: &str, ways: &Arc<Ways>) -> Result<Self, String> {
        let address = WebAddress::parse(text)?;
        if address.target.contains('?') {
            return Err("an issuer has no query (RFC 8414, section 2)".to_owned());
        }
        let path = address.target.trim_end_matches('/').to_owned();
        let document = |target: String| Arc::new(Destination::new(WebAddress { target, ..address.clone() }, ways));
        Ok(Self {
            name: text.trim_end_matches('/').to_owned(),
            documents: [
                document(format!("/.well-known/oauth-authorization-server{path}")),
                document(format!("{path}/.well-known/openid-configuration")),
            ],
            standing: Mutex::default(),
        })
    }

    /// Its identifier, without a slash at its end.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> &WebAddress {
        &self.destination().address
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.documents[0]
    }

    /// Calls `then` exactly once, at once where the endpoint is known, or else when the issuer has answered.
    pub(super) fn with_endpoint(
        self: &Arc<Self>,
        asking: Asking,
        now: Instant,
        then: impl FnOnce(Result<Arc<Destination>, Refusal>) + Send + 'static,
    ) {
        let mut standing = self.standing();
        let is_due = standing.due.is_none_or(|due| due <= now);
        let begins = is_due && !standing.is_asking;
        standing.is_asking |= begins;
        let mut ready = None;
        match (&standing.endpoint, standing.is_asking) {
            (Some(endpoint), _) => ready = Some((then, Ok(endpoint.clone()))),
            (None, false) => ready = Some((then, Err(standing.refusal.unwrap_or(Refusal::Unreachable)))),
            (None, true) => standing.waiting.push(Box::new(then)),
        }
        drop(standing);
        if begins {
            self.ask(0, asking);
        }
        if let Some((then, ready)) = ready {
            then(ready);
        }
    }

    /// Its endpoint does not do its work: there may be another one by now.
    pub(super) fn suspect(&self) {
        let mut standing = self.standing();
        let soon = standing.came.map(|came| came + COOL_DOWN);
        standing.due = standing.due.min(soon).or(standing.due);
    }

    fn ask(self: &Arc<Self>, at: usize, asking: Asking) {
        let destination = self.documents[at].clone();
        let mut headers = Fields::default();
        headers.append(b"accept", b"application/json");
        let call = Call {
            policy: asking.policy,
            binding: format!("{}{ANSWER_OF}", asking.binding),
            method: "GET",
            target: destination.address.target.clone(),
            headers,
            body: Vec::new(),
            time_max: asking.time_max,
            answer_bytes_max: DOCUMENT_BYTES_MAX,
            idempotent: true,
            destination,
        };
        let issuer = self.clone();
        let calls = asking.calls.clone();
        calls.ask(call, move |answer| issuer.answered(at, asking, answer));
    }

    fn answered(self: &Arc<Self>, at: usize, asking: Asking, answer: Result<Answer, fault::Fault>) {
        let found = match answer {
            Err(fault) => Err(Refusal::of(&fault)),
            Ok(answer) => match self.endpoint(&answer) {
                Err(_) if at == 0 => return self.ask(1, asking),
                found => found.map_err(|why| {
                    tracing::warn!(issuer = self.name, "its metadata is not used: {why}");
                    Refusal::MalformedAnswer
                }),
            },
        };
        self.learn(found, Instant::now());
    }

    fn learn(&self, found: Result<Arc<Destination>, Refusal>, now: Instant) {
        let mut standing = self.standing();
        standing.is_asking = false;
        match found {
            Ok(endpoint) => {
                standing.endpoint = Some(endpoint);
                (standing.failures, standing.refusal, standing.came) = (0, None, Some(now));
                standing.due = Some(now + FRESH);
            }
            Err(refusal) => {
                let pause = PAUSE_MIN.saturating_mul(1 << standing.failures.min(16)).min(PAUSE_MAX);
                standing.failures = standing.failures.saturating_add(1);
                (standing.refusal, standing.due) = (Some(refusal), Some(now + pause));
            }
        }
        let outcome = standing.endpoint.clone().ok_or(standing.refusal.unwrap_or(Refusal::Unreachable));
        let waiting = std::mem::take(&mut standing.waiting);
        drop(standing);
        waiting.into_iter().for_each(|then| then(outcome.clone()));
    }

    /// What a document says; or why it does not count.
    fn endpoint(&self, answer: &Answer) -> Result<Arc<Destination>, String> {
        if answer.status != 200 {
            return Err(format!("status {}", answer.status));
        }
        let text = std::str::from_utf8(&answer.body).ok();
        let document: Object = match text.and_then(Datum::from_json_without_repetition) {
            Some(Datum::Object(document)) => document,
            _ => return Err("not an object of JSON, or a name is repeated in it".to_owned()),
        };
        // RFC 8414, section 3.3: whoever says it is another one is not asked.
        if document.text("issuer").map(|said| said.trim_end_matches('/')) != Some(&*self.name) {
            return Err("`issuer` in it is another one".to_owned());
        }
        let endpoint = document.text("introspection_endpoint").ok_or("it has no `introspection_endpoint`")?;
        let address = WebAddress::parse(endpoint).map_err(|why| format!("`introspection_endpoint`: {why}"))?;
        let own = self.destination();
        if own.address.secure && !address.secure {
            return Err("`introspection_endpoint` is not https, as the issuer is".to_owned());
        }
        Ok(Arc::new(own.named_by_it(address)))
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::Work;

    /// An issuer that never answers by itself, and what it was asked.
    struct Trying {
        issuer: Arc<Issuer>,
        asking: Asking,
        queue: crate::calls::Queue,
        asked: Vec<Work>,
        began: Instant,
    }

    impl Trying {
        fn new() -> Self {
            let (calls, queue) = Calls::new();
            let asking = Asking { calls, policy: "p", binding: "b".into(), time_max: Duration::from_secs(1) };
            let issuer = Arc::new(Issuer::new("https://login.test/realm", &Arc::default()).expect("an issuer"));
            Self { issuer, asking, queue, asked: Vec::new(), began: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.began + Duration::from_secs(seconds)
        }

        /// What somebody is told who needs the endpoint then, and whether the issuer is asked.
        fn need(&mut self, seconds: u64) -> (Arc<Mutex<String>>, bool) {
            let told = Arc::new(Mutex::new("waits".to_owned()));
            let tell = told.clone();
            self.issuer.with_endpoint(self.asking.clone(), self.at(seconds), move |endpoint| {
                *tell.lock().unwrap() =
                    endpoint.map_or_else(|refusal| format!("{refusal:?}"), |found| found.address.target.clone());
            });
            let before = self.asked.len();
            while let Ok(work) = self.queue.try_recv() {
                self.asked.push(work);
            }
            (told, self.asked.len() > before)
        }

        fn check(&mut self, seconds: u64, expected: &str, asks: bool) {
            let (told, asked) = self.need(seconds);
            assert_eq!((&**told.lock().unwrap(), asked), (expected, asks), "after {seconds} s");
        }

        fn finds(&self, seconds: u64, target: &str) {
            let address = WebAddress::parse(&format!("https://login.test{target}")).expect("an address");
            self.issuer.learn(Ok(Arc::new(self.issuer.destination().named_by_it(address))), self.at(seconds));
        }

        fn fails(&self, seconds: u64) {
            self.issuer.learn(Err(Refusal::Unreachable), self.at(seconds));
        }
    }

    #[test]
    fn an_issuer_is_asked_once_for_all_who_wait_and_anew_while_its_word_holds() {
        let mut trying = Trying::new();
        let (first, asked) = trying.need(0);
        let (second, asked_again) = trying.need(0);
        assert_eq!((asked, asked_again), (true, false));
        trying.finds(1, "/1");
        assert_eq!((&**first.lock().unwrap(), &**second.lock().unwrap()), ("/1", "/1"));
        trying.check(2800, "/1", false);
        trying.check(2900, "/1", true);
        trying.check(2900, "/1", false);
        trying.finds(2901, "/2");
        trying.check(2902, "/2", false);
        // An endpoint that fails has its issuer asked again, and not more often than the cool-down says.
        trying.issuer.suspect();
        trying.check(2930, "/2", false);
        trying.check(2931, "/2", true);
        trying.finds(2931, "/3");
        trying.issuer.suspect();
        trying.issuer.suspect();
        trying.check(2960, "/3", false);
    }

    #[test]
    fn while_an_issuer_is_away_it_is_left_alone_and_its_word_holds() {
        let mut trying = Trying::new();
        let (waiting, _) = trying.need(0);
        trying.fails(0);
        assert_eq!(&**waiting.lock().unwrap(), "Unreachable");
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            trying.check(now, "Unreachable", false);
            now += pause;
            trying.check(now, "waits", true);
            trying.fails(now);
        }
        trying.check(now + 60, "waits", true);
        trying.finds(now, "/1");
        trying.check(now + 3000, "/1", true);
        trying.fails(now + 3000);
        trying.check(now + 3000, "/1", false);
        trying.check(now + 3001, "/1", true);
    }
}
