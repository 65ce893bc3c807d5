//! OpenID Connect access token enforcement: a request passes whose token the replica's own authorization server knows as a good
//! one. Which server that is says the Configuration, not the policy.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Answers, Category, ConfigError, Core, Exchange, Fault, Field, Flow, Policy, Reply, Site, Turn,
    introspection::{
        self, AuthorizationServer, Criterion, Introspection, Kept, Lifetime, Ringway, Scopes, Settings, State,
    },
    wants::Published,
};

const NAME: &str = "openidconnect-access-token-enforcement-flex";
/// Where tokens of Microsoft Entra come from.
const ENTRA: &str = "login.microsoftonline.com";

/// As the operator writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    authentication_timeout: u32,
    scopes: String,
    scope_validation_criteria: Criterion,
    secure_trust_store: bool,
    expose_headers: bool,
    skip_client_id_validation: bool,
    max_federation_expiration_time: i64,
    max_cache_size: u32,
    ringway: Ringway,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            authentication_timeout: 10_000,
            scopes: String::new(),
            scope_validation_criteria: Criterion::default(),
            secure_trust_store: false,
            expose_headers: false,
            skip_client_id_validation: true,
            max_federation_expiration_time: -1,
            max_cache_size: 1000,
            ringway: Ringway::default(),
        }
    }
}

#[derive(Debug)]
pub struct OpenidconnectAccessTokenEnforcement(Introspection);

impl Policy for OpenidconnectAccessTokenEnforcement {
    type Config = Config;
    type State = State;
    type PerExchange = Kept;

    const CATEGORY: Option<Category> = Some(Category::Security);
    const ANSWERS: &'static [Answers] = introspection::ANSWERS;
    const FIELDS: &'static [Field] = &[
        Field::new("authenticationTimeout", "Time limit", "Of one question.")
            .default("10000")
            .unit("milliseconds")
            .at_least(1),
        Field::new("scopes", "Scopes", "What a token must be good for, with spaces between them."),
        Field::new("scopeValidationCriteria", "Scope criterion", "Whether all scopes are needed or one of them.")
            .default("AND"),
        Field::new(
            "secureTrustStore",
            "Secure trust store",
            "Without effect: the server is always verified, as `spec.defaultTLS` says.",
        )
        .default("false"),
        Field::new(
            "exposeHeaders",
            "Expose headers",
            "Each field of the answer goes upstream as `X-AGW-<field>`, but for `scope`, `exp`, lists and objects.",
        )
        .default("false"),
        Field::new(
            "skipClientIdValidation",
            "Skip the check of the client",
            "With `false` the token's client must have a Contract with this API.",
        )
        .default("true"),
        Field::new(
            "maxFederationExpirationTime",
            "Caching time",
            "How long a good token is known at most; -1: up to its `exp`. One without `exp` is asked about each time.",
        )
        .default("-1")
        .unit("seconds")
        .at_least(-1),
        Field::new("maxCacheSize", "Cache entries", "Good tokens that are known at most; 0: none.").default("1000"),
        introspection::RESOURCE,
        introspection::AUTHORIZATION_SERVERS,
        introspection::SCOPES_SUPPORTED,
        introspection::RESOURCE_NAME,
        introspection::RESOURCE_DOCUMENTATION,
    ];

    fn compile(config: Config, site: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let time_max = introspection::time_max(config.authentication_timeout, &mut error);
        let at_most = match u64::try_from(config.max_federation_expiration_time) {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) if config.max_federation_expiration_time == -1 => None,
            Err(_) => {
                error.add(Fault::at("maxFederationExpirationTime", "must be at least -1"));
                None
            }
        };
        let scopes = Scopes::new(&config.scopes, config.scope_validation_criteria, &mut error);
        let Some(server) = site.authorization_server().cloned() else {
            let text = "nobody is there to ask: no Configuration has `spec.ringway.identityManagement`";
            error.add(Fault::at("", text));
            return Err(error);
        };
        let client = client(&server);
        let settings = Settings {
            policy: NAME,
            time_max,
            lifetime: Lifetime::AsItSays { at_most },
            cache_max: config.max_cache_size as usize,
            scopes,
            client,
            consumer: client,
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

/// The field that names the client: Microsoft Entra has others than RFC 7662, by the version of its tokens.
fn client(server: &AuthorizationServer) -> &'static str {
    let address = &server.destination().address;
    match address.endpoint.host == ENTRA {
        false => "client_id",
        true if address.target.contains("/v2.0") => "azp",
        true => "appid",
    }
}
