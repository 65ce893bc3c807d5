//! Expressions in policies: what they read of an exchange, and how a field that holds one is compiled.

use std::borrow::Cow;

use super::{ConfigError, Exchange, Fault};
use crate::{
    expression::{Bindings, Context, Template, Value, join},
    http::head::{Fields, Version},
};

/// The field `field` as an expression or as literal text; what is wrong with it goes to `error`. An expression that reads the
/// payload is refused: nobody holds the body yet.
pub fn template(field: &str, text: &str, bindings: &Bindings, error: &mut ConfigError) -> Option<Template> {
    match Template::compile(text, bindings) {
        Ok(Template::Expression(expression)) if expression.needs().payload => {
            error.add(Fault::not_implemented(field, "expressions that read the payload"));
            None
        }
        Ok(template) => Some(template),
        Err(fault) => {
            error.add(Fault::at(field, fault.to_string()));
            None
        }
    }
}

/// What `check` says of a field whose expression compiles.
pub fn remarks(field: &str, text: &str, bindings: &Bindings) -> Vec<Fault> {
    let template = Template::compile(text, bindings);
    let remarks = template.as_ref().map(Template::remarks).unwrap_or_default();
    remarks.iter().map(|remark| Fault::at(field, format!("{}, at byte {}", remark.text, remark.position + 1))).collect()
}

/// An exchange as expressions read it: `attributes` of its request, or of its response.
pub struct Reading<'e, 'x> {
    exchange: &'e Exchange<'x>,
    of_response: bool,
    variables: &'e dyn Fn(&str) -> Value<'e>,
}

impl<'e, 'x> Reading<'e, 'x> {
    pub fn request(exchange: &'e Exchange<'x>) -> Self {
        Self { exchange, of_response: false, variables: &|_| Value::Null }
    }

    pub fn response(exchange: &'e Exchange<'x>) -> Self {
        Self { of_response: true, ..Self::request(exchange) }
    }

    /// What stands behind `vars`.
    pub fn with_variables(self, variables: &'e dyn Fn(&str) -> Value<'e>) -> Self {
        Self { variables, ..self }
    }

    fn fields(&self) -> &'e Fields {
        match self.of_response {
            true => self.exchange.response_fields(),
            false => self.exchange.request_fields(),
        }
    }
}

impl Context for Reading<'_, '_> {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        join(self.fields().values(name.as_bytes())).or_else(|| {
            // HTTP/2 says the host in another place.
            (!self.of_response && name.eq_ignore_ascii_case("host")).then(|| text(self.exchange.authority()))
        })
    }

    fn headers<'a>(&'a self, visit: &mut dyn FnMut(Cow<'a, str>, Cow<'a, str>)) {
        let fields = self.fields();
        for (at, field) in fields.iter().enumerate() {
            let is_first = !fields.iter().take(at).any(|before| before.name.eq_ignore_ascii_case(field.name));
            if is_first && let Some(value) = join(fields.values(field.name)) {
                visit(Cow::Owned(text(field.name).to_ascii_lowercase()), value);
            }
        }
    }

    fn method(&self) -> Option<Cow<'_, str>> {
        Some(text(self.exchange.method()))
    }

    fn query_string(&self) -> Option<&str> {
        std::str::from_utf8(self.exchange.query()).ok().map(|query| query.strip_prefix('?').unwrap_or(query))
    }

    fn request_path(&self) -> Option<Cow<'_, str>> {
        Some(text(self.exchange.path()))
    }

    fn request_uri(&self) -> Option<Cow<'_, str>> {
        let (path, query) = (self.exchange.path(), self.exchange.query());
        Some(if query.is_empty() { text(path) } else { Cow::Owned(text(path).into_owned() + &text(query)) })
    }

    fn remote_address(&self) -> Option<Cow<'_, str>> {
        Some(self.exchange.peer.address.to_string().into())
    }

    fn local_address(&self) -> Option<Cow<'_, str>> {
        Some(self.exchange.peer.local.to_string().into())
    }

    fn scheme(&self) -> Option<Cow<'_, str>> {
        Some(self.exchange.peer.scheme.into())
    }

    fn version(&self) -> Option<Cow<'_, str>> {
        let version = match self.exchange.version() {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        };
        Some(version.into())
    }

    fn status_code(&self) -> Option<u16> {
        self.of_response.then(|| self.exchange.status())
    }

    fn client_id(&self) -> Option<&str> {
        self.exchange.authentication().client_id()
    }

    fn client_name(&self) -> Option<&str> {
        self.exchange.authentication().client_name()
    }

    fn principal(&self) -> Option<&str> {
        self.exchange.authentication().principal()
    }

    fn properties(&self) -> Value<'_> {
        self.exchange.authentication().properties().map_or(Value::Null, Value::from)
    }

    fn variable(&self, name: &str) -> Value<'_> {
        (self.variables)(name)
    }

    fn random(&self) -> u128 {
        self.exchange.random()
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
