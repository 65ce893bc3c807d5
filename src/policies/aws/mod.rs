//! What policies need that speak with AWS: who the gateway is, and how it signs.

pub mod credentials;
mod profiles;
pub mod signing;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Instant};

use self::{
    credentials::{Container, Held, NoCredentials, Provider},
    signing::{Algorithm, Credentials, NotSigned, Request, Service, SigningKey, Stamp, authorization},
};
use super::{
    Core, Exchange, Question,
    asking::{Found, find},
    headers::{HeaderName, is_gateways},
};
use crate::{
    calls::{Calls, Stands, Waits},
    net::signal::Signals,
};

const SECURITY_TOKEN: &[u8] = b"x-amz-security-token";
const REGION_SET: &[u8] = b"x-amz-region-set";
pub const CONTENT_SHA256: &[u8] = b"x-amz-content-sha256";
const DATE: &[u8] = b"x-amz-date";
const AUTHORIZATION: &[u8] = b"authorization";

/// Signs requests of one policy.
#[derive(Debug)]
pub struct Signer {
    pub provider: Provider,
    pub service: Service,
}

/// One core's own.
pub struct State {
    signals: Signals,
    calls: Option<Arc<Calls>>,
    last: RefCell<Option<Last>>,
}

/// The key that was made last.
struct Last {
    known: Arc<Credentials>,
    date: String,
    key: Rc<SigningKey>,
}

impl State {
    pub fn new(core: &Core) -> Self {
        Self { signals: core.signals.clone(), calls: core.calls.clone(), last: RefCell::default() }
    }
}

/// Whom a request is signed by.
pub enum Who {
    Known(Arc<Credentials>),
    /// They come: the exchange waits.
    Waits(Waits<Held>, Box<Question>),
    None,
}

impl Signer {
    pub fn who(&self, state: &State) -> Who {
        let container = match &self.provider {
            Provider::Known(known) => return Who::Known(known.clone()),
            Provider::Container(container) => container,
        };
        let Some(calls) = &state.calls else { return Who::None };
        let look = |bell: &mut dyn FnMut() -> _| container.held.look(Instant::now(), bell);
        match find(look, &state.signals, Container::WAIT_MAX, |lead| container.ask(lead, calls, true)) {
            Found::Known(held) => {
                container.renew(&held, calls, Instant::now());
                told(Stands::Here(held))
            }
            Found::Told(stands) => told(stands),
            Found::Waits(waits, question) => Who::Waits(waits, question),
        }
    }

    /// Signs what goes upstream: `payload` is the hash of its body. `signs` says which of the request's own headers count.
    ///
    /// # Errors
    /// There is no signature.
    pub fn sign(
        &self,
        state: &State,
        known: &Arc<Credentials>,
        exchange: &mut Exchange<'_>,
        payload: &str,
        signs: impl Fn(&[u8]) -> bool,
    ) -> Result<(), NotSigned> {
        let stamp = Stamp::of(exchange.now());
        let region = (self.service.algorithm == Algorithm::SigV4A).then_some(&*self.service.region);
        let own = [
            (AUTHORIZATION, None),
            (SECURITY_TOKEN, known.session_token.as_deref()),
            (REGION_SET, region),
            (CONTENT_SHA256, Some(payload)),
            (DATE, Some(stamp.time())),
        ];
        let mut headers = exchange.request_headers();
        headers.remove_if(|name| own.iter().any(|(own, _)| name.eq_ignore_ascii_case(own)));
        for (name, value) in own.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            headers.append(&header(name), value.as_bytes()).map_err(|_| NotSigned)?;
        }
        let key = self.key(state, known, &stamp)?;
        let value = {
            let (method, path, query) = exchange.upstream_line().ok_or(NotSigned)?;
            let fields = exchange.request_fields().iter();
            let signed = fields.filter(|field| {
                let is_own = own.iter().any(|(own, _)| field.name.eq_ignore_ascii_case(own));
                is_own || (!is_gateways(field.name) && signs(field.name))
            });
            let signed = signed.map(|field| (field.name.to_ascii_lowercase(), field.value));
            let host = (b"host".to_vec(), exchange.upstream_authority());
            let headers = std::iter::once(host).chain(signed).collect();
            let request = Request { method, path, query, headers, payload };
            authorization(&request, &self.service, known, &key, &stamp)?
        };
        exchange.request_headers().append(&header(AUTHORIZATION), value.as_bytes()).map_err(|_| NotSigned)
    }

    /// Made anew each day, and for other credentials.
    fn key(&self, state: &State, known: &Arc<Credentials>, stamp: &Stamp) -> Result<Rc<SigningKey>, NotSigned> {
        let mut last = state.last.borrow_mut();
        let is_it = |last: &&Last| Arc::ptr_eq(&last.known, known) && last.date == stamp.date();
        if let Some(last) = last.as_ref().filter(is_it) {
            return Ok(last.key.clone());
        }
        let key = Rc::new(SigningKey::new(known, &self.service, stamp)?);
        *last = Some(Last { known: known.clone(), date: stamp.date().to_owned(), key: key.clone() });
        Ok(key)
    }
}

/// What has come of waiting.
pub fn told(stands: Stands<Held>) -> Who {
    match stands {
        Stands::Here(Held::Good { value, .. }) => Who::Known(value),
        Stands::Here(Held::None(NoCredentials)) | Stands::Coming | Stands::Lost => Who::None,
    }
}

fn header(name: &[u8]) -> HeaderName {
    let name = str::from_utf8(name).expect("our own names are text");
    HeaderName::new(name).expect("a header that policies may write")
}
