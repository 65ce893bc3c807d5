//! Credential injection, API key: tells an upstream the gateway's own key, or its client id and secret.
//!
//! Id and secret are one credential: a client's id never goes upstream beside our secret.

use serde::Deserialize;

use super::{
    Category, ConfigError, Core, Exchange, Fault, Field, Flow, Policy, Site, Turn,
    credentials::{self, Credential, Overwrite},
    headers::is_like,
};

/// As the operator writes it. The names of the headers have defaults: `Authorization`, `client_id` and `client_secret`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    auth_type: AuthType,
    overwrite: Overwrite,
    api_key: Option<String>,
    custom_header: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    custom_client_id_header: Option<String>,
    custom_client_secret_header: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "camelCase")]
enum AuthType {
    #[default]
    ApiKey,
    ClientCredentials,
}

#[derive(Debug)]
pub struct CredentialInjectionApiKey {
    credential: Credential,
}

impl Policy for CredentialInjectionApiKey {
    type Config = Config;
    type State = ();
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = &[
        Field::new("authType", "Kind of credential", "Which of the two.").default("apiKey"),
        Field::new("overwrite", "Overwrite", "Whether ours takes the place of what the client sent.").default("true"),
        Field::new(
            "apiKey",
            "API key",
            "The header's value as it stands, without a scheme in front. Required with `apiKey`.",
        )
        .sensitive()
        .when("authType", "apiKey"),
        Field::new("customHeader", "Header", "The header of the key.")
            .default("Authorization")
            .when("authType", "apiKey"),
        Field::new("clientId", "Client id", "Required with `clientCredentials`.").when("authType", "clientCredentials"),
        Field::new("clientSecret", "Client secret", "Required with `clientCredentials`.")
            .sensitive()
            .when("authType", "clientCredentials"),
        Field::new("customClientIdHeader", "Header of the client id", "The header of the client id.")
            .default("client_id")
            .when("authType", "clientCredentials"),
        Field::new(
            "customClientSecretHeader",
            "Header of the client secret",
            "The header of the secret, another than that.",
        )
        .default("client_secret")
        .when("authType", "clientCredentials"),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let of_key = [("apiKey", &config.api_key), ("customHeader", &config.custom_header)];
        let of_client = [
            ("clientId", &config.client_id),
            ("clientSecret", &config.client_secret),
            ("customClientIdHeader", &config.custom_client_id_header),
            ("customClientSecretHeader", &config.custom_client_secret_header),
        ];
        let (others, auth_type) = match config.auth_type {
            AuthType::ApiKey => (&of_client[..], "apiKey"),
            AuthType::ClientCredentials => (&of_key[..], "clientCredentials"),
        };
        let written = others.iter().filter(|(_, value)| value.is_some());
        written.map(|(field, _)| Fault::at(*field, format!("has no effect with `authType: {auth_type}`"))).collect()
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let parts = match config.auth_type {
            AuthType::ApiKey => {
                let value = credentials::value("apiKey", config.api_key.as_deref(), &mut error);
                let written = config.custom_header.as_deref();
                let name = credentials::name("customHeader", written, "Authorization", &mut error);
                vec![name.map(|name| (name, value))]
            }
            AuthType::ClientCredentials => {
                let id = credentials::value("clientId", config.client_id.as_deref(), &mut error);
                let secret = credentials::value("clientSecret", config.client_secret.as_deref(), &mut error);
                let mut name = |field, written: &Option<String>, default| {
                    credentials::name(field, written.as_deref(), default, &mut error)
                };
                let of_id = name("customClientIdHeader", &config.custom_client_id_header, "client_id");
                let of_secret = name("customClientSecretHeader", &config.custom_client_secret_header, "client_secret");
                if let (Some(one), Some(other)) = (&of_id, &of_secret)
                    && is_like(one.as_bytes(), other.as_bytes())
                {
                    error.add(Fault::at("customClientSecretHeader", "the header of the client id"));
                }
                vec![of_id.map(|name| (name, id)), of_secret.map(|name| (name, secret))]
            }
        };
        error.or(Self { credential: Credential::new(parts.into_iter().flatten(), config.overwrite) })
    }

    fn state(&self, _: &Core) {}

    fn on_request(&self, _: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        self.credential.inject(exchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    type Lines = [(&'static str, &'static str)];

    /// What goes upstream of what the client sent.
    fn check(config: &str, sent: &Lines, expected: &Lines) {
        let policy = testing::compile::<CredentialInjectionApiKey>(config).expect("valid");
        let mut trial = testing::Trial::new("GET", "/", sent);
        assert!(matches!(trial.ask(&policy), Flow::Continue));
        assert_eq!(testing::lines(&trial.request.fields), testing::owned(expected), "{config} {sent:?}");
    }

    #[test]
    fn a_key_stands_in_authorization_or_a_header_of_its_own() {
        check("{authType: apiKey, apiKey: k}", &[("authorization", "x")], &[("Authorization", "k")]);
        check("{apiKey: \"k\\n\"}", &[], &[("Authorization", "k")]);
        let custom = "{authType: APIKEY, apiKey: k, customHeader: X-Api-Key}";
        let other = ("authorization", "x");
        check(custom, &[other, ("x-api-key", "1"), ("X_API_KEY", "2")], &[other, ("X-Api-Key", "k")]);
        let keeps = "{apiKey: k, customHeader: X-Api-Key, overwrite: false}";
        check(keeps, &[("x-api-key", "1"), ("X_API_KEY", "2")], &[("x-api-key", "1")]);
        check(keeps, &[], &[("X-Api-Key", "k")]);
    }

    #[test]
    fn id_and_secret_are_one_credential() {
        let config = "{authType: clientCredentials, clientId: i, clientSecret: s}";
        let ours = [("client_id", "i"), ("client_secret", "s")];
        check(config, &[], &ours);
        check(config, &[("CLIENT-ID", "x"), ("client_secret", "y"), ("client_secret", "z")], &ours);
        let keeps = "{authType: clientCredentials, clientId: i, clientSecret: s, overwrite: false}";
        check(keeps, &[], &ours);
        check(keeps, &[("client_id", "x")], &[("client_id", "x")]);
        check(keeps, &[("client_secret", "y"), ("client-secret", "z")], &[("client_secret", "y")]);
        let custom = "{authType: clientCredentials, clientId: i, clientSecret: s, customClientIdHeader: X-Id, \
                      customClientSecretHeader: X-Secret}";
        check(custom, &[("client_id", "x")], &[("client_id", "x"), ("X-Id", "i"), ("X-Secret", "s")]);
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = testing::faults::<CredentialInjectionApiKey>;
        assert_eq!(faults("{}"), ["config.apiKey: must not be empty"]);
        assert_eq!(
            faults("{apiKey: \"a\\r\\nb: c\", customHeader: transfer-encoding}"),
            ["config.apiKey: not a header value", "config.customHeader: the gateway's own"]
        );
        assert_eq!(
            faults("{authType: clientCredentials, customClientIdHeader: X-C, customClientSecretHeader: x_c}"),
            [
                "config.clientId: must not be empty",
                "config.clientSecret: must not be empty",
                "config.customClientSecretHeader: the header of the client id",
            ]
        );
        assert_eq!(faults("{authType: basic, apiKey: k}").len(), 1);
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let remarks = testing::remarks::<CredentialInjectionApiKey>;
        assert_eq!(remarks("{apiKey: k, clientId: i}"), ["config.clientId: has no effect with `authType: apiKey`"]);
        assert_eq!(
            remarks("{authType: clientCredentials, clientId: i, clientSecret: s, customHeader: x}"),
            ["config.customHeader: has no effect with `authType: clientCredentials`"]
        );
    }

    #[test]
    fn the_key_is_not_shown() {
        let policy = testing::compile::<CredentialInjectionApiKey>("{apiKey: hunter2}").expect("valid");
        let shown = format!("{policy:?}");
        assert!(shown.contains("Authorization") && !shown.contains("hunter2"), "{shown}");
    }
}
