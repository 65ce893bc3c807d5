//! Credential injection, Basic: tells an upstream the gateway's own user name and password (RFC 7617).
//!
//! The header is made when the configuration loads; a request costs one look for what the client sent, and one line.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;

use super::{
    Category, ConfigError, Core, Exchange, Fault, Field, Flow, Policy, Site, Turn,
    credentials::{self, Credential, Overwrite},
};

/// As the operator writes it. User name and password are plain text; the manual lets either be left out.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    username: String,
    password: String,
    overwrite: Overwrite,
    custom_header: Option<String>,
}

#[derive(Debug)]
pub struct CredentialInjectionBasicAuth {
    credential: Credential,
}

impl Policy for CredentialInjectionBasicAuth {
    type Config = Config;
    type State = ();
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::Security);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "username",
            "User name",
            "Plain text, without a colon, which ends the user name on the wire. Not secret: dumps show it. \
             One of the two must be there.",
        ),
        Field::new("password", "Password", "Plain text. `$NAME` takes the value of an environment variable.")
            .sensitive(),
        Field::new("overwrite", "Overwrite", "Whether ours takes the place of what the client sent.").default("true"),
        Field::new(
            "customHeader",
            "Header",
            "The header in its place; `Authorization` is left alone then. None that stays the gateway's.",
        )
        .default("Authorization"),
    ];

    fn remarks(config: &Config) -> Vec<Fault> {
        let missing = [("username", &config.username, "user name"), ("password", &config.password, "password")];
        let remark = |(field, text, what): (_, &String, _)| {
            text.is_empty().then(|| Fault::at(field, format!("there is none: the upstream gets an empty {what}")))
        };
        missing.into_iter().filter_map(remark).collect()
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let Config { username, password, overwrite, custom_header } = config;
        if username.is_empty() && password.is_empty() {
            error.add(Fault::at("", "`username` and `password` are both empty"));
        }
        if username.contains(':') {
            error.add(Fault::at("username", "holds a colon, which ends the user name on the wire"));
        }
        for (field, text) in [("username", &username), ("password", &password)] {
            if text.contains(char::is_control) {
                error.add(Fault::at(field, "holds a control character, such as a line break at its end"));
            }
        }
        let name = credentials::name("customHeader", custom_header.as_deref(), "Authorization", &mut error);
        let value = format!("Basic {}", BASE64.encode(format!("{username}:{password}")));
        error.or(Self { credential: Credential::new(name.map(|name| (name, value)), overwrite) })
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
        let policy = testing::compile::<CredentialInjectionBasicAuth>(config).expect("valid");
        let mut trial = testing::Trial::new("GET", "/", sent);
        assert!(matches!(trial.ask(&policy), Flow::Continue));
        assert_eq!(testing::lines(&trial.request.fields), testing::owned(expected), "{config} {sent:?}");
    }

    const OURS: &str = "Basic dXNlcjpwYXNzOndvcmQ=";
    const CONFIG: &str = "{username: user, password: 'pass:word'}";
    const KEEPS: &str = "{username: user, password: 'pass:word', overwrite: false}";
    const CUSTOM: &str = "{username: user, password: 'pass:word', customHeader: X-Upstream-Auth}";

    #[test]
    fn the_upstream_gets_ours_and_no_other() {
        check(CONFIG, &[], &[("Authorization", OURS)]);
        check(
            CONFIG,
            &[("a", "1"), ("AUTHORIZATION", "Bearer x"), ("authorization", "Bearer y")],
            &[("a", "1"), ("Authorization", OURS)],
        );
    }

    #[test]
    fn what_the_client_sent_stays_alone() {
        check(KEEPS, &[], &[("Authorization", OURS)]);
        check(KEEPS, &[("authorization", "Bearer x")], &[("authorization", "Bearer x")]);
        check(KEEPS, &[("authorization", "")], &[("authorization", "")]);
        check(
            KEEPS,
            &[("authorization", "a"), ("b", "1"), ("Authorization", "c")],
            &[("authorization", "a"), ("b", "1")],
        );
    }

    #[test]
    fn a_header_of_its_own_leaves_authorization_alone() {
        let sent = ("authorization", "Bearer x");
        check(CUSTOM, &[sent, ("x_upstream_auth", "forged")], &[sent, ("X-Upstream-Auth", OURS)]);
    }

    #[test]
    fn either_may_be_left_out() {
        check("{username: user}", &[], &[("Authorization", "Basic dXNlcjo=")]);
        check("{password: p}", &[], &[("Authorization", "Basic OnA=")]);
        let remarks = testing::remarks::<CredentialInjectionBasicAuth>;
        assert_eq!(remarks("{username: u}"), ["config.password: there is none: the upstream gets an empty password"]);
        assert_eq!(remarks("{password: p}"), ["config.username: there is none: the upstream gets an empty user name"]);
    }

    #[test]
    fn what_no_upstream_could_take_is_refused() {
        let faults = testing::faults::<CredentialInjectionBasicAuth>;
        assert!(faults("{}").contains(&"config: `username` and `password` are both empty".to_owned()));
        assert_eq!(
            faults("{username: 'a:b', password: \"secret\\n\", customHeader: 'x y'}"),
            [
                "config.username: holds a colon, which ends the user name on the wire",
                "config.password: holds a control character, such as a line break at its end",
                "config.customHeader: not a header name",
            ]
        );
        for name in ["host", "Content-Length", "content_length", "connection"] {
            let faults = faults(&format!("{{username: u, password: p, customHeader: {name}}}"));
            assert_eq!(faults, ["config.customHeader: the gateway's own"], "{name}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let policy = testing::compile::<CredentialInjectionBasicAuth>(CONFIG).expect("valid");
        let expected = r#"CredentialInjectionBasicAuth { credential: Credential { names: ["Authorization"], overwrites: true, .. } }"#;
        assert_eq!(format!("{policy:?}"), expected);
    }
}
