//! Client id enforcement: lets in the clients that have a contract with the API, who show an id and, as a rule, a secret.

use std::{cell::RefCell, fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, Need, Needs, Policy, Site, Turn,
    basic_authentication::sole_credentials,
    clients::{ClientSet, Clients, INVALID, MISSING, Refusals, Shown, UNKNOWN, default_client_id},
    wants::Published,
};
use crate::http::head::Fields;

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default, rename = "credentialsOriginHasHttpBasicAuthenticationHeader")]
    origin: Origin,
    #[serde(default = "default_client_id")]
    client_id_expression: String,
    /// Absent: secrets are not compared.
    client_secret_expression: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Origin {
    HttpBasicAuthenticationHeader,
    #[default]
    CustomExpression,
}

pub struct ClientIdEnforcement {
    credentials: Credentials,
    clients: Clients,
}

/// Where a request shows who it is from.
enum Credentials {
    Basic,
    Expressions(Box<Shown>),
}

/// Neither ids nor secrets.
impl fmt::Debug for ClientIdEnforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdEnforcement").field("clients", &self.clients).finish_non_exhaustive()
    }
}

/// And memory for Basic credentials.
pub struct State {
    clients: RefCell<Arc<ClientSet>>,
    refusals: Refusals,
    decoded: RefCell<Vec<u8>>,
}

impl Policy for ClientIdEnforcement {
    type Config = Config;
    type State = State;
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Compliance);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "credentialsOriginHasHttpBasicAuthenticationHeader",
            "Credentials origin",
            "Where id and secret stand: `customExpression`, or `httpBasicAuthenticationHeader` for \
             user name and password of `Authorization: Basic`.",
        )
        .default("customExpression"),
        Field::new("clientIdExpression", "Client id expression", "The client's id. Only with `customExpression`.")
            .default("#[attributes.headers['client_id']]")
            .expression()
            .when("credentialsOriginHasHttpBasicAuthenticationHeader", "customExpression"),
        Field::new(
            "clientSecretExpression",
            "Client secret expression",
            "The client's secret, often `#[attributes.headers['client_secret']]`. Left out, no secret is \
             compared, and `check` says so. Only with `customExpression`.",
        )
        .expression()
        .when("credentialsOriginHasHttpBasicAuthenticationHeader", "customExpression"),
    ];
    const ANSWERS: &'static [Answers] = &[MISSING, INVALID, UNKNOWN];

    fn remarks(config: &Config) -> Vec<Fault> {
        let unchecked = config.origin == Origin::CustomExpression && config.client_secret_expression.is_none();
        let text = "without `clientSecretExpression` no secret is checked: a client id alone lets a request pass";
        unchecked.then(|| Fault::at("", text)).into_iter().collect()
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let credentials = match config.origin {
            Origin::HttpBasicAuthenticationHeader => Some(Credentials::Basic),
            Origin::CustomExpression => {
                let secret = config.client_secret_expression.as_deref();
                let shown = Shown::compile(&config.client_id_expression, secret, &mut error);
                shown.map(|shown| Credentials::Expressions(Box::new(shown)))
            }
        };
        let Some(credentials) = credentials.filter(|_| error.faults.is_empty()) else { return Err(error) };
        let compares_secrets = match &credentials {
            Credentials::Basic => true,
            Credentials::Expressions(shown) => shown.shows_secret(),
        };
        Ok(Self { credentials, clients: Clients::of(site, compares_secrets, false, UNKNOWN.status) })
    }

    fn state(&self, _: &Core) -> State {
        let basic = matches!(self.credentials, Credentials::Basic);
        let challenge = if basic { "Basic realm=\"mule-realm\"" } else { "Client-ID-Enforcement" };
        State { clients: RefCell::default(), refusals: Refusals::new(challenge), decoded: RefCell::default() }
    }

    fn publish(&self, state: &State, published: &Published) {
        state.clients.replace(self.clients.published(published));
    }

    fn needs(&self) -> Needs {
        let request = match &self.credentials {
            Credentials::Basic => Need::None,
            Credentials::Expressions(shown) => shown.need(),
        };
        Needs { request, ..Needs::NONE }
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        let State { clients, refusals, decoded } = turn.state;
        let clients = &**clients.borrow();
        if clients.is_empty() {
            return Flow::Respond(refusals.unknown.clone());
        }
        let find =
            |id: &str, secret: Option<&str>| self.clients.find(clients, id, secret, &mut refusals.scratch.borrow_mut());
        let found = match &self.credentials {
            Credentials::Basic => {
                let decoded = &mut *decoded.borrow_mut();
                basic(exchange.request_fields(), decoded).map(|(id, secret)| find(id, Some(secret)))
            }
            Credentials::Expressions(shown) => shown.read(exchange, find),
        };
        match found {
            None => Flow::Respond(refusals.missing.clone()),
            Some(None) => Flow::Respond(refusals.invalid.clone()),
            Some(Some((id, client))) => {
                exchange.authenticate(|authentication| clients.authenticate(id, client, authentication));
                Flow::Continue
            }
        }
    }
}

/// Id and secret of `Authorization: Basic`.
fn basic<'d>(fields: &Fields, decoded: &'d mut Vec<u8>) -> Option<(&'d str, &'d str)> {
    decoded.clear();
    BASE64.decode_vec(sole_credentials(fields)?, decoded).ok()?;
    let (id, secret) = std::str::from_utf8(decoded).ok()?.split_once(':')?;
    (!id.is_empty()).then_some((id, secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::{
        contract::{Client as Party, ClientSecret, SecretHash},
        testing,
    };

    const BASIC: &str = "{credentialsOriginHasHttpBasicAuthenticationHeader: httpBasicAuthenticationHeader}";
    const BOTH: &str = "{clientSecretExpression: \"#[attributes.headers['client_secret']]\"}";

    fn parties() -> Vec<Party> {
        let party = |id: &str, secret: Option<&str>, name: Option<&str>| Party {
            id: id.into(),
            secret: secret.map(|secret| ClientSecret::Plain(secret.into())),
            name: name.map(str::to_owned),
        };
        let mut parties = vec![party("mobile", Some("a:b"), Some("Mobile")), party("open", None, None)];
        parties
            .push(Party { secret: Some(ClientSecret::Hash(SecretHash::of("hashed"))), ..party("batch", None, None) });
        // The empty secret is nobody's.
        parties.push(Party { secret: Some(ClientSecret::Hash(SecretHash::of(""))), ..party("hollow", None, None) });
        parties
    }

    fn compile(config: &str, parties: Vec<Party>) -> (ClientIdEnforcement, Vec<String>) {
        testing::compile_with(config, parties).expect("valid")
    }

    /// `expected` is the client's id and name, or the reason of the refusal.
    fn check(config: &str, sent: &[(&str, &str)], expected: Result<(&str, Option<&str>), &str>) {
        let (policy, _) = compile(config, parties());
        let mut trial = testing::Trial::new("GET", "/", sent);
        let state = policy.state(&Core::default());
        policy.publish(&state, &testing::published(parties().into_iter().map(testing::contract).collect()));
        let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut () }, exchange));
        let reason = testing::answer(flow).map_or(Ok(()), |answer| Err(answer.reason));
        let authentication = &trial.authentication;
        let client = authentication.client_id().map(|id| (id, authentication.client_name()));
        assert_eq!(reason.map(|()| client.expect("a client")), expected, "{sent:?}");
        assert_eq!(client.is_some(), expected.is_ok(), "{sent:?}");
    }

    #[test]
    fn who_has_a_contract_passes() {
        let mobile = Ok(("mobile", Some("Mobile")));
        check("{}", &[("client_id", "mobile")], mobile);
        check("{}", &[("Client_Id", "open")], Ok(("open", None)));
        check(BOTH, &[("client_id", "mobile"), ("client_secret", "a:b")], mobile);
        check(BOTH, &[("client_id", "batch"), ("client_secret", "hashed")], Ok(("batch", None)));
        let basic = |pair: &str| format!("bAsIc  {}", BASE64.encode(pair));
        check(BASIC, &[("authorization", &basic("mobile:a:b"))], mobile);
        check(BASIC, &[("authorization", &basic("batch:hashed"))], Ok(("batch", None)));
    }

    #[test]
    fn who_has_none_does_not() {
        let (missing, invalid) = (Err("client_id_missing"), Err("client_invalid"));
        check("{}", &[], missing);
        check("{}", &[("client_id", "")], missing);
        check("{}", &[("client_id", "Mobile")], invalid);
        check("{}", &[("client_id", "mobile"), ("client_id", "mobile")], invalid);
        check(BOTH, &[("client_secret", "a:b")], missing);
        for secret in ["a", "a:c", "a:b ", "A:B", "", "hashed"] {
            check(BOTH, &[("client_id", "mobile"), ("client_secret", secret)], invalid);
            check(BOTH, &[("client_id", "open"), ("client_secret", secret)], invalid);
            check(BOTH, &[("client_id", "nobody"), ("client_secret", secret)], invalid);
        }
        check(BOTH, &[("client_id", "mobile")], invalid);
        check(BOTH, &[("client_id", "hollow")], invalid);
        check("{clientIdExpression: \"#['a' ++ attributes.headers['x']]\"}", &[], missing);
        check("{clientIdExpression: '#[attributes.headers]'}", &[], missing);
    }

    #[test]
    fn basic_credentials_are_strict() {
        let (missing, invalid) = (Err("client_id_missing"), Err("client_invalid"));
        for value in ["Basic", "Basic mobile:a:b", "Bearer bW9iaWxlOmE6Yg==", "Basic bW9iaWxlOmE6Yg", "Basic bW9iaWxl"]
        {
            check(BASIC, &[("authorization", value)], missing);
        }
        let basic = |pair: &[u8]| format!("Basic {}", BASE64.encode(pair));
        check(BASIC, &[], missing);
        check(BASIC, &[("client_id", "mobile")], missing);
        check(BASIC, &[("authorization", &basic(b":a:b"))], missing);
        check(BASIC, &[("authorization", &basic(b"mobile:\xff"))], missing);
        check(BASIC, &[("authorization", &basic(b"mobile:a"))], invalid);
        check(BASIC, &[("authorization", &basic(b"mobile:"))], invalid);
        check(BASIC, &[("authorization", &basic(b"open:"))], invalid);
        let right = basic(b"mobile:a:b");
        check(BASIC, &[("authorization", &right), ("authorization", &right)], missing);
    }

    #[test]
    fn without_contracts_nobody_passes() {
        let (policy, remarks) = compile(BOTH, Vec::new());
        assert_eq!(remarks, ["config: this API has no contract: every request is refused with 503"]);
        let mut trial = testing::Trial::new("GET", "/", &[("client_id", ""), ("client_secret", "")]);
        let state = policy.state(&Core::default());
        let flow = trial.with(0, |exchange| policy.on_request(Turn { state: &state, kept: &mut () }, exchange));
        assert!(matches!(flow, Flow::Respond(answer) if (answer.status, answer.reason) == (503, "contracts_missing")));
    }

    #[test]
    fn what_will_surprise_is_said() {
        let twice = || [parties(), parties()].concat().into_iter().filter(|party| party.id == "open").collect();
        let several = "config: client `open` has several contracts with this API: the first counts";
        assert_eq!(
            compile(BASIC, twice()).1,
            ["config: the contract of client `open` has no secret: its requests are refused", several]
        );
        let unchecked =
            "config: without `clientSecretExpression` no secret is checked: a client id alone lets a request pass";
        assert_eq!(compile("{}", twice()).1, [unchecked, several]);
    }

    #[test]
    fn a_body_is_read_ahead_only_where_an_expression_reads_it() {
        let need = |config| testing::compile::<ClientIdEnforcement>(config).expect("valid").needs().request;
        assert_eq!(need("{clientSecretExpression: '#[attributes.headers.secret]'}"), Need::None);
        assert_eq!(need("{clientIdExpression: '#[payload.client_id]'}"), Need::Buffer);
        assert_eq!(need("{clientSecretExpression: '#[payload.client_secret]'}"), Need::Buffer);
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let faults = |config| testing::faults::<ClientIdEnforcement>(config);
        assert_eq!(
            faults("{clientIdExpression: mobile, clientSecretExpression: ''}"),
            [
                "config.clientIdExpression: must be an expression in `#[` and `]`",
                "config.clientSecretExpression: must be an expression in `#[` and `]`"
            ]
        );
        assert_eq!(
            faults("{credentialsOriginHasHttpBasicAuthenticationHeader: basic, clientSecretExpression: '#[1]'}").len(),
            1
        );
    }

    #[test]
    fn neither_ids_nor_secrets_are_shown() {
        assert_eq!(
            format!("{:?}", compile("{}", parties()).0),
            "ClientIdEnforcement { clients: Clients(default/api), .. }"
        );
    }
}
