//! OAuth 2 token introspection: a request passes whose token the authorization server at `introspectionURL` knows as a good one.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, Policy, Reply, Site, Turn,
    introspection::{
        self, AuthorizationServer, Criterion, Introspection, Kept, Lifetime, Place, Ringway, Scopes, Settings, State,
    },
    wants::Published,
};
use crate::{document::address::WebAddress, http::bytes::is_field_value};

const NAME: &str = "oauth2-token-introspection-flex";

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(rename = "introspectionURL")]
    introspection_url: String,
    authorization_value: String,
    #[serde(default = "default_time_to_live", rename = "validatedTokenTTL")]
    validated_token_ttl: u32,
    #[serde(default = "default_timeout")]
    authentication_timeout: u32,
    #[serde(default)]
    skip_client_id_validation: bool,
    #[serde(default)]
    consumer_by: Consumer,
    #[serde(default)]
    expose_headers: bool,
    #[serde(default)]
    scopes: String,
    #[serde(default)]
    scope_validation_criteria: Criterion,
    #[serde(default = "default_entries")]
    max_cache_entries: u32,
    #[serde(default)]
    ringway: Ringway,
}

#[derive(Deserialize, Default, Clone, Copy)]
enum Consumer {
    #[default]
    #[serde(rename = "client_id")]
    ClientId,
    #[serde(rename = "username")]
    Username,
}

fn default_time_to_live() -> u32 {
    600
}

fn default_timeout() -> u32 {
    10_000
}

fn default_entries() -> u32 {
    1000
}

#[derive(Debug)]
pub struct Oauth2TokenIntrospection(Introspection);

impl Policy for Oauth2TokenIntrospection {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Security);
    const ANSWERS: &'static [Answers] = introspection::ANSWERS;
    const FIELDS: &'static [Field] = &[
        Field::new("introspectionURL", "Introspection endpoint", "The URL that is asked about tokens; better https."),
        Field::new("authorizationValue", "Authorization", "What the gateway says to it in `Authorization`.")
            .sensitive(),
        Field::new(
            "validatedTokenTTL",
            "Caching time",
            "How long a good token is known; never longer than its `exp`. 0: it is asked about each time.",
        )
        .default("600")
        .unit("seconds"),
        Field::new("authenticationTimeout", "Time limit", "Of one question.")
            .default("10000")
            .unit("milliseconds")
            .at_least(1),
        Field::new(
            "skipClientIdValidation",
            "Skip the check of the client",
            "With `false` the token's client must have a Contract with this API.",
        )
        .default("false"),
        Field::new("consumerBy", "Client by", "The field of the answer that a Contract's client id is compared with.")
            .default("client_id"),
        Field::new(
            "exposeHeaders",
            "Expose headers",
            "Each field of the answer goes upstream as `X-AGW-<field>`, but for `scope`, `exp`, lists and objects.",
        )
        .default("false"),
        Field::new("scopes", "Scopes", "What a token must be good for, with spaces between them."),
        Field::new("scopeValidationCriteria", "Scope criterion", "Whether all scopes are needed or one of them.")
            .default("AND"),
        Field::new("maxCacheEntries", "Cache entries", "Good tokens that are known at most; 0: none.").default("1000"),
        introspection::RESOURCE,
        introspection::AUTHORIZATION_SERVERS,
        introspection::SCOPES_SUPPORTED,
        introspection::RESOURCE_NAME,
        introspection::RESOURCE_DOCUMENTATION,
    ];
    const OTHER_NAMES: &'static [(&'static str, &'static str)] = &[
        ("introspection_url", "introspectionURL"),
        ("authorization_value", "authorizationValue"),
        ("validated_token_ttl", "validatedTokenTTL"),
        ("authentication_timeout", "authenticationTimeout"),
        ("skip_client_id_validation", "skipClientIdValidation"),
        ("consumer_by", "consumerBy"),
        ("expose_headers", "exposeHeaders"),
        ("scope_validation_criteria", "scopeValidationCriteria"),
        ("max_cache_entries", "maxCacheEntries"),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let address = WebAddress::parse(&config.introspection_url).ok();
        let open = address.filter(WebAddress::is_open).map(|address| {
            let text = format!("`{address}`: whoever is on the way reads tokens and says which are good; write https");
            Fault::at("introspectionURL", text)
        });
        open.into_iter().collect()
    }

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let address =
            WebAddress::parse(&config.introspection_url).map_err(|why| error.add(Fault::at("introspectionURL", why)));
        let authorization = config.authorization_value.trim();
        if authorization.is_empty() {
            error.add(Fault::at("authorizationValue", "must not be empty"));
        } else if !is_field_value(authorization.as_bytes()) {
            error.add(Fault::at("authorizationValue", "not a header value"));
        }
        let time_max = introspection::time_max(config.authentication_timeout, &mut error);
        let scopes = Scopes::new(&config.scopes, config.scope_validation_criteria, &mut error);
        let Ok(address) = address else { return Err(error) };
        let server = AuthorizationServer {
            place: Place::Endpoint(site.destination(address)),
            authorization: authorization.to_owned(),
        };
        let settings = Settings {
            policy: NAME,
            time_max,
            lifetime: Lifetime::UpTo(Duration::from_secs(config.validated_token_ttl.into())),
            cache_max: config.max_cache_entries as usize,
            scopes,
            client: "client_id",
            consumer: match config.consumer_by {
                Consumer::ClientId => "client_id",
                Consumer::Username => "username",
            },
            exposes: config.expose_headers,
            skips_clients: config.skip_client_id_validation,
            resource: config.ringway.resource_metadata,
        };
        Introspection::new(server, settings, site, error).map(Self)
    }

    fn state(&self, core: &Core) -> State {
        self.0.state(core)
    }

    fn publish(&self, state: &State, published: &Published) {
        self.0.publish(state, published);
    }

    fn on_request(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.0.on_request(turn.state, turn.kept, exchange)
    }

    fn on_reply(&self, turn: Turn<'_, Self>, exchange: &mut Exchange<'_>, _: Reply) -> Flow {
        self.0.on_reply(turn.state, turn.kept, exchange)
    }
}

#[cfg(test)]
impl Oauth2TokenIntrospection {
    pub(super) fn introspection(&self) -> &Introspection {
        &self.0
    }
}
